//! What is said when an allocation fails for good: everything one needs to see why; and in one line when one was not allowed to.
//! Written without allocating, line by line to standard error, each at most once in [`PAUSE_NS`].

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ebb_shrinker::{ShrinkerStats, lock_order};

use crate::os::{self, Line};
use crate::snapshot;
use crate::stats::{ClassStats, Stats};
use crate::tally::SHRINKERS;

/// The least time between two reports, in nanoseconds.
const PAUSE_NS: u64 = 10_000_000_000;

/// How many size classes and shrinkers are named.
const TOP: usize = 10;

/// Whether anything is written.
static ON: AtomicBool = AtomicBool::new(true);
/// When the next report of a failure may be written.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// When the next line may be written about an allocation that was not allowed to fail.
static NEXT_FORCED: AtomicU64 = AtomicU64::new(0);
/// Failures that were not reported since the last one that was.
static SILENT: AtomicU64 = AtomicU64::new(0);

/// Switches the reports on standard error on or off; they are on at first. There are four kinds: when an allocation
/// fails although everything was tried, when one is charged beyond the budget because it may not fail
/// ([`Mode::NoFail`](crate::Mode::NoFail)), when a shrinker is moved to the reclaim thread for being late, and when a lock is
/// seen to be a deadlock in waiting ([`lock_order`]). Of the first two kinds there is one in ten seconds at most.
///
/// An allocation under a [`mode`](crate::mode()) that tries less hard fails without a report, and so does one where there is
/// neither a budget nor a shrinker.
pub fn set_reports(on: bool) {
    // Relaxed: a switch.
    ON.store(on, Ordering::Relaxed);
    lock_order::set_reports(on);
}

/// What the last round of a reclaim did.
pub(crate) struct RoundFigures {
    pub(crate) visited: usize,
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    pub(crate) stopped: usize,
    pub(crate) skipped: usize,
    pub(crate) waited_in_vain: bool,
}

fn say(text: fmt::Arguments<'_>) {
    Line::new(format_args!("ebbmalloc: {text}\n")).write();
}

fn is_on() -> bool {
    // Relaxed: a switch.
    ON.load(Ordering::Relaxed)
}

/// Whether it is time for another report of the kind that this is about.
fn is_due(due: &AtomicU64) -> bool {
    let now = os::now_ns();
    // Relaxed, all: only one of several at once gets through; nothing else is carried.
    let next = due.load(Ordering::Relaxed);
    now >= next
        && due
            .compare_exchange(next, now + PAUSE_NS, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

/// Says that an allocation which may not fail was served whatever the budget.
pub(crate) fn forced() {
    if is_on() && is_due(&NEXT_FORCED) {
        let stats = snapshot::stats();
        say(format_args!(
            "an allocation that may not fail did not fit: backed {} of a budget of {}; so far {} such, {} bytes over the budget",
            stats.backed, stats.budget, stats.reclaim.forced, stats.reclaim.bytes_forced
        ));
    }
}

/// Says that a shrinker was moved to the reclaim thread.
pub(crate) fn moved(name: &str) {
    if is_on() {
        say(format_args!(
            "shrinker {name:?} overran its deadline three times in a row; it runs on the reclaim thread from now on"
        ));
    }
}

/// Reports an allocation that fails for good: it lacked so many bytes (0: not the budget but the system refused).
pub(crate) fn write(lacking: usize, last: &RoundFigures) {
    let stats = snapshot::stats();
    let wanted = is_on() && (stats.budget > 0 || !SHRINKERS.is_empty());
    if !wanted || !is_due(&NEXT) {
        // Relaxed: a figure.
        SILENT.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let silent = SILENT.swap(0, Ordering::Relaxed);
    match lacking {
        0 => say(format_args!(
            "out of memory: the system or a node's budget gives no more"
        )),
        bytes => say(format_args!("out of memory: {bytes} bytes over the budget")),
    }
    totals(&stats, silent);
    say(format_args!(
        "  last round: {} shrinkers called, {} objects and {} bytes freed, {} stopped, {} busy{}",
        last.visited,
        last.objects,
        last.bytes,
        last.stopped,
        last.skipped,
        match last.waited_in_vain {
            true => "; the reclaim thread is stuck",
            false => "",
        }
    ));
    for node in stats.known_nodes() {
        say(format_args!(
            "  node {}: {} bytes backed of a budget of {}, {} of them free",
            node.node, node.backed, node.budget, node.free_spans
        ));
    }
    classes(&stats);
    shrinkers("bytes freed", |shrinker| shrinker.bytes);
    shrinkers("time taken", |shrinker| shrinker.time_ns_total);
}

fn totals(stats: &Stats, silent: u64) {
    say(format_args!(
        "  backed {} of a budget of {} (reserve {}); in use {}, cached {}, free spans {}, mapped {}, metadata {}",
        stats.backed,
        stats.budget,
        stats.reserve,
        stats.in_use,
        stats.cached,
        stats.free_spans,
        stats.mapped,
        stats.metadata
    ));
    let reclaim = &stats.reclaim;
    say(format_args!(
        "  so far: {} reclaims, {} satisfied, {} failed ({silent} without a report), {} bytes credited, {} freed in excess",
        reclaim.reclaims,
        reclaim.satisfied,
        reclaim.failed,
        reclaim.bytes_credited,
        reclaim.bytes_excess
    ));
}

/// The size classes that hold most.
fn classes(stats: &Stats) {
    let bytes = |class: &ClassStats| class.size * class.in_use;
    let mut last = (u64::MAX, 0);
    for _ in 0..TOP {
        let classes = stats.used_classes().map(|class| (bytes(class), class.size));
        // The next one, in falling order; no two classes have the same size.
        let Some(next) = classes.filter(|class| *class < last && class.0 > 0).max() else {
            return;
        };
        let (bytes, size) = next;
        say(format_args!(
            "  size {size}: {} objects, {bytes} bytes in use",
            bytes / size
        ));
        last = next;
    }
}

/// The shrinkers that have most of `what`.
fn shrinkers(what: &str, key: impl Fn(&ShrinkerStats) -> u64) {
    let mut top: [Option<ShrinkerStats>; TOP] = [None; TOP];
    SHRINKERS.for_each(&mut |shrinker| {
        let mut moving = Some(*shrinker);
        for place in &mut top {
            if place.as_ref().map(&key) < moving.as_ref().map(&key) {
                core::mem::swap(place, &mut moving);
            }
        }
    });
    for shrinker in top.iter().flatten() {
        say(format_args!(
            "  by {what}: {:?} calls {} scanned {} freed {} objects {} bytes, stops {} busy {} late {} deferred {}, \
             {} us in all, {} us at most",
            shrinker.name(),
            shrinker.calls,
            shrinker.scanned,
            shrinker.objects,
            shrinker.bytes,
            shrinker.stops,
            shrinker.skipped_busy,
            shrinker.overruns,
            shrinker.deferred,
            shrinker.time_ns_total / 1000,
            shrinker.time_ns_max / 1000
        ));
    }
}
