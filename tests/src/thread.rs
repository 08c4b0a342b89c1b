//! Threads of the C library, so that nothing of Rust's own comes before their first call or after their last.

use std::ffi::c_void;
use std::ptr;

/// A thread that runs until it is joined.
#[derive(Debug)]
#[must_use = "a thread that is not joined is leaked"]
pub struct Bare(libc::pthread_t);

impl Bare {
    /// Starts a thread whose first call is `run(with)`.
    ///
    /// # Safety
    /// `run` may be called with `with` on another thread until the thread is joined.
    ///
    /// # Panics
    /// When the system has no room for a thread.
    pub unsafe fn start<T>(run: extern "C" fn(*mut T) -> *mut c_void, with: *mut T) -> Self {
        let mut thread = 0;
        // SAFETY: the same function for a pointer of another name.
        let run = unsafe {
            std::mem::transmute::<
                extern "C" fn(*mut T) -> *mut c_void,
                extern "C" fn(*mut c_void) -> *mut c_void,
            >(run)
        };
        // SAFETY: the usual attributes; the rest is the caller's clause.
        let status =
            unsafe { libc::pthread_create(&raw mut thread, ptr::null(), run, with.cast()) };
        assert_eq!(status, 0, "no thread");
        Self(thread)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn join(self) {
        // SAFETY: started above, and joined once.
        let status = unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
        assert_eq!(status, 0, "not joined");
    }
}
