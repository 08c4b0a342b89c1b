//! How short of memory the process is, for C.

use std::ffi::{c_char, c_int, c_void};

use ebb::Pressure;

use crate::handle::{Context, EbbShrinker, hand_out_named};

/// `ebb_pressure`: there is no budget, or less than three quarters of it are backed.
pub const EBB_PRESSURE_NONE: c_int = 0;
/// `ebb_pressure`: three quarters of the budget are backed.
pub const EBB_PRESSURE_LOW: c_int = 1;
/// `ebb_pressure`: seven eighths of the budget are backed: caches had better stop growing.
pub const EBB_PRESSURE_MEDIUM: c_int = 2;
/// `ebb_pressure`: almost all of the budget is backed: allocations are about to call shrinkers, or do.
pub const EBB_PRESSURE_CRITICAL: c_int = 3;

/// The level as C has it.
fn number(pressure: Pressure) -> c_int {
    match pressure {
        Pressure::None => EBB_PRESSURE_NONE,
        Pressure::Low => EBB_PRESSURE_LOW,
        Pressure::Medium => EBB_PRESSURE_MEDIUM,
        Pressure::Critical => EBB_PRESSURE_CRITICAL,
    }
}

/// How short of memory the process is: `EBB_PRESSURE_...`. Costs one read of memory.
///
/// Measured is what is backed against the budget less the reserve; without a budget there is no pressure, and budgets of
/// nodes do not raise it. A level that was reached ends only when what is backed has fallen three or four 64ths of that below
/// where it begins.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_pressure() -> c_int {
    number(ebb::pressure())
}

/// Is told the new level, `EBB_PRESSURE_...`.
pub type EbbListener = Option<unsafe extern "C" fn(context: *mut c_void, pressure: c_int)>;

/// Has `call` called with the new level whenever the pressure changes, up or down, from now on.
///
/// It is called by a thread of the allocator's own, a little after the change: it may block, allocate and free. It must not
/// throw or jump out. Gives 0, or EINVAL when the name or the function is missing or the name is not UTF-8, or ENOMEM.
/// `*out` goes to `ebb_shrinker_unregister` or `ebb_shrinker_retire`; on failure it is as it was.
///
/// # Safety
///
/// `name` is NULL or a C string; `out` may be written. `call` may be called with the context by another thread until it is
/// unregistered.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(4))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_pressure_register(
    name: *const c_char,
    call: EbbListener,
    context: *mut c_void,
    out: *mut *mut EbbShrinker,
) -> c_int {
    let register =
        |name: &str, call: unsafe extern "C" fn(*mut c_void, c_int), context: Context| {
            let listener = move |pressure| {
                // SAFETY: the promise made at registration.
                unsafe { call(context.get(), number(pressure)) }
            };
            ebb::on_pressure(name, listener)
        };
    // SAFETY: the caller's clause.
    unsafe { hand_out_named(name, call, context, out, register) }
}
