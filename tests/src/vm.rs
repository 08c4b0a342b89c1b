//! A throw-away Linux with several NUMA nodes: QEMU, a stock kernel, and one program of ours.
//!
//! The guest has no disk and no distribution. Its root file system is an archive with `guest-init` (a program of this
//! crate, which runs the wanted program and says how it ended), the program, and their shared libraries. What the
//! program writes comes out of a serial port. The processor is emulated, so that it works everywhere: nothing in a
//! guest is ever timed.

mod needs;
mod workplace;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use needs::{QEMU, kernel};
use workplace::Workplace;

pub use needs::{available, missing, own_program};
pub use workplace::JOB;

/// The first line of a guest whose program was started; see `guest-init`.
pub const STARTED: &str = "guest: started";

/// Begins the last line, which ends with the program's exit status.
pub const ENDED: &str = "guest: ended ";

/// How often a guest that dies before its program starts is booted.
const BOOTS: u32 = 3;

/// What every guest's kernel is told. Where it puts itself and 64 MiB of buffers is chance unless it is told not to, and a
/// small node is too small with them.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 oops=panic rdinit=/init numa_balancing=disable mitigations=off \
                          no_timer_check tsc=reliable i8042.nokbd i8042.noaux nokaslr swiotlb=noforce";

#[derive(Clone, Copy, Debug)]
struct Node {
    cpus: usize,
    mib: usize,
}

/// What the guest is to look like.
#[derive(Clone, Debug)]
pub struct Machine {
    nodes: Vec<Node>,
    distances: Vec<(usize, usize, u8)>,
    late: Vec<(usize, usize)>,
    files: Vec<PathBuf>,
    counting: bool,
    small_pages: bool,
    limit: Duration,
}

/// How the guest's program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status, or 128 and the signal that ended it.
    pub status: i32,
    /// What it wrote, to both standard output and standard error.
    pub output: String,
}

impl Machine {
    /// One with these nodes: how many CPUs and how many MiB of memory each has, either of which may be 0.
    ///
    /// Linux numbers nodes in the order in which it finds them, those with CPUs first.
    #[must_use]
    pub fn new(nodes: &[(usize, usize)]) -> Self {
        Self {
            nodes: nodes
                .iter()
                .map(|&(cpus, mib)| Node { cpus, mib })
                .collect(),
            distances: Vec::new(),
            late: Vec::new(),
            files: Vec::new(),
            counting: false,
            small_pages: false,
            limit: Duration::from_secs(1200),
        }
    }

    /// Sets the distance of two nodes, both ways; 20 for those not named.
    #[must_use]
    pub fn distance(mut self, one: usize, other: usize, distance: u8) -> Self {
        self.distances.push((one, other, distance));
        self
    }

    /// Has the guest's clocks advance by a nanosecond with each instruction. Its time stamp counter then counts the
    /// instructions that its CPU executes, the same number on every host.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.counting = true;
        self
    }

    /// Has the guest's kernel give no huge pages: those are spread over nodes, and miss on a node, 2 MiB at a time.
    #[must_use]
    pub fn small_pages(mut self) -> Self {
        self.small_pages = true;
        self
    }

    /// Gives a node so many MiB more, a multiple of 128, that are plugged in but not in use: the guest switches them on
    /// and off (`/sys/devices/system/memory`).
    #[must_use]
    pub fn late(mut self, node: usize, mib: usize) -> Self {
        self.late.push((node, mib));
        self
    }

    /// Has the guest have a file of this machine under the same path, and the shared libraries it needs: one to be
    /// preloaded, or another program.
    #[must_use]
    pub fn file(mut self, file: &Path) -> Self {
        self.files.push(file.to_path_buf());
        self
    }

    /// Sets how long a run may take, the boot included; twenty minutes otherwise, since a busy host can make it wait.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Boots the machine and runs a program in it.
    ///
    /// # Errors
    /// When there is no QEMU or no kernel (see [`missing`]), or the guest ends without saying how its program did.
    pub fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<Outcome> {
        let kernel = kernel().ok_or_else(|| io::Error::other("no kernel for the guest"))?;
        let here = Workplace::new()?;
        let root = here.root(program, arguments, environment, &self.files)?;
        fs::write(here.file("initrd"), root)?;
        for _ in 1..BOOTS {
            let outcome = self.boot(&kernel, &here)?;
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
        self.boot(&kernel, &here)?
            .ok_or_else(|| here.error("the guest dies before its program starts"))
    }

    /// Boots once. Nothing when the guest died before it started the program.
    fn boot(&self, kernel: &Path, here: &Workplace) -> io::Result<Option<Outcome>> {
        let mut qemu = self.command(kernel, here).spawn()?;
        let ended = wait(&mut qemu, self.limit)?;
        let output = fs::read(here.file("output")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).into_owned();
        let Some((before, text)) = output.split_once(&format!("{STARTED}\n")) else {
            let hung = (!ended).then(|| here.error("no answer in time from"));
            return hung.map_or(Ok(None), Err);
        };
        match text.rsplit_once(ENDED) {
            Some((text, status)) if ended => Ok(Some(Outcome {
                status: status.trim().parse().map_err(io::Error::other)?,
                output: format!("{before}{text}"),
            })),
            _ => Err(here.error(&format!("{text}\nthe program did not end, in"))),
        }
    }

    fn command(&self, kernel: &Path, here: &Workplace) -> Command {
        let cpus: usize = self.nodes.iter().map(|node| node.cpus).sum();
        let mib: usize = self.nodes.iter().map(|node| node.mib).sum();
        let late: usize = self.late.iter().map(|late| late.1).sum();
        let mut memory = format!("{mib}M");
        if late > 0 {
            // Room to begin each at a multiple of the kernel's grain.
            memory += &format!(",slots={},maxmem={}M", self.late.len(), mib + 4 * late);
        }
        let mut qemu = Command::new(QEMU);
        // One thread for all CPUs: with several the emulation now and then runs code that the kernel is just patching.
        qemu.args(["-accel", "tcg,thread=single", "-cpu", "max,la57=off"])
            .args(["-smp", &cpus.to_string(), "-m", &memory])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none"]);
        self.describe_nodes(&mut qemu);
        if self.counting {
            // Time that nobody uses passes at once.
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        for (slot, (node, mib)) in self.late.iter().enumerate() {
            let memory = format!("memory-backend-ram,id=late{slot},size={mib}M");
            let device = format!("pc-dimm,id=dimm{slot},memdev=late{slot},node={node}");
            qemu.args(["-object", &memory, "-device", &device]);
        }
        let mut parameters = PARAMETERS.to_owned();
        if self.small_pages {
            parameters += " transparent_hugepage=never";
        }
        qemu.arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(here.file("initrd"))
            .args(["-append", &parameters]);
        for port in ["console", "output"] {
            let file = here.file(port);
            qemu.args(["-serial", &format!("file:{}", file.display())]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::null());
        qemu
    }

    fn describe_nodes(&self, qemu: &mut Command) {
        let mut cpu = 0;
        for (id, node) in self.nodes.iter().enumerate() {
            let mut described = format!("node,nodeid={id}");
            if node.mib > 0 {
                let memory = format!("memory-backend-ram,id=m{id},size={}M", node.mib);
                qemu.args(["-object", &memory]);
                described += &format!(",memdev=m{id}");
            }
            if node.cpus > 0 {
                described += &format!(",cpus={cpu}-{}", cpu + node.cpus - 1);
                cpu += node.cpus;
            }
            qemu.args(["-numa", &described]);
        }
        for one in 0..self.nodes.len() {
            for other in one + 1..self.nodes.len() {
                let named = self
                    .distances
                    .iter()
                    .find(|named| (named.0, named.1) == (one, other));
                let distance = named.map_or(20, |named| named.2);
                qemu.args([
                    "-numa",
                    &format!("dist,src={one},dst={other},val={distance}"),
                ]);
            }
        }
    }
}

/// Waits for QEMU, and ends it at the limit. Whether it ended by itself.
fn wait(qemu: &mut Child, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if qemu.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    qemu.kill()?;
    qemu.wait()?;
    Ok(false)
}
