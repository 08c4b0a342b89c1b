//! Bulk between threads: of every filling one half goes to the neighbour thread, which frees it in its own time.
//!
//! Stresses as `sh6` does, with half of the blocks coming home from another thread, thousands at once.
//! The idea: MicroQuill's SmartHeap benchmark of the same number, as others have described it.

use std::sync::Mutex;

use super::Load;
use super::piece::{Piece, free_all};
use super::sh6::{FILLING, Order, fill, free};

/// Fillings in all.
const WORK: usize = 1_200;

/// What neighbours have left for a thread.
type Letterbox = Mutex<Vec<Vec<Piece>>>;

pub(super) fn run(load: &Load) -> u64 {
    let fillings = load.share(WORK);
    let boxes: Vec<Letterbox> = (0..load.threads()).map(|_| Letterbox::default()).collect();
    let sum = load.on_threads(|number, mut random| {
        let neighbour = &boxes[(number + 1) % boxes.len()];
        let mut sum = 0;
        for round in 0..fillings {
            let mut mine = fill(&mut random);
            let theirs = mine.split_off(FILLING / 2);
            neighbour.lock().expect("nobody panics").push(theirs);
            sum += free(mine, Order::of(round), &mut random);
            sum += empty(&boxes[number]);
        }
        sum
    });
    sum + boxes.iter().map(empty).sum::<u64>()
}

/// Frees what has been left so far; the sum of the marks.
fn empty(letterbox: &Letterbox) -> u64 {
    let parcels = std::mem::take(&mut *letterbox.lock().expect("nobody panics"));
    free_all(parcels.into_iter().flatten())
}
