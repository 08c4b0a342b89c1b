//! A walk in progress: the steps that the head of `list` explains. Here is the way along the list; `call` is what happens at
//! each shrinker.

mod call;

use std::ops::ControlFlow;
use std::ptr::NonNull;

use crate::chain::Chain;
use crate::epoch::Guard;
use crate::record::Record;
use crate::reference::Reference;
use crate::shrink::Lane;
use crate::state::Refusal;
use crate::sync::now_ns;
use crate::walk::{Visit, Walk, WalkReport};

/// A walk in progress.
pub(crate) struct Walker<'a> {
    chain: &'static Chain,
    walk: &'a Walk,
    visit: &'a mut dyn FnMut(&Visit) -> ControlFlow<()>,
    report: &'a mut WalkReport,
    /// The shrinker behind which each turn begins (I14).
    start: u64,
    /// Where the walk begins anywhere: how many precede the first one. `start` is known when that is found.
    place: Option<usize>,
    /// The youngest shrinker when the walk began (I15).
    last: u64,
    /// When it began.
    began: u64,
    /// When the time is up.
    until: u64,
    /// The clock, when last looked at: at the beginning, and then when a callback returned. What lies between two callbacks
    /// is a few steps of ours, and a visitor who hears that nothing came of it; so the end of one is taken for the beginning
    /// of the next: one look per callback.
    now: u64,
    /// Whether any node-aware shrinker was met: else one turn is enough.
    node_aware: bool,
    /// The only one to be called, whatever its settings.
    only: Option<u64>,
    /// The shrinker that was called last; 0 for none.
    called: u64,
    /// Whether the walk came to its end and was not broken off.
    complete: bool,
    /// Whether it is the one that others know of.
    known: bool,
}

/// A way along the list: over the shrinkers whose ids are above `after` and at most `upto`.
struct Leg {
    /// How often the walk has gone over the list before; shrinkers that do not tell nodes apart are called in the first turn.
    turn: u32,
    node: u32,
    after: u64,
    upto: u64,
}

impl Leg {
    /// The node that a shrinker is called for.
    fn node_of(&self, record: &Record) -> u32 {
        match record.node_aware() {
            true => self.node,
            false => 0,
        }
    }
}

impl<'a> Walker<'a> {
    /// A walk that begins now. What comes of it goes to `report`.
    pub(crate) fn new(
        chain: &'static Chain,
        walk: &'a Walk,
        visit: &'a mut dyn FnMut(&Visit) -> ControlFlow<()>,
        report: &'a mut WalkReport,
    ) -> Self {
        let now = now_ns();
        let live = chain.live();
        let known = live > 1 && chain.walks.begin();
        let alone = live <= 1 || known;
        Self {
            chain,
            walk,
            visit,
            report,
            start: if alone { chain.walks.cursor() } else { 0 },
            // Two walks in step would meet at every shrinker.
            place: (!alone).then(|| scattered(now) % live),
            last: chain.last_id(),
            began: now,
            until: walk.until(now),
            now,
            node_aware: false,
            only: None,
            called: 0,
            complete: false,
            known,
        }
    }

    /// Walks over all.
    pub(crate) fn run(mut self) {
        self.complete = self.turns().is_continue();
    }

    /// Calls one of them alone.
    pub(crate) fn run_one(mut self, id: u64) {
        self.only = Some(id);
        // It says nothing of where others should go on.
        self.complete = true;
        self.place = None;
        let _ = self.go(Leg {
            turn: 0,
            node: self.walk.node,
            after: id.saturating_sub(1),
            upto: id,
        });
    }

    /// One turn per node; one alone, where no shrinker tells nodes apart.
    fn turns(&mut self) -> ControlFlow<()> {
        self.turn(0, self.walk.node)?;
        let mut turn = 1;
        while self.node_aware
            && let Some(node) = self.walk.turn(turn)
        {
            self.turn(turn, node)?;
            turn += 1;
        }
        ControlFlow::Continue(())
    }

    /// One turn: from the cursor to the end of the list, then from its head to the cursor.
    fn turn(&mut self, turn: u32, node: u32) -> ControlFlow<()> {
        let leg = |after, upto| Leg {
            turn,
            node,
            after,
            upto,
        };
        if self.start < self.last {
            self.go(leg(self.start, self.last))?;
        }
        match self.start.min(self.last) {
            0 => ControlFlow::Continue(()),
            upto => self.go(leg(0, upto)),
        }
    }

    /// Visits the shrinkers of a leg. The steps are those of the head of `list`.
    fn go(&mut self, mut leg: Leg) -> ControlFlow<()> {
        let mut found = self.first(&mut leg);
        while let Some(reference) = found {
            let flow = self.call(&reference, &leg);
            let over = flow.is_break() || reference.is_last();
            if over && reference.try_put() || flow.is_break() {
                return flow;
            }
            found = self.next(reference, &leg);
        }
        ControlFlow::Continue(())
    }

    /// A reference to the first shrinker of a leg that is to be called.
    fn first(&mut self, leg: &mut Leg) -> Option<Reference> {
        let guard = self.chain.enter(); // step 1
        let at = self.begin(leg, &guard);
        self.find(at, leg, &guard) // step 2; and out of the guard, step 3
    }

    /// A reference to the one after `last` that is to be called.
    fn next(&mut self, last: Reference, leg: &Leg) -> Option<Reference> {
        let guard = self.chain.enter(); // step 4
        let at = last.put(&guard); // steps 5 and 6
        self.find(at, leg, &guard) // steps 2 and 3, as above
    }

    /// The record at which a leg begins to look; where the walk begins anywhere, the leg begins with that one.
    fn begin(&mut self, leg: &mut Leg, guard: &Guard) -> Option<NonNull<Record>> {
        let place = self.place.take();
        let at = self.chain.at(place.unwrap_or(0), guard)?;
        if place.is_some() {
            // SAFETY: I3: found under `guard`.
            self.start = unsafe { at.as_ref() }.id() - 1;
            leg.after = self.start;
        }
        Some(at)
    }

    /// Step 2: a reference to the first shrinker of a leg, at `at` or behind it, that is to be called.
    #[inline(always)] // As a call it hands the reference over in memory.
    fn find(
        &mut self,
        mut at: Option<NonNull<Record>>,
        leg: &Leg,
        guard: &Guard,
    ) -> Option<Reference> {
        while let Some(here) = at {
            // SAFETY: I3: found under `guard`.
            let record = unsafe { here.as_ref() };
            if record.id() > leg.upto {
                break;
            }
            if record.id() > leg.after && self.wants(record, leg.turn) {
                match Reference::try_get(self.chain, here, guard) {
                    // Asked here, where whoever was in it before is seen to have left: none is called after a panic (I13).
                    Ok(reference) if record.in_service() => return Some(reference),
                    Ok(_) => {}
                    Err(Refusal::Absent) => {}
                    Err(Refusal::Busy) => self.pass_over(record, leg),
                }
            }
            at = NonNull::new(guard.load(&record.next)); // step 6, where there was no reference
        }
        None
    }

    /// Another thread is in it.
    fn pass_over(&mut self, record: &Record, leg: &Leg) {
        self.report.skipped_busy += 1;
        record.was_busy();
        let since = self.walk.since(self.began);
        let pending = self.walk.exhaustive && record.is_pending(leg.node_of(record), since);
        self.report.pending += usize::from(pending);
    }

    /// Whether `record` is to be called in this turn; no read-modify-write is spent on one that is not.
    fn wants(&mut self, record: &Record, turn: u32) -> bool {
        self.node_aware |= record.node_aware();
        let asked = (turn == 0 || record.node_aware())
            && record.value() <= self.walk.max_value
            && record.class_bit() & self.walk.without == 0;
        match self.only {
            Some(id) => record.id() == id,
            None => asked && self.in_lane(record),
        }
    }

    /// Whether `record` is to be called in this lane.
    fn in_lane(&self, record: &Record) -> bool {
        let here = record.lane() == self.walk.lane;
        here || match self.walk.lane {
            Lane::Sync => self.walk.moved && record.was_moved(),
            Lane::Async => record.has_deferred(),
        }
    }
}

impl Drop for Walker<'_> {
    fn drop(&mut self) {
        // A visitor that panicked breaks the walk off too.
        if !self.complete && self.called != 0 {
            self.chain.walks.set_cursor(self.called);
        }
        if self.known {
            self.chain.walks.end();
        }
    }
}

/// A number that looks nothing like the one before: its bits, stirred.
fn scattered(number: u64) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}
