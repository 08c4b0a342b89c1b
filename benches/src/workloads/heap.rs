//! A heap of a given size: blocks of 16 to 1,024 bytes until that much is in use, then as many are replaced at random as
//! there are, but at least a million.
//!
//! Stresses whatever grows with the heap or with the number of threads: look at how the figures rise from size to size.

use std::sync::Barrier;

use super::Load;
use super::piece::{Piece, free_all, replace};
use crate::Random;

/// What a block takes, on average.
const MEAN: usize = 520;
/// Replacements, at least.
const WORK: usize = 1_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let all = (load.mib() << 20) / MEAN;
    let blocks = (all / load.threads()).max(1);
    let work = load.share(WORK.max(all));
    // The heap is as large as it is meant to be only when nobody begins to free before all have filled their part.
    let filled = Barrier::new(load.threads());
    load.on_threads(|_, mut random| {
        let mut blocks: Vec<Piece> = (0..blocks).map(|_| block(&mut random)).collect();
        filled.wait();
        replace(&mut blocks, work, &mut random, block) + free_all(blocks)
    })
}

fn block(random: &mut Random) -> Piece {
    Piece::new(random.between(16, 1024))
}
