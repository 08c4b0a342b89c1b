//! A *place*: whose words the calling thread uses, those of its CPU, by restartable sequences, or a fallback table under its
//! lock. Both do the same four things to a word: pop, push, peek, exchange.
//!
//! Between two of them the thread may be moved to another CPU; that is why sheaves change hands by compare-and-exchange of
//! the whole word. Equal words mean the same sheaf with as many objects, so it does not matter what happened in between.

use core::sync::atomic::Ordering;

use crate::lock::Lock;
use crate::node::{self, Node};
use crate::os::{self, percpu};
use crate::sheaf::{self, Sheaf};
use crate::size_class::SHEAVES;
use crate::tables::{self, Table};
use crate::topology;
use crate::window::Tag;

/// Whose words the calling thread uses, now.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Those of the CPU it is on, by restartable sequences.
    Cpu,
    /// A fallback table.
    Fallback(&'static Lock<Table>),
}

impl Place {
    pub(crate) fn here() -> Self {
        match percpu::cpu() {
            Some(cpu) if cpu < topology::machine().cpus => Self::Cpu,
            _ => Self::Fallback(tables::fallback(os::cpu())),
        }
    }

    /// The node whose objects the place's sheaves hold.
    pub(crate) fn home(self) -> &'static Node {
        // Both alike: a fallback table has the home of the CPUs that it is for.
        node::node(topology::machine().home_of(os::cpu()))
    }

    /// The word at `index`; `forbidden` when the thread has just lost its fast path.
    pub(crate) fn peek(self, index: usize) -> usize {
        match self {
            Self::Cpu => percpu::peek(index),
            // Relaxed, here and below: under the table's lock.
            Self::Fallback(table) => table.lock().word(index).load(Ordering::Relaxed),
        }
    }

    /// Whether there may be no sheaf for `tag` here, now: its home is elsewhere, or the place is being drained.
    pub(crate) fn is_closed(self, tag: Tag) -> bool {
        self.peek(tag.word()) == sheaf::forbidden()
    }

    /// Replaces the word at `index` if it is `expected`.
    pub(crate) fn exchange(self, index: usize, expected: usize, new: usize) -> bool {
        match self {
            Self::Cpu => percpu::exchange(index, expected, new),
            Self::Fallback(table) => {
                let table = table.lock();
                let word = table.word(index);
                let matches = word.load(Ordering::Relaxed) == expected;
                if matches {
                    word.store(new, Ordering::Relaxed);
                }
                matches
            }
        }
    }

    pub(crate) fn pop(self, tag: Tag) -> usize {
        match self {
            Self::Cpu => percpu::pop(tag.kind()).expose_provenance(),
            Self::Fallback(table) => {
                let table = table.lock();
                let word = table.word(tag.word());
                let top = word.load(Ordering::Relaxed);
                let object = sheaf::newest(top);
                if object != 0 {
                    word.store(top - size_of::<usize>(), Ordering::Relaxed);
                }
                object
            }
        }
    }

    pub(crate) fn push(self, tag: Tag, object: usize) -> bool {
        match self {
            Self::Cpu => percpu::push(tag.word(), object),
            Self::Fallback(table) => {
                let table = table.lock();
                let word = table.word(tag.word());
                let top = word.load(Ordering::Relaxed);
                if sheaf::is_full(top) || sheaf::newest(top) == object {
                    return false;
                }
                // SAFETY: a real sheaf (the dummies are full), and the lock makes it ours.
                let mut sheaf = unsafe { Sheaf::from_top(top) };
                sheaf.push(object);
                word.store(sheaf.into_top(), Ordering::Relaxed);
                true
            }
        }
    }
}

/// Sheaves without objects are kept by the place itself, as if they were objects of a class (`SHEAVES`): the node's lock
/// on them is for when it has none, or too many.
impl Place {
    /// An empty sheaf for `class`. Nothing when there is no memory for one.
    pub(crate) fn empty(self, home: &Node, class: usize) -> Option<Sheaf> {
        let sheaf = self.pop(Tag::new(home.number(), SHEAVES));
        if sheaf == 0 {
            return home.empty(class);
        }
        // SAFETY: put there by `put_empty`, which owned it; popped by us alone.
        let mut sheaf = unsafe { Sheaf::from_top(sheaf) };
        sheaf.clear(class);
        Some(sheaf)
    }

    /// Takes an empty sheaf.
    pub(crate) fn put_empty(self, home: &Node, mut sheaf: Sheaf) {
        let tag = Tag::new(home.number(), SHEAVES);
        sheaf.clear(SHEAVES);
        let top = sheaf.into_top();
        // Where there is no sheaf of sheaves yet, this one becomes it.
        if self.push(tag, top) || self.exchange(tag.word(), sheaf::unset(), top) {
            return;
        }
        // SAFETY: ours from above; nobody took it.
        home.empties.put(unsafe { Sheaf::from_top(top) });
    }

    /// Takes the sheaf that the word at `index` names, if it names a real one.
    fn take(self, index: usize) -> Option<Sheaf> {
        let top = self.peek(index);
        let taken = sheaf::is_real(top) && self.exchange(index, top, sheaf::unset());
        // SAFETY: the word that named it was exchanged by us: it is ours.
        taken.then(|| unsafe { Sheaf::from_top(top) })
    }

    /// Takes a full sheaf for `tag` as the second one. What is too much comes back: the one that was there before, or this.
    pub(crate) fn put_second(self, tag: Tag, full: Sheaf) -> Option<Sheaf> {
        let index = tables::second(tag);
        let (old, new) = (self.peek(index), full.into_top());
        let free = old == sheaf::unset() || sheaf::is_real(old);
        let put = free && self.exchange(index, old, new);
        let left = if put { old } else { new };
        // SAFETY: the word that named it was exchanged by us; or it is the caller's, and was not put there.
        sheaf::is_real(left).then(|| unsafe { Sheaf::from_top(left) })
    }

    /// A sheaf with at least one object of `class`. Nothing when there is no memory.
    pub(crate) fn refill(self, home: &Node, class: usize) -> Option<Sheaf> {
        let second = tables::second(Tag::new(home.number(), class));
        if let Some(full) = self.take(second) {
            return Some(full);
        }
        let (full, unused) = home.refill(class, || self.empty(home, class));
        unused
            .into_iter()
            .for_each(|sheaf| self.put_empty(home, sheaf));
        full
    }

    /// Gives back what is at hand here for `class`: both sheaves, to the slabs.
    pub(crate) fn shed(self, home: &Node, class: usize) {
        let tag = Tag::new(home.number(), class);
        for index in [tag.word(), tables::second(tag)] {
            self.take(index)
                .into_iter()
                .for_each(|sheaf| home.flush(class, sheaf));
        }
    }
}
