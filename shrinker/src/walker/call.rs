//! Step 3 of a walk: the shrinker is called, and the visitor hears what came of it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::{Leg, Walker};
use crate::epoch::assert_outside;
use crate::frames::with_frame;
use crate::pressure::Outcome;
use crate::record::visit::Call;
use crate::reference::Reference;
use crate::shrink::{Count, Lane};
use crate::sync::now_ns;
use crate::walk::Visit;

impl Walker<'_> {
    /// Step 3: the cache, then the visitor; in each pause of the cache, the visitor too.
    pub(super) fn call(&mut self, reference: &Reference, leg: &Leg) -> ControlFlow<()> {
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
            let node = leg.node_of(record);
            // SAFETY: `reference` is a reference, and busy until it is left in `tell`.
            let Some(call) = (unsafe { Call::new(record, self.walk, node, self.now) }) else {
                return ControlFlow::Continue(());
            };
            self.called = record.id();
            self.report.visited += 1;
            let counted = call.count();
            if !call.is_idle(counted) {
                return self.scan(reference, node, &call, counted);
            }
            self.now = call.end();
            let nothing = Outcome::default();
            (self.visit)(&Visit::new(record.name(), node, &nothing, false))
        });
        self.report.satisfied = flow.is_break();
        flow
    }

    /// Has the cache scan as it `counted`, and the visitor hear of it, in pauses too.
    #[inline(never)] // So that it takes no registers from the way of those that have nothing to give.
    fn scan(
        &mut self,
        reference: &Reference,
        node: u32,
        call: &Call<'_>,
        counted: Option<Count>,
    ) -> ControlFlow<()> {
        let name = reference.record().name();
        let mut told = Outcome::default();
        let mut pause = |outcome: &Outcome| {
            let news = outcome.since(&told);
            told = *outcome;
            (self.visit)(&Visit::new(name, node, &news, true))
        };
        let (outcome, now) = call.scan(counted, self.until, &mut pause);
        self.now = now;
        self.tell(reference, node, &outcome, &told)
    }

    /// Lets the visitor know what came of it since he was `told`.
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
