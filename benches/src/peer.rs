//! The command line of a peer: the workloads, on the global allocator of the program that calls.

use std::process::ExitCode;

use lexopt::prelude::*;

use crate::paths::PATHS;
use crate::workloads::{self, Load, Workload};

const HELP: &str = "\
Runs one workload on this program's allocator and prints its checksum.

  WORKLOAD          which one (--list names them)
  --threads N       on how many threads (default: the smallest number that the table shows)
  --percent N       how much of the work (default 100)
  --mib N           how large a heap, for the workload `heap` (default 64)
  --paths           in place of a workload: what single operations take, in nanoseconds; see `paths`
  --list            name the workloads and say what they stress
";

/// What was asked for.
struct Options {
    workload: &'static Workload,
    load: Load,
}

/// Runs the workload that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    match options() {
        Ok(Some(options)) => {
            println!("{}", (options.workload.run)(&options.load));
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// The options; `None` when something was asked that has been answered.
fn options() -> Result<Option<Options>, lexopt::Error> {
    let (mut name, mut threads, mut percent, mut mib) = (None, None, 100, 64);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => threads = Some(parser.value()?.parse()?),
            Long("percent") => percent = parser.value()?.parse()?,
            Long("mib") => mib = parser.value()?.parse()?,
            Long("paths") => {
                for path in PATHS {
                    println!("{:<40}{:.2}", path.name, path.measure());
                }
                return Ok(None);
            }
            Long("list") => {
                for workload in workloads::all().chain([&workloads::HEAP]) {
                    println!("{:<14} {}", workload.name, workload.stresses);
                }
                return Ok(None);
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            Value(value) if name.is_none() => name = Some(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let name = name.ok_or("a workload was expected")?;
    let workload = workloads::find(&name)
        .ok_or_else(|| format!("there is no workload {name:?}; --list names them"))?;
    let load = Load::new(threads.unwrap_or(workload.threads[0]), percent).with_mib(mib);
    Ok(Some(Options { workload, load }))
}
