//! A server in the long run: threads replace blocks at random, then end and leave all their blocks to a new thread.
//!
//! Stresses blocks that outlive the thread that allocated them, and what is kept for threads that have ended.
//! The idea: P.-Å. Larson and M. Krishnan, "Memory allocation for long-running server applications", ISMM 1998.

use std::thread;

use super::piece::Piece;
use super::{Load, Workload};
use crate::Random;

/// Blocks that each thread owns.
const BLOCKS: usize = 2_000;
/// Replacements before a thread ends.
const LIFE: usize = 50_000;
/// Replacements in all.
const WORK: usize = 30_000_000;

pub(super) const WORKLOAD: Workload = Workload {
    name: "larson",
    stresses: "a server's threads that end and leave their blocks to others",
    threads: &[1, 4, 64],
    run,
};

fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|number| {
        let mut lane = Lane {
            random: Random::new(number as u64),
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
        lane.sum + lane.blocks.into_iter().map(Piece::free).sum::<u64>()
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
            let block = self.block();
            self.blocks.push(block);
        }
        for _ in 0..replacements {
            let place = self.random.below(BLOCKS);
            let new = self.block();
            self.sum += std::mem::replace(&mut self.blocks[place], new).free();
        }
        self
    }

    fn block(&mut self) -> Piece {
        let size = self.random.between(8, 1000);
        Piece::new(size)
    }
}
