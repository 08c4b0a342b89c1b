//! The three caches. Each is a shrinker: `count` and `scan` take locks only by trying, and drop what they evict after
//! the lock is given back.

mod answers;
mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) use answers::{Answer, Answers};
pub(crate) use slots::Slots;

use crate::index::Index;

/// What the service remembers.
pub(crate) struct Caches {
    /// The text of files: few large objects.
    pub(crate) files: Arc<Slots<String>>,
    /// The words of files: very many small blocks, a file's worth at a time.
    pub(crate) indexes: Arc<Slots<Index>>,
    /// Answers: many objects of some kilobytes at most, in the `lru` crate.
    pub(crate) answers: Arc<Answers>,
}

impl Caches {
    pub(crate) fn new(files: usize, words: usize, groups: usize) -> Self {
        Self {
            files: Arc::new(Slots::new(files)),
            indexes: Arc::new(Slots::new(files)),
            answers: Arc::new(Answers::new(words, groups)),
        }
    }

    /// The name and the figures of each.
    pub(crate) fn figures(&self) -> [(&'static str, Figures); 3] {
        [
            ("files", self.files.meter.figures()),
            ("indexes", self.indexes.meter.figures()),
            ("answers", self.answers.meter.figures()),
        ]
    }
}

/// How many bytes an object takes, about.
pub(crate) trait Weigh {
    fn bytes(&self) -> usize;
}

impl Weigh for String {
    fn bytes(&self) -> usize {
        self.capacity()
    }
}

/// What a cache has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    /// Bytes of all the different objects it was ever given: its size had nothing been evicted.
    pub(crate) wanted: usize,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evicted: u64,
}

/// What a cache counts. Relaxed everywhere: figures for people, and estimates for `count`.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    objects: AtomicUsize,
    bytes: AtomicUsize,
    wanted: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

impl Meter {
    pub(crate) fn objects(&self) -> usize {
        self.objects.load(Ordering::Relaxed)
    }

    fn figures(&self) -> Figures {
        Figures {
            objects: self.objects(),
            bytes: self.bytes.load(Ordering::Relaxed),
            wanted: self.wanted.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    fn looked_up(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an object; `new` says that the cache never had it before.
    fn added(&self, bytes: usize, new: bool) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if new {
            self.wanted.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn removed(&self, bytes: usize) {
        self.objects.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn evicted_one(&self, bytes: usize) {
        self.removed(bytes);
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }
}
