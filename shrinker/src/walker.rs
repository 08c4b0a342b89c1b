//! A walk in progress: the steps that the head of `list` explains.

use std::ops::{ControlFlow, RangeInclusive};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::chain::Chain;
use crate::epoch::{Guard, assert_outside};
use crate::frames::with_frame;
use crate::pressure::Outcome;
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
    report: WalkReport,
    /// The shrinker behind which each turn begins (I14).
    start: u64,
    /// Where the walk begins anywhere: how many precede the first one. `start` is known when that is found.
    place: Option<usize>,
    /// The youngest shrinker when the walk began (I15).
    last: u64,
    /// Since when whoever is short of memory has got nothing.
    since: u64,
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

impl<'a> Walker<'a> {
    /// A walk that begins now.
    pub(crate) fn new(
        chain: &'static Chain,
        walk: &'a Walk,
        visit: &'a mut dyn FnMut(&Visit) -> ControlFlow<()>,
    ) -> Self {
        let now = now_ns();
        let live = chain.live();
        let known = live > 1 && chain.walks.begin();
        let alone = live <= 1 || known;
        Self {
            chain,
            walk,
            visit,
            report: WalkReport::default(),
            start: if alone { chain.walks.cursor() } else { 0 },
            // Two walks in step would meet at every shrinker.
            place: (!alone).then(|| scattered(now) % live),
            last: chain.last_id(),
            since: walk.since(now),
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
    pub(crate) fn run(mut self) -> WalkReport {
        self.complete = self.turns().is_continue();
        self.report
    }

    /// Calls one of them alone.
    pub(crate) fn run_one(mut self, id: u64) -> WalkReport {
        self.only = Some(id);
        // It says nothing of where others should go on.
        self.complete = true;
        self.place = None;
        let _ = self.leg(0, self.walk.node, id.saturating_sub(1), id);
        self.report
    }

    /// One turn per node: from the cursor to the end of the list, then from its head to the cursor.
    fn turns(&mut self) -> ControlFlow<()> {
        let mut turn = 0;
        while let Some(node) = self.walk.turn(turn) {
            self.leg(turn, node, self.start, self.last)?;
            self.leg(turn, node, 0, self.start.min(self.last))?;
            if !self.node_aware {
                break;
            }
            turn += 1;
        }
        ControlFlow::Continue(())
    }

    /// Visits the shrinkers whose ids are above `after` and at most `upto`. The steps are those of the head of `list`.
    fn leg(&mut self, turn: u32, node: u32, after: u64, upto: u64) -> ControlFlow<()> {
        if after >= upto {
            return ControlFlow::Continue(());
        }
        let mut range = (after + 1)..=upto;
        let mut found = self.first(turn, &mut range);
        while let Some(reference) = found {
            let flow = self.call(&reference, node);
            let over = flow.is_break() || reference.is_last();
            if over && reference.try_put() || flow.is_break() {
                return flow;
            }
            found = self.next(reference, turn, &range);
        }
        ControlFlow::Continue(())
    }

    /// A reference to the first shrinker of a leg that is to be called.
    fn first(&mut self, turn: u32, range: &mut RangeInclusive<u64>) -> Option<Reference> {
        let guard = self.chain.enter(); // step 1
        let at = self.begin(range, &guard);
        self.find(at, turn, range, &guard) // step 2; and out of the guard, step 3
    }

    /// A reference to the one after `last` that is to be called.
    fn next(
        &mut self,
        last: Reference,
        turn: u32,
        range: &RangeInclusive<u64>,
    ) -> Option<Reference> {
        let guard = self.chain.enter(); // step 4
        let at = last.put(&guard); // steps 5 and 6
        self.find(at, turn, range, &guard) // steps 2 and 3, as above
    }

    /// The record at which a leg begins to look; where the walk begins anywhere, `range` begins with that one.
    fn begin(&mut self, range: &mut RangeInclusive<u64>, guard: &Guard) -> Option<NonNull<Record>> {
        let place = self.place.take();
        let at = self.chain.at(place.unwrap_or(0), guard)?;
        if place.is_some() {
            // SAFETY: I3: found under `guard`.
            let id = unsafe { at.as_ref() }.id();
            self.start = id - 1;
            *range = id..=*range.end();
        }
        Some(at)
    }

    /// Step 2: a reference to the first shrinker of those ids, at `at` or behind it, that is to be called.
    fn find(
        &mut self,
        mut at: Option<NonNull<Record>>,
        turn: u32,
        range: &RangeInclusive<u64>,
        guard: &Guard,
    ) -> Option<Reference> {
        while let Some(here) = at {
            // SAFETY: I3: found under `guard`.
            let record = unsafe { here.as_ref() };
            if record.id() > *range.end() {
                break;
            }
            if range.contains(&record.id()) && self.wants(record, turn) {
                match Reference::try_get(self.chain, here, guard) {
                    // Asked here, where whoever was in it before is seen to have left: none is called after a panic (I13).
                    Ok(reference) if record.in_service() => return Some(reference),
                    Ok(_) => {}
                    Err(Refusal::Absent) => {}
                    Err(Refusal::Busy) => self.pass_over(record, turn),
                }
            }
            at = NonNull::new(guard.load(&record.next)); // step 6, where there was no reference
        }
        None
    }

    /// Another thread is in it.
    fn pass_over(&mut self, record: &Record, turn: u32) {
        self.report.skipped_busy += 1;
        record.was_busy();
        let node = self.walk.turn(turn).filter(|_| record.node_aware());
        let pending = self.walk.exhaustive && record.is_pending(node.unwrap_or(0), self.since);
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
        here || (self.walk.lane == Lane::Async && record.has_deferred())
    }

    /// Step 3: the cache, then the visitor; in each pause of the cache, the visitor too.
    fn call(&mut self, reference: &Reference, node: u32) -> ControlFlow<()> {
        assert_outside();
        if self.now >= self.until {
            self.report.timed_out = true;
            return ControlFlow::Break(());
        }
        let record = reference.record();
        let class = match self.walk.lane {
            Lane::Sync => record.class_bit(),
            Lane::Async => 0,
        };
        let flow = with_frame(record, class, || {
            record.hold(self.now);
            let node = if record.node_aware() { node } else { 0 };
            let mut told = Outcome::default();
            let mut pause = |outcome: &Outcome| {
                let news = outcome.since(&told);
                told = *outcome;
                (self.visit)(&Visit::new(record.name(), node, &news, true))
            };
            // SAFETY: `reference` is a reference, and busy until it is left below.
            let outcome =
                unsafe { record.call(&mut self.now, self.walk, node, self.until, &mut pause) };
            self.called = record.id();
            self.report.visited += 1;
            match outcome {
                Some(outcome) => self.tell(reference, node, &outcome, &told),
                None => {
                    let nothing = Outcome::default();
                    (self.visit)(&Visit::new(record.name(), node, &nothing, false))
                }
            }
        });
        self.report.satisfied = flow.is_break();
        flow
    }

    /// Lets the visitor know what came of it since he was `told`.
    #[inline(never)] // As `pressure::scan`.
    fn tell(
        &mut self,
        reference: &Reference,
        node: u32,
        outcome: &Outcome,
        told: &Outcome,
    ) -> ControlFlow<()> {
        if outcome.moved {
            // Relaxed: a hint.
            self.chain.asynchronous.fetch_add(1, Ordering::Relaxed);
        }
        self.report.add(outcome);
        let news = outcome.since(told);
        let eventful = news.bytes > 0 || news.objects > 0 || news.moved;
        if eventful {
            // The visitor may be at work for a while; others may come in meanwhile.
            reference.leave();
        }
        let mut satisfied = outcome.satisfied;
        // Satisfied in a pause it wants to hear no more, but for a move, which is told only once.
        if !satisfied || news.moved {
            let visit = Visit::new(reference.record().name(), node, &news, false);
            satisfied |= (self.visit)(&visit).is_break();
        }
        if eventful {
            self.now = now_ns();
        }
        match satisfied {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
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
