//! Answering queries, through the caches and, to check, without them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::caches::{Answer, Caches, Weigh};
use crate::corpus::{self, Corpus, OutOfMemory};
use crate::options::Options;

/// Files per group.
const GROUP: usize = 6;

/// Every so many queries are answered a second time, straight from the files.
const CHECK_EVERY: u64 = 40;

/// Words that queries are about.
const WORDS: [&str; 24] = [
    "fn", "the", "let", "self", "impl", "unsafe", "struct", "return", "match", "where", "test",
    "None", "memory", "Option", "const", "version", "license", "alloc", "String", "panic", "usize",
    "mod", "trait", "async",
];

/// What is known of a word in one file.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    count: u32,
    /// Where the longest line with it begins.
    line: u32,
    /// How long that is.
    len: u32,
}

/// The words of one file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    words: HashMap<Box<str>, Entry>,
}

impl Weigh for Index {
    fn bytes(&self) -> usize {
        // A table's slot, and a block of 16 bytes at least for the word.
        self.words.capacity() * 40 + self.words.len() * 16
    }
}

impl Index {
    fn of(text: &str) -> Result<Self, OutOfMemory> {
        let mut words: HashMap<Box<str>, Entry> = HashMap::new();
        let start = text.as_ptr().addr();
        for line in text.lines() {
            for word in split(line) {
                if !words.contains_key(word) {
                    let mut owned = String::new();
                    owned
                        .try_reserve_exact(word.len())
                        .map_err(|_| OutOfMemory)?;
                    owned.push_str(word);
                    words.try_reserve(1).map_err(|_| OutOfMemory)?;
                    words.insert(owned.into_boxed_str(), Entry::default());
                }
                if let Some(entry) = words.get_mut(word) {
                    entry.count += 1;
                    if line.len() > entry.len as usize {
                        entry.len = line.len() as u32;
                        entry.line = (line.as_ptr().addr() - start) as u32;
                    }
                }
            }
        }
        Ok(Self { words })
    }
}

fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

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
        Self {
            caches: Caches::new(corpus.files.len()),
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
        let over = start.elapsed() >= options.time || self.stop.load(Ordering::Relaxed);
        over && self.running.load(Ordering::Acquire) == 0
    }

    /// Answers queries until the time is over, or memory.
    pub(crate) fn work(&self, options: &Options, worker: u64, start: Instant) {
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
        let skewed = (0..4).map(|_| random.below(groups)).min().unwrap_or(0);
        (random.below(WORDS.len() as u64) as u32, skewed as u32)
    }

    fn query(&self, query: (u32, u32), number: u64) -> Result<(), OutOfMemory> {
        if number.is_multiple_of(CHECK_EVERY) {
            let plain = self.answer_without_caches(query)?;
            let same = self.caches.answers.get(query, |answer| *answer == plain);
            let same = match same {
                Some(same) => same,
                None => self.answer(query)? == plain,
            };
            self.checked.fetch_add(1, Ordering::Relaxed);
            self.wrong.fetch_add(u64::from(!same), Ordering::Relaxed);
        } else if self
            .caches
            .answers
            .get(query, |answer| answer.count)
            .is_none()
        {
            let answer = self.answer(query)?;
            self.caches.answers.put(query, answer);
        }
        Ok(())
    }

    /// The files of a group.
    fn group(&self, group: u32) -> impl Iterator<Item = usize> + use<> {
        let first = group as usize * GROUP;
        first..(first + GROUP).min(self.corpus.files.len())
    }

    fn answer(&self, (word, group): (u32, u32)) -> Result<Answer, OutOfMemory> {
        let (mut count, mut best) = (0, (0, 0, Entry::default()));
        for file in self.group(group) {
            let index = self.index(file)?;
            let entry = index
                .words
                .get(WORDS[word as usize])
                .copied()
                .unwrap_or_default();
            count += u64::from(entry.count);
            if entry.len > best.0 {
                best = (entry.len, file, entry);
            }
        }
        let text = if best.0 > 0 {
            self.text(best.1)?
        } else {
            Arc::default()
        };
        let line = best.2.line as usize;
        let longest = copy(&text[line..line + best.2.len as usize])?;
        Ok(Answer { count, longest })
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
        let (mut count, mut longest) = (0, copy("")?);
        for file in self.group(group) {
            let text = corpus::read(&self.corpus.files[file])?;
            for line in text.lines() {
                let found = split(line)
                    .filter(|other| *other == WORDS[word as usize])
                    .count();
                count += found as u64;
                if found > 0 && line.len() > longest.len() {
                    longest = copy(line)?;
                }
            }
        }
        Ok(Answer { count, longest })
    }
}

fn copy(text: &str) -> Result<Box<str>, OutOfMemory> {
    let mut owned = String::new();
    owned
        .try_reserve_exact(text.len())
        .map_err(|_| OutOfMemory)?;
    owned.push_str(text);
    Ok(owned.into_boxed_str())
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
