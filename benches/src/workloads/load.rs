//! How much work a workload does, on how many threads.

use std::thread;

use crate::Random;

/// What a workload is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    threads: usize,
    percent: usize,
    mib: usize,
}

impl Load {
    /// So many threads, and so much of the full work in percent; both at least 1. 64 MiB in use, where that can be chosen.
    #[must_use]
    pub fn new(threads: usize, percent: usize) -> Self {
        Self {
            threads: threads.max(1),
            percent: percent.max(1),
            mib: 64,
        }
    }

    /// How many threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What `full` comes to here, all threads together; at least 1.
    #[must_use]
    pub fn amount(&self, full: usize) -> usize {
        (full * self.percent / 100).max(1)
    }

    /// What `full` comes to for one of the threads; at least 1.
    #[must_use]
    pub fn share(&self, full: usize) -> usize {
        (self.amount(full) / self.threads).max(1)
    }

    /// How many MiB of blocks are in use at a time, all threads together, where that can be chosen.
    #[must_use]
    pub fn mib(&self) -> usize {
        self.mib
    }

    /// The same with another size of the heap, at least 1 MiB.
    #[must_use]
    pub fn with_mib(self, mib: usize) -> Self {
        Self {
            mib: mib.max(1),
            ..self
        }
    }

    /// Runs `body` on every thread with the thread's number and random numbers of its own; the sum of what they give. A
    /// single thread is the one that calls.
    pub(super) fn on_threads(&self, body: impl Fn(usize, Random) -> u64 + Sync) -> u64 {
        let body = |number| body(number, Random::new(number as u64));
        if self.threads == 1 {
            return body(0);
        }
        let body = &body;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|number| scope.spawn(move || body(number)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a workload does not panic"))
                .fold(0, u64::wrapping_add)
        })
    }
}
