//! The sheaves of a node that have no objects: kept for whoever needs one, made when there are none, never given back.

use crate::budget;
use crate::lock::Lock;
use crate::os;
use crate::sheaf::{Pile, SHEAF, Sheaf};
use crate::topology;

/// Sheaves are made so many at a time.
const SHEAVES: usize = 32;

/// Sheaves without objects.
pub(crate) struct Empties(Lock<Pile>);

impl Empties {
    pub(crate) const fn new() -> Self {
        Self(Lock::new(Pile::new()))
    }

    /// Takes one; new ones are placed on `node`. Nothing when there is no memory.
    pub(crate) fn take(&self, node: usize) -> Option<Sheaf> {
        let popped = self.0.lock().pop();
        popped.or_else(|| self.make(node))
    }

    /// Takes one back.
    pub(crate) fn put(&self, sheaf: Sheaf) {
        self.0.lock().push(sheaf);
    }

    /// The lock, for a fork.
    pub(crate) fn lock(&self) -> &Lock<Pile> {
        &self.0
    }

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
        let start = start.expose_provenance().get();
        let mut sheaves = (0..SHEAVES).map(|index| {
            // SAFETY: fresh memory of that size, aligned to the page, seen by nobody else.
            unsafe { Sheaf::from_top(start + index * SHEAF) }
        });
        let first = sheaves.next();
        let mut empties = self.0.lock();
        sheaves.for_each(|sheaf| empties.push(sheaf));
        first
    }
}
