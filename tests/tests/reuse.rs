//! What is kept for reuse is what is likely to be used again.

use ebb_tests::numa::{affinity, pin};
use ebb_tests::{Random, alone};
use ebbmalloc::raw;

const MIB: usize = 1 << 20;

/// Allocates `count` blocks of `size` bytes, then frees them in order.
fn come_and_go(count: usize, size: usize) {
    let blocks: Vec<_> = (0..count).map(|_| raw::alloc(size)).collect();
    for block in blocks {
        assert!(!block.is_null());
        // SAFETY: live, used no more.
        unsafe { raw::free(block) };
    }
}

/// Bytes of free objects of this size that a barn or a CPU keeps.
fn cached(size: usize) -> usize {
    let stats = ebbmalloc::stats();
    let class = stats.classes.iter().find(|class| class.size == size as u64);
    class.map_or(0, |class| (class.cached * class.size) as usize)
}

/// A size that was used much and is used no more fills the barns; another then has its sheaves there all the same. Seen to
/// fail with `flush_unused` giving nothing.
#[test]
fn an_unused_barn_gives_way() {
    alone("an_unused_barn_gives_way", || {
        // Another node's barns have room of their own.
        pin(affinity()[0]);
        const OLD: usize = 1024;
        const NEW: usize = 16 << 10;
        come_and_go(4 * MIB / OLD, OLD);
        let full = cached(OLD);
        // The nodes share what one may keep.
        let nodes = ebbmalloc::stats().known_nodes().len();
        assert!(full >= MIB / 2 / nodes, "{full} bytes of the old size");
        for _ in 0..100 {
            come_and_go(20, NEW);
        }
        assert!(cached(NEW) >= 16 * NEW, "{} bytes of the new", cached(NEW));
        assert!(cached(OLD) < full, "all of the old");
    });
}

/// Slices that nobody asks for do not keep a large block from being kept when it is freed. Seen to fail without the purge in
/// `make_room`.
#[test]
fn a_large_block_is_kept_beside_idle_slices() {
    alone("a_large_block_is_kept_beside_idle_slices", || {
        come_and_go(20, MIB);
        // The arena was asked before the first of them, and not before the second.
        come_and_go(1, 4 * MIB);
        come_and_go(1, 4 * MIB);
        let backed = ebbmalloc::backed();
        let block = raw::alloc(4 * MIB);
        assert_eq!(ebbmalloc::backed(), backed, "made of what was kept");
        // SAFETY: live, used no more.
        unsafe { raw::free(block) };
        assert_eq!(ebbmalloc::backed(), backed, "and kept again");
    });
}

/// A block that was cut from a larger one grows into what was cut off, without a page from the system; and all of it is one
/// again when it is freed. Seen to fail without `absorb` in `resize`, and without that in `free`.
#[test]
fn a_block_grows_into_what_was_cut_off() {
    alone("a_block_grows_into_what_was_cut_off", || {
        come_and_go(1, 8 * MIB);
        let backed = ebbmalloc::backed();
        for size in [5 * MIB, 8 * MIB] {
            let block = raw::alloc(3 * MIB);
            // SAFETY: live; moved at most.
            let grown = unsafe { raw::realloc(block, size) };
            assert_eq!(grown, block, "in place");
            assert_eq!(ebbmalloc::backed(), backed, "nothing was made anew");
            // SAFETY: live, used no more.
            unsafe { raw::free(grown) };
            assert_eq!(ebbmalloc::backed(), backed, "nor given back");
        }
        come_and_go(1, 3 * MIB);
        come_and_go(1, 8 * MIB);
        assert_eq!(ebbmalloc::backed(), backed, "one again");
    });
}

/// A large block and what is written in it: its number, in each page.
struct Large {
    at: *mut u8,
    size: usize,
    number: u64,
}

impl Large {
    fn pages(&self, size: usize) -> impl Iterator<Item = *mut u64> {
        let at = self.at;
        (0..size - 8)
            .step_by(4096)
            .map(move |offset| at.wrapping_add(offset).cast())
    }

    fn write(&self) {
        for page in self.pages(self.size) {
            // SAFETY: inside a live block.
            unsafe { page.write(self.number) };
        }
    }

    fn check(&self, size: usize) {
        for page in self.pages(size) {
            // SAFETY: inside a live block.
            assert_eq!(unsafe { page.read() }, self.number, "overwritten");
        }
    }

    fn resize(&mut self, size: usize) {
        // SAFETY: live; the old address is forgotten.
        self.at = unsafe { raw::realloc(self.at, size) };
        assert!(!self.at.is_null());
        self.check(size.min(self.size));
        self.size = size;
        self.write();
    }
}

/// Large blocks are cut, grown, moved and joined at random: none loses what is in it, and in the end no byte is missing. Seen
/// to fail with `absorb` lengthening a block and leaving the spare.
#[test]
fn large_blocks_keep_what_is_in_them() {
    alone("large_blocks_keep_what_is_in_them", || {
        let mut random = Random::new(5);
        let mut blocks: Vec<Large> = Vec::new();
        ebbmalloc::set_keep(48 * MIB);
        ebbmalloc::purge();
        let before = ebbmalloc::backed();
        for number in 0..600 {
            let size = random.between(2 * MIB + 1, 12 * MIB);
            match random.below(3) {
                0 if !blocks.is_empty() => {
                    let chosen = random.below(blocks.len());
                    blocks[chosen].resize(size);
                }
                _ if blocks.len() < 8 => {
                    let at = raw::alloc(size);
                    assert!(!at.is_null());
                    let block = Large { at, size, number };
                    block.write();
                    blocks.push(block);
                }
                _ => {
                    let block = blocks.swap_remove(random.below(blocks.len()));
                    block.check(block.size);
                    // SAFETY: live, used no more.
                    unsafe { raw::free(block.at) };
                }
            }
        }
        for block in blocks {
            block.check(block.size);
            // SAFETY: as above.
            unsafe { raw::free(block.at) };
        }
        ebbmalloc::purge();
        let after = ebbmalloc::backed();
        assert!(
            after <= before + MIB / 4,
            "backed {before} before, {after} after"
        );
    });
}
