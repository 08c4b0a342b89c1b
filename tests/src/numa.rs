//! What NUMA tests need from the kernel: which nodes there are, where a thread runs and where a page lies.

use std::fs;
use std::io;
use std::thread;

use ebbmalloc::raw;

/// Has the calling thread run on one CPU only.
///
/// # Panics
/// When the system refuses.
pub fn pin(cpu: usize) {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: changes the set; the number is below its size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the set.
    let failed = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(failed, 0, "CPU {cpu}: {}", io::Error::last_os_error());
}

/// The CPUs that the calling thread may run on.
///
/// # Panics
/// When the system does not say.
#[must_use]
pub fn affinity() -> Vec<usize> {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the set.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    // SAFETY: reads the set; the number is below its size.
    let has = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (0..libc::CPU_SETSIZE as usize).filter(has).collect()
}

/// Runs `f` in a thread of its own on one CPU.
///
/// # Panics
/// When `f` does.
pub fn on_cpu<T: Send>(cpu: usize, f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(cpu);
            f()
        });
        thread.join().expect("the thread panicked")
    })
}

/// The nodes that the pages of a block lie on, each page once, in order; `None` for a page that is not backed.
///
/// # Panics
/// When the system does not say.
#[must_use]
pub fn pages(block: *const u8, len: usize) -> Vec<Option<u32>> {
    let first = block.addr() / 4096;
    let last = (block.addr() + len.max(1) - 1) / 4096;
    let pages: Vec<usize> = (first..=last).map(|page| page * 4096).collect();
    let mut status = vec![0_i32; pages.len()];
    // SAFETY: reads and writes that many entries.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            status.as_mut_ptr(),
            0,
        )
    };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    status
        .iter()
        .map(|node| u32::try_from(*node).ok())
        .collect()
}

/// Sets this thread's memory policy, which the programs that it starts have too. Only the first 64 nodes.
///
/// # Panics
/// When the system refuses.
pub fn set_policy(mode: i32, nodes: &[u32]) {
    let set: u64 = nodes.iter().map(|node| 1 << node).sum();
    // SAFETY: reads the set, which has that many bits.
    let failed = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, &raw const set, 64) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
}

/// The machine as the kernel describes it.
#[derive(Debug)]
pub struct Nodes {
    /// Those with memory.
    pub with_memory: Vec<u32>,
    /// Each CPU's node.
    pub of_cpu: Vec<u32>,
    /// All that there are, and how far they are from each other.
    online: Vec<u32>,
    distances: Vec<Vec<u32>>,
}

impl Nodes {
    /// Reads it.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn read() -> Self {
        let node = |name: &str| text(&format!("node/{name}"));
        let online = list(&node("online"));
        let mut of_cpu = vec![0; list(&text("cpu/online")).len()];
        let mut distances = Vec::new();
        for id in &online {
            for cpu in list(&node(&format!("node{id}/cpulist"))) {
                of_cpu[cpu as usize] = *id;
            }
            let numbers = node(&format!("node{id}/distance"));
            distances.push(
                numbers
                    .split(' ')
                    .map(|word| word.parse().unwrap())
                    .collect(),
            );
        }
        Self {
            with_memory: list(&node("has_memory")),
            of_cpu,
            online,
            distances,
        }
    }

    /// How far two nodes are from each other.
    #[must_use]
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        let index = |id| self.online.iter().position(|online| *online == id);
        let (from, to) = (index(from).unwrap_or(0), index(to).unwrap_or(0));
        self.distances[from][to]
    }

    /// All nodes with memory, nearest to `from` first; those equally near by their numbers.
    #[must_use]
    pub fn by_distance(&self, from: u32) -> Vec<u32> {
        let mut nodes = self.with_memory.clone();
        nodes.sort_by_key(|node| (self.distance(from, *node), *node));
        nodes
    }

    /// Where blocks are to lie that are allocated on a CPU.
    #[must_use]
    pub fn home(&self, cpu: usize) -> u32 {
        self.by_distance(self.of_cpu[cpu])[0]
    }

    /// The CPUs.
    pub fn cpus(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.of_cpu.len()
    }

    /// A node's memory in bytes: all of it, and what is free.
    ///
    /// # Panics
    /// When the kernel does not say.
    #[must_use]
    pub fn memory(node: u32) -> (usize, usize) {
        let text = text(&format!("node/node{node}/meminfo"));
        let figure = |name: &str| -> usize {
            let line = text.lines().find(|line| line.contains(name));
            let kib = line.and_then(|line| line.split_whitespace().rev().nth(1));
            kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) << 10
        };
        (figure("MemTotal:"), figure("MemFree:"))
    }
}

fn text(name: &str) -> String {
    let path = format!("/sys/devices/system/{name}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().to_owned()
}

/// The numbers of a list like `0-3,8`.
fn list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|end| end.parse::<u32>().unwrap());
        numbers.extend(first..=last);
    }
    numbers
}

/// A block of the allocator under test, every page touched; freed on drop.
#[derive(Debug)]
pub struct Block {
    at: *mut u8,
    size: usize,
}

// SAFETY: a block belongs to whoever has this.
unsafe impl Send for Block {}

impl Block {
    /// One from `alloc`, which gives at least `size` bytes or null.
    pub fn from(size: usize, alloc: impl FnOnce(usize) -> *mut u8) -> Option<Self> {
        let block = Self {
            at: alloc(size),
            size,
        };
        if block.at.is_null() {
            std::mem::forget(block);
            return None;
        }
        for offset in (0..size).step_by(4096).chain([size - 1]) {
            let byte = block.at.wrapping_add(offset);
            // SAFETY: inside a new block.
            unsafe { byte.write(1) };
        }
        Some(block)
    }

    /// One as usual.
    #[must_use]
    pub fn new(size: usize) -> Option<Self> {
        Self::from(size, raw::alloc)
    }

    /// One on a node and nowhere else.
    #[must_use]
    pub fn on_node(size: usize, node: u32) -> Option<Self> {
        Self::from(size, |size| raw::alloc_on_node(size, 16, node))
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> usize {
        self.at.addr()
    }

    /// The node that it belongs to, as the allocator says.
    ///
    /// # Panics
    /// When it belongs to none.
    #[must_use]
    pub fn node(&self) -> u32 {
        raw::node_of(self.at).expect("a block of some node")
    }

    /// Whether it belongs to a node and all its pages lie there.
    #[must_use]
    pub fn is_on(&self, node: u32) -> bool {
        self.node() == node && self.pages().iter().all(|page| *page == Some(node))
    }

    /// The nodes its pages lie on.
    #[must_use]
    pub fn pages(&self) -> Vec<Option<u32>> {
        pages(self.at, self.size)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: ours, used no more.
        unsafe { raw::free(self.at) };
    }
}
