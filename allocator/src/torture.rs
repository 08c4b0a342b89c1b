//! Torture: trouble on purpose, for tests. `EBB_TORTURE=reclaim:1/100,fail:1/1000,delay:1/500,seed:7` makes one in so many
//! of the allocations that come to the slow path reclaim although memory is there, be refused by the system once, or be
//! late.
//!
//! The n-th of them has the trouble that the seed and n say, so a single thread's run can be replayed; several threads'
//! as far as they take turns alike. An allocation that may not reclaim is spared: its failure would be the program's.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::os;

/// What [`parse`] accepts.
pub(crate) const ACCEPTED: &str =
    "any of reclaim:1/100, fail:1/1000, delay:1/500 and seed:7, with commas between them";

/// The longest delay, in microseconds.
const LONGEST_US: u64 = 200;

/// How often, in 2^-32ths, and from which seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    reclaim: u64,
    fail: u64,
    delay: u64,
    pub(crate) seed: Option<u64>,
}

/// What one allocation has to bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A reclaim at this priority.
    pub(crate) reclaim: Option<u8>,
    /// Its first attempt fails.
    pub(crate) fail: bool,
    /// A delay in microseconds; 0 for none.
    pub(crate) delay_us: u32,
}

// Relaxed, everywhere in this file: set once, before there are other threads; and a counter.
static ON: AtomicBool = AtomicBool::new(false);
static RECLAIM: AtomicU64 = AtomicU64::new(0);
static FAIL: AtomicU64 = AtomicU64::new(0);
static DELAY: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Which of the thread's words says that the next charge fails.
const ARMED: usize = 3;

/// Begins.
pub(crate) fn set(settings: &Settings, seed: u64) {
    RECLAIM.store(settings.reclaim, Ordering::Relaxed);
    FAIL.store(settings.fail, Ordering::Relaxed);
    DELAY.store(settings.delay, Ordering::Relaxed);
    SEED.store(seed, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
}

pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// What the next allocation has to bear.
pub(crate) fn next() -> Trouble {
    let settings = Settings {
        reclaim: RECLAIM.load(Ordering::Relaxed),
        fail: FAIL.load(Ordering::Relaxed),
        delay: DELAY.load(Ordering::Relaxed),
        seed: Some(SEED.load(Ordering::Relaxed)),
    };
    settings.trouble(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Has the next charge on this thread fail, or not any more.
pub(crate) fn arm(fail: bool) {
    os::set_thread_word(ARMED, usize::from(fail));
}

/// Whether this charge is to fail; the next one is not.
pub(crate) fn fails() -> bool {
    let fails = os::thread_word(ARMED) != 0;
    if fails {
        arm(false);
    }
    fails
}

impl Settings {
    /// What the n-th allocation has to bear.
    fn trouble(&self, n: u64) -> Trouble {
        let seed = self.seed.unwrap_or(0);
        let dice = |kind: u64| mix(mix(seed ^ kind).wrapping_add(n));
        // The upper half decides whether, the lower half how.
        let strikes = |kind, rate| Some(dice(kind)).filter(|dice| dice >> 32 < rate);
        let how = |dice: u64, most: u64| dice % (1 << 32) % most;
        Trouble {
            reclaim: strikes(1, self.reclaim).map(|dice| how(dice, 13) as u8),
            fail: strikes(2, self.fail).is_some(),
            delay_us: strikes(3, self.delay).map_or(0, |dice| 1 + how(dice, LONGEST_US) as u32),
        }
    }
}

/// Scatters a number over all 64 bits (the finisher of splitmix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Reads the settings as people write them.
pub(crate) fn parse(text: &str) -> Option<Settings> {
    let mut settings = Settings::default();
    for part in text.split(',') {
        let (name, value) = part.trim_ascii().split_once(':')?;
        match name {
            "reclaim" => settings.reclaim = rate(value)?,
            "fail" => settings.fail = rate(value)?,
            "delay" => settings.delay = rate(value)?,
            "seed" => settings.seed = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(settings)
}

/// A part of all as `1/100`, in 2^-32ths.
fn rate(text: &str) -> Option<u64> {
    let (part, of) = text.split_once('/')?;
    let (part, of): (u32, u32) = (part.parse().ok()?, of.parse().ok()?);
    (part <= of && of > 0).then(|| (u64::from(part) << 32) / u64::from(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_as_people_write_them() {
        let settings = parse("reclaim:1/2, fail:1/1 ,delay:0/5,seed:18446744073709551615").unwrap();
        assert_eq!((settings.reclaim, settings.fail), (1 << 31, 1 << 32));
        assert_eq!((settings.delay, settings.seed), (0, Some(u64::MAX)));
        assert_eq!(parse("seed:3").unwrap().seed, Some(3));
        for rubbish in [
            "",
            ",",
            "1",
            "reclaim",
            "reclaim:",
            "reclaim:1",
            "reclaim:1/0",
            "fail:2/1",
            "fail:-1/2",
            "pain:1/2",
            "seed:x",
            "reclaim:1/2;fail:1/2",
            "delay:1/2,",
            "seed:1/2",
        ] {
            assert_eq!(parse(rubbish), None, "{rubbish}");
        }
    }

    /// As often as it says, the same for the same seed, and each kind by itself. Seen to fail with one throw of the dice
    /// for all kinds, and with the seed left out.
    #[test]
    fn trouble_comes_as_often_as_it_says() {
        let settings = parse("reclaim:1/10,fail:1/10,delay:1/10,seed:5").unwrap();
        let all = |settings: &Settings| {
            let settings = *settings;
            (0..100_000)
                .map(move |n| settings.trouble(n))
                .collect::<Vec<_>>()
        };
        let troubles = all(&settings);
        let count =
            |wanted: fn(&Trouble) -> bool| troubles.iter().filter(|one| wanted(one)).count();
        let tenth = 9_500..10_500;
        assert!(tenth.contains(&count(|one| one.reclaim.is_some())));
        assert!(tenth.contains(&count(|one| one.fail)));
        assert!(tenth.contains(&count(|one| one.delay_us > 0)));
        assert!((900..1_100).contains(&count(|one| one.fail && one.delay_us > 0)));
        assert!(troubles.iter().all(|one| one.delay_us <= 200));
        for priority in 0..13 {
            assert!(troubles.iter().any(|one| one.reclaim == Some(priority)));
        }
        assert_eq!(troubles, all(&settings));
        let other = Settings {
            seed: Some(6),
            ..settings
        };
        assert_ne!(troubles, all(&other));
    }
}
