//! A program that allocates, and knows what it has: every byte that it was given, and every refusal.

use ebb_tests::{MIB, Random};
use ebbmalloc::raw;

use crate::calls::{errno, set_errno};

/// A live block, marked on each page, up to a MiB, and at its end.
pub(crate) struct Live {
    pub(crate) at: *mut u8,
    pub(crate) size: usize,
    pub(crate) mark: u8,
}

impl Live {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: a live block of that size.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.size) }
    }

    pub(crate) fn mark(&mut self) {
        let mark = self.mark;
        let (first, last) = ends(self.bytes());
        first.iter_mut().step_by(4096).for_each(|byte| *byte = mark);
        *last = mark;
    }

    /// Has a new address and size; what was to be kept is looked at.
    pub(crate) fn moved(&mut self, at: *mut u8, size: usize) {
        let shrinks = size < self.size;
        (self.at, self.size) = (at, size.min(self.size));
        if shrinks {
            let last = self.mark;
            *ends(self.bytes()).1 = last;
        }
        assert!(self.is_marked(), "lost by a move");
        self.size = size;
        self.mark();
    }

    fn is_marked(&mut self) -> bool {
        let mark = self.mark;
        let (first, last) = ends(self.bytes());
        first.iter().step_by(4096).all(|byte| *byte == mark) && *last == mark
    }

    fn is_zero(&mut self) -> bool {
        let (first, last) = ends(self.bytes());
        *first == ZEROS[..first.len()] && *last == 0
    }
}

/// The first bytes, up to a MiB, and the last of a block; a block of one byte has only a last one.
fn ends(bytes: &mut [u8]) -> (&mut [u8], &mut u8) {
    let (last, rest) = bytes.split_last_mut().expect("a block of some size");
    let len = rest.len().min(MIB);
    (&mut rest[..len], last)
}

static ZEROS: [u8; MIB] = [0; MIB];

/// A program: thirty blocks that come, grow, shrink and go. It knows what it has and what it was refused.
pub(crate) struct Program {
    random: Random,
    blocks: Vec<Option<Live>>,
    pub(crate) refused: usize,
}

impl Program {
    pub(crate) fn new(seed: usize) -> Self {
        Self {
            random: Random::new(seed as u64),
            blocks: (0..30).map(|_| None).collect(),
            refused: 0,
        }
    }

    /// All sizes: from a few bytes in slabs, by way of spans, to mappings.
    fn size(&mut self) -> usize {
        let most = match self.random.below(20) {
            0..10 => 2000,
            10..14 => 256 << 10,
            14..17 => MIB,
            _ => 4 * MIB,
        };
        1 + self.random.below(most)
    }

    fn new_block(&mut self) -> Option<Live> {
        let size = self.size();
        let kind = self.random.below(4);
        let at = match kind {
            0 => raw::alloc_zeroed(size),
            1 => raw::alloc_aligned(size, 1 << self.random.below(23)),
            _ => raw::alloc(size),
        };
        let mark = self.random.below(256) as u8;
        let mut block = Live { at, size, mark };
        if at.is_null() {
            self.refused += 1;
            return None;
        }
        assert!(kind != 0 || block.is_zero(), "{size} bytes are not zero");
        block.mark();
        Some(block)
    }

    fn change(&mut self, mut block: Live) -> Option<Live> {
        assert!(block.is_marked(), "{} bytes changed", block.size);
        // Mappings become other mappings, as a rule.
        let large = block.size > 2 * MIB && self.random.below(4) > 0;
        if !large && self.random.below(2) == 0 {
            // SAFETY: live, used no more.
            unsafe { raw::free(block.at) };
            return None;
        }
        let size = match large {
            true => 1 + 2 * MIB + self.random.below(4 * MIB),
            false => self.size(),
        };
        // SAFETY: live; its old address is not used after a success.
        let moved = unsafe { raw::realloc(block.at, size) };
        if moved.is_null() {
            self.refused += 1;
            assert!(block.is_marked(), "lost by a refusal");
            return Some(block);
        }
        block.moved(moved, size);
        Some(block)
    }

    pub(crate) fn run(&mut self, steps: usize) {
        for step in 0..steps {
            set_errno(77);
            let refused = self.refused;
            let index = self.random.below(self.blocks.len());
            self.blocks[index] = match self.blocks[index].take() {
                None => self.new_block(),
                Some(block) => self.change(block),
            };
            let expected = if self.refused > refused {
                libc::ENOMEM
            } else {
                77
            };
            assert_eq!(errno(), expected);
            if step % 25 == 24 {
                ebbmalloc::purge();
            }
        }
    }

    pub(crate) fn end(self) {
        for mut block in self.blocks.into_iter().flatten() {
            assert!(block.is_marked(), "{} bytes changed", block.size);
            // SAFETY: live, used no more.
            unsafe { raw::free(block.at) };
        }
        ebbmalloc::purge();
    }
}
