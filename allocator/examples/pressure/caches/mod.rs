//! The three caches. Each is a shrinker: `count` and `scan` take locks only by trying, and drop what they evict after
//! the lock is given back.

mod answers;
mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) use answers::{Answer, Answers};
pub(crate) use slots::Slots;

use crate::worker::Index;

/// What the service remembers.
pub(crate) struct Caches {
    /// The text of files: few large objects.
    pub(crate) files: Arc<Slots<String>>,
    /// The words of files: very many small objects, a file's worth at a time.
    pub(crate) indexes: Arc<Slots<Index>>,
    /// Answers: many small objects, in the `lru` crate.
    pub(crate) answers: Arc<Answers>,
}

impl Caches {
    pub(crate) fn new(files: usize) -> Self {
        Self {
            files: Arc::new(Slots::new(files)),
            indexes: Arc::new(Slots::new(files)),
            answers: Arc::new(Answers::new()),
        }
    }

    /// Name, hits and misses of each.
    pub(crate) fn rates(&self) -> [(&'static str, u64, u64); 3] {
        [
            ("files", &self.files.meter),
            ("indexes", &self.indexes.meter),
            ("answers", &self.answers.meter),
        ]
        .map(|(name, meter)| (name, meter.hits(), meter.misses()))
    }

    /// Name, objects, bytes and evictions of each.
    pub(crate) fn sizes(&self) -> [(&'static str, usize, usize, u64); 3] {
        [
            ("files", &self.files.meter),
            ("indexes", &self.indexes.meter),
            ("answers", &self.answers.meter),
        ]
        .map(|(name, meter)| (name, meter.objects(), meter.bytes(), meter.evicted()))
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

/// What a cache counts. Relaxed everywhere: figures for people, and estimates for `count`.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    objects: AtomicUsize,
    bytes: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

impl Meter {
    pub(crate) fn objects(&self) -> usize {
        self.objects.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn looked_up(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn added(&self, bytes: usize) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
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
