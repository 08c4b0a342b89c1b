//! The system calls that may fail: the four functions are defined here, so the allocator and its crates get these
//! instead of the C library's.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of the system calls.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// How often it was made.
    made: AtomicUsize,
    /// It fails from this call on.
    from: AtomicUsize,
    /// Until, but without, this one.
    until: AtomicUsize,
}

impl Call {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            made: AtomicUsize::new(0),
            from: AtomicUsize::new(usize::MAX),
            until: AtomicUsize::new(usize::MAX),
        }
    }

    /// Has `count` calls fail, after `skipped` more that do not.
    pub(crate) fn fail(&self, skipped: usize, count: usize) {
        let from = self.made.load(Ordering::Relaxed) + skipped;
        self.from.store(from, Ordering::Relaxed);
        let until = from.saturating_add(count);
        self.until.store(until, Ordering::Relaxed);
    }

    /// Has none fail any more. How many did.
    pub(crate) fn heal(&self) -> usize {
        let from = self.from.swap(usize::MAX, Ordering::Relaxed);
        let until = self.until.load(Ordering::Relaxed);
        let made = self.made.load(Ordering::Relaxed);
        made.min(until).saturating_sub(from)
    }

    /// Has all calls fail after as many as the environment says, if it does.
    fn fail_from_start(&self) {
        // SAFETY: a terminated name.
        let count = unsafe { libc::getenv(GRANTED.as_ptr()) };
        if !count.is_null() {
            // SAFETY: a string of the environment.
            let count = unsafe { libc::atoi(count) };
            self.fail(usize::try_from(count).unwrap_or(0), usize::MAX);
        }
    }

    /// Counts a call. Whether it fails; `errno` says so then.
    fn fails(&self) -> bool {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let fails = number >= self.from.load(Ordering::Relaxed)
            && number < self.until.load(Ordering::Relaxed);
        if fails {
            set_errno(libc::ENOMEM);
        }
        fails
    }
}

/// How many calls of `mmap` do not fail before `main`.
const GRANTED: &CStr = c"EBB_TEST_GRANTED";

pub(crate) static MMAP: Call = Call::new("mmap");
pub(crate) static MUNMAP: Call = Call::new("munmap");
pub(crate) static MADVISE: Call = Call::new("madvise");
static MREMAP: Call = Call::new("mremap");
/// All of them, and how far to go on, after the first few, from one that fails to the next.
pub(crate) static CALLS: [(&Call, usize); 4] =
    [(&MMAP, 4), (&MUNMAP, 9), (&MADVISE, 9), (&MREMAP, 4)];

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: the C library always gives a valid pointer to a word of this thread.
    let slot = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { slot.write(value) };
}

pub(crate) fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    if MMAP.made.load(Ordering::Relaxed) == 0 {
        MMAP.fail_from_start();
    }
    // The allocator's have this flag, the standard library's do not.
    if flags & libc::MAP_NORESERVE != 0 && MMAP.fails() {
        return libc::MAP_FAILED;
    }
    // SAFETY: as `mmap` itself.
    let at = unsafe { libc::syscall(libc::SYS_mmap, at, len, protection, flags, file, offset) };
    ptr::with_exposed_provenance_mut(at as usize)
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    mmap(at, len, protection, flags, file, offset)
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    if MUNMAP.fails() {
        return -1;
    }
    // SAFETY: as `munmap` itself.
    unsafe { libc::syscall(libc::SYS_munmap, at, len) as c_int }
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int {
    if MADVISE.fails() {
        return -1;
    }
    // SAFETY: as `madvise` itself.
    unsafe { libc::syscall(libc::SYS_madvise, at, len, advice) as c_int }
}

/// What the C library has under this name. The last argument is there only if the flags say so.
#[unsafe(no_mangle)]
extern "C" fn mremap(
    at: *mut c_void,
    old: usize,
    new: usize,
    flags: c_int,
    to: *mut c_void,
) -> *mut c_void {
    if MREMAP.fails() {
        return libc::MAP_FAILED;
    }
    // SAFETY: as `mremap` itself.
    let at = unsafe { libc::syscall(libc::SYS_mremap, at, old, new, flags, to) };
    ptr::with_exposed_provenance_mut(at as usize)
}
