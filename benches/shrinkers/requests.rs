//! B7 on the allocator itself: caches of its blocks fill the budget, and then somebody asks for more. No request may be refused
//! that would be granted if all caches were empty.
//!
//! A case has one to four caches of 1 to 300 objects of 16 bytes to 64 KiB, blocks like any others or of slabs of their own,
//! with holes and with blocks of others among them (`piles`). The budget is what is backed then, and the reserve. Requests
//! follow until one is refused, 32 at most. Two things are held against a refusal:
//!
//! - *What was measured.* How much more is backed with the caches than before there were any comes back when they are empty, but
//!   for the slabs that blocks of others pin: at most one each, with its table. Less what was granted since, and if it is enough for the request
//!   with the allocator's rounding and tables, the request must be granted.
//! - *What can be done.* All caches are emptied by hand, all that is free is given back, and the same request is made again. If it
//!   is granted now, it should have been before.
//!
//! Each case follows from its number, and begins with an empty heap. What the reclaim thread (one shrinker in 128 is
//! for it) gets of the processor does not: where others take all of it, it may be silent for longer than a request waits.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebb_benches::Random;
use ebbmalloc::{Mode, Registration};

use crate::piles::{Block, Pile};

/// A slab of objects of at most 256 KiB has so many bytes at most.
const SLAB: usize = 256 << 10;

/// A slab of objects of at most 64 KiB, and the table of the 2 MiB that it lies in.
const PINNED: usize = 248 << 10;

/// What a request may cost beside its pages: 2 MiB of which nothing was in use have a table.
const TABLES: usize = 64 << 10;

/// How often is told how far it is.
const NEWS: Duration = Duration::from_secs(5);

/// What came of all cases.
#[derive(Default)]
struct Outcome {
    requests: usize,
    /// Those that had to be granted by what was measured.
    sure: usize,
    refused: usize,
    false_failures: usize,
}

/// A case: caches that fill the budget.
struct Case {
    random: Random,
    piles: Vec<Arc<Pile>>,
    registered: Vec<Registration>,
    /// Blocks of others.
    _others: Vec<Block>,
    /// What was granted.
    granted: Vec<Block>,
    /// Bytes that come back for sure.
    sure: usize,
    /// Bytes of objects in the caches.
    held: usize,
}

fn bytes(piles: &[Arc<Pile>]) -> usize {
    piles.iter().map(|pile| pile.bytes()).sum()
}

impl Case {
    fn new(number: usize) -> Option<Self> {
        let mut random = Random::new(number as u64);
        let piles: Option<Vec<_>> = (0..=random.below(4))
            .map(|_| Pile::new(&mut random).map(Arc::new))
            .collect();
        let piles = piles?;
        ebbmalloc::purge();
        let before = ebbmalloc::backed();
        let others = Self::fill(&mut random, &piles)?;
        ebbmalloc::purge();
        let backed = ebbmalloc::backed();
        let doublings = random.below(21);
        let reserve = random.below(1 << doublings);
        ebbmalloc::set_reserve(reserve);
        ebbmalloc::set_budget(Some(backed + reserve));
        let register =
            |pile: &Arc<Pile>| ebbmalloc::register(Pile::spec(&mut random), pile.clone());
        let registered = piles.iter().map(register).collect::<Result<_, _>>().ok()?;
        Some(Self {
            // A reclaim thread may still have held something of the last case before.
            sure: backed.saturating_sub(before + others.len() * PINNED),
            held: bytes(&piles),
            random,
            piles,
            registered,
            _others: others,
            granted: Vec::new(),
        })
    }

    /// Puts objects into the caches, by turns in any order, and leaves holes. The blocks of others that lie between.
    fn fill(random: &mut Random, piles: &[Arc<Pile>]) -> Option<Vec<Block>> {
        let holes = random.below(3) * random.below(100);
        let mut order = Vec::new();
        for (number, _) in piles.iter().enumerate() {
            let objects = 1 + random.below(300);
            order.extend((0..objects).map(|_| (number, 1)));
            order.extend((0..objects * holes / 100).map(|_| (number, 0)));
        }
        let between = match random.below(2) {
            0 => random.below(8),
            _ => 0,
        };
        order.extend((0..between).map(|_| (random.below(piles.len()), 2)));
        random.shuffle(&mut order);
        let marked = random.below(101);
        let (mut others, mut gone) = (Vec::new(), Vec::new());
        for (number, kind) in order {
            let block = piles[number].block()?;
            match kind {
                0 => gone.push(block),
                1 => piles[number].put(block, random.below(100) < marked),
                _ => others.push(block),
            }
        }
        Some(others)
    }

    /// Makes requests until one is refused. Whether that was right; what else there is to say.
    fn run(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        for _ in 0..=self.random.below(32) {
            let pile = self.piles[self.random.below(self.piles.len())].clone();
            let most = self.held.max(self.sure).max(1);
            let doublings = self.random.below(27);
            let (size, own) = match self.random.below(4) {
                0 => (pile.size, !pile.is_shared()),
                1 => (1 + self.random.below(most.min(1 << doublings)), false),
                _ => (1 + self.random.below(most), false),
            };
            let request = || match own {
                true => pile.block(),
                false => Block::new(size, None),
            };
            let need = size.max(SLAB).next_multiple_of(32 << 10) + TABLES;
            outcome.requests += 1;
            outcome.sure += usize::from(need <= self.sure);
            let Some(block) = request() else {
                outcome.refused += 1;
                return self.judge(size, need, &request);
            };
            self.granted.push(block);
            self.held = bytes(&self.piles);
            self.sure = self.sure.saturating_sub(need);
        }
        Ok(())
    }

    /// Whether a refusal was right.
    fn judge(
        &self,
        size: usize,
        need: usize,
        request: &dyn Fn() -> Option<Block>,
    ) -> Result<(), String> {
        let sure = need <= self.sure;
        let left: Vec<usize> = self.piles.iter().map(|pile| pile.take().len()).collect();
        ebbmalloc::purge();
        // Not one that fails at once: that has a part of the reserve too.
        let _scope = ebbmalloc::mode(Mode::NoRetry);
        let granted = request().is_some();
        match sure || granted {
            true => Err(format!(
                "{size} bytes refused after {} requests were granted; caches of {:?} bytes ({:?}) had {left:?} objects left; \
                 {} bytes sure; without them it is {}granted",
                self.granted.len(),
                self.piles.iter().map(|pile| pile.size).collect::<Vec<_>>(),
                self.registered
                    .iter()
                    .map(|one| one.stats().lane)
                    .collect::<Vec<_>>(),
                self.sure,
                if granted { "" } else { "not " }
            )),
            false => Ok(()),
        }
    }
}

/// Runs the cases of these numbers, and says what came of them.
pub(crate) fn run(cases: Range<usize>) {
    ebbmalloc::set_reports(false);
    // The tables for all addresses nearby never go back.
    drop(Block::new(1 << 20, None));
    let mut outcome = Outcome::default();
    let (start, mut told) = (Instant::now(), Instant::now());
    for number in cases.clone() {
        let Some(mut case) = Case::new(number) else {
            println!("B7: case {number}: no memory");
            break;
        };
        if let Err(what) = case.run(&mut outcome) {
            outcome.false_failures += 1;
            println!(
                "B7: case {number}: {what}; again: cargo bench --bench shrinkers -- B7:{number}..{}",
                number + 1
            );
        }
        drop(case);
        ebbmalloc::set_budget(None);
        if told.elapsed() > NEWS {
            told = Instant::now();
            let done = number + 1 - cases.start;
            eprintln!(
                "B7: {done} of {} cases, {:.0} us each, {} false failures",
                cases.len(),
                start.elapsed().as_micros() as f64 / done as f64,
                outcome.false_failures
            );
        }
    }
    ebbmalloc::set_reports(true);
    println!(
        "B7: {} cases on the allocator, {:.0} us each: {} requests, {} of which had to be granted for sure; {} refused, {} of \
         them falsely",
        cases.len(),
        start.elapsed().as_micros() as f64 / cases.len().max(1) as f64,
        outcome.requests,
        outcome.sure,
        outcome.refused,
        outcome.false_failures
    );
}

/// The cases that a word names: `B7:0..1000000`.
pub(crate) fn named(word: &str) -> Option<Range<usize>> {
    let (first, end) = word.strip_prefix("B7:")?.split_once("..")?;
    Some(first.parse().ok()?..end.parse().ok()?)
}
