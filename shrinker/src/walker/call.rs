//! Step 3 of a walk: the shrinker is called, and the visitor hears what came of it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::{Leg, Walker};
use crate::epoch::assert_outside;
use crate::frames::with_frame;
use crate::pressure::{Outcome, Rest};
use crate::record::visit::Call;
use crate::reference::Reference;
use crate::shrink::{Count, Lane};
use crate::state::Refusal;
use crate::sync::now_ns;
use crate::walk::Visit;

impl<'a> Walker<'a> {
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
                return self.scan(reference, leg, call, counted);
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
    fn scan<'r>(
        &mut self,
        reference: &'r Reference,
        leg: &Leg,
        mut call: Call<'r>,
        counted: Option<Count>,
    ) -> ControlFlow<()>
    where
        'a: 'r,
    {
        let mut work = call.work(counted, self.until);
        loop {
            let (outcome, rest, now) = call.scan(&mut work);
            self.now = now;
            let flow = self.tell(reference, leg, &outcome, rest);
            if flow.is_break() || rest == Rest::End {
                return flow;
            }
            let Some(back) = self.come_back(reference, leg) else {
                work.put_off(self.now);
                return ControlFlow::Continue(());
            };
            call = back;
        }
    }

    /// Lets the visitor know what came of it since he last heard.
    fn tell(
        &mut self,
        reference: &Reference,
        leg: &Leg,
        outcome: &Outcome,
        rest: Rest,
    ) -> ControlFlow<()> {
        if outcome.moved {
            // Relaxed: a hint.
            self.chain.asynchronous.fetch_add(1, Ordering::Relaxed);
        }
        self.report.add(outcome);
        let eventful = outcome.bytes > 0 || outcome.objects > 0 || outcome.moved;
        if eventful {
            // The visitor may be at work for a while; others may come in meanwhile.
            reference.leave();
        }
        let record = reference.record();
        let pause = rest == Rest::Pause;
        let visit = Visit::new(record.name(), leg.node_of(record), outcome, pause);
        let flow = (self.visit)(&visit);
        if eventful {
            self.now = now_ns();
        }
        flow
    }

    /// Goes on after a pause; not if another thread is in the callbacks by now, or none is called any more.
    fn come_back<'r>(&mut self, reference: &'r Reference, leg: &Leg) -> Option<Call<'r>>
    where
        'a: 'r,
    {
        let record = reference.record();
        match reference.come_back() {
            Ok(()) if record.in_service() => {}
            Err(Refusal::Busy) => {
                self.pass_over(record, leg);
                return None;
            }
            Ok(()) | Err(Refusal::Absent) => return None,
        }
        record.hold(self.now);
        // SAFETY: the reference is busy again, until it is left in `tell`.
        unsafe { Call::new(record, self.walk, leg.node_of(record), self.now) }
    }
}
