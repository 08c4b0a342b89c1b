//! Credit: bytes set aside for requests that are reclaiming, so that nobody else takes them first.
//!
//! What a reclaiming thread frees is its own until its request has been tried again. What it does not need then, and what
//! a reclaim thread frees on behalf of others, goes here, as long as any request is in flight. Such bytes stay charged to
//! the budget, so an allocation that has not failed cannot have them; a request takes as many as it lacks, or none: two
//! that hold half of what they need would both fail. Who leaves last takes what is left along, to give it up.
//!
//! ```text
//!   word:  claims (16 bits) | bytes (48 bits)     claims == 0  =>  bytes == 0
//!
//!   join            claims + 1
//!   give(n)         bytes + n          refused when claims == 0: then nobody would ever take them
//!   take(n)         bytes - n          refused when there are fewer
//!   leave(n)        claims - 1 and bytes + n; the last one: both 0, and all bytes are the leaver's
//! ```
//!
//! One word, so that every byte is at any time either in it or in exactly one thread's hands: `loom_no_credit_is_lost`
//! (seen to fail with `leave` in two steps). Who waits reads `news` before it looks and sleeps only if that is still
//! the same: `loom_a_waiter_hears_of_credit` (seen to fail with the number read after the look: asleep for ever).
//!
//! # Synchronization
//!
//! | tag | writer | ordering | reader | ordering | what it carries |
//! | --- | --- | --- | --- | --- | --- |
//! | N1 | `tell` | Release | `Claim::news` | Acquire | the word as it was given to |

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::{AtomicU32, AtomicU64, wait_for, wake};

/// One claim in the word.
const CLAIM: u64 = 1 << BYTES_BITS;
const BYTES_BITS: u32 = 48;
const BYTES: u64 = CLAIM - 1;

/// Bytes set aside for the requests in flight. A list has one ([`ShrinkerList::credit`](crate::ShrinkerList::credit)), and one
/// for each node ([`ShrinkerList::credit_on`](crate::ShrinkerList::credit_on)).
pub struct Credit {
    word: AtomicU64,
    /// Changes whenever there may be something to take. What waiters sleep on.
    news: AtomicU32,
}

impl Credit {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            news: AtomicU32::new(0),
        }
    }

    /// Joins the requests in flight. `None` when there are 65,535 of them.
    #[must_use]
    pub fn join(&self) -> Option<Claim<'_>> {
        let joined = self.update(|word| word.checked_add(CLAIM).ok_or(()));
        joined.ok().map(|_| Claim(self))
    }

    /// Sets `bytes` aside, and wakes those who wait. False when no request is in flight: the bytes remain the caller's.
    #[must_use]
    pub fn give(&self, bytes: usize) -> bool {
        let given = self.update(|word| match word {
            0..CLAIM => Err(()),
            _ => Ok(plus(word, bytes)),
        });
        if given.is_ok() {
            self.tell();
        }
        given.is_ok()
    }

    /// Takes `bytes`, all of them or none, for a request in flight. They are the caller's now.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let wanted = bytes as u64;
        let taken = self.update(|word| match word & BYTES < wanted {
            true => Err(()),
            false => Ok(word - wanted),
        });
        taken.is_ok()
    }

    /// Wakes those who wait: something has changed, and it is worth trying again.
    pub fn tell(&self) {
        // Release (N1): who reads the new number sees what was given before.
        self.news.fetch_add(1, Ordering::Release);
        wake(&self.news);
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn claims(&self) -> usize {
        // Relaxed: a figure.
        (self.word.load(Ordering::Relaxed) >> BYTES_BITS) as usize
    }

    /// How many bytes are set aside.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // Relaxed: a figure.
        (self.word.load(Ordering::Relaxed) & BYTES) as usize
    }

    /// In a forked child, before anything else there uses it: forgets the claims of threads that do not exist here. `own` is
    /// whether its one thread has a claim. Gives the bytes that are nobody's then; they are the caller's to give up.
    #[must_use]
    pub fn forget_others(&self, own: bool) -> usize {
        // Relaxed: the child has one thread.
        let word = self.word.load(Ordering::Relaxed);
        let kept = if own { CLAIM | (word & BYTES) } else { 0 };
        self.word.store(kept, Ordering::Relaxed);
        if own { 0 } else { (word & BYTES) as usize }
    }

    /// Replaces the word by what `change` makes of it, if it makes anything. The word as it was.
    fn update(&self, change: impl Fn(u64) -> Result<u64, ()>) -> Result<u64, ()> {
        // Relaxed, all: bytes are only counted here; the memory they stand for is handed out under other locks.
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let new = change(seen)?;
            let changed =
                self.word
                    .compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Relaxed);
            match changed {
                Ok(_) => return Ok(seen),
                Err(now) => seen = now,
            }
        }
    }
}

/// A word with so many more bytes; they never reach into the claims.
fn plus(word: u64, bytes: usize) -> u64 {
    let room = BYTES - (word & BYTES);
    word + (bytes as u64).min(room)
}

/// A request in flight.
#[must_use = "a claim that is not left keeps bytes set aside for ever"]
pub struct Claim<'a>(&'a Credit);

impl Claim<'_> {
    /// As [`Credit::take`].
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        self.0.take(bytes)
    }

    /// A number that changes with each [`tell`](Credit::tell). Read it before looking whether there is memory.
    #[must_use]
    pub fn news(&self) -> u32 {
        // Acquire (N1): what was given before the number changed is seen afterwards.
        self.0.news.load(Ordering::Acquire)
    }

    /// Sleeps until the number is not `seen` any more, or for `limit`; may return early.
    pub fn sleep(&self, seen: u32, limit: Duration) {
        wait_for(&self.0.news, seen, limit);
    }

    /// Leaves, and hands `bytes` to the other requests in flight. If there are none, gives these and all that is left;
    /// they are the caller's to give up.
    #[must_use]
    pub fn leave(self, bytes: usize) -> usize {
        let credit = self.0;
        let left = credit.update(|word| match word - CLAIM {
            0..CLAIM => Ok(0),
            others => Ok(plus(others, bytes)),
        });
        match left {
            Ok(word) if word - CLAIM < CLAIM => (word & BYTES) as usize + bytes,
            _ => {
                credit.tell();
                0
            }
        }
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit")
            .field("claims", &self.claims())
            .field("bytes", &self.bytes())
            .finish()
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_whole_and_the_last_one_out_takes_the_rest() {
        let credit = Credit::new();
        assert!(!credit.give(10), "nobody is there to take it");
        let (one, two) = (credit.join().unwrap(), credit.join().unwrap());
        assert!(credit.give(10) && credit.give(5));
        assert_eq!((credit.claims(), credit.bytes()), (2, 15));
        assert!(!one.take(16));
        assert!(one.take(8) && two.take(7) && !two.take(1));
        assert_eq!(one.leave(100), 0, "for the other one");
        assert!(two.take(60));
        assert_eq!(two.leave(1), 41);
        assert_eq!((credit.claims(), credit.bytes()), (0, 0));
    }

    /// Seen to fail with `0` for `kept` (the leave underflows) and with all claims kept (nothing is ever given up).
    #[test]
    fn a_forked_child_keeps_its_own_claim_alone() {
        let credit = Credit::new();
        let claims = [(); 3].map(|()| credit.join().unwrap());
        assert!(credit.give(50));
        assert_eq!(credit.forget_others(true), 0);
        let [own, absent @ ..] = claims;
        assert_eq!(own.leave(1), 51);
        drop(absent);
        let absent = credit.join().unwrap();
        assert!(credit.give(50));
        assert_eq!(credit.forget_others(false), 50);
        assert_eq!((credit.claims(), credit.bytes()), (0, 0));
        drop(absent);
    }

    #[test]
    fn there_is_a_most_of_everything() {
        let credit = Credit::new();
        let claims: Vec<_> = (0..u16::MAX).map(|_| credit.join().unwrap()).collect();
        assert!(credit.join().is_none());
        assert!(credit.give(usize::MAX) && credit.give(1));
        assert_eq!((credit.claims(), credit.bytes() as u64), (65_535, BYTES));
        drop(claims);
    }

    #[test]
    fn a_sleeper_is_woken_or_wakes_by_itself() {
        let credit: &'static Credit = Box::leak(Box::new(Credit::new()));
        let claim = credit.join().unwrap();
        let seen = claim.news();
        claim.sleep(seen, Duration::from_millis(1));
        let giver = std::thread::spawn(|| credit.give(7));
        while !claim.take(7) {
            let seen = claim.news();
            if credit.bytes() == 0 {
                claim.sleep(seen, Duration::from_secs(20));
            }
        }
        assert!(giver.join().unwrap());
        assert_eq!(claim.leave(0), 0);
    }
}
