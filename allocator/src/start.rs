//! Starting: at the first allocation, and again, for what needs the C library to be ready, before `main`.
//!
//! The first allocation may come from the loader or another library's constructor. It needs the machine and the tables
//! only. The environment and the fork handlers are seen to by a constructor, or by whoever calls
//! [`init_from_environment`] earlier.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::bytes;
use crate::cache_debug;
use crate::console;
use crate::container::memory_limit;
use crate::fork;
use crate::keep;
use crate::limits;
use crate::node;
use crate::os::{self, NodeRules};
use crate::report;
use crate::soft::{self, SoftLimit};
use crate::span_map;
use crate::sysfs::Sysfs;
use crate::tables;
use crate::topology::{self, NumaPolicy, Topology};
use crate::torture;
use crate::write;

/// Whether the tables are there.
static STARTED: AtomicBool = AtomicBool::new(false);
/// Whether the environment was read.
static READ: AtomicBool = AtomicBool::new(false);

/// Makes the allocator ready. False when there is no memory for its tables.
pub(crate) fn ensure() -> bool {
    // Acquire: pairs with the Release below; the tables are seen.
    STARTED.load(Ordering::Acquire) || start()
}

#[cold]
fn start() -> bool {
    let _starting = tables::STARTING.lock();
    // Relaxed: under the lock.
    if STARTED.load(Ordering::Relaxed) {
        return true;
    }
    // SAFETY: whoever uses nodes has got memory, and there was none yet. A fork only takes and gives back their locks, while it
    // holds ours.
    unsafe { node::prepare() };
    // SAFETY: as above.
    unsafe { span_map::prepare() };
    if !topology::set(read_topology()) {
        return false;
    }
    let fallback = is_set(os::environment(c"EBB_NO_RSEQ"));
    if !tables::start(fallback) {
        return false;
    }
    if let Some(value) = os::environment(c"EBB_CACHE_DEBUG") {
        cache_debug::read(value);
    }
    // Release: pairs with the Acquire in `ensure`.
    STARTED.store(true, Ordering::Release);
    true
}

fn read_topology() -> Topology {
    let sysfs = os::environment(c"EBB_SYSFS");
    // What the system allows says nothing about a made-up machine.
    let rules = match sysfs {
        Some(_) => NodeRules::NONE,
        None => os::node_rules(),
    };
    let policy = os::environment(c"EBB_NUMA").and_then(|value| match value.to_bytes() {
        b"local" => Some(NumaPolicy::Local),
        b"interleave" => Some(NumaPolicy::Interleave),
        b"off" => Some(NumaPolicy::Off),
        b"" => None,
        _ => {
            os::say(b"ebbmalloc: EBB_NUMA: accepted: local, interleave, off\n");
            None
        }
    });
    Topology::read(sysfs, &rules, policy)
}

/// Reads the environment, once; further calls do nothing. Happens by itself before `main`.
///
/// - `EBB_BUDGET=256M`: the budget, as [`set_budget`](crate::set_budget) sets it: bytes, or with K, M, G, T, or a
///   percentage of what the process may use, see [`memory_limit`]. What cannot be read is said in one line on standard
///   error, and there is no budget.
/// - `EBB_SOFT_LIMIT=90%`: the soft limit, as [`set_soft_limit`](crate::set_soft_limit) sets it: a percentage of the budget, or
///   bytes. What cannot be read is said in one line on standard error, and there is none.
/// - `EBB_NODE_BUDGET=0:512M,1:50%`: budgets of NUMA nodes, by the kernel's numbers, as
///   [`set_node_budget`](crate::set_node_budget) sets them; a percentage is of the node's memory. What cannot be read, or
///   is no node of this process, is said in one line on standard error, and there is no node budget at all.
/// - `EBB_KEEP=64M`: how much of what was freed is kept for reuse, as [`set_keep`](crate::set_keep) sets it, written like a
///   budget. What cannot be read is said in one line on standard error, and changes nothing.
/// - `EBB_REPORTS=0`: nothing is written to standard error when an allocation fails, see [`set_reports`](crate::set_reports).
/// - `EBB_TORTURE=reclaim:1/100,fail:1/1000,delay:1/500,seed:7`: trouble on purpose, for tests: one in so many of the
///   allocations on the slow path reclaims without need, has its first attempt fail, or is late. Without a seed one is
///   chosen, and said in one line.
/// - `EBB_STATS=1`: writes the statistics to standard error when the process exits, if that is still open then.
/// - `EBB_CONTROL=/run/user/1000/ebb-%p`: a Unix socket at which a thread of the allocator's own, started for it, obeys
///   commands: the statistics, the budget, a purge, and shrinkers scanned by hand. One command in a line, the answer is text
///   and an empty line; `help` lists them. `%p` stands for the process's number. **Who can open the socket can change the
///   budget**: it is made for this user alone (mode 0600). One that an ended process of this user left behind is
///   replaced, and it is removed at exit. Where the path is taken otherwise, or no socket can be made, that is said in one
///   line on standard error, and there is none. A forked child has none and leaves its parent's alone; a program that it
///   executes reads the variable again.
///
/// Read even earlier, at the first allocation:
///
/// - `EBB_NUMA=local`, `interleave` or `off`: what is done about nodes, see [`NumaPolicy`]. Unless set, what the process
///   was told by its memory policy (`numactl`), or else `local`.
/// - `EBB_CACHE_DEBUG=FZPU,pages`: the object caches of these names are watched, see [`CacheDebug`](crate::CacheDebug), or
///   without a name all are. `FZ,pages,inode*;-,dentry;F`: each block has flags (none written are all, `-` is none) and names,
///   or the beginning of one and a `*`; the first block with the cache's name counts, or else the last without names, as in
///   the kernel's `slab_debug=`. What cannot be used is said in one line on standard error, and none is watched.
/// - `EBB_NO_RSEQ=1` (no restartable sequences) and `EBB_SYSFS=DIRECTORY` (another
///   description of the machine), both for tests.
///
/// In set-user-id programs the environment is ignored.
pub fn init_from_environment() {
    // Without memory now, the tables are made at a later allocation; the environment counts all the same.
    let _ = ensure();
    // Relaxed: nothing is published by it.
    if READ.swap(true, Ordering::Relaxed) {
        return;
    }
    fork::register();
    if let Some(value) = os::environment(c"EBB_BUDGET") {
        read_budget(value);
    }
    if let Some(value) = os::environment(c"EBB_SOFT_LIMIT") {
        read_soft_limit(value);
    }
    if let Some(value) = os::environment(c"EBB_NODE_BUDGET") {
        read_node_budgets(value);
    }
    if let Some(value) = os::environment(c"EBB_KEEP") {
        read_keep(value);
    }
    if let Some(value) = os::environment(c"EBB_TORTURE") {
        read_torture(value);
    }
    if os::environment(c"EBB_REPORTS") == Some(c"0") {
        report::set_reports(false);
    }
    if is_set(os::environment(c"EBB_STATS")) {
        os::at_exit(write::write_at_exit);
    }
    // Last: what it tells of is set by now.
    if let Some(path) = os::environment(c"EBB_CONTROL") {
        console::start(path);
    }
}

fn is_set(value: Option<&CStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != c"0")
}

fn read_budget(value: &CStr) {
    let text = value.to_str().unwrap_or("(not UTF-8)");
    if text.is_empty() {
        return;
    }
    match bytes::parse(text, memory_limit) {
        Some(bytes) => {
            limits::set(Some(bytes));
            soft::arm();
        }
        None => os::Line::new(format_args!(
            "ebbmalloc: EBB_BUDGET: cannot read {text:?}; accepted: {}; no budget is set\n",
            bytes::ACCEPTED
        ))
        .write(),
    }
}

fn read_soft_limit(value: &CStr) {
    let text = value.to_str().unwrap_or("(not UTF-8)");
    let percent = text.trim_ascii().strip_suffix('%');
    let limit = match percent {
        None if text.is_empty() => return,
        None => bytes::parse(text, || 0).map(SoftLimit::Bytes),
        Some(percent) => percent
            .parse()
            .ok()
            .filter(|percent| (1..=100).contains(percent))
            .map(SoftLimit::Percent),
    };
    match limit {
        Some(limit) => {
            limits::set_soft(limit.form());
            soft::arm();
        }
        None => os::Line::new(format_args!(
            "ebbmalloc: EBB_SOFT_LIMIT: cannot read {text:?}; accepted: bytes as 268435456, 256K, 256M, 2G, 1T, or a part \
             of the budget as 90%; no soft limit is set\n"
        ))
        .write(),
    }
}

fn read_keep(value: &CStr) {
    let text = value.to_str().unwrap_or("(not UTF-8)");
    let bytes = match text {
        "" => return,
        "0" => Some(0),
        _ => bytes::parse(text, memory_limit),
    };
    match bytes {
        Some(bytes) => keep::set_keep(bytes),
        None => os::Line::new(format_args!(
            "ebbmalloc: EBB_KEEP: cannot read {text:?}; accepted: 0, {}; nothing is changed\n",
            bytes::ACCEPTED
        ))
        .write(),
    }
}

fn read_node_budgets(value: &CStr) {
    let text = value.to_str().unwrap_or("(not UTF-8)");
    let parts = || text.split(',').filter(|_| !text.is_empty());
    // All, before any counts.
    if let Some(wrong) = parts().find(|part| node_budget(part).is_none()) {
        os::Line::new(format_args!(
            "ebbmalloc: EBB_NODE_BUDGET: cannot use {wrong:?}; accepted: NODE:BYTES,..., the nodes being those with \
             memory for this process; {}; no node budget is set\n",
            bytes::ACCEPTED
        ))
        .write();
        return;
    }
    for (number, bytes) in parts().filter_map(node_budget) {
        node::node(number).arena.account.set(Some(bytes));
    }
}

/// The node and the bytes that `NODE:BYTES` says.
fn node_budget(part: &str) -> Option<(usize, usize)> {
    let (id, bytes) = part.split_once(':')?;
    let id = id.trim_ascii().parse().ok()?;
    let number = topology::machine().node_with(id)?;
    let memory = Sysfs::new(os::environment(c"EBB_SYSFS")).node_memory(id);
    Some((number, bytes::parse(bytes, || memory)?))
}

fn read_torture(value: &CStr) {
    let text = value.to_str().unwrap_or("(not UTF-8)");
    if text.is_empty() {
        return;
    }
    let Some(settings) = torture::parse(text) else {
        os::Line::new(format_args!(
            "ebbmalloc: EBB_TORTURE: cannot read {text:?}; accepted: {}; there is none\n",
            torture::ACCEPTED
        ))
        .write();
        return;
    };
    let seed = settings.seed.unwrap_or_else(|| {
        let seed = os::now_ns();
        os::Line::new(format_args!("ebbmalloc: EBB_TORTURE: seed:{seed}\n")).write();
        seed
    });
    torture::set(&settings, seed);
}

/// The loader's list of constructors has this entry.
// INVARIANT: the section holds addresses of functions in the C calling convention and nothing else.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    init_from_environment();
}
