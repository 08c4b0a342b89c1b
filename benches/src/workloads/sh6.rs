//! Bulk: thousands of small blocks are filled in, every second one is freed, the rest in another order each time.
//!
//! Stresses the traffic behind an allocator's cache, and the order of addresses in which it gives freed blocks out
//! again: a program that gets them in random order misses its own caches.
//! The idea: MicroQuill's SmartHeap benchmark of the same number, as others have described it.

use super::Load;
use super::piece::{Piece, free_all};
use crate::Random;

/// Blocks in one filling.
pub(super) const FILLING: usize = 20_000;
/// Fillings in all.
const WORK: usize = 800;

pub(super) fn run(load: &Load) -> u64 {
    let fillings = load.share(WORK);
    load.on_threads(|_, mut random| {
        let mut kept = Vec::new();
        let mut sum = 0;
        for round in 0..fillings {
            let mut blocks = fill(&mut random);
            sum += free_every_second(&mut blocks);
            let younger = blocks.split_off(blocks.len() - FILLING / 10);
            sum += free(blocks, Order::of(round), &mut random);
            // The tenth that is kept lives for one more round.
            sum += free(
                std::mem::replace(&mut kept, younger),
                Order::Forward,
                &mut random,
            );
        }
        sum + free(kept, Order::Forward, &mut random)
    })
}

/// Blocks of 1 to 1000 bytes, most of them small.
pub(super) fn fill(random: &mut Random) -> Vec<Piece> {
    let block = |_| {
        let most = random.between(1, 1000);
        let size = random.between(1, most);
        Piece::new(size)
    };
    (0..FILLING).map(block).collect()
}

/// Frees every second block; the sum of their marks.
fn free_every_second(blocks: &mut Vec<Piece>) -> u64 {
    let mut number = 0;
    blocks
        .extract_if(.., |_| {
            number += 1;
            number % 2 == 0
        })
        .map(Piece::free)
        .sum()
}

/// In which order blocks are freed.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Forward,
    Backward,
    Shuffled,
}

impl Order {
    /// Another one each round.
    pub(super) fn of(round: usize) -> Self {
        [Self::Forward, Self::Backward, Self::Shuffled][round % 3]
    }
}

/// Frees all blocks; the sum of their marks.
pub(super) fn free(mut blocks: Vec<Piece>, order: Order, random: &mut Random) -> u64 {
    match order {
        Order::Forward => {}
        Order::Backward => blocks.reverse(),
        Order::Shuffled => random.shuffle(&mut blocks),
    }
    free_all(blocks)
}
