//! What an allocation does before it fails.
//!
//! 1. If another thread is reclaiming, wait for it a little and try again: its memory may do for both.
//! 2. Drain all sheaves and barns, purge all free spans; try again.
//! 3. Walk the shrinkers at priorities 12 (gentle) to 0 (everything). After each that freed something, drain, so that
//!    slabs come free, and try again; stop as soon as the request is satisfied. The last walk is exhaustive: no request
//!    fails while reclaimable memory would satisfy it.
//! 4. If something was freed, or a shrinker was busy, begin step 3 again: as long as there is progress, and at most
//!    [`ROUNDS`] rounds without, and no longer than [`LIMIT_NS`].
//! 5. Fail.
//!
//! What the thread gives back meanwhile is credited to its request and nobody else's (`budget`). No lock of ours is
//! held anywhere here: shrinkers are called with none, and may allocate. An allocation inside a shrinker never comes
//! here a second time: it lives on the reserve, or fails.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ebb_shrinker::{DEF_PRIORITY, ShrinkerList, Visit, Walk};

use crate::budget::{self, Request};
use crate::drain;
use crate::node;
use crate::os;
use crate::topology;

/// Rounds without progress before a request fails although a shrinker was busy.
const ROUNDS: u32 = 16;

/// How long a request may reclaim, in nanoseconds.
const LIMIT_NS: u64 = 10_000_000_000;

/// How long a round waits for busy shrinkers, in microseconds.
const PAUSE_US: u32 = 1000;

/// How often a follower looks whether a leader has made room, and how long it sleeps in between, in microseconds.
const LOOKS: u32 = 40;
/// See [`LOOKS`].
const LOOK_US: u32 = 250;

/// The process's shrinkers.
pub(crate) static SHRINKERS: ShrinkerList = ShrinkerList::new();

/// Threads that are reclaiming.
static LEADERS: AtomicUsize = AtomicUsize::new(0);

/// Counters of reclaim. Relaxed everywhere: figures.
pub(crate) struct Counters {
    pub(crate) failures: AtomicU64,
    pub(crate) reclaims: AtomicU64,
    pub(crate) satisfied: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) walks: AtomicU64,
    pub(crate) credited: AtomicU64,
    pub(crate) ns_total: AtomicU64,
    pub(crate) ns_max: AtomicU64,
    pub(crate) drains: AtomicU64,
    pub(crate) purges: AtomicU64,
}

pub(crate) static COUNTERS: Counters = Counters {
    failures: AtomicU64::new(0),
    reclaims: AtomicU64::new(0),
    satisfied: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    walks: AtomicU64::new(0),
    credited: AtomicU64::new(0),
    ns_total: AtomicU64::new(0),
    ns_max: AtomicU64::new(0),
    drains: AtomicU64::new(0),
    purges: AtomicU64::new(0),
};

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Runs `attempt`, which allocates or gives nothing; if it fails, reclaims and runs it again.
pub(crate) fn with_reclaim(attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
    attempt().or_else(|| reclaim(attempt))
}

#[cold]
#[inline(never)]
fn reclaim(attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
    count(&COUNTERS.failures);
    if budget::reclaiming() {
        return None;
    }
    if let Some(block) = follow(attempt) {
        return Some(block);
    }
    count(&COUNTERS.reclaims);
    let start = os::now_ns();
    // Relaxed: a hint for followers.
    LEADERS.fetch_add(1, Ordering::Relaxed);
    let block = Request::run(|request| lead(request, attempt, start));
    LEADERS.fetch_sub(1, Ordering::Relaxed);
    let spent = os::now_ns() - start;
    COUNTERS.ns_total.fetch_add(spent, Ordering::Relaxed);
    COUNTERS.ns_max.fetch_max(spent, Ordering::Relaxed);
    count(if block.is_some() {
        &COUNTERS.satisfied
    } else {
        &COUNTERS.failed
    });
    block
}

/// Step 1: waits while another thread reclaims, trying again now and then.
fn follow(attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
    for _ in 0..LOOKS {
        // Relaxed: a hint.
        if LEADERS.load(Ordering::Relaxed) == 0 || ebb_shrinker::thread_exiting() {
            return None;
        }
        os::sleep_us(LOOK_US);
        if let Some(block) = attempt() {
            return Some(block);
        }
    }
    None
}

/// Steps 2 to 5.
fn lead(request: &Request, attempt: &dyn Fn() -> Option<usize>, start: u64) -> Option<usize> {
    give_back();
    let mut block = request.retry(attempt);
    let mut fruitless = 0;
    while block.is_none() && !SHRINKERS.is_empty() {
        let round = Round::run(request, attempt);
        block = round.block.or_else(|| {
            give_back();
            request.retry(attempt)
        });
        fruitless = if round.freed { 0 } else { fruitless + 1 };
        let hopeless = !round.freed && !round.busy;
        if block.is_some() || hopeless || fruitless > ROUNDS || os::now_ns() - start > LIMIT_NS {
            break;
        }
        if !round.freed {
            os::sleep_us(PAUSE_US);
        }
    }
    block
}

/// One descent through the priorities.
struct Round {
    block: Option<usize>,
    freed: bool,
    busy: bool,
}

impl Round {
    fn run(request: &Request, attempt: &dyn Fn() -> Option<usize>) -> Self {
        let mut round = Self {
            block: None,
            freed: false,
            busy: false,
        };
        let machine = topology::machine();
        let node = machine.node_of(os::cpu()) as u32;
        for priority in (0..=DEF_PRIORITY).rev() {
            count(&COUNTERS.walks);
            let walk = Walk {
                node,
                nodes: machine.nodes as u32,
                priority,
                exhaustive: priority == 0,
            };
            let mut credit = request.credit();
            let report = SHRINKERS.walk(&walk, &mut |visit| {
                round.after(visit, request, attempt, &mut credit)
            });
            round.busy |= report.skipped_busy > 0 || report.stopped > 0;
            if round.block.is_some() {
                break;
            }
        }
        round
    }

    /// After each shrinker: tries again if it freed something.
    fn after(
        &mut self,
        visit: &Visit,
        request: &Request,
        attempt: &dyn Fn() -> Option<usize>,
        credit: &mut usize,
    ) -> ControlFlow<()> {
        if visit.objects == 0 && visit.bytes == 0 && request.credit() == *credit {
            return ControlFlow::Continue(());
        }
        self.freed = true;
        count(&COUNTERS.drains);
        drain::drain();
        let gained = request.credit().saturating_sub(*credit);
        COUNTERS
            .credited
            .fetch_add(gained as u64, Ordering::Relaxed);
        self.block = request.retry(attempt);
        *credit = request.credit();
        if self.block.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Drains all sheaves and barns and purges all free spans. Bytes given back: to the system, or to this thread's request.
pub(crate) fn give_back() {
    count(&COUNTERS.drains);
    count(&COUNTERS.purges);
    drain::drain();
    for node in node::all() {
        node.arena.purge(0);
    }
}

/// In a forked child: only this thread is left, so only it can be reclaiming.
pub(crate) fn forget_other_threads() {
    // Relaxed: there is one thread.
    LEADERS.store(usize::from(budget::reclaiming()), Ordering::Relaxed);
}
