//! A block as C programs have them: so many bytes, no type. Both ends hold a mark made from the size.

use std::mem::MaybeUninit;

/// A block of bytes of which only the first and the last are written.
pub(super) struct Piece(Box<[MaybeUninit<u8>]>);

impl Piece {
    /// A block of `size` bytes, at least 1.
    pub(super) fn new(size: usize) -> Self {
        let mut bytes = Box::new_uninit_slice(size);
        bytes[0].write(size as u8);
        bytes[size - 1].write(size as u8);
        Self(bytes)
    }

    /// Writes a byte every `step` bytes, so that the pages there are really used.
    pub(super) fn touch(&mut self, step: usize) {
        let end = self.0.len() - 1;
        for at in (step..end).step_by(step) {
            self.0[at].write(1);
        }
    }

    /// Frees the block; its mark.
    ///
    /// # Panics
    /// When somebody wrote over one of its ends.
    pub(super) fn free(self) -> u64 {
        let size = self.0.len();
        // SAFETY: written by `new`.
        let first = unsafe { self.0[0].assume_init() };
        // SAFETY: written by `new`.
        let last = unsafe { self.0[size - 1].assume_init() };
        assert_eq!(
            (first, last),
            (size as u8, size as u8),
            "a block was written over"
        );
        u64::from(first)
    }
}
