//! What is counted per shrinker.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::pressure::Outcome;
use crate::stats::{Fault, ShrinkerStats};
use crate::sync::now_ns;

/// The live counters behind a snapshot. All Relaxed: nothing is concluded from them about other memory. They are written by
/// the one in the callbacks (the busy mark sees to that), so there is no need for locked additions.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Counters {
    panics: AtomicU64,
    scans: AtomicU64,
    scanned: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    stops: AtomicU64,
    misreports: AtomicU64,
    timeouts: AtomicU64,
    overruns: AtomicU64,
    /// 0, or what went wrong last: its place in [`FAULTS`], and one.
    fault: AtomicU8,
    /// When that was, on the clock of `now_ns`.
    fault_at: AtomicU64,
}

/// In the order in which one call may meet with several.
const FAULTS: [Fault; 4] = [
    Fault::Misreport,
    Fault::Overrun,
    Fault::Timeout,
    Fault::Panic,
];

fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        // Relaxed: see Counters.
        counter.store(get(counter).wrapping_add(n), Ordering::Relaxed);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    // Relaxed: see Counters.
    counter.load(Ordering::Relaxed)
}

impl Counters {
    /// Books a visit in which anything was scanned, or that was late.
    pub(crate) fn scanned(&self, outcome: &Outcome) {
        add(&self.scans, outcome.calls as u64);
        add(&self.scanned, outcome.scanned as u64);
        add(&self.objects, outcome.objects as u64);
        add(&self.bytes, outcome.bytes as u64);
        add(&self.stops, u64::from(outcome.stopped));
        add(&self.misreports, u64::from(outcome.misreported));
        add(&self.timeouts, u64::from(outcome.timed_out));
        add(&self.overruns, u64::from(outcome.overran));
        let faults = [outcome.misreported, outcome.overran, outcome.timed_out];
        for (index, _) in faults.iter().enumerate().filter(|(_, met)| **met) {
            self.fault(index);
        }
    }

    /// Books a panic; it is the end of the shrinker's service.
    pub(crate) fn panicked(&self) {
        add(&self.panics, 1);
        self.fault(FAULTS.len() - 1);
    }

    fn fault(&self, index: usize) {
        // Relaxed, both: figures.
        self.fault.store(index as u8 + 1, Ordering::Relaxed);
        self.fault_at.store(now_ns(), Ordering::Relaxed);
    }

    /// Copies the counters into `stats`.
    pub(crate) fn copy_to(&self, stats: &mut ShrinkerStats) {
        stats.scans = get(&self.scans);
        stats.scanned = get(&self.scanned);
        stats.objects = get(&self.objects);
        stats.bytes = get(&self.bytes);
        stats.stops = get(&self.stops);
        stats.misreports = get(&self.misreports);
        stats.panics = get(&self.panics);
        stats.timeouts = get(&self.timeouts);
        stats.overruns = get(&self.overruns);
        // Relaxed: a figure.
        let fault = usize::from(self.fault.load(Ordering::Relaxed));
        stats.last_error = fault
            .checked_sub(1)
            .and_then(|index| FAULTS.get(index))
            .copied();
        if stats.last_error.is_some() {
            stats.last_error_ns = now_ns().saturating_sub(get(&self.fault_at));
        }
    }
}
