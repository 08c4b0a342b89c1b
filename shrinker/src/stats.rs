//! The snapshot of a shrinker that users see.

use crate::name::Name;
use crate::shrink::Lane;

/// What can go wrong with a shrinker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Its figures could not be true, or it used up its scan calls.
    Misreport,
    /// A callback overran its deadline.
    Overrun,
    /// Its work was broken off because the walk's time was up.
    Timeout,
    /// A callback panicked; it is not called any more.
    Panic,
}

impl Fault {
    /// One word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Misreport => "misreport",
            Self::Overrun => "overrun",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
        }
    }
}

/// A snapshot of one registered shrinker: its settings and what it has done so far.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ShrinkerStats {
    pub(crate) name: Name,
    /// A number that no other shrinker of the list has or had.
    pub id: u64,
    /// What an object costs to make again, as was said last.
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
    /// What went wrong last, if anything did.
    pub last_error: Option<Fault>,
    /// How long ago that was, in nanoseconds; 0 when nothing did.
    pub last_error_ns: u64,
    /// How many walks hold a reference: they are in its callbacks, or in their visitor.
    pub references: u32,
    /// The system's number of the thread that is in its callbacks; 0 when none is.
    pub held_by: u32,
    /// How long that thread has been there, in nanoseconds.
    pub held_ns: u64,
    /// It is being unregistered or retired: what is still inside will be the last.
    pub dying: bool,
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
            last_error: None,
            last_error_ns: 0,
            references: 0,
            held_by: 0,
            held_ns: 0,
            dying: false,
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
