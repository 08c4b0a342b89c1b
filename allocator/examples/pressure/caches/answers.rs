//! Answers to queries, in the `lru` crate: its cache behind try-locks, sharded, so that a shard that is locked by a
//! thread which is just allocating for it does not keep the others from giving memory back.

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ebbmalloc::{Count, Scan, Shrink, ShrinkControl};
use lru::LruCache;

use super::Meter;

const SHARDS: usize = 16;

/// A query: the number of its word and the number of its group of files.
pub(crate) type Query = (u32, u32);

/// How often the word stands in the files, and the first lines that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) count: u64,
    pub(crate) lines: Box<str>,
}

impl Answer {
    fn bytes(&self) -> usize {
        // The list's and the table's share, about.
        96 + self.lines.len()
    }
}

/// A cache of answers.
pub(crate) struct Answers {
    shards: [Mutex<LruCache<Query, Answer>>; SHARDS],
    hasher: RandomState,
    /// Which queries were ever answered, by word and group.
    seen: Box<[AtomicBool]>,
    groups: usize,
    pub(crate) meter: Meter,
}

impl Answers {
    /// A cache for queries about so many words in so many groups of files.
    pub(crate) fn new(words: usize, groups: usize) -> Self {
        let unseen = |_| AtomicBool::new(false);
        Self {
            shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())),
            hasher: RandomState::new(),
            seen: (0..words * groups).map(unseen).collect(),
            groups,
            meter: Meter::default(),
        }
    }

    fn shard(&self, query: Query) -> &Mutex<LruCache<Query, Answer>> {
        &self.shards[self.hasher.hash_one(query) as usize % SHARDS]
    }

    /// Whether the answer is known, and then what `f` makes of it.
    pub(crate) fn get<R>(&self, query: Query, f: impl FnOnce(&Answer) -> R) -> Option<R> {
        let found = self.shard(query).lock().ok()?.get(&query).map(f);
        self.meter.looked_up(found.is_some());
        found
    }

    pub(crate) fn put(&self, query: Query, answer: Answer) {
        let bytes = answer.bytes();
        let place = query.0 as usize * self.groups + query.1 as usize;
        // Relaxed: for a figure.
        let new = !self.seen[place].swap(true, Ordering::Relaxed);
        let Ok(mut shard) = self.shard(query).lock() else {
            return;
        };
        let old = shard.put(query, answer);
        drop(shard);
        self.meter.added(bytes, new);
        if let Some(old) = old {
            self.meter.removed(old.bytes());
        }
    }
}

impl Shrink for Answers {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.meter.objects())
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let (mut objects, mut bytes, mut locked) = (0, 0, 0);
        let share = ctl.to_scan().div_ceil(SHARDS);
        for shard in &self.shards {
            for _ in 0..share {
                let Ok(mut shard) = shard.try_lock() else {
                    locked += 1;
                    break;
                };
                let evicted = shard.pop_lru();
                drop(shard);
                let Some((_, answer)) = evicted else { break };
                self.meter.evicted_one(answer.bytes());
                objects += 1;
                bytes += answer.bytes();
            }
        }
        if locked == SHARDS {
            Scan::Stop
        } else {
            Scan::Freed { objects, bytes }
        }
    }
}
