//! Memory apart, for who must not fail: the library that the list of shrinkers stands on ends the process where it gets none
//! (`ebb_shrinker::thread_must_not_fail`), at a thread's first walk, when records are retired, at a thread's exit.
//!
//! It needs little, but there where others are taking all that they can get. So:
//!
//! 1. An attempt like any other's, which may have what the budget has left.
//! 2. Where that fails, no reclaim (`reclaim`), but memory that nobody else is given, neither now nor when it was used and is
//!    free again: objects up to 1 KiB of two object caches of our own, larger ones as spans; both from units that are withheld
//!    (`units`). A block of it that is freed finds its way home by its tag, as those of object caches do. (A thread needs
//!    three objects of 32 bytes. From a slab like any other the others would have the rest at once, and the next thread would
//!    need another one.)
//! 3. For that no budget is asked (`budget`): a limit would have to know how many threads there will be. Code of a program runs
//!    nowhere there, so nothing else is had this way.
//!
//! How much it comes to for `n` threads that have walked and live: 100 bytes for each, in slabs of 32 KiB, and tables with 32,
//! 96, 224, 480 and so on places, the first that are `n` at least, of 256 bytes each; another 256 where threads with such numbers
//! retired records. A thousand threads went 630 KiB beyond the budget, a hundred 92 KiB, and no further when others came in their
//! place, a hundred times (`tests/c/crowd.c`).
//!
//! Where the system has no more addresses (`ulimit -v`) there are 8 MiB of them, those of the units, on each node where a
//! shrinker was registered. By the figures above that is enough for 8,000 threads at once; 1,000 were tried.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};

use ebb_shrinker::Name;

use crate::cache_home::Slabs;
use crate::cache_traffic::Found;
use crate::config::{MAX_NODES, MIN_ALIGN};
use crate::lock::Lock;
use crate::object_cache::{Home, Identity, ObjectCache, State};
use crate::placement::Placement;

/// Bytes of the objects: what registers a destructor of a thread, and the rest.
const SIZES: [usize; 2] = [32, 1024];

static HOMES: [[Home; MAX_NODES]; SIZES.len()] =
    [const { [const { Home(Lock::new(Slabs::new())) }; MAX_NODES] }; SIZES.len()];

/// The object caches. They have no places, so a free object is in its slab.
pub(crate) static CACHES: [ObjectCache; SIZES.len()] = [cache(0), cache(1)];

const fn cache(index: usize) -> ObjectCache {
    ObjectCache {
        next: AtomicPtr::new(core::ptr::null_mut()),
        // Up to 1 KiB the classes are the multiples.
        class: AtomicUsize::new(SIZES[index] / MIN_ALIGN),
        watch: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        slabs: AtomicUsize::new(0),
        identity: Lock::new(Identity {
            state: State::Open,
            name: Name::new("apart"),
            hooks: None,
        }),
        places: &[],
        homes: &HOMES[index],
    }
}

/// In an attempt at memory apart (`scope::apart`), an object of `size` bytes at least, aligned as a class of that size is.
/// Nothing when none is so large.
pub(crate) fn object(size: usize) -> Option<usize> {
    let cache = CACHES.iter().find(|cache| cache.object_size() >= size)?;
    match cache.find(Placement::here())? {
        Found::Object(object) => Some(object),
        Found::Slices(node, start) => cache.build(node, start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{heap, resize, scope, start};

    /// Objects that are apart go home when they are freed as any block is. Seen to fail with the objects of ordinary slabs.
    #[test]
    fn what_comes_free_stays_apart() {
        assert!(start::ensure());
        for (size, cache) in [(24, 0), (32, 0), (33, 1), (1024, 1)] {
            let cache = &CACHES[cache];
            let in_use = || cache.figures().active_objs;
            let taken = scope::apart(|| object(size)).unwrap();
            assert_eq!(in_use(), 1);
            let block = core::ptr::with_exposed_provenance_mut(taken);
            // SAFETY: a block in use.
            assert!(unsafe { resize::usable_size(block) } >= size);
            // SAFETY: used no more.
            unsafe { heap::free(block) };
            assert_eq!(in_use(), 0);
            assert_eq!(scope::apart(|| object(size)), Some(taken), "its place");
            // SAFETY: as above.
            unsafe { heap::free(block) };
            cache.drain(None);
            assert_eq!(cache.figures().num_slabs, 0);
        }
        assert_eq!(scope::apart(|| object(1025)), None);
    }
}
