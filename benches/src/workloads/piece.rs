//! A block as C programs have them: so many bytes, no type. Both ends hold a mark made from the size.

use std::mem::MaybeUninit;

use crate::Random;

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

/// Replaces blocks at random, so many times, by `new` ones; the sum of the marks of those that are freed.
pub(super) fn replace(
    blocks: &mut [Piece],
    times: usize,
    random: &mut Random,
    new: impl Fn(&mut Random) -> Piece,
) -> u64 {
    let mut sum = 0;
    for _ in 0..times {
        let place = random.below(blocks.len());
        let block = new(random);
        sum += std::mem::replace(&mut blocks[place], block).free();
    }
    sum
}

/// Fills a set of `count` blocks, replaces some at random, so many times, and frees all; the sum of their marks.
pub(super) fn churn(
    count: usize,
    times: usize,
    mut random: Random,
    new: impl Fn(&mut Random) -> Piece,
) -> u64 {
    let mut blocks: Vec<Piece> = (0..count).map(|_| new(&mut random)).collect();
    replace(&mut blocks, times, &mut random, new) + free_all(blocks)
}

/// Frees all blocks; the sum of their marks.
pub(super) fn free_all(blocks: impl IntoIterator<Item = Piece>) -> u64 {
    blocks.into_iter().map(Piece::free).sum()
}
