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
//! of a sheaf (`sheaf`). `pop` takes a class, `push` and the rest a tag (class and node, `span_map`).
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
//! `sheaf` replaces a CPU's two row addresses by those of a dummy table, then calls `os::fence_cpu`: sequences that
//! had read the old address are sent back and read the new one. After that the old row belongs to the caller.
//!
//! # Before start, and where there is no area
//!
//! `HOT.cpus` is 0 at first, and is read before `HOT.rseq`: until both are set every operation fails at once and touches
//! nothing. A thread whose area is not registered has a CPU of 2^32 - 1 and fails by the compare with `HOT.cpus`.
//!
//! No `lock` prefix, no fence: the commit is a plain store, ordered by x86-64 after those before it.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// What every operation reads. Constant after start, alone on its cache line.
#[repr(C)]
struct Hot {
    /// Where the thread's area is, from the thread pointer.
    rseq: AtomicIsize,
    /// CPUs that have rows.
    cpus: AtomicUsize,
    /// Address of the array of rows to pop from.
    pop: AtomicUsize,
    /// Address of the array of rows to push to.
    push: AtomicUsize,
}

global_asm!(
    ".weak __rseq_offset",
    ".pushsection .data.ebb_hot, \"aw\", @progbits",
    ".balign 64",
    ".globl ebb_hot",
    ".hidden ebb_hot",
    ".type ebb_hot, @object",
    ".size ebb_hot, 64",
    "ebb_hot:",
    ".zero 64",
    ".popsection",
    ".pushsection .text.ebb_rseq_offset, \"ax\", @progbits",
    ".globl ebb_rseq_offset",
    ".hidden ebb_rseq_offset",
    ".type ebb_rseq_offset, @function",
    "ebb_rseq_offset:",
    "mov rax, qword ptr [rip + __rseq_offset@GOTPCREL]",
    "ret",
    ".size ebb_rseq_offset, . - ebb_rseq_offset",
    ".popsection",
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

/// Opens the fast path. `pop` and `push` have an entry for each of `cpus` CPUs and stay for ever. False where there
/// are no restartable sequences.
pub(crate) fn start(
    cpus: usize,
    pop: &'static [AtomicUsize],
    push: &'static [AtomicUsize],
) -> bool {
    assert!(pop.len() >= cpus && push.len() >= cpus);
    // SAFETY: the assembly above; it reads no memory but the linker's.
    let offset = unsafe { ebb_rseq_offset() };
    // SAFETY: null, or glibc's constant.
    let Some(offset) = (unsafe { offset.as_ref() }) else {
        return false;
    };
    let hot = hot();
    // Relaxed: nobody reads these before `cpus` is set.
    hot.pop.store(pop.as_ptr().addr(), Ordering::Relaxed);
    hot.push.store(push.as_ptr().addr(), Ordering::Relaxed);
    hot.rseq.store(*offset, Ordering::Relaxed);
    // Release: pairs with the sequences' load of `cpus` (a plain load is an acquire on x86-64): whoever sees it set sees
    // the other three, `rseq` above all.
    hot.cpus.store(cpus, Ordering::Release);
    true
}

/// Whether this thread, now, can use the sequences.
pub(crate) fn usable() -> bool {
    let hot = hot();
    // Acquire: pairs with the Release in `start`; read before `rseq`.
    let cpus = hot.cpus.load(Ordering::Acquire);
    if cpus == 0 {
        return false;
    }
    // Relaxed: visible since `cpus` is set.
    let rseq = hot.rseq.load(Ordering::Relaxed);
    let cpu: u64;
    // SAFETY: reads the thread's own area.
    unsafe {
        asm!("mov {cpu:e}, dword ptr fs:[{rseq} + 4]", cpu = out(reg) cpu, rseq = in(reg) rseq,
            options(nostack, preserves_flags, readonly));
    }
    (cpu as usize) < cpus
}

/// Takes an object of `class` from this CPU's sheaf; 0 when it has none, or this thread has no fast path.
#[inline(always)]
pub(crate) fn pop(class: usize) -> usize {
    let object: usize;
    // SAFETY: a sequence as in the head: `class` is inside the row, the row's words are tops of sheaves, and the
    // only store is to this CPU's word.
    unsafe {
        asm!(
            "xor {object:e}, {object:e}",
            "mov {cpus}, qword ptr [rip + ebb_hot + 8]",
            "test {cpus}, {cpus}",
            "je 33f",
            "mov {rseq}, qword ptr [rip + ebb_hot]",
            ".pushsection __rseq_cs, \"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 22f, (33f - 22f), 44f",
            ".popsection",
            "66:",
            "xor {object:e}, {object:e}",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{rseq} + 8], {at}",
            "22:",
            "mov {at:e}, dword ptr fs:[{rseq} + 4]",
            "cmp {at}, {cpus}",
            "jae 33f",
            "mov {word}, qword ptr [rip + ebb_hot + 16]",
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
            rseq = out(reg) _,
            cpus = out(reg) _,
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
            "mov {cpus}, qword ptr [rip + ebb_hot + 8]",
            "test {cpus}, {cpus}",
            "je {fail}",
            "mov {rseq}, qword ptr [rip + ebb_hot]",
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
            "mov {at:e}, dword ptr fs:[{rseq} + 4]",
            "cmp {at}, {cpus}",
            "jae {fail}",
            "mov {word}, qword ptr [rip + ebb_hot + 24]",
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
            cpus = out(reg) _,
            fail = label { return false },
            options(nostack),
        );
    }
    true
}

/// This CPU's word for `tag`; 0 when this thread has no fast path.
#[inline(never)]
pub(crate) fn peek(tag: usize) -> usize {
    let top: usize;
    // SAFETY: as for `pop`; nothing is stored.
    unsafe {
        asm!(
            "xor {top:e}, {top:e}",
            "mov {cpus}, qword ptr [rip + ebb_hot + 8]",
            "test {cpus}, {cpus}",
            "je 33f",
            "mov {rseq}, qword ptr [rip + ebb_hot]",
            ".pushsection __rseq_cs, \"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 22f, (33f - 22f), 44f",
            ".popsection",
            "66:",
            "xor {top:e}, {top:e}",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{rseq} + 8], {at}",
            "22:",
            "mov {at:e}, dword ptr fs:[{rseq} + 4]",
            "cmp {at}, {cpus}",
            "jae 33f",
            "mov {word}, qword ptr [rip + ebb_hot + 24]",
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
            rseq = out(reg) _,
            cpus = out(reg) _,
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
            "mov {cpus}, qword ptr [rip + ebb_hot + 8]",
            "test {cpus}, {cpus}",
            "je {fail}",
            "mov {rseq}, qword ptr [rip + ebb_hot]",
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
            "mov {at:e}, dword ptr fs:[{rseq} + 4]",
            "cmp {at}, {cpus}",
            "jae {fail}",
            "mov {word}, qword ptr [rip + ebb_hot + 24]",
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
            cpus = out(reg) _,
            fail = label { return false },
            options(nostack),
        );
    }
    true
}
