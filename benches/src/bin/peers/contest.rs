//! Everything run by turns.
//!
//! A round runs each case with each contestant, in an order that is drawn anew for each: so what changes slowly on the machine
//! meets all alike, and so does what the run before left behind. (Who came after glibc in every round found the system's
//! memory in small pieces, and took up to twice the time to fill a heap of 2 GiB.)

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ebb_benches::Random;

use crate::measure::{self, Sample};

/// An allocator, and how programs get it.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The program that carries it; without one the case's command is the program.
    pub(crate) program: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// What is run with each of them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Cases of one group have a mean of their own.
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) command: Vec<OsString>,
    /// Where it stands on the axis of its group, if it is one of many sizes.
    pub(crate) at: Option<f64>,
}

/// All that is to be run. Ratios are to the first contestant.
#[derive(Debug)]
pub(crate) struct Contest {
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) cases: Vec<Case>,
    pub(crate) runs: usize,
    pub(crate) timeout: Duration,
    /// Whether all contestants must write the same in a case.
    pub(crate) same_output: bool,
}

/// What came of it, by numbers of case and contestant.
#[derive(Debug, Default)]
pub(crate) struct Results {
    samples: HashMap<(usize, usize), Vec<Sample>>,
    failed: HashMap<(usize, usize), String>,
    failures: Vec<String>,
}

impl Results {
    /// The samples of a contestant in a case, one for each round; none if a run failed.
    pub(crate) fn samples(&self, case: usize, contestant: usize) -> Option<&[Sample]> {
        match self.failed.contains_key(&(case, contestant)) {
            true => None,
            false => self.samples.get(&(case, contestant)).map(Vec::as_slice),
        }
    }

    /// What went wrong.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}

/// The numbers below `count` in any order.
fn order(random: &mut Random, count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    random.shuffle(&mut order);
    order
}

impl Contest {
    /// Runs it all; who fails in a case is not run in that case again.
    pub(crate) fn run(&self) -> Result<Results, String> {
        let mut results = Results::default();
        // The same orders each time.
        let mut random = Random::new(1);
        let mut progress = Progress::new(self.runs * self.cases.len() * self.contestants.len());
        for round in 0..self.runs {
            for case in 0..self.cases.len() {
                for contestant in order(&mut random, self.contestants.len()) {
                    progress.next(&format!(
                        "round {} of {}: {} {}",
                        round + 1,
                        self.runs,
                        self.cases[case].name,
                        self.contestants[contestant].name
                    ));
                    self.turn(case, contestant, &mut results);
                }
            }
        }
        progress.end();
        if results.samples.is_empty() {
            return Err(results
                .failures
                .first()
                .cloned()
                .unwrap_or_else(|| "there is nothing to run".into()));
        }
        Ok(results)
    }

    /// The groups, in order, each with the numbers of its cases.
    pub(crate) fn groups(&self) -> Vec<(&str, Vec<usize>)> {
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for (number, case) in self.cases.iter().enumerate() {
            match groups.iter_mut().find(|(name, _)| *name == case.group) {
                Some((_, cases)) => cases.push(number),
                None => groups.push((&case.group, vec![number])),
            }
        }
        groups
    }

    fn turn(&self, case: usize, contestant: usize, results: &mut Results) {
        if results.failed.contains_key(&(case, contestant)) {
            return;
        }
        let outcome = measure::run(&mut self.command(case, contestant), self.timeout);
        match outcome.and_then(|sample| self.check(case, sample, results)) {
            Ok(sample) => results
                .samples
                .entry((case, contestant))
                .or_default()
                .push(sample),
            Err(reason) => {
                let failure = format!(
                    "{} with {}: {reason}",
                    self.cases[case].name, self.contestants[contestant].name
                );
                results.failures.push(failure);
                results.failed.insert((case, contestant), reason);
            }
        }
    }

    fn command(&self, case: usize, contestant: usize) -> Command {
        let contestant = &self.contestants[contestant];
        let mut words = contestant
            .program
            .iter()
            .map(|program| program.as_os_str())
            .chain(self.cases[case].command.iter().map(OsString::as_os_str));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).envs(
            contestant
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
    }

    /// The sample, if its output is that of the other contestants.
    fn check(&self, case: usize, sample: Sample, results: &Results) -> Result<Sample, String> {
        let before =
            (0..self.contestants.len()).find_map(|other| results.samples(case, other)?.first());
        match before {
            Some(before) if self.same_output && before.output != sample.output => Err(format!(
                "it gave {:?}, others {:?}",
                sample.output, before.output
            )),
            _ => Ok(sample),
        }
    }
}

/// One line on a terminal that is written over; elsewhere a line now and then.
struct Progress {
    begin: Instant,
    shown: Option<Instant>,
    done: usize,
    all: usize,
    terminal: bool,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self {
            begin: Instant::now(),
            shown: None,
            done: 0,
            all,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn next(&mut self, what: &str) {
        let pause = if self.terminal {
            Duration::ZERO
        } else {
            Duration::from_secs(20)
        };
        if self.shown.is_none_or(|shown| shown.elapsed() >= pause) {
            let left = self.begin.elapsed().as_secs_f64() / self.done.max(1) as f64
                * (self.all - self.done) as f64;
            let left = if self.done == 0 {
                String::new()
            } else {
                format!(", about {left:.0} s left")
            };
            let (before, after) = if self.terminal {
                ("\r\x1b[K", "")
            } else {
                ("", "\n")
            };
            eprint!(
                "{before}[{}/{}] {what}{left}{after}",
                self.done + 1,
                self.all
            );
            let _ = std::io::stderr().flush();
            self.shown = Some(Instant::now());
        }
        self.done += 1;
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        eprintln!(
            "{} runs in {:.0} s",
            self.done,
            self.begin.elapsed().as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the same order each time.
    #[test]
    fn everybody_comes_after_everybody() {
        let mut random = Random::new(1);
        let mut pairs = std::collections::HashSet::new();
        for _ in 0..200 {
            let order = order(&mut random, 5);
            pairs.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
        }
        assert_eq!(pairs.len(), 5 * 4);
    }
}
