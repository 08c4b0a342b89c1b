//! System calls.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::{self, NonNull};

use memmap2::MmapOptions;

use super::discard::discard;
use crate::config::{PAGE, UNIT};

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

fn errno() -> c_int {
    let slot = errno_slot();
    // SAFETY: the thread's own word.
    unsafe { *slot }
}

/// `len` bytes of fresh zeroed memory, a multiple of the page: address space only, backed when touched.
pub(crate) fn map(len: usize) -> Option<NonNull<u8>> {
    let map = MmapOptions::new()
        .len(len)
        .no_reserve_swap()
        .map_anon()
        .ok()?;
    let start = NonNull::new(map.as_ptr().cast_mut());
    // Ours from now on; given back by `unmap`, or never.
    core::mem::forget(map);
    start
}

/// As [`map`], at a multiple of `align`, a power of two.
pub(crate) fn map_aligned(len: usize, align: usize) -> Option<NonNull<u8>> {
    // The kernel places mappings of whole huge pages at multiples of theirs: mostly no more is needed.
    let rounded = len.checked_next_multiple_of(align)?;
    let start = map(rounded)?;
    if start.addr().get().is_multiple_of(align) {
        trim(start, rounded, 0, len);
        return Some(start);
    }
    trim(start, rounded, 0, 0);
    let room = len.checked_add(align)?;
    let start = map(room)?;
    let before = start.align_offset(align);
    trim(start, room, before, len);
    // SAFETY: `before` is less than `align`, so inside the mapping.
    Some(unsafe { start.add(before) })
}

/// `len` bytes of address space that read as zeros, a multiple of the page, at a multiple of it. They cost nothing until
/// [`let_write`], not even where the system counts what could be written to, and are in no core dump.
pub(crate) fn reserve(len: usize) -> Option<NonNull<u8>> {
    let (access, kind) = (
        libc::PROT_READ,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    // SAFETY: a new mapping, of which nobody has the address.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_DONTDUMP] {
        // SAFETY: changes no byte. A wish.
        unsafe { libc::madvise(start, len, advice) };
    }
    NonNull::new(start.cast())
}

/// Makes whole pages of what was reserved writable. False when the system refuses.
///
/// # Safety
/// They are of a mapping from [`reserve`].
#[must_use]
pub(crate) unsafe fn let_write(start: NonNull<u8>, len: usize) -> bool {
    // SAFETY: the caller's clause: nothing is taken away from anybody.
    unsafe {
        libc::mprotect(
            start.as_ptr().cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
        ) == 0
    }
}

/// Gives back what is not wanted of a new mapping of `room` bytes: all but `len` bytes behind the first `before`.
fn trim(start: NonNull<u8>, room: usize, before: usize, len: usize) {
    // SAFETY: `before + len` is at most `room`.
    let end = unsafe { start.add(before + len) };
    // SAFETY: ours, new and unused.
    unsafe { unmap(start, before) };
    // SAFETY: as above.
    unsafe { unmap(end, room - before - len) };
}

/// Gives address space back. A length of 0 does nothing.
///
/// # Safety
/// The bytes are mapped, ours, and used by nobody.
pub(crate) unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's clause.
    if len > 0 && unsafe { libc::munmap(start.as_ptr().cast(), len) } != 0 {
        // It fails when the system has no room to split a mapping. Then the addresses stay reserved, which harms nobody,
        // but what is behind them must go.
        // SAFETY: the caller's clause.
        let _ = unsafe { discard(start, len) };
    }
}

/// Asks for huge pages behind the whole ones of them in a range. A wish.
pub(crate) fn advise_huge(start: NonNull<u8>, len: usize) {
    // SAFETY: says how memory is to be backed, and changes no byte of it.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
}

/// Asks for ordinary pages behind a range, if it ever asked for huge ones.
pub(crate) fn advise_small(start: NonNull<u8>, len: usize) {
    // SAFETY: as in `advise_huge`.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
}

/// Changes the size of a mapping, moving it if need be: to a multiple of a unit, so that huge pages move whole.
///
/// # Safety
/// It is a whole mapping from [`map`], and its address is not used after a success.
pub(crate) unsafe fn remap(start: NonNull<u8>, old: usize, new: usize) -> Option<NonNull<u8>> {
    // SAFETY: the caller's clause.
    let stayed = unsafe { libc::mremap(start.as_ptr().cast(), old, new, 0) };
    if stayed != libc::MAP_FAILED {
        return Some(start);
    }
    let room = map_aligned(new, UNIT)?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let target = room.as_ptr().cast::<c_void>();
    // SAFETY: the caller's clause; the room is ours, unused and of that length.
    let moved = unsafe { libc::mremap(start.as_ptr().cast(), old, new, flags, target) };
    if moved == libc::MAP_FAILED {
        // SAFETY: ours, and nobody has seen it.
        unsafe { unmap(room, new) };
        return None;
    }
    Some(room)
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
pub(crate) fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
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
