//! What the threads do. Each allocates so many objects of mixed sizes, writes to them, and has somebody free them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ebb_benches::Random;

use crate::machine::{Machine, node_of, pin};

/// One way in which threads of different nodes allocate.
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    /// In a line, for people.
    pub(crate) does: &'static str,
    body: fn(&mut Worker<'_>, usize),
}

/// All of them.
pub(crate) const PATTERNS: [Pattern; 4] = [
    Pattern {
        name: "private",
        does: "each thread frees its own objects",
        body: private,
    },
    Pattern {
        name: "ring",
        does: "each thread gives its objects to one on the next node, which frees them",
        body: ring,
    },
    Pattern {
        name: "table",
        does: "all threads replace objects of one table at random",
        body: table,
    },
    Pattern {
        name: "wander",
        does: "each thread goes from node to node with its objects",
        body: wander,
    },
];

/// Objects that a thread holds, and objects in the table per thread.
const HELD: usize = 2000;

/// Objects per message of the ring.
const BATCH: usize = 64;

/// One object in so many is looked at: where it lies, or how long it took.
const SAMPLE: usize = 16;

/// What threads saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Objects that lay on the node of the thread that asked for them, of those that were looked at, and others.
    pub(crate) local: u64,
    pub(crate) remote: u64,
    /// Nanoseconds of single calls.
    pub(crate) mallocs: Vec<u32>,
    pub(crate) frees: Vec<u32>,
    /// Allocations.
    pub(crate) operations: u64,
    pub(crate) time: Duration,
}

/// A thread.
struct Worker<'a> {
    places: &'a [(i32, usize)],
    number: usize,
    node: i32,
    /// Whether to look where objects lie, or how long they take.
    looking: bool,
    random: Random,
    seen: Seen,
    table: &'a [AtomicUsize],
    next: SyncSender<[usize; BATCH]>,
    inbox: Receiver<[usize; BATCH]>,
}

impl Worker<'_> {
    /// An object of 8 bytes to 8 KiB, small ones more often, written to.
    fn take(&mut self) -> usize {
        let size = self.random.small_size();
        self.seen.operations += 1;
        let sampled = self.seen.operations.is_multiple_of(SAMPLE as u64);
        let start = (sampled && !self.looking).then(Instant::now);
        // SAFETY: any size may be asked for.
        let object = unsafe { libc::malloc(size) }.cast::<u8>();
        if let Some(start) = start {
            self.seen.mallocs.push(nanoseconds(start));
        }
        assert!(!object.is_null(), "out of memory");
        // SAFETY: a new block of that size.
        unsafe { object.write_bytes(1, size) };
        let object = object.expose_provenance();
        if sampled && self.looking {
            match node_of(object) == self.node {
                true => self.seen.local += 1,
                false => self.seen.remote += 1,
            }
        }
        object
    }

    /// Frees an object; 0 is none.
    fn free(&mut self, object: usize) {
        let sampled = !self.looking && self.random.below(SAMPLE) == 0;
        let start = sampled.then(Instant::now);
        // SAFETY: from `take`, and only one thread has it.
        unsafe { libc::free(std::ptr::with_exposed_provenance_mut(object)) };
        if let Some(start) = start {
            self.seen.frees.push(nanoseconds(start));
        }
    }

    /// Goes to another place.
    fn go(&mut self, place: usize) {
        let (node, cpu) = self.places[place % self.places.len()];
        self.node = node;
        pin(cpu);
    }

    /// Replaces objects of its own at random.
    fn churn(&mut self, held: &mut [usize], operations: usize) {
        for _ in 0..operations {
            let index = self.random.below(held.len());
            let old = std::mem::replace(&mut held[index], 0);
            self.free(old);
            held[index] = self.take();
        }
    }
}

fn nanoseconds(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

fn private(worker: &mut Worker<'_>, operations: usize) {
    let mut held = vec![0; HELD];
    worker.churn(&mut held, operations);
    held.into_iter().for_each(|object| worker.free(object));
}

fn wander(worker: &mut Worker<'_>, operations: usize) {
    let mut held = vec![0; HELD];
    for step in 0..8 {
        worker.go(worker.number + step);
        worker.churn(&mut held, operations / 8);
    }
    held.into_iter().for_each(|object| worker.free(object));
}

fn table(worker: &mut Worker<'_>, operations: usize) {
    for _ in 0..operations {
        let object = worker.take();
        let slot = &worker.table[worker.random.below(worker.table.len())];
        // AcqRel: pairs with itself; what was written into an object is seen by whoever frees it.
        let old = slot.swap(object, Ordering::AcqRel);
        worker.free(old);
    }
}

fn ring(worker: &mut Worker<'_>, operations: usize) {
    for _ in 0..operations / BATCH {
        let mut batch = [0; BATCH];
        batch.fill_with(|| worker.take());
        loop {
            match worker.next.try_send(batch) {
                Ok(()) => break,
                // Never: whoever is to free these stays until all have sent theirs.
                Err(TrySendError::Disconnected(batch)) => {
                    batch.into_iter().for_each(|object| worker.free(object));
                    break;
                }
                Err(TrySendError::Full(_)) => {
                    empty(worker);
                    thread::yield_now();
                }
            }
        }
        empty(worker);
    }
}

/// Frees what others sent.
fn empty(worker: &mut Worker<'_>) {
    while let Ok(batch) = worker.inbox.try_recv() {
        batch.into_iter().for_each(|object| worker.free(object));
    }
}

/// Runs a pattern with so many threads per node and allocations per thread. With `looking` it says where objects lie, else
/// how long they take.
pub(crate) fn run(
    pattern: &Pattern,
    machine: &Machine,
    threads: usize,
    operations: usize,
    looking: bool,
) -> Seen {
    let places = machine.places(threads);
    let table: Vec<_> = (0..HELD * places.len())
        .map(|_| AtomicUsize::new(0))
        .collect();
    let (senders, inboxes): (Vec<_>, Vec<_>) = places.iter().map(|_| sync_channel(16)).unzip();
    let (barrier, finished) = (Barrier::new(places.len()), AtomicUsize::new(0));
    let mut total = Seen::default();
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (number, inbox) in inboxes.into_iter().enumerate() {
            let next = senders[(number + 1) % senders.len()].clone();
            let (places, table, barrier, finished) = (&places, &table, &barrier, &finished);
            workers.push(scope.spawn(move || {
                let mut worker = Worker {
                    places,
                    number,
                    node: 0,
                    looking,
                    random: Random::new(number as u64),
                    seen: Seen::default(),
                    table,
                    next,
                    inbox,
                };
                worker.go(number);
                barrier.wait();
                let start = Instant::now();
                (pattern.body)(&mut worker, operations);
                worker.seen.time = start.elapsed();
                // Others may still send; when nobody does any more all is freed. AcqRel: what was sent before is seen.
                finished.fetch_add(1, Ordering::AcqRel);
                while finished.load(Ordering::Acquire) < places.len() {
                    empty(&mut worker);
                    thread::yield_now();
                }
                empty(&mut worker);
                worker.seen
            }));
        }
        for worker in workers {
            let seen = worker.join().expect("a thread that allocates");
            total.local += seen.local;
            total.remote += seen.remote;
            total.operations += seen.operations;
            total.time = total.time.max(seen.time);
            total.mallocs.extend(seen.mallocs);
            total.frees.extend(seen.frees);
        }
    });
    for slot in table {
        // SAFETY: from `take`, and the threads are gone.
        unsafe { libc::free(std::ptr::with_exposed_provenance_mut(slot.into_inner())) };
    }
    total
}
