//! The sheaves of a node that have no objects: kept for whoever needs one, made when there are none, never given back.

use core::ops::Range;

use crate::budget;
use crate::lock::Lock;
use crate::os;
use crate::sheaf::{Pile, SHEAF, Sheaf};
use crate::topology;

/// Sheaves are made so many at a time.
const SHEAVES: usize = 32;

/// Sheaves without objects.
pub(crate) struct Empties(Lock<Stock>);

/// What the lock guards.
pub(crate) struct Stock {
    used: Pile,
    /// Where those lie that nobody has touched: they are no memory yet.
    fresh: Range<usize>,
}

impl Stock {
    fn pop(&mut self) -> Option<Sheaf> {
        self.used.pop().or_else(|| self.first())
    }

    /// The first of the fresh ones.
    fn first(&mut self) -> Option<Sheaf> {
        let start = self.fresh.start;
        self.fresh.start = (start + SHEAF).min(self.fresh.end);
        // SAFETY: memory made for sheaves, by `make`, aligned to the page, and handed out here only, once.
        (start < self.fresh.end).then(|| unsafe { Sheaf::from_top(start) })
    }
}

impl Empties {
    pub(crate) const fn new() -> Self {
        Self(Lock::new(Stock {
            used: Pile::new(),
            fresh: 0..0,
        }))
    }

    /// Takes one; new ones are placed on `node`. Nothing when there is no memory.
    pub(crate) fn take(&self, node: usize) -> Option<Sheaf> {
        let popped = self.0.lock().pop();
        popped.or_else(|| self.make(node))
    }

    /// Takes one back.
    pub(crate) fn put(&self, sheaf: Sheaf) {
        self.0.lock().used.push(sheaf);
    }

    /// The lock, for a fork.
    pub(crate) fn lock(&self) -> &Lock<Stock> {
        &self.0
    }

    /// Thousands of threads may be here at once, each having waited for the system: who finds that another was quicker gives
    /// back what it made.
    #[cold]
    fn make(&self, node: usize) -> Option<Sheaf> {
        let bytes = SHEAVES * SHEAF;
        if !budget::charge(bytes) {
            return None;
        }
        let Some(start) = os::map(bytes) else {
            budget::release(bytes);
            return None;
        };
        topology::machine().place(start, bytes, node);
        let mut stock = self.0.lock();
        if let Some(sheaf) = stock.pop() {
            drop(stock);
            // SAFETY: ours, and nobody has seen it.
            unsafe { os::unmap(start, bytes) };
            budget::release(bytes);
            return Some(sheaf);
        }
        let start = start.expose_provenance().get();
        stock.fresh = start..start + bytes;
        stock.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with what both make kept.
    #[test]
    fn who_comes_second_makes_nothing() {
        let empties = Empties::new();
        empties.take(0).unwrap();
        let fresh = empties.0.lock().fresh.clone();
        empties.make(0).unwrap();
        let left = empties.0.lock().fresh.clone();
        assert_eq!(left, fresh.start + SHEAF..fresh.end);
    }
}
