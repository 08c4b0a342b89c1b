//! The tables that say where each CPU's sheaves are.
//!
//! Every CPU has a table of words, a row per node, a word per tag; a word names the top of a sheaf (`sheaf`). The fast
//! path (`os::percpu`) pops from and pushes to the current CPU's words.
//!
//! - In the rows of other nodes every word is `forbidden`: an object freed here that belongs there goes to its own
//!   node's slabs, never into a local sheaf. With one node there is one row, and nothing of this costs anything.
//! - Threads without restartable sequences (no such libc or kernel, `EBB_NO_RSEQ=1`) use tables of the same kind, each
//!   behind a lock: the fallback. Few programs have such threads, so these tables are filled when they are used first: what
//!   nobody has touched is no memory.

use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::{PAGE, ROW};
use crate::limits;
use crate::lock::Lock;
use crate::os::{self, NO_CPU, Rows, percpu};
use crate::sheaf;
use crate::size_class::{LAST, SHEAVES};
use crate::topology;
use crate::window::{self, Tag};

/// Held while everything is made.
pub(crate) static STARTING: Lock<()> = Lock::new(());

/// Fallback tables. More CPUs share them.
pub(crate) const FALLBACKS: usize = 64;

/// Where each CPU pops: the row of its own node.
static POP: Rows = Rows::new();

/// Where each CPU pushes: its whole table.
static PUSH: Rows = Rows::new();

/// The tables for threads without restartable sequences.
pub(crate) static FALLBACK: [Lock<Table>; FALLBACKS] =
    [const { Lock::new(Table { words: 0 }) }; FALLBACKS];

/// Which of them are filled: a bit each.
static FILLED: AtomicU64 = AtomicU64::new(0);
const _: () = assert!(FALLBACKS <= u64::BITS as usize);

/// A table of nothing but forbidden words.
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// The address of a table's first word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) words: usize,
}

impl Table {
    /// The word at `index`.
    pub(crate) fn word(self, index: usize) -> &'static AtomicUsize {
        let words = ptr::with_exposed_provenance::<AtomicUsize>(self.words);
        // SAFETY: tables have two words for every tag of every node of the machine, and callers have a tag of those.
        let word = unsafe { words.add(index) };
        // SAFETY: as above; tables are never unmapped.
        unsafe { &*word }
    }
}

/// Makes all tables, each on the node whose CPUs use it, and opens the fast path unless `fallback` is asked for. False
/// when there is no memory.
pub(crate) fn start(fallback: bool) -> bool {
    let machine = topology::machine();
    let bytes = (0..machine.nodes).map(group_bytes).sum();
    let Some(mut group) = os::map(bytes) else {
        return false;
    };
    limits::charge_always(bytes);
    for node in 0..machine.nodes {
        let bytes = group_bytes(node);
        machine.place(group, bytes, node);
        make_group(group.expose_provenance().get(), node);
        // SAFETY: the groups take all of the mapping, one after the other.
        group = unsafe { group.add(bytes) };
    }
    if !fallback && os::prepare_fences() {
        // Whoever is on no CPU, or on one that we were not told of.
        (0..NO_CPU).for_each(close_entry);
        (NO_CPU + machine.cpus..POP.entries.len()).for_each(close_entry);
        percpu::start(&POP, &PUSH, &window::start());
    }
    true
}

/// The index of the word that names the second sheaf for `tag`: behind all those that name sheaves in use.
pub(crate) fn second(tag: Tag) -> usize {
    topology::machine().nodes * ROW + tag.word()
}

/// Bytes of one table.
fn table_bytes() -> usize {
    2 * topology::machine().nodes * ROW * size_of::<usize>()
}

/// Bytes of the tables of a node, in whole pages; the closed table is with those of the first.
fn group_bytes(node: usize) -> usize {
    let tables = usize::from(node == 0) + fallbacks(node).count() + cpus(node).count();
    (tables * table_bytes()).next_multiple_of(PAGE)
}

/// The fallback tables of a node.
fn fallbacks(node: usize) -> impl Iterator<Item = usize> {
    (0..FALLBACKS).filter(move |index| fallback_home(*index) == node)
}

/// The CPUs of a node.
fn cpus(node: usize) -> impl Iterator<Item = usize> {
    let machine = topology::machine();
    (0..machine.cpus).filter(move |cpu| machine.home_of(*cpu) == node)
}

/// Makes the tables of a node, from `start` on.
fn make_group(start: usize, node: usize) {
    let mut words = start;
    let mut next = || {
        let table = Table { words };
        words += table_bytes();
        table
    };
    if node == 0 {
        let closed = next();
        fill(closed, None);
        CLOSED.store(closed.words, Ordering::Relaxed);
    }
    for index in fallbacks(node) {
        *FALLBACK[index].lock() = next();
    }
    for cpu in cpus(node) {
        let table = next();
        fill(table, Some(node));
        open(cpu, table);
    }
}

/// The fallback table that a CPU's threads use: one of its home, so that they get memory from there.
pub(crate) fn fallback(cpu: usize) -> &'static Lock<Table> {
    let machine = topology::machine();
    let per_home = FALLBACKS / machine.nodes;
    let index = machine.home_of(cpu) + cpu % per_home * machine.nodes;
    let is_filled = || {
        // Relaxed: set under the table's lock, which whoever reads the words takes.
        FILLED.load(Ordering::Relaxed) & (1 << index) != 0
    };
    if !is_filled() {
        let table = FALLBACK[index].lock();
        if !is_filled() {
            fill(*table, Some(fallback_home(index)));
            // Relaxed: as above.
            FILLED.fetch_or(1 << index, Ordering::Relaxed);
        }
    }
    &FALLBACK[index]
}

/// The fallback tables that are filled, with the node whose objects their sheaves hold.
pub(crate) fn fallbacks_in_use() -> impl Iterator<Item = (&'static Lock<Table>, usize)> {
    // Relaxed: as in `fallback`.
    let filled = FILLED.load(Ordering::Relaxed);
    (0..FALLBACKS)
        .filter(move |index| filled & (1 << index) != 0)
        .map(|index| (&FALLBACK[index], fallback_home(index)))
}

/// The node of a fallback table.
fn fallback_home(index: usize) -> usize {
    index % topology::machine().nodes
}

/// Writes the words of a new table that belongs to `home`, or is closed.
fn fill(table: Table, home: Option<usize>) {
    for node in 0..topology::machine().nodes {
        for kind in 0..ROW {
            let usable = (1..=LAST).contains(&kind) || kind == SHEAVES;
            let usable = usable && home == Some(node);
            let word = if usable {
                sheaf::unset()
            } else {
                sheaf::forbidden()
            };
            let tag = Tag::new(node, kind);
            for index in [tag.word(), second(tag)] {
                // Relaxed: nobody has the table yet.
                table.word(index).store(word, Ordering::Relaxed);
            }
        }
    }
}

/// Points a CPU's row addresses at its table.
pub(crate) fn open(cpu: usize, table: Table) {
    let home = topology::machine().home_of(cpu);
    let row = table.words + home * ROW * size_of::<usize>();
    // Release, both: whoever reads the address sees the words that were written before. The sequences load it and then
    // what it names: a dependency, which x86-64 keeps in order.
    PUSH.entries[NO_CPU + cpu].store(table.words, Ordering::Release);
    POP.entries[NO_CPU + cpu].store(row, Ordering::Release);
}

/// A CPU's table; one at address 0 before [`start`].
pub(crate) fn of_cpu(cpu: usize) -> Table {
    // Relaxed: the words' addresses never change, and what they hold is the caller's business.
    let words = PUSH.entries[NO_CPU + cpu].load(Ordering::Relaxed);
    Table { words }
}

/// Points a CPU's row addresses at a table without sheaves. Visible there after a fence.
pub(crate) fn close(cpu: usize) {
    close_entry(NO_CPU + cpu);
}

fn close_entry(entry: usize) {
    // Relaxed, all: a fence or the start of the fast path follows, and makes them visible.
    let closed = CLOSED.load(Ordering::Relaxed);
    PUSH.entries[entry].store(closed, Ordering::Relaxed);
    POP.entries[entry].store(closed, Ordering::Relaxed);
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
