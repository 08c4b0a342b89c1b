//! A cache with a slot per file: a clock hand goes round and evicts what was not used since it last came by.
//!
//! The slots are made once, so nothing is allocated under a slot's lock and eviction always gets through.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ebbmalloc::{Count, Scan, Shrink, ShrinkControl};

use super::{Meter, Weigh};

/// A cache of one `T` per file.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Box<[Slot<T>]>,
    hand: AtomicUsize,
    pub(crate) meter: Meter,
}

#[derive(Debug)]
struct Slot<T> {
    value: Mutex<Option<Arc<T>>>,
    used: AtomicBool,
    /// Whether there ever was a value.
    seen: AtomicBool,
}

impl<T: Weigh> Slots<T> {
    pub(crate) fn new(len: usize) -> Self {
        let slot = |_| Slot {
            value: Mutex::new(None),
            used: AtomicBool::new(false),
            seen: AtomicBool::new(false),
        };
        Self {
            slots: (0..len).map(slot).collect(),
            hand: AtomicUsize::new(0),
            meter: Meter::default(),
        }
    }

    pub(crate) fn get(&self, file: usize) -> Option<Arc<T>> {
        let slot = &self.slots[file];
        let value = slot.value.lock().ok()?.clone();
        // Relaxed, here and in `evict_next`: hints about what to evict.
        slot.used.store(true, Ordering::Relaxed);
        self.meter.looked_up(value.is_some());
        value
    }

    pub(crate) fn put(&self, file: usize, value: Arc<T>) {
        let bytes = value.bytes();
        let slot = &self.slots[file];
        let Ok(mut held) = slot.value.lock() else {
            return;
        };
        let old = held.replace(value);
        drop(held);
        // Relaxed: for a figure.
        let new = !slot.seen.swap(true, Ordering::Relaxed);
        self.meter.added(bytes, new);
        if let Some(old) = old {
            self.meter.removed(old.bytes());
        }
    }

    /// Takes the value out of the next slot, unless that was used since the hand last came by, or is locked.
    fn evict_next(&self) -> Option<Arc<T>> {
        let slot = &self.slots[self.hand.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        if slot.used.swap(false, Ordering::Relaxed) {
            return None;
        }
        slot.value.try_lock().ok()?.take()
    }
}

impl<T: Weigh + Send + Sync> Shrink for Slots<T> {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.meter.objects())
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let (mut objects, mut bytes) = (0, 0);
        // Twice round at most: the first time may only find slots that were used.
        for _ in 0..2 * self.slots.len() {
            if objects >= ctl.to_scan() {
                break;
            }
            if let Some(value) = self.evict_next() {
                let size = value.bytes();
                self.meter.evicted_one(size);
                objects += 1;
                bytes += size;
            }
        }
        Scan::Freed { objects, bytes }
    }
}
