//! What a C program can do in the last moment before an allocation fails.

use std::ffi::{c_char, c_int, c_void};

use crate::handle::{Context, EbbShrinker, hand_out_named};

/// Frees what it can, in any way, when everything else was tried; gives how many bytes that were. `lacking` is how many
/// bytes the request lacks, or 0 when nobody knows.
pub type EbbLastChance =
    Option<unsafe extern "C" fn(context: *mut c_void, lacking: usize) -> usize>;

/// Registers a last chance: `free` is called before an allocation fails, when all shrinkers have given what they had. If it
/// says that it freed anything the allocation is tried once more. It runs like the callbacks of a shrinker.
///
/// Gives 0, or EINVAL when the name or the function is missing or the name is not UTF-8, or ENOMEM. `*out` goes to
/// `ebb_shrinker_unregister` or `ebb_shrinker_retire`; on failure it is as it was.
///
/// # Safety
///
/// `name` is NULL or a C string; `out` may be written. `free` may be called with the context by any thread until it is
/// unregistered.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(4))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_last_chance_register(
    name: *const c_char,
    free: EbbLastChance,
    context: *mut c_void,
    out: *mut *mut EbbShrinker,
) -> c_int {
    let register =
        |name: &str, free: unsafe extern "C" fn(*mut c_void, usize) -> usize, context: Context| {
            let call = move |lacking| {
                // SAFETY: the promise made at registration.
                unsafe { free(context.get(), lacking) }
            };
            ebb::on_last_chance(name, call)
        };
    // SAFETY: the caller's clause.
    unsafe { hand_out_named(name, free, context, out, register) }
}
