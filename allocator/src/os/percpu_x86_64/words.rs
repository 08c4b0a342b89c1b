//! Restartable sequences for those who have a class or a tag already: the slow path, and allocations from Rust. Each can be
//! called at any time.

use core::arch::asm;

use super::{POP, PUSH};
use crate::{descriptor, restart};

/// Takes an object of `class` from this CPU's sheaf; null when it has none, or this thread has no fast path.
#[inline(always)]
pub(crate) fn pop(class: usize) -> *mut u8 {
    let object: *mut u8;
    // SAFETY: a sequence as in the head: `class` is inside the row, the row's words are tops of sheaves, and the
    // only store is to this CPU's word.
    unsafe {
        asm!(
            "66:",
            "mov {object}, qword ptr [rip + ebb_hot]",
            "test {object}, {object}",
            "je 33f",
            descriptor!(),
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{object} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{object} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + {pop}]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "mov {at}, qword ptr [{word} + 8*{class}]",
            "mov {object}, qword ptr [{at}]",
            "test {object}, {object}",
            "je 33f",
            "sub {at}, 8",
            "mov qword ptr [{word} + 8*{class}], {at}",
            "33:",
            restart!(),
            at = out(reg) _,
            word = out(reg) _,
            object = out(reg) object,
            class = in(reg) class,
            pop = const POP,
            options(nostack),
        );
    }
    object
}

/// Puts an object into this CPU's sheaf for `tag`; false when that is full, has the object on top already, or is
/// not to be used here.
#[inline]
pub(crate) fn push(tag: usize, object: usize) -> bool {
    // SAFETY: as for `pop`; the slot above the top belongs to the sheaf, since the end was checked.
    unsafe {
        asm!(
            "mov {rseq}, qword ptr [rip + ebb_hot]",
            "test {rseq}, {rseq}",
            "je {fail}",
            descriptor!(),
            "66:",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{rseq} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{rseq} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + {push}]",
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
            restart!(),
            at = out(reg) _,
            word = out(reg) _,
            tag = in(reg) tag,
            push = const PUSH,
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
            descriptor!(),
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{top} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{top} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + {push}]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "mov {top}, qword ptr [{word} + 8*{tag}]",
            "33:",
            restart!(),
            at = out(reg) _,
            word = out(reg) _,
            top = out(reg) top,
            tag = in(reg) tag,
            push = const PUSH,
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
            descriptor!(),
            "66:",
            "lea {at}, [rip + 77b]",
            "mov qword ptr fs:[{rseq} + 8], {at}",
            "22:",
            "movsxd {at}, dword ptr fs:[{rseq} + 4]",
            "mov {word}, qword ptr [rip + ebb_hot + {push}]",
            "mov {word}, qword ptr [{word} + 8*{at}]",
            "cmp qword ptr [{word} + 8*{tag}], {expected}",
            "jne {fail}",
            "mov qword ptr [{word} + 8*{tag}], {new}",
            "33:",
            restart!(),
            at = out(reg) _,
            word = out(reg) _,
            tag = in(reg) tag,
            push = const PUSH,
            expected = in(reg) expected,
            new = in(reg) new,
            rseq = out(reg) _,
            fail = label { return false },
            options(nostack),
        );
    }
    true
}
