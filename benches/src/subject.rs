//! An allocator under measurement, called by name: not the program's global one, so that several can be measured in one
//! process.

use std::alloc::{GlobalAlloc, Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// An allocator to measure.
pub trait Subject: 'static {
    /// What it is called in results.
    const NAME: &'static str;
    /// Its type.
    type Heap: GlobalAlloc;
    /// The allocator itself; all values of the type are the same one.
    const HEAP: Self::Heap;
}

/// This project's allocator.
#[derive(Debug)]
pub struct Ebbmalloc;

impl Subject for Ebbmalloc {
    const NAME: &'static str = "ebbmalloc";
    type Heap = ebbmalloc::EbbMalloc;
    const HEAP: Self::Heap = ebbmalloc::EbbMalloc;
}

/// The C library's allocator.
#[derive(Debug)]
pub struct System;

impl Subject for System {
    const NAME: &'static str = "system";
    type Heap = std::alloc::System;
    const HEAP: Self::Heap = std::alloc::System;
}

/// The program's global allocator, whichever it is.
#[derive(Debug)]
pub struct Global;

impl Subject for Global {
    const NAME: &'static str = "global";
    type Heap = Self;
    const HEAP: Self = Self;
}

// SAFETY: passes everything on to the global allocator.
unsafe impl GlobalAlloc for Global {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's clauses are the same.
        unsafe { alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's clauses are the same.
        unsafe { dealloc(start, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's clauses are the same.
        unsafe { alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's clauses are the same.
        unsafe { realloc(start, layout, size) }
    }
}

/// A block of one allocator. Its first byte is written, as a program would; it is freed with its layout.
pub struct Block<S: Subject> {
    start: NonNull<u8>,
    layout: Layout,
    subject: PhantomData<S>,
}

// SAFETY: owns its memory, and an allocator's blocks may be freed by any thread.
unsafe impl<S: Subject> Send for Block<S> {}

impl<S: Subject> Block<S> {
    /// A block of `size` bytes, at least 1, aligned as C's `malloc` would.
    ///
    /// # Panics
    /// When the size is 0 or above `isize::MAX`. Where there is no memory the process ends.
    #[inline]
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::of(layout(size))
    }

    /// A block of this layout.
    ///
    /// # Panics
    /// When the size is 0. Where there is no memory the process ends.
    #[inline]
    #[must_use]
    pub fn of(layout: Layout) -> Self {
        assert!(layout.size() > 0);
        // SAFETY: the size is not 0.
        let start = unsafe { S::HEAP.alloc(layout) };
        Self::started(start, layout)
    }

    /// A block of this layout that was zeroed before its first byte was written.
    ///
    /// # Panics
    /// As for [`Block::of`].
    #[inline]
    #[must_use]
    pub fn zeroed(layout: Layout) -> Self {
        assert!(layout.size() > 0);
        // SAFETY: the size is not 0.
        let start = unsafe { S::HEAP.alloc_zeroed(layout) };
        Self::started(start, layout)
    }

    /// Makes the block `size` bytes long, at least 1, keeping what is in it.
    ///
    /// # Panics
    /// As for [`Block::new`].
    #[inline]
    pub fn resize(&mut self, size: usize) {
        let layout = layout(size);
        // SAFETY: a block of this allocator with this layout; the size is not 0 and fits, since it made a layout.
        let start = unsafe { S::HEAP.realloc(self.start.as_ptr(), self.layout, size) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        self.start = start;
        self.layout = layout;
    }

    #[inline]
    fn started(start: *mut u8, layout: Layout) -> Self {
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        // SAFETY: a new block of at least one byte.
        unsafe { start.write(1) };
        Self {
            start,
            layout,
            subject: PhantomData,
        }
    }
}

impl<S: Subject> Drop for Block<S> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a block of this allocator with this layout, used no more.
        unsafe { S::HEAP.dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl<S: Subject> fmt::Debug for Block<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.layout.size(), S::NAME)
    }
}

#[inline]
fn layout(size: usize) -> Layout {
    assert!(size > 0);
    Layout::from_size_align(size, 16).expect("a size that a block can have")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survives_growth<S: Subject>() {
        let mut blocks: Vec<Block<S>> = (1..200).map(Block::new).collect();
        for block in &mut blocks {
            block.resize(block.layout.size() * 100);
            // SAFETY: written when the block was new; a resize keeps it.
            assert_eq!(unsafe { block.start.read() }, 1, "{block:?}");
        }
    }

    /// Seen to fail when `resize` did not store the new address.
    #[test]
    fn blocks_keep_their_first_byte() {
        survives_growth::<Ebbmalloc>();
        survives_growth::<System>();
    }
}
