//! What is found when objects of a watched cache are allocated and freed: what is said, and the end.

use std::alloc::Layout;
use std::ptr::NonNull;

use ebb_tests::fork::last_words;
use ebbmalloc::raw::{self, UntypedCache};
use ebbmalloc::{CacheDebug, SlabBox, SlabCache};

use crate::{cache, free, write};

/// What is said when a byte of an object is written to, and then `body` is run.
fn words(
    letters: &str,
    body: impl FnOnce(&UntypedCache, NonNull<u8>),
) -> (Vec<String>, NonNull<u8>) {
    let cache = cache("ends", 40, letters);
    let object = cache.alloc().unwrap();
    let words = last_words(|| body(&cache, object));
    free(&cache, object);
    let words = words.replace(&format!("{object:p}"), "OBJECT");
    (words.lines().map(str::to_owned).collect(), object)
}

/// The last line, of the end.
const END: &str = "ebbmalloc: corrupted memory at object OBJECT of a cache: see above";

/// Seen to fail with objects not looked at in `take_back`.
#[test]
fn a_write_behind_an_object_ends_when_that_is_freed() {
    for way in 0..3 {
        let (words, _) = words("FZ", |cache, object| {
            write(object, 45, 0);
            match way {
                0 => free(cache, object),
                // SAFETY: as in `write`.
                1 => unsafe { raw::free(object.as_ptr()) },
                // SAFETY: as in `write`.
                _ => assert!(unsafe { raw::realloc(object.as_ptr(), 1000) }.is_null()),
            }
        });
        assert!(
            words[0].starts_with(
                "ebbmalloc: cache \"ends\": object OBJECT of 40 bytes: the red zone behind was written to: not cc from byte 45 \
                 on, but 00 cc"
            ),
            "{words:?}"
        );
        assert_eq!(words[1..], [END], "{words:?}");
    }
}

/// Seen to fail with objects not looked at in `hand_out`.
#[test]
fn a_write_to_a_free_object_ends_when_that_is_allocated() {
    let (words, _) = words("FPU", |cache, object| {
        free(cache, object);
        write(object, 39, 1);
        // Wherever it was: the thread may be on another node by now.
        let nodes = (0..1000).flat_map(|_| 0..8);
        nodes.for_each(|node| assert!(cache.alloc_on_node(node).is_some() || node > 0));
    });
    assert_eq!(
        words[0],
        "ebbmalloc: cache \"ends\": object OBJECT of 40 bytes: the free object was written to: not a5 from byte 39 on, but 01"
    );
    let users = ["allocated", "freed"].map(|what| format!("ebbmalloc:   last {what} by thread "));
    assert!(words[1].starts_with(&users[0]), "{words:?}");
    assert!(words[2].starts_with(&users[1]), "{words:?}");
    assert_eq!(words[3..], [END], "{words:?}");
}

/// Seen to fail without `check_gone`.
#[test]
fn a_write_to_a_free_object_ends_when_its_slab_goes() {
    let (words, _) = words("FZP", |cache, object| {
        free(cache, object);
        write(object, -1, 1);
        cache.shrink();
    });
    assert!(words[0].contains("the red zone in front"), "{words:?}");
    assert_eq!(words[1..], [END], "{words:?}");
}

/// Without the flag `F` nothing is looked at but by `validate`. Seen to fail with the flag not asked for.
#[test]
fn without_checks_all_goes_on() {
    let cache = cache("unchecked", 40, "ZPU");
    let object = cache.alloc().unwrap();
    write(object, 45, 0);
    free(&cache, object);
    write(object, 5, 0);
    let objects: Vec<_> = (0..1000).map(|_| cache.alloc().unwrap()).collect();
    assert!(objects.contains(&object));
    objects.into_iter().for_each(|object| free(&cache, object));
    assert!(cache.shrink() > 0 && cache.destroy().is_ok());
}

/// A double free is found at once, whatever was freed in between, and it is said who freed it first: another thread. Seen to
/// fail with the bitmap not asked first.
#[test]
fn a_double_free_says_who() {
    let cache = SlabCache::debugged("twice", CacheDebug::USERS).unwrap();
    let [value, other] = [0; 2].map(|n| cache.alloc([n; 10]).unwrap());
    let object = SlabBox::as_ptr(&value);
    // SAFETY: no pointers, here and below.
    let thread_number = || unsafe { libc::gettid() };
    let freed = std::thread::spawn(move || {
        drop(value);
        thread_number()
    });
    let freed = freed.join().unwrap();
    let words = last_words(|| {
        drop(other);
        // SAFETY: as in `write`.
        unsafe { raw::free(object.as_ptr().cast()) };
    });
    let words: Vec<_> = words.lines().collect();
    let object = format!("{object:p}");
    let first = format!("ebbmalloc: cache \"twice\": object {object} of 40 bytes: freed twice");
    assert_eq!(words[0], first);
    let users = [("allocated", thread_number()), ("freed", freed)];
    for (word, (what, thread)) in words[1..3].iter().zip(users) {
        let expected = format!("ebbmalloc:   last {what} by thread {thread}, ");
        assert!(word.starts_with(&expected), "{words:?}");
    }
    let end = format!("ebbmalloc: double free of {object}: it is free already");
    assert_eq!(words[3..], [end]);
}

/// What is no object is none here either: the place that an object lies in, its middle, one of another cache, and one whose
/// slab is gone. Seen to fail with the address looked up instead of the place.
#[test]
fn what_is_no_object_ends_as_ever() {
    let cache = cache("mine", 40, "FZPU");
    let object = cache.alloc().unwrap();
    let theirs = crate::cache("theirs", 40, "FZPU").alloc().unwrap();
    let nothing = |at: NonNull<u8>| {
        let words = last_words(|| free(&cache, at));
        let line = format!("ebbmalloc: invalid free of {at:p}: no block in use begins there\n");
        assert_eq!(words, line);
    };
    for offset in [-16, 8, 16, 40] {
        // SAFETY: in the slab.
        nothing(unsafe { object.offset(offset) });
    }
    nothing(theirs);
    free(&cache, object);
    cache.shrink();
    nothing(object);
    // SAFETY: in use.
    unsafe { raw::free(theirs.as_ptr()) };
}

/// Values in boxes are watched as well, of whatever alignment. Seen to fail with objects not looked at in `take_back`.
#[test]
fn boxes_are_watched_too() {
    #[derive(Debug)]
    #[repr(align(256))]
    struct Wide([u8; 700]);
    let cache = SlabCache::debugged("wide", CacheDebug::ALL).unwrap();
    let value = cache.alloc(Wide([7; 700])).unwrap();
    let at = SlabBox::as_ptr(&value);
    assert!(at.addr().get().is_multiple_of(256) && value.0 == [7; 700]);
    assert_eq!(cache.stats().objsize, Layout::new::<Wide>().size() as u64);
    let words = last_words(|| {
        write(at.cast(), 768, 0);
        drop(value);
    });
    assert!(words.contains("from byte 768 on, but 00"), "{words}");
}
