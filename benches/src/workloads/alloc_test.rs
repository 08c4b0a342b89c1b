//! Random replacement over a large set: a place is chosen, and its block freed if it has one; if not, it
//! gets one.
//!
//! Stresses realistic sizes over a heap larger than the processor's caches. Some places are chosen far more often
//! than others. The idea: the allocator test that "No Bugs" Hare describes on ithare.com, 2018.

use super::Load;
use super::piece::{Piece, free_all};

/// Places in all.
const PLACES: usize = 400_000;
/// Choices in all.
const WORK: usize = 10_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let (places, work) = (load.share(PLACES), load.share(WORK));
    load.on_threads(|_, mut random| {
        let mut blocks: Vec<Option<Piece>> = (0..places).map(|_| None).collect();
        let mut sum = 0;
        for _ in 0..work {
            // A low place is chosen far more often than a high one.
            let most = random.between(1, places);
            let place = random.below(most);
            match blocks[place].take() {
                Some(block) => sum += block.free(),
                None => {
                    blocks[place] = Some(Piece::new(random.small_size()));
                }
            }
        }
        sum + free_all(blocks.into_iter().flatten())
    })
}
