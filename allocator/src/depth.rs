//! How far down a reclaim thread is asked to go, and how far it has come.

use ebb_shrinker::DEF_PRIORITY;

/// How far down to go: first by value, then by priority; and whether over all nodes. A larger word asks for more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(pub(crate) u32);

impl Asked {
    /// Over all nodes, not the thread's alone.
    pub(crate) const WIDE: u32 = 1 << 16;

    /// One request that has come to its end. Those are counted in the bits above, so that the word differs when another one has.
    const END: u32 = Self::WIDE << 1;

    /// Both.
    pub(crate) fn and(self, more: Self) -> Self {
        let deepest = (self.0 % Self::WIDE).max(more.0 % Self::WIDE);
        let end = if more.priority() == 0 { Self::END } else { 0 };
        let ends = (self.0 - self.0 % Self::END).wrapping_add(end);
        Self(deepest | ((self.0 | more.0) & Self::WIDE) | ends)
    }

    /// Whether who does this does `other` too. One that asks for less of what is dearer does not do with all of what is cheaper.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.value() == other.value() && self.priority() <= other.priority()
    }

    pub(crate) fn is_wide(self) -> bool {
        self.0 & Self::WIDE != 0
    }

    pub(crate) fn new(value: u8, priority: u8, wide: bool) -> Self {
        let hardness = u32::from(DEF_PRIORITY - priority.min(DEF_PRIORITY));
        let wide = if wide { Self::WIDE } else { 0 };
        Self((u32::from(value) << 8) + hardness + 1 + wide)
    }

    pub(crate) fn value(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub(crate) fn priority(self) -> u8 {
        DEF_PRIORITY - (self.0 as u8 - 1)
    }
}

/// How far a descent has come.
pub(crate) struct Depth {
    pub(crate) value: u8,
    pub(crate) priority: u8,
}

impl Depth {
    /// Before the gentlest walk.
    pub(crate) const TOP: Self = Self {
        value: 0,
        priority: DEF_PRIORITY + 1,
    };

    /// The next walk on the way to what is asked for; that itself, if it lies behind.
    pub(crate) fn advance(&mut self, asked: Asked) {
        if asked.value() != self.value {
            *self = Self {
                value: asked.value(),
                ..Self::TOP
            };
        }
        self.priority = match self.priority > asked.priority() {
            true => self.priority - 1,
            false => asked.priority(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_asked_for_by_value_then_by_priority() {
        let mut last = 0;
        for value in [0, 1, 4, 8, u8::MAX] {
            for priority in (0..=DEF_PRIORITY).rev() {
                let asked = Asked::new(value, priority, false);
                assert!(asked.0 > last);
                assert_eq!((asked.value(), asked.priority()), (value, priority));
                last = asked.0;
            }
        }
        let both = Asked::new(4, 3, true).and(Asked::new(8, 12, false));
        assert_eq!((both.value(), both.priority()), (8, 12));
        assert!(both.is_wide() && !Asked::new(u8::MAX, 0, false).is_wide());
    }

    /// Seen to fail with the larger word taken for one that asks for more.
    #[test]
    fn dearer_caches_are_not_cheaper_ones() {
        let asked = |value, priority| Asked::new(value, priority, false);
        let both = asked(7, 1).and(asked(1, 0));
        assert!(!both.covers(asked(1, 0)) && both.covers(asked(7, 1)));
        assert!(both.covers(asked(7, 12)) && !both.covers(asked(7, 0)));
    }

    /// Who asks for everything is told apart from who did so before. Seen to fail without the count.
    #[test]
    fn each_end_is_another() {
        let (gently, all) = (Asked::new(8, 5, true), Asked::new(8, 0, true));
        let mut asked = Asked(0).and(all);
        assert!(asked.and(gently) == asked, "asked for that already");
        for _ in 0..100_000 {
            let more = asked.and(all);
            assert!(more != asked && more.is_wide());
            assert_eq!((more.value(), more.priority()), (8, 0));
            asked = more;
        }
    }

    /// Seen to fail with the descent always begun at the top.
    #[test]
    fn a_descent_goes_on_where_the_last_one_ended() {
        let mut depth = Depth::TOP;
        let mut walks = |value, priority| {
            let mut walks = Vec::new();
            while walks.last() != Some(&(value, priority)) {
                depth.advance(Asked::new(value, priority, false));
                walks.push((depth.value, depth.priority));
            }
            walks
        };
        assert_eq!(walks(4, 10), [(4, 12), (4, 11), (4, 10)]);
        assert_eq!(walks(4, 9), [(4, 9)]);
        assert_eq!(walks(4, 11), [(4, 11)], "another request, gently");
        assert_eq!(walks(4, 10), [(4, 10)]);
        assert_eq!(walks(8, 12), [(8, 12)]);
    }
}
