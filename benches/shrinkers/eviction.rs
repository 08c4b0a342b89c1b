//! B6: a full cache gives up a quarter of its objects: how much memory comes back, and how much of the hit rate is left.
//!
//! The cache holds half of the keys, and keys are asked for by Zipf's law. It was filled
//!
//! - *at random*: each slab has objects of all kinds, much used and little used;
//! - *by use*: what was asked for and not there was put in, and the least recently used made room. So old slabs have what is
//!   used most.
//!
//! Then a quarter is evicted, batch by batch as a shrinker would:
//!
//! - *LRU*: the least recently used, wherever they lie;
//! - *whole slabs*: all objects of the sparsest slabs;
//! - *LRU, then moves*: the least recently used; then what is left in the sparsest slabs moves into others' holes.
//!
//! The hit rate is exact: how likely it is that the key asked for next is there.

use std::time::Instant;

use ebb_benches::Random;
use ebbmalloc::{SlabBox, SlabCache};

/// Bytes of objects in the cache.
pub(crate) const BYTES: usize = 64 << 20;

/// Objects that a shrinker is asked for at once.
pub(crate) const BATCH: usize = 128;

/// An object.
pub(crate) struct Entry<const N: usize> {
    key: usize,
    _body: [u8; N],
}

/// A cache by keys, in the order of their use.
pub(crate) struct Cache<const N: usize> {
    pub(crate) slabs: SlabCache<Entry<N>>,
    pub(crate) entries: Vec<Option<SlabBox<Entry<N>>>>,
    /// The next older and the next younger one of each key; the last place has the youngest and the oldest of all.
    older: Vec<usize>,
    younger: Vec<usize>,
    pub(crate) len: usize,
    moves: usize,
}

impl<const N: usize> Cache<N> {
    fn new(keys: usize) -> Option<Self> {
        Some(Self {
            slabs: SlabCache::new("B6").ok()?,
            entries: (0..keys).map(|_| None).collect(),
            older: vec![keys; keys + 1],
            younger: vec![keys; keys + 1],
            len: 0,
            moves: 0,
        })
    }

    fn unlink(&mut self, key: usize) {
        let (older, younger) = (self.older[key], self.younger[key]);
        self.younger[older] = younger;
        self.older[younger] = older;
    }

    fn link(&mut self, key: usize) {
        let ends = self.entries.len();
        let youngest = self.older[ends];
        (self.older[key], self.younger[key]) = (youngest, ends);
        self.younger[youngest] = key;
        self.older[ends] = key;
    }

    pub(crate) fn evict(&mut self, key: usize) {
        self.unlink(key);
        self.entries[key] = None;
        self.len -= 1;
    }

    fn evict_oldest(&mut self) {
        let oldest = self.younger[self.entries.len()];
        self.evict(oldest);
    }

    /// Uses a key. False when there is no memory.
    fn touch(&mut self, key: usize, most: usize) -> bool {
        if self.entries[key].is_some() {
            self.unlink(key);
            self.link(key);
            return true;
        }
        if self.len == most {
            self.evict_oldest();
        }
        let body = [1; N];
        self.entries[key] = self.slabs.alloc(Entry { key, _body: body }).ok();
        self.link(key);
        self.len += 1;
        self.entries[key].is_some()
    }

    /// The keys in the sparsest slabs, one slab after the other.
    fn sparsest(&self) -> impl Iterator<Item = Vec<usize>> + use<'_, N> {
        self.slabs.sparsest().map(|slab| {
            // SAFETY: there is one thread, and all its objects are in the index and hold a value.
            let keys = slab.objects().map(|entry| unsafe { entry.as_ref() }.key);
            keys.collect()
        })
    }

    pub(crate) fn evict_lru(&mut self, batch: usize) {
        (0..batch).for_each(|_| self.evict_oldest());
    }

    pub(crate) fn evict_slabs(&mut self, batch: usize) {
        let mut keys = Vec::new();
        for slab in self.sparsest() {
            keys.extend(slab);
            if keys.len() >= batch {
                break;
            }
        }
        keys.into_iter().for_each(|key| self.evict(key));
    }

    pub(crate) fn evict_and_move(&mut self, batch: usize) {
        self.evict_lru(batch);
        // There are so many new holes, at most.
        let mut keys = Vec::new();
        for slab in self.sparsest() {
            keys.extend(slab);
            if keys.len() >= batch {
                break;
            }
        }
        for key in keys {
            let Some(entry) = self.entries[key].take() else {
                continue;
            };
            let moved = self.slabs.relocate(entry);
            let stays = moved.is_err();
            self.entries[key] = Some(moved.unwrap_or_else(|same| same));
            if stays {
                return;
            }
            self.moves += 1;
        }
    }

    /// How likely it is that a key asked for is there.
    fn hit_rate(&self, zipf: &Zipf) -> f64 {
        let held = (0..self.entries.len()).filter(|key| self.entries[*key].is_some());
        held.map(|key| zipf.chance(key)).sum()
    }
}

/// Keys by Zipf's law: the key on the n-th place is asked for in proportion to 1/n.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(keys: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=keys).map(|place| {
            sum += 1.0 / place as f64;
            sum
        });
        Self(sums.collect())
    }

    fn total(&self) -> f64 {
        self.0.last().copied().unwrap_or(1.0)
    }

    fn chance(&self, key: usize) -> f64 {
        1.0 / (key + 1) as f64 / self.total()
    }

    fn key(&self, random: &mut Random) -> usize {
        let high = f64::from(random.bits()) + f64::from(random.bits()) / f64::from(u32::MAX);
        let at = high / f64::from(u32::MAX) * self.total();
        self.0
            .partition_point(|sum| *sum < at)
            .min(self.0.len() - 1)
    }
}

pub(crate) type Evict<const N: usize> = fn(&mut Cache<N>, usize);

/// A cache that is full.
pub(crate) fn filled<const N: usize>(zipf: &Zipf, at_random: bool) -> Option<Cache<N>> {
    let keys = zipf.0.len();
    let mut cache = Cache::<N>::new(keys)?;
    let mut random = Random::new(6);
    while at_random && cache.len < keys / 2 {
        let key = random.below(keys);
        cache.touch(key, keys / 2).then_some(())?;
    }
    for _ in 0..keys * 4 {
        let key = zipf.key(&mut random);
        if !at_random || cache.entries[key].is_some() {
            cache.touch(key, keys / 2).then_some(())?;
        }
    }
    Some(cache)
}

/// One way, from the same beginning as the others.
fn one<const N: usize>(name: &str, zipf: &Zipf, at_random: bool, evict: Evict<N>) -> Option<()> {
    let mut cache = filled::<N>(zipf, at_random)?;
    let before = cache.hit_rate(zipf);
    cache.slabs.shrink();
    ebbmalloc::purge();
    let backed = ebbmalloc::backed();
    let (len, start) = (cache.len, Instant::now());
    while cache.len > len - len / 4 {
        evict(&mut cache, BATCH);
    }
    let time = start.elapsed();
    cache.slabs.shrink();
    ebbmalloc::purge();
    let returned = backed.saturating_sub(ebbmalloc::backed());
    let evicted = len - cache.len;
    let bytes = evicted * size_of::<Entry<N>>();
    println!(
        "  {name:<16} {:>5.1} of {:>5.1} MiB came back: {:>5.1} %; hit rate {:.1} %, then {:.1} %; \
         per object {:>4.0} ns and {:.2} moves",
        returned as f64 / 1048576.0,
        bytes as f64 / 1048576.0,
        100.0 * returned as f64 / bytes as f64,
        100.0 * before,
        100.0 * cache.hit_rate(zipf),
        time.as_nanos() as f64 / evicted as f64,
        cache.moves as f64 / evicted as f64
    );
    Some(())
}

fn size<const N: usize>() {
    let (size, objects) = (size_of::<Entry<N>>(), BYTES / size_of::<Entry<N>>());
    let zipf = Zipf::new(objects * 2);
    let ways: [(&str, Evict<N>); 3] = [
        ("LRU", Cache::evict_lru),
        ("whole slabs", Cache::evict_slabs),
        ("LRU, then moves", Cache::evict_and_move),
    ];
    for (fill, at_random) in [("at random", true), ("by use", false)] {
        println!("B6: a quarter of {objects} objects of {size} bytes, filled {fill}");
        for (name, evict) in ways {
            if one(name, &zipf, at_random, evict).is_none() {
                println!("  {name}: no memory");
            }
        }
    }
}

/// Runs all sizes.
pub(crate) fn run() {
    size::<120>();
    size::<504>();
    size::<2040>();
}
