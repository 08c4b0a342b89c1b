//! How much memory the operating system backs for us, how much it may, and the credit of a reclaiming request.
//!
//! One figure, changed only when spans, mappings or bookkeeping change hands: never on the fast path.
//!
//! - An ordinary request may charge up to the budget less the *reserve*.
//! - Inside a reclaim (the thread's word names its [`Request`]) callbacks may charge up to the whole budget: the reserve
//!   is what they live on. The request itself may not, when it retries. Nor need a thread that may not reclaim.
//!   What they borrow is repaid first by what they give back.
//! - The list of shrinkers itself, which cannot do without, may go over the budget by [`OVERDRAFT`] for each node.
//! - What a reclaiming thread gives back goes to its request's *credit* and stays charged, so that no other thread
//!   takes it first. When the request retries it pays from the credit. Of what exceeds the budget (an overdraft, or a budget
//!   that was lowered) nobody gets credit: that is given up first.
//! - What is left at its end, and what a reclaim thread frees for others, goes to the common credit of the requests in
//!   flight (`ebb_shrinker::Credit`). A request that lacks some takes just that. The last one gives the rest up.
//! - Each node has an `account` of its own beside the one figure, where a request has a stake in one node.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use ebb_shrinker::Claim;

use crate::account::{Account, Stake};
use crate::level;
use crate::os;
use crate::scope;
use crate::tally::SHRINKERS;
use crate::topology;
use crate::torture;

// Relaxed, everywhere in this file: counters; no memory is published through them.

/// Bytes backed.
static BACKED: AtomicUsize = AtomicUsize::new(0);
/// The budget in bytes; `usize::MAX` is none.
static BUDGET: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The reserve in bytes, once somebody set it.
static RESERVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Bytes in the credits of all requests.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// How far the bookkeeping of the list of shrinkers may exceed the budget, in bytes, for each node: a thread's part of it
/// lies where the thread ran first, and needs a slab or two there.
const OVERDRAFT: usize = 1 << 20;

/// Which of the thread's words names its request.
const REQUEST: usize = 0;

/// What one failing allocation has got back so far. Lives on its thread's stack.
pub(crate) struct Request {
    credit: Cell<usize>,
    /// Bytes charged by callbacks and not yet given back.
    borrowed: Cell<usize>,
    /// Whether the request is trying again: only then may the credit be spent.
    retrying: Cell<bool>,
    /// How many bytes the last attempt lacked; 0 when it was not the budget that refused it.
    lacking: Cell<usize>,
    /// Whether the last attempt wanted more at once than there may ever be.
    hopeless: Cell<bool>,
    /// Its part in the common credit, if it is one of the requests in flight.
    claim: Option<Claim<'static>>,
    /// What it has on its node.
    stake: Option<Stake>,
}

impl Request {
    /// Runs `f` as this thread's request: for memory of the node with this account, whose alone if it is `strict`.
    pub(crate) fn run<R>(account: &'static Account, strict: bool, f: impl FnOnce(&Self) -> R) -> R {
        let claim = SHRINKERS.credit().and_then(|credit| credit.join());
        Self::with(claim, Some(Stake::new(account, strict)), f)
    }

    /// Runs `f`, which frees memory for the requests in flight.
    pub(crate) fn serve<R>(f: impl FnOnce(&Self) -> R) -> R {
        Self::with(None, None, f)
    }

    fn with<R>(
        claim: Option<Claim<'static>>,
        stake: Option<Stake>,
        f: impl FnOnce(&Self) -> R,
    ) -> R {
        let request = Self {
            credit: Cell::new(0),
            borrowed: Cell::new(0),
            retrying: Cell::new(false),
            lacking: Cell::new(0),
            hopeless: Cell::new(false),
            claim,
            stake,
        };
        os::set_thread_word(REQUEST, (&raw const request).addr());
        let result = f(&request);
        os::set_thread_word(REQUEST, 0);
        let left = request.take_all();
        let unclaimed = match request.claim {
            Some(claim) => claim.leave(left),
            None => left,
        };
        uncharge(unclaimed);
        result
    }

    /// Runs `attempt`, which may spend the credit, and what it lacks of the common one.
    pub(crate) fn retry(&self, attempt: &dyn Fn() -> Option<usize>) -> Option<usize> {
        self.retrying.set(true);
        self.lacking.set(0);
        self.stake.iter().for_each(Stake::forget_lack);
        let mut block = attempt();
        if block.is_none() && self.take_lacking() {
            block = attempt();
        }
        self.retrying.set(false);
        block
    }

    /// Takes what the last attempt lacked from the common credit. Whether there was enough.
    fn take_lacking(&self) -> bool {
        let lacking = self.lacking.get();
        let taken = lacking > 0 && self.claim.as_ref().is_some_and(|claim| claim.take(lacking));
        if taken {
            self.add(lacking);
        }
        taken
    }

    /// Gives the credit to the requests in flight; if there are none, to whoever comes.
    pub(crate) fn hand_over(&self) {
        let bytes = self.take_all();
        let given = SHRINKERS.credit().is_some_and(|credit| credit.give(bytes));
        if !given {
            uncharge(bytes);
        }
    }

    /// Its part in the common credit.
    pub(crate) fn claim(&self) -> Option<&Claim<'static>> {
        self.claim.as_ref()
    }

    /// Bytes given back and not yet spent.
    pub(crate) fn credit(&self) -> usize {
        self.credit.get()
    }

    /// Bytes that the last attempt lacked, of the process's budget or the node's; 0 when that is not known.
    pub(crate) fn lacking(&self) -> usize {
        let here = self.stake.as_ref().map_or(0, Stake::lacking);
        self.lacking.get().max(here)
    }

    /// Whether the last attempt wanted more than the whole budget: then nothing that is freed will do.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.hopeless.get() || self.stake.as_ref().is_some_and(Stake::is_hopeless)
    }

    /// Notes what its attempt lacked: the least, where several nodes were asked. What a callback lacks is its own affair.
    fn note_lack(&self, bytes: usize, hopeless: bool) {
        if self.retrying.get() {
            let known = self.lacking.get();
            self.lacking
                .set(if known == 0 { bytes } else { known.min(bytes) });
            self.hopeless.set(hopeless);
        }
    }

    /// Books what a callback charged, unless it was the request itself.
    fn borrow(&self, bytes: usize) {
        if !self.retrying.get() {
            self.borrowed.set(self.borrowed.get() + bytes);
        }
    }

    /// Takes bytes that were given back: to repay what was borrowed and what exceeds the budget, then as credit.
    fn receive(&self, bytes: usize) {
        let borrowed = bytes.min(self.borrowed.get());
        self.borrowed.set(self.borrowed.get() - borrowed);
        uncharge(borrowed);
        // Only now: what was borrowed may be what exceeded it.
        let given_up = excess().min(bytes - borrowed);
        uncharge(given_up);
        self.add(bytes - borrowed - given_up);
    }

    fn add(&self, bytes: usize) {
        self.credit.set(self.credit.get() + bytes);
        HELD.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> usize {
        self.credit.set(self.credit.get() - bytes);
        HELD.fetch_sub(bytes, Ordering::Relaxed);
        bytes
    }

    fn take_all(&self) -> usize {
        self.take(self.credit.get())
    }

    /// Spends up to `bytes`; how many it were.
    fn spend(&self, bytes: usize) -> usize {
        match self.retrying.get() {
            true => self.take(bytes.min(self.credit.get())),
            false => 0,
        }
    }
}

/// This thread's request, if it is reclaiming.
fn request() -> Option<&'static Request> {
    let word = os::thread_word(REQUEST) as *const Request;
    // SAFETY: null, or the request on this thread's own stack, below us: `Request::with` takes it out when it ends.
    unsafe { word.as_ref() }
}

/// Whether this thread is inside a reclaim.
pub(crate) fn reclaiming() -> bool {
    os::thread_word(REQUEST) != 0
}

/// Charges `bytes`, unless that would exceed the limit.
#[must_use]
pub(crate) fn charge(bytes: usize) -> bool {
    if torture::fails() {
        return false;
    }
    let request = request();
    let spent = request.map_or(0, |request| request.spend(bytes));
    let limit = match request {
        Some(request) if !request.retrying.get() => hard_limit(),
        None if scope::in_no_reclaim() => hard_limit(),
        _ => soft_limit(),
    };
    let rest = bytes - spent;
    let charged = charge_up_to(limit, rest).or_else(|backed| {
        if ebb_shrinker::thread_must_not_fail() {
            let overdraft = OVERDRAFT * topology::machine().nodes;
            return charge_up_to(hard_limit().saturating_add(overdraft), rest);
        }
        Err(backed)
    });
    match (charged, request) {
        (Ok(_), Some(request)) => request.borrow(rest),
        (Err(backed), Some(request)) => {
            request.add(spent);
            let over = backed.saturating_add(rest).saturating_sub(limit);
            request.note_lack(over.min(rest) + excess(), bytes > limit);
        }
        (_, None) => {}
    }
    note();
    charged.is_ok()
}

/// Charges `bytes` if that stays within `limit`; what is backed already, if not.
fn charge_up_to(limit: usize, bytes: usize) -> Result<usize, usize> {
    BACKED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |backed| {
        let total = backed.checked_add(bytes)?;
        (total <= limit || bytes == 0).then_some(total)
    })
}

/// Charges `bytes` whatever the limit: what there is no doing without.
pub(crate) fn charge_always(bytes: usize) {
    BACKED.fetch_add(bytes, Ordering::Relaxed);
    note();
}

/// Gives back what was charged: to this thread's request, if it is reclaiming.
pub(crate) fn release(bytes: usize) {
    match request() {
        Some(request) => request.receive(bytes),
        None => uncharge(bytes),
    }
}

/// Takes bytes off what is backed.
fn uncharge(bytes: usize) {
    if bytes > 0 {
        BACKED.fetch_sub(bytes, Ordering::Relaxed);
        note();
    }
}

/// Has the pressure follow what has changed.
fn note() {
    level::update(|| (backed(), soft_limit()));
}

/// This thread's stake on the node with this account, if it is reclaiming for that.
fn stake(account: &Account) -> Option<&'static Stake> {
    let stake = request()?.stake.as_ref();
    stake.filter(|stake| stake.is_on(account))
}

/// Charges `bytes` to a node and the process, and `more` to the process only, unless that would exceed a limit.
#[must_use]
pub(crate) fn charge_on(account: &Account, bytes: usize, more: usize) -> bool {
    let charged = charge_node(account, bytes);
    if charged && !charge(bytes + more) {
        release_node(account, bytes);
        return false;
    }
    charged
}

/// Gives back what was charged.
pub(crate) fn release_on(account: &Account, bytes: usize, more: usize) {
    release_node(account, bytes);
    release(bytes + more);
}

/// Charges `bytes` to a node alone, unless that would exceed its limit.
#[must_use]
pub(crate) fn charge_node(account: &Account, bytes: usize) -> bool {
    let retrying = request().is_some_and(|request| request.retrying.get());
    let stake = if retrying { stake(account) } else { None };
    account.charge(bytes, stake)
}

/// Gives back what was charged to a node alone.
pub(crate) fn release_node(account: &Account, bytes: usize) {
    account.release(bytes, stake(account));
}

/// In a forked child: gives up what threads that do not exist here held on a node.
pub(crate) fn forget_others_on(account: &Account) {
    account.forget_other_threads(stake(account));
}

/// Bytes backed now.
pub(crate) fn backed() -> usize {
    BACKED.load(Ordering::Relaxed)
}

/// Sets the budget, or takes it away.
pub(crate) fn set(bytes: Option<usize>) {
    BUDGET.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
    note();
}

/// The budget, if there is one.
pub(crate) fn get() -> Option<usize> {
    let bytes = BUDGET.load(Ordering::Relaxed);
    (bytes != usize::MAX).then_some(bytes)
}

/// Sets the reserve.
pub(crate) fn set_reserve(bytes: usize) {
    RESERVE.store(bytes, Ordering::Relaxed);
    note();
}

/// The reserve in bytes: as it was set, or a sixty-fourth of the budget, between 64 KiB and 4 MiB.
pub(crate) fn reserve() -> usize {
    match RESERVE.load(Ordering::Relaxed) {
        usize::MAX => get().map_or(0, |budget| (budget / 64).clamp(64 << 10, 4 << 20)),
        bytes => bytes,
    }
}

/// In a forked child: gives up what threads that do not exist here held.
pub(crate) fn forget_other_threads() {
    let own = request();
    let held = own.map_or(0, Request::credit);
    let common = match SHRINKERS.credit() {
        Some(credit) => credit.forget_others(own.is_some_and(|request| request.claim.is_some())),
        None => 0,
    };
    let lost = HELD.swap(held, Ordering::Relaxed).saturating_sub(held) + common;
    uncharge(lost);
}

/// Bytes backed beyond the budget.
fn excess() -> usize {
    backed().saturating_sub(hard_limit())
}

fn hard_limit() -> usize {
    get().unwrap_or(usize::MAX)
}

fn soft_limit() -> usize {
    get().map_or(usize::MAX, |budget| budget.saturating_sub(reserve()))
}
