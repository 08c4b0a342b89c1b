//! Who wants to hear of changes of the pressure, and the thread that tells them.
//!
//! A level changes in the middle of an allocation or a free, under locks; so the listeners are called by a thread of their
//! own, the *teller*. They may block and allocate, and a process without listeners has no such thread. Each remembers
//! what it was told, so it hears of every change that lasts, and of none twice.

use core::ffi::c_void;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use ebb_shrinker::{
    Count, Lane, RegisterError, Registration, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList,
    Walk,
};

use crate::level::{self, Pressure, pressure};
use crate::os;

/// The listeners: each a shrinker that never has anything to free.
pub(crate) static LISTENERS: ShrinkerList = ShrinkerList::new();

/// Whether there are listeners and no teller: a fork took it away, or there was no room for it.
static WANTED: AtomicBool = AtomicBool::new(false);

struct Listener<F> {
    call: F,
    told: AtomicU8,
}

impl<F: Fn(Pressure) + Send + Sync> Shrink for Listener<F> {
    fn count(&self, _: &ShrinkControl) -> Count {
        let now = pressure();
        // Relaxed: the list lets one thread in here at a time.
        if self.told.swap(now as u8, Ordering::Relaxed) != now as u8 {
            (self.call)(now);
        }
        Count::Empty
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

/// Calls `call` with the new level whenever the [`pressure`](crate::pressure()) changes, up or down, from now on. Dropping
/// the registration ends that.
///
/// It is called by a thread of the allocator's own, which is started for it, a little after the change and one level after
/// the other: not in the middle of an allocation, and under no lock. It may block, allocate and free. Levels that have
/// passed again by then are left out.
///
/// # Errors
/// [`RegisterError::OutOfMemory`]; `call` was dropped then.
pub fn on_pressure(
    name: &str,
    call: impl Fn(Pressure) + Send + Sync + 'static,
) -> Result<Registration, RegisterError> {
    let listener = Listener {
        call,
        told: AtomicU8::new(pressure() as u8),
    };
    let registration = Shrinker::new(name)
        .lane(Lane::Async)
        .register(&LISTENERS, listener)?;
    want(true);
    ensure_teller();
    Ok(registration)
}

fn want(teller: bool) {
    // Relaxed: whoever takes it starts the thread; nothing else is carried by it.
    WANTED.store(teller, Ordering::Relaxed);
}

/// Starts the teller if it is wanted and not there. One load if not. Under no lock.
pub(crate) fn ensure_teller() {
    // Relaxed: see `want`.
    if WANTED.load(Ordering::Relaxed) {
        start();
    }
}

#[cold]
fn start() {
    // Relaxed: whoever takes it starts the thread. What that allocates comes here again, and finds it taken.
    let wanted = WANTED.swap(false, Ordering::Relaxed);
    if wanted && !level::listen(true) && !os::spawn(run, 0) {
        // No room now; the next slow allocation tries again.
        level::listen(false);
        want(true);
    }
}

/// In a forked child: there is no teller.
pub(crate) fn forget_teller() {
    level::listen(false);
    want(!LISTENERS.is_empty());
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _uncancelled = os::Uncancelled::new();
    let walk = Walk {
        lane: Lane::Async,
        ..Walk::default()
    };
    loop {
        let seen = level::changes();
        LISTENERS.walk(&walk, &mut |_| ControlFlow::Continue(()));
        level::wait(seen);
    }
}
