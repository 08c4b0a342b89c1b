//! One word per thread, in static thread-local storage.
//!
//! Rust's `thread_local!` in a shared library goes through `__tls_get_addr`, which may allocate; here the offset from
//! the thread pointer is a constant that the loader fills in. The block also holds the 32 bytes that the fast path
//! uses in place of a restartable-sequence area until there is one (`percpu_x86_64.rs`).

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tdata.ebb_thread, \"awT\", @progbits",
    ".balign 64",
    ".globl ebb_thread",
    ".hidden ebb_thread",
    ".type ebb_thread, @object",
    ".size ebb_thread, 64",
    "ebb_thread:",
    ".long 0, -1", // 0..32 stands in for an rseq area: its CPU is none
    ".zero 56",    // 32: the word
    ".popsection",
);

/// This thread's word; 0 at first.
#[inline]
pub(crate) fn thread_word() -> usize {
    let word: usize;
    // SAFETY: reads the thread's own eight bytes.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + ebb_thread@GOTTPOFF]",
            "mov {word}, qword ptr fs:[{at} + 32]",
            at = out(reg) _,
            word = out(reg) word,
            options(nostack, preserves_flags, readonly),
        );
    }
    word
}

/// Sets this thread's word.
#[inline]
pub(crate) fn set_thread_word(word: usize) {
    // SAFETY: writes the thread's own eight bytes.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + ebb_thread@GOTTPOFF]",
            "mov qword ptr fs:[{at} + 32], {word}",
            at = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags),
        );
    }
}
