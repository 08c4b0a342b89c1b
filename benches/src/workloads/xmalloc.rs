//! Producers and consumers: one half of the threads only allocates, the other only frees.
//!
//! Stresses the way home of blocks that another thread frees; allocators that owe each block to its thread pile up here.
//! The idea: C. Lever and D. Boreham, "malloc() performance in a multithreaded Linux environment", USENIX 2000.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Load;
use super::piece::{Piece, free_all};
use crate::Random;

/// Blocks in a parcel, which travels as a whole.
const PARCEL: usize = 120;
/// Parcels under way to one consumer.
const UNDER_WAY: usize = 32;
/// Blocks in all.
const WORK: usize = 30_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let pairs = (load.threads() / 2).max(1);
    let parcels = (load.amount(WORK) / PARCEL / pairs).max(1);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..pairs).map(|_| sync_channel(UNDER_WAY)).unzip();
    thread::scope(|scope| {
        for number in 0..pairs {
            let senders = senders.clone();
            scope.spawn(move || produce(number, parcels, &senders));
        }
        drop(senders);
        let consumers: Vec<_> = receivers
            .into_iter()
            .map(|receiver| scope.spawn(move || consume(&receiver)))
            .collect();
        consumers
            .into_iter()
            .map(|consumer| consumer.join().expect("a consumer does not panic"))
            .sum()
    })
}

fn produce(number: usize, parcels: usize, consumers: &[SyncSender<Vec<Piece>>]) {
    let mut random = Random::new(number as u64);
    for parcel in 0..parcels {
        let blocks = (0..PARCEL)
            .map(|_| Piece::new(random.between(8, 512)))
            .collect();
        let consumer = &consumers[(number + parcel) % consumers.len()];
        consumer.send(blocks).expect("consumers stay to the end");
    }
}

fn consume(parcels: &Receiver<Vec<Piece>>) -> u64 {
    free_all(parcels.iter().flatten())
}
