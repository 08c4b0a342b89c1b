//! The system's own limits: what it can never give is not asked of caches, what it can is; and nothing depends on calls
//! that a sandbox forbids.

use ebb_tests::fork::forked;
use ebb_tests::{Block, Cache, MIB, alone, in_both_modes, leave};
use ebbmalloc::{Shrinker, raw};

/// Sizes and alignments beyond the address space, and sizes beyond the budget: null at once. Seen to fail (the cache was
/// emptied) with `is_hopeless` always false, with `MAX_SIZE` all that the language allows, and with realloc not looking
/// at it.
#[test]
fn no_cache_is_emptied_in_vain() {
    in_both_modes("no_cache_is_emptied_in_vain", || {
        let cache = Cache::new(100, MIB);
        let registration = cache.register(Shrinker::new("cache"));
        let (small, mapped) = (raw::alloc(100), raw::alloc(8 * MIB));
        let refuse = |size: usize| {
            assert!(raw::alloc(size).is_null(), "{size:#x}");
            assert!(raw::alloc_zeroed(size).is_null(), "{size:#x}");
            assert!(raw::alloc_aligned(size, 1 << 16).is_null(), "{size:#x}");
            assert!(raw::alloc_aligned(size, 1 << 30).is_null(), "{size:#x}");
            for block in [small, mapped] {
                let size = size.saturating_add(8 * MIB);
                // SAFETY: live, and stays so after a failure.
                assert!(unsafe { raw::realloc(block, size) }.is_null());
            }
        };
        let max = isize::MAX as usize;
        for size in [usize::MAX, max + 1, max, max - 4096, 1 << 50, 1 << 47] {
            refuse(size);
        }
        for shift in 47..64 {
            assert!(raw::alloc_aligned(8, 1 << shift).is_null(), "{shift}");
        }
        leave(64 * MIB);
        let budget = ebbmalloc::budget().unwrap();
        for size in [budget, budget + 1, 2 * budget, 1 << 40] {
            refuse(size);
        }
        assert_eq!((cache.len(), cache.scans()), (100, 0));
        assert!(
            Block::new(100 * MIB).is_some(),
            "and what may be had is had"
        );
        assert!(cache.len() < 100);
        for block in [small, mapped] {
            // SAFETY: live, used no more.
            unsafe { raw::free(block) };
        }
        drop(registration);
    });
}
