//! A few words per thread, in static thread-local storage.
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
    ".size ebb_thread, 40",
    "ebb_thread:",
    ".zero 40",
    ".popsection",
);

/// How many words there are.
pub(crate) const THREAD_WORDS: usize = 5;

/// One of this thread's words; 0 at first.
#[inline]
pub(crate) fn thread_word(index: usize) -> usize {
    let word: usize;
    debug_assert!(index < THREAD_WORDS);
    // SAFETY: reads one of the thread's own words.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + ebb_thread@GOTTPOFF]",
            "mov {word}, qword ptr fs:[{at} + 8 * {index}]",
            at = out(reg) _,
            index = in(reg) index,
            word = out(reg) word,
            options(nostack, preserves_flags, readonly),
        );
    }
    word
}

/// Sets one of this thread's words.
#[inline]
pub(crate) fn set_thread_word(index: usize, word: usize) {
    debug_assert!(index < THREAD_WORDS);
    // SAFETY: writes one of the thread's own words.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + ebb_thread@GOTTPOFF]",
            "mov qword ptr fs:[{at} + 8 * {index}], {word}",
            at = out(reg) _,
            index = in(reg) index,
            word = in(reg) word,
            options(nostack, preserves_flags),
        );
    }
}
