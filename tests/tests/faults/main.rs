//! The system refuses: a call that the allocator makes of `mmap`, `munmap`, `madvise` and `mremap` fails once, or
//! from then on. Nothing crashes, hangs or loses a byte; one failure is never seen by the program; and when the system
//! has memory again, so have we.
//!
//! `calls` has the functions that fail, `program` a program that goes on meanwhile.

mod calls;
mod program;

use std::ffi::c_int;

use ebb_tests::fork::forked;
use ebb_tests::{Block, MIB, Random, alone, in_both_modes, in_environments, resident, share};
use ebbmalloc::{SlabBox, SlabCache, raw};

use calls::{CALLS, Call, MADVISE, MMAP, MUNMAP, errno};
use program::{Live, Program};

/// Calls of a program while something may fail, and again after that.
const STEPS: usize = 200;

/// How many times as far it may be from one call that fails to the next where tests run in part.
const LONGER: usize = 16;

/// No huge pages for this process, asked for or not.
fn without_huge_pages() {
    // SAFETY: says how memory is to be backed from now on.
    let status = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    assert_eq!(status, 0);
}

/// A program while `count` calls fail after `skipped`, and afterwards. Whether any failed.
fn run_with(call: &Call, skipped: usize, count: usize) -> bool {
    if call.name == "madvise" {
        // Where small pages are refused, a system that gives huge ones unasked backs more than is touched.
        without_huge_pages();
    }
    let before = (ebbmalloc::backed(), resident());
    let mut program = Program::new(skipped);
    call.fail(skipped, count);
    program.run(STEPS);
    let (failed, refused) = (call.heal(), program.refused);
    // One failure, and one that only moves or keeps memory, is not seen by the program.
    let may_be_refused = count > 1 && call.name == "mmap";
    assert!(refused == 0 || may_be_refused, "{refused} refused");
    program.run(STEPS);
    assert_eq!(program.refused, refused, "refused when the system did not");
    program.end();
    let after = (ebbmalloc::backed(), resident());
    assert!(
        after.0 <= before.0 + MIB && after.1 <= before.1 + 2 * MIB,
        "backed and resident before {before:?}, after {after:?}"
    );
    failed > 0
}

/// Each call fails: once, and from then on until the system has memory again. Seen to fail: blocks could not grow
/// with the copying left out of `mapping`; memory was not zero with what was not purged marked as clean in `arena`; and
/// with only one attempt in `with_reclaim`.
#[test]
fn every_call_may_fail() {
    in_both_modes("every_call_may_fail", || {
        for (call, step) in CALLS {
            let step = step * LONGER / share(LONGER);
            for count in [1, usize::MAX] {
                let mut skipped = 0;
                loop {
                    match forked(|| u8::from(run_with(call, skipped, count))) {
                        Some(1) => skipped += if skipped < 4 { 1 } else { step },
                        Some(_) => break,
                        None => panic!("{count} failing {} after {skipped}", call.name),
                    }
                }
                assert!(skipped > 3, "{} was made {skipped} times", call.name);
            }
        }
    });
}

/// What cannot be unmapped still goes back, and off the books. Seen to fail with the discarding left out of `unmap`: it
/// stayed resident.
#[test]
fn what_cannot_be_unmapped_goes_back() {
    alone("what_cannot_be_unmapped_goes_back", || {
        drop(Block::new(3 * MIB));
        let before = (ebbmalloc::backed(), resident());
        let blocks: Vec<_> = (0..10).map(|_| raw::alloc(8 * MIB)).collect();
        for block in &blocks {
            // SAFETY: live, of that size.
            unsafe { block.write_bytes(1, 8 * MIB) };
        }
        assert!(resident() > before.1 + 70 * MIB);
        MUNMAP.fail(0, usize::MAX);
        for block in blocks {
            // SAFETY: live, used no more.
            unsafe { raw::free(block) };
        }
        ebbmalloc::purge();
        assert!(MUNMAP.heal() > 0);
        let after = (ebbmalloc::backed(), resident());
        assert!(after.0 <= before.0, "{after:?}");
        assert!(after.1 <= before.1 + MIB, "{after:?}");
    });
}

/// There is no memory before `main`: everything works later, and the environment counts. Seen to fail with the
/// environment read only if the tables could be made.
#[test]
fn a_late_start() {
    let granted = ["0", "1"];
    let environments = granted.map(|count| [("EBB_TEST_GRANTED", count), ("EBB_BUDGET", "640M")]);
    let environments = environments.each_ref().map(|one| one.as_slice());
    in_environments("a_late_start", &environments, || {
        assert!(MMAP.heal() > 0, "nothing failed");
        assert_eq!(ebbmalloc::budget(), Some(640 * MIB));
        assert!(!raw::alloc(100).is_null());
        let mut program = Program::new(1);
        program.run(STEPS);
        assert_eq!(program.refused, 0);
        program.end();
    });
}

/// Changes what a page in the middle of a block may be used for.
fn protect(block: *mut u8, protection: c_int) {
    let page = block.wrapping_add(2 * MIB).cast();
    // SAFETY: a page of a live block of more than 2 MiB, which is not written while it is protected.
    let status = unsafe { libc::mprotect(page, 4096, protection) };
    assert_eq!(status, 0);
}

/// The system does not move memory of which a part is protected otherwise. Seen to fail with the copying left out of
/// `mapping`: realloc said that there is no memory.
#[test]
fn a_block_that_is_protected_in_part_can_grow_and_shrink() {
    let block = raw::alloc(6 * MIB);
    let mut block = Live {
        at: block,
        size: 6 * MIB,
        mark: 7,
    };
    block.mark();
    for size in [9 * MIB, 4 * MIB, 30 * MIB] {
        protect(block.at, libc::PROT_READ);
        // SAFETY: live; its old address is not used after a success.
        let moved = unsafe { raw::realloc(block.at, size) };
        assert!(!moved.is_null(), "{size} bytes refused");
        protect(moved, libc::PROT_READ | libc::PROT_WRITE);
        block.moved(moved, size);
    }
    // SAFETY: live, used no more.
    unsafe { raw::free(block.at) };
}

/// An object cache while `count` calls fail after `skipped`, and afterwards. Whether any failed.
fn run_cache_with(call: &Call, skipped: usize, count: usize) -> bool {
    let before = ebbmalloc::backed();
    call.fail(skipped, count);
    let mut random = Random::new(skipped as u64);
    let mut cache = None;
    let mut objects: Vec<SlabBox<[u64; 900]>> = Vec::with_capacity(2000);
    let mut refused = 0;
    for step in 0..800_u64 {
        if cache.is_none() {
            cache = SlabCache::new("refused").ok();
        }
        let Some(cache) = &cache else { continue };
        let grows = step % 200 < 150;
        if objects.is_empty() || grows == (random.below(20) > 0) {
            match cache.alloc([step; 900]) {
                Ok(object) => objects.push(object),
                Err(value) => {
                    assert_eq!((value[0], errno()), (step, libc::ENOMEM));
                    refused += 1;
                }
            }
        } else {
            let object = objects.swap_remove(random.below(objects.len()));
            assert!(object.iter().all(|word| *word == object[0]));
        }
        if step % 200 == 199 {
            objects.clear();
            cache.shrink();
            ebbmalloc::purge();
        }
    }
    let failed = call.heal();
    assert!(refused == 0 || count > 1, "{refused} refused");
    let cache = cache.unwrap_or_else(|| SlabCache::new("late").unwrap());
    for step in 0..800_u64 {
        objects.push(cache.alloc([step; 900]).expect("memory again"));
    }
    for object in objects {
        assert!(object.iter().all(|word| *word == object[0]));
    }
    assert!(cache.destroy().is_ok());
    ebbmalloc::purge();
    assert!(ebbmalloc::backed() <= before + MIB);
    failed > 0
}

/// The same for object caches. Seen to fail with what is charged for a cache not released when it cannot be mapped.
#[test]
fn caches_may_be_refused() {
    alone("caches_may_be_refused", || {
        let step = 7 * LONGER / share(LONGER);
        for call in [&MMAP, &MADVISE] {
            for count in [1, usize::MAX] {
                let mut skipped = 0;
                loop {
                    match forked(|| u8::from(run_cache_with(call, skipped, count))) {
                        Some(1) => skipped += if skipped < 6 { 1 } else { step },
                        Some(_) => break,
                        None => panic!("{count} failing {} after {skipped}", call.name),
                    }
                }
                assert!(skipped > 1, "{} was made {skipped} times", call.name);
            }
        }
    });
}
