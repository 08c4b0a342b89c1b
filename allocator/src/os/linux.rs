//! System calls about the process, its processors, files and time.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt::{Arguments, Write};
use core::ptr;

use super::Uncancelled;
use crate::config::PAGE;

/// Puts `errno` back as it was when dropped: `free` must not change it, and `malloc` only on failure.
pub(crate) struct KeepErrno(c_int);

impl KeepErrno {
    pub(crate) fn new() -> Self {
        Self(errno())
    }

    /// Has `errno` say that there is no memory.
    pub(crate) fn out_of_memory(mut self) {
        self.0 = libc::ENOMEM;
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        let slot = errno_slot();
        // SAFETY: the thread's own word.
        unsafe { *slot = self.0 };
    }
}

fn errno_slot() -> *mut c_int {
    // SAFETY: the C library always gives a valid pointer to a word of this thread.
    unsafe { libc::__errno_location() }
}

pub(super) fn errno() -> c_int {
    let slot = errno_slot();
    // SAFETY: the thread's own word.
    unsafe { *slot }
}

const MEMBARRIER_FENCE_RSEQ: c_int = 1 << 7;
const MEMBARRIER_REGISTER_RSEQ: c_int = 1 << 8;
const MEMBARRIER_FLAG_CPU: c_int = 1;

fn membarrier(command: c_int, flags: c_int, cpu: usize) -> bool {
    // SAFETY: the call reads no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) == 0 }
}

/// Makes [`fence_cpu`] possible. Whether it is.
pub(crate) fn prepare_fences() -> bool {
    membarrier(MEMBARRIER_REGISTER_RSEQ, 0, 0)
}

/// Restarts the sequence that runs on `cpu`, if one does, and makes our stores visible there.
#[must_use]
pub(crate) fn fence_cpu(cpu: usize) -> bool {
    membarrier(MEMBARRIER_FENCE_RSEQ, MEMBARRIER_FLAG_CPU, cpu)
}

/// As [`fence_cpu`] for all CPUs: older kernels have only this.
#[must_use]
pub(crate) fn fence_all_cpus() -> bool {
    membarrier(MEMBARRIER_FENCE_RSEQ, 0, 0)
}

/// The CPU this thread is on, now.
pub(crate) fn cpu() -> usize {
    // SAFETY: reads a word of the kernel's.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Lets others run.
pub(crate) fn yield_now() {
    // SAFETY: always allowed.
    unsafe { libc::sched_yield() };
}

/// Sleeps for so many microseconds, below a second; less when a signal comes.
pub(crate) fn sleep_us(us: u32) {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: i64::from(us.min(999_999)) * 1000,
    };
    // SAFETY: reads the time above; the remainder is not wanted.
    unsafe { libc::nanosleep(&time, ptr::null_mut()) };
}

/// Nanoseconds of a clock that only goes forward.
pub(crate) fn now_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the time above.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The number of this process.
pub(crate) fn process_id() -> c_int {
    // SAFETY: always allowed.
    unsafe { libc::getpid() }
}

/// The number of this thread, as debuggers and `/proc` show it.
pub(crate) fn thread_id() -> u64 {
    // SAFETY: no pointers; never fails.
    u64::from(unsafe { libc::gettid() }.unsigned_abs())
}

/// The machine's memory, in bytes.
pub(crate) fn physical_memory() -> usize {
    // SAFETY: reads a number of the system's.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    usize::try_from(pages).unwrap_or(0).saturating_mul(PAGE)
}

unsafe extern "C" {
    /// glibc and musl have it; the `libc` crate does not name it.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// The value of an environment variable; nothing in a set-user-id program, whose environment is not to be trusted.
pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: a terminated name.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    // SAFETY: the C library gives null or a terminated string that stays until the variable is changed; it is read
    // at start-up only.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}

/// Reads the beginning of a file into `buffer`.
fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let _uncancelled = Uncancelled::new();
    // SAFETY: a terminated path.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    // SAFETY: the buffer is as long as it says.
    let read = unsafe { libc::read(file, buffer.as_mut_ptr().cast::<c_void>(), buffer.len()) };
    // SAFETY: ours, from above.
    unsafe { libc::close(file) };
    buffer.get(..usize::try_from(read).ok()?)
}

/// The beginning of a text file, as long as `buffer` at most; nothing where it is no text.
pub(crate) fn read_text<'a>(path: Arguments<'_>, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut terminated = Path::new();
    terminated.write_fmt(path).ok()?;
    str::from_utf8(read_file(terminated.as_c_str(), buffer)?).ok()
}

/// A path under construction; the last byte stays 0.
pub(crate) struct Path {
    bytes: [u8; 512],
    len: usize,
}

impl Path {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; 512],
            len: 0,
        }
    }

    /// What there is of it.
    pub(crate) fn as_c_str(&self) -> &CStr {
        // Never the other.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

impl Write for Path {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        let end = self.len + part.len();
        if end >= self.bytes.len() {
            return Err(core::fmt::Error);
        }
        self.bytes[self.len..end].copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Calls the three around every fork of the process. Whether the C library had room for them.
pub(crate) fn at_fork(
    before: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> bool {
    // SAFETY: functions of that type; they live as long as the process.
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) == 0 }
}

/// Calls `f` when the process exits normally.
pub(crate) fn at_exit(f: extern "C" fn()) {
    // SAFETY: a function of that type, which lives as long as the process.
    unsafe { libc::atexit(f) };
}
