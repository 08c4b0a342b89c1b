//! The list of shrinkers and the lockless walk over it.
//!
//! # The walk
//!
//! 1. Enter a guard. From now on no record that can be reached is freed.
//! 2. `try_get`: take a reference, and keep others out of the callbacks, if the count is not zero, the shrinker is not
//!    dying, and nobody is in them; else go on to the next.
//! 3. Leave the guard and call the shrinker: count, scans, then the visitor. All three may take as long as they like. If
//!    anything was freed others are let into the callbacks again before the visitor runs. With a goal the visitor runs in
//!    pauses of the scan too, and who wants to go on after one comes back into the callbacks as in 2, if nobody else is
//!    there and the shrinker is not dying: else what was left to do is put off.
//! 4. Enter a guard again.
//! 5. `put`: give the reference back; whoever was in the callbacks of a dying shrinker until then wakes its unregistering
//!    thread.
//! 6. Read `next` from this record; go on at 2.
//!
//! Where nothing is read afterwards (the walk is satisfied, or this is the last record) and the shrinker is not dying,
//! 4 and 6 are left out: the put is then the last that the walk does with the record.
//!
//! **What a reference protects.** While it is *busy*, which only one is, the cache: it is dropped only when nobody is in the
//! callbacks. And as long as it is held, the *place in the list*: a record is unlinked only when the count is zero, so
//! writers keep our record's `next` up to date. That is why the guard may be left in step 3: not the guard but the
//! reference makes `next` good afterwards. **What the guard protects** is the memory of records without a reference:
//! the one we stand on between 5 and 6, and those that `try_get` refuses.
//!
//! **Why guard before put (4 before 5).** After the put our record may be unlinked and retired at once. Being inside a
//! guard by then, we may still read its `next`: the record is not freed while the guard is held, unlinking leaves
//! `next` as it was (I4), and the record it names, if unlinked later, is retired later, so not freed either.
//!
//! **Why unregistering waits.** The cache, and perhaps the library its code is in, go away when it returns, so it waits
//! for the callbacks that are running: until nobody is busy. Not for visitors that hear of what was freed, at the end or in a
//! pause: an allocator drains its own caches there, and tries again. Where such a walker holds a reference yet, the record
//! without its cache is left to him, as an orphan. And never for guards. Waiting for a grace period
//! is what cost the kernel's SRCU version 88.8 % of a benchmark in which no reclaim even ran; the record itself, which
//! guards do protect, is small and goes to seize, together with some dozens of others. New references are refused as
//! soon as unregistering begins, so busy reclaimers cannot make it wait for ever.
//!
//! **Not yet initialised.** Registering links the record while its count is zero: a walker that comes by fails
//! `try_get` and goes on, it needs nothing of the record but its constants and `next`, which the link carries (Release).
//! The *last* store sets the count to 1 (Release); `try_get` is an Acquire: whoever gets a reference sees the whole
//! record. Each of the two would do for what is written before the link, which is everything today.
//!
//! **What a visit costs.** Four locked instructions (into the guard, the reference given back, the next one taken, out of the
//! guard) and one look at the clock. Whoever finds another thread inside goes on after a plain load. What the one inside
//! writes lies apart from what others read who pass by (`record`), all of it is written by plain stores, and nothing that
//! walks share is written once per visit.
//!
//! # Invariants
//!
//! Each names the test that fails when it is broken; how it was seen to fail is told there.
//!
//! - **I1** A record is unlinked only after its count has reached zero. `loom_walk_between_two_removals`
//! - **I2** The guard is entered before the reference is put, unless nothing is read or woken afterwards.
//!   `loom_walk_against_unregister`
//! - **I3** A record is freed only after every guard that could see it is left. `loom_walk_against_unregister`
//! - **I4** Unlinking leaves the removed record's `next` intact. `loom_tail_stays_reachable`
//! - **I5** Whoever takes a reference sees the whole record. `loom_register_publishes_everything`
//! - **I6** The count never rises from zero. `state::tests::count_never_rises_from_zero`
//! - **I7** A dying shrinker refuses new references, and who comes back after a pause. `unregister_is_not_starved`,
//!   `state::tests::nobody_comes_back_to_a_dying_one`, `loom_unregister_in_a_pause`
//! - **I8** Unregistering waits for running callbacks. `unregister_waits_for_a_running_callback`,
//!   `loom_walk_against_unregister`
//! - **I9** Unregistering does not wait for guards, nor for visitors that hear of what was freed.
//!   `unregister_does_not_wait_for_guards`, `unregister_does_not_wait_for_visitors`, `loom_unregister_beside_a_visitor`,
//!   `loom_unregister_in_a_pause`
//! - **I10** No code of a user runs under a guard or the lock. `callbacks_run_outside_guards_and_lock`
//! - **I11** A shrinker cannot be unregistered from inside its own callback. `unregister_inside_own_callback_is_refused`
//! - **I12** Callbacks of one shrinker never run twice at the same time. `state::tests::one_at_a_time`,
//!   `loom_one_walker_at_a_time`, `one_thread_per_shrinker`
//! - **I13** A callback that panicked is never called again. `a_panicking_callback_is_quarantined`
//! - **I14** A walk that is broken off is continued by the next one behind the last visited shrinker; one that came to its
//!   end leaves that place as it was, and one that begins while another is known to be under way begins anywhere. `cursor_rotates`,
//!   `beside_another_walk_one_begins_anywhere`
//! - **I15** A walk visits no shrinker that was registered after it began. `walk_is_bounded_by_its_start`
//! - **I16** After a fork the child's counts are those of its one thread. `forked_child_can_unregister_and_walk`

use std::hint;
use std::ops::ControlFlow;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::chain::Chain;
use crate::credit::Credit;
use crate::epoch;
use crate::frames::in_callback;
use crate::lock_order::allocating;
use crate::name::Name;
use crate::shrink::Lane;
use crate::sync::SPINS;
use crate::walk::{Visit, Walk, WalkReport};
use crate::walker::Walker;

/// A lockless list of shrinkers. Meant to be a static: `static LIST: ShrinkerList = ShrinkerList::new();`
#[derive(Debug)]
pub struct ShrinkerList {
    pub(crate) chain: AtomicPtr<Chain>,
    /// Which thread holds the lock across a fork; 0 when none does.
    pub(crate) forking: AtomicUsize,
}

impl Default for ShrinkerList {
    fn default() -> Self {
        Self::new()
    }
}

impl ShrinkerList {
    /// An empty list. Everything behind it is made at the first preparation.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chain: AtomicPtr::new(ptr::null_mut()),
            forking: AtomicUsize::new(0),
        }
    }

    /// Whether no shrinker is registered. A hint, of two loads.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chain().is_none_or(|chain| chain.live() == 0)
    }

    /// The lowest value of any registered shrinker that is above `value`; the lowest of all for `None`.
    #[must_use]
    pub fn value_after(&self, value: Option<u8>) -> Option<u8> {
        self.chain()?.value_after(value)
    }

    /// Whether any shrinker runs on a reclaim thread ([`Lane::Async`]). A hint.
    #[must_use]
    pub fn has_async(&self) -> bool {
        // Relaxed: a hint.
        self.chain()
            .is_some_and(|chain| chain.asynchronous.load(Ordering::Relaxed) != 0)
    }

    /// What was set aside for requests in flight, once a shrinker was prepared.
    #[must_use]
    pub fn credit(&self) -> Option<&'static Credit> {
        self.chain().map(|chain| &chain.credit)
    }

    /// The same for a node: where nodes have budgets, what was freed on this one. Nothing where there is no such node
    /// ([`MAX_NODES`](crate::MAX_NODES)).
    #[must_use]
    pub fn credit_on(&self, node: usize) -> Option<&'static Credit> {
        self.chain()?.node_credits.get(node)
    }

    /// The chain, once it was made.
    pub(crate) fn chain(&self) -> Option<&'static Chain> {
        // Acquire: pairs with the Release that publishes it in `registration`.
        let chain = self.chain.load(Ordering::Acquire);
        // SAFETY: null, or a chain that is never freed.
        unsafe { chain.as_ref() }
    }

    /// Walks over all shrinkers that are registered now and calls each (see [`Walk`] for nodes), beginning behind
    /// the one at which the last walk was broken off; or anywhere, while other threads walk.
    ///
    /// `visit` runs after each call, and in the middle of one whenever another [`goal`](Walk::goal) was freed;
    /// [`ControlFlow::Break`] says that the request is satisfied and ends the walk. It may allocate, and it may take long
    /// when something was freed; when nothing was, its time counts as the next shrinker's, and other walks pass over this
    /// one meanwhile. It may not unregister the shrinker just visited.
    ///
    /// Nothing is called, and the report is empty, on an exiting thread ([`thread_exiting`](crate::thread_exiting)) and
    /// in the middle of another walk of the same thread, over whatever list: a callback or visitor whose own allocation
    /// fails has to do without. So walks never recurse, and an allocator may call this wherever an allocation fails.
    ///
    /// The first walk of a thread allocates a little (seize's thread id).
    ///
    /// # Panics
    /// Those of `visit`, which end the walk. A callback's panic is caught.
    pub fn walk(
        &self,
        walk: &Walk,
        visit: &mut dyn FnMut(&Visit) -> ControlFlow<()>,
    ) -> WalkReport {
        let Some(chain) = self.chain().filter(|chain| chain.live() > 0) else {
            return WalkReport::default();
        };
        if epoch::thread_exiting() || epoch::inside() || in_callback() {
            return WalkReport::default();
        }
        if walk.lane == Lane::Sync {
            allocating(walk.without);
        }
        let mut report = WalkReport::default();
        Walker::new(chain, walk, visit, &mut report).run();
        self.sweep();
        if report.visited == 0 && report.skipped_busy > 0 {
            stand_back();
        }
        report
    }

    /// Has one shrinker look at so many `objects` of `node`, by hand: as the kernel's debugfs does. Its number is
    /// [`ShrinkerStats::id`](crate::ShrinkerStats::id), or what [`find`](Self::find) gives. The callbacks run here and now,
    /// in whatever lane the shrinker is, without a deadline: the caller holds no lock that they want.
    ///
    /// `None` when there is no such shrinker, or this thread may not walk (see [`walk`](Self::walk)). A report that
    /// visited none says that another thread was in it, or that it panicked before.
    pub fn scan(&self, id: u64, node: u32, objects: usize) -> Option<WalkReport> {
        let mut exists = false;
        self.for_each(&mut |stats| exists |= stats.id == id && !stats.dying);
        if !exists || epoch::thread_exiting() || epoch::inside() || in_callback() {
            return None;
        }
        let walk = Walk {
            node,
            objects,
            // No deadline, and no strike for being late.
            lane: Lane::Async,
            ..Walk::default()
        };
        let visit = &mut |_: &Visit| ControlFlow::Continue(());
        let mut report = WalkReport::default();
        Walker::new(self.chain()?, &walk, visit, &mut report).run_one(id);
        self.sweep();
        Some(report)
    }

    /// The number of the oldest shrinker of that name (its first 32 bytes).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u64> {
        let (wanted, mut found) = (Name::new(name), None);
        self.for_each(&mut |stats| {
            if stats.name == wanted && !stats.dying && found.is_none() {
                found = Some(stats.id);
            }
        });
        found
    }
}

/// After a walk that only met others at work: who comes again at once takes the state words from them each time. For some
/// tenths of a microsecond.
fn stand_back() {
    for _ in 0..SPINS.min(16) {
        hint::spin_loop();
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
