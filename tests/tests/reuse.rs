//! What is kept for reuse is what is likely to be used again.

use ebb_tests::alone;
use ebb_tests::numa::{affinity, pin};
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
        assert!(full >= MIB / nodes, "{full} bytes of the old size");
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
