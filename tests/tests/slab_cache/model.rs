//! What a cache hands out, against a reference: contents, alignment, overlap, occupancy, and what `sparsest` shows.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use ebb_tests::{Random, share};
use ebbmalloc::CacheDebug;
use ebbmalloc::raw::UntypedCache;

/// Objects of a cache, each filled with a byte of its own.
struct Model {
    cache: UntypedCache,
    layout: Layout,
    live: BTreeMap<usize, (NonNull<u8>, u8)>,
}

impl Model {
    fn new(size: usize, align: usize, debug: CacheDebug) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        Self {
            cache: UntypedCache::debugged("model", layout, debug).unwrap(),
            layout,
            live: BTreeMap::new(),
        }
    }

    fn bytes(&mut self, object: NonNull<u8>) -> &mut [u8] {
        // SAFETY: a live object of that size, used through this alone.
        unsafe { std::slice::from_raw_parts_mut(object.as_ptr(), self.layout.size()) }
    }

    fn add(&mut self, object: NonNull<u8>, mark: u8) {
        let address = object.addr().get();
        assert!(address.is_multiple_of(self.layout.align()));
        let below = self.live.range(..address + self.layout.size()).next_back();
        assert!(below.is_none_or(|(other, _)| other + self.layout.size() <= address));
        self.bytes(object).fill(mark);
        self.live.insert(address, (object, mark));
    }

    fn take(&mut self, random: &mut Random) -> Option<(NonNull<u8>, u8)> {
        let nth = random.below(self.live.len().max(1));
        let some = self.live.keys().nth(nth).copied();
        let (object, mark) = self.live.remove(&some?)?;
        assert!(self.bytes(object).iter().all(|byte| *byte == mark));
        Some((object, mark))
    }

    fn step(&mut self, random: &mut Random, most: usize) {
        match random.below(16) {
            0..9 if self.live.len() < most => {
                let object = self.cache.alloc().unwrap();
                self.add(object, random.below(256) as u8);
            }
            14 if random.below(50) == 0 => self.look(),
            15 => {
                // Into a denser slab, as `relocate` does it.
                if let Some((object, mark)) = self.take(random) {
                    let other = self.cache.alloc_denser(object).unwrap_or(object);
                    self.add(other, mark);
                    if other != object {
                        let in_use = |at| self.cache.occupancy(at).unwrap().in_use;
                        assert!(in_use(other) > in_use(object), "beside it, and denser");
                        // SAFETY: live, and used no more.
                        unsafe { self.cache.free(object) };
                    }
                }
            }
            _ => {
                if let Some((object, _)) = self.take(random) {
                    // SAFETY: live, and used no more.
                    unsafe { self.cache.free(object) };
                }
            }
        }
    }

    /// Whatever is free goes back; the figures and the slabs have just what is live.
    fn look(&self) {
        self.cache.shrink();
        assert_eq!(self.cache.validate(), 0);
        let stats = self.cache.stats();
        assert_eq!(stats.active_objs, self.live.len() as u64);
        assert_eq!(stats.num_objs, stats.num_slabs * stats.objperslab);
        assert_eq!(
            (stats.sharedavail, stats.active_slabs),
            (0, stats.num_slabs)
        );
        let mut seen = Vec::new();
        for slab in self.cache.sparsest() {
            let objects: Vec<_> = slab.objects().map(|at| at.addr().get()).collect();
            assert_eq!(objects.len(), slab.occupancy().in_use);
            assert_eq!(slab.occupancy().capacity as u64, stats.objperslab);
            let occupancy = self.cache.occupancy(self.live[&objects[0]].0);
            assert_eq!(occupancy, Some(slab.occupancy()));
            seen.extend(objects);
        }
        assert_eq!(seen.len(), self.live.len(), "each slab comes up once");
        assert!(seen.iter().all(|address| self.live.contains_key(address)));
    }
}

/// Four times so many steps with objects of one layout, and the end.
fn compare(size: usize, align: usize, debug: CacheDebug, steps: usize) {
    let mut random = Random::new(size as u64);
    let mut model = Model::new(size, align, debug);
    for round in 0..4 {
        let most = [1 + 600_000 / size.max(300), 50][round % 2];
        (0..share(steps)).for_each(|_| model.step(&mut random, most));
        model.look();
    }
    while let Some((object, _)) = model.take(&mut random) {
        // SAFETY: live, and used no more.
        unsafe { model.cache.free(object) };
    }
    let held = model.cache.stats().bytes() as usize;
    assert_eq!(model.cache.shrink(), held);
    assert_eq!(model.cache.stats().num_slabs, 0);
    assert!(model.cache.destroy().is_ok());
}

/// Seen to fail with `Slab::view` giving the free objects, with `put_near` losing the object when it flushes, with slabs
/// offered again in the same round, and with `take_beside` not taking the object out.
#[test]
fn against_the_reference() {
    for (size, align) in [
        (1, 1),
        (24, 8),
        (200, 64),
        (1000, 8),
        (3000, 1024),
        (100_000, 16),
    ] {
        compare(size, align, CacheDebug::NONE, 4000);
    }
}

/// Objects that are watched are in no other way different. Seen to fail with `offer` showing where the places begin.
#[test]
fn watched_objects_against_the_reference() {
    let users = CacheDebug::USERS | CacheDebug::CHECKS;
    for (size, align, debug) in [
        (1, 1, CacheDebug::ALL),
        (24, 8, CacheDebug::CHECKS),
        (24, 8, CacheDebug::ALL),
        (200, 64, CacheDebug::ALL),
        (1000, 8, users),
        (3000, 1024, CacheDebug::ALL),
        (100, 32768, CacheDebug::RED_ZONES),
        (100_000, 16, CacheDebug::ALL),
        (256 << 10, 16, CacheDebug::ALL),
    ] {
        let steps = if size.max(align) > 10_000 { 100 } else { 2000 };
        compare(size, align, debug, steps);
    }
}
