//! What nearly every free consists of, and every allocation from C. (Those from Rust, whose class the compiler often knows,
//! begin with `words::pop`.)

use core::arch::asm;

use super::{FIRST, PUSH, SLICES, TAGS};
use crate::config::{MIN_ALIGN, SLICE_SHIFT};
use crate::{descriptor, restart};

/// Defines a function of a size that gives a block from this CPU's sheaf for that, or what the slow path answers
/// (`raw::entry`). For no bytes too: class 0 never has any.
///
/// Written as a whole, since the language has no way yet to leave a sequence by a jump and with a result: each allocation
/// would test twice whether it has an object. And a macro, since C's `malloc` would be a jump to such a function.
#[doc(hidden)]
#[macro_export]
macro_rules! alloc_function {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident -> $block:ty) => {
        $(#[$attribute])*
        #[unsafe(naked)]
        $visibility extern "C" fn $name(size: usize) -> $block {
            ::core::arch::naked_asm!(
                "cmp rdi, qword ptr [rip + ebb_hot + {sizes}]",
                "jae {other}",
                "add rdi, 15",
                "shr rdi, 4",
                $crate::descriptor!(),
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
                $crate::restart!(),
                other = sym $crate::raw::entry::other,
                empty = sym $crate::raw::entry::empty,
                sizes = const $crate::raw::entry::SIZES,
                pop = const $crate::raw::entry::POP,
            )
        }
    };
}

const _: () = assert!(MIN_ALIGN == 16, "in `alloc_function`, too");

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
