//! Spare mappings: large blocks that were freed, kept for the next ones. A page that is there already costs nothing; a
//! fresh one costs a fault, and is cleared.
//!
//! A spare that is too large is cut in two, and one that is too small is grown, which moves page tables and no bytes:
//! what counts is how many pages need not be made anew. What was cut off stays where it is, for a block before it that
//! grows, or to be one with it again when that is freed. Which spares may be kept at all is the owner's business
//! (`mapping`).

use crate::config::{SLICE, UNIT};

/// A mapping of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// The node that it was made for and is charged to; `None` when it is spread over all.
    pub(crate) node: Option<usize>,
}

impl Mapping {
    /// Cuts off what lies behind `len` bytes, if that is a slice or more. What is spread over all nodes stays whole: the
    /// parts of its parts would not add up to the parts that the nodes were charged.
    pub(crate) fn cut(&mut self, len: usize) -> Option<Self> {
        let rest = self.len.checked_sub(len)?;
        if self.node.is_none() || rest < SLICE {
            return None;
        }
        self.len = len;
        Some(Self {
            start: self.start + len,
            len: rest,
            ..*self
        })
    }

    /// Bytes before its first huge page.
    fn front(&self) -> usize {
        self.start.next_multiple_of(UNIT) - self.start
    }

    /// Whether it begins where `other` ends, and may become a part of it.
    fn follows(&self, other: &Self) -> bool {
        self.start == other.start + other.len && self.node == other.node && self.node.is_some()
    }
}

/// Spares that are kept at most.
const SLOTS: usize = 32;

/// A spare is cut or grown by this factor at most.
const STRETCH: usize = 4;

/// The spares, oldest first.
pub(crate) struct Spares {
    /// Of which the first `count` are spares.
    slots: [Mapping; SLOTS],
    count: usize,
    bytes: usize,
}

impl Spares {
    pub(crate) const fn new() -> Self {
        let none = Mapping {
            start: 0,
            len: 0,
            node: None,
        };
        Self {
            slots: [none; SLOTS],
            count: 0,
            bytes: 0,
        }
    }

    /// Bytes in all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a spare. When there are too many, the oldest comes back.
    pub(crate) fn push(&mut self, mapping: Mapping) -> Option<Mapping> {
        let crowded = self.count == SLOTS;
        let oldest = crowded.then(|| self.remove(0));
        self.slots[self.count] = mapping;
        self.count += 1;
        self.bytes += mapping.len;
        oldest
    }

    /// Takes the oldest, or the oldest that lies on one node, wholly or in part.
    pub(crate) fn pop(&mut self, only: Option<usize>) -> Option<Mapping> {
        let wanted =
            |spare: &Mapping| only.is_none() || spare.node.is_none_or(|node| Some(node) == only);
        let index = self.iter().position(wanted)?;
        Some(self.remove(index))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> core::slice::Iter<'_, Mapping> {
        self.slots[..self.count].iter()
    }

    /// Takes the spare of `node` that fits `len` best: the smallest that is large enough, else the largest. It begins with a
    /// huge page; what lies before that stays.
    pub(crate) fn take(&mut self, len: usize, node: Option<usize>) -> Option<Mapping> {
        let badness = |spare: &Mapping| {
            let has = spare.len.checked_sub(spare.front())?;
            let fits = spare.node == node && has / STRETCH <= len && len / STRETCH <= has;
            fits.then_some((has < len, has.abs_diff(len)))
        };
        let (index, _) = self
            .iter()
            .enumerate()
            .filter_map(|(index, spare)| Some((index, badness(spare)?)))
            .min_by_key(|(_, badness)| *badness)?;
        let mut spare = self.remove(index);
        match spare.front() {
            0 => Some(spare),
            front => {
                let taken = spare.cut(front);
                self.push(spare);
                taken
            }
        }
    }

    /// Lengthens `mapping` by the spares that lie right behind it, to `len` bytes or little more.
    pub(crate) fn absorb(&mut self, mapping: &mut Mapping, len: usize) {
        while mapping.len < len
            && let Some(index) = self.iter().position(|spare| spare.follows(mapping))
        {
            let mut spare = self.remove(index);
            if let Some(rest) = spare.cut(len - mapping.len) {
                self.push(rest);
            }
            mapping.len += spare.len;
        }
    }

    fn remove(&mut self, index: usize) -> Mapping {
        let removed = self.slots[index];
        self.slots.copy_within(index + 1..self.count, index);
        self.count -= 1;
        self.bytes -= removed.len;
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beginning with the huge page of this number.
    fn mapping(number: usize, len: usize) -> Mapping {
        Mapping {
            start: number * UNIT,
            len,
            node: Some(0),
        }
    }

    #[test]
    fn the_best_fit_is_taken() {
        let mut spares = Spares::new();
        for (number, len) in [(1, 100), (2, 300), (3, 200), (4, 20)] {
            assert_eq!(spares.push(mapping(number, len)), None);
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
    fn what_is_cut_off_comes_back_to_what_lies_before() {
        let mut spares = Spares::new();
        let mut block = mapping(1, 4 * UNIT);
        assert_eq!(block.cut(4 * UNIT - SLICE + 1), None, "too little");
        let rest = block.cut(UNIT + SLICE).unwrap();
        assert_eq!(rest.len, 3 * UNIT - SLICE);
        spares.push(rest);
        let taken = spares.take(2 * UNIT, Some(0));
        assert_eq!(taken, Some(mapping(3, 2 * UNIT)), "from a huge page on");
        assert_eq!(spares.bytes(), UNIT - SLICE, "what lies before that stays");
        spares.push(mapping(3, 2 * UNIT));
        spares.push(mapping(7, UNIT));
        spares.absorb(&mut block, UNIT + 2 * SLICE);
        assert_eq!(block, mapping(1, UNIT + 2 * SLICE), "no more than wanted");
        spares.absorb(&mut block, usize::MAX);
        assert_eq!(block, mapping(1, 4 * UNIT), "all that follows");
        assert_eq!(spares.bytes(), UNIT);
        let elsewhere = Mapping {
            node: Some(1),
            ..mapping(5, UNIT)
        };
        spares.push(elsewhere);
        spares.absorb(&mut block, usize::MAX);
        assert_eq!(block.len, 4 * UNIT, "nothing of another node");
        assert_eq!(mapping(1, SLICE / 2).cut(1), None, "too small");
        let spread = Mapping {
            node: None,
            ..block
        };
        assert_eq!(spread.clone().cut(UNIT), None, "a whole");
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut spares = Spares::new();
        for number in 0..SLOTS {
            assert_eq!(spares.push(mapping(number, 10)), None);
        }
        assert_eq!(spares.push(mapping(100, 10)), Some(mapping(0, 10)));
        assert_eq!(spares.push(mapping(101, 10)), Some(mapping(1, 10)));
        assert_eq!(spares.bytes(), SLOTS * 10);
    }
}
