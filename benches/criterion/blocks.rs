//! Operations of a single thread.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use ebb_benches::{Block, Ebbmalloc, Random, Subject, System};

use crate::Mimalloc;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// The shortest life: allocate, write a byte, free.
pub(crate) fn pair(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("small pair");
    for size in [8, 16, 32, 64, 128, 256, 512, 1024] {
        pair_of::<Ebbmalloc>(&mut group, size);
        pair_of::<System>(&mut group, size);
        pair_of::<Mimalloc>(&mut group, size);
    }
}

fn pair_of<S: Subject>(group: &mut Group<'_>, size: usize) {
    group.bench_function(BenchmarkId::new(S::NAME, size), |bencher| {
        bencher.iter(|| drop(black_box(Block::<S>::new(black_box(size)))));
    });
}

/// A hundred blocks of 64 bytes, freed in the order they came, and the other way round.
pub(crate) fn batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of 100");
    group.throughput(Throughput::Elements(100));
    batch_of::<Ebbmalloc>(&mut group);
    batch_of::<System>(&mut group);
    batch_of::<Mimalloc>(&mut group);
}

fn batch_of<S: Subject>(group: &mut Group<'_>) {
    let mut blocks: Vec<Block<S>> = Vec::with_capacity(100);
    group.bench_function(
        BenchmarkId::new(S::NAME, "first in, first out"),
        |bencher| {
            bencher.iter(|| {
                blocks.extend((0..100).map(|_| Block::new(black_box(64))));
                blocks.drain(..).for_each(drop);
            });
        },
    );
    group.bench_function(BenchmarkId::new(S::NAME, "last in, first out"), |bencher| {
        bencher.iter(|| {
            blocks.extend((0..100).map(|_| Block::new(black_box(64))));
            while let Some(block) = blocks.pop() {
                drop(block);
            }
        });
    });
}

/// A thousand blocks of 8 bytes to 8 KiB, most of them small; one at a time is replaced at random.
pub(crate) fn mixed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mixed sizes");
    mixed_of::<Ebbmalloc>(&mut group);
    mixed_of::<System>(&mut group);
    mixed_of::<Mimalloc>(&mut group);
}

fn mixed_of<S: Subject>(group: &mut Group<'_>) {
    let mut random = Random::new(1);
    let mut blocks: Vec<Block<S>> = (0..1000).map(|_| Block::new(random.small_size())).collect();
    group.bench_function(S::NAME, |bencher| {
        bencher.iter(|| {
            let place = random.below(blocks.len());
            blocks[place] = Block::new(random.small_size());
        });
    });
}

/// A block that grows as a `Vec` does, 16 bytes to 1 MiB by doubling, and one that grows by a tenth each time.
pub(crate) fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("realloc growth");
    growth_of::<Ebbmalloc>(&mut group);
    growth_of::<System>(&mut group);
    growth_of::<Mimalloc>(&mut group);
}

fn growth_of<S: Subject>(group: &mut Group<'_>) {
    group.bench_function(BenchmarkId::new(S::NAME, "by doubling"), |bencher| {
        bencher.iter(|| grow::<S>(|size| size * 2));
    });
    group.bench_function(BenchmarkId::new(S::NAME, "by a tenth"), |bencher| {
        bencher.iter(|| grow::<S>(|size| size + size / 10 + 1));
    });
}

fn grow<S: Subject>(next: impl Fn(usize) -> usize) -> Block<S> {
    let mut size = 16;
    let mut block = Block::new(size);
    while size < 1 << 20 {
        size = next(size);
        block.resize(size);
    }
    block
}
