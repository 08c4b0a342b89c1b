//! What an object cache does with its objects besides keeping them, and with what.

use core::ptr::NonNull;

/// What is done with each object when its slab is built and when that goes back.
pub(crate) trait Hooks: Send + Sync {
    /// Makes an object. It may unwind.
    ///
    /// # Safety
    /// Memory of the cache's size and alignment, for an object that is not made yet.
    unsafe fn construct(&self, object: NonNull<u8>);

    /// Ends an object.
    ///
    /// # Safety
    /// `construct` made it, and nobody has it.
    unsafe fn destroy(&self, object: NonNull<u8>);
}

/// Hooks in a block of their own.
pub(crate) struct OwnedHooks {
    hooks: NonNull<dyn Hooks>,
    free: unsafe fn(NonNull<u8>),
}

// SAFETY: hooks may be used, and ended, by any thread.
unsafe impl Send for OwnedHooks {}

impl OwnedHooks {
    /// Takes hooks over.
    ///
    /// # Safety
    /// They live in a block that `free` frees, and are nobody else's.
    pub(crate) unsafe fn new(hooks: NonNull<dyn Hooks>, free: unsafe fn(NonNull<u8>)) -> Self {
        Self { hooks, free }
    }

    /// The hooks, for as long as they are not ended.
    ///
    /// # Safety
    /// The caller sees to it that this outlives the answer.
    pub(crate) unsafe fn get(&self) -> &'static dyn Hooks {
        // SAFETY: alive while `self` is.
        unsafe { &*self.hooks.as_ptr() }
    }
}

impl Drop for OwnedHooks {
    fn drop(&mut self) {
        // SAFETY: ours, and used no more.
        unsafe { self.hooks.as_ptr().drop_in_place() };
        // SAFETY: the block they lived in.
        unsafe { (self.free)(self.hooks.cast()) };
    }
}
