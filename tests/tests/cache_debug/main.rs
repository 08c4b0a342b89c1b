//! Object caches that are watched: what is found of the writes that the kernel makes in `lib/tests/slub_kunit.c`, and here
//! besides. What ends a process is in `ends`, who asks for it in `environment`.
//!
//! The kernel's cases, by their names there, and what became of them:
//!
//! - `test_clobber_zone`, `test_first_word`, `test_clobber_50th_byte`, `test_clobber_redzone_free`, `test_leak_destroy`:
//!   as there. (After each the kernel validates again, and finds nothing, since it repaired the bytes. Nothing is repaired
//!   here: it is found again until the test puts it right.)
//! - `test_next_pointer`: has no counterpart, since free objects hold no pointer: which are free says a bitmap elsewhere. Next to
//!   it is the same write, into the middle of a free object where the kernel has that pointer: it is found, and what is
//!   allocated next is right all the same.
//! - `test_kmalloc_redzone_access`: `kmalloc` itself is not watched here, as it is there only with `slab_debug`; the same
//!   writes behind an object of 18 bytes in a cache whose class is larger.
//! - `test_krealloc_redzone_zeroing`: `realloc` of an object: no byte of its red zone is taken for one of the program's, so
//!   it moves as soon as it grows. (Zeroing what grows is not done: C's `realloc` has nothing like `__GFP_ZERO`.)
//! - `test_kfree_rcu`, `test_kfree_rcu_wq_destroy`: have no counterpart. Nothing is freed later than it is freed; closing a
//!   cache with objects in use is allowed, and `slab_cache` has that.

mod ends;
mod environment;

use std::alloc::Layout;
use std::ptr::NonNull;

use ebb_tests::{alone, alone_saying};
use ebbmalloc::raw::{self, UntypedCache};
use ebbmalloc::{CacheDebug, SlabBox, SlabCache};

/// A cache with these flags.
fn cache(name: &str, size: usize, letters: &str) -> UntypedCache {
    let layout = Layout::from_size_align(size, 8).unwrap();
    UntypedCache::debugged(name, layout, CacheDebug::parse(letters).unwrap()).unwrap()
}

/// Writes a byte where nobody should: what was there.
fn write(object: NonNull<u8>, offset: isize, byte: u8) -> u8 {
    // SAFETY: what makes this wrong is what is being tested; it is memory of the cache's slab.
    let at = unsafe { object.offset(offset) };
    // SAFETY: as above.
    unsafe { at.replace(byte) }
}

fn free(cache: &UntypedCache, object: NonNull<u8>) {
    // SAFETY: as in `write`.
    unsafe { cache.free(object) };
}

/// A byte is found that was written at an offset of an object, in use or free, while it is there.
fn is_found(letters: &str, size: usize, in_use: bool, offset: isize) {
    let cache = cache("written", size, letters);
    let object = cache.alloc().unwrap();
    if !in_use {
        free(&cache, object);
        // The slab of the only object is kept, and looked at too.
        assert_eq!(cache.stats().num_slabs, 1);
    }
    assert_eq!(cache.validate(), 0);
    eprintln!("ours: {object:p}");
    let before = write(object, offset, 0x12);
    assert_eq!(cache.validate(), 1, "{offset}");
    assert_eq!(cache.validate(), 1, "nothing is repaired");
    write(object, offset, before);
    assert_eq!(cache.validate(), 0);
    if in_use {
        free(&cache, object);
    }
    assert!(cache.destroy().is_ok());
}

/// The lines that a test's child said after `ours: ADDRESS`, with that address as `OBJECT`.
fn lines(said: &str) -> Vec<String> {
    let (_, said) = said.split_once("ours: 0x").unwrap();
    let (address, said) = said.split_once('\n').unwrap();
    let said = said.replace(&format!("0x{address}"), "OBJECT");
    said.lines().map(str::to_owned).collect()
}

/// The line for a byte that was written.
fn line(size: usize, part: &str, expected: &str, offset: isize, found: &str) -> String {
    format!(
        "ebbmalloc: cache \"written\": object OBJECT of {size} bytes: {part} was written to: not {expected} from byte {offset} \
         on, but {found}"
    )
}

/// One such write, what is said of it twice.
fn is_told(name: &str, letters: &str, size: usize, in_use: bool, offset: isize, line: &str) {
    let said = alone_saying(name, || is_found(letters, size, in_use, offset));
    if let Some(said) = said {
        assert_eq!(lines(&said), [line, line], "{said}");
    }
}

/// `test_clobber_zone`. Seen to fail with the red zone behind not looked at.
#[test]
fn the_byte_behind_an_object() {
    let found = "12".to_owned() + &" cc".repeat(15);
    let line = line(64, "the red zone behind", "cc", 64, &found);
    is_told("the_byte_behind_an_object", "Z", 64, true, 64, &line);
}

/// Seen to fail with the red zone in front not looked at.
#[test]
fn the_byte_in_front_of_an_object() {
    let line = line(64, "the red zone in front", "cc", -1, "12");
    is_told("the_byte_in_front_of_an_object", "Z", 64, true, -1, &line);
}

/// `test_next_pointer`, or what is next to it. Seen to fail with the pattern not looked at.
#[test]
fn the_middle_of_a_free_object() {
    let found = "12".to_owned() + &" 6b".repeat(15);
    let line = line(64, "the free object", "6b", 32, &found);
    is_told("the_middle_of_a_free_object", "P", 64, false, 32, &line);
    let cache = cache("middle", 64, "P");
    let object = cache.alloc().unwrap();
    free(&cache, object);
    write(object, 32, 0x12);
    let some: Vec<_> = (0..1000).map(|_| cache.alloc().unwrap()).collect();
    assert!(some.contains(&object) && cache.stats().active_objs == 1000);
    some.into_iter().for_each(|object| free(&cache, object));
}

/// `test_first_word`. Seen to fail as above.
#[test]
fn the_first_byte_of_a_free_object() {
    let found = "12".to_owned() + &" 6b".repeat(15);
    let line = line(64, "the free object", "6b", 0, &found);
    is_told("the_first_byte_of_a_free_object", "P", 64, false, 0, &line);
}

/// `test_clobber_50th_byte`. Seen to fail as above.
#[test]
fn the_50th_byte_of_a_free_object() {
    let found = "12".to_owned() + &" 6b".repeat(12);
    let line = line(64, "the free object", "6b", 50, &found);
    is_told("the_50th_byte_of_a_free_object", "P", 64, false, 50, &line);
}

/// Seen to fail with the pattern's last byte not looked at.
#[test]
fn the_last_byte_of_a_free_object() {
    let line = line(64, "the free object", "a5", 63, "12");
    is_told("the_last_byte_of_a_free_object", "P", 64, false, 63, &line);
}

/// `test_clobber_redzone_free`. Seen to fail with the red zone behind not looked at.
#[test]
fn the_byte_behind_a_free_object() {
    let found = "12".to_owned() + &" bb".repeat(15);
    let line = line(64, "the red zone behind", "bb", 64, &found);
    is_told("the_byte_behind_a_free_object", "Z", 64, false, 64, &line);
}

/// `test_kmalloc_redzone_access`: nothing of what the class has beyond the object's 18 bytes may be written. Seen to fail
/// as above.
#[test]
fn each_byte_between_the_object_and_the_next() {
    let name = "each_byte_between_the_object_and_the_next";
    let said = alone_saying(name, || {
        let cache = cache("written", 18, "Z");
        let two = [cache.alloc().unwrap(), cache.alloc().unwrap()];
        let (first, second) = (two[0].min(two[1]), two[0].max(two[1]));
        let apart = second.addr().get() - first.addr().get();
        assert!(apart >= 18 + 32);
        for offset in 18..apart as isize {
            let before = write(first, offset, 0x12);
            assert_eq!(cache.validate(), 1, "{offset}");
            write(first, offset, before);
        }
        eprintln!("ours: {first:p}");
        write(first, 18, 0xab);
        write(first, 19, 0xab);
        assert_eq!(cache.validate(), 1);
        two.into_iter().for_each(|object| free(&cache, object));
    });
    if let Some(said) = said {
        let line = line(18, "the red zone behind", "cc", 18, "ab ab");
        assert!(lines(&said)[0].starts_with(&line), "{said}");
    }
}

/// `test_krealloc_redzone_zeroing`, or what is next to it. Seen to fail with the class's size given for the object's.
#[test]
fn realloc_leaves_red_zones_alone() {
    let cache = cache("realloc", 48, "FZPU");
    let object = cache.alloc().unwrap();
    // SAFETY: live, of that size.
    unsafe { object.write_bytes(7, 48) };
    // SAFETY: live.
    assert_eq!(unsafe { raw::usable_size(object.as_ptr()) }, 48);
    // SAFETY: live.
    let same = unsafe { raw::realloc(object.as_ptr(), 40) };
    assert_eq!(same, object.as_ptr());
    assert_eq!(cache.validate(), 0);
    // SAFETY: live, and used no more at that address.
    let moved = unsafe { raw::realloc(same, 56) };
    assert_ne!(moved, same);
    assert_eq!((cache.validate(), cache.stats().active_objs), (0, 0));
    // SAFETY: as many bytes were there before.
    let bytes = unsafe { std::slice::from_raw_parts(moved, 48) };
    assert_eq!(bytes, [7; 48]);
    // SAFETY: live, and used no more.
    unsafe { raw::free(moved) };
}

/// `test_leak_destroy`. Seen to fail without `name_left`.
#[test]
fn what_is_left_is_named() {
    let said = alone_saying("what_is_left_is_named", || {
        let cache = SlabCache::<[u64; 8]>::debugged("left", CacheDebug::ALL).unwrap();
        let mut objects: Vec<_> = (0..20).map(|_| cache.alloc([7; 8]).unwrap()).collect();
        objects.truncate(1);
        let left = SlabBox::as_ptr(&objects[0]);
        // SAFETY: no pointers.
        eprintln!("thread {}", unsafe { libc::gettid() });
        eprintln!("ours: {left:p}");
        let cache = cache.destroy().unwrap_err();
        let more: Vec<_> = (0..20).map(|_| cache.alloc([7; 8]).unwrap()).collect();
        eprintln!("more");
        let cache = cache.destroy().unwrap_err();
        drop((objects, more));
        assert!(cache.destroy().is_ok());
    });
    let Some(said) = said else { return };
    let thread = said
        .split_once("thread ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap();
    let lines = lines(&said);
    assert_eq!(
        lines[0],
        "ebbmalloc: cache \"left\": object OBJECT of 64 bytes: still in use"
    );
    let allocated = format!("ebbmalloc:   last allocated by thread {thread}, ");
    assert!(lines[1].starts_with(&allocated), "{said}");
    assert_eq!(lines[2], "more", "{said}");
    let named = lines.iter().filter(|line| line.ends_with("still in use"));
    assert_eq!(named.count(), 1 + 16);
    assert!(
        lines
            .iter()
            .any(|line| line == "ebbmalloc: cache \"left\": and 5 more")
    );
}

/// Objects with a constructor keep their state: there is no pattern, but all else. Seen to fail with the pattern
/// written for them too.
#[test]
fn constructed_objects_are_watched_too() {
    let name = "constructed_objects_are_watched_too";
    let said = alone_saying(name, || {
        let flags = CacheDebug::ALL;
        let cache = SlabCache::debugged_with_constructor("kept", flags, || [42_u64; 9]).unwrap();
        let mut object = cache.alloc().unwrap();
        assert_eq!(*object, [42; 9]);
        object[3] = 7;
        let at = SlabBox::as_ptr(&object).cast::<u8>();
        drop(object);
        assert_eq!(cache.validate(), 0);
        write(at, 20, 1);
        assert_eq!(cache.validate(), 0, "free, but not nobody's");
        let before = write(at, 72, 1);
        assert_eq!(cache.validate(), 1);
        write(at, 72, before);
        let objects: Vec<_> = (0..1000).map(|_| cache.alloc().unwrap()).collect();
        let again = objects
            .iter()
            .find(|object| SlabBox::as_ptr(object).cast() == at);
        assert_eq!(again.unwrap()[3], 7);
        drop(objects);
        assert!(cache.destroy().is_ok());
    });
    assert!(said.is_none_or(|said| said.contains("byte 72 on")));
}

/// What is asked of it is what a cache shows, though its places are larger; and one that is not watched shows what it always
/// did, finds nothing, and has objects at hand. Seen to fail with the class's size shown.
#[test]
fn figures_are_the_programs() {
    let (watched, plain) = (cache("watched", 100, "FZPU"), cache("plain", 100, "-"));
    let layout = Layout::from_size_align(100, 8).unwrap();
    let usual = UntypedCache::new("usual", layout).unwrap();
    for cache in [&watched, &plain, &usual] {
        let some: Vec<_> = (0..100).map(|_| cache.alloc().unwrap()).collect();
        some.into_iter().for_each(|object| free(cache, object));
    }
    let figures = |cache: &UntypedCache| {
        let stats = cache.stats();
        (
            stats.objsize,
            stats.objperslab,
            stats.limit,
            stats.batchcount,
        )
    };
    assert_eq!(figures(&watched), (100, 32768 / 176, 0, 1));
    assert_eq!(figures(&plain), (112, 32768 / 112, 254, 146));
    assert_eq!(figures(&usual), figures(&plain));
    assert_eq!(watched.stats().sharedavail, 0);
    assert!(plain.stats().sharedavail > 0);
    assert_eq!((watched.validate(), plain.validate()), (0, 0));
}

/// Caches that are over are followed by others of their kind. Seen to fail with watched ones not told apart.
#[test]
fn watched_caches_come_and_go() {
    alone("watched_caches_come_and_go", || {
        let one = |letters| {
            let cache = cache("brief", 100, letters);
            let object = cache.alloc().unwrap();
            free(&cache, object);
            assert_eq!(cache.stats().limit > 0, letters == "-");
        };
        ["F", "-"].into_iter().for_each(one);
        let before = ebbmalloc::backed();
        (0..1000).for_each(|n| one(["Z", "-", "FZPU"][n % 3]));
        assert_eq!(ebbmalloc::backed(), before);
    });
}

/// Who looks at all objects while others come and go finds each in use or free, and nothing in between. Seen to fail with
/// objects marked after the lock was given back in `hand_out`.
#[test]
fn validate_while_others_come_and_go() {
    let cache = cache("busy", 200, "FZPU");
    std::thread::scope(|scope| {
        let threads = [0, 1, 2].map(|thread| {
            let cache = &cache;
            scope.spawn(move || {
                let mut held = Vec::new();
                for n in 0..ebb_tests::share(6000) {
                    let object = cache.alloc().unwrap();
                    // SAFETY: live, of that size.
                    unsafe { object.write_bytes(thread, 200) };
                    held.push(object);
                    if n % 3 == 0 || held.len() > 300 {
                        free(cache, held.swap_remove(n % held.len()));
                    }
                }
                held.into_iter().for_each(|object| free(cache, object));
            })
        });
        while !threads.iter().all(|thread| thread.is_finished()) {
            assert_eq!(cache.validate(), 0);
        }
    });
    assert!(cache.destroy().is_ok());
}
