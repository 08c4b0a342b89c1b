//! Blocks that one thread allocates and another frees.

use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ebb_benches::{Block, Ebbmalloc, Subject, System};

use crate::Mimalloc;

/// How many blocks are handed over at once.
const PARCEL: usize = 100;

/// How many parcels may be under way: the threads then seldom wait for each other.
const UNDER_WAY: usize = 16;

/// A producer and a consumer: each parcel of 100 blocks of 64 bytes is freed by the other thread.
pub(crate) fn handed_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cross-thread");
    group.throughput(Throughput::Elements(PARCEL as u64));
    handed_over_by::<Ebbmalloc>(&mut group);
    handed_over_by::<System>(&mut group);
    handed_over_by::<Mimalloc>(&mut group);
}

fn handed_over_by<S: Subject>(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.bench_function(S::NAME, |bencher| bencher.iter_custom(parcels::<S>));
}

/// The time that `count` parcels take. The vectors that carry them go round, so that only blocks are allocated.
fn parcels<S: Subject>(count: u64) -> Duration {
    let (full, to_free) = sync_channel::<Vec<Block<S>>>(UNDER_WAY);
    let (empty, to_fill) = sync_channel(UNDER_WAY);
    for _ in 0..UNDER_WAY {
        empty
            .send(Vec::with_capacity(PARCEL))
            .expect("there is room for all");
    }
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            for mut parcel in to_free {
                parcel.clear();
                // The producer may have gone with its last parcel.
                let _ = empty.send(parcel);
            }
        });
        for _ in 0..count {
            let mut parcel = to_fill
                .recv()
                .expect("the consumer stays until we are gone");
            parcel.extend((0..PARCEL).map(|_| Block::new(black_box(64))));
            full.send(parcel)
                .expect("the consumer stays until we are gone");
        }
        drop(full);
    });
    begin.elapsed()
}
