//! `peers`: the allocators side by side, in whole programs.
//!
//! ```text
//! cargo run --release -p ebb-benches                       the workloads, a program for each allocator
//! cargo run --release -p ebb-benches -- preload            them and real programs, with each allocator preloaded
//! cargo run --release -p ebb-benches -- preload -- COMMAND any command likewise
//! cargo run --release -p ebb-benches -- scaling            over numbers of threads and sizes of the heap
//! ```
//!
//! `options` says what is to be compared, `programs`, `libraries` and `real` find or build it, `contest` runs it all in
//! turns, `summary` makes figures of the samples, and `table`, `json`, `chart` and `curves` show them.

mod chart;
mod contest;
mod curves;
mod json;
mod libraries;
mod measure;
mod options;
mod programs;
mod real;
mod summary;
mod table;

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use contest::{Case, Contest, Results};
use ebb_benches::machine::{self, Watch};
use options::{Mode, Options, Preload};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures and shows; whether every run succeeded.
fn run() -> Result<bool, Box<dyn Error>> {
    let Some(options) = Options::from_command_line()? else {
        return Ok(true);
    };
    let contest = contest(&options)?;
    let watch = Watch::start();
    let results = contest.run()?;
    let machine = machine::describe(&watch);
    show(&options, &contest, &results, &machine)?;
    for failure in results.failures() {
        eprintln!("failed: {failure}");
    }
    Ok(results.failures().is_empty())
}

fn contest(options: &Options) -> Result<Contest, Box<dyn Error>> {
    let (contestants, cases) = match &options.mode {
        Mode::Workloads => (
            programs::build(&options.only)?,
            programs::cases(&options.workloads, options.percent),
        ),
        Mode::Scaling => (
            programs::build(&options.only)?,
            programs::scaling(options.percent),
        ),
        Mode::Preload(preload) => (
            libraries::find(preload, &options.only)?,
            preloaded(options, preload)?,
        ),
    };
    Ok(Contest {
        contestants,
        cases,
        runs: options.runs,
        timeout: options.timeout,
        same_output: !matches!(options.mode, Mode::Preload(_)),
    })
}

/// The commands that were given; without any, the workloads and real programs.
fn preloaded(options: &Options, preload: &Preload) -> Result<Vec<Case>, Box<dyn Error>> {
    if !preload.cases.is_empty() {
        return Ok(preload.cases.clone());
    }
    let program = programs::system()?;
    let mut cases = programs::cases(&options.workloads, options.percent);
    for case in &mut cases {
        case.command.insert(0, program.clone().into());
    }
    if options.workloads.is_empty() {
        cases.extend(real::cases());
    }
    Ok(cases)
}

fn show(
    options: &Options,
    contest: &Contest,
    results: &Results,
    machine: &[String],
) -> Result<(), Box<dyn Error>> {
    println!("{}", table::text(contest, results, machine));
    for file in [&options.json, &options.chart] {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
    }
    fs::write(&options.json, json::text(contest, results, machine))?;
    match options.mode {
        Mode::Scaling => curves::draw(&options.chart, contest, results)?,
        _ => chart::draw(&options.chart, contest, results)?,
    }
    eprintln!(
        "every sample: {}; chart: {}",
        options.json.display(),
        options.chart.display()
    );
    Ok(())
}
