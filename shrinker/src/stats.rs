//! What is counted per shrinker, and the snapshot that users see.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::pressure::Outcome;
use crate::shrink::Lane;

/// The longest name kept, in bytes.
const NAME_MAX: usize = 32;

/// A short name, held by value so that showing it never allocates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Name {
    /// The name, cut at the last whole character that fits.
    pub(crate) fn new(name: &str) -> Self {
        let len = name.floor_char_boundary(NAME_MAX);
        let mut bytes = [0; NAME_MAX];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Always valid: it was cut at a character's end.
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A snapshot of one registered shrinker: its settings and what it has done so far.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ShrinkerStats {
    pub(crate) name: Name,
    /// A number that no other shrinker of the list has or had.
    pub id: u64,
    /// What an object costs to make again.
    pub seeks: u32,
    /// Objects per `scan` call.
    pub batch: usize,
    /// Whether it is called once per NUMA node.
    pub node_aware: bool,
    /// How dear its content is; lower values are asked first.
    pub value: u8,
    /// The class by which [`Walk::without`](crate::Walk::without) passes it over.
    pub class: u8,
    /// Where its callbacks run now.
    pub lane: Lane,
    /// It was moved there, because it overran its deadline time and again.
    pub moved: bool,
    /// Times that a walk called it (one `count`, and the `scan` calls that followed).
    pub calls: u64,
    /// `scan` calls.
    pub scans: u64,
    /// Objects looked at.
    pub scanned: u64,
    /// Objects freed.
    pub objects: u64,
    /// Bytes freed, as far as the cache knows.
    pub bytes: u64,
    /// Times it answered [`Scan::Stop`](crate::Scan::Stop).
    pub stops: u64,
    /// Times a walk passed it over because another thread was in it.
    pub skipped_busy: u64,
    /// Calls whose figures could not be true, or that used up their scan calls.
    pub misreports: u64,
    /// Times it panicked: 0 or 1.
    pub panics: u64,
    /// It panicked and is not called any more.
    pub quarantined: bool,
    /// Times its work was broken off because the walk's time was up.
    pub timeouts: u64,
    /// Calls in which a callback overran its deadline.
    pub overruns: u64,
    /// Work put off to later walks, all nodes together: in bytes, or in objects where it never said how large they are.
    pub deferred: usize,
    /// Time spent in its callbacks, in nanoseconds.
    pub time_ns_total: u64,
    /// Half of the callbacks took no longer, in nanoseconds, to the next power of two.
    pub time_ns_p50: u64,
    /// 99 of 100 callbacks took no longer, in nanoseconds, to the next power of two.
    pub time_ns_p99: u64,
    /// The longest single callback, in nanoseconds.
    pub time_ns_max: u64,
}

impl ShrinkerStats {
    /// A snapshot in which nothing has happened yet.
    pub(crate) fn new(name: Name, id: u64) -> Self {
        Self {
            name,
            id,
            seeks: 0,
            batch: 0,
            node_aware: false,
            value: 0,
            class: 0,
            lane: Lane::Sync,
            moved: false,
            calls: 0,
            scans: 0,
            scanned: 0,
            objects: 0,
            bytes: 0,
            stops: 0,
            skipped_busy: 0,
            misreports: 0,
            panics: 0,
            quarantined: false,
            timeouts: 0,
            overruns: 0,
            deferred: 0,
            time_ns_total: 0,
            time_ns_p50: 0,
            time_ns_p99: 0,
            time_ns_max: 0,
        }
    }

    /// The name it was registered under, at most 32 bytes of it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// The live counters behind a snapshot. All Relaxed: nothing is concluded from them about other memory.
#[derive(Default)]
pub(crate) struct Counters {
    calls: AtomicU64,
    scans: AtomicU64,
    scanned: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    stops: AtomicU64,
    skipped_busy: AtomicU64,
    misreports: AtomicU64,
    panics: AtomicU64,
    timeouts: AtomicU64,
    overruns: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    // Relaxed: see Counters.
    counter.fetch_add(n, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    // Relaxed: see Counters.
    counter.load(Ordering::Relaxed)
}

impl Counters {
    /// Books one call.
    pub(crate) fn called(&self, outcome: &Outcome) {
        add(&self.calls, 1);
        add(&self.scans, outcome.calls as u64);
        add(&self.scanned, outcome.scanned as u64);
        add(&self.objects, outcome.objects as u64);
        add(&self.bytes, outcome.bytes as u64);
        add(&self.stops, u64::from(outcome.stopped));
        add(&self.misreports, u64::from(outcome.misreported));
        add(&self.timeouts, u64::from(outcome.timed_out));
        add(&self.overruns, u64::from(outcome.overran));
    }

    /// Books a walk that passed over a busy shrinker.
    pub(crate) fn busy(&self) {
        add(&self.skipped_busy, 1);
    }

    /// Books a panic; it is the end of the shrinker's service.
    pub(crate) fn panicked(&self) {
        add(&self.panics, 1);
    }

    /// Whether it has panicked.
    pub(crate) fn quarantined(&self) -> bool {
        get(&self.panics) != 0
    }

    /// Copies the counters into `stats`.
    pub(crate) fn copy_to(&self, stats: &mut ShrinkerStats) {
        stats.calls = get(&self.calls);
        stats.scans = get(&self.scans);
        stats.scanned = get(&self.scanned);
        stats.objects = get(&self.objects);
        stats.bytes = get(&self.bytes);
        stats.stops = get(&self.stops);
        stats.skipped_busy = get(&self.skipped_busy);
        stats.misreports = get(&self.misreports);
        stats.panics = get(&self.panics);
        stats.quarantined = self.quarantined();
        stats.timeouts = get(&self.timeouts);
        stats.overruns = get(&self.overruns);
    }
}
