//! The system's own limits: what it can never give is not asked of caches, what it can is; and nothing depends on calls
//! that a sandbox forbids.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use ebb_tests::fork::forked;
use ebb_tests::{Block, Cache, MIB, Slow, in_both_modes, leave, patient};
use ebbmalloc::{Shrinker, raw};

/// Sizes and alignments beyond the address space, and sizes beyond the budget: null at once. Seen to fail (the cache was
/// emptied) with `is_hopeless` always false, with `MAX_SIZE` all that the language allows, and with realloc not looking
/// at it.
#[test]
fn no_cache_is_emptied_in_vain() {
    in_both_modes("no_cache_is_emptied_in_vain", || {
        let cache = Cache::new(100, MIB);
        let registration = cache.register(patient("cache"));
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

/// The process may have `bytes` more of address space than now.
fn limit_addresses(bytes: usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').next().unwrap().parse().unwrap();
    limit(pages * 4096 + bytes).unwrap();
}

/// Seen to fail when there has to be a window of 1 TiB.
#[test]
fn a_process_may_have_few_addresses() {
    for bytes in [1000 * MIB, 200 * MIB, 60 * MIB] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "blocks_of_every_kind_come_and_go"]);
        // SAFETY: a system call in the child, and nothing else.
        unsafe { command.pre_exec(move || limit(bytes)) };
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 passed"), "{bytes} bytes: {said}");
    }
}

/// The process may have so many bytes of addresses.
fn limit(bytes: usize) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes as libc::rlim_t,
        rlim_max: bytes as libc::rlim_t,
    };
    // SAFETY: a limit by reference.
    match unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// In a process of its own, see above, too.
#[test]
fn blocks_of_every_kind_come_and_go() {
    for _ in 0..3 {
        let sizes = (4..22).map(|shift| 1 << shift);
        let blocks: Vec<_> = sizes.filter_map(Block::new).collect();
        assert_eq!(blocks.len(), 18);
    }
}

/// No budget, but a limit of the system's: caches are asked just so. Seen to fail with no walks where the budget lacks
/// nothing.
#[test]
fn caches_make_room_under_the_systems_limit() {
    in_both_modes("caches_make_room_under_the_systems_limit", || {
        for (size, request) in [(4 * MIB, 50 * MIB), (MIB, 2 * MIB), (1000, MIB)] {
            let fine = forked(|| {
                limit_addresses(200 * MIB);
                let cache = Cache::new(300 * MIB / size, size);
                let full = cache.len();
                assert!(full < 200 * MIB / size);
                let registration = cache.register(patient("cache"));
                assert!(Block::new(request).is_some());
                let freed = full - cache.len();
                assert!(freed > 0 && freed < full, "{freed} of {full} freed");
                drop(registration);
                0
            });
            assert_eq!(fine, Some(0), "{request} bytes from blocks of {size}");
        }
    });
}

/// Forbids a system call to this thread, for good: it says EPERM from now on. False when the system has no filters.
#[must_use]
fn forbid(call: libc::c_long) -> bool {
    let filter = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filters = [
        filter(load, 0, 0, 0),
        filter(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            call as u32,
            0,
            1,
        ),
        filter(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        filter(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filters.len() as u16,
        filter: filters.as_mut_ptr(),
    };
    // SAFETY: numbers only.
    let alone = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(alone, 0);
    // SAFETY: a program by reference, which the system copies.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0 }
}

/// A process that may have no more threads has no reclaim thread either. A shrinker that was moved there for being late is
/// called all the same. Seen to fail (refused) with it left to the thread.
#[test]
fn without_threads_no_shrinker_is_lost() {
    in_both_modes("without_threads_no_shrinker_is_lost", || {
        let calls = [libc::SYS_clone, libc::SYS_clone3];
        assert!(calls.into_iter().all(forbid), "no filters here");
        leave(8 * MIB);
        let cache = Cache::new(usize::MAX, 60_000);
        let spec = Shrinker::new("dawdler").deadline(Duration::from_millis(1));
        let registration =
            ebbmalloc::register(spec, Slow(cache, Duration::from_millis(3))).unwrap();
        let blocks: Vec<_> = (0..20).map_while(|_| Block::new(100_000)).collect();
        assert!(registration.stats().moved, "{:?}", registration.stats());
        assert_eq!(blocks.len(), 20);
    });
}

/// A process that forbids itself memory barriers, as sandboxes do, when they have long been used. Sheaves can be drained
/// no more, but nothing is lost, caches are asked, and the budget holds. Seen to fail (abort) with the fast barriers of
/// seize.
#[test]
fn a_sandbox_does_no_harm() {
    in_both_modes("a_sandbox_does_no_harm", || {
        let cache = Cache::new(20_000, 1000);
        let registration = cache.register(patient("cache"));
        ebbmalloc::purge();
        assert!(forbid(libc::SYS_membarrier), "no filters here");
        leave(8 * MIB);
        assert!(Block::new(20 * MIB).is_some());
        let blocks: Vec<_> = (0..50_000).map_while(|_| Block::new(700)).collect();
        assert!(blocks.len() > 20_000, "only {}", blocks.len());
        assert!(ebbmalloc::backed() <= ebbmalloc::budget().unwrap());
        drop((blocks, registration));
        ebbmalloc::purge();
        let again = Cache::new(20_000, 1000);
        assert_eq!(again.len(), 20_000);
    });
}
