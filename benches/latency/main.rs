//! How long an allocation takes that would fail: three caches of 1,000,000 objects each fill the budget to the brim, a
//! thread goes on replacing objects, and another allocates. Timed is each allocation for which something had to be reclaimed.
//!
//! `cargo bench --bench latency [-- seconds [plot.svg] [unpaused] [growth]]`: so many seconds for each size of request, three unless
//! said. `unpaused`, the thread that replaces objects never sleeps. `growth` is about all allocations of a program that grows
//! steadily instead, with soft limits and without.

mod caches;
mod growth;
mod plot;

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebb_benches::bench_arguments;
use ebbmalloc::{EbbMalloc, Mode};

use crate::caches::{Caches, block};

#[global_allocator]
static ALLOCATOR: EbbMalloc = EbbMalloc;

/// The sizes of requests, in bytes.
const SIZES: [usize; 4] = [4 << 10, 64 << 10, 1 << 20, 8 << 20];

/// What the requests hold at most, in bytes, before they give it all up and the caches grow again.
const HELD: usize = 32 << 20;

/// The latencies of the requests of one size, in nanoseconds, sorted.
pub(crate) struct Latencies {
    size: usize,
    all: Vec<u64>,
    refused: u64,
}

impl Latencies {
    /// The one that so many of 100,000 do not exceed, in microseconds.
    fn at(&self, part: usize) -> f64 {
        let last = self.all.len().saturating_sub(1);
        let ns = self.all.get(last * part / 100_000);
        ns.map_or(0.0, |ns| *ns as f64 / 1000.0)
    }

    fn label(&self) -> String {
        match self.size >> 20 {
            0 => format!("{} KiB", self.size >> 10),
            mib => format!("{mib} MiB"),
        }
    }
}

/// Requests of `size`, for so long. Everything that comes without reclaiming is taken first, so that the budget is full
/// whenever the clock runs.
fn requests(caches: &Caches, size: usize, time: Duration) -> Latencies {
    let mut latencies = Latencies {
        size,
        all: Vec::with_capacity(1 << 20),
        refused: 0,
    };
    let mut held = Vec::with_capacity(HELD / size + 1);
    let begin = Instant::now();
    while begin.elapsed() < time {
        if held.len() * size >= HELD {
            held.clear();
            ebbmalloc::purge();
            caches.grow();
        }
        let scope = ebbmalloc::mode(Mode::NoWait);
        let free = block(size);
        drop(scope);
        if let Some(free) = free {
            held.push(free);
            continue;
        }
        let before = ebbmalloc::stats().reclaim;
        let start = Instant::now();
        let taken = block(size);
        let ns = start.elapsed().as_nanos() as u64;
        // The thread that uses the caches never reclaims: this was us.
        if ebbmalloc::stats().reclaim.reclaims > before.reclaims {
            latencies.all.push(ns);
            latencies.refused += u64::from(taken.is_none());
        }
        held.extend(taken);
    }
    latencies.all.sort_unstable();
    latencies
}

/// The latencies for each size.
fn all_requests(caches: &Caches, seconds: f64) -> Vec<Latencies> {
    println!("requests that had to reclaim:");
    let results = SIZES.map(|size| {
            let latencies = requests(caches, size, Duration::from_secs_f64(seconds));
            println!(
                "  {:>7}: {:>7} requests, {} refused; p50 {:.1} p99 {:.1} p99.9 {:.1} max {:.1} us; objects left {:?}",
                latencies.label(),
                latencies.all.len(),
                latencies.refused,
                latencies.at(50_000),
                latencies.at(99_000),
                latencies.at(99_900),
                latencies.at(100_000),
                caches.len(),
            );
            latencies
        });
    results.into()
}

fn main() -> Result<(), Box<dyn Error>> {
    let (seconds, words) = bench_arguments();
    let plot = words.iter().find(|word| word.ends_with(".svg"));
    let unpaused = words.iter().any(|word| word == "unpaused");
    let growth = words.iter().any(|word| word == "growth");
    if plot.is_none() && !unpaused && !growth && !words.is_empty() {
        // The names of other benchmarks, perhaps.
        println!(
            "latency: passed over, since {words:?} is neither seconds nor a file that ends in .svg nor `unpaused` nor `growth`"
        );
        return Ok(());
    }
    let seconds = seconds.unwrap_or(3.0);
    let caches = Caches::fill()?;
    let budget = ebbmalloc::backed();
    ebbmalloc::set_budget(Some(budget));
    println!(
        "3 caches of 1,000,000 objects of 64, 128 and 256 bytes in a budget of {} MiB, in use",
        budget >> 20
    );
    let stop = AtomicBool::new(false);
    let results = thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: when to stop.
            while !stop.load(Ordering::Relaxed) {
                caches.use_them();
                if !unpaused {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let results = if growth {
            growth::run(&caches, seconds);
            Vec::new()
        } else {
            all_requests(&caches, seconds)
        };
        // Relaxed: as above.
        stop.store(true, Ordering::Relaxed);
        results
    });
    ebbmalloc::set_budget(None);
    if let Some(plot) = plot {
        plot::draw(Path::new(plot), &results)?;
    }
    Ok(())
}
