//! Every thread replaces blocks at random in a set of a thousand of its own.
//!
//! Stresses threads that have nothing to do with each other, and a wide range of sizes of which the small ones are by
//! far the most frequent. The idea: `bench-malloc-thread` of glibc's benchtests, as its head describes it.

use super::Load;
use super::piece::{Piece, churn};
use crate::Random;

/// Blocks of each thread.
const BLOCKS: usize = 1_024;
/// Replacements in all.
const WORK: usize = 40_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, random| churn(BLOCKS, work, random, block))
}

/// A block of 4 bytes to 32 KiB; a size is as likely as the inverse of its square.
fn block(random: &mut Random) -> Piece {
    const MOST: usize = 32 << 10;
    // Uniform over the inverses of the sizes.
    let size = MOST / random.between(1, MOST / 4);
    Piece::new(size)
}
