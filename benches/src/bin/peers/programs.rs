//! The programs that carry an allocator each (`src/bin/peer`).

use std::path::PathBuf;

use ebb_benches::workloads::{self, Workload};

use crate::contest::{Case, Contestant};
use ebb_benches::{cargo, machine};

/// An allocator that is linked into a program.
struct Peer {
    name: &'static str,
    /// The program is `peer-` and this.
    program: &'static str,
    /// The crate whose version is shown; empty for the C library.
    package: &'static str,
    /// The feature of this crate that brings it in, if it takes one.
    feature: Option<&'static str>,
    /// What its runs have in the environment.
    environment: Option<(&'static str, &'static str)>,
}

const PEERS: &[Peer] = &[
    Peer::new("ebbmalloc", "ebbmalloc", None),
    Peer::new("mimalloc3", "mimalloc", Some("mimalloc")),
    // Without huge pages its RSS is half as large: both are worth knowing.
    Peer {
        environment: Some(("MIMALLOC_ALLOW_THP", "0")),
        program: "mimalloc3",
        ..Peer::new("mimalloc3-nothp", "mimalloc", Some("mimalloc"))
    },
    Peer::new("mimalloc2", "mimalloc", Some("mimalloc2")),
    Peer::new("jemalloc", "tikv-jemallocator", Some("jemalloc")),
    Peer::new("snmalloc", "snmalloc-rs", Some("snmalloc")),
    Peer::new("rpmalloc", "rpmalloc", Some("rpmalloc")),
    // With glibc's own registration it could not use restartable sequences, and would fall back to per-thread caches.
    Peer {
        environment: Some(("GLIBC_TUNABLES", "glibc.pthread.rseq=0")),
        ..Peer::new("tcmalloc", "tcmalloc-better", Some("tcmalloc"))
    },
    Peer::new("system", "", None),
];

impl Peer {
    const fn new(name: &'static str, package: &'static str, feature: Option<&'static str>) -> Self {
        Self {
            name,
            program: name,
            package,
            feature,
            environment: None,
        }
    }

    fn version(&self) -> String {
        match self.package {
            "" => machine::libc_version(),
            package => format!("{package} {}", cargo::locked_version(package)),
        }
    }
}

/// The names of all of them.
pub(crate) fn names() -> Vec<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

/// Builds the programs of these allocators, of all when none is named. mimalloc's two versions exclude each other in
/// one build.
pub(crate) fn build(only: &[String]) -> Result<Vec<Contestant>, String> {
    let chosen = chosen(only)?;
    let (second, first): (Vec<&Peer>, Vec<&Peer>) = chosen
        .iter()
        .partition(|peer| peer.feature == Some("mimalloc2"));
    let mut files = build_together(&first)?;
    files.extend(build_together(&second)?);
    let contestant = |peer: &&Peer| {
        Ok(Contestant {
            name: peer.name.into(),
            version: peer.version(),
            program: Some(cargo::named(&files, &format!("peer-{}", peer.program))?),
            environment: peer
                .environment
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        })
    };
    chosen.iter().map(contestant).collect()
}

fn chosen(only: &[String]) -> Result<Vec<&'static Peer>, String> {
    if only.is_empty() {
        return Ok(PEERS.iter().collect());
    }
    let find = |name: &String| {
        let peer = PEERS.iter().find(|peer| peer.name == name);
        peer.ok_or_else(|| {
            format!(
                "there is no allocator {name:?}; there are {}",
                names().join(", ")
            )
        })
    };
    only.iter().map(find).collect()
}

/// The bench profile has no debug info, with which crates around C and C++ come out several times slower.
fn build_together(peers: &[&Peer]) -> Result<Vec<PathBuf>, String> {
    if peers.is_empty() {
        return Ok(Vec::new());
    }
    let features: Vec<&str> = peers.iter().filter_map(|peer| peer.feature).collect();
    let features = features.join(",");
    let programs: Vec<String> = peers
        .iter()
        .map(|peer| format!("--bin=peer-{}", peer.program))
        .collect();
    let mut arguments = vec!["--profile=bench", "--features", &features];
    arguments.extend(programs.iter().map(String::as_str));
    cargo::build(&arguments).map_err(|error| {
        format!("{error}\nthe peers need a C and a C++ compiler, make and cmake; --only leaves out those that do not build")
    })
}

/// Builds the program on the C library's allocator, for others to be preloaded into.
pub(crate) fn system() -> Result<PathBuf, String> {
    let files = cargo::build(&["--profile=bench", "--bin=peer-system"])?;
    cargo::named(&files, "peer-system")
}

/// The workloads, each with its thread counts; all of them when none is named.
pub(crate) fn cases(chosen: &[&Workload], percent: usize) -> Vec<Case> {
    let wanted = |workload: &Workload| {
        chosen.is_empty() || chosen.iter().any(|other| other.name == workload.name)
    };
    let mut cases = Vec::new();
    for (group, workloads) in workloads::GROUPS {
        for workload in workloads.iter().filter(|workload| wanted(workload)) {
            cases.extend(workload.threads.iter().map(|threads| Case {
                group: (*group).into(),
                name: format!("{}/{threads}", workload.name),
                command: vec![
                    workload.name.into(),
                    format!("--threads={threads}").into(),
                    format!("--percent={percent}").into(),
                ],
                at: None,
            }));
        }
    }
    cases
}

/// One workload on growing numbers of threads, and with growing heaps.
pub(crate) fn scaling(percent: usize) -> Vec<Case> {
    let case = |group: &str, threads: usize, mib: usize, at: usize| Case {
        group: group.into(),
        name: format!("{group}: {at}"),
        command: vec![
            workloads::HEAP.name.into(),
            format!("--threads={threads}").into(),
            format!("--mib={mib}").into(),
            format!("--percent={percent}").into(),
        ],
        at: Some(at as f64),
    };
    let threads = [1, 2, 4, 8, 16, 32, 64].map(|threads| case("threads", threads, 64, threads));
    let heaps = [1, 8, 64, 512, 2048, 8192].map(|mib| case("MiB of live heap", 1, mib, mib));
    threads.into_iter().chain(heaps).collect()
}
