//! The current CPU's sheaves, where the fast path has failed: an empty sheaf is exchanged for the CPU's second one or one from
//! the node, a full one for an empty one.
//!
//! The last full sheaf of a class stays with the CPU as its *second*. A program that goes to and fro about the edge of a
//! sheaf would else give one to the node and take another, at every turn; and those go round among the CPUs, with the
//! cache lines of their objects.
//!
//! What a CPU has at hand keeps the slabs that it came from. A class that was used much for a while, and is little used
//! since, is *thin*: its slabs are mostly free, each kept by a few objects in sheaves that nobody exchanges. So with each
//! full sheaf that goes to the node one class, another each time, is looked at, and what is at hand for it goes back if it
//! is thin.

use crate::node::{self, Node, Scatter};
use crate::place::Place;
use crate::placement::Placement;
use crate::sheaf::{self, Sheaf};
use crate::slab::Misuse;
use crate::window::Tag;

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
            full.into_iter()
                .for_each(|full| give(place, home, class, full));
        }
    } else {
        // SAFETY: made from a sheaf of ours above, and not installed.
        home.flush(class, unsafe { Sheaf::from_top(fresh) });
    }
    home.scatter()
}

/// Gives a full sheaf of `class` to the node, and what is at hand for the next class if that is thin.
fn give(place: Place, home: &Node, class: usize, full: Sheaf) {
    let flushed = home.put_full(class, full);
    flushed
        .into_iter()
        .for_each(|sheaf| place.put_empty(home, sheaf));
    if let Some(thin) = home.next_thin() {
        place.shed(home, thin);
        home.flush_near_barn(thin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SLICE;
    use crate::size_class::{LAST, SHAPES};
    use crate::{os, shard, start};

    /// Seen to fail when no class is looked at, when one sheaf stays, and when always the same class is looked at.
    #[test]
    fn a_class_that_is_used_no_more_keeps_few_slabs() {
        const CLASS: usize = 61;
        const OTHER: usize = 62;
        // More than the barns hold, by far.
        const SLABS: usize = 100;
        assert!(start::ensure());
        let _barns = shard::BARNS.lock();
        let (cpu, all) = (os::cpu(), os::affinity().unwrap());
        os::run_on(&all.only(|other| other == cpu).unwrap());
        let home = Place::here().home();
        let free = |class, objects: Vec<usize>| {
            for object in objects {
                super::free(Tag::new(home.number(), class), object);
            }
        };
        let take = |class, count| -> Vec<_> { (0..count).map(|_| alloc(class).unwrap()).collect() };
        // Those that are freed last lie in all slabs.
        let mut objects = take(CLASS, SLABS * SHAPES[CLASS].capacity);
        objects.sort_by_key(|object| (object % SLICE, *object));
        free(CLASS, objects);
        assert!(home.class_usage(CLASS).slabs > SLABS / 2);
        for _ in 0..LAST {
            // Gives a full sheaf to the node, at least.
            free(OTHER, take(OTHER, 4 * SHAPES[OTHER].sheaf));
        }
        assert!(home.class_usage(CLASS).slabs <= 4);
        os::run_on(&all);
    }
}
