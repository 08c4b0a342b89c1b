//! How much memory the operating system backs for us, how much it may, and the credit of a reclaiming request.
//!
//! One figure, changed only when spans, mappings or bookkeeping change hands: never on the fast path.
//!
//! - An ordinary request may charge up to the budget less the *reserve*.
//! - Inside a reclaim (the thread's word names its [`Request`]) callbacks may charge up to the whole budget: the reserve
//!   is what they live on. The request itself may not, when it retries.
//! - What a reclaiming thread gives back goes to its request's *credit* and stays charged, so that no other thread
//!   takes it first. When the request retries it pays from the credit. What is left is given up at its end.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::os;

// Relaxed, everywhere in this file: counters; no memory is published through them.

/// Bytes backed.
static BACKED: AtomicUsize = AtomicUsize::new(0);
/// The budget in bytes; `usize::MAX` is none.
static BUDGET: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The reserve in bytes, once somebody set it.
static RESERVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// What one failing allocation has got back so far. Lives on its thread's stack.
pub(crate) struct Request {
    credit: Cell<usize>,
    /// Whether the request is trying again: only then may the credit be spent.
    retrying: Cell<bool>,
}

impl Request {
    /// Runs `f` as this thread's request. What it did not spend is given up afterwards.
    pub(crate) fn run<R>(f: impl FnOnce(&Self) -> R) -> R {
        let request = Self {
            credit: Cell::new(0),
            retrying: Cell::new(false),
        };
        os::set_thread_word((&raw const request).addr());
        let result = f(&request);
        os::set_thread_word(0);
        BACKED.fetch_sub(request.credit.get(), Ordering::Relaxed);
        result
    }

    /// Runs `f`, which may spend the credit.
    pub(crate) fn retry<R>(&self, f: impl FnOnce() -> R) -> R {
        self.retrying.set(true);
        let result = f();
        self.retrying.set(false);
        result
    }

    /// Bytes given back and not yet spent.
    pub(crate) fn credit(&self) -> usize {
        self.credit.get()
    }

    /// Spends up to `bytes`; how many it were.
    fn spend(&self, bytes: usize) -> usize {
        let spent = if self.retrying.get() {
            bytes.min(self.credit.get())
        } else {
            0
        };
        self.credit.set(self.credit.get() - spent);
        spent
    }
}

/// This thread's request, if it is reclaiming.
fn request() -> Option<&'static Request> {
    let word = os::thread_word() as *const Request;
    // SAFETY: null, or the request on this thread's own stack, below us: `Request::run` takes it out when it ends.
    unsafe { word.as_ref() }
}

/// Whether this thread is inside a reclaim.
pub(crate) fn reclaiming() -> bool {
    os::thread_word() != 0
}

/// Charges `bytes`, unless that would exceed the limit.
#[must_use]
pub(crate) fn charge(bytes: usize) -> bool {
    let request = request();
    let spent = request.map_or(0, |request| request.spend(bytes));
    let in_callback = request.is_some_and(|request| !request.retrying.get());
    let limit = if in_callback {
        hard_limit()
    } else {
        soft_limit()
    };
    let rest = bytes - spent;
    let charged = BACKED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |backed| {
        let total = backed.checked_add(rest)?;
        (total <= limit || rest == 0).then_some(total)
    });
    if charged.is_err()
        && let Some(request) = request
    {
        request.credit.set(request.credit.get() + spent);
    }
    charged.is_ok()
}

/// Charges `bytes` whatever the limit: what there is no doing without.
pub(crate) fn charge_always(bytes: usize) {
    BACKED.fetch_add(bytes, Ordering::Relaxed);
}

/// Gives back what was charged: to this thread's request, if it is reclaiming.
pub(crate) fn release(bytes: usize) {
    match request() {
        Some(request) => request.credit.set(request.credit.get() + bytes),
        None => {
            BACKED.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes backed now.
pub(crate) fn backed() -> usize {
    BACKED.load(Ordering::Relaxed)
}

/// Sets the budget, or takes it away.
pub(crate) fn set(bytes: Option<usize>) {
    BUDGET.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
}

/// The budget, if there is one.
pub(crate) fn get() -> Option<usize> {
    let bytes = BUDGET.load(Ordering::Relaxed);
    (bytes != usize::MAX).then_some(bytes)
}

/// Sets the reserve.
pub(crate) fn set_reserve(bytes: usize) {
    RESERVE.store(bytes, Ordering::Relaxed);
}

/// The reserve in bytes: as it was set, or a sixty-fourth of the budget, between 64 KiB and 4 MiB.
pub(crate) fn reserve() -> usize {
    match RESERVE.load(Ordering::Relaxed) {
        usize::MAX => get().map_or(0, |budget| (budget / 64).clamp(64 << 10, 4 << 20)),
        bytes => bytes,
    }
}

fn hard_limit() -> usize {
    get().unwrap_or(usize::MAX)
}

fn soft_limit() -> usize {
    get().map_or(usize::MAX, |budget| budget.saturating_sub(reserve()))
}

/// What [`parse`] accepts.
pub(crate) const ACCEPTED: &str =
    "bytes as 268435456, 256K, 256M, 2G, 1T, or a part of the memory as 50%";

/// Reads a budget as people write it. `memory` is what a percentage is of, in bytes.
pub(crate) fn parse(text: &str, memory: usize) -> Option<usize> {
    let text = text.trim_ascii();
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = &text[digits.len()..];
    let value: usize = digits.parse().ok()?;
    let bytes = match unit {
        "" | "B" => Some(value),
        "K" | "k" | "KB" | "KiB" => value.checked_mul(1 << 10),
        "M" | "m" | "MB" | "MiB" => value.checked_mul(1 << 20),
        "G" | "g" | "GB" | "GiB" => value.checked_mul(1 << 30),
        "T" | "t" | "TB" | "TiB" => value.checked_mul(1 << 40),
        "%" if value <= 100 => Some(memory / 100 * value),
        _ => None,
    }?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_as_people_write_them() {
        let cases = [
            ("268435456", 268_435_456),
            ("256K", 256 << 10),
            ("256M", 256 << 20),
            (" 2G ", 2 << 30),
            ("1T", 1 << 40),
            ("50%", 500),
            ("100%", 1000),
            ("3MiB", 3 << 20),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text, 1000), Some(bytes), "{text}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let cases = [
            "",
            "M",
            "-1",
            "1.5G",
            "0",
            "0M",
            "101%",
            "%",
            "12Q",
            "99999999999T",
            "1 M",
            "0x10",
            "١",
            "1M1",
        ];
        for text in cases {
            assert_eq!(parse(text, 1000), None, "{text}");
        }
    }
}
