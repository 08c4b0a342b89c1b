//! The current CPU's sheaves, where the fast path has failed: an empty sheaf is exchanged for the CPU's second one or one from
//! the node, a full one for an empty one.
//!
//! The last full sheaf of a class stays with the CPU as its *second*. A program that goes to and fro about the edge of a
//! sheaf would else give one to the node and take another, at every turn; and those go round among the CPUs, with the
//! cache lines of their objects.
//!
//! A *place* is whose words the calling thread uses: those of its CPU, by restartable sequences, or a fallback table
//! under its lock. Both do the same four things to a word: pop, push, peek, exchange. Between two of them the thread may
//! be moved to another CPU; that is why sheaves change hands by compare-and-exchange of the whole word. Equal words mean
//! the same sheaf with as many objects, so it does not matter what happened in between.

use core::sync::atomic::Ordering;

use crate::lock::Lock;
use crate::node::{self, Node, Scatter};
use crate::os::{self, percpu};
use crate::placement::Placement;
use crate::sheaf::{self, Sheaf};
use crate::size_class::SHEAVES;
use crate::slab::Misuse;
use crate::span_map::Tag;
use crate::tables::{self, FALLBACK, Table};
use crate::topology;

/// Whose words the calling thread uses, now.
#[derive(Clone, Copy)]
enum Place {
    /// Those of the CPU it is on, by restartable sequences.
    Cpu,
    /// A fallback table.
    Fallback(&'static Lock<Table>),
}

impl Place {
    fn here() -> Self {
        match percpu::cpu() {
            Some(cpu) if cpu < topology::machine().cpus => Self::Cpu,
            _ => Self::Fallback(&FALLBACK[tables::fallback_of(os::cpu())]),
        }
    }

    /// The node whose objects the place's sheaves hold.
    fn home(self) -> &'static Node {
        // Both alike: a fallback table has the home of the CPUs that it is for.
        node::node(topology::machine().home_of(os::cpu()))
    }

    /// The word at `index`; `forbidden` when the thread has just lost its fast path.
    fn peek(self, index: usize) -> usize {
        match self {
            Self::Cpu => percpu::peek(index),
            // Relaxed, here and below: under the table's lock.
            Self::Fallback(table) => table.lock().word(index).load(Ordering::Relaxed),
        }
    }

    /// Whether there may be no sheaf for `tag` here, now: its home is elsewhere, or the place is being drained.
    fn is_closed(self, tag: Tag) -> bool {
        self.peek(tag.word()) == sheaf::forbidden()
    }

    /// Replaces the word at `index` if it is `expected`.
    fn exchange(self, index: usize, expected: usize, new: usize) -> bool {
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

    fn pop(self, tag: Tag) -> usize {
        match self {
            Self::Cpu => percpu::pop(tag.kind()),
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

    fn push(self, tag: Tag, object: usize) -> bool {
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
    fn empty(self, home: &Node, class: usize) -> Option<Sheaf> {
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
    fn put_empty(self, home: &Node, mut sheaf: Sheaf) {
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

    /// Takes the second sheaf for `tag`, if there is one. It is full.
    fn take_second(self, tag: Tag) -> Option<Sheaf> {
        let index = tables::second(tag);
        let top = self.peek(index);
        let taken = sheaf::is_real(top) && self.exchange(index, top, sheaf::unset());
        // SAFETY: the word that named it was exchanged by us: it is ours.
        taken.then(|| unsafe { Sheaf::from_top(top) })
    }

    /// Takes a full sheaf for `tag` as the second one. What is too much comes back: the one that was there before, or this.
    fn put_second(self, tag: Tag, full: Sheaf) -> Option<Sheaf> {
        let index = tables::second(tag);
        let (old, new) = (self.peek(index), full.into_top());
        let free = old == sheaf::unset() || sheaf::is_real(old);
        let put = free && self.exchange(index, old, new);
        let left = if put { old } else { new };
        // SAFETY: the word that named it was exchanged by us; or it is the caller's, and was not put there.
        sheaf::is_real(left).then(|| unsafe { Sheaf::from_top(left) })
    }

    /// A sheaf with at least one object of `class`. Nothing when there is no memory.
    fn refill(self, home: &Node, class: usize) -> Option<Sheaf> {
        if let Some(second) = self.take_second(Tag::new(home.number(), class)) {
            return Some(second);
        }
        let (full, unused) = home.refill(class, || self.empty(home, class));
        unused
            .into_iter()
            .for_each(|sheaf| self.put_empty(home, sheaf));
        full
    }
}

/// An object of `class`, from this place's sheaf, its node, or another node, in this order. Nothing when there is no
/// memory.
pub(crate) fn alloc(class: usize) -> Option<usize> {
    let place = Place::here();
    let home = place.home();
    let tag = Tag::new(home.number(), class);
    let object = place.pop(tag);
    if object != 0 {
        return Some(object);
    }
    if !place.is_closed(tag)
        && let Some(mut sheaf) = place.refill(home, class)
    {
        let object = sheaf.pop();
        install(place, home, class, sheaf);
        return Some(object);
    }
    take_one(class, Placement::near(home.number()))
}

/// One object of `class`, past the sheaves. Nothing when there is no memory.
pub(crate) fn take_one(class: usize, placement: Placement) -> Option<usize> {
    placement.find(|node| {
        let mut one = [0];
        (node.take(class, &mut one) == 1).then_some(one[0])
    })
}

/// Makes `new` the place's sheaf if the old one is still empty; else its objects go back.
fn install(place: Place, home: &Node, class: usize, new: Sheaf) {
    let tag = Tag::new(home.number(), class);
    let old = place.peek(tag.word());
    let wanted = old == sheaf::unset() || (sheaf::is_real(old) && sheaf::newest(old) == 0);
    let new = new.into_top();
    if wanted && place.exchange(tag.word(), old, new) {
        if sheaf::is_real(old) {
            // SAFETY: the word that named it was exchanged by us: it is ours.
            place.put_empty(home, unsafe { Sheaf::from_top(old) });
        }
        return;
    }
    // SAFETY: made from a sheaf of ours above, and not installed.
    home.flush(class, unsafe { Sheaf::from_top(new) });
}

/// Takes an object of ours back: into this place's sheaf if its home is here, else into its slab. How much lies scattered
/// then, for [`drain`](crate::drain).
pub(crate) fn free(tag: Tag, object: usize) -> Scatter {
    let place = Place::here();
    if place.push(tag, object) {
        return Scatter::Little;
    }
    let (home, class) = (node::node(tag.node()), tag.kind());
    let old = place.peek(tag.word());
    if sheaf::newest(old) == object {
        node::report(object, Misuse::DoubleFree);
    }
    let room = old == sheaf::unset() || (sheaf::is_real(old) && sheaf::is_full(old));
    let fresh = if room { place.empty(home, class) } else { None };
    let Some(mut fresh) = fresh else {
        home.put(class, &mut [object]);
        return home.scatter();
    };
    fresh.push(object);
    let fresh = fresh.into_top();
    if place.exchange(tag.word(), old, fresh) {
        if sheaf::is_real(old) {
            // SAFETY: the word that named it was exchanged by us: it is ours.
            let full = place.put_second(tag, unsafe { Sheaf::from_top(old) });
            let flushed = full.and_then(|full| home.put_full(class, full));
            flushed
                .into_iter()
                .for_each(|sheaf| place.put_empty(home, sheaf));
        }
    } else {
        // SAFETY: made from a sheaf of ours above, and not installed.
        home.flush(class, unsafe { Sheaf::from_top(fresh) });
    }
    home.scatter()
}
