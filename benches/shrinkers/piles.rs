//! A cache of real blocks of the allocator, for [`requests`](crate::requests): every way to answer that a shrinker has, drawn
//! by lot.

use std::alloc::Layout;
use std::collections::{HashSet, VecDeque};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ebb_benches::Random;
use ebbmalloc::raw::{self, UntypedCache};
use ebbmalloc::{Count, Lane, Scan, Shrink, ShrinkControl, Shrinker};

/// A block, which is given back when it is dropped.
pub(crate) struct Block(NonNull<u8>);

// SAFETY: a block belongs to whoever has this.
unsafe impl Send for Block {}

impl Block {
    /// One of so many bytes, or an object of `slabs`, if there is memory for it. Nobody writes to it: what is looked at is what
    /// is charged.
    pub(crate) fn new(size: usize, slabs: Option<&UntypedCache>) -> Option<Self> {
        let block = match slabs {
            Some(slabs) => slabs.alloc(),
            None => NonNull::new(raw::alloc(size)),
        };
        block.map(Self)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: a block or an object of the allocator's, and nobody else's.
        unsafe { raw::free(self.0.as_ptr()) };
    }
}

/// An object, and whether it was used recently: then it is passed over once.
struct Object {
    block: Block,
    marked: bool,
}

/// What a cache says of the bytes of its objects.
#[derive(Clone, Copy, Debug)]
enum Tells {
    Size,
    /// Four times as much.
    Larger,
    /// A quarter, which may be 0.
    Smaller,
    /// Only how much it freed.
    Freed,
    Nothing,
}

/// A cache.
pub(crate) struct Pile {
    objects: Mutex<VecDeque<Object>>,
    slabs: Option<UntypedCache>,
    pub(crate) size: usize,
    tells: Tells,
    /// How often it answers that it cannot say or do anything now.
    stops: AtomicUsize,
    /// Whether it evicts by whole slabs.
    whole: bool,
}

impl Pile {
    /// One without objects.
    pub(crate) fn new(random: &mut Random) -> Option<Self> {
        let doublings = random.below(12);
        let size = random.between(16 << doublings, 32 << doublings);
        let layout = Layout::from_size_align(size, 16).ok()?;
        let own = random.below(4) == 0;
        Some(Self {
            objects: Mutex::default(),
            slabs: match own {
                true => Some(UntypedCache::new("B7", layout).ok()?),
                false => None,
            },
            size,
            tells: match random.below(8) {
                0 => Tells::Larger,
                1 => Tells::Smaller,
                2 => Tells::Freed,
                3 => Tells::Nothing,
                _ => Tells::Size,
            },
            stops: AtomicUsize::new(match random.below(16) {
                0 => 1 + random.below(8),
                _ => 0,
            }),
            whole: random.below(2) == 0,
        })
    }

    /// How it is registered. (It is never late: what the machine does to it is not what is asked here.)
    pub(crate) fn spec(random: &mut Random) -> Shrinker {
        let spec = Shrinker::new("B7")
            .seeks(random.below(33) as u32)
            .value(1 + random.below(8) as u8)
            .deadline(Duration::MAX);
        let spec = match random.below(2) {
            0 => spec,
            _ => spec.batch(1 + random.below(400)),
        };
        match random.below(128) {
            0 => spec.lane(Lane::Async),
            _ => spec,
        }
    }

    /// A block such as its objects are.
    pub(crate) fn block(&self) -> Option<Block> {
        Block::new(self.size, self.slabs.as_ref())
    }

    /// Whether its objects are blocks like any others of their size.
    pub(crate) fn is_shared(&self) -> bool {
        self.slabs.is_none()
    }

    pub(crate) fn put(&self, block: Block, marked: bool) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.push_back(Object { block, marked });
    }

    /// Bytes of its objects.
    pub(crate) fn bytes(&self) -> usize {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.len() * self.size
    }

    /// All of its objects.
    pub(crate) fn take(&self) -> Vec<Block> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.drain(..).map(|object| object.block).collect()
    }

    /// Whether it cannot say or do anything this time.
    fn stops(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        // Relaxed: a figure, and its callbacks never run twice at the same time.
        let stops = &self.stops;
        stops
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    /// Evicts whole slabs, until there are so many objects.
    fn evict_slabs(
        &self,
        slabs: &UntypedCache,
        objects: &mut VecDeque<Object>,
        most: usize,
    ) -> usize {
        let held: HashSet<NonNull<u8>> = objects.iter().map(|object| object.block.0).collect();
        let mut evicted = HashSet::new();
        for slab in slabs.sparsest() {
            evicted.extend(slab.objects().filter(|object| held.contains(object)));
            if evicted.len() >= most {
                break;
            }
        }
        objects.retain(|object| !evicted.contains(&object.block.0));
        evicted.len()
    }

    /// Looks at so many, the oldest first, and evicts those without a mark.
    fn evict_oldest(objects: &mut VecDeque<Object>, most: usize) -> usize {
        let before = objects.len();
        for _ in 0..most {
            match objects.pop_front() {
                Some(object) if object.marked => objects.push_back(Object {
                    marked: false,
                    ..object
                }),
                other => drop(other),
            }
        }
        before - objects.len()
    }
}

impl Shrink for Pile {
    fn count(&self, _: &ShrinkControl) -> Count {
        let objects = self.objects.try_lock().map(|objects| objects.len());
        let Ok(objects) = objects else {
            return Count::Unknown;
        };
        if objects.is_multiple_of(2) && self.stops() {
            return Count::Unknown;
        }
        Count::of(objects).each(match self.tells {
            Tells::Size => self.size,
            Tells::Larger => self.size * 4,
            Tells::Smaller => self.size / 4,
            Tells::Freed | Tells::Nothing => 0,
        })
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let objects = self.objects.try_lock();
        let Ok(mut objects) = objects else {
            return Scan::Stop;
        };
        if self.stops() {
            return Scan::Stop;
        }
        let most = ctl.to_scan().min(objects.len());
        let freed = match &self.slabs {
            Some(slabs) if self.whole => self.evict_slabs(slabs, &mut objects, most),
            _ => Self::evict_oldest(&mut objects, most),
        };
        ctl.set_scanned(most.max(freed));
        Scan::Freed {
            objects: freed,
            bytes: match self.tells {
                Tells::Nothing => 0,
                _ => freed * self.size,
            },
        }
    }
}
