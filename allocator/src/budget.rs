//! What memory is charged to before the system backs it: the process (`limits`), its node's account, the credit of a request
//! that reclaims.
//!
//! One figure, changed only when spans, mappings or bookkeeping change hands: never on the fast path.
//!
//! - An ordinary request may charge up to the budget less the *reserve*.
//! - One that fails at once (`scope::Mode::NoWait`) may have five eighths of the reserve: nobody makes room for it.
//! - Inside a reclaim (the thread's word names its `Request`) callbacks may charge up to the whole budget: the reserve
//!   is what they live on, and three eighths of it are theirs alone. The request itself may not, when it retries. A thread that
//!   may not reclaim (`scope::no_reclaim`) may: it may have to deal with a failure.
//!   What they borrow is repaid first by what they give back.
//! - The list of shrinkers itself, which cannot do without, may go over the budget, and its node's, for what it gets apart
//!   (`apart`, which says how much that is).
//! - A request that may not fail (`scope::Mode::NoFail`) may go over it, and over its node's, by as much as it needs. When
//!   all else has failed it is `forced`: it pays from its credit first, and is charged for the rest whatever the limit.
//! - What a reclaiming thread gives back goes to its request's *credit* and stays charged, so that no other thread
//!   takes it first. When the request retries it pays from the credit. Of what exceeds the budget (an overdraft, or a budget
//!   that was lowered) nobody gets credit: that is given up first.
//! - What is left at its end, and what a reclaim thread frees for others, goes to the common credit of the requests in
//!   flight (`ebb_shrinker::Credit`). A request that lacks some takes just that. The last one gives the rest up.
//! - Each node has an `account` of its own beside the one figure, where a request has a stake in one node, and the requests in
//!   flight for it have a common credit of their own.

use crate::account::{Account, Stake};
use crate::limits::{self, excess, hard_limit, no_wait_limit, ordinary_limit};
use crate::request;
use crate::scope::{self, Mode};
use crate::tally::{COUNTERS, add};
use crate::torture;

/// Charges `bytes`, unless that would exceed the limit.
#[must_use]
pub(crate) fn charge(bytes: usize) -> bool {
    if torture::fails() {
        return false;
    }
    let request = request::current();
    let spent = request.map_or(0, |request| request.spend(bytes));
    let limit = match request {
        Some(request) if !request.is_retrying() => hard_limit(),
        None if scope::in_no_reclaim() => hard_limit(),
        None if scope::current() == Some(Mode::NoWait) => no_wait_limit(),
        _ => ordinary_limit(),
    };
    let rest = bytes - spent;
    let charged = limits::charge_up_to(limit, rest).or_else(|backed| overdraw(backed, rest));
    match (charged, request) {
        (Ok(_), Some(request)) => request.borrow(rest),
        (Err(backed), Some(request)) => {
            request.add(spent);
            let over = backed.saturating_add(rest).saturating_sub(limit);
            request.note_lack(over.min(rest) + excess(), bytes > limit);
        }
        (_, None) => {}
    }
    limits::note();
    charged.is_ok()
}

/// Charges what does not fit, if it must be: what was backed before. What is backed, if not.
fn overdraw(backed: usize, bytes: usize) -> Result<usize, usize> {
    if scope::is_forced() {
        return limits::charge_up_to(usize::MAX, bytes).inspect(|before| {
            let over = (before + bytes).saturating_sub(hard_limit());
            add(&COUNTERS.forced_bytes, over.min(bytes) as u64);
        });
    }
    if scope::is_apart() {
        return limits::charge_up_to(usize::MAX, bytes);
    }
    Err(backed)
}

/// Gives back what was charged: to this thread's request, if it is reclaiming.
pub(crate) fn release(bytes: usize) {
    match request::current() {
        Some(request) => request.receive(bytes),
        None => limits::uncharge(bytes),
    }
}

/// This thread's stake on the node with this account, if it is reclaiming for that.
fn stake(account: &Account) -> Option<&'static Stake> {
    let stake = request::current()?.stake();
    stake.filter(|stake| stake.is_on(account))
}

/// Charges `bytes` to a node and the process, and `more` to the process only, unless that would exceed a limit.
#[must_use]
pub(crate) fn charge_on(account: &Account, bytes: usize, more: usize) -> bool {
    let Some(paid) = charge_node(account, bytes) else {
        return false;
    };
    let charged = charge(bytes + more);
    if !charged {
        undo_node(account, bytes, paid);
    }
    charged
}

/// Gives back what was charged.
pub(crate) fn release_on(account: &Account, bytes: usize, more: usize) {
    release_node(account, bytes);
    release(bytes + more);
}

/// Charges `bytes` to a node alone, unless that would exceed its limit. How much of it the request paid from its credit.
#[must_use]
pub(crate) fn charge_node(account: &Account, bytes: usize) -> Option<usize> {
    let retrying = request::current().is_some_and(|request| request.is_retrying());
    let stake = if retrying { stake(account) } else { None };
    let paid = account.charge(bytes, stake, retrying);
    paid.or_else(|| {
        let always = scope::is_forced() || scope::is_apart();
        always.then(|| account.charge_always(bytes, stake))
    })
}

/// Takes back what was just charged to a node alone, and `paid` so far: nothing was freed.
pub(crate) fn undo_node(account: &Account, bytes: usize, paid: usize) {
    account.undo(bytes, paid, stake(account));
}

/// Gives back what was charged to a node alone: to this thread's request if it is for that node, and what a reclaim thread
/// gives back to all of those.
pub(crate) fn release_node(account: &Account, bytes: usize) {
    let Some(request) = request::current() else {
        return account.uncharge(bytes);
    };
    match request.stake() {
        None => account.hand_over(bytes),
        Some(stake) => account.release(bytes, stake.is_on(account).then_some(stake)),
    }
}

/// In a forked child: gives up what threads that do not exist here held on a node.
pub(crate) fn forget_others_on(account: &Account) {
    account.forget_other_threads(stake(account));
}
