//! One slab: a run of slices cut into objects of one size class, and the bitmap that says which are free.
//!
//! The descriptor lies apart from the objects, in the span map's region, so nothing that a program writes beyond the
//! end of an object can harm it, and free objects cost no memory traffic. A set bit is a free object: freeing it again
//! is seen. Objects are handed out lowest address first, so pages are touched in order.
//!
//! All of it is guarded by the lock of the slab's shard and class (`shard`).

use crate::config::{PAGE, SLICE, UNIT_SLICES};
use crate::list::{Linked, Links};
use crate::ring::{Neighbours, Ringed};
use crate::size_class::SHAPES;

/// Words in the bitmap: enough for a slice of the smallest objects.
const WORDS: usize = 32;

/// Bytes per descriptor, as `span_map` keeps them.
pub(crate) const DESCRIPTOR: usize = 384;

/// Bytes of bookkeeping that a unit in use costs, the descriptors of its slices: whole pages, so that those of a free
/// unit can be given back.
pub(crate) const UNIT_METADATA: usize = UNIT_SLICES * DESCRIPTOR;

/// The descriptor of a slab or a span, kept for its first slice; for the other slices only `back` counts.
#[repr(C)]
pub(crate) struct Slab {
    /// Neighbours in a list of partly used slabs.
    links: Links<Slab>,
    /// Address of the first object.
    pub(crate) start: usize,
    /// Slices from here back to the first.
    pub(crate) back: u32,
    /// Slices, of a span too.
    pub(crate) slices: u32,
    class: u32,
    /// Objects that are free.
    free: u32,
    /// Where a search for free objects begins: all words below are 0.
    low: u32,
    /// The list it is in: see `pool`.
    pub(crate) list: u32,
    bits: [u64; WORDS],
    /// Neighbours among all slabs of an object cache on its node.
    neighbours: Neighbours<Slab>,
    /// How many objects were in use when these were last offered for eviction, and in which round: see `sparse`.
    pub(crate) offered: u32,
    pub(crate) round: u32,
    /// Which one of its cache's slabs on the node it is, counted as they were built.
    pub(crate) number: u64,
}

const _: () = assert!(size_of::<Slab>() <= DESCRIPTOR && UNIT_METADATA.is_multiple_of(PAGE));

/// What is wrong with a pointer that was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// It is free already.
    DoubleFree,
    /// No object begins there.
    NotAnObject,
}

impl Linked for Slab {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

impl Ringed for Slab {
    fn neighbours(&mut self) -> &mut Neighbours<Self> {
        &mut self.neighbours
    }
}

/// All bits of a bitmap's word that stand for objects, of `capacity` in all.
fn all(capacity: usize, word: usize) -> u64 {
    match capacity.saturating_sub(word * 64) {
        0 => 0,
        some @ 1..64 => (1 << some) - 1,
        _ => u64::MAX,
    }
}

impl Slab {
    /// Makes it a slab of `class` whose objects are all free.
    pub(crate) fn init(&mut self, start: usize, class: usize) {
        let shape = &SHAPES[class];
        self.links = Links::none();
        self.start = start;
        self.back = 0;
        self.slices = shape.slices as u32;
        self.class = class as u32;
        self.free = shape.capacity as u32;
        self.low = 0;
        self.list = 0;
        for (index, word) in self.bits.iter_mut().enumerate() {
            *word = all(shape.capacity, index);
        }
    }

    /// Makes it a span of `slices`.
    pub(crate) fn init_span(&mut self, start: usize, slices: usize) {
        self.start = start;
        self.back = 0;
        self.slices = slices as u32;
    }

    /// Objects that are free.
    pub(crate) fn free(&self) -> usize {
        self.free as usize
    }

    /// Objects there are.
    pub(crate) fn capacity(&self) -> usize {
        SHAPES[self.class as usize].capacity
    }

    /// Objects that are not free.
    pub(crate) fn in_use(&self) -> usize {
        self.capacity() - self.free()
    }

    /// Whether an object is free; nothing when none begins there.
    pub(crate) fn is_free(&self, object: usize) -> Option<bool> {
        let shape = &SHAPES[self.class as usize];
        let offset = object.wrapping_sub(self.start);
        let index = shape.index(Some(offset).filter(|offset| *offset < shape.slices * SLICE)?)?;
        Some(self.bits[index / 64 % WORDS] & 1 << (index % 64) != 0)
    }

    /// All objects, and whether each is free.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (usize, bool)> {
        let size = SHAPES[self.class as usize].size;
        let bit = |index: usize| self.bits[index / 64 % WORDS] & 1 << (index % 64) != 0;
        (0..self.capacity()).map(move |index| (self.start + index * size, bit(index)))
    }

    /// Which objects are not free, now.
    pub(crate) fn view(&self) -> View {
        let capacity = self.capacity();
        let mut view = View {
            start: self.start,
            class: self.class as usize,
            in_use: self.in_use(),
            used: self.bits,
        };
        for (index, word) in view.used.iter_mut().enumerate() {
            *word = !*word & all(capacity, index);
        }
        view
    }

    /// Takes free objects, lowest address first, until `out` is full or there are no more; they are written to the end of
    /// `out`, the first one last. How many.
    pub(crate) fn take(&mut self, out: &mut [usize]) -> usize {
        let size = SHAPES[self.class as usize].size;
        let mut room = out.iter_mut().rev();
        let mut index = self.low as usize;
        while index < WORDS && room.len() > 0 {
            let first = self.start + index * 64 * size;
            let mut word = self.bits[index];
            while word != 0
                && let Some(slot) = room.next()
            {
                *slot = first + word.trailing_zeros() as usize * size;
                word &= word - 1;
            }
            self.bits[index] = word;
            index += usize::from(word == 0);
        }
        let left = room.len();
        let taken = out.len() - left;
        self.low = index as u32;
        self.free -= taken as u32;
        taken
    }

    /// Takes objects back, up to the first that lies outside this slab: how many.
    ///
    /// # Errors
    /// The object that cannot be taken back, and what is wrong with it; those before it were.
    pub(crate) fn put(&mut self, objects: &[usize]) -> Result<usize, (usize, Misuse)> {
        // A copy, which the compiler keeps in registers.
        let shape = SHAPES[self.class as usize];
        let bytes = shape.slices * SLICE;
        let mut count = 0;
        for object in objects {
            let offset = object.wrapping_sub(self.start);
            if offset >= bytes {
                break;
            }
            let index = shape.index(offset).ok_or((*object, Misuse::NotAnObject))?;
            let (word, bit) = (&mut self.bits[index / 64 % WORDS], 1_u64 << (index % 64));
            if *word & bit != 0 {
                return Err((*object, Misuse::DoubleFree));
            }
            *word |= bit;
            count += 1;
        }
        // Not the lowest of them: that would cost more here than to look at a few words again.
        self.low = 0;
        self.free += count as u32;
        Ok(count)
    }
}

/// What a slab looked like: a copy of its bitmap.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// Where the first object lies.
    pub(crate) start: usize,
    pub(crate) class: usize,
    /// Objects that were not free.
    pub(crate) in_use: usize,
    used: [u64; WORDS],
}

impl View {
    /// The objects that were not free, lowest address first.
    pub(crate) fn objects(&self) -> impl Iterator<Item = usize> {
        let size = SHAPES[self.class].size;
        self.used.iter().enumerate().flat_map(move |(index, word)| {
            let mut word = *word;
            core::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(self.start + (index * 64 + bit) * size)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size_class::LAST;

    fn slab(class: usize) -> Box<Slab> {
        // SAFETY: a slab of zeros is a valid value: integers and null pointers.
        let mut slab: Box<Slab> = unsafe { Box::<Slab>::new_zeroed().assume_init() };
        slab.init(SLICE, class);
        slab
    }

    #[test]
    fn hands_out_every_object_once_lowest_first() {
        for (class, shape) in SHAPES.iter().enumerate().take(LAST + 1).skip(1) {
            let mut slab = slab(class);
            let mut out = vec![0; slab.capacity() + 1];
            assert_eq!(slab.take(&mut out), slab.capacity());
            assert_eq!(slab.free(), 0);
            assert_eq!(out.remove(0), 0, "written to the end");
            assert!(out.iter().rev().is_sorted());
            let last = SLICE + slab.slices as usize * SLICE - shape.size;
            assert!(out.iter().all(|object| (SLICE..=last).contains(object)));
            assert_eq!(slab.put(&out), Ok(out.len()));
            assert_eq!(slab.free(), slab.capacity());
        }
    }

    #[test]
    fn a_view_shows_what_is_in_use() {
        for class in [1, 3, 64, LAST] {
            let mut slab = slab(class);
            let mut out = vec![0; slab.capacity()];
            slab.take(&mut out);
            out.reverse();
            let view = slab.view();
            assert_eq!(view.in_use, out.len());
            assert!(view.objects().eq(out.iter().copied()));
            let (freed, kept): (Vec<_>, Vec<_>) = out.iter().partition(|at| **at % 3 == 0);
            slab.put(&freed).unwrap();
            assert!(slab.view().objects().eq(kept));
        }
    }

    #[test]
    fn sees_double_frees_and_what_is_no_object() {
        let mut slab = slab(3);
        let mut out = [0; 2];
        slab.take(&mut out);
        let (used, freed, inside) = (out[0], out[1], out[0] + 16);
        assert_eq!(slab.put(&[freed]), Ok(1));
        assert_eq!(slab.put(&[freed]), Err((freed, Misuse::DoubleFree)));
        let twice = slab.put(&[used, used]);
        assert_eq!(twice, Err((used, Misuse::DoubleFree)));
        assert_eq!(slab.put(&[inside]), Err((inside, Misuse::NotAnObject)));
        assert_eq!(slab.put(&[used + SLICE]), Ok(0), "of another slab");
        assert_eq!(slab.put(&[0]), Ok(0));
    }
}
