//! B1, B2, B3: crowds of threads on one list, some of which register and unregister while others walk.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::lists::{Graceful, List, Lockless, Mutexed, RwLocked};
use crate::{Latencies, Sleeper, median};

/// Threads that register and unregister.
pub(crate) const CHURNERS: usize = 9;

/// Rounds in which everything that is compared takes its turn, for an equal part of the time.
const ROUNDS: usize = 41;

/// What came of threads that churn and threads that walk the same list.
struct Figures {
    churns: f64,
    walks: f64,
    /// Shrinkers called.
    visits: f64,
    refused: f64,
    /// Processors that those who walk got.
    processors: f64,
    latencies: Vec<u64>,
}

/// What this thread has had of a processor, in seconds.
fn processor_time() -> f64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0.0, |usage| {
        [usage.user_time(), usage.system_time()]
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .iter()
            .sum()
    })
}

/// `churners` register and unregister, `walkers` walk, for so long. Per second.
fn both(list: &dyn List, churners: usize, walkers: usize, time: Duration) -> Figures {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(churners + walkers + 1));
    let [walks, visits, refused, nanos] = [(); 4].map(|()| AtomicU64::new(0));
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
                let before = processor_time();
                // Counted apart: what walkers share would be the lists' own.
                let (mut walked, mut called, mut turned_away) = (0, 0, 0);
                while running() {
                    match list.walk() {
                        Some(all) => (walked, called) = (walked + 1, called + all as u64),
                        None => turned_away += 1,
                    }
                }
                let used = processor_time() - before;
                walks.fetch_add(walked, Ordering::Relaxed);
                visits.fetch_add(called, Ordering::Relaxed);
                refused.fetch_add(turned_away, Ordering::Relaxed);
                nanos.fetch_add((used * 1e9) as u64, Ordering::Relaxed);
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
        processors: nanos.into_inner() as f64 / 1e9 / seconds,
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
pub(crate) fn churn(
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
pub(crate) fn walks(time: Duration) {
    println!(
        "B3: threads walk, beside them others register and unregister; shrinkers called, walks refused, and churns (lockless, \
         rwlock), each per ms; at last shrinkers called per ms of a processor that those who walk got"
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
         mutex {mutexed:>6.0} rwlock {locked:>6.0} ({:>6.0} refused); {:.2} times the rwlock; churns {:>5.0} and {:>5.0}; \
         for their time {:>6.0} and {:>6.0}",
        rate(2, |one| one.refused),
        ours / locked,
        rate(0, |one| one.churns),
        rate(2, |one| one.churns),
        rate(0, |one| one.visits / one.processors),
        rate(2, |one| one.visits / one.processors),
    );
}
