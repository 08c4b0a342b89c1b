//! Size classes: which size an object really gets, and how slabs of that size look.
//!
//! Classes 1 to 64 are the multiples of 16 up to 1 KiB; then four steps per doubling up to 256 KiB (classes 65 to
//! 96), so that at most a fifth of a larger object is wasted. Class 0 and those from 97 on do not exist: their words
//! in the CPUs' tables stay empty and full at once, which sends every odd pointer to the slow path for free.

use crate::config::{
    BARN_BYTES, BATCH_BYTES, MAX_FINE, MAX_SMALL, MIN_ALIGN, QUIET_WORD, ROW, SHEAF_BYTES,
    SHEAF_LEAST, SHEAF_MOST, SLAB_LEAST, SLAB_MOST, SLICE, UNIT_SLICES,
};

/// The last class.
pub(crate) const LAST: usize = 96;

/// The kind under which a CPU keeps sheaves without objects: no class, but a word like one.
pub(crate) const SHEAVES: usize = 98;
const _: () = assert!(LAST < SHEAVES && SHEAVES < QUIET_WORD);

/// How slabs of a class look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes per object.
    pub(crate) size: usize,
    /// Slices per slab.
    pub(crate) slices: usize,
    /// Objects per slab.
    pub(crate) capacity: usize,
    /// Objects per sheaf.
    pub(crate) sheaf: usize,
    /// Objects per refill from slabs.
    pub(crate) batch: usize,
    /// Full sheaves that a barn keeps.
    pub(crate) barn: usize,
    /// `2^RECIPROCAL_SHIFT / size`, rounded up: division by multiplication.
    reciprocal: u64,
}

/// Exact for every offset in a slab: `offset * size < 2^40`.
const RECIPROCAL_SHIFT: u32 = 42;

impl Shape {
    const NONE: Self = Self {
        size: 0,
        slices: 0,
        capacity: 0,
        sheaf: 0,
        batch: 0,
        barn: 0,
        reciprocal: 0,
    };

    const fn new(size: usize) -> Self {
        let slices = slices_for(size);
        let least = clamp(SHEAF_MOST / size, 1, SHEAF_LEAST);
        let sheaf = clamp(SHEAF_BYTES / size, least, 254);
        Self {
            size,
            slices,
            capacity: slices * SLICE / size,
            sheaf,
            batch: clamp(BATCH_BYTES / size, 1, sheaf),
            barn: BARN_BYTES / (size * sheaf),
            reciprocal: (1_u64 << RECIPROCAL_SHIFT).div_ceil(size as u64),
        }
    }

    /// Which object of its slab lies at `offset`, which is inside the slab; nothing when none begins there.
    pub(crate) fn index(&self, offset: usize) -> Option<usize> {
        let product = offset as u64 * self.reciprocal;
        // What is left over is as many times the reciprocal as bytes are, and a few.
        let exact = product & ((1 << RECIPROCAL_SHIFT) - 1) < self.reciprocal;
        let index = (product >> RECIPROCAL_SHIFT) as usize;
        (exact && index < self.capacity).then_some(index)
    }
}

const fn clamp(value: usize, low: usize, high: usize) -> usize {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

/// The fewest slices of which at most a sixteenth is left over, and that a few objects fit in, or one if it is large.
const fn slices_for(size: usize) -> usize {
    let least = clamp(SLAB_LEAST * size, SLICE, SLAB_MOST);
    let mut slices = 1;
    while slices < UNIT_SLICES {
        let bytes = slices * SLICE;
        if bytes >= least && bytes >= size && bytes % size <= bytes / 16 {
            return slices;
        }
        slices += 1;
    }
    slices
}

/// The size of `class`, by the rule at the head.
const fn size_of_class(class: usize) -> usize {
    if class <= MAX_FINE / MIN_ALIGN {
        return class * MIN_ALIGN;
    }
    let step = class - MAX_FINE / MIN_ALIGN - 1;
    let base = MAX_FINE << (step / 4);
    base + base / 4 * (step % 4 + 1)
}

/// The shape of each class; [`Shape::NONE`] for those that do not exist.
pub(crate) static SHAPES: [Shape; ROW] = {
    let mut shapes = [Shape::NONE; ROW];
    let mut class = 1;
    while class <= LAST {
        shapes[class] = Shape::new(size_of_class(class));
        class += 1;
    }
    shapes[SHEAVES].sheaf = 128;
    shapes
};

/// The class for objects of `size` bytes at multiples of [`MIN_ALIGN`]; nothing when that is more than [`MAX_SMALL`].
/// For no bytes class 0, whose words are always empty and full: so the slow path sees to it.
#[inline(always)]
pub(crate) fn of(size: usize) -> Option<usize> {
    if size <= MAX_FINE {
        return Some(size.div_ceil(MIN_ALIGN));
    }
    if size > MAX_SMALL {
        return None;
    }
    let last = size - 1;
    let log = last.ilog2();
    let quarter = (last >> (log - 2)) & 3;
    Some(MAX_FINE / MIN_ALIGN + 1 + (log - MAX_FINE.ilog2()) as usize * 4 + quarter)
}

/// The class for objects of `size` bytes at multiples of `align`: always the same for the same arguments. Nothing
/// when only a span or a mapping will do. For no bytes perhaps class 0, as [`of`].
#[inline]
pub(crate) fn of_layout(size: usize, align: usize) -> Option<usize> {
    if align <= MIN_ALIGN {
        return of(size);
    }
    of_aligned(size, align)
}

/// Slabs begin at multiples of a slice, and objects at multiples of their size: any class whose size is a multiple of
/// the alignment will do.
fn of_aligned(size: usize, align: usize) -> Option<usize> {
    if size > MAX_SMALL || align > SLICE {
        return None;
    }
    // A power of two.
    let mask = align - 1;
    let rounded = (size.max(1) + mask) & !mask;
    if rounded <= MAX_FINE {
        return of(rounded);
    }
    (of(rounded)?..=LAST).find(|class| SHAPES[*class].size & mask == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SLICE_SHIFT;

    #[test]
    fn every_size_gets_the_smallest_class_that_fits() {
        let mut class = 0;
        for size in 0..=MAX_SMALL {
            if size > SHAPES[class].size {
                class += 1;
            }
            assert_eq!(of(size), Some(class), "size {size}");
            assert!(SHAPES[class].size >= size);
        }
        assert_eq!(class, LAST);
        assert_eq!(of(MAX_SMALL + 1), None);
    }

    #[test]
    fn slabs_hold_what_their_shape_says() {
        for shape in &SHAPES[1..=LAST] {
            assert!(shape.capacity * shape.size <= shape.slices * SLICE);
            assert!(shape.capacity <= SLICE / MIN_ALIGN);
            for offset in 0..shape.slices * SLICE {
                let (index, rest) = (offset / shape.size, offset % shape.size);
                let is_object = rest == 0 && index < shape.capacity;
                assert_eq!(shape.index(offset), is_object.then_some(index));
            }
        }
    }

    #[test]
    fn aligned_classes_are_aligned() {
        for align in (0..=SLICE_SHIFT).map(|shift| 1 << shift) {
            for size in (0..5000).chain((5000..=MAX_SMALL).step_by(977)) {
                let Some(class) = of_layout(size, align) else {
                    assert!(size.next_multiple_of(align) > MAX_SMALL);
                    continue;
                };
                assert!(SHAPES[class].size >= size);
                assert!(SHAPES[class].size.is_multiple_of(align));
            }
        }
        assert_eq!(of_layout(1, SLICE * 2), None);
    }
}
