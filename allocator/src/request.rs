//! The credit of a request that reclaims: what its thread gave back so far, which nobody else gets before it has tried again.
//! See `budget`.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use ebb_shrinker::{Claim, Credit};

use crate::account::Stake;
use crate::limits::{excess, uncharge};
use crate::os;
use crate::tally::SHRINKERS;

// Relaxed, everywhere in this file: counters; no memory is published through them.

/// Bytes in the credits of all requests.
static HELD: AtomicUsize = AtomicUsize::new(0);

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
    /// Runs `f` as this thread's request, with this stake.
    pub(crate) fn run<R>(stake: Stake, f: impl FnOnce(&Self) -> R) -> R {
        let claim = SHRINKERS.credit().and_then(Credit::join);
        Self::with(claim, Some(stake), f)
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

    /// Whether it is trying again.
    pub(crate) fn is_retrying(&self) -> bool {
        self.retrying.get()
    }

    /// What it has on its node.
    pub(crate) fn stake(&self) -> Option<&Stake> {
        self.stake.as_ref()
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
    pub(crate) fn note_lack(&self, bytes: usize, hopeless: bool) {
        if self.retrying.get() {
            let known = self.lacking.get();
            self.lacking
                .set(if known == 0 { bytes } else { known.min(bytes) });
            self.hopeless.set(hopeless);
        }
    }

    /// Books what a callback charged, unless it was the request itself.
    pub(crate) fn borrow(&self, bytes: usize) {
        if !self.retrying.get() {
            self.borrowed.set(self.borrowed.get() + bytes);
        }
    }

    /// Takes bytes that were given back: to repay what was borrowed and what exceeds the budget, then as credit.
    pub(crate) fn receive(&self, bytes: usize) {
        let borrowed = bytes.min(self.borrowed.get());
        self.borrowed.set(self.borrowed.get() - borrowed);
        uncharge(borrowed);
        // Only now: what was borrowed may be what exceeded it.
        let given_up = excess().min(bytes - borrowed);
        uncharge(given_up);
        self.add(bytes - borrowed - given_up);
    }

    pub(crate) fn add(&self, bytes: usize) {
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
    pub(crate) fn spend(&self, bytes: usize) -> usize {
        match self.retrying.get() {
            true => self.take(bytes.min(self.credit.get())),
            false => 0,
        }
    }
}

/// This thread's request, if it is reclaiming.
pub(crate) fn current() -> Option<&'static Request> {
    let word = os::thread_word(REQUEST) as *const Request;
    // SAFETY: null, or the request on this thread's own stack, below us: `Request::with` takes it out when it ends.
    unsafe { word.as_ref() }
}

/// Whether any request is in flight.
pub(crate) fn in_flight() -> bool {
    SHRINKERS.credit().is_some_and(|credit| credit.claims() > 0)
}

/// Whether this thread is inside a reclaim.
pub(crate) fn reclaiming() -> bool {
    os::thread_word(REQUEST) != 0
}

/// In a forked child: gives up what threads that do not exist here held.
pub(crate) fn forget_other_threads() {
    let own = current();
    let held = own.map_or(0, Request::credit);
    let common = match SHRINKERS.credit() {
        Some(credit) => credit.forget_others(own.is_some_and(|request| request.claim.is_some())),
        None => 0,
    };
    let lost = HELD.swap(held, Ordering::Relaxed).saturating_sub(held) + common;
    uncharge(lost);
}
