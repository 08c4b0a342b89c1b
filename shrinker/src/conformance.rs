//! Does a cache keep the contract of [`Shrink`]? Hand it to a [`Trial`], and read what is wrong in words.
//!
//! ```
//! use std::sync::Mutex;
//! use ebb_shrinker::conformance::Trial;
//! use ebb_shrinker::{Count, Scan, Shrink, ShrinkControl};
//!
//! struct Pages(Mutex<Vec<Box<[u8; 4096]>>>);
//!
//! impl Shrink for Pages {
//!     fn count(&self, _: &ShrinkControl) -> Count {
//!         self.0.try_lock().map_or(Count::Unknown, |pages| Count::of(pages.len()).each(4096))
//!     }
//!     fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
//!         let Ok(mut pages) = self.0.try_lock() else { return Scan::Stop };
//!         let keep = pages.len().saturating_sub(ctl.to_scan());
//!         let objects = pages.drain(keep..).count();
//!         Scan::Freed { objects, bytes: objects * 4096 }
//!     }
//! }
//!
//! let report = Trial::new(|| Pages(Mutex::new(Vec::new())))
//!     .fill(|cache, objects| cache.0.lock().unwrap().extend((0..objects).map(|_| Box::new([0; 4096]))))
//!     .locked(|cache, meanwhile| {
//!         let _lock = cache.0.lock();
//!         meanwhile();
//!     })
//!     .run();
//! assert!(report.is_clean(), "{report}");
//! ```
//!
//! Where the cache's locks are of [`lock_order`](crate::lock_order) it is also seen that a callback waits for one that nobody
//! holds, without [`locked`](Trial::locked).
//!
//! A trial takes about half a second, a few more where something blocks, and threads of its own. A callback that never returns is left behind on its thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::DEFAULT_DEADLINE;
use crate::shrink::Shrink;

/// How many objects a cache is filled with.
const OBJECTS: usize = 1000;

/// Who has not answered after this long is taken to block.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many calls in a row that are late are the cache's fault. One proves nothing: the thread may have been off its CPU.
const LATE: usize = 3;

mod calls;
mod race;
mod steps;

type Fill<C> = dyn Fn(&C, usize) + Send + Sync;
type Locked<C> = dyn Fn(&C, &mut dyn FnMut()) + Send + Sync;
type Allocations = dyn Fn() -> usize + Send + Sync;

/// A cache on trial: how to make one, and what the trial may know about it.
#[must_use = "nothing is tried until `run` is called"]
pub struct Trial<C> {
    make: Box<dyn Fn() -> C + Send + Sync>,
    fill: Option<Arc<Fill<C>>>,
    locked: Option<Arc<Locked<C>>>,
    allocations: Option<Arc<Allocations>>,
    deadline: Duration,
    /// Late calls in a row, of `count` and of `scan`.
    late: [AtomicUsize; 2],
}

/// What a trial found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    faults: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// What is wrong, each in a sentence.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn add(&mut self, fault: impl Into<String>) {
        let fault = fault.into();
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return writeln!(out, "the shrinker keeps the contract, as far as was tried");
        }
        writeln!(out, "the shrinker breaks the contract:")?;
        self.faults
            .iter()
            .try_for_each(|fault| writeln!(out, "- {fault}"))
    }
}

impl<C: Shrink + 'static> Trial<C> {
    /// `make` makes an empty cache; several are made.
    pub fn new(make: impl Fn() -> C + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            fill: None,
            locked: None,
            allocations: None,
            deadline: DEFAULT_DEADLINE,
            late: Default::default(),
        }
    }

    /// How to insert so many objects, none of them in use. Without it `make` makes full caches, and no cache is filled
    /// again.
    pub fn fill(mut self, fill: impl Fn(&C, usize) + Send + Sync + 'static) -> Self {
        self.fill = Some(Arc::new(fill));
        self
    }

    /// How to call something with all locks held that users of the cache take. Without it nobody sees whether the callbacks
    /// take them by trying alone.
    pub fn locked(mut self, locked: impl Fn(&C, &mut dyn FnMut()) + Send + Sync + 'static) -> Self {
        self.locked = Some(Arc::new(locked));
        self
    }

    /// How many allocations this thread has made so far, where an allocator counts them. Without it nobody sees whether the
    /// callbacks allocate.
    pub fn allocations(mut self, count: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        self.allocations = Some(Arc::new(count));
        self
    }

    /// How long one callback may take; [`DEFAULT_DEADLINE`] unless said. Three in a row that take longer are too many.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Tries everything that it knows how to try.
    ///
    /// # Panics
    /// When a thread cannot be started, or `make` or `fill` panic.
    #[must_use]
    pub fn run(&self) -> Report {
        let mut report = Report::default();
        let steps = [
            Self::counts,
            Self::scans,
            Self::drains,
            Self::locks,
            Self::races,
        ];
        for step in steps {
            // What blocks or panics once would do so in every step.
            if report.is_clean() {
                step(self, &mut report);
            }
        }
        report
    }
}

impl<C> fmt::Debug for Trial<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Trial")
            .field("fill", &self.fill.is_some())
            .field("locked", &self.locked.is_some())
            .field("allocations", &self.allocations.is_some())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
