//! What is backed on one node, how much may be, and what of it is a reclaiming request's own.
//!
//! Beside the one figure of the process (`budget`) each node has an account, for its spans and mappings. It knows no
//! reserve. What a request's thread gives back on the node that the request insists on, or begins with, is its *stake*
//! there: it stays charged, so that nobody else takes it first, until the request has it or ends. What is left then, and what
//! a reclaim thread gives back there, is common to the requests in flight for the node, as that of the process is (`budget`);
//! any request that tries again may pay from it.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use ebb_shrinker::{Claim, Credit};

// Relaxed, where nothing else is said: counters; no memory is published through them.

/// A node's account.
pub(crate) struct Account {
    backed: AtomicUsize,
    /// One more than the limit; 0 is none, so that accounts are zeros at first and take no room in the program's file.
    budget: AtomicUsize,
    /// Of what is backed, bytes in stakes.
    held: AtomicUsize,
    /// Of what is backed, what is set aside for the requests in flight; null until there was one.
    common: AtomicPtr<Credit>,
}

/// What a request has on its node.
pub(crate) struct Stake {
    account: &'static Account,
    /// Whether no other node will do.
    strict: bool,
    /// Bytes given back and not yet spent.
    credit: Cell<usize>,
    /// How many bytes the last attempt lacked.
    lacking: Cell<usize>,
    /// Whether the last attempt wanted more at once than there may ever be.
    hopeless: Cell<bool>,
    /// Its part in what is common, where the node has a budget.
    claim: Option<Claim<'static>>,
}

impl Stake {
    /// Nothing yet, on the node with this account, where `common` is common.
    pub(crate) fn new(
        account: &'static Account,
        common: Option<&'static Credit>,
        strict: bool,
    ) -> Self {
        let common = account.get().and(common);
        if let Some(common) = common {
            // Release: pairs with the Acquire in `common`; who sees it sees it made.
            let common = ptr::from_ref(common).cast_mut();
            account.common.store(common, Ordering::Release);
        }
        Self {
            account,
            strict,
            credit: Cell::new(0),
            lacking: Cell::new(0),
            hopeless: Cell::new(false),
            claim: common.and_then(Credit::join),
        }
    }

    /// Whether it is one on the node with this account.
    pub(crate) fn is_on(&self, account: &Account) -> bool {
        ptr::eq(self.account, account)
    }

    /// Bytes that the last attempt lacked here.
    pub(crate) fn lacking(&self) -> usize {
        self.lacking.get()
    }

    /// Whether nothing that is freed will do.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.strict && self.hopeless.get()
    }

    /// Before an attempt: nothing is lacking yet.
    pub(crate) fn forget_lack(&self) {
        self.lacking.set(0);
        self.hopeless.set(false);
    }

    fn add(&self, bytes: usize) {
        self.credit.set(self.credit.get() + bytes);
        self.account.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) {
        self.credit.set(self.credit.get() - bytes);
        self.account.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What was not spent is for the others; of the last one it is given up.
impl Drop for Stake {
    fn drop(&mut self) {
        let left = self.credit.get();
        self.spend(left);
        let unclaimed = match self.claim.take() {
            Some(claim) => claim.leave(left),
            None => left,
        };
        self.account.uncharge(unclaimed);
    }
}

impl Account {
    pub(crate) const fn new() -> Self {
        Self {
            backed: AtomicUsize::new(0),
            budget: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            common: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// What is set aside here, once a request was in flight.
    fn common(&self) -> Option<&'static Credit> {
        // Acquire: pairs with the Release in `Stake::new`.
        let common = self.common.load(Ordering::Acquire);
        // SAFETY: null, or from a reference that is for ever.
        unsafe { common.as_ref() }
    }

    /// Charges `bytes`, unless that would exceed the limit. A request that is `retrying` pays from its `stake` here first, and
    /// what it lacks then from what is common: so much was paid with what was charged before.
    #[must_use]
    pub(crate) fn charge(
        &self,
        bytes: usize,
        stake: Option<&Stake>,
        retrying: bool,
    ) -> Option<usize> {
        let spent = stake.map_or(0, |stake| bytes.min(stake.credit.get()));
        let rest = bytes - spent;
        let limit = self.get().unwrap_or(usize::MAX);
        let before = self.backed.fetch_add(rest, Ordering::Relaxed);
        let lacking = before.saturating_add(rest).saturating_sub(limit).min(rest);
        let fits = lacking == 0 || (retrying && self.take(lacking));
        // What was taken was charged already.
        self.uncharge(if fits { lacking } else { rest });
        match stake {
            Some(stake) if fits => stake.spend(spent),
            Some(stake) => {
                stake.lacking.set(lacking);
                stake.hopeless.set(bytes > limit);
            }
            None => {}
        }
        fits.then_some(spent + lacking)
    }

    /// Charges `bytes` whatever the limit, of which the `stake` pays what it can: so much was paid.
    pub(crate) fn charge_always(&self, bytes: usize, stake: Option<&Stake>) -> usize {
        let spent = stake.map_or(0, |stake| bytes.min(stake.credit.get()));
        stake.iter().for_each(|stake| stake.spend(spent));
        self.backed.fetch_add(bytes - spent, Ordering::Relaxed);
        spent
    }

    /// Takes a charge back, of which so much was `paid`: that belongs to the `stake` here again, or is common.
    pub(crate) fn undo(&self, bytes: usize, paid: usize, stake: Option<&Stake>) {
        self.uncharge(bytes - paid);
        match stake {
            Some(stake) => stake.add(paid),
            None => self.hand_over(paid),
        }
    }

    /// Takes `bytes` of what is common, all of them or none.
    fn take(&self, bytes: usize) -> bool {
        self.common().is_some_and(|common| common.take(bytes))
    }

    /// Takes bytes off what is backed.
    pub(crate) fn uncharge(&self, bytes: usize) {
        if bytes > 0 {
            self.backed.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Gives back what was charged: to the `stake` here of a thread that is reclaiming.
    pub(crate) fn release(&self, bytes: usize, stake: Option<&Stake>) {
        match stake {
            Some(stake) => stake.add(bytes),
            None => self.uncharge(bytes),
        }
    }

    /// Gives back what was charged: to the requests in flight here; if there are none, to whoever comes.
    pub(crate) fn hand_over(&self, bytes: usize) {
        let common = self.common().filter(|_| bytes > 0);
        if !common.is_some_and(|common| common.give(bytes)) {
            self.uncharge(bytes);
        }
    }

    /// In a forked child: gives up what threads that do not exist here held. `stake` is what the one that does has here.
    pub(crate) fn forget_other_threads(&self, stake: Option<&Stake>) {
        let own = stake.map_or(0, |stake| stake.credit.get());
        let lost = self.held.swap(own, Ordering::Relaxed).saturating_sub(own);
        let joined = stake.is_some_and(|stake| stake.claim.is_some());
        let common = self.common();
        let unclaimed = common.map_or(0, |common| common.forget_others(joined));
        self.uncharge(lost + unclaimed);
    }

    /// Bytes backed on this node.
    pub(crate) fn backed(&self) -> usize {
        self.backed.load(Ordering::Relaxed)
    }

    /// Sets the node's budget, or takes it away.
    pub(crate) fn set(&self, bytes: Option<usize>) {
        let stored = bytes.map_or(0, |bytes| bytes.saturating_add(1));
        self.budget.store(stored, Ordering::Relaxed);
    }

    /// The node's budget, if there is one.
    pub(crate) fn get(&self) -> Option<usize> {
        self.budget.load(Ordering::Relaxed).checked_sub(1)
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
