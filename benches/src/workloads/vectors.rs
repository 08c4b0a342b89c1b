//! Vectors that grow by pushing. Most end short, a few with tens of thousands of elements; a hundred are in use.
//!
//! Stresses growth through all size classes, and frees whose size the program knows.

use super::Load;
use crate::Random;

/// Vectors in use by each thread.
const IN_USE: usize = 100;
/// Vectors in all.
const WORK: usize = 4_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, mut random| {
        let mut vectors: Vec<Vec<u64>> = vec![Vec::new(); IN_USE];
        let mut sum = 0;
        for place in (0..IN_USE).cycle().take(work) {
            let mut vector = Vec::new();
            for element in 0..length(&mut random) {
                vector.push(element as u64);
            }
            vectors[place] = vector;
            let chosen = &vectors[random.below(IN_USE)];
            sum += chosen.last().copied().unwrap_or(0) + chosen.len() as u64;
        }
        sum
    })
}

/// Half of the vectors have up to 8 elements; each doubling is half as likely, up to 32,768.
fn length(random: &mut Random) -> usize {
    let doublings = random.bits().trailing_zeros().min(12);
    random.between(1, 8 << doublings)
}
