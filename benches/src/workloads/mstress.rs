//! Everything at once: blocks of all sizes live short or long, some are exchanged between threads, and all threads end
//! and start anew several times.
//!
//! Stresses thread churn, and memory that is fragmented by blocks of different ages. The idea: the stress test that
//! D. Leijen describes and ships with mimalloc.

use std::sync::Mutex;

use super::Load;
use super::piece::{Piece, free_all};
use crate::Random;

/// Places where threads exchange blocks.
const PLACES: usize = 1_000;
/// Generations of threads.
const GENERATIONS: usize = 20;
/// Blocks in all, over all generations.
const WORK: usize = 16_000_000;

/// Where threads exchange blocks.
type Places = Vec<Mutex<Option<Piece>>>;

pub(super) fn run(load: &Load) -> u64 {
    let work = (load.share(WORK) / GENERATIONS).max(1);
    let places: Places = (0..PLACES).map(|_| Mutex::new(None)).collect();
    let mut sum = 0;
    for generation in 0..GENERATIONS {
        let seed = generation * load.threads();
        sum += load.on_threads(|number, _| live(seed + number, work, &places));
    }
    let left = places
        .into_iter()
        .filter_map(|place| place.into_inner().ok()?);
    sum + free_all(left)
}

fn live(seed: usize, work: usize, places: &Places) -> u64 {
    let mut random = Random::new(seed as u64);
    let mut short: Vec<Piece> = Vec::new();
    let mut long = Vec::new();
    let mut sum = 0;
    for _ in 0..work {
        let block = Piece::new(size(&mut random));
        match random.below(16) {
            0 => long.push(block),
            1..=3 => {
                let place = &places[random.below(PLACES)];
                let other = place.lock().expect("nobody panics").replace(block);
                sum += other.map_or(0, Piece::free);
            }
            _ => short.push(block),
        }
        while short.len() > 100 {
            let chosen = random.below(short.len());
            sum += short.swap_remove(chosen).free();
        }
    }
    sum + free_all(short.into_iter().chain(long))
}

/// Mostly small, one in 200 up to 32 KiB, one in 20,000 up to 1 MiB.
fn size(random: &mut Random) -> usize {
    match random.below(20_000) {
        0 => random.between(32 << 10, 1 << 20),
        1..=100 => random.between(4 << 10, 32 << 10),
        _ => random.small_size(),
    }
}
