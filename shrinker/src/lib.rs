//! A lockless list of shrinkers: caches that give memory back when it runs short.
//!
//! A cache implements [`Shrink`]: `count` says how many objects it could free, `scan` frees some. It is registered
//! on a [`ShrinkerList`]. Whoever runs short of memory walks the list at falling priorities (12, gentle, down to 0,
//! everything) until enough came back. The contract and the arithmetic are those of the Linux kernel's shrinkers
//! (`count_objects`, `scan_objects`, seeks, batch, deferred work); so is the lockless walk, with reference counts and
//! `seize` where the kernel has reference counts and RCU.
//!
//! ```text
//!   Shrinker::new("thumbnails")      ShrinkerList          head -> record -> record -> record
//!        | seeks, batch, node_aware       |                          ^
//!        | prepare: takes all memory      | walk: guard, try_get,    | next: kept intact when unlinked
//!        v                                |       leave guard,       |
//!     Prepared --register: infallible-----+       CALL count, scan, -+-> Box<dyn Shrink>  (the cache)
//!        |                                |       guard, put, next
//!        v                                v
//!   Registration --unregister: dying, wait for running callbacks, unlink, drop the cache, retire the record
//! ```
//!
//! # Example
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::sync::Mutex;
//! use ebb_shrinker::{Count, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk};
//!
//! struct Pages(Mutex<Vec<[u8; 4096]>>);
//!
//! impl Shrink for Pages {
//!     fn count(&self, _: &ShrinkControl) -> Count {
//!         self.0.try_lock().map_or(Count::Unknown, |pages| Count::of(pages.len()))
//!     }
//!     fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
//!         let Ok(mut pages) = self.0.try_lock() else { return Scan::Stop };
//!         let keep = pages.len().saturating_sub(ctl.to_scan());
//!         let objects = pages.len() - keep;
//!         pages.truncate(keep);
//!         Scan::Freed { objects, bytes: objects * 4096 }
//!     }
//! }
//!
//! static LIST: ShrinkerList = ShrinkerList::new();
//! let cache = Pages(Mutex::new(vec![[0; 4096]; 300]));
//! let registration = Shrinker::new("pages").register(&LIST, cache)?;
//!
//! let walk = Walk { priority: 0, ..Walk::default() };
//! let report = LIST.walk(&walk, &mut |_| ControlFlow::Continue(()));
//! assert_eq!(report.bytes, 300 * 4096);
//! drop(registration);
//! assert!(LIST.is_empty());
//! # Ok::<(), ebb_shrinker::RegisterError>(())
//! ```
//!
//! # What a callback may do
//!
//! It runs in the middle of a failing allocation of any thread: try-lock only, allocate as little as possible, never
//! block. It never runs twice at the same time for one shrinker. It may register other shrinkers. It cannot unregister
//! itself. Unregistering another waits for that one's callbacks: two that do it to each other wait for ever.
//! A walk in the middle of a callback calls nothing, so an allocation that fails there just fails.
//!
//! # Layers
//!
//! Each file imports only from files above it:
//! `sync` (std or loom, and the clock), `memory` < `lock`, `state`, `frames`, `epoch` (seize), `credit`, `times`,
//! `lateness`, `holder`, `deferred`, `per_node`, `values`, `walks` < `lock_order` (a check of locks), `shrink` (the trait) <
//! `callee`, `plan` (arithmetic) < `pressure` < `name`, `stats` < `counters` < `record` (one shrinker) < `limbo` (what is
//! to be retired) < `chain` (the links) < `reference` < `walk` (the types of a walk) < `walker` (its steps) < `list` (and
//! their proof) < `drop_caches`, `snapshot`, `removal`, `fork` < `retirement` < `registration` < `spec` < `conformance`, with which
//! authors of caches test them.

use std::time::Duration;

#[forbid(unsafe_code)]
mod callee;
mod chain;
#[forbid(unsafe_code)]
pub mod conformance;
#[forbid(unsafe_code)]
mod counters;
#[forbid(unsafe_code)]
mod credit;
#[forbid(unsafe_code)]
mod deferred;
#[forbid(unsafe_code)]
mod drop_caches;
mod epoch;
mod fork;
mod frames;
#[forbid(unsafe_code)]
mod holder;
#[forbid(unsafe_code)]
mod lateness;
mod limbo;
mod list;
#[forbid(unsafe_code)]
mod lock;
#[forbid(unsafe_code)]
pub mod lock_order;
mod memory;
#[forbid(unsafe_code)]
mod name;
#[forbid(unsafe_code)]
mod per_node;
#[forbid(unsafe_code)]
mod plan;
#[forbid(unsafe_code)]
mod pressure;
mod record;
mod reference;
mod registration;
mod removal;
mod retirement;
#[forbid(unsafe_code)]
mod shrink;
#[forbid(unsafe_code)]
mod snapshot;
mod spec;
mod state;
#[forbid(unsafe_code)]
mod stats;
mod sync;
#[forbid(unsafe_code)]
mod times;
#[forbid(unsafe_code)]
mod values;
#[forbid(unsafe_code)]
mod walk;
mod walker;
#[forbid(unsafe_code)]
mod walks;

pub use credit::{Claim, Credit};
#[doc(hidden)]
pub use drop_caches::drop_rounds;
pub use epoch::{thread_exiting, thread_must_not_fail};
pub use list::ShrinkerList;
pub use memory::RegisterError;
#[doc(hidden)]
pub use name::Name;
pub use registration::{Registration, UnregisterError};
pub use retirement::Retirement;
pub use shrink::{Count, Lane, Scan, Shrink, ShrinkControl};
pub use spec::{Prepared, Shrinker};
pub use stats::{Fault, ShrinkerStats};
pub use walk::{Visit, Walk, WalkReport};

/// What an object costs to make again when the owner does not say: twice the cost of one disk seek, as in the kernel.
pub const DEFAULT_SEEKS: u32 = 2;

/// How many objects one `scan` call is asked for when the owner does not say.
pub const DEFAULT_BATCH: usize = 128;

/// The [`value`](Shrinker::value) of a shrinker whose owner does not say: neither worthless nor dear.
pub const DEFAULT_VALUE: u8 = 4;

/// The highest [`value`](Shrinker::value): asked last of all.
pub const MAX_VALUE: u8 = 8;

/// How many [classes](Shrinker::class) of shrinkers are told apart.
pub const CLASSES: u8 = 8;

/// How long one callback of the [sync lane](Lane::Sync) may take when the owner does not say.
pub const DEFAULT_DEADLINE: Duration = Duration::from_millis(20);

/// The gentlest priority: 1/4096 of a cache. A reclaimer starts here and goes down to 0, everything.
pub const DEF_PRIORITY: u8 = 12;

/// How many NUMA nodes have deferred work of their own; nodes beyond share the slots.
pub const MAX_NODES: usize = 64;
