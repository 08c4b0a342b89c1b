//! How long allocations take while a program grows steadily in a full budget: with a soft limit, and without.

use std::thread;
use std::time::{Duration, Instant};

use ebbmalloc::SoftLimit;

use crate::Latencies;
use crate::caches::{Caches, block};

/// The size of a block, in bytes.
const SIZE: usize = 64 << 10;

/// What the program grows by, in bytes, before it gives that up, and rests so that the caches grow again.
const HELD: usize = 32 << 20;
const REST: Duration = Duration::from_millis(50);

/// The time from one block to the next: 320 MB a second.
const PACE: Duration = Duration::from_micros(200);

/// Percentages of the budget; 0 is no soft limit.
const LIMITS: [u8; 3] = [0, 95, 90];

/// With one soft limit after the other, so many seconds each, all allocations are timed.
pub(crate) fn run(caches: &Caches, seconds: f64) {
    println!("steady growth, a block of 64 KiB each 0.2 ms; all allocations:");
    for limit in LIMITS {
        let percent = (limit > 0).then_some(SoftLimit::Percent(limit));
        ebbmalloc::purge();
        caches.grow();
        ebbmalloc::set_soft_limit(percent);
        let before = ebbmalloc::stats().reclaim;
        let latencies = grow(Duration::from_secs_f64(seconds));
        let after = ebbmalloc::stats().reclaim;
        println!(
            "  soft limit {limit:>2} %: {:>6} blocks, {} refused, {} had to reclaim; p50 {:.1} p99 {:.1} p99.9 {:.1} max {:.1} us; \
             objects left {:?}",
            latencies.all.len(),
            latencies.refused,
            after.reclaims - before.reclaims,
            latencies.at(50_000),
            latencies.at(99_000),
            latencies.at(99_900),
            latencies.at(100_000),
            caches.len(),
        );
        ebbmalloc::set_soft_limit(None);
    }
}

fn grow(time: Duration) -> Latencies {
    let mut latencies = Latencies {
        size: SIZE,
        all: Vec::with_capacity(1 << 20),
        refused: 0,
    };
    let mut held = Vec::with_capacity(HELD / SIZE + 1);
    let begin = Instant::now();
    while begin.elapsed() < time {
        if held.len() * SIZE >= HELD {
            held.clear();
            thread::sleep(REST);
        }
        let start = Instant::now();
        let taken = block(SIZE);
        latencies.all.push(start.elapsed().as_nanos() as u64);
        latencies.refused += u64::from(taken.is_none());
        held.extend(taken);
        while start.elapsed() < PACE {
            thread::yield_now();
        }
    }
    latencies.all.sort_unstable();
    latencies
}
