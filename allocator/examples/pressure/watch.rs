//! Watching the run: a sample every 50 ms for the plot, a table four times a second on a terminal, a line a second
//! elsewhere.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use ebbmalloc::Registration;

use crate::options::Options;
use crate::worker::Service;

const EVERY: Duration = Duration::from_millis(50);

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) backed: usize,
    pub(crate) resident: usize,
    /// In the three caches, by their own account.
    pub(crate) cached: [usize; 3],
}

/// The watcher.
pub(crate) struct Watch<'a> {
    options: &'a Options,
    service: &'a Service,
    registrations: &'a [Registration],
    start: Instant,
    samples: Vec<Sample>,
    terminal: bool,
    /// Lines to go up before the next table.
    shown: usize,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        options: &'a Options,
        service: &'a Service,
        registrations: &'a [Registration],
        start: Instant,
    ) -> Self {
        let expected = options.time.as_millis() / EVERY.as_millis() + 100;
        Self {
            options,
            service,
            registrations,
            start,
            samples: Vec::with_capacity((expected as usize).min(20_000)),
            terminal: io::stdout().is_terminal(),
            shown: 0,
        }
    }

    /// Watches until all workers are done; the samples.
    pub(crate) fn until_done(mut self) -> Vec<Sample> {
        let pause = if self.terminal { 5 } else { 20 };
        for tick in 0_u64.. {
            self.sample();
            if tick % pause == 0 {
                self.show();
            }
            if self.service.is_done(self.options, self.start) && self.start.elapsed() > EVERY {
                break;
            }
            thread::sleep(EVERY);
        }
        self.show();
        self.samples
    }

    /// Takes a sample, unless the budget was lifted because memory ran out. The list grows only when the run takes
    /// longer than it was to.
    fn sample(&mut self) {
        if ebbmalloc::budget().is_none() {
            return;
        }
        self.samples.push(Sample {
            at: self.start.elapsed(),
            backed: ebbmalloc::backed(),
            resident: resident(),
            cached: self
                .service
                .caches
                .figures()
                .map(|(_, figures)| figures.bytes),
        });
    }

    /// Nobody to show it to is no reason to stop.
    fn show(&mut self) {
        let Some(now) = self.samples.last().copied() else {
            return;
        };
        let mut out = io::stdout().lock();
        let _ = if self.terminal {
            self.screen(&mut out, now)
        } else {
            self.line(&mut out, now)
        };
        let _ = out.flush();
    }

    fn line(&self, out: &mut impl Write, now: Sample) -> io::Result<()> {
        let reclaim = ebbmalloc::stats().reclaim;
        writeln!(
            out,
            "{:5.1} s  backed {:5.1} of {:.0} MiB, resident {:5.1} MiB, {} queries, {} reclaims, slowest {:.1} ms",
            now.at.as_secs_f32(),
            mib(now.backed),
            mib(self.options.budget),
            mib(now.resident),
            self.service.totals().queries,
            reclaim.reclaims,
            ms(reclaim.time_ns_max),
        )
    }

    /// The table in place of the last one. Lines stay below 80 columns, or going up would miscount them.
    fn screen(&mut self, out: &mut impl Write, now: Sample) -> io::Result<()> {
        if self.shown > 0 {
            write!(out, "\x1b[{}A", self.shown)?;
        }
        let reclaim = ebbmalloc::stats().reclaim;
        let filled = (now.backed * 24 / self.options.budget).min(24);
        writeln!(
            out,
            "\x1b[K{:5.1} s  backed {:5.1} of {:.0} MiB [{:<24}] resident {:5.1} MiB",
            now.at.as_secs_f32(),
            mib(now.backed),
            mib(self.options.budget),
            &"########################"[..filled],
            mib(now.resident),
        )?;
        writeln!(
            out,
            "\x1b[K         {} queries, {} reclaims, slowest {:.1} ms",
            self.service.totals().queries,
            reclaim.reclaims,
            ms(reclaim.time_ns_max),
        )?;
        self.shown = 2 + table(out, self.service, self.registrations, "\x1b[K")?;
        Ok(())
    }
}

/// A line for each cache; `before` stands at the beginning of each. How many lines it were.
pub(crate) fn table(
    out: &mut impl Write,
    service: &Service,
    registrations: &[Registration],
    before: &str,
) -> io::Result<usize> {
    writeln!(
        out,
        "{before}cache     objects   MiB of wanted      hits   misses  evicted   scans  slowest"
    )?;
    let caches = service.caches.figures();
    for (number, (name, figures)) in caches.iter().enumerate() {
        let stats = registrations.get(number).map(Registration::stats);
        let (scans, slowest) = stats.map_or((0, 0), |stats| (stats.scans, stats.time_ns_max));
        writeln!(
            out,
            "{before}{name:<8} {:>8} {:>6.1} of {:>5.1} {:>9} {:>8} {:>8} {scans:>7} {:>5.1} ms",
            figures.objects,
            mib(figures.bytes),
            mib(figures.wanted),
            figures.hits,
            figures.misses,
            figures.evicted,
            ms(slowest),
        )?;
    }
    Ok(1 + caches.len())
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Nanoseconds in milliseconds.
pub(crate) fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// This process's resident memory, in bytes; read without allocating.
fn resident() -> usize {
    let mut buffer = [0; 4096];
    let read = File::open("/proc/self/status")
        .and_then(|mut file| file.read(&mut buffer))
        .unwrap_or(0);
    let text = str::from_utf8(&buffer[..read]).unwrap_or("");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.map_or(0, |number| number.parse::<usize>().unwrap_or(0) << 10)
}
