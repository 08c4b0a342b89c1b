//! A sheaf: an array of free objects of one size class, used as a stack.
//!
//! It is 2 KiB, aligned to 2 KiB, and known by the address of its top slot alone, so that a CPU's word is one word:
//!
//! ```text
//!  slot   0        1 ..        255 - n     256 - n ..        top         .. 255
//!       | link | not in use |     0     | oldest object .. newest object | room |
//! ```
//!
//! where `n` is how many objects of the class fit. Empty: the top slot holds 0. Full: the next slot would be at a
//! multiple of 2 KiB. Both are seen without knowing the class, which is what the fast path does (`os::percpu`).

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::size_class::SHAPES;

/// Slots in a sheaf, the link counted.
const SLOTS: usize = 256;

/// Bytes of a sheaf, and its alignment.
pub(crate) const SHEAF: usize = SLOTS * size_of::<usize>();

#[repr(C, align(2048))]
struct Slots([usize; SLOTS]);

/// Empty and full: what a CPU's word names when the class has no sheaf yet.
static UNSET: Slots = Slots([0; SLOTS]);

/// As [`UNSET`], where there must never be a sheaf: rows of other nodes, kinds that are no class, a CPU being drained.
static FORBIDDEN: Slots = Slots([0; SLOTS]);

/// The word of a class that has no sheaf yet.
pub(crate) fn unset() -> usize {
    (&raw const UNSET.0[SLOTS - 1]).addr()
}

/// The word where no sheaf may be put.
pub(crate) fn forbidden() -> usize {
    (&raw const FORBIDDEN.0[SLOTS - 1]).addr()
}

/// Whether the word names a real sheaf.
pub(crate) fn is_real(top: usize) -> bool {
    top != 0 && top != unset() && top != forbidden()
}

/// Whether the sheaf under this word has no room.
pub(crate) fn is_full(top: usize) -> bool {
    top % SHEAF == SHEAF - size_of::<usize>()
}

/// The newest object of the sheaf under this word; 0 when it is empty. The sheaf may be in use elsewhere: a hint.
pub(crate) fn newest(top: usize) -> usize {
    let slot = ptr::with_exposed_provenance::<AtomicUsize>(top);
    // SAFETY: a slot of a sheaf or a dummy; neither is ever unmapped.
    let slot = unsafe { &*slot };
    // Relaxed: a hint.
    slot.load(Ordering::Relaxed)
}

/// How many objects of `class` the sheaf under this word has.
pub(crate) fn len(top: usize, class: usize) -> usize {
    (top % SHEAF / size_of::<usize>()).saturating_sub(SLOTS - 1 - SHAPES[class].sheaf)
}

/// A sheaf that we own.
#[derive(Debug)]
pub(crate) struct Sheaf {
    slots: &'static mut [usize; SLOTS],
    top: usize,
}

impl Sheaf {
    /// Takes the sheaf whose top slot is at `top`.
    ///
    /// # Safety
    /// It is a real sheaf, and the caller owns it: the word that named it does not any more.
    pub(crate) unsafe fn from_top(top: usize) -> Self {
        let start = ptr::with_exposed_provenance_mut::<[usize; SLOTS]>(top - top % SHEAF);
        Self {
            // SAFETY: sheaves are never unmapped, and by the caller's clause it is ours alone.
            slots: unsafe { &mut *start },
            top: top % SHEAF / size_of::<usize>(),
        }
    }

    /// The address of the top slot; whoever has it owns the sheaf.
    pub(crate) fn into_top(self) -> usize {
        (&raw mut self.slots[self.top]).expose_provenance()
    }

    /// Makes it an empty sheaf of `class`.
    pub(crate) fn clear(&mut self, class: usize) {
        self.top = SLOTS - 1 - SHAPES[class].sheaf;
        self.slots[self.top] = 0;
    }

    /// Its objects, oldest first.
    pub(crate) fn objects(&self, class: usize) -> &[usize] {
        &self.slots[SLOTS - SHAPES[class].sheaf..=self.top]
    }

    /// The same, to be put into another order.
    pub(crate) fn objects_mut(&mut self, class: usize) -> &mut [usize] {
        &mut self.slots[SLOTS - SHAPES[class].sheaf..=self.top]
    }

    /// The newest object; 0 when it is empty.
    pub(crate) fn newest(&self) -> usize {
        self.slots[self.top]
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.top == SLOTS - 1
    }

    /// Takes the newest object out.
    pub(crate) fn pop(&mut self) -> usize {
        let object = self.slots[self.top];
        self.top -= 1;
        object
    }

    /// Puts an object in; there is room.
    pub(crate) fn push(&mut self, object: usize) {
        self.top += 1;
        self.slots[self.top] = object;
    }

    /// Has an empty sheaf of `class` filled by `fill`, which writes objects to the end of a slice, the first one last, and
    /// says how many. The first one comes out first.
    pub(crate) fn fill(&mut self, class: usize, fill: impl FnOnce(&mut [usize]) -> usize) {
        let first = self.top + 1;
        let room = &mut self.slots[first..first + SHAPES[class].batch];
        let count = fill(room);
        room.copy_within(room.len() - count.., 0);
        self.top += count;
    }

    /// The sheaf below it in a pile, 0 for none.
    pub(crate) fn link(&self) -> usize {
        self.slots[0]
    }

    /// Sets the sheaf below it.
    pub(crate) fn set_link(&mut self, top: usize) {
        self.slots[0] = top;
    }
}

/// A pile of sheaves, linked through their slot 0.
#[derive(Debug)]
pub(crate) struct Pile {
    top: usize,
    len: usize,
}

impl Pile {
    pub(crate) const fn new() -> Self {
        Self { top: 0, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, mut sheaf: Sheaf) {
        sheaf.set_link(self.top);
        self.top = sheaf.into_top();
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Sheaf> {
        if self.top == 0 {
            return None;
        }
        // SAFETY: pushed above, and owned by the pile since.
        let sheaf = unsafe { Sheaf::from_top(self.top) };
        self.top = sheaf.link();
        self.len -= 1;
        Some(sheaf)
    }
}
