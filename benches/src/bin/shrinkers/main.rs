//! The list of shrinkers beside lists under an `RwLock`, under a mutex, and with a grace period: churn, walks, callbacks that
//! hang, removal under fire, and whether a request ever fails while there is something to free. And what comes back of what a
//! cache evicts.
//!
//! `cargo run --release -p ebb-benches --bin shrinkers [-- seconds [name...]]`: so many seconds for each measurement, one
//! unless said. What is compared takes turns within a run, many times and for a short while each; shown is the median.

mod cases;
mod eviction;
mod lists;
mod waits;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebb_shrinker::{Count, Scan, Shrink, ShrinkControl};

use crate::lists::{Graceful, List, Lockless, Mutexed, RwLocked};

/// Threads that register and unregister.
const CHURNERS: usize = 9;

/// Rounds in which everything that is compared takes its turn, for an equal part of the time.
const ROUNDS: usize = 11;

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

/// What came of threads that churn and threads that walk the same list.
struct Figures {
    churns: f64,
    walks: f64,
    /// Shrinkers called.
    visits: f64,
    refused: f64,
    latencies: Vec<u64>,
}

/// `churners` register and unregister, `walkers` walk, for so long. Per second.
fn both(list: &dyn List, churners: usize, walkers: usize, time: Duration) -> Figures {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(churners + walkers + 1));
    let [walks, visits, refused] = [(); 3].map(|()| AtomicU64::new(0));
    // Relaxed, everywhere: figures, and when to stop.
    let running = || !stop.load(Ordering::Relaxed);
    let (seconds, latencies) = thread::scope(|scope| {
        let churns: Vec<_> = (0..churners)
            .map(|_| {
                scope.spawn(|| {
                    let mut latencies = Vec::with_capacity(1 << 20);
                    start.wait();
                    while running() {
                        latencies.push(list.churn().as_nanos() as u64);
                    }
                    latencies
                })
            })
            .collect();
        for _ in 0..walkers {
            scope.spawn(|| {
                start.wait();
                while running() {
                    match list.walk() {
                        Some(called) => {
                            visits.fetch_add(called as u64, Ordering::Relaxed);
                            walks.fetch_add(1, Ordering::Relaxed)
                        }
                        None => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        start.wait();
        let begin = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let seconds = begin.elapsed().as_secs_f64();
        let all = churns
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default());
        (seconds, all.collect::<Vec<_>>())
    });
    Figures {
        churns: latencies.len() as f64 / seconds,
        walks: walks.into_inner() as f64 / seconds,
        visits: visits.into_inner() as f64 / seconds,
        refused: refused.into_inner() as f64 / seconds,
        latencies,
    }
}

/// All lists, each with so many shrinkers on it.
fn lists(shrinkers: usize, callback: Duration) -> [Box<dyn List>; 4] {
    let lists: [Box<dyn List>; 4] = [
        Box::new(Lockless::default()),
        Box::new(Mutexed::default()),
        Box::new(RwLocked::default()),
        Box::new(Graceful::default()),
    ];
    for list in &lists {
        (0..shrinkers).for_each(|_| list.add(Sleeper(callback)));
    }
    lists
}

/// B1, B1x, B2: what churn costs alone, beside a callback that takes its time, and beside walks over many shrinkers.
fn churn(
    name: &str,
    churners: usize,
    shrinkers: usize,
    slow: Option<Duration>,
    walkers: usize,
    time: Duration,
) {
    println!(
        "{name}: {churners} register and unregister, {walkers} walk over {shrinkers} shrinkers"
    );
    let lists = lists(shrinkers, Duration::ZERO);
    for list in &lists {
        slow.into_iter().for_each(|time| list.add(Sleeper(time)));
    }
    let mut rounds: Vec<Vec<Figures>> = lists.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (list, figures) in lists.iter().zip(&mut rounds) {
            figures.push(both(&**list, churners, walkers, time / ROUNDS as u32));
        }
    }
    let rate = |figures: &Vec<Figures>| median(figures.iter().map(|one| one.churns).collect());
    let ours = rate(&rounds[0]);
    for (list, figures) in lists.iter().zip(rounds) {
        let (churns, walks) = (
            rate(&figures),
            median(figures.iter().map(|one| one.walks).collect()),
        );
        let all = figures.into_iter().flat_map(|one| one.latencies).collect();
        println!(
            "  {:<13} {churns:>9.0} churns/s (lockless: {:.2} of it), {walks:>8.0} walks/s; unregister {}",
            list.name(),
            ours / churns,
            Latencies::new(all).show()
        );
    }
}

/// B3: walks by several threads, with and without somebody who registers. What counts is how many shrinkers are called: a
/// walk passes over those in which another thread is.
fn walks(time: Duration) {
    println!(
        "B3: threads walk, beside them others register and unregister; shrinkers called, walks refused, and at last churns \
         (lockless, rwlock), each per ms"
    );
    for (shrinkers, callback) in [(4001, 0), (64, 0), (1, 0), (64, 50)] {
        let crowds: &[_] = match callback {
            0 => &[(1, 0), (2, 0), (4, 0), (2, 1), (4, 1), (4, CHURNERS)],
            _ => &[(1, 0), (4, 0), (4, 1), (16, 1), (16, CHURNERS)],
        };
        for (walkers, churners) in crowds.iter().copied() {
            walk_beside(
                shrinkers,
                Duration::from_micros(callback),
                walkers,
                churners,
                time,
            );
        }
    }
}

fn walk_beside(
    shrinkers: usize,
    callback: Duration,
    walkers: usize,
    churners: usize,
    time: Duration,
) {
    let lists = lists(shrinkers, callback);
    let mut rounds: Vec<Vec<Figures>> = lists.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (list, figures) in lists.iter().zip(&mut rounds).take(3) {
            figures.push(both(&**list, churners, walkers, time / ROUNDS as u32));
        }
    }
    let rate = |index: usize, what: fn(&Figures) -> f64| {
        median(rounds[index].iter().map(what).collect()) / 1e3
    };
    let [ours, mutexed, locked] = [0, 1, 2].map(|index| rate(index, |one| one.visits));
    println!(
        "  {shrinkers:>4} shrinkers of {callback:?}, {walkers:>2} walk, {churners} churn: lockless {ours:>6.0} \
         mutex {mutexed:>6.0} rwlock {locked:>6.0} ({:>6.0} refused); {:.2} times the rwlock; churns {:>5.0} and {:>5.0}",
        rate(2, |one| one.refused),
        ours / locked,
        rate(0, |one| one.churns),
        rate(2, |one| one.churns),
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    let names: Vec<_> = arguments.collect();
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
    }
    if wanted("B7") {
        cases::run(1_000_000);
    }
    if wanted("B8") {
        waits::starvation(time);
    }
}
