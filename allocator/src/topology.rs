//! The machine: how many CPUs there may be, and which NUMA node each belongs to.
//!
//! Read raw from sysfs, once. The directory can be another (`EBB_SYSFS`), so that tests run a made-up machine. What
//! cannot be read is one node.

use core::ffi::CStr;
use core::fmt::Write;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::config::{MAX_NODES, PAGE};
use crate::os;

/// CPUs that are told apart. CPUs beyond have no fast path.
pub(crate) const MAX_CPUS: usize = 1024;

/// Where the kernel describes the machine.
const SYSFS: &CStr = c"/sys/devices/system";

/// The machine, once it was looked at.
static MACHINE: AtomicPtr<Topology> = AtomicPtr::new(ptr::null_mut());

/// The machine we run on: one CPU and one node until [`set`].
pub(crate) fn machine() -> &'static Topology {
    static SINGLE: Topology = Topology::single();
    // Acquire: pairs with the Release in `set`.
    let machine = MACHINE.load(Ordering::Acquire);
    // SAFETY: null, or what `set` was given for ever.
    unsafe { machine.as_ref() }.unwrap_or(&SINGLE)
}

/// Makes `topology` the machine we run on. False when there is no memory for it.
pub(crate) fn set(topology: Topology) -> bool {
    let Some(room) = os::map(size_of::<Topology>().next_multiple_of(PAGE)) else {
        return false;
    };
    let room = room.cast::<Topology>().as_ptr();
    // SAFETY: fresh memory, large enough, aligned to the page.
    unsafe { room.write(topology) };
    // Release: pairs with the Acquire in `machine`.
    MACHINE.store(room, Ordering::Release);
    true
}

/// What is known of the machine.
#[derive(Debug)]
pub(crate) struct Topology {
    /// CPU ids are below this.
    pub(crate) cpus: usize,
    /// Node ids are below this; at least 1.
    pub(crate) nodes: usize,
    /// The node of each CPU.
    node_of: [u8; MAX_CPUS],
}

impl Topology {
    /// One CPU, one node.
    pub(crate) const fn single() -> Self {
        Self {
            cpus: 1,
            nodes: 1,
            node_of: [0; MAX_CPUS],
        }
    }

    /// The machine that `sysfs` describes, or the kernel.
    pub(crate) fn read(sysfs: Option<&CStr>) -> Self {
        let root = sysfs.unwrap_or(SYSFS);
        let mut machine = Self::single();
        read_list(root, format_args!("cpu/possible"), &mut |cpu| {
            machine.cpus = machine.cpus.max(cpu + 1).min(MAX_CPUS);
        });
        let mut nodes = 1;
        read_list(root, format_args!("node/possible"), &mut |node| {
            nodes = nodes.max(node + 1).min(MAX_NODES);
        });
        for node in 0..nodes {
            read_list(root, format_args!("node/node{node}/cpulist"), &mut |cpu| {
                if let Some(slot) = machine.node_of.get_mut(cpu) {
                    *slot = node as u8;
                    machine.nodes = machine.nodes.max(node + 1);
                }
            });
        }
        machine
    }

    /// The node of a CPU.
    pub(crate) fn node_of(&self, cpu: usize) -> usize {
        self.node_of.get(cpu).map_or(0, |node| usize::from(*node))
    }
}

/// Calls `f` with every number in the kernel's list file `root/name`, like `0-3,8`.
fn read_list(root: &CStr, name: core::fmt::Arguments<'_>, f: &mut dyn FnMut(usize)) {
    let mut path = Path {
        bytes: [0; 512],
        len: 0,
    };
    let Ok(root) = root.to_str() else { return };
    if write!(path, "{root}/{name}").is_err() {
        return;
    }
    let Ok(path) = CStr::from_bytes_until_nul(&path.bytes) else {
        return;
    };
    let mut buffer = [0; 4096];
    let Some(text) = os::read_file(path, &mut buffer) else {
        return;
    };
    for part in text.trim_ascii().split(|byte| *byte == b',') {
        let mut ends = part.splitn(2, |byte| *byte == b'-').map(number);
        let Some(Some(first)) = ends.next() else {
            continue;
        };
        let last = ends.next().flatten().unwrap_or(first);
        (first..=last.min(first + MAX_CPUS)).for_each(&mut *f);
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// A path under construction; the last byte stays 0.
struct Path {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Path {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        let end = self.len + part.len();
        if end >= self.bytes.len() {
            return Err(core::fmt::Error);
        }
        self.bytes[self.len..end].copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    fn machine(files: &[(&str, &str)], check: impl FnOnce(Topology)) {
        let root = std::env::temp_dir().join(format!("ebb-sysfs-{}-{files:p}", std::process::id()));
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let c_path = CString::new(root.to_str().unwrap()).unwrap();
        check(Topology::read(Some(&c_path)));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn eight_nodes_with_sparse_ids() {
        let files = [
            ("cpu/possible", "0-63\n"),
            ("node/possible", "0-9\n"),
            ("node/node0/cpulist", "0-7,32-39\n"),
            ("node/node3/cpulist", "8-15\n"),
            ("node/node5/cpulist", "\n"),
            ("node/node9/cpulist", "16,18,20\n"),
        ];
        machine(&files, |machine| {
            assert_eq!((machine.cpus, machine.nodes), (64, 10));
            assert_eq!(
                [0, 39, 8, 15, 18].map(|cpu| machine.node_of(cpu)),
                [0, 0, 3, 3, 9]
            );
            assert_eq!(machine.node_of(17), 0, "nobody's CPU is node 0's");
            assert_eq!(machine.node_of(100_000), 0);
        });
    }

    #[test]
    fn rubbish_is_one_node() {
        let files = [
            ("cpu/possible", "zero to three"),
            ("node/possible", "-,5-,-9,"),
            ("node/node0/cpulist", "99999999999999999999"),
        ];
        machine(&files, |machine| {
            assert_eq!((machine.cpus, machine.nodes), (1, 1));
        });
        let nowhere = Topology::read(Some(c"/nonexistent"));
        assert_eq!((nowhere.cpus, nowhere.nodes), (1, 1));
    }

    #[test]
    fn this_machine_has_cpus() {
        let here = Topology::read(None);
        assert!(here.cpus >= std::thread::available_parallelism().unwrap().get());
        assert!(here.nodes >= 1);
    }
}
