//! One shrinker: its place in the list, its settings, its counters, and the cache behind it. What is done when a walk visits
//! it is in `visit`.
//!
//! The cache is a box of its own that the unregistering thread takes out and drops; what is retired to seize is only
//! the record, which owns nothing of a user's. So no user's destructor ever runs where seize happens to reclaim.

pub(crate) mod visit;

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr as Plain, AtomicU32, AtomicU64, Ordering};

use crate::counters::Counters;
use crate::deferred::Deferred;
use crate::frames::frames;
use crate::holder::Holder;
use crate::lateness::Lateness;
use crate::memory::RegisterError;
use crate::name::Name;
use crate::per_node::PerNode;
use crate::shrink::{Lane, Shrink};
use crate::state::State;
use crate::stats::ShrinkerStats;
use crate::sync::{AtomicPtr, now_ns};
use crate::times::Times;

/// What the owner of a shrinker chose.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Settings {
    pub(crate) node_aware: bool,
    pub(crate) value: u8,
    pub(crate) class: u8,
    pub(crate) lane: Lane,
    /// At first: the record has those of now.
    pub(crate) seeks: u32,
    pub(crate) batch: usize,
    /// In nanoseconds.
    pub(crate) deadline: u64,
    pub(crate) name: Name,
}

/// One shrinker, in three parts: what hardly changes, and all read; what the one inside writes; what those write who come in
/// vain. Between them lies more than a cache line of what is hardly used: so nobody who passes by takes anything from the one
/// inside but the state word, when he looks at it. (Alignment would do the same, but costs more to allocate.)
#[repr(C)]
pub(crate) struct Record {
    /// The next record. Kept intact when this one is unlinked (I4 in `list`).
    pub(crate) next: AtomicPtr<Record>,
    /// Rises along the list. Written under the lock, before the record can be reached.
    id: AtomicU64,
    /// `Some` from preparation to the end of unregistering. Shared by whoever is in the callbacks; exclusive once it is
    /// condemned and nobody is in them.
    cache: UnsafeCell<Option<Box<dyn Shrink>>>,
    /// Where it runs now.
    asynchronous: AtomicBool,
    /// A callback panicked: none is called any more.
    quarantined: AtomicBool,
    /// What an object costs to make again, as far as its owner knows by now.
    seeks: AtomicU32,
    settings: Settings,
    /// The record before; in limbo, the one below. Only for writers, under the lock; walkers never read it.
    pub(crate) prev: Plain<Record>,
    _apart: [u64; 2],
    pub(crate) state: State,
    holder: Holder,
    /// Times that a walk called it.
    calls: AtomicU64,
    times: Times,
    deferred: PerNode<Deferred>,
    /// When the last visit began that asked for everything and got nothing.
    vain: PerNode<AtomicU64>,
    lateness: Lateness,
    counters: Counters,
    /// Walks that passed over it because another thread was inside. A figure.
    skipped_busy: AtomicU64,
    _alone: [u64; 6],
}

// SAFETY: every field but `cache` is atomic or constant; `cache` holds a `Sync` value, shared only by holders of a
// reference that is busy, and taken out (it is `Send`) only when there is none any more (I8 in `list`).
unsafe impl Sync for Record {}
// SAFETY: the box in `cache` is `Send`; the links are only ever followed under the rules of `chain`.
unsafe impl Send for Record {}

impl Record {
    pub(crate) fn new(settings: Settings, cache: Box<dyn Shrink>) -> Result<Self, RegisterError> {
        Ok(Self {
            state: State::new(),
            next: AtomicPtr::new(ptr::null_mut()),
            id: AtomicU64::new(0),
            holder: Holder::new(),
            asynchronous: AtomicBool::new(settings.lane == Lane::Async),
            quarantined: AtomicBool::new(false),
            seeks: AtomicU32::new(settings.seeks),
            calls: AtomicU64::new(0),
            lateness: Lateness::new(),
            cache: UnsafeCell::new(Some(cache)),
            settings,
            counters: Counters::default(),
            times: Times::new(),
            deferred: PerNode::new(settings.node_aware, Deferred::new)?,
            vain: PerNode::new(settings.node_aware, AtomicU64::default)?,
            skipped_busy: AtomicU64::new(0),
            prev: Plain::new(ptr::null_mut()),
            _apart: [0; 2],
            _alone: [0; 6],
        })
    }

    pub(crate) fn id(&self) -> u64 {
        // Relaxed: written before the record was linked, and C1 carries it.
        self.id.load(Ordering::Relaxed)
    }

    pub(crate) fn set_id(&self, id: u64) {
        // Relaxed: as above.
        self.id.store(id, Ordering::Relaxed);
    }

    pub(crate) fn name(&self) -> &Name {
        &self.settings.name
    }

    pub(crate) fn node_aware(&self) -> bool {
        self.settings.node_aware
    }

    pub(crate) fn value(&self) -> u8 {
        self.settings.value
    }

    /// The class it belongs to, as a mask of one bit.
    pub(crate) fn class_bit(&self) -> u8 {
        1 << self.settings.class
    }

    pub(crate) fn seeks(&self) -> u32 {
        // Relaxed: a number that stands for itself; a visit that reads the old one has begun before.
        self.seeks.load(Ordering::Relaxed)
    }

    pub(crate) fn set_seeks(&self, seeks: u32) {
        // Relaxed: as above.
        self.seeks.store(seeks, Ordering::Relaxed);
    }

    /// Where it runs now.
    pub(crate) fn lane(&self) -> Lane {
        // Relaxed: who reads an old answer calls it there once more.
        match self.asynchronous.load(Ordering::Relaxed) {
            true => Lane::Async,
            false => Lane::Sync,
        }
    }

    /// Whether it runs in another lane than its owner chose.
    pub(crate) fn was_moved(&self) -> bool {
        self.lane() != self.settings.lane
    }

    /// Whether work was put off.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred.iter().any(|deferred| deferred.get() > 0)
    }

    /// Whether it may be called: a callback that panicked is not.
    pub(crate) fn in_service(&self) -> bool {
        // Relaxed: asked by the one who is busy with it, whose Acquire sees what the last one wrote before he left.
        !self.quarantined.load(Ordering::Relaxed)
    }

    /// Books a walk that found another thread in the callbacks.
    pub(crate) fn was_busy(&self) {
        // Relaxed: a figure.
        self.skipped_busy.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is worth waiting for the one inside, for a walk that has asked for everything and got nothing since `since`.
    /// It is not when another found it empty meanwhile, nor when that one is stuck.
    pub(crate) fn is_pending(&self, node: u32, since: u64) -> bool {
        // Relaxed: one who sees an older figure asks once more.
        let empty = self.vain.at(node).load(Ordering::Relaxed) > since;
        !empty && !self.holder.is_stuck(now_ns(), self.settings.deadline)
    }

    /// Says that this thread is in the callbacks, from `now` on. It holds a reference that is busy.
    pub(crate) fn hold(&self, now: u64) {
        self.holder.enter(now);
    }

    /// Out of the callbacks, into a visitor that may take long: lets others in.
    pub(crate) fn leave(&self) {
        // The next one may be busy already when this thread forks, and have not yet said so.
        self.holder.leave();
        self.state.leave();
    }

    /// Takes the cache out, to be dropped.
    ///
    /// # Safety
    /// The record was condemned and its callbacks have returned (or it was never published), and no other thread takes the
    /// cache.
    pub(crate) unsafe fn take_cache(&self) -> Option<Box<dyn Shrink>> {
        // SAFETY: only who is in the callbacks borrows it, and nobody is or will be: this is the only borrow.
        let cache = unsafe { &mut *self.cache.get() };
        cache.take()
    }

    /// In a forked child: forgets the threads that do not exist here.
    pub(crate) fn repair(&self) {
        let frames = frames(self);
        // Who left the callbacks for good is still named, until somebody else comes in.
        let ours = frames > 0 && self.holder.is_here();
        self.state.repair(frames, ours);
    }

    /// A snapshot of its settings and counters.
    pub(crate) fn stats(&self) -> ShrinkerStats {
        let deferred = self.deferred.iter().map(Deferred::get);
        let mut stats = ShrinkerStats {
            seeks: self.seeks(),
            batch: self.settings.batch,
            node_aware: self.settings.node_aware,
            value: self.settings.value,
            class: self.settings.class,
            lane: self.lane(),
            moved: self.was_moved(),
            deferred: deferred.fold(0, usize::saturating_add),
            time_ns_total: self.times.total(),
            time_ns_p50: self.times.percentile(50),
            time_ns_p99: self.times.percentile(99),
            time_ns_max: self.times.max(),
            ..ShrinkerStats::new(self.settings.name, self.id())
        };
        self.counters.copy_to(&mut stats);
        // Relaxed, all: figures.
        stats.calls = self.calls.load(Ordering::Relaxed);
        stats.quarantined = self.quarantined.load(Ordering::Relaxed);
        stats.skipped_busy = self.skipped_busy.load(Ordering::Relaxed);
        let seen = self.state.holders();
        (stats.references, stats.dying) = (seen.references, seen.dying);
        if seen.busy {
            stats.held_by = self.holder.number();
            stats.held_ns = self.holder.age(now_ns());
        }
        stats
    }
}
