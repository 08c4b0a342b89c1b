//! The reclaim threads: at most one per NUMA node, on its CPUs, for shrinkers that may not run on the thread that is
//! short of memory, and for reclaim before anybody is.
//!
//! 1. A request whose walk was not enough *asks*: it raises its node's word to the value and priority it has come down to,
//!    and goes on with its own shrinkers. The node's thread is started when there is none: at the first request, after a
//!    fork at the first one in the child. The word is the largest of what is asked for, and that is not all of it: whoever was
//!    passed over by one for dearer caches asks again when the thread is done.
//! 2. The thread walks over the shrinkers of the async lane, and over what the sync lane put off, gently first and down to
//!    what was asked, like the request itself.
//! 3. After each shrinker it drains, and gives what came free to the common credit of the requests in flight. When that
//!    covers what the last of them lacked it lets them take it; when none is left it stops. A shrinker that another node's
//!    thread is in, or that cannot say what it has, it comes back to, for as long as a request waits.
//! 4. When the request has asked for everything it waits until it is served, or the thread has nothing left to do, or
//!    nothing was heard of it for too long (`silence`): then its caches are stuck, perhaps on a lock that we hold. Nor does a
//!    request wait longer than it has time. If it got nothing, but the thread freed something (its *fruits*), another was
//!    quicker: it begins again, as after a visit of its own.
//! 5. Who did not ask, since there is no shrinker for the thread (any more), waits for one that is still at it: what it has drained
//!    and not yet given would do.
//! 6. Beside that, who allocates and finds that more is backed than the soft limit has the thread reclaim ahead of need
//!    (`ahead`), whenever nothing is asked of it. What a request asks for meanwhile comes first.
//!
//! Nothing of the thread is in anybody's way: it holds no lock, and a process that has no shrinker for it and no soft limit has no
//! thread. Where none can be started the shrinkers that were moved to it for being late are called as before (`Walk::moved`); those of its
//! lane are not, since they may wait for what the request holds.

use core::ffi::c_void;
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use core::time::Duration;

use ebb_shrinker::{Lane, Visit, Walk, WalkReport};

use crate::ahead;
use crate::depth::{Asked, Depth};
use crate::drain;
use crate::os;
use crate::request::{self, Request};
use crate::silence::Silence;
use crate::soft::{self, Pause};
use crate::tally::{COUNTERS, SHRINKERS, count};
use crate::threads::{Thread, of_node};
use crate::topology;

/// How long the thread waits, in microseconds, for a request to take what it lacked; so many times.
const PAUSE_US: u32 = 50;
/// See [`PAUSE_US`].
const PAUSES: u32 = 20;

/// How long the last walk waits for shrinkers that another thread is in, or that could not do anything, in microseconds; so
/// many times: as long as a request waits for a silent thread.
const BUSY_US: u32 = 1000;
/// See [`BUSY_US`].
const BUSY: u32 = 100;

/// After so many nanoseconds a thread for which there was no room is tried again.
const NO_ROOM_NS: u64 = 10_000_000;

/// Starts the thread of `node` if there is none.
pub(crate) fn start(node: usize) {
    of_node(node).start(node, run);
}

/// Step 1. A `wide` request is helped by any node's memory, others by this one's alone. `lacking` is how many bytes it
/// still lacks, 0 when it does not know. Whether the thread is to go so far: while it has to go on with what is dearer, for
/// another request, it will not, and is to be asked again when it is done.
pub(crate) fn ask(node: usize, value: u8, priority: u8, wide: bool, lacking: usize) -> bool {
    let thread = of_node(node);
    // Relaxed: a hint how much.
    thread.goal.store(lacking, Ordering::Relaxed);
    let more = Asked::new(value, priority, wide);
    let add = |asked| Some(Asked(asked).and(more).0);
    // Release: pairs with the Acquire in `is_asked`; the goal is seen. Relaxed: the word is all there is to read.
    let before = thread
        .asked
        .fetch_update(Ordering::Release, Ordering::Relaxed, add);
    if before == Ok(0) {
        thread.ring();
    }
    before.is_ok_and(|before| Asked(before).and(more).covers(more))
}

/// Step 5. Under no lock. One load, where there is no soft limit.
pub(crate) fn look_ahead() {
    if soft::begins() {
        begin();
    }
}

#[cold]
fn begin() {
    let _errno = os::KeepErrno::new();
    let node = topology::machine().home_of(os::cpu());
    start(node);
    let thread = of_node(node);
    // Relaxed: a flag; the bell carries it.
    thread.ahead.store(true, Ordering::Relaxed);
    match thread.is_there() {
        true => thread.ring(),
        false => soft::rest(NO_ROOM_NS),
    }
}

/// Step 4, at most `until` then. What `request` got, if anything, and whether to wait another time.
pub(crate) fn wait(
    node: usize,
    request: &Request,
    attempt: &dyn Fn() -> Option<usize>,
    until: u64,
) -> (Option<usize>, bool) {
    let Some(claim) = request.claim() else {
        return (None, false);
    };
    count(&COUNTERS.waits);
    let thread = of_node(node);
    // Relaxed: whether it changes.
    let visits = || thread.visits.load(Ordering::Relaxed);
    // Relaxed: a number; until it is known the thread has not run.
    let at_work = || match thread.number.load(Ordering::Relaxed) {
        0 => true,
        number => os::is_at_work(number),
    };
    let mut silence = Silence::new(visits(), os::now_ns(), until);
    loop {
        let (visits, now) = (visits(), os::now_ns());
        let seen = claim.news();
        // Before the attempt, which sees what the thread freed last.
        let idle = !thread.is_at_it();
        let block = request.retry(attempt);
        // A thread that could not be started serves nobody.
        if block.is_some() || idle || !thread.is_there() {
            return (block, idle);
        }
        let Some(rest) = silence.rest(visits, now, at_work) else {
            return (None, false);
        };
        claim.sleep(seen, Duration::from_nanos(rest));
    }
}

/// Step 5: as [`wait`], for the threads of all nodes, until one lets it wait in vain.
pub(crate) fn wait_for_others(
    request: &Request,
    attempt: &dyn Fn() -> Option<usize>,
    until: u64,
) -> Option<usize> {
    let nodes = 0..topology::machine().nodes;
    for node in nodes.filter(|node| of_node(*node).is_at_it()) {
        let (block, idle) = wait(node, request, attempt, until);
        if block.is_some() || !idle {
            return block;
        }
    }
    None
}

/// The thread of the node that `argument` is.
extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    let _uncancelled = os::Uncancelled::new();
    let node = argument.addr();
    let thread = of_node(node);
    // Relaxed: see `wait`.
    thread
        .number
        .store(os::thread_id() as u32, Ordering::Relaxed);
    // Whoever started it may have been pinned elsewhere.
    if let Some(cpus) = topology::machine().cpus_of(node) {
        os::run_on(&cpus);
    }
    let (mut depth, mut pause) = (Depth::TOP, Pause::new());
    loop {
        // Acquire: pairs with the Release in `ring`; what it was rung for is seen.
        let rung = thread.bell.load(Ordering::Acquire);
        if thread.is_asked() {
            thread.work(|| Request::serve(|request| descend(node, thread, request, &mut depth)));
        // Relaxed: see `begin`.
        } else if thread.ahead.swap(false, Ordering::Relaxed) {
            let in_vain = thread.work(|| ahead::run(node, &|| thread.visited()));
            soft::rest(pause.after(in_vain));
        } else {
            os::wait(&thread.bell, rung);
            continue;
        }
        // Who waits for what it held looks again.
        if let Some(credit) = SHRINKERS.credit() {
            credit.tell();
        }
    }
}

/// Step 2: down to what is asked for, which may be more by and by. Where it ends the next one goes on, unless nobody is
/// left who wants anything.
fn descend(node: usize, thread: &Thread, request: &Request, depth: &mut Depth) {
    let mut waits = 0;
    loop {
        // Acquire: as in `is_asked`.
        let asked = Asked(thread.asked.load(Ordering::Acquire));
        if asked.0 == 0 {
            return;
        }
        depth.advance(asked);
        let wide = asked.is_wide();
        let report = request::in_flight().then(|| walk(node, thread, request, depth, wide));
        let wanted = report.as_ref().is_some_and(|report| !report.satisfied);
        if wanted && depth.priority > asked.priority() {
            continue;
        }
        // All was asked for, and not all could be asked, or could say.
        let busy = report.is_some_and(|report| report.skipped_busy > 0 || report.stopped > 0);
        if wanted && busy && depth.priority == 0 && waits < BUSY {
            waits += 1;
            os::sleep_us(BUSY_US);
            continue;
        }
        if !wanted {
            *depth = Depth::TOP;
        }
        // Release: pairs with the Acquire in `is_at_it`. Unless more is asked for by now.
        let _ = thread
            .asked
            .compare_exchange(asked.0, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// One walk over the async lane.
fn walk(node: usize, thread: &Thread, request: &Request, depth: &Depth, wide: bool) -> WalkReport {
    // Relaxed: see `ask`.
    let goal = thread.goal.load(Ordering::Relaxed);
    count(&COUNTERS.walks);
    let only = (!wide).then_some(node);
    let (node, nodes) = topology::machine().turns(node, wide);
    let walk = Walk {
        node,
        nodes,
        priority: depth.priority,
        exhaustive: depth.priority == 0,
        goal,
        max_value: depth.value,
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
    thread.visited();
    if visit.objects > 0 || visit.bytes > 0 {
        // Relaxed: the Release in `descend` is behind it.
        thread
            .fruits
            .fetch_add(visit.objects.max(1), Ordering::Relaxed);
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
    match request::in_flight() {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}
