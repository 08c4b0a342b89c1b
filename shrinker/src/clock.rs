//! A clock that is cheap enough to be looked at around every callback.
//!
//! The system's clock costs 21 ns here, and the counter of the processor behind it 9. So what the counter has gone since this
//! thread last looked at the system's clock is added to that, as long as it is less than [`WINDOW`] ticks, some 20 us;
//! then the system's clock is looked at again. Whatever is wrong with the counter (it jumps, its rate changes, the thread
//! came to another processor), the answer is wrong by no more than so many ticks, and all that takes longer is measured by
//! the system's clock alone.
//!
//! The counter is used where it says of itself that it goes at one rate whatever the processor does, and once the rate is
//! known: what both clocks have gone since the first look. Elsewhere every look is one at the system's clock.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use counter::{is_steady, ticks};

/// The counter is trusted for fewer ticks than this.
const WINDOW: u64 = 1 << 16;

/// Nanoseconds that both clocks must have gone for the rate to be known, and after which it is known well enough.
const KNOWN: std::ops::Range<u64> = 10_000_000..4_000_000_000;

/// Rates that are believed: from a tenth of a nanosecond per tick to ten.
const BELIEVED: std::ops::Range<u64> = (1 << 32) / 10..10 << 32;

/// Nanoseconds per tick, times 2^32; 0 as long as it is not known. Relaxed: it carries nothing.
static RATE: AtomicU64 = AtomicU64::new(0);

/// The first look: the system's clock, and the counter, which stays 0 where it is not to be used.
static FIRST_NS: AtomicU64 = AtomicU64::new(0);
static FIRST_TICKS: AtomicU64 = AtomicU64::new(0);

// Constant and without a destructor, so that no access ever allocates or fails.
thread_local! {
    /// This thread's last look at the system's clock, and the counter right after it.
    static LAST: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Nanoseconds of a clock that goes forward; at a look at the system's clock it may go back by as much as the counter was
/// ahead, some nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let rate = RATE.load(Ordering::Relaxed);
    if rate != 0 {
        let (ns, at) = LAST.get();
        let passed = ticks().wrapping_sub(at);
        if passed < WINDOW {
            return ns + ((passed * rate) >> 32);
        }
    }
    look()
}

#[cold]
fn look() -> u64 {
    let before = ticks();
    let ns = system_ns();
    let after = ticks();
    // Who lost the processor in between does not know which ticks belong to which nanoseconds: the next look is like this one.
    let together = after.wrapping_sub(before) < WINDOW / 16;
    LAST.set(if together { (ns, after) } else { (0, 0) });
    if together {
        learn(ns, after);
    }
    ns
}

/// Compares what both have gone since the first look.
fn learn(ns: u64, ticks: u64) {
    // Acquire: pairs with the Release below; the other half of the first look is seen.
    let first = FIRST_TICKS.load(Ordering::Acquire);
    if first == 0 {
        // Relaxed, all: who is first writes the other half. Where the counter is not used, others only read.
        let is_first = FIRST_NS.load(Ordering::Relaxed) == 0
            && FIRST_NS
                .compare_exchange(0, ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_first && is_steady() {
            FIRST_TICKS.store(ticks, Ordering::Release);
        }
        return;
    }
    let passed = ns.saturating_sub(FIRST_NS.load(Ordering::Relaxed));
    let known = RATE.load(Ordering::Relaxed) != 0;
    if passed < KNOWN.start || (known && passed >= KNOWN.end) {
        return;
    }
    let rate = (u128::from(passed) << 32) / u128::from(ticks.wrapping_sub(first).max(1));
    if let Ok(rate) = u64::try_from(rate)
        && BELIEVED.contains(&rate)
    {
        RATE.store(rate, Ordering::Relaxed);
    }
}

/// The system's clock.
fn system_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the time above.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use std::arch::x86_64::{__cpuid, _rdtsc};

    pub(super) fn ticks() -> u64 {
        // SAFETY: every processor of this architecture has it, and where the system forbids it its own clock fails too.
        unsafe { _rdtsc() }
    }

    /// Whether it goes at one rate in all states of the processor.
    pub(super) fn is_steady() -> bool {
        const POWER: u32 = 0x8000_0007;
        __cpuid(0x8000_0000).eax >= POWER && __cpuid(POWER).edx & (1 << 8) != 0
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod counter {
    pub(super) fn ticks() -> u64 {
        0
    }

    /// There is none that is known to be cheap.
    pub(super) fn is_steady() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between two looks at the system's clock there is no other time than theirs, give or take the window. Seen to fail with
    /// twice the rate and a window without end, and with `passed` left out of the sum and a window without end.
    #[test]
    fn it_goes_with_the_clock_of_the_system() {
        let slack = WINDOW; // A tick is a nanosecond at most, on all that is common.
        let (start, mut looks) = (system_ns(), 0);
        loop {
            let before = system_ns();
            let now = now_ns();
            let after = system_ns();
            assert!(now + slack >= before, "{now} is behind {before}");
            assert!(now <= after + slack, "{now} is ahead of {after}");
            looks += 1;
            if after - start > 10 * KNOWN.start {
                break;
            }
        }
        assert!(looks > 100, "{looks}");
    }

    /// Seen to fail with the rate never stored.
    #[test]
    fn a_steady_counter_is_used() {
        let known = || {
            now_ns();
            RATE.load(Ordering::Relaxed) != 0
        };
        for _ in 0..1000 {
            if known() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(known(), is_steady());
    }
}
