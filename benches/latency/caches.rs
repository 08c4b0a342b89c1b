//! Three caches of many small objects, oldest first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ebbmalloc::{Count, Mode, RegisterError, Registration, Scan, Shrink, ShrinkControl, Shrinker};

/// Objects of each cache, when it is full.
const OBJECTS: usize = 1_000_000;

/// Bytes of an object, for each cache.
const SIZES: [usize; 3] = [64, 128, 256];

/// A block that was written to, unless there is no memory for it.
pub(crate) fn block(size: usize) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).ok()?;
    bytes.resize(size, 1);
    Some(bytes.into_boxed_slice())
}

struct Cache {
    objects: Mutex<VecDeque<Box<[u8]>>>,
    size: usize,
}

impl Cache {
    fn new(size: usize) -> Self {
        // Never more: it does not grow under the lock.
        let mut objects = VecDeque::with_capacity(OBJECTS);
        objects.extend((0..OBJECTS).filter_map(|_| block(size)));
        Self {
            objects: Mutex::new(objects),
            size,
        }
    }

    /// One more object, if there is memory for it and room; else one in the place of the oldest. Whether there was.
    fn put(&self) -> bool {
        let _scope = ebbmalloc::mode(Mode::NoWait);
        let new = block(self.size);
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let more = new.is_some() && objects.len() < OBJECTS;
        let old = if more { None } else { objects.pop_front() };
        objects.extend(new);
        drop(objects);
        drop(old);
        more
    }
}

impl Shrink for Cache {
    fn count(&self, _: &ShrinkControl) -> Count {
        self.objects.try_lock().map_or(Count::Unknown, |objects| {
            Count::of(objects.len()).each(self.size)
        })
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let Ok(mut objects) = self.objects.try_lock() else {
            return Scan::Stop;
        };
        let freed = ctl.to_scan().min(objects.len());
        objects.drain(..freed);
        Scan::Freed {
            objects: freed,
            bytes: freed * self.size,
        }
    }
}

/// The caches, registered.
pub(crate) struct Caches {
    caches: [Arc<Cache>; 3],
    _registrations: Vec<Registration>,
}

impl Caches {
    pub(crate) fn fill() -> Result<Self, RegisterError> {
        let caches = SIZES.map(|size| Arc::new(Cache::new(size)));
        let registrations = caches.iter().map(|cache| {
            let spec = Shrinker::new(&format!("objects of {}", cache.size));
            ebbmalloc::register(spec, cache.clone())
        });
        Ok(Self {
            _registrations: registrations.collect::<Result<_, _>>()?,
            caches,
        })
    }

    /// Some objects come, and where there is no memory others go.
    pub(crate) fn use_them(&self) {
        for cache in &self.caches {
            for _ in 0..64 {
                cache.put();
            }
        }
    }

    /// As many objects come as there is memory for.
    pub(crate) fn grow(&self) {
        for cache in &self.caches {
            while cache.put() {}
        }
    }

    /// How many objects there are in each.
    pub(crate) fn len(&self) -> [usize; 3] {
        self.caches.each_ref().map(|cache| {
            let objects = cache.objects.lock();
            objects.unwrap_or_else(PoisonError::into_inner).len()
        })
    }
}
