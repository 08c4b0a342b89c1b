//! Passive false sharing: one thread allocates a small block for each of the others, which write to it and free it.
//!
//! An allocator that gives such a block to the thread that freed it lets two threads write to one cache line for ever.
//! The idea: E. Berger and others, "Hoard: a scalable memory allocator for multithreaded applications", ASPLOS 2000.

use std::sync::Mutex;

use super::Load;
use super::cache_thrash::{new_word, scribble};

/// Blocks in all, after the first.
const WORK: usize = 400_000;

pub(super) fn run(load: &Load) -> u64 {
    let rounds = load.share(WORK);
    let words: Vec<_> = (0..load.threads())
        .map(|_| Mutex::new(Some(new_word())))
        .collect();
    load.on_threads(|number, _| {
        let handed = words[number].lock().expect("nobody panics").take();
        let first = handed.map_or(0, |word| scribble(&word));
        first + (0..rounds).map(|_| scribble(&new_word())).sum::<u64>()
    })
}
