//! Spare mappings: large blocks that were freed, kept for the next ones. A page that is there already costs nothing; a
//! fresh one costs a fault, and is cleared.
//!
//! A spare that is a little too large is cut, and one that is too small is grown, which moves page tables and no bytes:
//! what counts is how many pages need not be made anew. Which spares may be kept at all is the owner's business
//! (`mapping`).

/// A mapping of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// The node for which it was made.
    pub(crate) node: usize,
}

/// Spares that are kept at most.
const SLOTS: usize = 16;

/// A spare is cut or grown by this factor at most.
const STRETCH: usize = 4;

/// The spares, oldest first.
pub(crate) struct Spares {
    slots: [Option<Mapping>; SLOTS],
    bytes: usize,
}

impl Spares {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [None; SLOTS],
            bytes: 0,
        }
    }

    /// Bytes in all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a spare. When there are too many, the oldest comes back.
    pub(crate) fn push(&mut self, mapping: Mapping) -> Option<Mapping> {
        let crowded = self.slots.iter().all(Option::is_some);
        let oldest = if crowded { self.pop() } else { None };
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(mapping);
            self.bytes += mapping.len;
        }
        oldest
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Mapping> {
        self.remove(0)
    }

    /// Takes the spare of `node` that fits `len` best: the smallest that is large enough, else the largest.
    pub(crate) fn take(&mut self, len: usize, node: usize) -> Option<Mapping> {
        let fits = |spare: &Mapping| {
            spare.node == node && spare.len / STRETCH <= len && len / STRETCH <= spare.len
        };
        let badness = |spare: &Mapping| (spare.len < len, spare.len.abs_diff(len));
        let candidates = self.slots.iter().enumerate();
        let (index, _) = candidates
            .filter_map(|(index, slot)| Some((index, badness(slot.as_ref().filter(|s| fits(s))?))))
            .min_by_key(|(_, badness)| *badness)?;
        self.remove(index)
    }

    fn remove(&mut self, index: usize) -> Option<Mapping> {
        let removed = self.slots[index].take()?;
        self.slots[index..].rotate_left(1);
        self.bytes -= removed.len;
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: usize, len: usize) -> Mapping {
        Mapping {
            start,
            len,
            node: 0,
        }
    }

    #[test]
    fn the_best_fit_is_taken() {
        let mut spares = Spares::new();
        for (start, len) in [(1, 100), (2, 300), (3, 200), (4, 20)] {
            assert_eq!(spares.push(mapping(start, len)), None);
        }
        assert_eq!(spares.bytes(), 620);
        assert_eq!(spares.take(150, 1), None, "of another node");
        assert_eq!(spares.take(150, 0), Some(mapping(3, 200)), "smallest above");
        assert_eq!(spares.take(350, 0), Some(mapping(2, 300)), "largest below");
        assert_eq!(spares.take(500, 0), None, "none of nearly that size");
        assert_eq!(spares.take(4, 0), None, "nor here");
        assert_eq!(spares.bytes(), 120);
        assert_eq!(spares.pop(), Some(mapping(1, 100)));
        assert_eq!(spares.pop(), Some(mapping(4, 20)));
        assert_eq!((spares.pop(), spares.bytes()), (None, 0));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut spares = Spares::new();
        for start in 0..SLOTS {
            assert_eq!(spares.push(mapping(start, 10)), None);
        }
        assert_eq!(spares.push(mapping(100, 10)), Some(mapping(0, 10)));
        assert_eq!(spares.push(mapping(101, 10)), Some(mapping(1, 10)));
        assert_eq!(spares.bytes(), SLOTS * 10);
    }
}
