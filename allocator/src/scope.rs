//! What a thread does not want its allocations to do: guards that nest.
//!
//! Two of the thread's words hold counters, so that guards may be dropped in any order. They are looked at on slow paths
//! only. A guard that finds its counter full is not counted, and counts nothing when it is dropped.
//!
//! ```text
//!   word 1   five counters of 12 bits: the modes, the strictest one last; above them FORCED, APART
//!   word 2   eight counters of 8 bits: the classes of shrinkers that are not to be called
//! ```
//!
//! `NoFail` is beside the strictest of the others, and not instead of it: they say what is tried, it says how that ends.

use core::marker::PhantomData;

use ebb_shrinker::CLASSES;

use crate::os;

const MODES: usize = 1;
const MODE_BITS: u32 = 12;
/// The attempt that this thread makes is its last: no budget refuses it.
const FORCED: usize = 1 << (MODE_BITS * (NO_RECLAIM + 1));
/// The attempt that this thread makes is one at memory apart.
const APART: usize = FORCED << 1;
const WITHOUT: usize = 2;
const WITHOUT_BITS: u32 = usize::BITS / CLASSES as u32;

/// How hard an allocation tries before it fails. Each does less than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Everything, and when that was in vain the allocation is charged beyond the budget, and beyond that of its node, however
    /// large it is: only the system can refuse it. For code that cannot go back: the one point at which a change is made, an
    /// unwinding, a library that exits on null. What is freed next makes up for the excess, and until then others fail.
    ///
    /// Beside a stricter mode, or [`no_reclaim`], no more is tried than that says, and then it is charged all the same. It holds
    /// for callbacks of shrinkers that the allocation calls, as other scopes do. The statistics count such allocations
    /// ([`forced`](crate::ReclaimStats::forced)), and the first of them in ten seconds is reported on standard error.
    NoFail,
    /// Everything but the last chance: no notifier is called and nothing is reported. For requests whose failure is no
    /// emergency, such as a large buffer that could be smaller.
    RetryMayFail,
    /// One descent over the shrinkers, and no waiting: neither for other threads that are reclaiming nor for caches that
    /// run on the reclaim thread.
    NoRetry,
    /// Nothing: the allocation fails at once. So that it does not as soon as the budget is used up, which others reclaim for, it
    /// may have five eighths of the [`reserve`](crate::reserve).
    NoWait,
}

/// As strict, but the reserve may be used: the counter of [`no_reclaim`].
const NO_RECLAIM: u32 = 4;

/// While it lives, the allocations of this thread behave otherwise. Guards nest, and the strictest one holds, beside
/// [`Mode::NoFail`]: 255 of one class of shrinkers are counted, 4,095 of another kind. One more changes nothing, and ends with
/// those that are counted.
#[must_use = "the scope ends when its guard is dropped"]
#[derive(Debug)]
pub struct Scope {
    word: usize,
    shift: u32,
    /// 0 when the counter was full: this guard is not counted.
    one: usize,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        let word = os::thread_word(self.word);
        os::set_thread_word(self.word, word - (self.one << self.shift));
    }
}

fn enter(word: usize, bits: u32, index: u32) -> Scope {
    let shift = bits * index;
    let full = count(word, bits, index) == (1 << bits) - 1;
    let one = usize::from(!full);
    os::set_thread_word(word, os::thread_word(word) + (one << shift));
    Scope {
        word,
        shift,
        one,
        _thread: PhantomData,
    }
}

fn count(word: usize, bits: u32, index: u32) -> usize {
    (os::thread_word(word) >> (bits * index)) & ((1 << bits) - 1)
}

/// In this scope the thread's allocations never reclaim: those that do not fit are served from the reserve, or fail.
///
/// For code that holds locks which a shrinker wants, or that must not be interrupted by one; and for code that has to allocate
/// to deal with an allocation that failed.
pub fn no_reclaim() -> Scope {
    enter(MODES, MODE_BITS, NO_RECLAIM)
}

/// In this scope the thread's allocations do not call shrinkers of `class`, a number below
/// [`CLASSES`](ebb_shrinker::CLASSES) ([`Shrinker::class`](ebb_shrinker::Shrinker::class)); higher ones count as the highest.
/// Other threads, a reclaim thread among them, still do.
///
/// ```
/// use ebbmalloc::{no_shrinker, Shrinker};
///
/// const INDEX_LOCK: u8 = 3;
/// let spec = Shrinker::new("index pages").class(INDEX_LOCK); // its callbacks try the index's lock
/// # let _ = spec;
/// // While the index is locked there is no point in asking it.
/// let _scope = no_shrinker(INDEX_LOCK);
/// let entry = vec![0_u8; 100];
/// # drop(entry);
/// ```
pub fn no_shrinker(class: u8) -> Scope {
    enter(WITHOUT, WITHOUT_BITS, u32::from(class.min(CLASSES - 1)))
}

/// In this scope the thread's allocations try only so hard.
///
/// ```
/// use ebbmalloc::{Mode, mode};
///
/// let mut buffer: Vec<u8> = Vec::new();
/// let large = {
///     let _scope = mode(Mode::NoRetry);
///     buffer.try_reserve_exact(64 << 20)
/// };
/// if large.is_err() {
///     buffer.reserve_exact(1 << 20);
/// }
/// ```
pub fn mode(mode: Mode) -> Scope {
    enter(MODES, MODE_BITS, mode as u32)
}

/// A scope by its two ends, for languages without destructors: it lasts until the matching `end_...` on the same thread.
/// False if it could not be counted: then it has no end, or that would be another's.
#[must_use]
pub fn begin(scope: Scope) -> bool {
    let counted = scope.one == 1;
    core::mem::forget(scope);
    counted
}

fn end(word: usize, bits: u32, index: u32) -> bool {
    let begun = count(word, bits, index) > 0;
    if begun {
        os::set_thread_word(word, os::thread_word(word) - (1 << (bits * index)));
    }
    begun
}

/// The end of [`no_reclaim`](crate::no_reclaim). False if none was begun.
pub fn end_no_reclaim() -> bool {
    end(MODES, MODE_BITS, NO_RECLAIM)
}

/// The end of [`no_shrinker`](crate::no_shrinker). False if none was begun.
pub fn end_no_shrinker(class: u8) -> bool {
    end(WITHOUT, WITHOUT_BITS, u32::from(class.min(CLASSES - 1)))
}

/// The end of [`mode`](crate::mode()). False if none was begun.
pub fn end_mode(mode: Mode) -> bool {
    end(MODES, MODE_BITS, mode as u32)
}

/// Whether this thread may not reclaim.
pub(crate) fn in_no_reclaim() -> bool {
    count(MODES, MODE_BITS, NO_RECLAIM) > 0
}

/// Whether this thread's allocations may not fail for the budget.
pub(crate) fn in_no_fail() -> bool {
    count(MODES, MODE_BITS, Mode::NoFail as u32) > 0
}

/// Makes an attempt that no budget refuses.
pub(crate) fn forced<R>(attempt: impl FnOnce() -> R) -> R {
    os::set_thread_word(MODES, os::thread_word(MODES) | FORCED);
    let result = attempt();
    os::set_thread_word(MODES, os::thread_word(MODES) & !FORCED);
    result
}

/// Makes an attempt at memory apart: see `apart`.
pub(crate) fn apart<R>(attempt: impl FnOnce() -> R) -> R {
    os::set_thread_word(MODES, os::thread_word(MODES) | APART);
    let result = attempt();
    os::set_thread_word(MODES, os::thread_word(MODES) & !APART);
    result
}

/// Whether this thread is making one.
pub(crate) fn is_apart() -> bool {
    os::thread_word(MODES) & APART != 0
}

/// Whether this thread is making an attempt that no budget refuses.
pub(crate) fn is_forced() -> bool {
    os::thread_word(MODES) & FORCED != 0
}

/// The strictest mode in force, which says what is tried.
pub(crate) fn current() -> Option<Mode> {
    [Mode::NoWait, Mode::NoRetry, Mode::RetryMayFail]
        .into_iter()
        .find(|mode| count(MODES, MODE_BITS, *mode as u32) > 0)
}

/// A bit for each class that is not to be called.
pub(crate) fn without() -> u8 {
    (0..CLASSES)
        .filter(|class| count(WITHOUT, WITHOUT_BITS, u32::from(*class)) > 0)
        .fold(0, |mask, class| mask | 1 << class)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with a bit per scope in place of a counter.
    #[test]
    fn guards_nest_in_any_order() {
        let firm = mode(Mode::NoFail);
        assert!(current().is_none() && in_no_fail(), "everything is tried");
        let (outer, inner) = (no_reclaim(), no_reclaim());
        let strict = mode(Mode::NoWait);
        let lax = mode(Mode::RetryMayFail);
        drop(outer);
        assert!(in_no_reclaim());
        assert_eq!(current(), Some(Mode::NoWait), "the strictest");
        assert!(in_no_fail(), "beside it");
        drop(firm);
        assert!(!in_no_fail());
        drop(strict);
        assert_eq!(current(), Some(Mode::RetryMayFail));
        drop((inner, lax));
        assert!(!in_no_reclaim() && current().is_none());
        let (a, b, c) = (no_shrinker(0), no_shrinker(7), no_shrinker(7));
        assert_eq!(without(), 0b1000_0001);
        drop(b);
        assert_eq!(without(), 0b1000_0001);
        drop((a, c));
        assert_eq!(without(), 0);
    }

    /// Seen to fail without the test for a full counter: the neighbour's was raised.
    #[test]
    fn too_many_guards_do_no_harm() {
        let guards: Vec<_> = (0..1000).map(|_| no_shrinker(3)).collect();
        assert_eq!(without(), 1 << 3);
        drop(guards);
        assert_eq!(without(), 0);
    }

    #[test]
    fn begin_and_end_come_in_pairs() {
        assert!(!end_no_reclaim() && !end_no_shrinker(1) && !end_mode(Mode::NoRetry));
        assert!(begin(no_reclaim()) && begin(no_shrinker(99)) && begin(mode(Mode::NoRetry)));
        assert!(in_no_reclaim() && current() == Some(Mode::NoRetry) && without() == 1 << 7);
        assert!(end_no_reclaim() && end_no_shrinker(99) && end_mode(Mode::NoRetry));
        assert!(!end_no_reclaim());
    }

    /// As many ends as there were begins that were not refused, and no fewer, end each kind of scope. Seen to fail with `begin`
    /// saying that all are counted.
    #[test]
    fn a_begin_that_cannot_be_counted_is_refused() {
        let counted = |scope: fn() -> Scope| (0..70_000).filter(|_| begin(scope())).count();
        let ended = |end: fn() -> bool| (0..70_000).filter(|_| end()).count();
        let shrinkers = counted(|| no_shrinker(3));
        let reclaims = counted(no_reclaim);
        let modes = counted(|| mode(Mode::NoWait));
        assert_eq!((shrinkers, reclaims, modes), (255, 4_095, 4_095));
        let refused = no_shrinker(3);
        drop(refused);
        assert_eq!(
            without(),
            1 << 3,
            "one that was not counted ended one that was"
        );
        assert_eq!(ended(|| end_no_shrinker(3)), shrinkers);
        assert_eq!(ended(end_no_reclaim), reclaims);
        assert_eq!(ended(|| end_mode(Mode::NoWait)), modes);
        assert!(without() == 0 && !in_no_reclaim() && current().is_none());
    }

    /// Seen to fail with the bit one lower: a full counter had it.
    #[test]
    fn full_counters_force_nothing() {
        let fill = |scope: fn() -> Scope| (0..5000).filter(|_| begin(scope())).count();
        let filled = [
            fill(no_reclaim),
            fill(|| mode(Mode::NoWait)),
            fill(|| mode(Mode::NoFail)),
        ];
        assert_eq!(filled, [4_095; 3]);
        assert!(!is_forced() && forced(is_forced) && !is_forced());
        assert!(in_no_reclaim() && in_no_fail() && current() == Some(Mode::NoWait));
        let ended = |end: fn() -> bool| (0..5000).filter(|_| end()).count();
        ended(end_no_reclaim);
        ended(|| end_mode(Mode::NoWait));
        assert_eq!(ended(|| end_mode(Mode::NoFail)), 4_095);
        assert!(!in_no_reclaim() && !in_no_fail() && current().is_none());
    }

    #[test]
    fn a_scope_is_its_threads_alone() {
        let _scope = no_reclaim();
        std::thread::spawn(|| assert!(!in_no_reclaim()))
            .join()
            .unwrap();
    }
}
