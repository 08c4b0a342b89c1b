//! What the figures were taken on: they mean little without.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// How busy the machine is with other work, from `start` on.
#[derive(Debug)]
pub struct Watch {
    begin: Instant,
    /// Processor seconds of everybody, and of us and our children.
    all: f64,
    own: f64,
}

impl Watch {
    /// Starts watching; says so when other work is running now.
    #[must_use]
    pub fn start() -> Self {
        let load = read("/proc/loadavg");
        let last_minute = load.split(' ').next().unwrap_or_default();
        if last_minute.parse().unwrap_or(0.0) > 0.5 {
            eprintln!(
                "the load average is {last_minute}: other work is running, and will be in the figures"
            );
        }
        Self {
            begin: Instant::now(),
            all: all(),
            own: own(),
        }
    }

    /// The share of the processors, in percent, that other work has taken since.
    fn others(&self) -> f64 {
        let taken = (all() - self.all) - (own() - self.own);
        let given = self.begin.elapsed().as_secs_f64() * cpus() as f64;
        (taken / given * 100.0).max(0.0)
    }
}

/// Processor seconds that everybody has used, or that were not given to this machine.
fn all() -> f64 {
    let text = read("/proc/stat");
    let figures: Vec<f64> = text
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|number| number.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: in hundredths.
    let idle: f64 = figures.iter().skip(3).take(2).sum();
    (figures.iter().sum::<f64>() - idle) / 100.0
}

/// Processor seconds that we and our children have used.
fn own() -> f64 {
    let used = |whose| {
        getrusage(whose).map_or(0, |usage| {
            (usage.user_time() + usage.system_time()).num_microseconds()
        })
    };
    (used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN)) as f64 / 1e6
}

/// Lines that say where and when the figures were taken.
#[must_use]
pub fn describe(watch: &Watch) -> Vec<String> {
    let kernel = read("/proc/sys/kernel/osrelease");
    let huge = read("/sys/kernel/mm/transparent_hugepage/enabled");
    vec![
        format!("{}; {} CPUs; {} of memory", processor(), cpus(), memory()),
        format!("Linux {kernel}; {}; huge pages {huge}", libc_version()),
        format!("{}; ebbmalloc at commit {}", compiler(), commit()),
        format!(
            "{}; other work took {:.0} % of the processors meanwhile",
            said("date", &["-u", "+%Y-%m-%d"]),
            watch.others()
        ),
    ]
}

/// The compiler and its version.
#[must_use]
pub fn compiler() -> String {
    said("rustc", &["-V"])
}

/// The C library and its version.
#[must_use]
pub fn libc_version() -> String {
    said("getconf", &["GNU_LIBC_VERSION"])
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model
        .map_or("unknown processor", |(_, name)| name)
        .to_owned()
}

fn cpus() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn memory() -> String {
    let text = read("/proc/meminfo");
    let kilobytes = text
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<f64>().ok());
    kilobytes.map_or("unknown".into(), |number| {
        format!("{:.0} GiB", number / f64::from(1 << 20))
    })
}

/// The commit that is checked out, and whether files differ from it.
fn commit() -> String {
    let directory = ["-C", env!("CARGO_MANIFEST_DIR")];
    let commit = said(
        "git",
        &[&directory[..], &["rev-parse", "--short", "HEAD"]].concat(),
    );
    let changes = said(
        "git",
        &[&directory[..], &["status", "--porcelain"]].concat(),
    );
    if changes.is_empty() {
        commit
    } else {
        format!("{commit}, changed")
    }
}

/// What a program says, in a line.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or("unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or("unknown".into(), |text| text.trim().to_owned())
}
