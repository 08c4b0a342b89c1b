//! The contract of a cache: count what could be freed, scan and free some of it.
//!
//! The kernel mixes counts and special answers in one unsigned number, and was bitten by it; here they are enums.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::now_ns;

/// What [`Shrink::count`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Really nothing to free now.
    Empty,
    /// Cannot say now (a lock is held, say). The cache is passed over this time; its deferred work is kept.
    Unknown,
    /// Some objects could be freed. Objects that cannot be freed at this very moment count too.
    Objects {
        /// How many.
        objects: NonZeroUsize,
        /// Bytes per object, about; 0 when the cache does not know. Pressure is shared out by bytes where they are
        /// known, so that ten objects of a megabyte weigh as much as ten million of a byte.
        bytes_each: usize,
    },
}

impl Count {
    /// `n` objects of unknown size; [`Count::Empty`] when there are none.
    #[must_use]
    pub const fn of(n: usize) -> Self {
        match NonZeroUsize::new(n) {
            None => Self::Empty,
            Some(objects) => Self::Objects {
                objects,
                bytes_each: 0,
            },
        }
    }

    /// The same, of about `bytes` bytes per object: `Count::of(pages).each(4096)`.
    #[must_use]
    pub const fn each(self, bytes: usize) -> Self {
        match self {
            Self::Objects { objects, .. } => Self::Objects {
                objects,
                bytes_each: bytes,
            },
            other => other,
        }
    }
}

/// What [`Shrink::scan`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Some objects were looked at, and so many of them freed (perhaps none: all were in use).
    Freed {
        /// Objects freed.
        objects: usize,
        /// Bytes freed; 0 when the cache does not know (then what [`Count::each`] said is taken).
        bytes: usize,
    },
    /// No progress is possible here and now (a lock is held, say). The work is deferred to a later walk.
    Stop,
}

/// Where a shrinker's callbacks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// On the thread that is short of memory, in the middle of its allocation: they take locks only by trying, do not
    /// block, allocate as little as they can, and return within the [`deadline`](crate::Shrinker::deadline).
    #[default]
    Sync,
    /// On a reclaim thread, while those who are short of memory wait a little: they may block on locks, allocate some,
    /// and take long. For caches that are not made for the other lane, which are most.
    Async,
}

/// One question to a cache: where, how hard, how much. Which of its slabs are sparsest is no part of it: a cache of `ebbmalloc`
/// asks its `SlabCache` (`sparsest`, `occupancy`).
#[derive(Clone, Debug)]
pub struct ShrinkControl {
    node: u32,
    priority: u8,
    to_scan: usize,
    scanned: usize,
    goal: usize,
    until: u64,
}

impl ShrinkControl {
    /// A question as the walk asks it. Public so that a cache can be tested without a list.
    #[must_use]
    pub const fn new(node: u32, priority: u8, to_scan: usize) -> Self {
        Self {
            node,
            priority,
            to_scan,
            scanned: to_scan,
            goal: 0,
            until: u64::MAX,
        }
    }

    /// The same question with a [`goal`](Self::goal).
    #[must_use]
    pub const fn with_goal(mut self, bytes: usize) -> Self {
        self.goal = bytes;
        self
    }

    /// The NUMA node to shrink; always 0 for shrinkers that are not node-aware.
    #[must_use]
    pub const fn node(&self) -> u32 {
        self.node
    }

    /// How many objects to look at, at most. 0 while counting.
    #[must_use]
    pub const fn to_scan(&self) -> usize {
        self.to_scan
    }

    /// The same question, to be answered by `until` on the clock of `now_ns`.
    pub(crate) const fn with_deadline(mut self, until: u64) -> Self {
        self.until = until;
        self
    }

    /// How much time this callback has left. Who takes more than that several times is moved to the
    /// [other lane](Lane::Async). [`Duration::MAX`] there, where nobody hurries.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        match self.until {
            u64::MAX => Duration::MAX,
            until => Duration::from_nanos(until.saturating_sub(now_ns())),
        }
    }

    /// How many bytes the request still lacks, about; 0 when nobody knows. A hint: a cache may stop early once it has
    /// freed so many, and should not give up less because of it.
    #[must_use]
    pub const fn goal(&self) -> usize {
        self.goal
    }

    /// The priority of this walk: 12 is gentle, 0 is everything.
    #[must_use]
    pub const fn priority(&self) -> u8 {
        self.priority
    }

    /// Says how many objects were really *looked at*, freed or not. Without it all of [`to_scan`](Self::to_scan)
    /// count as looked at. A cache that could look at none should answer [`Scan::Stop`].
    pub const fn set_scanned(&mut self, n: usize) {
        self.scanned = n;
    }

    /// How many objects count as looked at.
    #[must_use]
    pub const fn scanned(&self) -> usize {
        self.scanned
    }
}

/// A cache that can give memory back.
///
/// Both functions run on whatever thread is short of memory, in the middle of its allocation, and that thread may hold
/// any lock:
///
/// - take locks only by trying; when one is taken answer [`Count::Unknown`] or [`Scan::Stop`];
/// - wait for nothing;
/// - allocate as little as possible, and expect it to fail: a walk is not begun inside a walk;
/// - do not panic. A panic is caught, and the cache is never called again.
///
/// They never run twice at the same time for one registration, and not at all once it was unregistered.
///
/// The first rule is [checked](crate::lock_order) in debug builds, for locks that take part.
///
/// The other side of it: while the cache's own lock is held, an allocation of the same thread cannot get
/// memory from this cache. Make objects before locking.
pub trait Shrink: Send + Sync {
    /// How many objects could be freed. Must be quick: it is asked far more often than `scan`. An estimate is fine.
    fn count(&self, ctl: &ShrinkControl) -> Count;

    /// Looks at up to [`ctl.to_scan()`](ShrinkControl::to_scan) objects, the least useful first, and frees what it can.
    /// Called only after `count` answered [`Count::Objects`].
    fn scan(&self, ctl: &mut ShrinkControl) -> Scan;
}

/// A cache that is shared with its users: register a clone of the `Arc`.
impl<T: Shrink + ?Sized> Shrink for Arc<T> {
    fn count(&self, ctl: &ShrinkControl) -> Count {
        (**self).count(ctl)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        (**self).scan(ctl)
    }
}
