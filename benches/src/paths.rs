//! The paths through an allocator, one by one: what a single operation takes when it goes that way.
//!
//! Meant for a machine whose clock advances by a nanosecond with each instruction, as a guest under QEMU can be told to
//! do; there the figures are instructions, the same in every run and on every host. Each includes the loop around the
//! operation, 5 to 10 instructions. What happens now and then (the timer's tick, a refill) is in some rounds and not in
//! others: the smallest of many rounds counts.

use std::alloc::Layout;
use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use crate::subject::{Block as BlockOf, Global};

type Block = BlockOf<Global>;

/// Rounds, of which the smallest counts.
const ROUNDS: usize = 12;

/// One way through the allocator.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// What it is called.
    pub name: &'static str,
    /// Operations in a round.
    operations: usize,
    /// One round: how long it took, in nanoseconds.
    round: fn(operations: usize) -> u64,
}

impl Path {
    const fn new(name: &'static str, operations: usize, round: fn(usize) -> u64) -> Self {
        Self {
            name,
            operations,
            round,
        }
    }

    /// Nanoseconds, or instructions, for one operation.
    #[must_use]
    pub fn measure(&self) -> f64 {
        let rounds = (0..ROUNDS).map(|_| (self.round)(self.operations));
        let clock = (0..ROUNDS).map(|_| timed(|| ()));
        let taken = rounds.min().unwrap_or(0) - clock.min().unwrap_or(0);
        taken as f64 / self.operations as f64
    }
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path::new("allocate and free 64 bytes", 1_000, |count| {
        pairs(count, 64)
    }),
    Path::new("allocate, of a batch of 100", 100, |count| {
        allocate(count, 64)
    }),
    Path::new("free, of a batch, last first", 100, |count| {
        free_last_first(count, 64)
    }),
    Path::new("free, of a batch, first first", 100, |count| {
        free_first_first(count, 64)
    }),
    Path::new("allocate and free 10,000: sheaves", 10_000, |count| {
        batch(count, 64)
    }),
    Path::new("allocate and free 100,000: slabs", 100_000, |count| {
        batch(count, 64)
    }),
    Path::new("allocate and free 16 KiB", 1_000, |count| {
        pairs(count, 16 << 10)
    }),
    Path::new("allocate and free 100 of 16 KiB", 100, |count| {
        batch(count, 16 << 10)
    }),
    Path::new("allocate and free 1 MiB", 100, |count| {
        pairs(count, 1 << 20)
    }),
    Path::new("allocate and free 4 MiB", 100, |count| {
        pairs(count, 4 << 20)
    }),
    Path::new("resize in place", 1_000, resize),
    Path::new("allocate zeroed and free 64 bytes", 1_000, zeroed),
    Path::new("allocate aligned and free 64 bytes", 1_000, aligned),
    Path::new("free on another thread", 1_000, free_elsewhere),
];

/// How long something takes, in nanoseconds.
fn timed<R>(body: impl FnOnce() -> R) -> u64 {
    let begin = Instant::now();
    black_box(body());
    begin.elapsed().as_nanos() as u64
}

fn layout(size: usize, align: usize) -> Layout {
    black_box(Layout::from_size_align(size, align).expect("a layout that a block can have"))
}

fn blocks(count: usize, size: usize) -> Vec<Block> {
    let layout = layout(size, 16);
    let mut blocks = Vec::with_capacity(count);
    blocks.extend((0..count).map(|_| Block::of(layout)));
    blocks
}

fn pairs(count: usize, size: usize) -> u64 {
    let layout = layout(size, 16);
    timed(|| (0..count).for_each(|_| drop(black_box(Block::of(layout)))))
}

fn allocate(count: usize, size: usize) -> u64 {
    let layout = layout(size, 16);
    let mut blocks: Vec<Block> = Vec::with_capacity(count);
    timed(|| blocks.extend((0..count).map(|_| Block::of(layout))))
}

fn free_last_first(count: usize, size: usize) -> u64 {
    let mut blocks = blocks(count, size);
    timed(|| while blocks.pop().is_some() {})
}

fn free_first_first(count: usize, size: usize) -> u64 {
    let mut blocks = blocks(count, size);
    timed(|| blocks.clear())
}

fn batch(count: usize, size: usize) -> u64 {
    let layout = layout(size, 16);
    let mut blocks: Vec<Block> = Vec::with_capacity(count);
    timed(|| {
        blocks.extend((0..count).map(|_| Block::of(layout)));
        blocks.clear();
    })
}

fn resize(count: usize) -> u64 {
    let mut block = Block::of(layout(100, 16));
    timed(|| (0..count).for_each(|number| block.resize(black_box(100 + number % 8))))
}

fn zeroed(count: usize) -> u64 {
    let layout = layout(64, 16);
    timed(|| (0..count).for_each(|_| drop(black_box(Block::zeroed(layout)))))
}

fn aligned(count: usize) -> u64 {
    let layout = layout(64, 64);
    timed(|| (0..count).for_each(|_| drop(black_box(Block::of(layout)))))
}

/// The other thread frees what this one allocated; only it is timed.
fn free_elsewhere(count: usize) -> u64 {
    let (sender, receiver) = sync_channel::<Vec<Block>>(1);
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            let mut blocks = receiver.recv().expect("this thread sends");
            timed(|| blocks.clear())
        });
        let sent = sender.send(blocks(count, 64));
        sent.expect("the other thread waits");
        other.join().expect("the other thread does not panic")
    })
}
