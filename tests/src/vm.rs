//! A throw-away Linux with several NUMA nodes: QEMU, a stock kernel, and one program of ours.
//!
//! The guest has no disk and no distribution. Its root file system is an archive with `guest-init` (a program of this
//! crate, which runs the wanted program and says how it ended), the program, and their shared libraries. What the
//! program writes comes out of a serial port. The processor is emulated, so that it works everywhere: nothing in a
//! guest is ever timed.
//!
//! The kernel is the file named by `EBB_VM_KERNEL`, or what `tests/fetch-kernel` has put into `target/vm`, or the
//! host's own, if it may be read.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::header::workspace;
use crate::initramfs::Initramfs;

const QEMU: &str = "qemu-system-x86_64";

/// The first line of a guest whose program was started; see `guest-init`.
pub const STARTED: &str = "guest: started";

/// Begins the last line, which ends with the program's exit status.
pub const ENDED: &str = "guest: ended ";

/// The list of strings, each ended by a NUL, that tells `guest-init` what to run: the working directory, `NAME=value`
/// as often as wanted, an empty string, the program, its arguments.
pub const JOB: &str = "/job";

/// How often a guest that dies before its program starts is booted.
const BOOTS: u32 = 3;

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
            limit: Duration::from_secs(300),
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

    /// Sets how long a run may take, the boot included; five minutes otherwise, since a busy host can make it wait.
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
        qemu.arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(here.file("initrd"))
            .args([
                "-append",
                "console=ttyS0 quiet panic=-1 oops=panic rdinit=/init numa_balancing=disable mitigations=off \
                 no_timer_check tsc=reliable i8042.nokbd i8042.noaux",
            ]);
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

/// What a guest needs and this machine does not have.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let qemu = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if qemu.is_err() {
        return Some("qemu-system-x86_64 is not installed");
    }
    if kernel().is_none() {
        return Some("there is no kernel for the guest; tests/fetch-kernel gets one");
    }
    None
}

/// Whether guests can be run. If not, says what is missing; with `CI=true` in the environment that is a failure.
///
/// # Panics
/// When they cannot and this is CI.
#[must_use]
pub fn available() -> bool {
    let Some(what) = missing() else { return true };
    let ci = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!ci, "{what}");
    eprintln!("skipped: {what}");
    false
}

/// The kernel to boot.
fn kernel() -> Option<PathBuf> {
    if let Some(named) = env::var_os("EBB_VM_KERNEL") {
        return Some(named.into());
    }
    let fetched = workspace().join("target/vm/boot");
    [fetched.as_path(), Path::new("/boot")]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz") && fs::File::open(path).is_ok()
        })
        .max()
}

/// A program of this crate; cargo builds them before any test.
///
/// # Panics
/// When this program's own path is not known.
#[must_use]
pub fn own_program(name: &str) -> PathBuf {
    let here = env::current_exe().expect("this program's own path");
    // target/debug/numa-vm, or target/debug/deps/test
    here.ancestors()
        .skip(1)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} was not built"))
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

/// The files of one run, removed with it.
struct Workplace(PathBuf);

impl Workplace {
    fn new() -> io::Result<Self> {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: any number that is used once.
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let runs = workspace().join("target/vm/runs");
        let path = runs.join(format!("{}-{run}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The guest's root file system.
    fn root(
        &self,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        files: &[PathBuf],
    ) -> io::Result<Vec<u8>> {
        let directory = env::current_dir()?;
        let program = program.canonicalize()?;
        let mut job = vec![directory.to_string_lossy().into_owned()];
        job.extend(
            environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        job.push(String::new());
        job.push(program.to_string_lossy().into_owned());
        job.extend(arguments.iter().map(ToString::to_string));
        let mut root = Initramfs::new();
        root.directory(&directory);
        root.program(
            Path::new("/init"),
            &self.stripped(&own_program("guest-init")),
        );
        root.program(&program, &self.stripped(&program));
        for file in files {
            root.program(&std::path::absolute(file)?, &self.stripped(file));
        }
        root.file(Path::new(JOB), (job.join("\0") + "\0").as_bytes());
        Ok(root.finish())
    }

    /// A copy of a program without what is for debuggers, which is most of it; itself where there is no `strip`.
    fn stripped(&self, program: &Path) -> PathBuf {
        let copy = self.file("program");
        let strip = Command::new("strip")
            .arg("-o")
            .arg(&copy)
            .arg(program)
            .stderr(Stdio::null())
            .status();
        match strip {
            Ok(status) if status.success() => copy,
            _ => program.to_path_buf(),
        }
    }

    /// An error with the end of what the guest's kernel said.
    fn error(&self, what: &str) -> io::Error {
        let console = fs::read(self.file("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().rev().take(20).collect();
        let last: Vec<_> = lines.into_iter().rev().collect();
        io::Error::other(format!(
            "{what} a guest, whose kernel says:\n{}",
            last.join("\n")
        ))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Left over files would only take room.
        let _ = fs::remove_dir_all(&self.0);
    }
}
