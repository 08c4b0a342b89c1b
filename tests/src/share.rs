//! How much of a long test to run.

use std::env;

/// One in how many repetitions to make; all when not set.
const SHARE: &str = "EBB_TEST_SHARE";

/// How many of `n` repetitions a test makes: all, or one in `EBB_TEST_SHARE`, but at least one. Tests whose repetitions only
/// give chance more to find ask this, so that they can also run where each repetition costs many times as much.
///
/// # Panics
/// When the variable is not a number from 1 on.
#[must_use]
pub fn share(n: usize) -> usize {
    let Some(value) = env::var_os(SHARE) else {
        return n;
    };
    let one_in = value.to_str().and_then(|value| value.parse().ok());
    let one_in: usize = one_in.unwrap_or_default();
    assert!(one_in > 0, "{SHARE}={}", value.display());
    (n / one_in).max(1)
}
