//! ebbmalloc: a memory allocator that gives memory back before it gives up.
//!
//! Per-NUMA-node slabs behind per-CPU sheaves; a budget on memory that the system really backs; and, when an
//! allocation would exceed the budget or the system has none left, a lockless list of shrinkers: registered caches
//! free objects, the memory is credited to the request that asked, and it is tried again. Only then is it refused.
//!
//! ```
//! use std::sync::Mutex;
//! use ebbmalloc::{Count, EbbMalloc, Scan, Shrink, ShrinkControl, Shrinker};
//!
//! #[global_allocator]
//! static ALLOCATOR: EbbMalloc = EbbMalloc;
//!
//! struct Cache(Mutex<Vec<Box<[u8; 4096]>>>);
//!
//! impl Shrink for Cache {
//!     fn count(&self, _: &ShrinkControl) -> Count {
//!         self.0.try_lock().map_or(Count::Unknown, |pages| Count::of(pages.len()))
//!     }
//!     fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
//!         let Ok(mut pages) = self.0.try_lock() else { return Scan::Stop };
//!         let keep = pages.len().saturating_sub(ctl.to_scan());
//!         let freed = pages.drain(keep..).count();
//!         Scan::Freed { objects: freed, bytes: freed * 4096 }
//!     }
//! }
//!
//! ebbmalloc::set_budget(Some(64 << 20));
//! let cache = Cache(Mutex::new((0..4000).map(|_| Box::new([0; 4096])).collect()));
//! let registration = ebbmalloc::register(Shrinker::new("pages"), cache)?;
//! // 56 MiB do not fit beside the cache's 16 MiB, so the cache is asked to give some back.
//! let mut buffer: Vec<u8> = Vec::new();
//! buffer.try_reserve_exact(56 << 20)?;
//! assert!(registration.stats().objects > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who needs what
//!
//! - A program: [`EbbMalloc`] as its global allocator; [`set_budget`], or `EBB_BUDGET=256M` in its environment
//!   ([`init_from_environment`] has all variables).
//! - A cache: [`Shrink`], whose documentation says what the two functions may do, and [`register`]; [`SlabCache`], so that
//!   what it evicts comes back.
//! - Whoever watches: [`stats()`], [`Registration::stats`], [`write_stats`]; [`pressure()`] and
//!   [`on_pressure`]; [`shrinkers`], to scan them by hand.
//! - Bindings and code that manages memory by hand: [`raw`].
//!
//! # When there is no memory
//!
//! Under the budget or at all, and after reclaim: the allocation gives null. So `try_reserve` and the other fallible
//! functions of the standard library give an error, and the infallible ones end the process, as with any allocator. Code
//! that could not go on goes over the budget ([`Mode::NoFail`]). No function of this crate panics, except to pass on a panic of
//! the caller's own code. What can be seen to be no valid free ends the process with one line on standard error.
//!
//! # The picture
//!
//! ```text
//!  alloc(size)                                     free(ptr)
//!     │  size -> class                                │  address -> class, node (window, one load)
//!  ┌──▼──────────────────────────────────────────────▼──┐
//!  │ cpus     a sheaf per CPU and class, popped and      │  restartable sequences (os::percpu): no lock,
//!  │          pushed in place; a second, full one        │  no locked instruction, no thread state
//!  └──┬──────────────────────────────────────────────┬──┘
//!     │ a sheaf                                      │ a full sheaf
//!  ┌──▼──────────────────────────────────────────────▼──┐
//!  │ node     shards, one per CPU of the NUMA node; per  │  one short lock per shard and class
//!  │          class there: a barn of full sheaves;       │
//!  │          partly used slabs; bitmaps                 │
//!  └──┬──────────────────────────────────────────────┬──┘
//!     │ a run of slices                              │ an empty slab
//!  ┌──▼──────────────────────────────────────────────▼──┐
//!  │ arena    per node: units of 2 MiB in 32 KiB slices, │  charged to the budget here
//!  │          committed and purged                       │
//!  └─────────────────────────────────────────────────────┘
//!  larger than 2 MiB: mapping (mmap, mremap, munmap)
//!
//!  nothing left: reclaim ── drain, purge ── walk the shrinkers (ebb-shrinker) ── retry ── null
//! ```
//!
//! # Layers
//!
//! A file imports only from files above it in this list; a test (`tests/layers.rs`) holds that.
//!
//! | layer | files |
//! | --- | --- |
//! | plain | `bytes`, `config`, `silence`, `tally` |
//! | platform | `os` |
//! | tools | `size_class`, `list`, `ring`, `lock`, `sysfs`, `container`, `scope`, `hooks`, `pace`, `cache_debug` |
//! | | `watch` |
//! | | `distances` |
//! | | `topology` |
//! | accounting | `level`, `torture`, `tide` |
//! | | `account`, `limits` |
//! | | `request` |
//! | | `budget`, `soft` |
//! | | `keep` |
//! | memory | `slab`, `sheaf`, `spare`, `window` |
//! | | `span_map` |
//! | | `units`, `pool`, `blocks`, `empties` |
//! | | `chunk` |
//! | | `idle` |
//! | | `arena` |
//! | | `purge` |
//! | | `shard` |
//! | | `node` |
//! | | `refill`, `put_back` |
//! | | `tables`, `placement`, `cache_home` |
//! | | `object_cache`, `place` |
//! | | `cache_watch` |
//! | | `cache_slabs`, `sparse` |
//! | | `cache_traffic` |
//! | | `apart` |
//! | | `caches` |
//! | | `cpus`, `drain`, `backing` |
//! | | `mapping` |
//! | figures | `cache_stats`, `stats` |
//! | | `snapshot`, `forms` |
//! | | `report`, `write` |
//! | policy | `depth`, `threads` |
//! | | `give_back`, `listeners` |
//! | | `ahead` |
//! | | `background` |
//! | | `round` |
//! | | `reclaim` |
//! | | `commands` |
//! | life | `console` |
//! | | `fork` |
//! | | `start` |
//! | front | `heap` |
//! | | `resize` |
//! | | `numa`, `global`, `sparsest` |
//! | | `untyped_cache` |
//! | | `raw`, `control`, `slab_box` |
//! | | `slab_cache` |
//!
//! To follow one allocation read `global`, `heap`, `cpus`, `place`, `refill`, `shard`, `pool`, `arena`, `units`,
//! `os`; to follow one reclaim, `heap`, `reclaim`, `round`, then `ebb_shrinker`'s `list`; object caches begin at
//! `object_cache`, and how they are debugged at `cache_watch`.

mod account;
mod ahead;
mod apart;
mod arena;
mod background;
mod backing;
mod blocks;
mod budget;
mod bytes;
mod cache_debug;
mod cache_home;
mod cache_slabs;
mod cache_stats;
mod cache_traffic;
mod cache_watch;
mod caches;
mod chunk;
mod commands;
mod config;
mod console;
mod container;
mod control;
mod cpus;
mod depth;
mod distances;
mod drain;
mod empties;
mod fork;
mod forms;
mod give_back;
mod global;
mod heap;
mod hooks;
mod idle;
mod keep;
mod level;
mod limits;
mod list;
mod listeners;
mod lock;
mod mapping;
mod node;
mod numa;
mod object_cache;
mod os;
mod pace;
mod place;
mod placement;
mod pool;
mod purge;
mod put_back;
pub mod raw;
mod reclaim;
mod refill;
mod report;
mod request;
mod resize;
mod ring;
mod round;
mod scope;
mod shard;
mod sheaf;
mod silence;
mod size_class;
mod slab;
mod slab_box;
mod slab_cache;
mod snapshot;
mod soft;
mod span_map;
mod spare;
mod sparse;
mod sparsest;
mod start;
mod stats;
mod sysfs;
mod tables;
mod tally;
mod threads;
mod tide;
mod topology;
mod torture;
mod units;
mod untyped_cache;
mod watch;
mod window;
mod write;

pub use cache_debug::CacheDebug;
pub use cache_stats::{CacheStats, slab_caches};
pub use container::memory_limit;
pub use control::{
    backed, budget, drop_caches, node_budget, numa_policy, on_last_chance, prepare, purge, reclaim,
    register, reserve, scan, set_budget, set_node_budget, set_numa_policy, set_reserve,
    set_soft_limit, shrinkers,
};
pub use ebb_shrinker::*;
pub use global::EbbMalloc;
pub use keep::{keep, set_keep};
pub use level::{Pressure, pressure};
pub use listeners::on_pressure;
pub use report::set_reports;
pub use scope::{Mode, Scope, mode, no_reclaim, no_shrinker};
pub use slab_box::{Constructed, Fresh, Lifetime, SlabBox};
pub use slab_cache::SlabCache;
pub use snapshot::stats;
pub use soft::{SoftLimit, soft_limit};
pub use sparsest::{Occupancy, SparseSlab, Sparsest};
pub use start::init_from_environment;
pub use stats::{ClassStats, NodeStats, ReclaimStats, Stats};
pub use topology::NumaPolicy;
pub use untyped_cache::CacheError;
pub use write::{StatsFormat, write_stats};
