//! The fast path: restartable sequences over the words of the current CPU.
//!
//! The kernel promises that a sequence either runs to its last instruction, the commit, without its thread being
//! moved, preempted or interrupted by a signal, or is sent back to its beginning. So plain loads and stores on memory
//! of the current CPU do what would otherwise need a lock or a locked instruction. glibc (2.35 and later) registers
//! the area that this takes for every thread, at `__rseq_offset` from the thread pointer.
//!
//! # What the sequences see
//!
//! `HOT.pop[cpu]` and `HOT.push[cpu]` are the addresses of two rows of words; a word is the address of the top slot
//! of a sheaf (`sheaf`). `pop` takes a class, `push` and the rest a tag (class and node, `window`). The number of the
//! CPU is not checked: there is an entry for every number that the kernel gives, and two in front, for the numbers -1
//! and -2 of a thread whose area the kernel does not know. Their rows have no sheaves.
//!
//! ```text
//! pop:   top = row[class]; object = *top; none if object is 0;  row[class] = top - 8       <- commit
//! push:  top = row[tag];   fail if *top is the object (freed twice) or the sheaf ends behind top;
//!        top[8] = object (beyond the top: harmless if restarted);  row[tag] = top + 8      <- commit
//! ```
//!
//! A sheaf's lowest slot in use holds 0, and a sheaf ends at a multiple of 2 KiB, so "empty" and "full" are read off
//! the top itself. A class without a sheaf points at a dummy that is both.
//!
//! `fast` has these two from the size, as a function of its own, and from the address; `words` has them for a class or a
//! tag that is known, and what else the slow path needs.
//!
//! # Stopping a CPU
//!
//! `drain` replaces a CPU's two row addresses by those of a closed table, then calls `os::fence_cpu`: sequences that
//! had read the old address are sent back and read the new one. After that the old row belongs to the caller.
//!
//! # Before start, and where there is no area
//!
//! No size is below `HOT.sizes` and no slice below `HOT.slices` then, for both are 0, so whatever has to be compared with
//! them in any case goes the slow way; and `HOT.rseq`, the place of the thread's area, is 0, by which the slow path sees it.
//! `start` sets these three last, and the sequences read them first.
//!
//! No `lock` prefix, no fence: the commit is a plain store, or one instruction that lowers the word where it lies, ordered by
//! x86-64 after the stores before it.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use super::thread::affinity;
use super::{NO_CPU, QUIET, Rows, Window};
use crate::config::MAX_FINE;

mod fast;
mod words;

pub(crate) use fast::free;
pub(crate) use words::{exchange, peek, pop, push};

/// What every operation reads. Constant after start, alone on its cache line, whose place is [`QUIET`].
#[repr(C)]
struct Hot {
    /// Where the thread's area is, from the thread pointer; 0 before start.
    rseq: AtomicIsize,
    /// Address of CPU 0's entry in the array of rows to pop from.
    pop: AtomicUsize,
    /// The same for those to push to.
    push: AtomicUsize,
    /// Sizes below this have a class for each 16 bytes; 0 before start.
    sizes: AtomicUsize,
    /// The addresses whose tags are in one piece: the first, how many slices, and the address of the first tag. No slices
    /// before start.
    first: AtomicUsize,
    slices: AtomicUsize,
    tags: AtomicUsize,
}

/// Offsets in [`Hot`], for the sequences.
pub(crate) const POP: usize = offset_of!(Hot, pop);
const PUSH: usize = offset_of!(Hot, push);
pub(crate) const SIZES: usize = offset_of!(Hot, sizes);
const FIRST: usize = offset_of!(Hot, first);
const SLICES: usize = offset_of!(Hot, slices);
const TAGS: usize = offset_of!(Hot, tags);
const _: () = assert!(offset_of!(Hot, rseq) == 0 && size_of::<Hot>() <= 64);

/// What the kernel has to know of a sequence: it begins at label 22, its commit ends at 33, and it is sent back by 44. In a
/// section of its own, of which label 77 is the place.
#[doc(hidden)]
#[macro_export]
macro_rules! descriptor {
    () => {
        concat!(
            ".pushsection __rseq_cs, \"aw\"\n",
            ".balign 32\n",
            "77:\n",
            ".long 0, 0\n",
            ".quad 22f, (33f - 22f), 44f\n",
            ".popsection",
        )
    };
}

/// Where a sequence goes on that was interrupted: at label 66. In front is what the kernel wants to see there.
#[doc(hidden)]
#[macro_export]
macro_rules! restart {
    () => {
        concat!(
            ".pushsection __rseq_abort, \"ax\"\n",
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long 0x53053053\n",
            "44:\n",
            "jmp 66b\n",
            ".popsection",
        )
    };
}

global_asm!(
    ".pushsection .data.ebb_hot, \"aw\", @progbits",
    ".balign 1024",
    ".skip {quiet}",
    ".globl ebb_hot",
    ".hidden ebb_hot",
    ".type ebb_hot, @object",
    ".size ebb_hot, 64",
    "ebb_hot:",
    ".zero 64",
    ".popsection",
    ".weak __rseq_offset",
    ".pushsection .text.ebb_rseq_offset, \"ax\", @progbits",
    ".globl ebb_rseq_offset",
    ".hidden ebb_rseq_offset",
    ".type ebb_rseq_offset, @function",
    "ebb_rseq_offset:",
    "mov rax, qword ptr [rip + __rseq_offset@GOTPCREL]",
    "ret",
    ".size ebb_rseq_offset, . - ebb_rseq_offset",
    ".popsection",
    quiet = const QUIET,
);

unsafe extern "C" {
    #[link_name = "ebb_hot"]
    static HOT: Hot;
    /// Address of glibc's `__rseq_offset`; null where the libc has none.
    fn ebb_rseq_offset() -> *const isize;
}

fn hot() -> &'static Hot {
    // SAFETY: defined above, of that layout, and only ever accessed atomically or by the sequences.
    unsafe { &HOT }
}

/// Opens the fast path. The entries of `pop` and `push` are addresses of rows, all of them, and stay so; so do the tags. False
/// where there are no restartable sequences, or more CPUs.
pub(crate) fn start(pop: &'static Rows, push: &'static Rows, window: &Window) -> bool {
    // SAFETY: the assembly above; it reads no memory but the linker's.
    let offset = unsafe { ebb_rseq_offset() };
    // SAFETY: null, or glibc's constant.
    let Some(offset) = (unsafe { offset.as_ref() }) else {
        return false;
    };
    // The kernel refuses to fill a set that has no room for all the CPUs there may ever be.
    if affinity().is_none() {
        return false;
    }
    let hot = hot();
    // Relaxed, all: the Releases below are behind them.
    hot.pop
        .store((&raw const pop.entries[NO_CPU]).addr(), Ordering::Relaxed);
    hot.push
        .store((&raw const push.entries[NO_CPU]).addr(), Ordering::Relaxed);
    hot.first.store(window.first, Ordering::Relaxed);
    hot.tags.store(window.tags, Ordering::Relaxed);
    // Release, all: pairs with the load that a sequence begins with (a plain load is an acquire on x86-64). Those which
    // begin with another than `rseq` read that too.
    hot.rseq.store(*offset, Ordering::Release);
    hot.slices.store(window.slices, Ordering::Release);
    hot.sizes.store(MAX_FINE + 1, Ordering::Release);
    true
}

/// The CPU that this thread is on, if it can use the sequences.
pub(crate) fn cpu() -> Option<usize> {
    // Relaxed: nothing else is read.
    let rseq = hot().rseq.load(Ordering::Relaxed);
    if rseq == 0 {
        return None;
    }
    let cpu: i32;
    // SAFETY: reads the thread's own area.
    unsafe {
        asm!("mov {cpu:e}, dword ptr fs:[{rseq} + 4]", cpu = out(reg) cpu, rseq = in(reg) rseq,
            options(nostack, preserves_flags, readonly));
    }
    usize::try_from(cpu).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail without the `.skip`.
    #[test]
    fn what_every_operation_reads_is_out_of_the_way() {
        let row = align_of::<Rows>();
        let rows = Rows::new();
        let hot = (&raw const *hot()).addr();
        assert_eq!(hot % row, QUIET, "the hot line");
        assert_eq!((&raw const rows.entries).addr() % row, QUIET, "entries");
    }
}
