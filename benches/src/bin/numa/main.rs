//! Where objects lie on a machine with several NUMA nodes, and what they cost: for owners of such machines.
//!
//! `cargo run --release -p ebb-benches --bin numa -- --preload ebbmalloc=target/release/libebbmalloc.so`: a table of the
//! C library's allocator and of each that is named. The program itself carries none: it runs itself once for each, with
//! the library preloaded. `allocator/NUMA.md` says how to read it.

mod figures;
mod machine;
mod patterns;

use std::env;
use std::error::Error;
use std::fs;
use std::process::Command;

use lexopt::prelude::*;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::patterns::PATTERNS;

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

const HELP: &str = "\
Measures allocators on a machine with several NUMA nodes, with a thread or more on each.

  PATTERN...            these only (--list names them)
  --preload NAME=FILE   one more allocator: a library with malloc and free; may be repeated
  --threads N           threads per node (default 1)
  --operations N        allocations per thread and pattern (default 2000000)
  --json FILE           write the figures there as well
  --list                name the patterns and say what they do

What the environment says to allocators holds: MALLOC_CONF=percpu_arena:percpu for jemalloc, TCMALLOC_NUMA_AWARE=1 for
tcmalloc, MIMALLOC_USE_NUMA_NODES for mimalloc.
";

/// Tells a process to measure the allocator it has, and to print the figures as JSON.
const OWN: &str = "EBB_BENCH_NUMA";

struct Options {
    patterns: Vec<String>,
    peers: Vec<(String, String)>,
    threads: usize,
    operations: usize,
    json: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let machine = Machine::read()?;
    if env::var_os(OWN).is_some() {
        println!("{}", own(&machine, &options));
        return Ok(());
    }
    if machine.homes().len() < 2 {
        println!("This machine has one node: all memory is local, whatever the allocator does.\n");
    }
    let mut peers = vec![("system".to_owned(), String::new())];
    peers.extend(options.peers);
    let mut allocators = Vec::new();
    for (name, library) in peers {
        let output = Command::new(env::current_exe()?)
            .args(env::args_os().skip(1))
            .env(OWN, "1")
            .env("LD_PRELOAD", &library)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // The loader goes on without a library that it does not find.
        if !output.status.success() || said.contains("cannot be preloaded") {
            return Err(format!("{name}: {}\n{said}", output.status).into());
        }
        let patterns: Value = serde_json::from_slice(&output.stdout)?;
        allocators.push(json!({"name": name, "patterns": patterns}));
    }
    figures::print(&allocators);
    if let Some(file) = options.json {
        let nodes = machine.homes();
        let all = json!({"nodes": nodes, "allocators": allocators});
        fs::write(file, format!("{all:#}\n"))?;
    }
    Ok(())
}

/// The figures of all patterns on the allocator that this process has.
fn own(machine: &Machine, options: &Options) -> Value {
    let wanted =
        |name: &str| options.patterns.is_empty() || options.patterns.iter().any(|it| it == name);
    let patterns = PATTERNS.iter().filter(|pattern| wanted(pattern.name));
    let figures = patterns.map(|pattern| {
        // Twice: asking where objects lie takes longer than making them.
        let places = patterns::run(
            pattern,
            machine,
            options.threads,
            options.operations / 4,
            true,
        );
        let times = patterns::run(pattern, machine, options.threads, options.operations, false);
        figures::of(pattern.name, places, times)
    });
    figures.collect()
}

/// The options; `None` when something was asked that has been answered.
fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options {
        patterns: Vec::new(),
        peers: Vec::new(),
        threads: 1,
        operations: 2_000_000,
        json: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("preload") => {
                let text = parser.value()?.string()?;
                let (name, file) = text.split_once('=').ok_or("--preload wants NAME=FILE")?;
                options.peers.push((name.to_owned(), file.to_owned()));
            }
            Long("threads") => options.threads = parser.value()?.parse::<usize>()?.max(1),
            Long("operations") => options.operations = parser.value()?.parse()?,
            Long("json") => options.json = Some(parser.value()?.string()?),
            Long("list") => {
                for pattern in PATTERNS {
                    println!("{:<10} {}", pattern.name, pattern.does);
                }
                return Ok(None);
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            Value(name) => {
                let name = name.string()?;
                if PATTERNS.iter().all(|pattern| pattern.name != name) {
                    return Err(format!("there is no pattern {name:?}; --list names them").into());
                }
                options.patterns.push(name);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}
