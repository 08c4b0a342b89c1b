//! A thread of our own: what it sleeps on, and which CPUs it runs on.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::AtomicU32;

use super::read_text;
use crate::config::MAX_CPUS;

/// Bytes of stack; the callbacks of caches run on it.
const STACK: usize = 2 << 20;

/// Sleeps while `word` is `expected`; may return for no reason. Changes errno.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    futex(word, libc::FUTEX_WAIT, expected);
}

/// Wakes every sleeper on `word`. Changes errno.
pub(crate) fn wake(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE, i32::MAX as u32);
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let flags = operation | libc::FUTEX_PRIVATE_FLAG;
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the word lives as long as the borrow; the call compares it or names it, and no timeout is none.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, value, forever) };
}

/// Starts a thread that runs `entry(argument)`, that nobody joins, and that takes no signals. Whether there was room for
/// it. The C library allocates for it.
pub(crate) fn spawn(entry: extern "C" fn(*mut c_void) -> *mut c_void, argument: usize) -> bool {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: writes them.
    if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: initialised above; a size that any system takes. Otherwise it stays what it was.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK) };
    // SAFETY: as above.
    unsafe {
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED)
    };
    let mut all = MaybeUninit::uninit();
    // SAFETY: writes the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::uninit();
    // SAFETY: reads one set and writes the other. The new thread inherits the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let mut thread = MaybeUninit::uninit();
    let argument = ptr::without_provenance_mut(argument);
    // SAFETY: attributes from above; the entry is of that type, and does with the argument as it likes.
    let started =
        unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), entry, argument) };
    // SAFETY: the mask as it was.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    // SAFETY: initialised above, used no more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    started == 0
}

/// Whether a thread of this process, by the system's number, is at work, waits for a CPU or for the system: it does not sleep until
/// somebody wakes it. False where the system does not say.
pub(crate) fn is_at_work(number: u32) -> bool {
    let mut buffer = [0; 1024];
    let text = read_text(format_args!("/proc/self/task/{number}/stat"), &mut buffer);
    // Behind the name, which may be anything.
    let state = text.and_then(|text| text.rsplit_once(") "));
    state.is_some_and(|(_, state)| state.starts_with(['R', 'D']))
}

/// CPUs, by the kernel's numbers, as the system calls have them: those below [`MAX_CPUS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuSet([u64; CpuSet::WORDS]);

impl CpuSet {
    const WORDS: usize = MAX_CPUS / 64;
    const NONE: Self = Self([0; Self::WORDS]);

    /// Those of its CPUs for which `f` says so; nothing when there are none.
    pub(crate) fn only(&self, f: impl Fn(usize) -> bool) -> Option<Self> {
        let mut some = Self::NONE;
        for (word, (from, to)) in self.0.iter().zip(&mut some.0).enumerate() {
            let wanted = |bit: &u32| from & (1 << bit) != 0 && f(word * 64 + *bit as usize);
            *to = (0..64).filter(wanted).map(|bit| 1 << bit).sum();
        }
        (some.0 != Self::NONE.0).then_some(some)
    }
}

/// The CPUs that the calling thread may run on; nothing where the system does not say.
pub(crate) fn affinity() -> Option<CpuSet> {
    let mut set = CpuSet::NONE;
    // SAFETY: writes the set, which is as large as it says.
    let written = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of::<CpuSet>(),
            set.0.as_mut_ptr(),
        )
    };
    (written > 0).then_some(set)
}

/// Has the calling thread run on these CPUs alone, as far as the system allows. A wish.
pub(crate) fn run_on(set: &CpuSet) {
    // SAFETY: reads the set, which is as large as it says.
    unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of::<CpuSet>(),
            set.0.as_ptr(),
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with another letter looked for.
    #[test]
    fn who_runs_is_at_work_and_who_sleeps_is_not() {
        let number = crate::os::thread_id() as u32;
        assert!(is_at_work(number) && !is_at_work(u32::MAX));
        let sleeper = std::thread::spawn(move || {
            let (number, end) = (
                number,
                std::time::Instant::now() + std::time::Duration::from_secs(60),
            );
            while is_at_work(number) && std::time::Instant::now() < end {}
            is_at_work(number)
        });
        assert!(!sleeper.join().unwrap(), "it waits for the other");
    }

    #[test]
    fn a_set_is_narrowed() {
        let all = CpuSet([u64::MAX; CpuSet::WORDS]);
        let some = all.only(|cpu| cpu % 100 == 63).unwrap();
        let count: u32 = some.0.iter().map(|word| word.count_ones()).sum();
        assert_eq!((count, some.0[0]), (10, 1 << 63));
        assert!(some.only(|cpu| cpu == 64).is_none());
        assert!(some.only(|cpu| cpu == 963).is_some());
    }
}
