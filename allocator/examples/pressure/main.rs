//! A service in miniature under memory pressure: `cargo run --release --example pressure`.
//!
//! Worker threads answer queries over a directory of text files: how often a word stands in a group of files, and the
//! longest line that has it. Three caches make that fast: file contents, an index per file, and answers. Together they
//! would like several times the budget. They are registered as shrinkers, so they give memory back whenever an
//! allocation needs it; no allocation fails. With `--no-shrinkers` they are not, and the same run ends out of memory.
//!
//! `options` reads the command line, `corpus` finds the files, `worker` answers, `caches` remembers, `watch` shows, `plot`
//! draws.
#![forbid(unsafe_code)]

mod caches;
mod corpus;
mod options;
mod plot;
mod watch;
mod worker;

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use ebbmalloc::{EbbMalloc, RegisterError, Registration};

use caches::Caches;
use corpus::Corpus;
use options::Options;
use watch::{Sample, Watch};
use worker::Service;

#[global_allocator]
static ALLOCATOR: EbbMalloc = EbbMalloc;

/// How far the resident memory may exceed the budget: the program itself, stacks, page tables, the C library, and the
/// memory that the loader and the main thread had before the budget was set.
const RESIDENT_MARGIN: usize = 16 << 20;

/// Exit status when memory ran out, as `--no-shrinkers` is meant to show.
const OUT_OF_MEMORY: u8 = 3;

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pressure: {error}; --help shows the options");
            return ExitCode::from(2);
        }
    };
    let corpus = match Corpus::find(options.path.as_deref()) {
        Ok(corpus) => corpus,
        Err(error) => {
            eprintln!("pressure: {error}");
            return ExitCode::from(2);
        }
    };
    println!(
        "{} files, {} MiB, under {}; budget {} MiB, {} threads, {}",
        corpus.files.len(),
        corpus.bytes >> 20,
        corpus.root.display(),
        options.budget >> 20,
        options.threads,
        if options.shrinkers {
            "caches registered as shrinkers"
        } else {
            "no shrinkers"
        },
    );
    let service = Service::new(corpus);
    ebbmalloc::set_budget(Some(options.budget));
    let registrations = if options.shrinkers {
        register(&service.caches)
    } else {
        Ok(Vec::new())
    };
    let Ok(registrations) = registrations else {
        eprintln!(
            "pressure: a budget of {} MiB has no room for the caches' registrations",
            options.budget >> 20
        );
        return ExitCode::FAILURE;
    };
    let samples = run(&options, &service);
    // The report needs memory whatever the outcome.
    ebbmalloc::set_budget(None);
    let code = report(&options, &service, &registrations, &samples);
    drop(registrations);
    code
}

/// What an object costs to make again decides how hard its cache is pressed: files are one read, an index is a read
/// and a parse, an answer is several of those.
fn register(caches: &Caches) -> Result<Vec<Registration>, RegisterError> {
    let spec = |name| ebbmalloc::Shrinker::new(name).batch(32);
    Ok(vec![
        ebbmalloc::register(spec("files").seeks(2), caches.files.clone())?,
        ebbmalloc::register(spec("indexes").seeks(3), caches.indexes.clone())?,
        ebbmalloc::register(spec("answers").seeks(4), caches.answers.clone())?,
    ])
}

/// Runs the workers and watches them.
fn run(options: &Options, service: &Service) -> Vec<Sample> {
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in 0..options.threads {
            scope.spawn(move || service.work(options, worker as u64, start));
        }
        Watch::new(options, service, start).until_done()
    })
}

fn report(
    options: &Options,
    service: &Service,
    registrations: &[Registration],
    samples: &[Sample],
) -> ExitCode {
    let totals = service.totals();
    let peak = samples
        .iter()
        .map(|sample| sample.resident)
        .max()
        .unwrap_or(0);
    let backed = samples
        .iter()
        .map(|sample| sample.backed)
        .max()
        .unwrap_or(0);
    let reclaim = ebbmalloc::stats().reclaim;
    println!(
        "\n{} queries, {} checked against the files, {} wrong",
        totals.queries, totals.checked, totals.wrong
    );
    for (name, hits, misses) in service.caches.rates() {
        println!("  {name:<8} {hits:>9} hits {misses:>9} misses");
    }
    for stats in registrations.iter().map(Registration::stats) {
        println!(
            "  {:<8} {:>9} objects evicted in {} scans, {} stops, slowest call {} us",
            stats.name(),
            stats.objects,
            stats.scans,
            stats.stops,
            stats.time_ns_max / 1000
        );
    }
    println!(
        "{} reclaims, slowest {} us; {} failed allocations; peak backed {} MiB, peak resident {} MiB",
        reclaim.reclaims,
        reclaim.time_ns_max / 1000,
        totals.failed,
        backed >> 20,
        peak >> 20
    );
    match plot::draw(&options.plot, options.budget, samples) {
        Ok(()) => println!("plot: {}", options.plot.display()),
        Err(error) => eprintln!("pressure: no plot: {error}"),
    }
    if totals.failed > 0 {
        eprintln!(
            "pressure: out of memory: an allocation failed under the budget of {} MiB{}",
            options.budget >> 20,
            if options.shrinkers {
                ""
            } else {
                ", and no cache is registered as a shrinker to give any back"
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
    if peak > options.budget + RESIDENT_MARGIN {
        eprintln!(
            "pressure: resident memory rose to {} MiB, more than the budget and {} MiB",
            peak >> 20,
            RESIDENT_MARGIN >> 20
        );
        return ExitCode::FAILURE;
    }
    println!(
        "resident memory stayed under the budget and {} MiB; no allocation failed",
        RESIDENT_MARGIN >> 20
    );
    ExitCode::SUCCESS
}
