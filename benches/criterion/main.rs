//! `cargo bench --bench criterion`: a few operations by themselves, for ebbmalloc, the C library's allocator and mimalloc
//! side by side.
//!
//! All three are called directly with sizes that the compiler does not know. What a whole program gains is measured by
//! the `peers` runner instead.

mod blocks;
mod reclaim;
mod threads;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ebb_benches::Subject;

/// The `mimalloc` crate, version 3 of mimalloc.
#[derive(Debug)]
struct Mimalloc;

impl Subject for Mimalloc {
    const NAME: &'static str = "mimalloc";
    type Heap = mimalloc::MiMalloc;
    const HEAP: Self::Heap = mimalloc::MiMalloc;
}

/// Short runs: about a second for each line, less than two minutes in all.
fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}

criterion_group! {
    name = groups;
    config = settings();
    targets = blocks::pair, blocks::batch, blocks::mixed, blocks::growth, threads::handed_over, reclaim::walk
}
criterion_main!(groups);
