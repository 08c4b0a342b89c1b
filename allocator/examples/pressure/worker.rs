//! Answering queries, through the caches and, to check, without them.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::caches::{Answer, Caches};
use crate::corpus::{self, Corpus, OutOfMemory};
use crate::index::{Index, copy, split};
use crate::options::Options;

/// Files per group.
const GROUP: usize = 6;

/// Every so many queries are answered a second time, straight from the files.
const CHECK_EVERY: u64 = 40;

/// An answer quotes so many lines at most,
const LINES: usize = 128;

/// and so many bytes of each.
const LINE: usize = 120;

/// Words that queries are about: such as most files have.
const WORDS: [&str; 48] = [
    "a", "and", "as", "assert", "be", "const", "core", "crate", "else", "fn", "for", "from", "i32",
    "if", "impl", "in", "into", "is", "let", "match", "mod", "mut", "name", "new", "None", "not",
    "of", "Ok", "or", "Option", "pub", "return", "Result", "self", "Self", "Some", "std", "str",
    "struct", "super", "that", "the", "this", "to", "type", "u32", "u8", "use",
];

/// The service: files, caches and counts.
pub(crate) struct Service {
    corpus: Corpus,
    pub(crate) caches: Caches,
    queries: AtomicU64,
    checked: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
    running: AtomicU64,
    stop: AtomicBool,
}

/// What the workers have done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) queries: u64,
    pub(crate) checked: u64,
    pub(crate) wrong: u64,
    /// Queries that ended because an allocation failed.
    pub(crate) failed: u64,
}

impl Service {
    pub(crate) fn new(corpus: Corpus) -> Self {
        let groups = corpus.files.len().div_ceil(GROUP);
        Self {
            caches: Caches::new(corpus.files.len(), WORDS.len(), groups),
            corpus,
            queries: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            running: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        // Relaxed: figures.
        Totals {
            queries: self.queries.load(Ordering::Relaxed),
            checked: self.checked.load(Ordering::Relaxed),
            wrong: self.wrong.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Whether no worker will answer any more queries.
    pub(crate) fn is_done(&self, options: &Options, start: Instant) -> bool {
        // Relaxed: a flag that carries nothing; Acquire: pairs with the Release in `work`.
        let over = start.elapsed() >= options.time || self.stop.load(Ordering::Relaxed);
        over && self.running.load(Ordering::Acquire) == 0
    }

    /// Answers queries until the time is over, or memory.
    pub(crate) fn work(&self, options: &Options, worker: u64, start: Instant) {
        // Relaxed, here and below: counters, and a flag that carries nothing.
        self.running.fetch_add(1, Ordering::Relaxed);
        let mut random =
            Random(options.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (worker + 1) << 32);
        while start.elapsed() < options.time && !self.stop.load(Ordering::Relaxed) {
            let query = self.pick(&mut random);
            let number = self.queries.fetch_add(1, Ordering::Relaxed) + 1;
            if self.query(query, number).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
                // What is left to do, the report above all, needs memory.
                ebbmalloc::set_budget(None);
                self.stop.store(true, Ordering::Relaxed);
            }
            if number >= options.queries {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        // Release: pairs with the Acquire in `is_done`.
        self.running.fetch_sub(1, Ordering::Release);
    }

    /// A word and a group of files; low numbers more often.
    fn pick(&self, random: &mut Random) -> (u32, u32) {
        let groups = self.corpus.files.len().div_ceil(GROUP) as u64;
        let skewed = (0..2).map(|_| random.below(groups)).min().unwrap_or(0);
        (random.below(WORDS.len() as u64) as u32, skewed as u32)
    }

    fn query(&self, query: (u32, u32), number: u64) -> Result<(), OutOfMemory> {
        let answers = &self.caches.answers;
        if number.is_multiple_of(CHECK_EVERY) {
            let plain = self.answer_without_caches(query)?;
            let same = match answers.get(query, |answer| *answer == plain) {
                Some(same) => same,
                None => self.answer(query)? == plain,
            };
            // Relaxed: figures.
            self.checked.fetch_add(1, Ordering::Relaxed);
            self.wrong.fetch_add(u64::from(!same), Ordering::Relaxed);
        } else if answers.get(query, |answer| answer.count).is_none() {
            let answer = self.answer(query)?;
            answers.put(query, answer);
        }
        Ok(())
    }

    /// The files of a group.
    fn group(&self, group: u32) -> impl Iterator<Item = usize> + use<> {
        let first = group as usize * GROUP;
        first..(first + GROUP).min(self.corpus.files.len())
    }

    fn answer(&self, (word, group): (u32, u32)) -> Result<Answer, OutOfMemory> {
        let mut found = Found::default();
        for file in self.group(group) {
            let index = self.index(file)?;
            let places = index.places(WORDS[word as usize]);
            found.count += places.len() as u64;
            if places.is_empty() || found.is_full() {
                continue;
            }
            let (text, name, mut last) = (self.text(file)?, self.corpus.name(file), None);
            for place in places {
                if last.replace(place.line) != Some(place.line) {
                    let line = text[place.start as usize..].lines().next().unwrap_or("");
                    found.quote(name, place.line, line)?;
                }
            }
        }
        found.answer()
    }

    fn index(&self, file: usize) -> Result<Arc<Index>, OutOfMemory> {
        if let Some(index) = self.caches.indexes.get(file) {
            return Ok(index);
        }
        let text = self.text(file)?;
        let index = Arc::new(Index::of(&text)?);
        self.caches.indexes.put(file, index.clone());
        Ok(index)
    }

    fn text(&self, file: usize) -> Result<Arc<String>, OutOfMemory> {
        if let Some(text) = self.caches.files.get(file) {
            return Ok(text);
        }
        let text = Arc::new(corpus::read(&self.corpus.files[file])?);
        self.caches.files.put(file, text.clone());
        Ok(text)
    }

    fn answer_without_caches(&self, (word, group): (u32, u32)) -> Result<Answer, OutOfMemory> {
        let mut found = Found::default();
        for file in self.group(group) {
            let text = corpus::read(&self.corpus.files[file])?;
            for (number, line) in text.lines().enumerate() {
                let count = split(line)
                    .filter(|other| *other == WORDS[word as usize])
                    .count();
                found.count += count as u64;
                if count > 0 {
                    found.quote(self.corpus.name(file), number as u32, line)?;
                }
            }
        }
        found.answer()
    }
}

/// An answer that is being put together.
#[derive(Default)]
struct Found {
    count: u64,
    quoted: usize,
    lines: String,
}

impl Found {
    fn is_full(&self) -> bool {
        self.quoted == LINES
    }

    /// Quotes a line as `grep -n` does, unless enough were. Texts are ASCII, so a line may be cut anywhere.
    fn quote(&mut self, file: &str, number: u32, line: &str) -> Result<(), OutOfMemory> {
        if self.is_full() {
            return Ok(());
        }
        let line = &line[..line.len().min(LINE)];
        // The number has ten digits at most.
        let more = file.len() + line.len() + 16;
        self.lines.try_reserve(more).map_err(|_| OutOfMemory)?;
        // A string takes whatever is written to it.
        let _ = writeln!(self.lines, "{file}:{}: {line}", number + 1);
        self.quoted += 1;
        Ok(())
    }

    fn answer(self) -> Result<Answer, OutOfMemory> {
        Ok(Answer {
            count: self.count,
            lines: copy(&self.lines)?,
        })
    }
}

/// Random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
