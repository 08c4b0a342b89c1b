//! The reclaim threads: at most one per NUMA node, on its CPUs, for shrinkers that may not run on the thread that is
//! short of memory.
//!
//! 1. A request whose walk was not enough *asks*: it raises its node's word to the value and priority it has come down to,
//!    and goes on with its own shrinkers. The node's thread is started when there is none: at the first request, after a
//!    fork at the first one in the child.
//! 2. The thread walks over the shrinkers of the async lane, and over what the sync lane put off, gently first and down to
//!    what was asked, like the request itself.
//! 3. After each shrinker it drains, and gives what came free to the common credit of the requests in flight. When that
//!    covers what the last of them lacked it lets them take it; when none is left it stops. A shrinker that another node's
//!    thread is in it comes back to, for as long as a request waits.
//! 4. When the request has asked for everything it waits until it is served, or the thread has nothing left to do, or
//!    nothing was heard of it for [`SILENCE`]: then its caches are stuck, perhaps on a lock that we hold. If it got nothing,
//!    but the thread freed something (its *fruits*), another was quicker: it begins again, as after a visit of its own.
//!
//! Nothing of the thread is in anybody's way: it holds no lock, and a process that has no shrinker for it has no thread.

use core::ffi::c_void;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;

use ebb_shrinker::{DEF_PRIORITY, Lane, Visit, Walk, WalkReport};

use crate::budget::Request;
use crate::config::MAX_NODES;
use crate::drain;
use crate::os;
use crate::tally::{COUNTERS, SHRINKERS, count};
use crate::topology;

/// How long a request waits without any news.
const SILENCE: Duration = Duration::from_millis(100);

/// How long the thread waits, in microseconds, for a request to take what it lacked; so many times.
const PAUSE_US: u32 = 50;
/// See [`PAUSE_US`].
const PAUSES: u32 = 20;

/// How long the last walk waits for shrinkers that another thread is in, in microseconds; so many times: as long as
/// [`SILENCE`].
const BUSY_US: u32 = 1000;
/// See [`BUSY_US`].
const BUSY: u32 = 100;

/// A node's thread.
struct Thread {
    started: AtomicBool,
    /// 0, or what is asked for (see [`Asked`]). What the thread sleeps on.
    asked: AtomicU32,
    /// Bytes that the request lacked that asked last; 0 when nobody knows.
    goal: AtomicUsize,
    /// Visits that freed something.
    fruits: AtomicU32,
}

static THREADS: [Thread; MAX_NODES] = [const {
    Thread {
        started: AtomicBool::new(false),
        asked: AtomicU32::new(0),
        goal: AtomicUsize::new(0),
        fruits: AtomicU32::new(0),
    }
}; MAX_NODES];

/// How far down to go: first by value, then by priority; and whether over all nodes. A larger word asks for more.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked(u32);

impl Asked {
    /// Over all nodes, not the thread's alone.
    const WIDE: u32 = 1 << 16;

    /// Both.
    fn and(self, more: Self) -> Self {
        let deepest = (self.0 % Self::WIDE).max(more.0 % Self::WIDE);
        Self(deepest | ((self.0 | more.0) & Self::WIDE))
    }

    fn is_wide(self) -> bool {
        self.0 & Self::WIDE != 0
    }

    fn new(value: u8, priority: u8) -> Self {
        let hardness = u32::from(DEF_PRIORITY - priority.min(DEF_PRIORITY));
        Self((u32::from(value) << 8) + hardness + 1)
    }

    fn value(self) -> u8 {
        (self.0 >> 8) as u8
    }

    fn priority(self) -> u8 {
        DEF_PRIORITY - (self.0 as u8 - 1)
    }
}

/// Starts the thread of `node` if there is none.
pub(crate) fn start(node: usize) {
    let thread = &THREADS[node];
    // Relaxed: whoever sets it starts the thread; nothing else is carried by it.
    if !thread.started.load(Ordering::Relaxed)
        && !thread.started.swap(true, Ordering::Relaxed)
        && !os::spawn(run, node)
    {
        // No room now; the next request tries again.
        thread.started.store(false, Ordering::Relaxed);
    }
}

/// Step 1. A `wide` request is helped by any node's memory, others by this one's alone. `lacking` is how many bytes it
/// still lacks, 0 when it does not know.
pub(crate) fn ask(node: usize, value: u8, priority: u8, wide: bool, lacking: usize) {
    let thread = &THREADS[node];
    // Relaxed: a hint how much.
    thread.goal.store(lacking, Ordering::Relaxed);
    let scope = Asked(if wide { Asked::WIDE } else { 0 });
    let more = Asked::new(value, priority).and(scope);
    let add = |asked| Some(Asked(asked).and(more).0);
    // Release: pairs with the Acquire in `run`; the goal is seen. Relaxed: the word is all there is to read.
    let before = thread
        .asked
        .fetch_update(Ordering::Release, Ordering::Relaxed, add);
    if before == Ok(0) {
        os::wake(&thread.asked);
    }
}

/// Step 4. What `request` got, if anything, and whether to wait another time.
pub(crate) fn wait(
    node: usize,
    request: &Request,
    attempt: &dyn Fn() -> Option<usize>,
) -> (Option<usize>, bool) {
    let Some(claim) = request.claim() else {
        return (None, false);
    };
    count(&COUNTERS.waits);
    let thread = &THREADS[node];
    loop {
        let seen = claim.news();
        // Acquire: pairs with the Release in `serve`; what the thread freed last is seen by the attempt.
        let idle = thread.asked.load(Ordering::Acquire) == 0;
        let block = request.retry(attempt);
        // Relaxed: a thread that could not be started serves nobody.
        if block.is_some() || idle || !thread.started.load(Ordering::Relaxed) {
            return (block, idle);
        }
        claim.sleep(seen, SILENCE);
        if claim.news() == seen {
            return (request.retry(attempt), false);
        }
    }
}

/// How many visits of the node's thread freed something, modulo 2^32: a request that sees it change was not refused because
/// there is nothing, but because another took it.
pub(crate) fn fruits(node: usize) -> u32 {
    // Relaxed: who waited until the thread was done (Acquire in `wait`) sees all that it did.
    THREADS[node].fruits.load(Ordering::Relaxed)
}

/// In a forked child: there is only one thread.
pub(crate) fn forget() {
    for thread in &THREADS {
        // Relaxed: as above.
        thread.started.store(false, Ordering::Relaxed);
        thread.asked.store(0, Ordering::Relaxed);
    }
}

/// The thread of the node that `argument` is.
extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    let node = argument.addr();
    let thread = &THREADS[node];
    // Whoever started it may have been pinned elsewhere.
    if let Some(cpus) = topology::machine().cpus_of(node) {
        os::run_on(&cpus);
    }
    let mut place = Place::TOP;
    loop {
        // Acquire: pairs with the Release in `ask`.
        if thread.asked.load(Ordering::Acquire) == 0 {
            os::wait(&thread.asked, 0);
            continue;
        }
        Request::serve(|request| descend(node, thread, request, &mut place));
    }
}

/// Where a descent has come to.
struct Place {
    value: u8,
    priority: u8,
}

impl Place {
    /// Before the gentlest walk.
    const TOP: Self = Self {
        value: 0,
        priority: DEF_PRIORITY + 1,
    };

    /// The next walk on the way to what is asked for; that itself, if it lies behind.
    fn advance(&mut self, asked: Asked) {
        if asked.value() != self.value {
            *self = Self {
                value: asked.value(),
                ..Self::TOP
            };
        }
        self.priority = match self.priority > asked.priority() {
            true => self.priority - 1,
            false => asked.priority(),
        };
    }
}

/// Step 2: down to what is asked for, which may be more by and by. Where it ends the next one goes on, unless nobody is
/// left who wants anything.
fn descend(node: usize, thread: &Thread, request: &Request, place: &mut Place) {
    let mut waits = 0;
    loop {
        // Acquire: as in `run`.
        let asked = Asked(thread.asked.load(Ordering::Acquire));
        if asked.0 == 0 {
            return;
        }
        place.advance(asked);
        let wide = asked.is_wide();
        let report = in_flight().then(|| walk(node, thread, request, place, wide));
        let wanted = report.as_ref().is_some_and(|report| !report.satisfied);
        if wanted && place.priority > asked.priority() {
            continue;
        }
        // All was asked for, and not all could be asked.
        let busy = report.is_some_and(|report| report.skipped_busy > 0);
        if wanted && busy && place.priority == 0 && waits < BUSY {
            waits += 1;
            os::sleep_us(BUSY_US);
            continue;
        }
        if !wanted {
            *place = Place::TOP;
        }
        // Release: pairs with the Acquire in `wait`. Unless more is asked for by now.
        let done = thread
            .asked
            .compare_exchange(asked.0, 0, Ordering::Release, Ordering::Relaxed);
        if done.is_ok()
            && let Some(credit) = SHRINKERS.credit()
        {
            credit.tell();
        }
    }
}

/// Whether any request is in flight.
fn in_flight() -> bool {
    SHRINKERS.credit().is_some_and(|credit| credit.claims() > 0)
}

/// One walk over the async lane.
fn walk(node: usize, thread: &Thread, request: &Request, place: &Place, wide: bool) -> WalkReport {
    // Relaxed: see `ask`.
    let goal = thread.goal.load(Ordering::Relaxed);
    count(&COUNTERS.walks);
    let only = (!wide).then_some(node);
    let (node, nodes) = topology::machine().turns(node, wide);
    let walk = Walk {
        node,
        nodes,
        priority: place.priority,
        exhaustive: place.priority == 0,
        goal,
        max_value: place.value,
        lane: Lane::Async,
        ..Walk::default()
    };
    SHRINKERS.walk(&walk, &mut |visit| {
        after(thread, request, visit, only, goal)
    })
}

/// Step 3.
fn after(
    thread: &Thread,
    request: &Request,
    visit: &Visit,
    only: Option<usize>,
    goal: usize,
) -> ControlFlow<()> {
    if visit.objects > 0 || visit.bytes > 0 {
        // Relaxed: the Release in `descend` is behind it.
        thread.fruits.fetch_add(1, Ordering::Relaxed);
        count(&COUNTERS.drains);
        drain::drain(only);
    }
    request.hand_over();
    for _ in 0..PAUSES {
        let covered = goal > 0
            && SHRINKERS
                .credit()
                .is_some_and(|credit| credit.bytes() >= goal);
        if !covered {
            break;
        }
        os::sleep_us(PAUSE_US);
    }
    match in_flight() {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_asked_for_by_value_then_by_priority() {
        let mut last = 0;
        for value in [0, 1, 4, 8, u8::MAX] {
            for priority in (0..=DEF_PRIORITY).rev() {
                let asked = Asked::new(value, priority);
                assert!(asked.0 > last);
                assert_eq!((asked.value(), asked.priority()), (value, priority));
                last = asked.0;
            }
        }
        let wide = Asked(Asked::WIDE);
        let both = Asked::new(4, 3).and(wide).and(Asked::new(8, 12));
        assert_eq!((both.value(), both.priority()), (8, 12));
        assert!(both.is_wide() && !Asked::new(u8::MAX, 0).is_wide());
    }

    /// Seen to fail with the descent always begun at the top.
    #[test]
    fn a_descent_goes_on_where_the_last_one_ended() {
        let mut place = Place::TOP;
        let mut walks = |value, priority| {
            let mut walks = Vec::new();
            while walks.last() != Some(&(value, priority)) {
                place.advance(Asked::new(value, priority));
                walks.push((place.value, place.priority));
            }
            walks
        };
        assert_eq!(walks(4, 10), [(4, 12), (4, 11), (4, 10)]);
        assert_eq!(walks(4, 9), [(4, 9)]);
        assert_eq!(walks(4, 11), [(4, 11)], "another request, gently");
        assert_eq!(walks(4, 10), [(4, 10)]);
        assert_eq!(walks(8, 12), [(8, 12)]);
    }
}
