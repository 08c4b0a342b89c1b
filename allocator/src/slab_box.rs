//! The owner of an object of a [`SlabCache`](crate::SlabCache).

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::cache_traffic;

/// Whether the values in a cache live from allocation to free, or from a slab's beginning to its end.
pub trait Lifetime: sealed::Sealed {
    /// The latter.
    #[doc(hidden)]
    const KEPT: bool;
}

/// Values are made when they are allocated and dropped when they are freed, as in a `Box`.
#[derive(Clone, Copy, Debug)]
pub enum Fresh {}

/// Values are made when their slab is and dropped with it: a freed one is handed out again as it was left.
#[derive(Clone, Copy, Debug)]
pub enum Constructed {}

impl Lifetime for Fresh {
    const KEPT: bool = false;
}

impl Lifetime for Constructed {
    const KEPT: bool = true;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Fresh {}
    impl Sealed for super::Constructed {}
}

/// An object of a [`SlabCache`](crate::SlabCache), freed when this is dropped. One word.
///
/// It need not be dropped before its cache: the memory goes back all the same.
pub struct SlabBox<T, L: Lifetime = Fresh> {
    object: NonNull<T>,
    _of: PhantomData<Of<T, L>>,
}

/// It owns a `T`. And it takes no other for a `T`: what is written into a value that is kept, others read as just that.
type Of<T, L> = (T, fn(T) -> T, L);

// SAFETY: it owns its value, as a `Box` does.
unsafe impl<T: Send, L: Lifetime> Send for SlabBox<T, L> {}
// SAFETY: as above.
unsafe impl<T: Sync, L: Lifetime> Sync for SlabBox<T, L> {}

impl<T, L: Lifetime> SlabBox<T, L> {
    /// The object's address, as [`SparseSlab::objects`](crate::SparseSlab::objects) has it.
    #[must_use]
    pub const fn as_ptr(this: &Self) -> NonNull<T> {
        this.object
    }

    /// Gives the object away: it is not freed.
    #[must_use]
    pub const fn into_raw(this: Self) -> NonNull<T> {
        let object = this.object;
        core::mem::forget(this);
        object
    }

    /// The owner of an object.
    ///
    /// # Safety
    /// It came from [`into_raw`](Self::into_raw) of an owner of the same type, once for each time, and holds a value.
    #[must_use]
    pub const unsafe fn from_raw(object: NonNull<T>) -> Self {
        Self {
            object,
            _of: PhantomData,
        }
    }
}

impl<T> SlabBox<T> {
    /// Takes the value out, and frees the object.
    #[must_use]
    pub fn into_inner(this: Self) -> T {
        let object = Self::into_raw(this);
        // SAFETY: ours, with a value, which is not used there any more.
        let value = unsafe { object.read() };
        free(object);
        value
    }
}

/// Gives memory back.
fn free<T>(object: NonNull<T>) {
    cache_traffic::free(object.as_ptr().expose_provenance());
}

impl<T, L: Lifetime> Drop for SlabBox<T, L> {
    fn drop(&mut self) {
        if !L::KEPT {
            // SAFETY: ours, with a value.
            unsafe { self.object.drop_in_place() };
        }
        free(self.object);
    }
}

impl<T, L: Lifetime> Deref for SlabBox<T, L> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: ours, with a value.
        unsafe { self.object.as_ref() }
    }
}

impl<T, L: Lifetime> DerefMut for SlabBox<T, L> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: ours, with a value.
        unsafe { self.object.as_mut() }
    }
}

impl<T: fmt::Debug, L: Lifetime> fmt::Debug for SlabBox<T, L> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
