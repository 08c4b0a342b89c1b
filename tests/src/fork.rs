//! Bodies of tests in a forked child: as alone as in a process of their own, for a fraction of the time.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A child that runs so many seconds hangs, and is killed.
const LIMIT_S: u32 = 100;

/// The answer of a child that panicked.
const PANICKED: u8 = 100;

/// Runs `body` in a forked child: what it answered, 0 to 99; nothing when it panicked or was killed.
///
/// # Panics
/// When the system has no room for a process.
#[must_use]
pub fn forked(body: impl FnOnce() -> u8) -> Option<u8> {
    // SAFETY: the child goes on with this thread alone, and uses what the C library and the allocator repair.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no pointers; the signal's default is to end the process.
        unsafe { libc::alarm(LIMIT_S) };
        let answer = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
        // SAFETY: ends the child without destructors that belong to the parent.
        unsafe { libc::_exit(i32::from(answer)) };
    }
    assert!(pid > 0, "no child");
    let mut status = 0;
    // SAFETY: our child, and a place for its status.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    let answer = u8::try_from(libc::WEXITSTATUS(status)).ok()?;
    (libc::WIFEXITED(status) && answer < PANICKED).then_some(answer)
}

/// Runs `body` in a forked child, which must abort: what it said on standard error.
///
/// # Panics
/// When it did not abort.
#[must_use]
pub fn last_words(body: impl FnOnce()) -> String {
    let mut ends = [0; 2];
    // SAFETY: a place for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child goes on with this thread alone, and ends here.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: descriptors of ours.
        unsafe { libc::dup2(ends[1], libc::STDERR_FILENO) };
        body();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    assert!(pid > 0);
    // SAFETY: ours, and closed nowhere else.
    drop(unsafe { File::from_raw_fd(ends[1]) });
    // SAFETY: as above.
    let mut pipe = unsafe { File::from_raw_fd(ends[0]) };
    let mut words = String::new();
    pipe.read_to_string(&mut words).unwrap();
    let mut status = 0;
    // SAFETY: our child, and a place for its status.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status), "it lived, and said: {words:?}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGABRT);
    words
}
