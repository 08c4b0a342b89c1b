//! What C programs hold of a registered shrinker, and how it ends.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::Duration;

use ebb::{Prepared, RegisterError, Registration, Retirement, UnregisterError, raw};

use crate::shrinker::{EbbScanResult, seeks_from_c};

/// What was registered: a shrinker, a last chance, or a listener to the pressure.
pub struct EbbShrinker {
    state: Handle,
}

/// How far it has come.
pub(crate) enum Handle {
    Prepared(Prepared),
    Registered(Registration),
    Retired(Retirement),
}

/// Makes something and writes its handle to `*out`. 0 or ENOMEM.
///
/// # Safety
///
/// `out` may be written.
pub(crate) unsafe fn hand_out(
    make: impl FnOnce() -> Result<Handle, RegisterError>,
    out: *mut *mut EbbShrinker,
) -> c_int {
    let handle = raw::alloc(size_of::<EbbShrinker>()).cast::<EbbShrinker>();
    if handle.is_null() {
        return libc::ENOMEM;
    }
    let Ok(made) = make() else {
        // SAFETY: the block from above, which nobody has seen.
        unsafe { raw::free(handle.cast()) };
        return libc::ENOMEM;
    };
    // SAFETY: a new block of that size, aligned for any type.
    unsafe { handle.write(made.into()) };
    // SAFETY: the caller's clause: `out` may be written.
    unsafe { out.write(handle) };
    0
}

/// As [`hand_out`], for a callback with a name and a context. EINVAL when the name or the function is missing, or the name
/// is not UTF-8.
///
/// # Safety
///
/// `name` is NULL or a C string; `out` may be written; the function may be called with the context by any thread.
pub(crate) unsafe fn hand_out_named<F>(
    name: *const c_char,
    function: Option<F>,
    context: *mut c_void,
    out: *mut *mut EbbShrinker,
    register: impl FnOnce(&str, F, Context) -> Result<Registration, RegisterError>,
) -> c_int {
    if name.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: the caller's clause, and it is not NULL.
    let name = unsafe { CStr::from_ptr(name) }.to_str();
    let (Ok(name), Some(function)) = (name, function) else {
        return libc::EINVAL;
    };
    let register = || register(name, function, Context(context)).map(Handle::Registered);
    // SAFETY: the caller's clause: `out` may be written.
    unsafe { hand_out(register, out) }
}

/// What a callback is called with.
pub(crate) struct Context(pub(crate) *mut c_void);

// SAFETY: whoever registered promised a callback that any thread may call with this context.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn get(&self) -> *mut c_void {
        self.0
    }
}

/// Registers a cache that `ebb_shrinker_prepare` has prepared: from now on allocations that would fail call it. Allocates
/// nothing, and cannot fail for want of memory.
///
/// Gives 0; or EINVAL when it is not only prepared, but registered or retired already, and for NULL. May be called on any thread,
/// also inside a callback of another. The callbacks may be running before this returns, and may use the handle.
///
/// # Safety
///
/// `shrinker` is NULL or what a function that registers or prepares has written, and not unregistered. Does not overlap with
/// other calls for it, but for those inside its callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_register_prepared(shrinker: *mut EbbShrinker) -> c_int {
    // SAFETY: the caller's clause: NULL or a live handle.
    let handle = unsafe { shrinker.as_ref() };
    if !handle.is_some_and(|handle| matches!(handle.state, Handle::Prepared(_))) {
        return libc::EINVAL;
    }
    // SAFETY: the caller's clause. It is taken out here and put back, as registered.
    let handle = unsafe { shrinker.read() };
    if let Handle::Prepared(prepared) = handle.state {
        let keep = |registration| {
            // SAFETY: the handle is still live; its content was taken out above. No callback reads it before it is linked.
            unsafe { shrinker.write(Handle::Registered(registration).into()) };
        };
        // SAFETY: it is only put away.
        unsafe { prepared.register_with(keep) };
    }
    0
}

/// Unregisters a shrinker, a last chance or a listener, and waits until its callbacks have returned: after 0 they are never
/// called again.
///
/// Inside a callback of its own it gives EDEADLK and does nothing. NULL gives 0. A shrinker that was prepared and never
/// registered is freed.
///
/// # Safety
///
/// `shrinker` is NULL or what a function that registers has written, and is used no more once this has given 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_unregister(shrinker: *mut EbbShrinker) -> c_int {
    if shrinker.is_null() {
        return 0;
    }
    // SAFETY: the caller's clause: a live handle.
    unsafe { advance(shrinker, libc::EDEADLK, Handle::unregister) }
}

/// As `ebb_shrinker_unregister`, but waits for nothing: no callback begins any more. Gives 0 when none is running either,
/// and then it is as if unregistered; else EBUSY, and is called again later, from any thread, until it gives 0.
///
/// May be called inside a callback of its own, where it gives EBUSY. Instead of calling it again one may wait with
/// `ebb_shrinker_unregister`. NULL gives 0.
///
/// # Safety
///
/// `shrinker` is NULL or what a function that registers has written, and is used no more once this has given 0. Calls for
/// one shrinker do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_retire(shrinker: *mut EbbShrinker) -> c_int {
    if shrinker.is_null() {
        return 0;
    }
    // SAFETY: the caller's clause: a live handle.
    unsafe { advance(shrinker, libc::EBUSY, Handle::retire) }
}

/// Says anew what an object costs to make again, as `seeks` in `ebb_shrinker_ops_t`: 0 stands for 2, `EBB_SEEKS_NONE` for
/// nothing. For a cache that measures it. Counts from the next visit on; work that was put off before stays as it is.
///
/// Gives 0; or EINVAL after `ebb_shrinker_retire`. What is no cache is asked for no share, so for a last chance or a listener it
/// makes no difference. May be called on any thread, also inside a callback of its own. NULL gives 0.
///
/// # Safety
///
/// `shrinker` is NULL or what a function that registers has written, and not unregistered. Does not overlap with
/// `ebb_shrinker_retire` for it; nor with `ebb_shrinker_unregister`, but for a call inside a callback that this waits for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_set_seeks(shrinker: *mut EbbShrinker, seeks: u32) -> c_int {
    // SAFETY: the caller's clause: NULL or a live handle. Who unregisters writes to it only when no callback runs.
    let Some(handle) = (unsafe { shrinker.as_ref() }) else {
        return 0;
    };
    match &handle.state {
        Handle::Registered(registration) => {
            registration.set_seeks(seeks_from_c(seeks));
            0
        }
        Handle::Prepared(prepared) => {
            prepared.set_seeks(seeks_from_c(seeks));
            0
        }
        Handle::Retired(_) => libc::EINVAL,
    }
}

/// The number of the oldest shrinker of that name (its first 32 bytes); 0 when there is none, or for NULL.
///
/// The statistics have the number of each. No other shrinker has or had the same.
///
/// # Safety
///
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_find(name: *const c_char) -> u64 {
    if name.is_null() {
        return 0;
    }
    // SAFETY: the caller's clause, and it is not NULL.
    let name = unsafe { CStr::from_ptr(name) }.to_str();
    name.ok()
        .and_then(|name| ebb::shrinkers().find(name))
        .unwrap_or(0)
}

/// Has one shrinker look at so many `objects` of a node, by hand and on this thread, and writes what it freed to
/// `*result`, unless that is NULL. For shrinkers that are not node-aware the node is 0.
///
/// Gives 0; or EBUSY when another thread is in it, or it ended by a fault of its own; or ENOENT when there is none of that
/// number, or the call comes out of a callback. The caller holds no lock that the callbacks want.
///
/// # Safety
///
/// `result` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_scan(
    id: u64,
    node: u32,
    objects: usize,
    result: *mut EbbScanResult,
) -> c_int {
    let Some(report) = ebb::scan(id, node, objects) else {
        return libc::ENOENT;
    };
    if report.visited == 0 {
        return libc::EBUSY;
    }
    // SAFETY: the caller's clause: NULL or may be written.
    if let Some(result) = unsafe { result.as_mut() } {
        *result = EbbScanResult {
            objects: report.objects,
            bytes: report.bytes,
        };
    }
    0
}

impl From<Handle> for EbbShrinker {
    fn from(state: Handle) -> Self {
        Self { state }
    }
}

impl Handle {
    /// Itself, if it is this thread that is in the callback.
    fn unregister(self) -> Result<(), Self> {
        match self {
            Self::Prepared(prepared) => {
                drop(prepared);
                Ok(())
            }
            Self::Registered(registration) => registration
                .unregister()
                .map_err(|UnregisterError::InsideOwnCallback(back)| Self::Registered(back)),
            Self::Retired(retirement) => retirement.wait().map_err(Self::Retired),
        }
    }

    /// Itself, if a callback is running.
    fn retire(self) -> Result<(), Self> {
        let retirement = match self {
            Self::Prepared(_) => return self.unregister(),
            Self::Registered(registration) => registration.retire(),
            Self::Retired(retirement) => retirement,
        };
        retirement.wait_for(Duration::ZERO).map_err(Self::Retired)
    }
}

/// Moves a shrinker on to its end. 0, and its handle is gone; or `refused`, and it is still there.
///
/// # Safety
///
/// A live handle, that is used no more once this has given 0.
unsafe fn advance(
    shrinker: *mut EbbShrinker,
    refused: c_int,
    step: impl FnOnce(Handle) -> Result<(), Handle>,
) -> c_int {
    // SAFETY: the caller's clause. It is taken out here and either put back or freed.
    let handle = unsafe { shrinker.read() };
    if let Err(back) = step(handle.state) {
        // SAFETY: the handle is still live; its content was taken out above.
        unsafe { shrinker.write(back.into()) };
        return refused;
    }
    // SAFETY: the handle's own block, from `raw::alloc`; the caller uses it no more.
    unsafe { raw::free(shrinker.cast()) };
    0
}
