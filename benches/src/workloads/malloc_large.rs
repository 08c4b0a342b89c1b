//! Blocks of 5 to 25 MiB, of which twenty are in use at a time and one is replaced at random.
//!
//! Stresses mapping and unmapping: an allocator that gives each such block back to the system at once pays for the page
//! faults again. A quarter of each block is used. The idea: `malloc-large` of the mimalloc-bench suite.

use super::Load;
use super::piece::{Piece, churn};
use crate::Random;

const MIB: usize = 1 << 20;
/// Blocks in use.
const BLOCKS: usize = 20;
/// Replacements in all.
const WORK: usize = 1_000;

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, random| churn(BLOCKS, work, random, block))
}

fn block(random: &mut Random) -> Piece {
    let mut block = Piece::new(random.between(5 * MIB, 25 * MIB));
    block.touch(16 << 10);
    block
}
