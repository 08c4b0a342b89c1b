//! Runs one program in a guest with several NUMA nodes: `numa-vm --node 2,256 --node 0,128 -- PROGRAM ARGUMENTS`.
//!
//! As cargo's runner it runs whole test binaries there:
//!
//! ```text
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="target/debug/numa-vm --nodes 4 --" cargo test -p ebb-tests --test model
//! ```

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ebb_tests::vm::{self, Machine};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
usage: numa-vm [options] [--] PROGRAM [ARGUMENTS...]
  --nodes N              N nodes with one CPU and 256 MiB of memory each (default 2)
  --node CPUS,MIB        one more node, with so many CPUs and so much memory, either of which may be 0
  --late NODE,MIB        more memory for a node that the guest has not switched on, in multiples of 128 MiB
  --distance A,B,D       the distance of nodes A and B (default 20)
  --file FILE            a file that the guest is to have under the same path, with the libraries it needs
  --env NAME=VALUE       an environment variable in the guest; those that begin with EBB_ or RUST_ are passed on
  --limit SECONDS        how long it may take, the boot included (default 1200)
The exit status is the program's, or 1 when there was none. EBB_VM_KERNEL names the kernel to boot.
";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut nodes, mut distances, mut late, mut limit) =
        (Vec::new(), Vec::new(), Vec::new(), 1200);
    let mut files: Vec<PathBuf> = Vec::new();
    let mut environment: Vec<(String, String)> = env::vars()
        .filter(|(name, _)| name.starts_with("EBB_") || name.starts_with("RUST_"))
        .collect();
    let mut parser = Parser::from_env();
    let mut program: Option<PathBuf> = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("nodes") => {
                let count: usize = parser.value()?.parse()?;
                nodes.extend((0..count).map(|_| (1, 256)));
            }
            Arg::Long("node") => {
                let [cpus, mib] = numbers(&parser.value()?.string()?)?;
                nodes.push((cpus, mib));
            }
            Arg::Long("late") => late.push(numbers::<2>(&parser.value()?.string()?)?),
            Arg::Long("file") => files.push(parser.value()?.into()),
            Arg::Long("distance") => {
                distances.push(numbers::<3>(&parser.value()?.string()?)?);
            }
            Arg::Long("env") => {
                let setting = parser.value()?.string()?;
                let (name, value) = setting.split_once('=').ok_or("--env wants NAME=VALUE")?;
                environment.push((name.to_owned(), value.to_owned()));
            }
            Arg::Long("limit") => limit = parser.value()?.parse()?,
            Arg::Long("help") => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Arg::Value(value) => {
                program = Some(value.into());
                break;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let program = program.ok_or(HELP)?;
    let arguments: Vec<String> = parser
        .raw_args()?
        .map(|argument| argument.string())
        .collect::<Result<_, _>>()?;
    if let Some(what) = vm::missing() {
        return Err(what.into());
    }
    if nodes.is_empty() {
        nodes = vec![(1, 256); 2];
    }
    let mut machine = Machine::new(&nodes).limit(Duration::from_secs(limit));
    for [one, other, distance] in distances {
        machine = machine.distance(one, other, u8::try_from(distance)?);
    }
    for file in files {
        machine = machine.file(&file);
    }
    for [node, mib] in late {
        machine = machine.late(node, mib);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let outcome = machine.run(&program, &arguments, &environment)?;
    print!("{}", outcome.output);
    Ok(ExitCode::from(u8::try_from(outcome.status).unwrap_or(1)))
}

/// `N` numbers with commas between them.
fn numbers<const N: usize>(text: &str) -> Result<[usize; N], Box<dyn Error>> {
    let numbers: Vec<usize> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    numbers
        .try_into()
        .map_err(|_| format!("{text}: {N} numbers with commas between them").into())
}
