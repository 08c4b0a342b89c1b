//! Blocks that Rust frees twice, or by a layout that was not theirs, where that can be seen: one line that names the
//! block, and abort. (C programs: `c_programs`.)

use std::alloc::{GlobalAlloc, Layout};

use ebb_tests::fork::last_words;
use ebb_tests::in_both_modes;
use ebb_tests::numa::{affinity, pin};
use ebbmalloc::EbbMalloc;

/// A block of this size and the layout it has.
fn block(size: usize) -> (*mut u8, Layout) {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // SAFETY: not a layout of size 0.
    (unsafe { EbbMalloc.alloc(layout) }, layout)
}

/// Frees it, or what is taken for it.
fn dealloc(block: *mut u8, layout: Layout) {
    // SAFETY: what makes this wrong is what is being tested; it ends the process before anybody uses such a block.
    unsafe { EbbMalloc.dealloc(block, layout) };
}

/// Seen to fail with the comparison with the newest object left out of `cpus::free`.
#[test]
fn rust_is_told_too() {
    in_both_modes("rust_is_told_too", || {
        // What is freed on another node's CPU is free in its slab at once, and then seen later, or otherwise.
        pin(affinity()[0]);
        for size in [1, 100, 5000, 200_000] {
            let (block, layout) = block(size);
            let words = last_words(|| {
                dealloc(block, layout);
                dealloc(block, layout);
            });
            let line = format!("ebbmalloc: double free of {block:p}: it is free already\n");
            assert_eq!(words, line, "{size}");
        }
        let nothing = |block: *mut u8| {
            format!("ebbmalloc: invalid free of {block:p}: no block in use begins there\n")
        };
        for size in [500_000, 3_000_000, 100_000_000] {
            let (block, layout) = block(size);
            let words = last_words(|| {
                dealloc(block, layout);
                dealloc(block, layout);
            });
            assert_eq!(words, nothing(block), "{size}");
        }
        // A wrong layout does no harm: where a block lies says what it is. (A second free is seen when
        // the block comes back to its slab.)
        for (size, other) in [(100, 3000), (3000, 100), (1_000_000, 100)] {
            let ((block, _), layout) = (block(size), Layout::from_size_align(other, 8).unwrap());
            let words = last_words(|| {
                dealloc(block, layout);
                ebbmalloc::purge();
                dealloc(block, layout);
                ebbmalloc::purge();
            });
            assert!(
                words.contains("double free") || words == nothing(block),
                "{words}"
            );
        }
    });
}

/// Objects of caches: freed twice, as another cache's, from the middle, and after their slab is gone. Seen to fail
/// with the owner not looked at in `put`, and with the comparison with the newest object left out there.
#[test]
fn caches_are_told_too() {
    use ebbmalloc::raw::UntypedCache;
    // As above.
    pin(affinity()[0]);
    let layout = Layout::from_size_align(100, 8).unwrap();
    let cache = UntypedCache::new("one", layout).unwrap();
    let other = UntypedCache::new("other", layout).unwrap();
    let [held, object, third] = [0; 3].map(|_| cache.alloc().unwrap());
    let theirs = other.alloc().unwrap();
    // SAFETY: as in `dealloc`, here and below.
    let free = |cache: &UntypedCache, object| unsafe { cache.free(object) };
    let double = |at: std::ptr::NonNull<u8>| {
        format!("ebbmalloc: double free of {at:p}: it is free already\n")
    };
    let nothing = |at: std::ptr::NonNull<u8>| {
        format!("ebbmalloc: invalid free of {at:p}: no block in use begins there\n")
    };
    let twice = last_words(|| {
        free(&cache, object);
        free(&cache, object);
    });
    assert_eq!(twice, double(object));
    let later = last_words(|| {
        free(&cache, object);
        cache.shrink();
        free(&cache, third);
        free(&cache, object);
        cache.shrink();
    });
    assert_eq!(later, double(object));
    assert_eq!(last_words(|| free(&cache, theirs)), nothing(theirs));
    // SAFETY: inside an object.
    let inside = unsafe { object.add(16) };
    let words = last_words(|| {
        free(&cache, inside);
        cache.shrink();
    });
    assert_eq!(words, nothing(inside));
    let gone = last_words(|| {
        for object in [held, object, third] {
            free(&cache, object);
        }
        cache.shrink();
        free(&cache, object);
    });
    assert_eq!(gone, nothing(object));
    let by_any = last_words(|| {
        // SAFETY: as in `dealloc`.
        unsafe { ebbmalloc::raw::free(theirs.as_ptr()) };
        // SAFETY: as in `dealloc`.
        unsafe { ebbmalloc::raw::free(theirs.as_ptr()) };
    });
    assert_eq!(by_any, double(theirs));
    for object in [held, object, third] {
        free(&cache, object);
    }
}
