//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_benches::workloads::{self, Workload};
use lexopt::prelude::*;

use crate::contest::Case;
use crate::{libraries, real};
use ebb_benches::cargo;

const HELP: &str = "\
Compares memory allocators in whole programs: time, CPU, RSS and page faults, run by turns.

cargo run --release -p ebb-benches -- [OPTIONS]
    runs the workloads, in one program for each allocator; builds these programs first
cargo run --release -p ebb-benches -- preload [OPTIONS] [-- COMMAND [ARGUMENTS]]
    runs a command with each allocator preloaded, or all workloads and the real programs that are
    installed; builds libebbmalloc.so first, and finds mimalloc, jemalloc and tcmalloc where Debian's
    packages put them (libmimalloc2.0, libjemalloc2, libtcmalloc-minimal4)
cargo run --release -p ebb-benches -- scaling [OPTIONS]
    runs one workload on 1 to 64 threads, and on heaps of 1 MiB to 8 GiB, in a program for each
    allocator; the chart shows time and RSS against both

  --only A,B,C       these allocators alone; ratios are to the first one
  --runs N           how often each is run (default 5)
  --timeout N        seconds after which a run counts as failed (default 120)
  --json FILE        where every sample goes (default peers.json in the target directory)
  --chart FILE       where the chart goes (default peers.svg in the target directory)
  --percent N        how much of each workload's work (default 100)
  --quick            the same as --percent 20 --runs 2
  --workloads A,B    these workloads alone, and no real programs; not for scaling
  --list             name allocators, workloads and programs, and run nothing

for preload:
  --lib NAME=PATH    one more allocator, or another library for a known one
  --set NAME:VAR=X   sets an environment variable for that allocator's runs
  --commands FILE    many commands: a line each, NAME = [VAR=X] PROGRAM ARGUMENTS
";

/// The group of commands that the command line gives.
const GIVEN: &str = "commands";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    /// Workloads that were named; all when there are none.
    pub(crate) workloads: Vec<&'static Workload>,
    pub(crate) only: Vec<String>,
    pub(crate) runs: usize,
    pub(crate) percent: usize,
    pub(crate) timeout: Duration,
    pub(crate) json: PathBuf,
    pub(crate) chart: PathBuf,
}

/// What is run.
#[derive(Debug)]
pub(crate) enum Mode {
    /// The workloads, with an allocator linked into each program.
    Workloads,
    /// Commands with libraries preloaded.
    Preload(Preload),
    /// One workload over many sizes.
    Scaling,
}

/// What belongs to preloading.
#[derive(Debug, Default)]
pub(crate) struct Preload {
    pub(crate) cases: Vec<Case>,
    pub(crate) libraries: Vec<(String, PathBuf)>,
    pub(crate) environment: Vec<(String, String, String)>,
}

impl Options {
    /// The options; `None` when something was asked that has been answered.
    pub(crate) fn from_command_line() -> Result<Option<Self>, lexopt::Error> {
        let target = cargo::target_directory();
        let mut options = Self {
            mode: Mode::Workloads,
            workloads: Vec::new(),
            only: Vec::new(),
            runs: 5,
            percent: 100,
            timeout: Duration::from_secs(120),
            json: target.join("peers.json"),
            chart: target.join("peers.svg"),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("only") => options.only = names(&parser.value()?.string()?),
                Long("runs") => options.runs = parser.value()?.parse::<usize>()?.max(1),
                Long("timeout") => options.timeout = Duration::from_secs(parser.value()?.parse()?),
                Long("json") => options.json = parser.value()?.into(),
                Long("chart") => options.chart = parser.value()?.into(),
                Long("percent") => options.percent = parser.value()?.parse()?,
                Long("quick") => (options.percent, options.runs) = (20, 2),
                Long("workloads") => {
                    options.workloads = chosen(&parser.value()?.string()?)?;
                }
                Long("list") => {
                    list();
                    return Ok(None);
                }
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                Long("lib") => options
                    .preload("--lib")?
                    .library(&parser.value()?.string()?)?,
                Long("set") => options
                    .preload("--set")?
                    .variable(&parser.value()?.string()?)?,
                Long("commands") => {
                    let file = PathBuf::from(parser.value()?);
                    options
                        .preload("--commands")?
                        .cases
                        .extend(commands(&file)?);
                }
                Value(word) => match &mut options.mode {
                    Mode::Preload(preload) => preload.command(word, parser.raw_args()?),
                    Mode::Workloads if word == "preload" => {
                        options.mode = Mode::Preload(Preload::default());
                    }
                    Mode::Workloads if word == "scaling" => options.mode = Mode::Scaling,
                    _ => return Err(Value(word).unexpected()),
                },
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// What belongs to preloading, for an option that means nothing elsewhere.
    fn preload(&mut self, option: &str) -> Result<&mut Preload, String> {
        match &mut self.mode {
            Mode::Preload(preload) => Ok(preload),
            _ => Err(format!(
                "{option} is for preload, which comes first: peers preload {option} ..."
            )),
        }
    }
}

impl Preload {
    /// Takes NAME=PATH.
    fn library(&mut self, text: &str) -> Result<(), String> {
        let (name, path) = text
            .split_once('=')
            .ok_or_else(|| wanted("--lib NAME=PATH", text))?;
        self.libraries.push((name.into(), path.into()));
        Ok(())
    }

    /// Takes NAME:VAR=VALUE.
    fn variable(&mut self, text: &str) -> Result<(), String> {
        let parts = text
            .split_once(':')
            .and_then(|(name, rest)| Some((name, rest.split_once('=')?)));
        let (name, (variable, value)) =
            parts.ok_or_else(|| wanted("--set NAME:VAR=VALUE", text))?;
        self.environment
            .push((name.into(), variable.into(), value.into()));
        Ok(())
    }

    /// Takes a program and its arguments.
    fn command(&mut self, program: OsString, arguments: lexopt::RawArgs<'_>) {
        let file = Path::new(&program).file_name().unwrap_or(&program);
        let name = file.to_string_lossy().into_owned();
        let command = std::iter::once(program).chain(arguments).collect();
        self.cases.push(Case {
            group: GIVEN.into(),
            name,
            command,
            at: None,
        });
    }
}

fn wanted(form: &str, text: &str) -> String {
    format!("{form} was expected, not {text:?}")
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

fn chosen(text: &str) -> Result<Vec<&'static Workload>, String> {
    let find = |name: &String| {
        workloads::find(name)
            .ok_or_else(|| format!("there is no workload {name:?}; --list names them"))
    };
    names(text).iter().map(find).collect()
}

/// A command for the shell, which only replaces itself by the program; `env` lets variables come before that.
pub(crate) fn shell(group: &str, name: &str, command: &str) -> Case {
    let words = [
        "sh".into(),
        "-c".into(),
        format!("exec env {command}").into(),
    ];
    Case {
        group: group.into(),
        name: name.into(),
        command: words.into(),
        at: None,
    }
}

/// The commands in a file.
fn commands(file: &Path) -> Result<Vec<Case>, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, command) = line
                .split_once('=')
                .ok_or_else(|| wanted("NAME = COMMAND", line))?;
            Ok(shell(GIVEN, name.trim(), command.trim()))
        })
        .collect()
}

fn list() {
    println!(
        "allocators with a program of their own:\n  {}",
        crate::programs::names().join(" ")
    );
    println!(
        "libraries that can be preloaded here:\n  {}",
        libraries::names().join(" ")
    );
    println!("workloads, with the thread counts of the table:");
    for workload in workloads::all() {
        println!(
            "  {:<14} {:?} {}",
            workload.name, workload.threads, workload.stresses
        );
    }
    let programs: Vec<String> = real::cases().into_iter().map(|case| case.name).collect();
    println!("programs:\n  {}", programs.join(" "));
}
