//! A cache of blocks to reclaim from, and the budget around it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ebbmalloc::{Count, Mode, Registration, Scan, Shrink, ShrinkControl, Shrinker, mode, raw};

/// Bytes in a mebibyte.
pub const MIB: usize = 1 << 20;

/// A shrinker that is never too late: how long the machine stands still now and then has nothing to do with what most tests
/// are about.
pub fn patient(name: &str) -> Shrinker {
    Shrinker::new(name).deadline(Duration::MAX)
}

/// A block by hand; freed on drop.
#[derive(Debug)]
pub struct Block(*mut u8);

// SAFETY: a block belongs to whoever has this.
unsafe impl Send for Block {}

impl Block {
    /// A block of so many bytes, if there is memory for it.
    #[must_use]
    pub fn new(size: usize) -> Option<Self> {
        let block = raw::alloc(size);
        (!block.is_null()).then(|| {
            // SAFETY: a new block of at least a byte.
            unsafe { block.write(1) };
            Self(block)
        })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: ours, used no more.
        unsafe { raw::free(self.0) };
    }
}

/// At most `count` blocks of `size` bytes, as many as there is memory for without reclaim.
#[must_use]
pub fn blocks(count: usize, size: usize) -> Vec<Block> {
    let _scope = mode(Mode::NoWait);
    (0..count).map_while(|_| Block::new(size)).collect()
}

/// A cache of blocks of one size, an honest and polite shrinker. The vector's own memory is the system's.
#[derive(Debug)]
pub struct Cache {
    /// What it holds.
    pub blocks: Mutex<Vec<Block>>,
    size: usize,
    scans: AtomicUsize,
}

impl Cache {
    /// At most `count` blocks of `size` bytes, as many as there is memory for.
    #[must_use]
    pub fn new(count: usize, size: usize) -> Arc<Self> {
        Arc::new(Self {
            blocks: Mutex::new(blocks(count, size)),
            size,
            scans: AtomicUsize::new(0),
        })
    }

    /// How many blocks it has.
    ///
    /// # Panics
    /// When a thread panicked while it held the lock.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.lock().expect("no panics under it").len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often it was scanned.
    #[must_use]
    pub fn scans(&self) -> usize {
        self.scans.load(Ordering::Relaxed)
    }

    /// Registers it.
    ///
    /// # Panics
    /// When there is no memory for that.
    pub fn register(self: &Arc<Self>, spec: Shrinker) -> Registration {
        ebbmalloc::register(spec, self.clone()).expect("memory")
    }
}

impl Shrink for Cache {
    fn count(&self, _: &ShrinkControl) -> Count {
        self.blocks.try_lock().map_or(Count::Unknown, |blocks| {
            Count::of(blocks.len()).each(self.size)
        })
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        self.scans.fetch_add(1, Ordering::Relaxed);
        let Ok(mut blocks) = self.blocks.try_lock() else {
            return Scan::Stop;
        };
        let keep = blocks.len().saturating_sub(ctl.to_scan());
        let objects = blocks.drain(keep..).count();
        Scan::Freed {
            objects,
            bytes: objects * self.size,
        }
    }
}

/// A cache that takes so long for each scan.
#[derive(Debug)]
pub struct Slow(pub Arc<Cache>, pub Duration);

impl Shrink for Slow {
    fn count(&self, ctl: &ShrinkControl) -> Count {
        self.0.count(ctl)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        thread::sleep(self.1);
        self.0.scan(ctl)
    }
}

/// A budget of so many bytes above what is backed now, with a reserve of 64 KiB on top.
pub fn leave(bytes: usize) {
    ebbmalloc::purge();
    ebbmalloc::set_reserve(64 << 10);
    ebbmalloc::set_budget(Some(ebbmalloc::backed() + bytes + (64 << 10)));
}

/// Whether a request of so many bytes is served although another thread holds the cache's lock meanwhile: [`beside_a_lock`].
#[must_use]
pub fn served_beside_a_lock(cache: &Cache, size: usize) -> bool {
    beside_a_lock(cache, || Block::new(size).is_some())
}

/// Whether that succeeds although another thread holds the cache's lock for 40 ms of it. Where that took longer, because the
/// machine stood still, a failure proves nothing, and it is tried again.
///
/// # Panics
/// When a thread panicked while it held the lock.
#[must_use]
pub fn beside_a_lock(cache: &Cache, attempt: impl Fn() -> bool) -> bool {
    const LONG: Duration = Duration::from_millis(80);
    for _ in 0..20 {
        let locked = Barrier::new(2);
        let (done, held) = thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let blocks = cache.blocks.lock().expect("no panics under it");
                let start = Instant::now();
                locked.wait();
                thread::sleep(LONG / 2);
                drop(blocks);
                start.elapsed()
            });
            locked.wait();
            (attempt(), holder.join().expect("no panics"))
        });
        if done || held < LONG {
            return done;
        }
    }
    false
}
