//! What a program can ask of the allocator besides memory.

use core::time::Duration;

use ebb_shrinker::{
    Count, Lane, Prepared, RegisterError, Registration, Scan, Shrink, ShrinkControl, Shrinker,
    ShrinkerList, WalkReport,
};

use crate::background;
use crate::give_back::give_back;
use crate::limits;
use crate::node;
use crate::numa;
use crate::os;
use crate::reclaim::{drop_caches as drop_all, on_demand, purge as purge_all};
use crate::soft::{self, SoftLimit};
use crate::start;
use crate::tally::{NOTIFIERS, SHRINKERS};
use crate::topology::{self, NumaPolicy};

/// Sets how many bytes the system may back for this process's heap at any time; `None` takes the limit away.
///
/// Counted is what the allocator got from the system and has not given back: blocks, what is kept for reuse, and its own
/// tables; not stacks, code or memory mapped by others. The list of shrinkers may exceed it for its own needs, by a few
/// pages as a rule, and by up to a KiB for each thread where many begin to reclaim when all is used up. A budget below what is
/// backed now is allowed: it holds for every allocation that would need more, the first of which has all that is too much
/// reclaimed, unless [`reclaim`] did it before.
pub fn set_budget(bytes: Option<usize>) {
    limits::set(bytes);
    soft::arm();
    background::look_ahead();
}

/// The budget in bytes, if there is one.
#[must_use]
pub fn budget() -> Option<usize> {
    limits::get()
}

/// Sets the part of the budget, in bytes, that ordinary allocations may not use. Those made inside shrinkers may use all of it,
/// as may those under [`no_reclaim`](crate::no_reclaim); those under [`Mode::NoWait`](crate::Mode::NoWait) five eighths. Unless
/// set it is a sixty-fourth of the budget, at least 64 KiB and at most 4 MiB.
pub fn set_reserve(bytes: usize) {
    limits::set_reserve(bytes);
}

/// The reserve in bytes; 0 without a budget, unless it was set.
#[must_use]
pub fn reserve() -> usize {
    limits::reserve()
}

/// Sets from how much memory on the registered caches are asked before there is need; `None`, as at first, is never.
///
/// When more is backed a reclaim thread, which is started then, gives back what is kept for reuse and asks the caches,
/// those of the lowest [`value`](Shrinker::value) and gently first, until a sixteenth less than the limit is backed or they have
/// given all that they are ready to give: so that allocations find room, and none of them has to wait for the caches. It
/// never asks for everything; that is for an allocation that would fail. Callbacks run as they do in the middle of an
/// allocation, but on that thread, under no lock of the program.
///
/// It has no effect where it is not below what ordinary allocations may have, the budget less the [`reserve`]: then they fail
/// first. Budgets of nodes do not count. May be changed at any time.
pub fn set_soft_limit(limit: Option<SoftLimit>) {
    limits::set_soft(limit.map_or(0, SoftLimit::form));
    soft::arm();
    background::look_ahead();
}

/// Bytes that the system backs now: what the budget limits. One relaxed load.
#[must_use]
pub fn backed() -> usize {
    limits::backed()
}

/// Sets how many bytes the NUMA node that the kernel calls `node` may back for blocks; `None` takes the limit away. False
/// when there is no such node.
///
/// Beyond it blocks come from the next nearest node. Of a block that is spread over all nodes each has its part. The
/// allocator's own tables count in the budget of the process alone.
pub fn set_node_budget(node: u32, bytes: Option<usize>) -> bool {
    let node = numa::with_id(node);
    node.inspect(|node| node.arena.account.set(bytes)).is_some()
}

/// The budget in bytes of the NUMA node that the kernel calls `node`, if there is one.
#[must_use]
pub fn node_budget(node: u32) -> Option<usize> {
    numa::with_id(node)?.arena.account.get()
}

/// What is done about NUMA nodes: chosen at the first allocation, see
/// [`init_from_environment`](crate::init_from_environment), or by [`set_numa_policy`].
#[must_use]
pub fn numa_policy() -> NumaPolicy {
    start::ensure();
    topology::machine().policy()
}

/// Sets what is done about NUMA nodes, for memory that the system backs from now on. What is kept for reuse goes back to it
/// first, as by [`purge`]; what is in use stays where it is, and a block larger than 2 MiB keeps the policy that it was made
/// under. Best called before there are threads: what others allocate at that moment may still go by the old one.
///
/// False, and nothing has changed, when that is [`NumaPolicy::Local`] and the process began with another: nodes are told
/// apart from the first allocation on or never. Under other policies a process that began with it refuses requests for
/// one node, as others do; its statistics by nodes then say which node's CPUs asked, and budgets of nodes hold for that.
pub fn set_numa_policy(policy: NumaPolicy) -> bool {
    let set = start::ensure() && topology::machine().set_policy(policy);
    if set {
        give_back(None);
        for node in node::all() {
            node.arena.place_again(node.number());
        }
    }
    set
}

/// Has one shrinker look at so many `objects` of `node`, by hand: [`ShrinkerList::scan`], in which the thread is not
/// cancelled (`pthread_cancel`), as in an allocation.
pub fn scan(id: u64, node: u32, objects: usize) -> Option<WalkReport> {
    let _uncancelled = os::Uncancelled::new();
    SHRINKERS.scan(id, node, objects)
}

/// Gives everything that is kept for reuse back to the system: how many bytes, about, since other threads go on
/// meanwhile. Calls no shrinker.
pub fn purge() -> usize {
    purge_all()
}

/// Asks the registered caches for memory before there is need: as an allocation does that lacks so many `bytes`, gently first,
/// until so many bytes less are backed or there is nothing left to be had; after [`purge`], which may be enough. How many
/// bytes less it were: fewer than that, where the caches have no more to give or are busy.
///
/// For a program that knows before the allocator does: its container's limit was lowered ([`memory_limit`](crate::memory_limit)
/// tells; a new [`set_budget`] alone frees nothing by itself), another process needs room, or a quiet hour has come. Works with
/// and without a budget. At most ten seconds; 0 at once inside a callback, and in scopes that do not reclaim.
pub fn reclaim(bytes: usize) -> usize {
    on_demand(bytes)
}

/// Asks the registered caches, in both lanes and of all nodes, for everything that they have, whatever it is worth, and gives it back to
/// the system with all that is kept for reuse: how many bytes less are backed then. What `echo 2 > /proc/sys/vm/drop_caches` is to
/// the kernel's caches: for measurements that begin with empty caches, to see what is not cache, or before a long sleep.
///
/// All are asked again until they free next to nothing, and what that is grows from time to time: a cache that is
/// filled meanwhile does not make it endless. One that another thread is in, or whose lock somebody holds, is waited for as by
/// an allocation, and may keep what it has. Works with and without a budget. At most ten seconds; 0 at once inside a callback, and
/// in scopes that do not reclaim.
pub fn drop_caches() -> usize {
    drop_all()
}

/// The shrinkers that a failing allocation walks: to look at them ([`ShrinkerList::for_each`]), or to ask them for
/// memory although there is no lack ([`ShrinkerList::walk`]).
#[must_use]
pub fn shrinkers() -> &'static ShrinkerList {
    &SHRINKERS
}

/// Registers a cache: from now on allocations that would fail ask it to free objects. Dropping the registration takes
/// it off again, and waits for callbacks that are running.
///
/// To go on using the cache register a clone of an [`Arc`](std::sync::Arc) of it.
///
/// # Errors
/// [`RegisterError::OutOfMemory`]; the cache was dropped then.
pub fn register(
    spec: Shrinker,
    cache: impl Shrink + 'static,
) -> Result<Registration, RegisterError> {
    prepare(spec, cache).map(Prepared::register)
}

/// The first half of [`register`]: takes all memory that it needs, and calls nobody yet. [`Prepared::register`] is the other
/// half, which cannot fail: for a cache that must not be seen before it is complete, or where it is too late to give up.
///
/// # Errors
/// [`RegisterError::OutOfMemory`]; the cache was dropped then.
pub fn prepare(spec: Shrinker, cache: impl Shrink + 'static) -> Result<Prepared, RegisterError> {
    let prepared = spec.prepare(&SHRINKERS, cache)?;
    let home = topology::machine().home_of(os::cpu());
    node::node(home).arena.withhold(home);
    if prepared.lane() == Lane::Async {
        // Now, rather than in the middle of a failing allocation.
        background::start(home);
    }
    Ok(prepared)
}

/// A notifier: a shrinker that always has one thing to try.
struct Notifier<F>(F);

impl<F: Fn(usize) -> usize + Send + Sync> Shrink for Notifier<F> {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(1)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let bytes = (self.0)(ctl.goal());
        // One call is enough, whatever was asked.
        Scan::Freed { objects: 0, bytes }
    }
}

/// Registers a last chance: before an allocation fails, when all shrinkers have given what they had, `free` is called
/// with how many bytes are lacking (0 when nobody knows). It frees what it can in any way and says how many bytes that
/// were, about; if any, the allocation is tried once more. Dropping the registration takes it off again.
///
/// `free` runs like a callback of a shrinker in the [sync lane](Lane::Sync): on any thread, in the middle of its allocation.
/// It may take its time. Several are called one after the other until the allocation succeeds, and each by one thread at a
/// time: other requests wait for it.
///
/// # Errors
/// [`RegisterError::OutOfMemory`]; `free` was dropped then.
pub fn on_last_chance(
    name: &str,
    free: impl Fn(usize) -> usize + Send + Sync + 'static,
) -> Result<Registration, RegisterError> {
    // Late or not, it is called by whoever needs it: nobody else ever calls it.
    let spec = Shrinker::new(name).deadline(Duration::MAX);
    spec.register(&NOTIFIERS, Notifier(free))
}
