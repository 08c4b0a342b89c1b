//! A service in miniature under memory pressure: `cargo run --release --example pressure`.
//!
//! Worker threads answer queries over a directory of text files: how often a word stands in a group of files, and the
//! first lines that have it. Three caches make that fast: file contents, an index per file, and answers. Together they
//! would like several times the budget. They are registered as shrinkers, so they give memory back whenever an
//! allocation needs it; no allocation fails. With `--no-shrinkers` they are not, and the same run ends out of memory.
//!
//! `options` reads the command line, `corpus` finds the files, `index` reads them, `worker` answers, `caches` remembers,
//! `watch` shows, `plot` draws. To see how a cache becomes a shrinker read `caches/slots.rs` (a cache of our own) or
//! `caches/answers.rs` (somebody else's).
#![forbid(unsafe_code)]

mod caches;
mod corpus;
mod index;
mod options;
mod plot;
mod watch;
mod worker;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use ebbmalloc::{EbbMalloc, RegisterError, Registration};

use caches::Caches;
use corpus::Corpus;
use options::Options;
use watch::{Sample, Watch, mib, ms};
use worker::{Service, Totals};

#[global_allocator]
static ALLOCATOR: EbbMalloc = EbbMalloc;

/// How far the resident memory may exceed the budget: the program itself, stacks, page tables, the C library, and the
/// memory that the loader and the main thread had before the budget was set.
const RESIDENT_MARGIN: usize = 16 << 20;

/// Exit status when the command line or a file is no good.
const NO_GOOD: u8 = 2;

/// Exit status when memory ran out, as `--no-shrinkers` is meant to show.
const OUT_OF_MEMORY: u8 = 3;

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pressure: {error}; --help shows the options");
            return ExitCode::from(NO_GOOD);
        }
    };
    let corpus = match prepare(&options) {
        Ok(corpus) => corpus,
        Err(error) => {
            eprintln!("pressure: {error}");
            return ExitCode::from(NO_GOOD);
        }
    };
    let service = Service::new(corpus);
    ebbmalloc::set_budget(Some(options.budget));
    let registrations = if options.shrinkers {
        register(&service.caches)
    } else {
        Ok(Vec::new())
    };
    let Ok(registrations) = registrations else {
        eprintln!(
            "pressure: a budget of {:.0} MiB has no room for the caches' registrations",
            mib(options.budget)
        );
        return ExitCode::from(OUT_OF_MEMORY);
    };
    let samples = run(&options, &service, &registrations);
    // The report needs memory whatever the outcome.
    ebbmalloc::set_budget(None);
    let code = report(&options, &service, &registrations, &samples);
    drop(registrations);
    code
}

/// Finds the files, makes sure that the plot can be written, and says what is about to happen.
fn prepare(options: &Options) -> Result<Corpus, String> {
    let corpus = Corpus::find(options.path.as_deref())?;
    File::create(&options.plot).map_err(|error| format!("{}: {error}", options.plot.display()))?;
    say(format_args!(
        "{} files, {} MiB, under {}\nbudget {:.0} MiB, {} threads, {} seconds, {}\n",
        corpus.files.len(),
        corpus.bytes >> 20,
        corpus.root.display(),
        mib(options.budget),
        options.threads,
        options.time.as_secs_f64(),
        if options.shrinkers {
            "three caches registered as shrinkers"
        } else {
            "three caches that are no shrinkers"
        },
    ));
    Ok(corpus)
}

/// What an object costs to make again decides how hard its cache is pressed: a file is one read, an index is a read and
/// a parse, an answer is several of those.
fn register(caches: &Caches) -> Result<Vec<Registration>, RegisterError> {
    let spec = |name| ebbmalloc::Shrinker::new(name).batch(32);
    Ok(vec![
        ebbmalloc::register(spec("files").seeks(2), caches.files.clone())?,
        ebbmalloc::register(spec("indexes").seeks(6), caches.indexes.clone())?,
        ebbmalloc::register(spec("answers").seeks(24), caches.answers.clone())?,
    ])
}

/// Runs the workers and watches them.
fn run(options: &Options, service: &Service, registrations: &[Registration]) -> Vec<Sample> {
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in 0..options.threads {
            scope.spawn(move || service.work(options, worker as u64, start));
        }
        Watch::new(options, service, registrations, start).until_done()
    })
}

/// Says what came of it, draws the plot, and gives the exit status.
fn report(
    options: &Options,
    service: &Service,
    registrations: &[Registration],
    samples: &[Sample],
) -> ExitCode {
    let totals = service.totals();
    let reclaim = ebbmalloc::stats().reclaim;
    let peak = |figure: fn(&Sample) -> usize| samples.iter().map(figure).max().unwrap_or(0);
    let (backed, resident) = (peak(|now| now.backed), peak(|now| now.resident));
    say(format_args!(
        "\n{} queries answered; {} of them also straight from the files: {} differ\n",
        totals.queries, totals.checked, totals.wrong
    ));
    // As in `say`.
    let _ = watch::table(&mut io::stdout(), service, registrations, "");
    let wanted: usize = service
        .caches
        .figures()
        .iter()
        .map(|(_, it)| it.wanted)
        .sum();
    say(format_args!(
        "\n{:.0} MiB of different objects passed through the caches: {:.1} times the budget",
        mib(wanted),
        wanted as f64 / options.budget as f64
    ));
    say(format_args!(
        "{} reclaims, slowest {:.1} ms; {} failed allocations",
        reclaim.reclaims,
        ms(reclaim.time_ns_max),
        reclaim.failed
    ));
    say(format_args!(
        "at most {:.1} MiB backed and {:.1} MiB resident, under a budget of {:.0} MiB",
        mib(backed),
        mib(resident),
        mib(options.budget)
    ));
    let title = format!(
        "{:.0} MiB of cached objects under a budget of {:.0} MiB",
        mib(wanted),
        mib(options.budget)
    );
    match plot::draw(&options.plot, options.budget, &title, samples) {
        Ok(()) => say(format_args!("plot: {}", options.plot.display())),
        Err(error) => eprintln!("pressure: no plot: {error}"),
    }
    verdict(options, totals, resident, reclaim.failed)
}

fn verdict(options: &Options, totals: Totals, resident: usize, failed: u64) -> ExitCode {
    if totals.failed > 0 || failed > 0 {
        eprintln!(
            "pressure: out of memory: an allocation failed under the budget of {:.0} MiB, {}",
            mib(options.budget),
            if options.shrinkers {
                "although the caches gave back what they had; the threads at work need more"
            } else {
                "and no cache is registered as a shrinker to give any back"
            },
        );
        return ExitCode::from(OUT_OF_MEMORY);
    }
    if totals.wrong > 0 {
        eprintln!(
            "pressure: {} answers differ from those without caches",
            totals.wrong
        );
        return ExitCode::FAILURE;
    }
    if resident > options.budget + RESIDENT_MARGIN {
        eprintln!(
            "pressure: resident memory rose to {:.1} MiB, above the budget and {:.0} MiB",
            mib(resident),
            mib(RESIDENT_MARGIN)
        );
        return ExitCode::FAILURE;
    }
    say(format_args!(
        "resident memory stayed below the budget and {:.0} MiB; no allocation failed",
        mib(RESIDENT_MARGIN)
    ));
    ExitCode::SUCCESS
}

/// Writes a line to standard output. Nobody to read it is no reason to stop.
fn say(line: fmt::Arguments) {
    let _ = writeln!(io::stdout(), "{line}");
}
