//! What an allocation does before it fails.
//!
//! 1. If as many threads are reclaiming as is useful (one per node, and one), follow them: wait for what they free, and try
//!    again whenever there is news; for [`FOLLOW_NS`] at most. Else lead:
//! 2. Drain all sheaves and barns, purge all free spans; try again. Who wants more than the whole budget goes on at 8:
//!    no cache is emptied in vain.
//! 3. Walk the shrinkers, those of the lowest value first, at priorities 12 (gentle) to 0 (everything). Whenever as much was
//!    freed as the request lacks, drain, so that slabs come free, and try again; stop as soon as the request is
//!    satisfied. The last walk is exhaustive: no request fails while reclaimable memory would satisfy it. Leaders begin
//!    at their own nodes and behind each other's last shrinker, and pass over those that are busy.
//! 4. Beside that, tell the reclaim thread, if there are shrinkers for it (`background`), and wait for it at the end. What
//!    earlier walks put off is left to it, but for the last walk. One that is still at it for others is waited for, too.
//! 5. If something was freed, here or by the reclaim thread, or a shrinker was busy, begin step 3 again: as long as there is
//!    progress, which is bytes and not objects, and at most [`ROUNDS`] rounds without, and no longer than [`LIMIT_NS`]. A
//!    shrinker that was passed over because another thread is in it, which may have lost its CPU, is waited for; unless that
//!    one is stuck, or any thread has asked it for everything in vain meanwhile: else threads that fail together would
//!    find each other inside for ever. One that cannot say or do anything, since somebody holds its lock, is asked again for
//!    [`LOCKED_NS`], and no longer: that may be this thread.
//! 6. The last chance: call the notifiers, and try again after each that freed anything.
//! 7. Who may not fail is charged beyond the budget: no budget refuses the attempt. (Nor is step 3 in vain for it, however
//!    much it wants: the more is freed, the less it goes beyond.)
//! 8. Report (`report`), and fail.
//!
//! What the thread gives back meanwhile is credited to its request and nobody else's (`budget`). No lock of ours is
//! held anywhere here: shrinkers are called with none, and may allocate. An allocation inside a shrinker never comes
//! here a second time: it lives on the reserve, or fails. What the list of shrinkers itself allocates does none of this:
//! for it there is memory apart (`apart`). Scopes (`scope`) make a request do less.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use ebb_shrinker::{Credit, lock_order, thread_exiting, thread_must_not_fail};

use crate::account::Stake;
use crate::background;
use crate::budget;
use crate::give_back::give_back;
use crate::limits;
use crate::listeners;
use crate::node;
use crate::os;
use crate::report;
use crate::request::{self, Request};
use crate::round::{self, Aim, Round, Search};
use crate::scope::{self, Mode};
use crate::soft;
use crate::tally::{COUNTERS, SHRINKERS, add, count};
use crate::threads;
use crate::topology;
use crate::torture;

/// Rounds without progress before a request fails although a shrinker was busy.
const ROUNDS: u32 = 16;

/// How long a request has gone on without progress, in nanoseconds, before it fails although a shrinker could not say or do
/// anything.
const LOCKED_NS: u64 = 100_000_000;

/// How long a request may reclaim, in nanoseconds.
const LIMIT_NS: u64 = 10_000_000_000;

/// How long a round waits for busy shrinkers, in microseconds.
const PAUSE_US: u32 = 1000;

/// How long a request follows others before it leads, in nanoseconds.
const FOLLOW_NS: u64 = 100_000_000;

/// How long a follower sleeps when there is no news: frees by others bring none.
const FOLLOW_SLEEP: Duration = Duration::from_millis(1);

/// Threads that are reclaiming.
static LEADERS: AtomicUsize = AtomicUsize::new(0);

/// Runs `attempt`, which allocates or gives nothing; if it fails, reclaims and runs it again. Where only memory of one
/// node would help, only that is reclaimed.
pub(crate) fn with_reclaim(
    only: Option<usize>,
    attempt: &dyn Fn() -> Option<usize>,
) -> Option<usize> {
    listeners::ensure_teller();
    if lock_order::is_used() && may_reclaim() {
        // Seldom does it have to, but then a lock that a callback wants would be one too many.
        lock_order::allocating(scope::without());
    }
    if torture::is_on() {
        let block = tortured(only, attempt);
        background::look_ahead();
        return block;
    }
    let block = attempt().or_else(|| reclaim(only, attempt));
    background::look_ahead();
    block
}

/// The same, with trouble on purpose.
#[cold]
fn tortured(only: Option<usize>, attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
    if !may_reclaim() {
        return attempt().or_else(|| reclaim(only, attempt));
    }
    let _uncancelled = os::Uncancelled::new();
    let trouble = torture::next();
    if trouble.delay_us > 0 {
        os::sleep_us(trouble.delay_us);
    }
    if let Some(priority) = trouble.reclaim {
        Request::run(stake(only), |_| round::once(priority));
    }
    torture::arm(trouble.fail);
    let block = attempt();
    torture::arm(false);
    block.or_else(|| reclaim(only, attempt))
}

/// Whether an allocation of this thread may reclaim now.
fn may_reclaim() -> bool {
    let spared = request::reclaiming() || scope::in_no_reclaim();
    !spared && scope::current() != Some(Mode::NoWait)
}

#[cold]
#[inline(never)]
fn reclaim(only: Option<usize>, attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
    count(&COUNTERS.failures);
    if thread_must_not_fail() {
        // It waits for nobody, and there is memory for it that nobody else uses up.
        return scope::apart(attempt);
    }
    let no_fail = scope::in_no_fail();
    if may_reclaim() {
        return as_request(only, Aim::Block, &|_| attempt());
    }
    no_fail.then(|| force(attempt)).flatten()
}

/// Step 7: makes an attempt that only the system can refuse.
fn force(attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
    let block = scope::forced(attempt);
    if block.is_some() {
        count(&COUNTERS.forced);
        report::forced();
    }
    block
}

/// Reclaims although nothing is lacking, until `bytes` less are backed or nothing is left; in vain or not, nobody else is told.
/// How many less it were.
pub(crate) fn on_demand(bytes: usize) -> usize {
    if !may_reclaim() {
        return 0;
    }
    let before = limits::backed();
    as_request(None, Aim::Bytes, &|request| {
        // What was given back is credit, and charged until the request ends.
        let common = SHRINKERS.credit().map_or(0, Credit::bytes);
        let less = (before + request.credit() + common).saturating_sub(limits::backed());
        request.note_lack(bytes.saturating_sub(less), false);
        (less >= bytes).then_some(0)
    });
    before.saturating_sub(limits::backed())
}

/// Asks all shrinkers for everything, as the kernel does when `drop_caches` is written to, and gives back all that is kept for
/// reuse. How many bytes less are backed.
pub(crate) fn drop_caches() -> usize {
    if !may_reclaim() {
        return 0;
    }
    let before = limits::backed();
    // This request wants nothing: what comes free is for those that others make meanwhile.
    let hand_over = |request: &Request| {
        if request.credit() > 0 {
            request.hand_over();
        }
        None
    };
    if !SHRINKERS.is_empty() {
        as_request(None, Aim::Everything, &hand_over);
    }
    give_back(None);
    before.saturating_sub(limits::backed())
}

/// Reclaims for `attempt`, as a request.
fn as_request(
    only: Option<usize>,
    aim: Aim,
    attempt: &dyn Fn(&Request) -> Option<usize>,
) -> Option<usize> {
    // Whose failure is nobody's hears of no last chance, and is not reported.
    let demanded = (aim != Aim::Block).then_some(Mode::RetryMayFail);
    let _uncancelled = os::Uncancelled::new();
    count(&COUNTERS.reclaims);
    let start = os::now_ns();
    let block = Request::run(stake(only), |request| {
        let search = Search {
            request,
            attempt: &|| attempt(request),
            only,
            aim,
            mode: scope::current().or(demanded),
            no_fail: aim == Aim::Block && scope::in_no_fail(),
            until: start + LIMIT_NS,
        };
        follow(&search).or_else(|| lead_counted(&search))
    });
    let spent = os::now_ns() - start;
    add(&COUNTERS.ns_total, spent);
    // Relaxed: a figure.
    COUNTERS.ns_max.fetch_max(spent, Ordering::Relaxed);
    count(match block {
        Some(_) => &COUNTERS.satisfied,
        None => &COUNTERS.failed,
    });
    block
}

/// A stake on the node that is insisted on, or of this thread's home.
fn stake(only: Option<usize>) -> Stake {
    let number = only.unwrap_or_else(|| topology::machine().home_of(os::cpu()));
    let account = &node::node(number).arena.account;
    Stake::new(account, SHRINKERS.credit_on(number), only.is_some())
}

/// Step 1: waits while enough other threads reclaim.
fn follow(search: &Search<'_>) -> Option<usize> {
    let patient = search.mode != Some(Mode::NoRetry) && !thread_exiting();
    let until = os::now_ns() + FOLLOW_NS;
    let enough = topology::machine().nodes + 1;
    // Relaxed: a hint.
    while patient && LEADERS.load(Ordering::Relaxed) >= enough && os::now_ns() < until {
        let news = search.request.claim().map(|claim| (claim, claim.news()));
        if let Some(block) = search.request.retry(search.attempt) {
            count(&COUNTERS.followed);
            return Some(block);
        }
        match news {
            Some((claim, seen)) => claim.sleep(seen, FOLLOW_SLEEP),
            None => os::sleep_us(FOLLOW_SLEEP.as_micros() as u32),
        }
    }
    None
}

fn lead_counted(search: &Search<'_>) -> Option<usize> {
    // Relaxed: a hint for followers.
    LEADERS.fetch_add(1, Ordering::Relaxed);
    let block = lead(search);
    LEADERS.fetch_sub(1, Ordering::Relaxed);
    if let Some(credit) = SHRINKERS.credit() {
        credit.tell();
    }
    block
}

/// How long a request has gone on without progress.
struct Patience {
    rounds: u32,
    since: u64,
}

impl Patience {
    fn new() -> Self {
        Self {
            rounds: 0,
            since: os::now_ns(),
        }
    }

    /// Books a round.
    fn book(&mut self, progress: bool) {
        self.rounds += 1;
        if progress {
            *self = Self::new();
        }
    }

    /// Whether that is too long.
    fn is_over(&self, last: &Round) -> bool {
        let locked = last.stopped > 0 && os::now_ns() - self.since < LOCKED_NS;
        self.rounds > ROUNDS && !last.pending && !locked
    }
}

/// Steps 2 to 8.
fn lead(search: &Search<'_>) -> Option<usize> {
    give_back(search.only);
    let mut block = search.request.retry(search.attempt);
    let lacking = search.request.lacking();
    let hopeless = block.is_none() && search.request.is_hopeless() && !search.no_fail;
    let mut last = Round::default();
    let (mut patience, mut freed) = (Patience::new(), 0_usize);
    while block.is_none() && !hopeless && !SHRINKERS.is_empty() {
        let held = search.request.credit();
        last = Round::run(search, last.impatient, patience.since);
        block = last.block.or_else(|| {
            give_back(search.only);
            search.request.retry(search.attempt)
        });
        freed += last.bytes;
        patience.book(search.request.credit() > held);
        let nothing = !last.freed && !last.busy;
        let once = search.mode == Some(Mode::NoRetry);
        if block.is_some() || once || nothing || patience.is_over(&last) || search.time_is_up() {
            break;
        }
        if !last.freed {
            os::sleep_us(PAUSE_US);
        }
    }
    if block.is_some() && lacking > 0 {
        add(&COUNTERS.excess, freed.saturating_sub(lacking) as u64);
    }
    if block.is_none() && !hopeless && !last.impatient && search.may_wait() {
        block = background::wait_for_others(search.request, search.attempt, search.until);
    }
    let all = search.mode.is_none();
    if block.is_none() && all && !hopeless {
        block = search.last_chance();
    }
    if block.is_none() && search.no_fail {
        block = force(&|| search.request.retry(search.attempt));
    }
    if block.is_none() && all {
        report::write(lacking, &last.figures());
    }
    block
}

/// As [`give_back`], from all nodes: how many bytes, about.
pub(crate) fn purge() -> usize {
    let before = limits::backed();
    give_back(None);
    before.saturating_sub(limits::backed())
}

/// In a forked child: only this thread is left, so only it can be reclaiming.
pub(crate) fn forget_other_threads() {
    // Relaxed: there is one thread.
    LEADERS.store(usize::from(request::reclaiming()), Ordering::Relaxed);
    request::forget_other_threads();
    for node in node::all() {
        budget::forget_others_on(&node.arena.account);
    }
    threads::forget();
    soft::arm();
    listeners::forget_teller();
}
