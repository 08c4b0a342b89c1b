//! Tests that need a process of their own: another mode, a budget, a figure that others would disturb.

use std::env;
use std::process::Command;

/// Names the test that a child process is to run.
const CHILD: &str = "EBB_TEST_CHILD";

/// A child that takes longer, in seconds, hangs, and is ended. In a guest, on a busy machine, some take more than a minute.
const PATIENCE: u32 = 200;

/// Runs the body of the test `name` in a child process of its own.
///
/// # Panics
/// When the child fails; its output is in the message.
pub fn alone(name: &str, body: impl FnOnce()) {
    run(name, body, &[&[]]);
}

/// As [`alone`]; what the child wrote to standard error, in the parent.
///
/// # Panics
/// When the child fails.
pub fn alone_saying(name: &str, body: impl FnOnce()) -> Option<String> {
    run(name, body, &[&[]])
}

/// As [`alone_saying`], with this environment besides.
///
/// # Panics
/// When the child fails.
pub fn alone_in(name: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    run(name, body, &[environment])
}

/// Runs the body of the test `name` in two child processes: by restartable sequences, and by the fallback.
///
/// # Panics
/// When a child fails; its output is in the message.
pub fn in_both_modes(name: &str, body: impl FnOnce()) {
    run(name, body, &[&[], &[("EBB_NO_RSEQ", "1")]]);
}

/// Runs the body of the test `name` in two child processes as [`in_both_modes`] does, with more environment.
///
/// # Panics
/// When a child fails; its output is in the message.
pub fn in_both_modes_with(name: &str, setting: (&str, &str), body: impl FnOnce()) {
    run(name, body, &[&[setting], &[setting, ("EBB_NO_RSEQ", "1")]]);
}

/// Runs the body of the test `name` in a child process for each of these additions to the environment.
///
/// # Panics
/// When a child fails; its output is in the message.
pub fn in_environments(name: &str, environments: &[&[(&str, &str)]], body: impl FnOnce()) {
    run(name, body, environments);
}

/// What the last child said; nothing in the child itself.
fn run(name: &str, body: impl FnOnce(), environments: &[&[(&str, &str)]]) -> Option<String> {
    if env::var_os(CHILD).is_some_and(|child| child == name) {
        // SAFETY: no pointers.
        unsafe { libc::alarm(PATIENCE) };
        body();
        return None;
    }
    let mut said = None;
    let program = env::current_exe().expect("this test's own path");
    for environment in environments {
        let output = Command::new(&program)
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, name)
            .envs(environment.iter().copied())
            .output()
            .expect("the test's own program can be started");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && out.contains("1 passed"),
            "{name} with {environment:?}: {}\n{out}\n{err}",
            output.status
        );
        said = Some(err.into_owned());
    }
    said
}

/// This process's resident memory, in bytes, without the pages of files: of its program's it takes more with each function
/// that it has not called before.
///
/// # Panics
/// When `/proc` is not there.
#[must_use]
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: Vec<usize> = statm
        .split(' ')
        .map_while(|pages| pages.parse().ok())
        .collect();
    let [_, all, files, ..] = pages[..] else {
        panic!("statm has more numbers");
    };
    (all - files) * 4096
}
