//! A made-up machine of eight nodes and 64 CPUs, on whatever runs the tests (`EBB_SYSFS`).
//!
//! The two CPUs that the tests run on are on the nodes with the ids 17 and 40, so frees between them are frees between
//! nodes. With one CPU they find less.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;

use ebbmalloc::NodeStats;

use crate::c::scratch;
use crate::in_both_modes_with;
use crate::numa::Block;

/// The ids of the nodes, with gaps.
pub const IDS: [u32; 8] = [17, 18, 40, 41, 5, 6, 7, 250];

/// Writes the machine: eight CPUs per node but that CPU 1 is on the third; pairs of near nodes, odd distances otherwise.
fn machine() -> PathBuf {
    let root = scratch().join("eight-nodes");
    let write = |name: String, text: String| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text + "\n").unwrap();
    };
    let mut sorted = IDS;
    sorted.sort_unstable();
    let list = sorted.map(|id| id.to_string()).join(",");
    write("cpu/possible".into(), "0-63".into());
    write("node/online".into(), list.clone());
    write("node/has_memory".into(), list);
    for (index, id) in IDS.into_iter().enumerate() {
        let first = index * 8;
        let cpus = match index {
            0 => "0,2-7".to_owned(),
            2 => format!("1,{first}-{}", first + 7),
            _ => format!("{first}-{}", first + 7),
        };
        write(format!("node/node{id}/cpulist"), cpus);
        let memory = "Node 0 MemTotal:        1024000 kB\nNode 0 MemFree:          512000 kB";
        write(format!("node/node{id}/meminfo"), memory.into());
        let distances = sorted.map(|other| distance(id, other).to_string());
        write(format!("node/node{id}/distance"), distances.join(" "));
    }
    root
}

/// Nearest is the other of the pair; then the higher the number the nearer.
pub fn distance(from: u32, to: u32) -> u32 {
    let pair = |id: u32| IDS.iter().position(|known| *known == id).unwrap() / 2;
    match (from == to, pair(from) == pair(to)) {
        (true, _) => 10,
        (false, true) => 11,
        (false, false) => 254 - to % 200,
    }
}

/// The ids, nearest to `from` first.
pub fn by_distance(from: u32) -> Vec<u32> {
    let mut ids = IDS.to_vec();
    ids.sort_by_key(|id| distance(from, *id));
    ids
}

/// Where it is described.
pub fn described() -> String {
    // Once: a child that reads it must not meet a file half written.
    static MACHINE: LazyLock<PathBuf> = LazyLock::new(machine);
    let known = env::var_os("EBB_SYSFS").map(PathBuf::from);
    let root = known.unwrap_or_else(|| MACHINE.clone());
    root.to_str().unwrap().to_owned()
}

/// Runs the body of a test there.
pub fn on_it(name: &str, body: impl FnOnce()) {
    in_both_modes_with(name, ("EBB_SYSFS", &described()), body);
}

/// What the allocator says of a node.
///
/// # Panics
/// There is no such node.
pub fn figures(id: u32) -> NodeStats {
    let stats = ebbmalloc::stats();
    let mut known = stats.known_nodes().iter();
    *known.find(|node| node.node == u64::from(id)).unwrap()
}

/// So many blocks.
///
/// # Panics
/// There is no memory for them.
pub fn take(count: usize, size: usize) -> Vec<Block> {
    (0..count).map(|_| Block::new(size).unwrap()).collect()
}

/// A CPU beside CPU 0, and the id of its node.
pub fn other() -> (usize, u32) {
    let several = thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    if several { (1, 40) } else { (0, 17) }
}
