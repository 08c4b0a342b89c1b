//! How long a request waits for a reclaim thread of which nothing is heard.
//!
//! 1. Heard of is what the thread itself does: its visits. What others give or tell wakes the request, and puts nothing off.
//! 2. After [`SILENCE_NS`] without a visit it is looked whether the thread sleeps. Then its caches are stuck, and nobody waits.
//! 3. One that is at work, or gets no CPU, is no such thread: it is looked at time and again, up to [`STARVED_NS`] in all.

/// How long a request waits without any news of the thread, in nanoseconds.
const SILENCE_NS: u64 = 100_000_000;

/// The same, while the thread does not sleep.
const STARVED_NS: u64 = 2_000_000_000;

/// The wait of one request.
pub(crate) struct Silence {
    /// The thread's visits, when last one was new.
    heard: u32,
    /// When to look at it next.
    look: u64,
    /// When not to wait any longer, whatever it does.
    last: u64,
    /// When the request has no time left.
    until: u64,
}

impl Silence {
    /// It begins `now`, when the thread has made so many visits, and the request has time until then.
    pub(crate) fn new(visits: u32, now: u64, until: u64) -> Self {
        Self {
            heard: visits,
            look: until.min(now + SILENCE_NS),
            last: until.min(now + STARVED_NS),
            until,
        }
    }

    /// For how long to wait from `now` on, in nanoseconds, when the thread has made so many visits; nothing when that is over.
    pub(crate) fn rest(
        &mut self,
        visits: u32,
        now: u64,
        at_work: impl FnOnce() -> bool,
    ) -> Option<u64> {
        if visits != self.heard {
            *self = Self::new(visits, now, self.until);
        }
        if now >= self.look {
            if now >= self.last || !at_work() {
                return None;
            }
            self.look = self.last.min(now + SILENCE_NS / 10);
        }
        Some(self.look - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Waits from the first millisecond on, woken after `step` of them, or sooner. `thread` says by the time, in milliseconds,
    /// how many visits it has made and whether it is at work. After how many milliseconds the wait is over.
    fn waited(step: u64, until: u64, thread: impl Fn(u64) -> (u32, bool)) -> u64 {
        let start = 1000 * MS;
        let mut now = start;
        let mut silence = Silence::new(thread(0).0, now, start + until * MS);
        loop {
            let (visits, at_work) = thread((now - start) / MS);
            let Some(rest) = silence.rest(visits, now, || at_work) else {
                return (now - start) / MS;
            };
            assert!(rest > 0, "it would turn without a pause");
            assert!(now < start + 20_000 * MS, "it has no end");
            now += rest.min(step * MS);
        }
    }

    const SLEEPS: (u32, bool) = (7, false);
    const WORKS: (u32, bool) = (7, true);

    /// A thread that sleeps is waited for as long, whether others give news all the time or never. Seen to fail (2000) with the
    /// look put off at each step.
    #[test]
    fn news_of_others_puts_nothing_off() {
        for step in [1, 5, 9, 10_000] {
            assert_eq!(waited(step, 10_000, |_| SLEEPS), 100, "each {step}");
        }
    }

    /// Seen to fail with `at_work` not asked (100), and without `last`.
    #[test]
    fn one_at_work_is_waited_for() {
        for step in [1, 10_000] {
            assert_eq!(waited(step, 10_000, |_| WORKS), 2000);
            let falls_asleep = |ms| if ms < 555 { WORKS } else { SLEEPS };
            assert_eq!(waited(step, 10_000, falls_asleep), 560, "at the next look");
        }
    }

    /// Seen to fail with `heard` left as it was (10,000), and with the visits not looked at (100).
    #[test]
    fn a_visit_begins_it_anew() {
        let visits_at = |last: u64, at_work| move |ms: u64| (ms.min(last) as u32 / 50, at_work);
        assert_eq!(waited(1, 10_000, visits_at(1000, false)), 1100);
        assert_eq!(waited(1, 10_000, visits_at(1000, true)), 3000);
    }

    /// Seen to fail with `until` forgotten at a visit.
    #[test]
    fn nobody_waits_longer_than_he_has_time() {
        assert_eq!(waited(1, 30, |_| WORKS), 30);
        assert_eq!(waited(10_000, 300, |_| WORKS), 300);
        assert_eq!(waited(1, 300, |ms| (ms as u32, true)), 300);
    }
}
