//! Watching the run: a sample every 50 ms for the plot, a table four times a second on a terminal, a line a second
//! elsewhere.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::worker::Service;

const EVERY: Duration = Duration::from_millis(50);

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) backed: usize,
    pub(crate) resident: usize,
}

/// The watcher.
pub(crate) struct Watch<'a> {
    options: &'a Options,
    service: &'a Service,
    start: Instant,
    samples: Vec<Sample>,
    terminal: bool,
    /// Lines to go up before the next table.
    shown: usize,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(options: &'a Options, service: &'a Service, start: Instant) -> Self {
        let expected = options.time.as_millis() / EVERY.as_millis() + 100;
        Self {
            options,
            service,
            start,
            samples: Vec::with_capacity((expected as usize).min(100_000)),
            terminal: std::io::stdout().is_terminal(),
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

    fn sample(&mut self) {
        let sample = Sample {
            at: self.start.elapsed(),
            backed: ebbmalloc::backed(),
            resident: resident(),
        };
        // Grows only when the run takes longer than it was to.
        self.samples.push(sample);
    }

    fn show(&mut self) {
        let Some(now) = self.samples.last() else {
            return;
        };
        let budget = self.options.budget;
        let filled = (now.backed * 30 / budget).min(30);
        let reclaim = ebbmalloc::stats().reclaim;
        let mut out = std::io::stdout().lock();
        let mut lines = 1;
        let clear = if self.terminal { "\x1b[K" } else { "" };
        if self.terminal && self.shown > 0 {
            let _ = write!(out, "\x1b[{}A", self.shown);
        }
        let _ = writeln!(
            out,
            "{clear}{:5.1} s [{:<30}] backed {:>5.1} of {} MiB, resident {:>5.1} MiB, {} queries, {} reclaims, slowest {} us",
            now.at.as_secs_f32(),
            &"##############################"[..filled],
            mib(now.backed),
            budget >> 20,
            mib(now.resident),
            self.service.totals().queries,
            reclaim.reclaims,
            reclaim.time_ns_max / 1000,
        );
        if self.terminal {
            let rates = self.service.caches.rates();
            for ((name, objects, bytes, evicted), (_, hits, misses)) in
                self.service.caches.sizes().iter().zip(rates)
            {
                let bytes = mib(*bytes);
                let _ = writeln!(
                    out,
                    "{clear}  {name:<8} {objects:>8} objects {bytes:>7.1} MiB {hits:>9} hits {misses:>8} misses {evicted:>8} evicted"
                );
                lines += 1;
            }
        }
        self.shown = lines;
    }
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// This process's resident memory, in bytes; read without allocating.
fn resident() -> usize {
    let mut buffer = [0; 128];
    let read = File::open("/proc/self/statm")
        .and_then(|mut file| file.read(&mut buffer))
        .unwrap_or(0);
    let text = str::from_utf8(&buffer[..read]).unwrap_or("");
    let pages: usize = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * 4096
}
