//! Waiting: for what is said to wait for nobody (B4), and for one callback and nothing else (B8). Beside each stands the
//! same without any shrinker: what the machine's own scheduling does to it.

use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ebb_shrinker::{
    Count, Registration, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk,
};

use crate::{Latencies, Sleeper};

/// Threads that hammer one shrinker.
const HAMMERERS: usize = 16;

/// How long its callback sleeps.
const CALLBACK: Duration = Duration::from_millis(2);

fn ns(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

fn list() -> &'static ShrinkerList {
    Box::leak(Box::default())
}

fn walk(list: &ShrinkerList) -> usize {
    let report = list.walk(&Walk::default(), &mut |_| ControlFlow::Continue(()));
    report.skipped_busy
}

/// Registers, walks and unregisters as long as `slow` is in its callback: what each took, and looking at the clock alone.
fn beside(slow: &Registration, list: &'static ShrinkerList) -> [Vec<u64>; 4] {
    let mut all = [const { Vec::new() }; 4];
    while slow.stats().held_by != 0 {
        let start = Instant::now();
        let Ok(other) = Shrinker::new("other").register(list, Sleeper(Duration::ZERO)) else {
            break;
        };
        all[0].push(ns(start));
        let start = Instant::now();
        if walk(list) == 1 {
            all[1].push(ns(start));
        }
        let start = Instant::now();
        drop(other);
        all[2].push(ns(start));
        // A microsecond of nothing.
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(1) {}
        all[3].push(ns(start));
    }
    all
}

/// B4: others register, unregister and walk while a callback sleeps.
pub(crate) fn blocked(time: Duration) {
    let list = list();
    let Ok(slow) = Shrinker::new("slow").register(list, Sleeper(time * 5)) else {
        return;
    };
    let sleeper = thread::spawn(|| walk(list));
    while slow.stats().held_by == 0 {
        thread::yield_now();
    }
    let all = beside(&slow, list);
    println!(
        "B4: beside a callback that sleeps {:?}, {} times each:",
        time * 5,
        all[1].len()
    );
    let what = ["register", "walk", "unregister", "1 us of nothing"];
    for (what, all) in what.into_iter().zip(all) {
        println!("  {what:<15} {}", Latencies::new(all).show());
    }
    let _ = sleeper.join();
}

/// A cache whose callback sleeps, and that knows how long the longest took.
struct Measured(Arc<AtomicU64>);

/// Sleeps, and keeps the longest time.
fn sleep(longest: &AtomicU64) {
    let start = Instant::now();
    thread::sleep(CALLBACK);
    // Relaxed: a figure.
    longest.fetch_max(ns(start), Ordering::Relaxed);
}

impl Shrink for Measured {
    fn count(&self, _: &ShrinkControl) -> Count {
        sleep(&self.0);
        Count::Empty
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

/// How long something took; and how much of it this thread could have run and had no processor.
struct Wait {
    all: u64,
    unscheduled: u64,
}

impl Wait {
    fn of(f: impl FnOnce()) -> Self {
        let (before, start) = (unscheduled(), Instant::now());
        f();
        let all = ns(start);
        Self {
            all,
            unscheduled: unscheduled().saturating_sub(before),
        }
    }
}

/// How long this thread could have run and had no processor, so far; 0 where the system does not say.
fn unscheduled() -> u64 {
    let figures = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let second = figures.split_whitespace().nth(1);
    second.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// While so many threads `hammer`, `remove` again and again, which says how long it waited and the longest callback.
fn hammered(time: Duration, hammer: &(dyn Fn() + Sync), mut remove: impl FnMut() -> (Wait, u64)) {
    let stop = AtomicBool::new(false);
    let (mut waits, mut beyond, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    thread::scope(|scope| {
        for _ in 0..HAMMERERS {
            scope.spawn(|| {
                // Relaxed: when to stop.
                while !stop.load(Ordering::Relaxed) {
                    hammer();
                    // Where there is nothing to do nobody is kept busy.
                    thread::yield_now();
                }
            });
        }
        let begin = Instant::now();
        while begin.elapsed() < time * 3 {
            let (wait, longest) = remove();
            waits.push(wait.all);
            beyond.push(wait.all.saturating_sub(longest));
            ours.push(wait.all.saturating_sub(longest + wait.unscheduled));
        }
        // Relaxed: as above.
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "{} times, {}; beyond the longest callback {}; without what the waiting thread waited for a processor {}",
        waits.len(),
        Latencies::new(waits).show(),
        Latencies::new(beyond).show(),
        Latencies::new(ours).show()
    );
}

/// B8: unregistering a shrinker that 16 threads call as fast as they can.
pub(crate) fn starvation(time: Duration) {
    println!("B8: {HAMMERERS} threads call a callback of {CALLBACK:?}; waiting for its end:");
    let list = list();
    print!("  unregister:         ");
    let hammer = || {
        walk(list);
    };
    hammered(time, &hammer, || {
        let longest = Arc::new(AtomicU64::new(0));
        let spec = Shrinker::new("hammered").deadline(Duration::MAX);
        let registered = spec.register(list, Measured(longest.clone()));
        thread::sleep(Duration::from_millis(5));
        let wait = Wait::of(|| drop(registered));
        (wait, longest.load(Ordering::Relaxed))
    });
    print!("  a mutex, no list:   ");
    let (mutex, dying) = (Mutex::new(()), AtomicBool::new(false));
    let longest = AtomicU64::new(0);
    let hammer = || {
        // Relaxed: late comers are let in once more.
        if !dying.load(Ordering::Relaxed)
            && let Ok(_held) = mutex.try_lock()
        {
            sleep(&longest);
        }
    };
    hammered(time, &hammer, || {
        longest.store(0, Ordering::Relaxed);
        dying.store(false, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
        let wait = Wait::of(|| {
            dying.store(true, Ordering::Relaxed);
            drop(mutex.lock().unwrap_or_else(PoisonError::into_inner));
        });
        (wait, longest.load(Ordering::Relaxed))
    });
}
