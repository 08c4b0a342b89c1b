//! The nodes and CPUs of this machine, and where pages lie.

use std::fs;
use std::io;

/// The nodes with memory, and the home of each CPU: its own node, or the nearest with memory.
#[derive(Debug)]
pub(crate) struct Machine {
    homes: Vec<(i32, Vec<usize>)>,
}

impl Machine {
    /// Reads it.
    pub(crate) fn read() -> io::Result<Self> {
        let root = "/sys/devices/system/node";
        let text = |name: &str| fs::read_to_string(format!("{root}/{name}"));
        let (online, with_memory) = (list(&text("online")?), list(&text("has_memory")?));
        let allowed = affinity()?;
        let mut homes: Vec<(i32, Vec<usize>)> = Vec::new();
        for node in &online {
            let distances = text(&format!("node{node}/distance"))?;
            let distances = distances.split_whitespace().map(str::parse::<u32>);
            let far = online
                .iter()
                .zip(distances.map(|it| it.unwrap_or(u32::MAX)));
            let near = far.filter(|(node, _)| with_memory.contains(node));
            let Some((home, _)) = near.min_by_key(|(_, distance)| *distance) else {
                continue;
            };
            let cpus = list(&text(&format!("node{node}/cpulist"))?).into_iter();
            let cpus = cpus.filter(|cpu| allowed.contains(cpu));
            match homes.iter_mut().find(|known| known.0 == *home as i32) {
                Some(known) => known.1.extend(cpus),
                None => homes.push((*home as i32, cpus.collect())),
            }
        }
        homes.retain(|home| !home.1.is_empty());
        Ok(Self { homes })
    }

    /// The nodes that are some CPU's home.
    pub(crate) fn homes(&self) -> Vec<i32> {
        self.homes.iter().map(|home| home.0).collect()
    }

    /// Where `threads` threads per node are to run, those of different nodes side by side: node and CPU.
    pub(crate) fn places(&self, threads: usize) -> Vec<(i32, usize)> {
        let turn = |turn: usize| {
            let place = move |(node, cpus): &(i32, Vec<usize>)| (*node, cpus[turn % cpus.len()]);
            self.homes.iter().map(place)
        };
        (0..threads).flat_map(turn).collect()
    }
}

/// The numbers of a list like `0-3,8`.
fn list(text: &str) -> Vec<usize> {
    let ends = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let parts = text.trim().split(',').filter_map(ends);
    parts.flatten().collect()
}

/// The CPUs that this process may use.
fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the set.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: reads the set; the number is below its size.
    let has = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(has).collect())
}

/// Has the calling thread run on one CPU. Where the system refuses it goes on where it is.
pub(crate) fn pin(cpu: usize) {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: changes the set; the number is below its size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the set.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

/// The node that the page of an address lies on; below 0 when it lies nowhere, or the system does not say.
pub(crate) fn node_of(address: usize) -> i32 {
    let page = address - address % 4096;
    let mut node = -1;
    // SAFETY: reads one address and writes one number; a page that is not there is answered for too.
    unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            1,
            &raw const page,
            std::ptr::null::<i32>(),
            &raw mut node,
            0,
        )
    };
    node
}
