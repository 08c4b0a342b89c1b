//! Thousands of threads that allocate a little, and sleep until all have.
//!
//! Stresses what an allocator keeps for each thread: look at the RSS, not at the time.

use std::sync::Barrier;
use std::thread;

use super::Load;
use super::piece::{Piece, free_all};
use crate::Random;

/// Blocks of each thread: a few hundred bytes to a few kilobytes in all.
const BLOCKS: usize = 20;
/// Bytes for the stack of a thread. Only the pages it touches become resident.
const STACK: usize = 64 << 10;

pub(super) fn run(load: &Load) -> u64 {
    // All of them, however little else is done: a table names them.
    let threads = load.threads();
    let all = Barrier::new(threads);
    thread::scope(|scope| {
        let sleepers: Vec<_> = (0..threads)
            .map(|number| {
                let all = &all;
                let body = move || sleep(number, all);
                let builder = thread::Builder::new().stack_size(STACK);
                builder
                    .spawn_scoped(scope, body)
                    .expect("the system allows so many threads")
            })
            .collect();
        sleepers
            .into_iter()
            .map(|sleeper| sleeper.join().expect("a sleeper does not panic"))
            .sum()
    })
}

fn sleep(number: usize, all: &Barrier) -> u64 {
    let mut random = Random::new(number as u64);
    let blocks: Vec<Piece> = (0..BLOCKS)
        .map(|_| Piece::new(random.between(8, 256)))
        .collect();
    // A tenth of them lives on.
    let mut blocks = blocks.into_iter();
    let kept: Vec<Piece> = blocks.by_ref().take(BLOCKS / 10).collect();
    let freed = free_all(blocks);
    all.wait();
    freed + free_all(kept)
}
