//! Cancellation of threads (`pthread_cancel`), which unwinds them wherever they sleep or write next. `malloc` is no such place.

use core::ffi::c_int;
use core::marker::PhantomData;
use core::ptr;

unsafe extern "C" {
    /// glibc and musl have it; the `libc` crate does not name it.
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// What both call PTHREAD_CANCEL_DISABLE.
const DISABLE: c_int = 1;

/// While it lives this thread is not cancelled: who asks for that has to wait. Then all is as it was before.
pub(crate) struct Uncancelled {
    before: c_int,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Uncancelled {
    pub(crate) fn new() -> Self {
        let mut before = DISABLE;
        // SAFETY: a state that there is; writes the other above.
        unsafe { pthread_setcancelstate(DISABLE, &mut before) };
        Self {
            before,
            _thread: PhantomData,
        }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: a state that the C library gave; who wants no other has null. Nobody is cancelled in here, unless the thread
        // may be at any instruction, and then it must not allocate at all.
        unsafe { pthread_setcancelstate(self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> c_int {
        let guard = Uncancelled::new();
        guard.before
    }

    /// Seen to fail with a drop that allows it in any case.
    #[test]
    fn the_state_before_comes_back() {
        let enabled = state();
        assert_ne!(enabled, DISABLE);
        let outer = Uncancelled::new();
        drop(Uncancelled::new());
        assert_eq!(state(), DISABLE, "the outer one still holds");
        drop(outer);
        assert_eq!(state(), enabled);
    }
}
