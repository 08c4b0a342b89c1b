//! Scopes, for C: what the allocations of this thread do not do for a while.
//!
//! Scopes nest, and the strictest one holds. Each begin has its end on the same thread.

use std::ffi::{c_int, c_uint};

use ebb::{CLASSES, Mode, Scope, raw};

/// `ebb_mode_begin`: everything but the last chance: no notifier is called and nothing is reported.
pub const EBB_MODE_RETRY_MAY_FAIL: c_int = 1;
/// `ebb_mode_begin`: one descent over the shrinkers, and no waiting.
pub const EBB_MODE_NO_RETRY: c_int = 2;
/// `ebb_mode_begin`: an allocation that does not fit fails at once. It may have five eighths of the reserve.
pub const EBB_MODE_NO_WAIT: c_int = 3;

/// `ebb_mode_begin`: everything is tried, and when that was in vain an allocation is charged beyond the budget, and beyond that
/// of its node, however large it is: only the system can refuse it. For code that cannot go back, such as a library that exits
/// on NULL. What is freed next makes up for the excess, and until then other allocations fail. Beside another mode, or after
/// ebb_no_reclaim_begin(), no more is tried than that says, and then it is charged all the same.
pub const EBB_MODE_NO_FAIL: c_int = 4;

/// 0 or EINVAL.
fn status(ok: bool) -> c_int {
    if ok { 0 } else { libc::EINVAL }
}

/// 0, EINVAL where there is no such scope, or EAGAIN where it cannot be counted.
fn begin(scope: Option<Scope>) -> c_int {
    match scope.map(raw::begin) {
        Some(true) => 0,
        Some(false) => libc::EAGAIN,
        None => libc::EINVAL,
    }
}

fn mode(number: c_int) -> Option<Mode> {
    match number {
        EBB_MODE_RETRY_MAY_FAIL => Some(Mode::RetryMayFail),
        EBB_MODE_NO_RETRY => Some(Mode::NoRetry),
        EBB_MODE_NO_WAIT => Some(Mode::NoWait),
        EBB_MODE_NO_FAIL => Some(Mode::NoFail),
        _ => None,
    }
}

fn class(number: c_uint) -> Option<u8> {
    u8::try_from(number).ok().filter(|class| *class < CLASSES)
}

/// From here on this thread's allocations never reclaim: those that do not fit are served from the reserve, or fail. For code
/// that holds what a shrinker wants, and for code that has to allocate to deal with an allocation that failed.
///
/// This and the two below nest, with themselves and each other, and the strictest holds. Each begin that gave 0 has its end on
/// the same thread. EAGAIN says that the scope was begun too often to be counted, 4,095 times (255 for one class of
/// shrinkers): the allocations behave as asked for, but this begin has no end of its own. Gives 0 or EAGAIN.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_no_reclaim_begin() -> c_int {
    begin(Some(ebb::no_reclaim()))
}

/// Ends `ebb_no_reclaim_begin`. Gives 0, or EINVAL when none was begun.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_no_reclaim_end() -> c_int {
    status(raw::end_no_reclaim())
}

/// From here on this thread's allocations do not call shrinkers of this class. Gives 0, EAGAIN, or EINVAL when there is no
/// such class.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_no_shrinker_begin(shrinker_class: c_uint) -> c_int {
    begin(class(shrinker_class).map(ebb::no_shrinker))
}

/// Ends `ebb_no_shrinker_begin`. Gives 0, or EINVAL when none was begun.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_no_shrinker_end(shrinker_class: c_uint) -> c_int {
    status(class(shrinker_class).is_some_and(raw::end_no_shrinker))
}

/// From here on this thread's allocations try only so hard: `EBB_MODE_...`. Gives 0, EAGAIN, or EINVAL when there is no such
/// mode.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_mode_begin(number: c_int) -> c_int {
    begin(mode(number).map(ebb::mode))
}

/// Ends `ebb_mode_begin`. Gives 0, or EINVAL when none was begun.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_mode_end(number: c_int) -> c_int {
    status(mode(number).is_some_and(raw::end_mode))
}
