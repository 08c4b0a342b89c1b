//! What is backed on one node, how much may be, and what of it is a reclaiming request's own.
//!
//! Beside the one figure of the process (`budget`) each node has an account, for its spans and mappings. It knows no
//! reserve. What a request's thread gives back on the node that the request insists on, or begins with, is its *stake*
//! there: it stays charged, so that nobody else takes it first, until the request has it or ends.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

// Relaxed, everywhere in this file: counters; no memory is published through them.

/// A node's account.
pub(crate) struct Account {
    backed: AtomicUsize,
    /// One more than the limit; 0 is none, so that accounts are zeros at first and take no room in the program's file.
    budget: AtomicUsize,
    /// Of what is backed, bytes in stakes.
    held: AtomicUsize,
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
}

impl Stake {
    /// Nothing yet, on the node with this account.
    pub(crate) fn new(account: &'static Account, strict: bool) -> Self {
        Self {
            account,
            strict,
            credit: Cell::new(0),
            lacking: Cell::new(0),
            hopeless: Cell::new(false),
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

/// What was not spent is given up.
impl Drop for Stake {
    fn drop(&mut self) {
        let left = self.credit.get();
        self.spend(left);
        self.account.backed.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Account {
    pub(crate) const fn new() -> Self {
        Self {
            backed: AtomicUsize::new(0),
            budget: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// Charges `bytes`, unless that would exceed the limit. A request that tries again pays from its `stake` here first.
    #[must_use]
    pub(crate) fn charge(&self, bytes: usize, stake: Option<&Stake>) -> bool {
        let spent = stake.map_or(0, |stake| bytes.min(stake.credit.get()));
        let rest = bytes - spent;
        let limit = self.get().unwrap_or(usize::MAX);
        let before = self.backed.fetch_add(rest, Ordering::Relaxed);
        let total = before.saturating_add(rest);
        let fits = rest == 0 || total <= limit;
        if !fits {
            self.backed.fetch_sub(rest, Ordering::Relaxed);
        }
        match stake {
            Some(stake) if fits => stake.spend(spent),
            Some(stake) => {
                stake.lacking.set((total - limit).min(rest));
                stake.hopeless.set(bytes > limit);
            }
            None => {}
        }
        fits
    }

    /// Gives back what was charged: to the `stake` here of a thread that is reclaiming.
    pub(crate) fn release(&self, bytes: usize, stake: Option<&Stake>) {
        match stake {
            Some(stake) => stake.add(bytes),
            None => {
                self.backed.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }

    /// In a forked child: gives up what threads that do not exist here held. `stake` is what the one that does has here.
    pub(crate) fn forget_other_threads(&self, stake: Option<&Stake>) {
        let own = stake.map_or(0, |stake| stake.credit.get());
        let lost = self.held.swap(own, Ordering::Relaxed).saturating_sub(own);
        self.backed.fetch_sub(lost, Ordering::Relaxed);
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
mod tests {
    use super::*;

    #[test]
    fn a_stake_is_spent_first_and_given_up_at_the_end() {
        static ACCOUNT: Account = Account::new();
        ACCOUNT.set(Some(100));
        assert!(ACCOUNT.charge(100, None));
        let stake = Stake::new(&ACCOUNT, true);
        ACCOUNT.release(60, Some(&stake));
        assert_eq!(ACCOUNT.backed(), 100, "still charged");
        assert!(!ACCOUNT.charge(1, None), "for nobody else");
        assert!(!ACCOUNT.charge(70, Some(&stake)));
        assert_eq!((stake.lacking(), stake.is_hopeless()), (10, false));
        assert!(!ACCOUNT.charge(101, Some(&stake)) && stake.is_hopeless());
        assert!(ACCOUNT.charge(50, Some(&stake)));
        ACCOUNT.held.fetch_add(5, Ordering::Relaxed);
        ACCOUNT.forget_other_threads(Some(&stake));
        assert_eq!(ACCOUNT.backed(), 95);
        drop(stake);
        assert_eq!(ACCOUNT.backed(), 85);
        assert!(ACCOUNT.charge(15, None));
    }
}
