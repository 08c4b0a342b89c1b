//! Doubly linked lists through descriptors that live elsewhere: of units in an arena, of slabs in a class.

use core::ptr::{self, NonNull};

/// The neighbours of a list's member.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Links<T> {
    next: *mut T,
    prev: *mut T,
}

impl<T> Links<T> {
    /// In no list.
    pub(crate) const fn none() -> Self {
        Self {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
        }
    }
}

/// What can be in a list.
pub(crate) trait Linked: Sized {
    fn links(&mut self) -> &mut Links<Self>;
}

/// A list. All its members are alive, and reached only by whoever has the list for himself.
#[derive(Debug)]
pub(crate) struct List<T> {
    head: *mut T,
}

// SAFETY: a list is used by one thread at a time, and its members with it.
unsafe impl<T> Send for List<T> {}

impl<T: Linked> List<T> {
    pub(crate) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
        }
    }

    /// The member added last.
    pub(crate) fn first(&self) -> Option<NonNull<T>> {
        NonNull::new(self.head)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Adds a member in front.
    ///
    /// # Safety
    /// It is in no list, alive until it is removed, and nobody else has a reference to it or to another member.
    pub(crate) unsafe fn push(&mut self, member: NonNull<T>) {
        let member = member.as_ptr();
        // SAFETY: members are alive and ours alone.
        if let Some(head) = unsafe { self.head.as_mut() } {
            head.links().prev = member;
        }
        // SAFETY: the caller's clause.
        let links = unsafe { &mut *member }.links();
        *links = Links {
            next: self.head,
            prev: ptr::null_mut(),
        };
        self.head = member;
    }

    /// Removes a member.
    ///
    /// # Safety
    /// It is in this list, and nobody else has a reference to it or to another member.
    pub(crate) unsafe fn remove(&mut self, member: NonNull<T>) {
        // SAFETY: the caller's clause.
        let member = unsafe { &mut *member.as_ptr() };
        let Links { next, prev } = core::mem::replace(member.links(), Links::none());
        // SAFETY: members are alive and ours alone.
        if let Some(next) = unsafe { next.as_mut() } {
            next.links().prev = prev;
        }
        // SAFETY: as above.
        match unsafe { prev.as_mut() } {
            Some(prev) => prev.links().next = next,
            None => self.head = next,
        }
    }

    /// Calls `f` with each member.
    pub(crate) fn each(&mut self, mut f: impl FnMut(&mut T)) {
        let mut at = self.head;
        // SAFETY: members are alive and ours alone.
        while let Some(member) = unsafe { at.as_mut() } {
            f(member);
            at = member.links().next;
        }
    }

    /// Removes the first member.
    pub(crate) fn pop(&mut self) -> Option<NonNull<T>> {
        let first = self.first()?;
        // SAFETY: the first is in this list; members are reached through it alone.
        unsafe { self.remove(first) };
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Member(Links<Member>, u32);

    impl Linked for Member {
        fn links(&mut self) -> &mut Links<Self> {
            &mut self.0
        }
    }

    #[test]
    fn pushes_removes_and_pops() {
        let mut members = [0, 1, 2, 3].map(|id| Member(Links::none(), id));
        let at: Vec<_> = members.iter_mut().map(NonNull::from).collect();
        let mut list = List::new();
        for member in &at {
            // SAFETY: fresh members, kept alive by the array.
            unsafe { list.push(*member) };
        }
        for index in [1, 3, 0] {
            // SAFETY: members of the list.
            unsafe { list.remove(at[index]) };
        }
        list.each(|member| member.1 += 7);
        assert_eq!(list.pop(), Some(at[2]));
        assert!(list.is_empty() && list.pop().is_none());
        assert_eq!(members.map(|member| member.1), [0, 1, 9, 3]);
    }
}
