//! A server in the long run: threads replace blocks at random, then end and leave all their blocks to a new thread.
//!
//! Stresses blocks that outlive the thread that allocated them, and what is kept for threads that have ended.
//! The idea: P.-Å. Larson and M. Krishnan, "Memory allocation for long-running server applications", ISMM 1998.

use std::thread;

use super::Load;
use super::piece::{Piece, free_all, replace};
use crate::Random;

/// Blocks that each thread owns.
const BLOCKS: usize = 2_000;
/// Replacements before a thread ends.
const LIFE: usize = 50_000;
/// Replacements in all.
const WORK: usize = 30_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, random| {
        let mut lane = Lane {
            random,
            blocks: Vec::new(),
            sum: 0,
        };
        let mut left = work;
        while left > 0 {
            let life = left.min(LIFE);
            let heir = thread::spawn(move || lane.live(life));
            lane = heir.join().expect("a lane does not panic");
            left -= life;
        }
        lane.sum + free_all(lane.blocks)
    })
}

/// What one thread leaves to the next.
struct Lane {
    random: Random,
    blocks: Vec<Piece>,
    sum: u64,
}

impl Lane {
    fn live(mut self, replacements: usize) -> Self {
        while self.blocks.len() < BLOCKS {
            self.blocks.push(block(&mut self.random));
        }
        self.sum += replace(&mut self.blocks, replacements, &mut self.random, block);
        self
    }
}

fn block(random: &mut Random) -> Piece {
    Piece::new(random.between(8, 1000))
}
