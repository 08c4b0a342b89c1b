//! Active false sharing: all threads allocate a small block, write to it many times, free it, and again.
//!
//! An allocator that gives parts of one cache line to threads on different CPUs makes them wait for each other.
//! The idea: E. Berger and others, "Hoard: a scalable memory allocator for multithreaded applications", ASPLOS 2000.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Load;

/// Blocks in all.
const WORK: usize = 400_000;
/// Writes to each block.
const WRITES: u64 = 2_000;

pub(super) fn run(load: &Load) -> u64 {
    let rounds = load.share(WORK);
    load.on_threads(|_, _| (0..rounds).map(|_| scribble(&new_word())).sum())
}

/// A small block to write to.
pub(super) fn new_word() -> Box<AtomicU64> {
    Box::new(AtomicU64::new(0))
}

/// Writes to a block many times; what it holds at last.
pub(super) fn scribble(word: &AtomicU64) -> u64 {
    for _ in 0..WRITES {
        // Relaxed: nobody else reads it. An atomic, so that every write happens.
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    word.load(Ordering::Relaxed)
}
