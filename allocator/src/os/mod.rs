//! The platform: everything that differs between systems and architectures, and every system call.
//!
//! Nothing here allocates or panics. [`percpu`] is the fast path's restartable sequences where there are any (x86-64
//! with glibc); elsewhere its operations always fail and the callers take their fallback.

use core::sync::atomic::AtomicUsize;

use crate::config::{MAX_CPUS, QUIET_WORD, ROW};

mod cancel;
mod discard;
mod linux;
mod memory;
mod numa;
mod socket;
mod text;
mod thread;

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
#[path = "percpu_x86_64/mod.rs"]
pub(crate) mod percpu;

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
#[path = "percpu_none.rs"]
pub(crate) mod percpu;

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
#[path = "thread_word_x86_64.rs"]
mod thread_word;

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
#[path = "thread_word_std.rs"]
mod thread_word;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("ebbmalloc runs on 64-bit Linux");

/// Addresses of rows of words, one for each number of a CPU, and in front of that of CPU 0 [`NO_CPU`] for threads that are on
/// no CPU. See [`QUIET`] for the place of the first ones.
#[repr(C, align(1024))]
pub(crate) struct Rows {
    before: [u8; QUIET],
    pub(crate) entries: [AtomicUsize; NO_CPU + MAX_CPUS],
}

/// See [`Rows`].
pub(crate) const NO_CPU: usize = 2;

/// Where in a page that lies what every operation reads, counted from where a row begins there: where no word ever changes.
/// For a processor compares the low 12 bits of addresses first: a load from a page's byte 8 seems to be of a word that was
/// stored to byte 8 of another page, and waits for that store, which waits in turn for all before it, such as the program's
/// to new objects. (A single thread that fills new objects was 1.6 times slower.)
const QUIET: usize = QUIET_WORD * size_of::<usize>();

const _: () = assert!(ROW * size_of::<usize>() == align_of::<Rows>());

/// The addresses whose tags are in one piece (`window`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The first address.
    pub(crate) first: usize,
    /// How many slices there are from there on.
    pub(crate) slices: usize,
    /// The address of the first one's tag: 16 bits each.
    pub(crate) tags: usize,
}

impl Window {
    /// None at all.
    pub(crate) const NONE: Self = Self {
        first: 0,
        slices: 0,
        tags: 0,
    };
}

impl Rows {
    pub(crate) const fn new() -> Self {
        Self {
            before: [0; QUIET],
            entries: [const { AtomicUsize::new(0) }; NO_CPU + MAX_CPUS],
        }
    }
}

pub(crate) use cancel::Uncancelled;
pub(crate) use discard::{Ranges, discard};
pub(crate) use linux::{
    KeepErrno, Path, at_exit, at_fork, cpu, environment, fence_all_cpus, fence_cpu, now_ns,
    physical_memory, prepare_fences, process_id, read_text, sleep_us, thread_id, yield_now,
};
pub(crate) use memory::{
    advise_huge, advise_small, let_write, map, map_aligned, remap, reserve, thin_out, unmap,
};
pub(crate) use numa::{
    NODE_IDS, NodeRules, NodeSet, bring, interleave, node_rules, place_anywhere, prefer,
    prefer_within,
};
pub(crate) use socket::{Listener, Socket, wait_for};
pub(crate) use text::{Line, abort, say};
pub(crate) use thread::{CpuSet, affinity, is_at_work, run_on, spawn, wait, wake};
pub(crate) use thread_word::{set_thread_word, thread_word};
