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
//! of a sheaf (`sheaf`). `pop` takes a class, `push` and the rest a tag (class and node, `span_map`). The number of the
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
//! # Stopping a CPU
//!
//! `drain` replaces a CPU's two row addresses by those of a closed table, then calls `os::fence_cpu`: sequences that
//! had read the old address are sent back and read the new one. After that the old row belongs to the caller.
//!
//! # Before start, and where there is no area
//!
//! `HOT.rseq`, the place of the thread's area, is 0 at first, and stays so where there are no restartable sequences: every
//! operation fails at once and touches nothing. `start` sets the arrays of rows first and `HOT.rseq` last, and the
//! sequences read them the other way round.
//!
//! No `lock` prefix, no fence: the commit is a plain store, ordered by x86-64 after those before it.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use super::thread::affinity;
use super::{NO_CPU, QUIET, Rows};

/// What every operation reads. Constant after start, alone on its cache line, whose place is [`QUIET`].
#[repr(C)]
struct Hot {
    /// Where the thread's area is, from the thread pointer; 0 before start.
    rseq: AtomicIsize,
    /// Address of CPU 0's entry in the array of rows to pop from.
    pop: AtomicUsize,
    /// The same for those to push to.
    push: AtomicUsize,
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

/// Opens the fast path. The entries of `pop` and `push` are addresses of rows, all of them, and stay so. False where there
/// are no restartable sequences, or more CPUs.
pub(crate) fn start(pop: &'static Rows, push: &'static Rows) -> bool {
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
    // Relaxed, both: the Release below is behind them.
    hot.pop
        .store((&raw const pop.entries[NO_CPU]).addr(), Ordering::Relaxed);
    hot.push
        .store((&raw const push.entries[NO_CPU]).addr(), Ordering::Relaxed);
    // Release: pairs with the sequences' load of `rseq` (a plain load is an acquire on x86-64).
    hot.rseq.store(*offset, Ordering::Release);
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

/// Takes an object of `class` from this CPU's sheaf; 0 when it has none, or this thread has no fast path.
#[inline(always)]
pub(crate) fn pop(class: usize) -> usize {
    let object: usize;
    // SAFETY: a sequence as in the head: `class` is inside the row, the row's words are tops of sheaves, and the
    // only store is to this CPU's word.
    unsafe {
        asm!(
            "66:",
            "mov {object}, qword ptr [rip + ebb_hot]",
            "test {object}, {object}",
            "je 33f",
            ".pushsection __rseq_cs, \"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 22f, (33f - 22f), 44f",
            ".popsection",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{object} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{object} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + 8]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "mov {at}, qword ptr [{word} + 8*{class}]",
            "mov {object}, qword ptr [{at}]",
            "test {object}, {object}",
            "je 33f",
            "sub {at}, 8",
            "mov qword ptr [{word} + 8*{class}], {at}",
            "33:",
            ".pushsection __rseq_abort, \"ax\"",
            ".byte 0x0f, 0xb9, 0x3d",
            ".long 0x53053053",
            "44:",
            "jmp 66b",
            ".popsection",
            at = out(reg) _,
            word = out(reg) _,
            object = out(reg) object,
            class = in(reg) class,
            options(nostack),
        );
    }
    object
}

/// Puts an object into this CPU's sheaf for `tag`; false when that is full, has the object on top already, or is
/// not to be used here.
#[inline(always)]
pub(crate) fn push(tag: usize, object: usize) -> bool {
    // SAFETY: as for `pop`; the slot above the top belongs to the sheaf, since the end was checked.
    unsafe {
        asm!(
            "mov {rseq}, qword ptr [rip + ebb_hot]",
            "test {rseq}, {rseq}",
            "je {fail}",
            ".pushsection __rseq_cs, \"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 22f, (33f - 22f), 44f",
            ".popsection",
            "66:",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{rseq} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{rseq} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + 16]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "mov {at}, qword ptr [{word} + 8*{tag}]",
            "cmp qword ptr [{at}], {object}",
            "je {fail}",
            "add {at}, 8",
            "test {at:e}, 0x7f8",
            "je {fail}",
            "mov qword ptr [{at}], {object}",
            "mov qword ptr [{word} + 8*{tag}], {at}",
            "33:",
            ".pushsection __rseq_abort, \"ax\"",
            ".byte 0x0f, 0xb9, 0x3d",
            ".long 0x53053053",
            "44:",
            "jmp 66b",
            ".popsection",
            at = out(reg) _,
            word = out(reg) _,
            tag = in(reg) tag,
            object = in(reg) object,
            rseq = out(reg) _,
            fail = label { return false },
            options(nostack),
        );
    }
    true
}

/// This CPU's word for `tag`; 0 before start.
#[inline(never)]
pub(crate) fn peek(tag: usize) -> usize {
    let top: usize;
    // SAFETY: as for `pop`; nothing is stored.
    unsafe {
        asm!(
            "66:",
            "mov {top}, qword ptr [rip + ebb_hot]",
            "test {top}, {top}",
            "je 33f",
            ".pushsection __rseq_cs, \"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 22f, (33f - 22f), 44f",
            ".popsection",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{top} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{top} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + 16]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "mov {top}, qword ptr [{word} + 8*{tag}]",
            "33:",
            ".pushsection __rseq_abort, \"ax\"",
            ".byte 0x0f, 0xb9, 0x3d",
            ".long 0x53053053",
            "44:",
            "jmp 66b",
            ".popsection",
            at = out(reg) _,
            word = out(reg) _,
            top = out(reg) top,
            tag = in(reg) tag,
            options(nostack),
        );
    }
    top
}

/// Replaces this CPU's word for `tag` by `new` if it is `expected`. Whether it was.
#[inline(never)]
pub(crate) fn exchange(tag: usize, expected: usize, new: usize) -> bool {
    // SAFETY: as for `pop`; `new` is the top of a sheaf that the caller owns.
    unsafe {
        asm!(
            "mov {rseq}, qword ptr [rip + ebb_hot]",
            "test {rseq}, {rseq}",
            "je {fail}",
            ".pushsection __rseq_cs, \"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 22f, (33f - 22f), 44f",
            ".popsection",
            "66:",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{rseq} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{rseq} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + 16]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "cmp qword ptr [{word} + 8*{tag}], {expected}",
            "jne {fail}",
            "mov qword ptr [{word} + 8*{tag}], {new}",
            "33:",
            ".pushsection __rseq_abort, \"ax\"",
            ".byte 0x0f, 0xb9, 0x3d",
            ".long 0x53053053",
            "44:",
            "jmp 66b",
            ".popsection",
            at = out(reg) _,
            word = out(reg) _,
            tag = in(reg) tag,
            expected = in(reg) expected,
            new = in(reg) new,
            rseq = out(reg) _,
            fail = label { return false },
            options(nostack),
        );
    }
    true
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
