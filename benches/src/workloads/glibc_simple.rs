//! Rows of one size, allocated one after the other and freed in the same order: 25 to 1,600 blocks.
//!
//! Stresses the fast path, and what happens just past the end of an allocator's cache. The idea: `bench-malloc-simple`
//! of glibc's benchtests, as its head describes it.

use super::Load;
use super::piece::{Piece, free_all};

/// Blocks in all for each size.
const WORK: usize = 16_000_000;
const ROWS: [usize; 4] = [25, 100, 400, 1_600];
const SIZES: [usize; 3] = [16, 128, 1024];

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, _| {
        let mut blocks = Vec::with_capacity(1_600);
        let mut sum = 0;
        for size in SIZES {
            for row in ROWS {
                for _ in 0..(work / ROWS.len() / row).max(1) {
                    blocks.extend((0..row).map(|_| Piece::new(size)));
                    sum += free_all(blocks.drain(..));
                }
            }
        }
        sum
    })
}
