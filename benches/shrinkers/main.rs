//! The list of shrinkers beside lists under an `RwLock`, under a mutex, and with a grace period: churn, walks, callbacks that
//! hang, removal under fire, and whether a request ever fails while there is something to free. And what comes back of what a
//! cache evicts.
//!
//! `cargo bench --bench shrinkers [-- seconds [name...]]`: so many seconds for each measurement, one unless said; without
//! names all of them. What is compared takes turns within a run, many times and for a short while each; shown is the median.

mod cases;
mod crowds;
mod curve;
mod eviction;
mod lists;
mod piles;
mod requests;
mod waits;

use std::thread;
use std::time::Duration;

use ebb_benches::bench_arguments;
use ebb_shrinker::{Count, Scan, Shrink, ShrinkControl};

use crate::crowds::{CHURNERS, churn, walks};

/// Cases of B7 on the allocator, unless said.
const CASES: usize = 20_000;

/// A cache whose `count` takes so long, and that has nothing to free.
pub(crate) struct Sleeper(pub(crate) Duration);

impl Shrink for Sleeper {
    fn count(&self, _: &ShrinkControl) -> Count {
        if !self.0.is_zero() {
            thread::sleep(self.0);
        }
        Count::Empty
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

/// Latencies in nanoseconds, sorted.
struct Latencies(Vec<u64>);

impl Latencies {
    fn new(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The one that so many thousandths do not exceed, in microseconds.
    fn at(&self, thousandths: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0
            .get(last * thousandths / 1000)
            .map_or(0.0, |ns| *ns as f64 / 1000.0)
    }

    fn show(&self) -> String {
        format!(
            "p50 {:.1} p99 {:.1} p99.9 {:.1} max {:.1} us",
            self.at(500),
            self.at(990),
            self.at(999),
            self.at(1000)
        )
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

fn main() {
    let (seconds, names) = bench_arguments();
    let time = Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let wanted = |name: &str| names.is_empty() || names.iter().any(|one| one == name);
    if wanted("B1") {
        churn("B1", CHURNERS, 0, None, 0, time);
        churn("B1, alone", 1, 0, None, 0, time);
    }
    if wanted("B1x") {
        churn(
            "B1x, with a callback of 5 ms",
            CHURNERS,
            0,
            Some(Duration::from_millis(5)),
            1,
            time,
        );
    }
    if wanted("B2") {
        churn("B2", CHURNERS, 4001, None, 2, time);
    }
    if wanted("B3") {
        walks(time);
    }
    if wanted("B4") {
        waits::blocked(time);
    }
    if wanted("B6") {
        eviction::run();
        curve::run();
    }
    if wanted("B7") {
        cases::run(1_000_000);
        requests::run(0..CASES);
    }
    names
        .iter()
        .filter_map(|word| requests::named(word))
        .for_each(requests::run);
    if wanted("B8") {
        waits::starvation(time);
    }
}
