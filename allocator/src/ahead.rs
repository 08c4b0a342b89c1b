//! Reclaim ahead of need, on a reclaim thread: when more is backed than the soft limit (`soft`).
//!
//! 1. What is kept for reuse is given back first: that may be enough.
//! 2. Then the caches are asked, of both lanes, as for a request that lacks what is too much: those of the lowest value
//!    first, and gently first. Never for everything: priority 0 is for requests that would fail.
//! 3. What they freed is given back whenever that may be enough, and after each walk, so that what is backed really falls. It
//!    ends at the low mark. If it was not enough the next walk knows how little is wanted yet: to go on with this one would
//!    free as much again.
//!    If the caches gave something, but not enough, they are asked anew.
//! 4. Requests go first: as soon as one is in flight this ends, and what came free is theirs. It begins again after a rest.

use core::ops::ControlFlow;

use ebb_shrinker::{DEF_PRIORITY, Lane, Visit, Walk};

use crate::give_back::give_back;
use crate::report;
use crate::request::{self, Request};
use crate::soft;
use crate::tally::{COUNTERS, SHRINKERS, add, count};
use crate::topology;

/// What is being done.
struct Ahead<'a> {
    node: usize,
    request: &'a Request,
    /// Called after each visit: whether something more urgent is asked for.
    visited: &'a dyn Fn() -> bool,
    /// Something was.
    urgent: bool,
    /// Bytes that the caches say they freed since it was last given back.
    freed: usize,
    /// Something was freed since then, in bytes or in objects of unknown size.
    dirty: bool,
    /// Bytes that were given back.
    gained: usize,
}

/// Reclaims, beginning at `node`, and says whether the caches had nothing to give in the end. `visited` is called after each visit,
/// and says whether something more urgent is asked for.
pub(crate) fn run(node: usize, visited: &dyn Fn() -> bool) -> bool {
    count(&COUNTERS.soft_reclaims);
    let (gained, in_vain) = Request::serve(|request| {
        let mut ahead = Ahead {
            node,
            request,
            visited,
            urgent: false,
            freed: 0,
            dirty: false,
            gained: 0,
        };
        let in_vain = ahead.descents();
        (ahead.gained, in_vain)
    });
    add(&COUNTERS.bytes_soft, gained as u64);
    in_vain
}

impl Ahead<'_> {
    /// One after the other, as long as they are not in vain. Whether the last one was.
    fn descents(&mut self) -> bool {
        if self.proceed().is_continue() {
            self.settle();
        }
        while self.proceed().is_continue() {
            let before = self.gained;
            self.descend();
            // Next to nothing is nothing: as much comes free in the CPUs' sheaves all the time.
            if self.gained - before <= soft::excess() / 16 {
                return self.proceed().is_continue();
            }
        }
        false
    }

    /// Step 2.
    fn descend(&mut self) {
        let mut value = SHRINKERS.value_after(None);
        while let Some(max_value) = value {
            for priority in (1..=DEF_PRIORITY).rev() {
                for lane in [Lane::Sync, Lane::Async] {
                    if self.walk(max_value, priority, lane).is_break() {
                        return;
                    }
                }
            }
            value = SHRINKERS.value_after(value);
        }
    }

    fn walk(&mut self, max_value: u8, priority: u8, lane: Lane) -> ControlFlow<()> {
        self.proceed()?;
        if lane == Lane::Async && !SHRINKERS.has_async() {
            return ControlFlow::Continue(());
        }
        count(&COUNTERS.walks);
        let (node, nodes) = topology::machine().turns(self.node, true);
        let walk = Walk {
            node,
            nodes,
            priority,
            goal: soft::excess(),
            max_value,
            lane,
            ..Walk::default()
        };
        SHRINKERS.walk(&walk, &mut |visit| self.after(visit));
        if self.dirty {
            self.settle();
        }
        self.proceed()
    }

    /// After each shrinker, and in its pauses.
    fn after(&mut self, visit: &Visit<'_>) -> ControlFlow<()> {
        if visit.moved {
            count(&COUNTERS.moved);
            report::moved(visit.name());
        }
        self.urgent |= (self.visited)();
        self.freed = self.freed.saturating_add(visit.bytes);
        self.dirty |= visit.objects > 0 || visit.bytes > 0;
        let enough = self.dirty && self.freed >= soft::excess();
        if enough {
            self.settle();
        }
        match enough {
            true => ControlFlow::Break(()),
            false => self.proceed(),
        }
    }

    /// Step 3: gives back what came free, to the requests in flight if there are any.
    fn settle(&mut self) {
        (self.freed, self.dirty) = (0, false);
        give_back(None);
        self.gained += self.request.credit();
        self.request.hand_over();
    }

    /// Whether to go on: more is backed than the low mark, and nothing is more urgent.
    fn proceed(&self) -> ControlFlow<()> {
        match soft::excess() > 0 && !self.urgent && !request::in_flight() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}
