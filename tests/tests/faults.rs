//! The system refuses: a call that the allocator makes of `mmap`, `munmap`, `madvise` and `mremap` fails once, or
//! from then on. Nothing crashes, hangs or loses a byte; one failure is never seen by the program; and when the system
//! has memory again, so have we.
//!
//! The four functions are defined here, so the allocator and its crates get these instead of the C library's.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_tests::fork::forked;
use ebb_tests::{Block, MIB, Random, alone, in_both_modes, in_environments, resident};
use ebbmalloc::{SlabBox, SlabCache, raw};

/// One of the system calls.
struct Call {
    name: &'static str,
    /// How often it was made.
    made: AtomicUsize,
    /// It fails from this call on.
    from: AtomicUsize,
    /// Until, but without, this one.
    until: AtomicUsize,
}

impl Call {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            made: AtomicUsize::new(0),
            from: AtomicUsize::new(usize::MAX),
            until: AtomicUsize::new(usize::MAX),
        }
    }

    /// Has `count` calls fail, after `skipped` more that do not.
    fn fail(&self, skipped: usize, count: usize) {
        let from = self.made.load(Ordering::Relaxed) + skipped;
        self.from.store(from, Ordering::Relaxed);
        let until = from.saturating_add(count);
        self.until.store(until, Ordering::Relaxed);
    }

    /// Has none fail any more. How many did.
    fn heal(&self) -> usize {
        let from = self.from.swap(usize::MAX, Ordering::Relaxed);
        let until = self.until.load(Ordering::Relaxed);
        let made = self.made.load(Ordering::Relaxed);
        made.min(until).saturating_sub(from)
    }

    /// Has all calls fail after as many as the environment says, if it does.
    fn fail_from_start(&self) {
        // SAFETY: a terminated name.
        let count = unsafe { libc::getenv(GRANTED.as_ptr()) };
        if !count.is_null() {
            // SAFETY: a string of the environment.
            let count = unsafe { libc::atoi(count) };
            self.fail(usize::try_from(count).unwrap_or(0), usize::MAX);
        }
    }

    /// Counts a call. Whether it fails; `errno` says so then.
    fn fails(&self) -> bool {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let fails = number >= self.from.load(Ordering::Relaxed)
            && number < self.until.load(Ordering::Relaxed);
        if fails {
            set_errno(libc::ENOMEM);
        }
        fails
    }
}

/// How many calls of `mmap` do not fail before `main`.
const GRANTED: &CStr = c"EBB_TEST_GRANTED";

static MMAP: Call = Call::new("mmap");
static MUNMAP: Call = Call::new("munmap");
static MADVISE: Call = Call::new("madvise");
static MREMAP: Call = Call::new("mremap");
/// All of them, and how far to go on, after the first few, from one that fails to the next.
static CALLS: [(&Call, usize); 4] = [(&MMAP, 4), (&MUNMAP, 9), (&MADVISE, 9), (&MREMAP, 4)];

fn set_errno(value: c_int) {
    // SAFETY: the C library always gives a valid pointer to a word of this thread.
    let slot = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { slot.write(value) };
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    if MMAP.made.load(Ordering::Relaxed) == 0 {
        MMAP.fail_from_start();
    }
    // The allocator's have this flag, the standard library's do not.
    if flags & libc::MAP_NORESERVE != 0 && MMAP.fails() {
        return libc::MAP_FAILED;
    }
    // SAFETY: as `mmap` itself.
    let at = unsafe { libc::syscall(libc::SYS_mmap, at, len, protection, flags, file, offset) };
    ptr::with_exposed_provenance_mut(at as usize)
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    mmap(at, len, protection, flags, file, offset)
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    if MUNMAP.fails() {
        return -1;
    }
    // SAFETY: as `munmap` itself.
    unsafe { libc::syscall(libc::SYS_munmap, at, len) as c_int }
}

/// What the C library has under this name.
#[unsafe(no_mangle)]
extern "C" fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int {
    if MADVISE.fails() {
        return -1;
    }
    // SAFETY: as `madvise` itself.
    unsafe { libc::syscall(libc::SYS_madvise, at, len, advice) as c_int }
}

/// What the C library has under this name. The last argument is there only if the flags say so.
#[unsafe(no_mangle)]
extern "C" fn mremap(
    at: *mut c_void,
    old: usize,
    new: usize,
    flags: c_int,
    to: *mut c_void,
) -> *mut c_void {
    if MREMAP.fails() {
        return libc::MAP_FAILED;
    }
    // SAFETY: as `mremap` itself.
    let at = unsafe { libc::syscall(libc::SYS_mremap, at, old, new, flags, to) };
    ptr::with_exposed_provenance_mut(at as usize)
}

/// A live block, marked on each page, up to a MiB, and at its end.
struct Live {
    at: *mut u8,
    size: usize,
    mark: u8,
}

impl Live {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: a live block of that size.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.size) }
    }

    fn mark(&mut self) {
        let mark = self.mark;
        let (first, last) = ends(self.bytes());
        first.iter_mut().step_by(4096).for_each(|byte| *byte = mark);
        *last = mark;
    }

    /// Has a new address and size; what was to be kept is looked at.
    fn moved(&mut self, at: *mut u8, size: usize) {
        let shrinks = size < self.size;
        (self.at, self.size) = (at, size.min(self.size));
        if shrinks {
            let last = self.mark;
            *ends(self.bytes()).1 = last;
        }
        assert!(self.is_marked(), "lost by a move");
        self.size = size;
        self.mark();
    }

    fn is_marked(&mut self) -> bool {
        let mark = self.mark;
        let (first, last) = ends(self.bytes());
        first.iter().step_by(4096).all(|byte| *byte == mark) && *last == mark
    }

    fn is_zero(&mut self) -> bool {
        let (first, last) = ends(self.bytes());
        *first == ZEROS[..first.len()] && *last == 0
    }
}

/// The first bytes, up to a MiB, and the last of a block; a block of one byte has only a last one.
fn ends(bytes: &mut [u8]) -> (&mut [u8], &mut u8) {
    let (last, rest) = bytes.split_last_mut().expect("a block of some size");
    let len = rest.len().min(MIB);
    (&mut rest[..len], last)
}

static ZEROS: [u8; MIB] = [0; MIB];

/// A program: thirty blocks that come, grow, shrink and go. It knows what it has and what it was refused.
struct Program {
    random: Random,
    blocks: Vec<Option<Live>>,
    refused: usize,
}

impl Program {
    fn new(seed: usize) -> Self {
        Self {
            random: Random::new(seed as u64),
            blocks: (0..30).map(|_| None).collect(),
            refused: 0,
        }
    }

    /// All sizes: from a few bytes in slabs, by way of spans, to mappings.
    fn size(&mut self) -> usize {
        let most = match self.random.below(20) {
            0..10 => 2000,
            10..14 => 256 << 10,
            14..17 => MIB,
            _ => 4 * MIB,
        };
        1 + self.random.below(most)
    }

    fn new_block(&mut self) -> Option<Live> {
        let size = self.size();
        let kind = self.random.below(4);
        let at = match kind {
            0 => raw::alloc_zeroed(size),
            1 => raw::alloc_aligned(size, 1 << self.random.below(23)),
            _ => raw::alloc(size),
        };
        let mark = self.random.below(256) as u8;
        let mut block = Live { at, size, mark };
        if at.is_null() {
            self.refused += 1;
            return None;
        }
        assert!(kind != 0 || block.is_zero(), "{size} bytes are not zero");
        block.mark();
        Some(block)
    }

    fn change(&mut self, mut block: Live) -> Option<Live> {
        assert!(block.is_marked(), "{} bytes changed", block.size);
        // Mappings become other mappings, as a rule.
        let large = block.size > 2 * MIB && self.random.below(4) > 0;
        if !large && self.random.below(2) == 0 {
            // SAFETY: live, used no more.
            unsafe { raw::free(block.at) };
            return None;
        }
        let size = match large {
            true => 1 + 2 * MIB + self.random.below(4 * MIB),
            false => self.size(),
        };
        // SAFETY: live; its old address is not used after a success.
        let moved = unsafe { raw::realloc(block.at, size) };
        if moved.is_null() {
            self.refused += 1;
            assert!(block.is_marked(), "lost by a refusal");
            return Some(block);
        }
        block.moved(moved, size);
        Some(block)
    }

    fn run(&mut self, steps: usize) {
        for step in 0..steps {
            set_errno(77);
            let refused = self.refused;
            let index = self.random.below(self.blocks.len());
            self.blocks[index] = match self.blocks[index].take() {
                None => self.new_block(),
                Some(block) => self.change(block),
            };
            let expected = if self.refused > refused {
                libc::ENOMEM
            } else {
                77
            };
            assert_eq!(errno(), expected);
            if step % 25 == 24 {
                ebbmalloc::purge();
            }
        }
    }

    fn end(self) {
        for mut block in self.blocks.into_iter().flatten() {
            assert!(block.is_marked(), "{} bytes changed", block.size);
            // SAFETY: live, used no more.
            unsafe { raw::free(block.at) };
        }
        ebbmalloc::purge();
    }
}

/// Calls of a program while something may fail, and again after that.
const STEPS: usize = 200;

/// A program while `count` calls fail after `skipped`, and afterwards. Whether any failed.
fn run_with(call: &Call, skipped: usize, count: usize) -> bool {
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
        assert!(MUNMAP.heal() >= 10);
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
        for call in [&MMAP, &MADVISE] {
            for count in [1, usize::MAX] {
                let mut skipped = 0;
                loop {
                    match forked(|| u8::from(run_cache_with(call, skipped, count))) {
                        Some(1) => skipped += if skipped < 6 { 1 } else { 7 },
                        Some(_) => break,
                        None => panic!("{count} failing {} after {skipped}", call.name),
                    }
                }
                assert!(skipped > 1, "{} was made {skipped} times", call.name);
            }
        }
    });
}
