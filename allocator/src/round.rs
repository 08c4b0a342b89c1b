//! One round of reclaim: a descent through the priorities for each value of shrinkers; or, where caches are dropped, all that
//! are asked for everything. And the last chance.

use core::ops::ControlFlow;
use core::time::Duration;

use ebb_shrinker::{DEF_PRIORITY, Visit, Walk, WalkReport, drop_rounds, thread_exiting};

use crate::background;
use crate::drain;
use crate::os;
use crate::report::{self, RoundFigures};
use crate::request::Request;
use crate::scope::{self, Mode};
use crate::tally::{COUNTERS, NOTIFIERS, SHRINKERS, add, count};
use crate::threads::of_node;
use crate::topology;

/// How long a request waits, in microseconds, before it looks again whether a notifier is free.
const CHANCE_US: u32 = 1000;

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// An allocation.
    Block,
    /// So many bytes less backed.
    Bytes,
    /// Empty caches.
    Everything,
}

/// What a request is after.
pub(crate) struct Search<'a> {
    pub(crate) request: &'a Request,
    pub(crate) attempt: &'a dyn Fn() -> Option<usize>,
    /// The node that it insists on.
    pub(crate) only: Option<usize>,
    pub(crate) aim: Aim,
    pub(crate) mode: Option<Mode>,
    /// Whether it is charged beyond the budget in the end.
    pub(crate) no_fail: bool,
    /// When its time is up, on the clock of `os::now_ns`.
    pub(crate) until: u64,
}

impl Search<'_> {
    pub(crate) fn time_is_up(&self) -> bool {
        os::now_ns() >= self.until
    }

    fn time_left(&self) -> Duration {
        Duration::from_nanos(self.until.saturating_sub(os::now_ns()))
    }

    /// Whether it may wait for the reclaim thread.
    pub(crate) fn may_wait(&self) -> bool {
        self.mode != Some(Mode::NoRetry) && !thread_exiting()
    }

    /// Calls the notifiers, one after the other; any that says it freed something means one more try. One that another request
    /// is in is waited for: what it frees may do for both, and else it is called for this one.
    pub(crate) fn last_chance(&self) -> Option<usize> {
        if NOTIFIERS.is_empty() {
            return None;
        }
        count(&COUNTERS.chances);
        loop {
            let (block, busy) = self.notify();
            if block.is_some() || !busy || self.time_is_up() {
                return block;
            }
            os::sleep_us(CHANCE_US);
            let block = self.request.retry(self.attempt);
            if block.is_some() {
                return block;
            }
        }
    }

    /// Calls those notifiers that no other request is in. What came of it, and whether there were others.
    fn notify(&self) -> (Option<usize>, bool) {
        let walk = Walk {
            priority: 0,
            exhaustive: true,
            goal: self.request.lacking(),
            ..Walk::default()
        };
        let mut block = None;
        let report = NOTIFIERS.walk(&walk, &mut |visit| {
            if visit.bytes > 0 {
                drain::drain(self.only);
                block = self.request.retry(self.attempt);
            }
            flow(block)
        });
        (block, report.skipped_busy > 0)
    }
}

fn flow(block: Option<usize>) -> ControlFlow<()> {
    match block {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    }
}

/// One walk although nothing is lacking, at this priority. This thread is a request.
pub(crate) fn once(priority: u8) {
    count(&COUNTERS.walks);
    let machine = topology::machine();
    let (node, nodes) = machine.turns(machine.home_of(os::cpu()), true);
    let walk = Walk {
        node,
        nodes,
        priority,
        exhaustive: priority == 0,
        without: scope::without(),
        ..Walk::default()
    };
    SHRINKERS.walk(&walk, &mut |_| ControlFlow::Continue(()));
    count(&COUNTERS.drains);
    drain::drain(None);
}

/// What a round has come to.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) block: Option<usize>,
    /// Some shrinker freed something, here or on the reclaim thread.
    pub(crate) freed: bool,
    /// Some shrinker could not be asked, or could not say.
    pub(crate) busy: bool,
    /// The reclaim thread kept us waiting in vain: never again in this request.
    pub(crate) impatient: bool,
    /// Some shrinker that could not be asked is worth waiting for.
    pub(crate) pending: bool,
    /// Bytes freed, as the shrinkers say.
    pub(crate) bytes: usize,
    /// Of those, freed since the request was last tried.
    untried: usize,
    /// Something was freed since then, in bytes or in objects of unknown size.
    dirty: bool,
    /// Since when the request has got nothing, on the clock of `os::now_ns`.
    since: u64,
    /// All walks together.
    visited: usize,
    objects: usize,
    pub(crate) stopped: usize,
    skipped: usize,
}

impl Round {
    /// A round of a request that has got nothing since `since`.
    pub(crate) fn run(search: &Search<'_>, impatient: bool, since: u64) -> Self {
        let mut round = Self {
            impatient,
            since,
            ..Self::default()
        };
        let home = || topology::machine().home_of(os::cpu());
        let node = search.only.unwrap_or_else(home);
        if search.aim == Aim::Everything {
            round.drop_caches(search, node);
            return round;
        }
        let mut value = SHRINKERS.value_after(None);
        while let Some(max_value) = value
            && round.block.is_none()
        {
            round.descend(search, node, max_value, DEF_PRIORITY);
            value = SHRINKERS.value_after(value);
        }
        round
    }

    /// All shrinkers at once, and for everything, as often as the kernel would ask. The request is served when all could be asked.
    fn drop_caches(&mut self, search: &Search<'_>, node: usize) {
        drop_rounds(&mut || {
            let fruits = of_node(node).fruits();
            *self = Self {
                freed: self.freed,
                impatient: self.impatient,
                since: self.since,
                ..Self::default()
            };
            self.descend(search, node, u8::MAX, 0);
            let there = of_node(node).fruits().wrapping_sub(fruits);
            match search.time_is_up() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(self.objects.saturating_add(there)),
            }
        });
        let all = !self.busy && !self.impatient && !search.time_is_up();
        self.block = all.then_some(0);
    }

    /// Down from a priority to 0 with the shrinkers of at most this value.
    fn descend(&mut self, search: &Search<'_>, node: usize, max_value: u8, gentlest: u8) {
        let fruits = of_node(node).fruits();
        if SHRINKERS.has_async() && search.may_wait() {
            background::start(node);
        }
        let ask = |priority| {
            let wide = search.only.is_none();
            background::ask(node, max_value, priority, wide, search.request.lacking())
        };
        let mut asked = false;
        for priority in (0..=gentlest).rev() {
            self.walk(search, node, max_value, priority);
            if self.block.is_some() || search.time_is_up() {
                return;
            }
            asked = SHRINKERS.has_async() && search.may_wait() && ask(priority);
        }
        while SHRINKERS.has_async() && search.may_wait() && !self.impatient {
            let (block, again) =
                background::wait(node, search.request, search.attempt, search.until);
            self.block = block;
            self.impatient = !again;
            self.freed |= of_node(node).fruits() != fruits;
            if asked || self.block.is_some() || search.time_is_up() {
                return;
            }
            asked = ask(0);
        }
    }

    fn walk(&mut self, search: &Search<'_>, node: usize, max_value: u8, priority: u8) {
        count(&COUNTERS.walks);
        let thread = of_node(node).is_there();
        // Shrinkers that were only late are not lost where there is no thread to be had.
        let moved = search.may_wait() && !thread;
        // It is asked too, and does what was put off.
        let own_share = search.may_wait() && thread && SHRINKERS.has_async();
        let (node, nodes) = topology::machine().turns(node, search.only.is_none());
        let walk = Walk {
            node,
            nodes,
            priority,
            moved,
            own_share,
            exhaustive: priority == 0,
            goal: search.request.lacking(),
            limit: Some(search.time_left()),
            fruitless: Duration::from_nanos(os::now_ns().saturating_sub(self.since)),
            max_value,
            without: scope::without(),
            ..Walk::default()
        };
        let report = SHRINKERS.walk(&walk, &mut |visit| self.after(search, visit));
        self.add(&report);
        if self.block.is_none() && self.dirty {
            self.try_again(search);
        }
    }

    fn add(&mut self, report: &WalkReport) {
        self.busy |= report.skipped_busy > 0 || report.stopped > 0;
        self.pending |= report.pending > 0;
        self.visited += report.visited;
        self.objects = self.objects.saturating_add(report.objects);
        self.bytes = self.bytes.saturating_add(report.bytes);
        self.stopped += report.stopped;
        self.skipped += report.skipped_busy;
    }

    /// After each shrinker, and in its pauses: tries again if as much was freed as is lacking.
    fn after(&mut self, search: &Search<'_>, visit: &Visit) -> ControlFlow<()> {
        if visit.moved {
            count(&COUNTERS.moved);
            report::moved(visit.name());
        }
        if self.block.is_some() || (visit.objects == 0 && visit.bytes == 0) {
            return flow(self.block);
        }
        (self.freed, self.dirty) = (true, true);
        self.untried = self.untried.saturating_add(visit.bytes);
        // Whose size is not known may be anything.
        let lacking = search.request.lacking();
        if visit.bytes > 0 && self.untried < lacking {
            return ControlFlow::Continue(());
        }
        self.try_again(search);
        flow(self.block)
    }

    fn try_again(&mut self, search: &Search<'_>) {
        (self.untried, self.dirty) = (0, false);
        let held = search.request.credit();
        count(&COUNTERS.drains);
        drain::drain(search.only);
        let gained = search.request.credit().saturating_sub(held);
        add(&COUNTERS.credited, gained as u64);
        self.block = search.request.retry(search.attempt);
    }

    /// What it did, for people.
    pub(crate) fn figures(&self) -> RoundFigures {
        RoundFigures {
            visited: self.visited,
            objects: self.objects,
            bytes: self.bytes,
            stopped: self.stopped,
            skipped: self.skipped,
            waited_in_vain: self.impatient,
        }
    }
}
