//! One word per thread, in static thread-local storage.
//!
//! Rust's `thread_local!` in a shared library goes through `__tls_get_addr`, which may allocate; here the offset from
//! the thread pointer is a constant that the loader fills in.

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss.ebb_thread, \"awT\", @nobits",
    ".balign 8",
    ".globl ebb_thread",
    ".hidden ebb_thread",
    ".type ebb_thread, @object",
    ".size ebb_thread, 8",
    "ebb_thread:",
    ".zero 8",
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
            "mov {word}, qword ptr fs:[{at}]",
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
            "mov qword ptr fs:[{at}], {word}",
            at = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags),
        );
    }
}
