//! Rings through descriptors that live elsewhere, with a hand that goes round: all slabs of an object cache on a node.

use core::ptr::{self, NonNull};

/// The neighbours of a ring's member.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Neighbours<T> {
    next: *mut T,
    prev: *mut T,
}

/// What can be in a ring.
pub(crate) trait Ringed: Sized {
    fn neighbours(&mut self) -> &mut Neighbours<Self>;
}

/// A ring. All its members are alive, and reached only by whoever has the ring for himself.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    hand: *mut T,
    len: usize,
}

// SAFETY: a ring is used by one thread at a time, and its members with it.
unsafe impl<T> Send for Ring<T> {}

impl<T: Ringed> Ring<T> {
    pub(crate) const fn new() -> Self {
        Self {
            hand: ptr::null_mut(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The neighbours of a member.
    fn of(&mut self, member: *mut T) -> &mut Neighbours<T> {
        // SAFETY: members are alive and ours alone.
        unsafe { &mut *member }.neighbours()
    }

    /// Adds a member. The hand comes to it next.
    ///
    /// # Safety
    /// It is in no ring, alive until it is removed, and nobody else has a reference to it or to another member.
    pub(crate) unsafe fn insert(&mut self, member: NonNull<T>) {
        let member = member.as_ptr();
        if self.hand.is_null() {
            self.hand = member;
            let (next, prev) = (member, member);
            *self.of(member) = Neighbours { next, prev };
        } else {
            let next = self.hand;
            let prev = core::mem::replace(&mut self.of(next).prev, member);
            self.of(prev).next = member;
            *self.of(member) = Neighbours { next, prev };
        }
        self.len += 1;
    }

    /// Removes a member.
    ///
    /// # Safety
    /// It is in this ring, and nobody else has a reference to it or to another member.
    pub(crate) unsafe fn remove(&mut self, member: NonNull<T>) {
        let member = member.as_ptr();
        let Neighbours { next, prev } = *self.of(member);
        self.of(prev).next = next;
        self.of(next).prev = prev;
        self.len -= 1;
        if self.len == 0 {
            self.hand = ptr::null_mut();
        } else if self.hand == member {
            self.hand = next;
        }
    }

    /// Moves the hand on: where it is then.
    pub(crate) fn turn(&mut self) -> Option<NonNull<T>> {
        if !self.hand.is_null() {
            self.hand = self.of(self.hand).prev;
        }
        NonNull::new(self.hand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Member(Neighbours<Member>, u32);

    impl Ringed for Member {
        fn neighbours(&mut self) -> &mut Neighbours<Self> {
            &mut self.0
        }
    }

    #[test]
    fn goes_round_whoever_comes_and_leaves() {
        let none = || Neighbours {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
        };
        let mut members: Vec<Member> = (0..4).map(|id| Member(none(), id)).collect();
        let at: Vec<_> = members.iter_mut().map(NonNull::from).collect();
        let mut ring = Ring::new();
        let round = |ring: &mut Ring<Member>| -> Vec<u32> {
            let turns = (0..ring.len()).map_while(|_| ring.turn());
            // SAFETY: kept alive by the vector.
            turns.map(|at| unsafe { at.as_ref() }.1).collect()
        };
        assert!(ring.turn().is_none());
        for member in &at {
            // SAFETY: fresh members, kept alive by the vector.
            unsafe { ring.insert(*member) };
        }
        assert_eq!(round(&mut ring), [3, 2, 1, 0]);
        ring.turn();
        // SAFETY: a member.
        unsafe { ring.remove(at[1]) };
        assert_eq!(round(&mut ring), [2, 0, 3]);
        for index in [0, 3, 2] {
            assert_eq!(ring.len(), round(&mut ring).len());
            // SAFETY: a member.
            unsafe { ring.remove(at[index]) };
        }
        assert!(ring.turn().is_none() && ring.len() == 0);
        // SAFETY: in no ring any more.
        unsafe { ring.insert(at[2]) };
        assert_eq!(round(&mut ring), [2]);
    }
}
