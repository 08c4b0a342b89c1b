//! Every thread replaces blocks at random in a set of a thousand of its own.
//!
//! Stresses threads that have nothing to do with each other, and a wide range of sizes of which the small ones are by
//! far the most frequent. The idea: `bench-malloc-thread` of glibc's benchtests, as its head describes it.

use super::piece::Piece;
use super::{Load, Workload};
use crate::Random;

/// Blocks of each thread.
const BLOCKS: usize = 1_024;
/// Replacements in all.
const WORK: usize = 40_000_000;

pub(super) const WORKLOAD: Workload = Workload {
    name: "glibc-thread",
    stresses: "random replacement over a small set for each thread",
    threads: &[1, 4, 16],
    run,
};

fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|number| {
        let mut random = Random::new(number as u64);
        let mut blocks: Vec<Piece> = (0..BLOCKS).map(|_| block(&mut random)).collect();
        let mut sum = 0;
        for _ in 0..work {
            let place = random.below(BLOCKS);
            let new = block(&mut random);
            sum += std::mem::replace(&mut blocks[place], new).free();
        }
        sum + blocks.into_iter().map(Piece::free).sum::<u64>()
    })
}

/// A block of 4 bytes to 32 KiB; a size is as likely as the inverse of its square.
fn block(random: &mut Random) -> Piece {
    const MOST: usize = 32 << 10;
    // Uniform over the inverses of the sizes.
    let size = MOST / random.between(1, MOST / 4);
    Piece::new(size)
}
