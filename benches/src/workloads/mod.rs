//! The workloads: small programs on the global allocator, whichever it is.
//!
//! The classic ones are written anew from their published descriptions; the others are what Rust programs do all day.
//! The amount of work is fixed and shared out among the threads, so that time is the figure. Each gives a checksum of
//! what it read back from its blocks, the same for every allocator and every run; the blocks' ends are checked on
//! the way.

mod alloc_test;
mod boxes;
mod btree_map;
mod cache_scratch;
mod cache_thrash;
mod channels;
mod glibc_simple;
mod glibc_thread;
mod growth;
mod hash_map;
mod json;
mod larson;
mod load;
mod malloc_large;
mod mstress;
mod piece;
mod regexes;
mod sh6;
mod sh8;
mod sleepers;
mod strings;
mod vectors;
mod xmalloc;

pub use load::Load;

/// One workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// What it stresses, in a line.
    pub stresses: &'static str,
    /// With how many threads it is measured.
    pub threads: &'static [usize],
    /// Does the work and gives the checksum.
    pub run: fn(&Load) -> u64,
}

/// The thread counts of what any Rust program does.
const ANY: &[usize] = &[1, 4, 64];

/// All workloads, the classic ones first.
pub const WORKLOADS: &[Workload] = &[
    larson::WORKLOAD,
    xmalloc::WORKLOAD,
    cache_scratch::WORKLOAD,
    cache_thrash::WORKLOAD,
    sh6::WORKLOAD,
    sh8::WORKLOAD,
    mstress::WORKLOAD,
    alloc_test::WORKLOAD,
    glibc_simple::WORKLOAD,
    glibc_thread::WORKLOAD,
    malloc_large::WORKLOAD,
    vectors::WORKLOAD,
    strings::WORKLOAD,
    hash_map::WORKLOAD,
    btree_map::WORKLOAD,
    boxes::LIFO,
    boxes::FIFO,
    boxes::RANDOM,
    channels::WORKLOAD,
    growth::WORKLOAD,
    json::WORKLOAD,
    regexes::WORKLOAD,
    sleepers::WORKLOAD,
];

/// The workload of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail when `sh8` did not free what was left in the letterboxes at the end.
    #[test]
    fn checksums_depend_on_nothing_but_the_work() {
        for workload in WORKLOADS {
            for threads in [1, 3] {
                let load = Load::new(threads, 1);
                let first = (workload.run)(&load);
                let again = (workload.run)(&load);
                assert_eq!(first, again, "{} with {threads} threads", workload.name);
                assert_ne!(first, 0, "{}", workload.name);
            }
        }
    }
}
