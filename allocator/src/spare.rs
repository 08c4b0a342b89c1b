//! Spare mappings: large blocks that were freed, kept for the next ones. A page that is there already costs nothing; a
//! fresh one costs a fault, and is cleared.
//!
//! A spare that is too large is cut in two, and one that is too small is grown, which moves page tables and no bytes:
//! what counts is how many pages need not be made anew. Which spares may be kept at all is the owner's business
//! (`mapping`).

use crate::config::UNIT;

/// A mapping of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// The node that it was made for and is charged to; `None` when it is spread over all.
    pub(crate) node: Option<usize>,
}

impl Mapping {
    /// Cuts off what lies behind the huge pages that `len` bytes take, if that is a huge page or more. What is spread over
    /// all nodes stays whole: the parts of its parts would not add up to the parts that the nodes were charged.
    pub(crate) fn cut(&mut self, len: usize) -> Option<Self> {
        let keep = len.next_multiple_of(UNIT);
        if self.node.is_none() || self.len < keep + UNIT {
            return None;
        }
        let rest = Self {
            start: self.start + keep,
            len: self.len - keep,
            ..*self
        };
        self.len = keep;
        Some(rest)
    }
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
        let oldest = if crowded { self.pop(None) } else { None };
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(mapping);
            self.bytes += mapping.len;
        }
        oldest
    }

    /// Takes the oldest, or the oldest that lies on one node, wholly or in part.
    pub(crate) fn pop(&mut self, only: Option<usize>) -> Option<Mapping> {
        let wanted =
            |spare: &Mapping| only.is_none() || spare.node.is_none_or(|node| Some(node) == only);
        let oldest = |slot: &Option<Mapping>| slot.as_ref().is_some_and(wanted);
        self.remove(self.slots.iter().position(oldest)?)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.slots.iter().flatten()
    }

    /// Takes the spare of `node` that fits `len` best: the smallest that is large enough, else the largest.
    pub(crate) fn take(&mut self, len: usize, node: Option<usize>) -> Option<Mapping> {
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
            node: Some(0),
        }
    }

    #[test]
    fn the_best_fit_is_taken() {
        let mut spares = Spares::new();
        for (start, len) in [(1, 100), (2, 300), (3, 200), (4, 20)] {
            assert_eq!(spares.push(mapping(start, len)), None);
        }
        assert_eq!(spares.bytes(), 620);
        assert_eq!(spares.take(150, Some(1)), None, "of another node");
        assert_eq!(
            spares.take(150, Some(0)),
            Some(mapping(3, 200)),
            "smallest above"
        );
        assert_eq!(
            spares.take(350, Some(0)),
            Some(mapping(2, 300)),
            "largest below"
        );
        assert_eq!(spares.take(500, Some(0)), None, "none of nearly that size");
        assert_eq!(spares.take(4, Some(0)), None, "nor here");
        assert_eq!(spares.bytes(), 120);
        assert!(spares.iter().map(|spare| spare.len).eq([100, 20]));
        assert_eq!(spares.pop(Some(1)), None, "none of that node");
        assert_eq!(spares.pop(Some(0)), Some(mapping(1, 100)));
        assert_eq!(spares.pop(None), Some(mapping(4, 20)));
        assert_eq!((spares.pop(None), spares.bytes()), (None, 0));
        let spread = Mapping {
            node: None,
            ..mapping(5, 30)
        };
        spares.push(spread);
        assert_eq!(spares.pop(Some(1)), Some(spread), "a part of it is there");
    }

    #[test]
    fn what_is_cut_off_is_a_spare_of_whole_huge_pages() {
        let mut spare = mapping(UNIT, 4 * UNIT);
        assert_eq!(spare.cut(3 * UNIT + 1), None, "nothing is left");
        let rest = spare.cut(UNIT + 1).unwrap();
        assert_eq!(
            (spare, rest),
            (mapping(UNIT, 2 * UNIT), mapping(3 * UNIT, 2 * UNIT))
        );
        assert_eq!(mapping(UNIT, 100).cut(1), None, "too small");
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
