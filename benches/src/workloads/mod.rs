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
mod heap;
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

const fn workload(
    name: &'static str,
    stresses: &'static str,
    threads: &'static [usize],
    run: fn(&Load) -> u64,
) -> Workload {
    Workload {
        name,
        stresses,
        threads,
        run,
    }
}

/// The thread counts of what any Rust program does.
const ANY: &[usize] = &[1, 4, 64];

const CLASSIC: &[Workload] = &[
    workload(
        "larson",
        "a server's threads that end and leave their blocks to others",
        ANY,
        larson::run,
    ),
    workload(
        "xmalloc",
        "producers and consumers: every block is freed by another thread",
        &[2, 8, 64],
        xmalloc::run,
    ),
    workload(
        "cache-scratch",
        "passive false sharing: neighbours handed to different threads",
        &[1, 4],
        cache_scratch::run,
    ),
    workload(
        "cache-thrash",
        "active false sharing: neighbours allocated by different threads",
        &[1, 4],
        cache_thrash::run,
    ),
    workload(
        "sh6",
        "bulk: thousands of blocks filled, then freed in other orders",
        &[1, 4],
        sh6::run,
    ),
    workload(
        "sh8",
        "bulk, half of it freed by the neighbour thread",
        &[2, 8],
        sh8::run,
    ),
    workload(
        "mstress",
        "mixed lives and sizes, exchanged between threads that come and go",
        &[1, 4, 16],
        mstress::run,
    ),
    workload(
        "alloc-test",
        "random replacement over a large set of realistic sizes",
        &[1, 4],
        alloc_test::run,
    ),
    workload(
        "glibc-simple",
        "short rows of one size, allocated and freed in order",
        &[1],
        glibc_simple::run,
    ),
    workload(
        "glibc-thread",
        "random replacement over a small set for each thread",
        &[1, 4, 16],
        glibc_thread::run,
    ),
    workload(
        "malloc-large",
        "blocks of 5 to 25 MiB",
        &[1],
        malloc_large::run,
    ),
];

const RUST: &[Workload] = &[
    workload(
        "vec",
        "vectors that grow by pushing, of all final lengths",
        ANY,
        vectors::run,
    ),
    workload(
        "string",
        "text split, formatted and joined: tiny blocks",
        ANY,
        strings::run,
    ),
    workload(
        "hash-map",
        "hash maps with owned keys under churn: large tables, small keys",
        ANY,
        hash_map::run,
    ),
    workload(
        "btree-map",
        "ordered maps under churn: nodes of a few hundred bytes",
        ANY,
        btree_map::run,
    ),
    workload(
        "boxes-lifo",
        "boxes dropped in the opposite order",
        ANY,
        boxes::lifo,
    ),
    workload(
        "boxes-fifo",
        "boxes dropped in the order they came",
        ANY,
        boxes::fifo,
    ),
    workload(
        "boxes-random",
        "boxes dropped in random order",
        ANY,
        boxes::random,
    ),
    workload(
        "channel",
        "owned messages through a channel between threads",
        &[2, 8, 64],
        channels::run,
    ),
    workload(
        "growth",
        "buffers that grow to megabytes side by side",
        &[1, 4],
        growth::run,
    ),
    workload(
        "json",
        "JSON parsed, changed and written (serde_json)",
        ANY,
        json::run,
    ),
    workload(
        "regex",
        "expressions compiled and searched for (regex)",
        ANY,
        regexes::run,
    ),
];

const SLEEPERS: &[Workload] = &[workload(
    "sleepers",
    "threads that allocate a little and sleep: look at the RSS",
    &[10_000],
    sleepers::run,
)];

/// A live heap of any size on any number of threads; measured by itself, over many of both.
pub const HEAP: Workload = workload(
    "heap",
    "a live heap of a given size under random replacement",
    &[1],
    heap::run,
);

/// All workloads but [`HEAP`], in groups that have means of their own.
pub const GROUPS: &[(&str, &[Workload])] = &[
    ("classic workloads", CLASSIC),
    ("Rust workloads", RUST),
    ("sleeping threads", SLEEPERS),
];

/// All workloads but [`HEAP`].
pub fn all() -> impl Iterator<Item = &'static Workload> {
    GROUPS.iter().flat_map(|(_, workloads)| workloads.iter())
}

/// The workload of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Workload> {
    all().chain([&HEAP]).find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail when `sh8` did not free what was left in the letterboxes at the end.
    #[test]
    fn checksums_depend_on_nothing_but_the_work() {
        for workload in all().chain([&HEAP]) {
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
