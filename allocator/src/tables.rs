//! The tables that say where each CPU's sheaves are.
//!
//! Every CPU has a table of words, a row per node, a word per tag; a word names the top of a sheaf (`sheaf`). The fast
//! path (`os::percpu`) pops from and pushes to the current CPU's words.
//!
//! - In the rows of other nodes every word is `forbidden`: an object freed here that belongs there goes to its own
//!   node's slabs, never into a local sheaf. With one node there is one row, and nothing of this costs anything.
//! - Threads without restartable sequences (no such libc or kernel, `EBB_NO_RSEQ=1`) use tables of the same kind, each
//!   behind a lock: the fallback.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::budget;
use crate::config::{PAGE, ROW};
use crate::lock::Lock;
use crate::os::{self, percpu};
use crate::sheaf;
use crate::size_class::{LAST, SHEAVES};
use crate::span_map::Tag;
use crate::topology::{self, MAX_CPUS};

/// Held while everything is made.
pub(crate) static STARTING: Lock<()> = Lock::new(());

/// Fallback tables. More CPUs share them.
pub(crate) const FALLBACKS: usize = 64;

/// Where each CPU pops: the row of its own node.
static POP: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Where each CPU pushes: its whole table.
static PUSH: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// The tables for threads without restartable sequences.
pub(crate) static FALLBACK: [Lock<Table>; FALLBACKS] =
    [const { Lock::new(Table { words: 0 }) }; FALLBACKS];

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
        // SAFETY: tables have a word for every tag of every node of the machine, and callers have a tag of those.
        let word = unsafe { words.add(index) };
        // SAFETY: as above; tables are never unmapped.
        unsafe { &*word }
    }
}

/// Makes all tables, and opens the fast path unless `fallback` is asked for. False when there is no memory.
pub(crate) fn start(fallback: bool) -> bool {
    let machine = topology::machine();
    let row = machine.nodes * ROW;
    let tables = 1 + FALLBACKS + machine.cpus;
    let bytes = tables * row * size_of::<usize>();
    let Some(start) = os::map(bytes.next_multiple_of(PAGE)) else {
        return false;
    };
    budget::charge_always(bytes.next_multiple_of(PAGE));
    let start = start.expose_provenance().get();
    let table = |index: usize| Table {
        words: start + index * row * size_of::<usize>(),
    };
    fill(table(0), None);
    CLOSED.store(table(0).words, Ordering::Relaxed);
    for (index, slot) in FALLBACK.iter().enumerate() {
        fill(table(1 + index), Some(fallback_home(index)));
        *slot.lock() = table(1 + index);
    }
    for cpu in 0..machine.cpus {
        let table = table(1 + FALLBACKS + cpu);
        fill(table, Some(machine.home_of(cpu)));
        open(cpu, table);
    }
    if !fallback && os::prepare_fences() {
        percpu::start(machine.cpus, &POP, &PUSH);
    }
    true
}

/// Which fallback table a CPU's threads use: one of its home, so that they get memory from there.
pub(crate) fn fallback_of(cpu: usize) -> usize {
    let machine = topology::machine();
    let per_home = FALLBACKS / machine.nodes;
    machine.home_of(cpu) + cpu % per_home * machine.nodes
}

/// The node whose objects the sheaves of a fallback table hold.
pub(crate) fn fallback_home(index: usize) -> usize {
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
            // Relaxed: nobody has the table yet.
            table
                .word(Tag::new(node, kind).word())
                .store(word, Ordering::Relaxed);
        }
    }
}

/// Points a CPU's row addresses at its table.
pub(crate) fn open(cpu: usize, table: Table) {
    let home = topology::machine().home_of(cpu);
    let row = table.words + home * ROW * size_of::<usize>();
    // Release, both: whoever reads the address sees the words that were written before. The sequences load it and then
    // what it names: a dependency, which x86-64 keeps in order.
    PUSH[cpu].store(table.words, Ordering::Release);
    POP[cpu].store(row, Ordering::Release);
}

/// A CPU's table; one at address 0 before [`start`].
pub(crate) fn of_cpu(cpu: usize) -> Table {
    // Relaxed: the words' addresses never change, and what they hold is the caller's business.
    let words = PUSH[cpu].load(Ordering::Relaxed);
    Table { words }
}

/// Points a CPU's row addresses at a table without sheaves. Visible there after a fence.
pub(crate) fn close(cpu: usize) {
    // Relaxed, all: the fence that follows makes them visible.
    let closed = CLOSED.load(Ordering::Relaxed);
    PUSH[cpu].store(closed, Ordering::Relaxed);
    POP[cpu].store(closed, Ordering::Relaxed);
}
