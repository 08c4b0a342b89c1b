//! The two sequences that nearly every allocation and every free consists of.

use core::arch::{asm, naked_asm};

use super::{FIRST, POP, PUSH, SIZES, SLICE_SHIFT, SLICES, TAGS, descriptor, restart};
use crate::config::MIN_ALIGN;

/// Where [`alloc`] goes on when it cannot answer.
pub(crate) trait Slow {
    /// The size has no class of the fine ones, or there are no sequences.
    extern "C" fn other(size: usize) -> *mut u8;

    /// This CPU's sheaf of the size's class is empty.
    extern "C" fn empty(class: usize) -> *mut u8;
}

/// A block of at least `size` bytes from this CPU's sheaf, or what the slow path answers. Of no bytes too: class 0 never has any.
///
/// Written as a whole, since the language has no way yet to leave a sequence by a jump and with a result: each allocation would
/// test twice whether it has an object.
#[unsafe(naked)]
pub(crate) extern "C" fn alloc<S: Slow>(size: usize) -> *mut u8 {
    naked_asm!(
        "cmp rdi, qword ptr [rip + ebb_hot + {sizes}]",
        "jae {other}",
        "add rdi, {align} - 1",
        "shr rdi, {shift}",
        descriptor!(),
        "66:",
        "mov rax, qword ptr [rip + ebb_hot]",
        "lea rcx, [rip + 77b]",
        "mov qword ptr fs:[rax + 8], rcx",
        "22:",
        "movsxd rcx, dword ptr fs:[rax + 4]",
        "mov rdx, qword ptr [rip + ebb_hot + {pop}]",
        "mov rdx, qword ptr [rdx + 8*rcx]",
        "mov rcx, qword ptr [rdx + 8*rdi]",
        "mov rax, qword ptr [rcx]",
        "test rax, rax",
        "je {empty}",
        "sub qword ptr [rdx + 8*rdi], 8",
        "33:",
        "ret",
        restart!(),
        other = sym S::other,
        empty = sym S::empty,
        sizes = const SIZES,
        pop = const POP,
        align = const MIN_ALIGN,
        shift = const MIN_ALIGN.trailing_zeros(),
    );
}

/// Puts an object into this CPU's sheaf for its tag; false when that is full, has the object on top already, or is not to
/// be used here, and for whatever else is not such an object.
#[inline(always)]
pub(crate) fn free(object: usize) -> bool {
    // SAFETY: a sequence as in the head of the module: the tag is inside the CPU's table, since it is one that was set; the
    // slot above the top belongs to the sheaf, since the end was checked; and the only other store is to this CPU's word.
    unsafe {
        asm!(
            "mov {at}, {object}",
            "sub {at}, qword ptr [rip + ebb_hot + {first}]",
            "shr {at}, {shift}",
            "cmp {at}, qword ptr [rip + ebb_hot + {slices}]",
            "jae {fail}",
            "mov {tag}, qword ptr [rip + ebb_hot + {tags}]",
            "movzx {tag:e}, word ptr [{tag} + 2*{at}]",
            descriptor!(),
            "66:",
            "mov {at}, qword ptr [rip + ebb_hot]",
            "lea {word}, [rip + 77b]",
            "mov qword ptr fs:[{at} + 8], {word}",
            "22:",
            "movsxd {at}, dword ptr fs:[{at} + 4]",
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
            tag = out(reg) _,
            word = out(reg) _,
            object = in(reg) object,
            first = const FIRST,
            slices = const SLICES,
            shift = const SLICE_SHIFT,
            tags = const TAGS,
            push = const PUSH,
            fail = label { return false },
            options(nostack),
        );
    }
    true
}
