//! Putting a shrinker on a list, in two steps: prepare takes all memory and may fail, register cannot.

use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::chain::Chain;
use crate::list::ShrinkerList;
use crate::memory::{RegisterError, try_box};
use crate::name::Name;
use crate::record::{Record, Settings};
use crate::registration::Registration;
use crate::shrink::{Lane, Shrink};
use crate::sync::nanoseconds;
use crate::{CLASSES, DEFAULT_BATCH, DEFAULT_DEADLINE, DEFAULT_SEEKS, DEFAULT_VALUE, MAX_VALUE};

/// The description of a shrinker: a name and how it is to be treated.
///
/// ```
/// # use ebb_shrinker::*;
/// # struct Cache;
/// # impl Shrink for Cache {
/// #     fn count(&self, _: &ShrinkControl) -> Count { Count::Empty }
/// #     fn scan(&self, _: &mut ShrinkControl) -> Scan { Scan::Stop }
/// # }
/// static LIST: ShrinkerList = ShrinkerList::new();
/// let spec = Shrinker::new("query results").seeks(4).batch(32);
/// let prepared = spec.prepare(&LIST, Cache)?; // takes the memory
/// let registration = prepared.register();     // cannot fail
/// registration.unregister()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a description does nothing until it is registered"]
pub struct Shrinker {
    settings: Settings,
}

impl Shrinker {
    /// A shrinker with the default seeks and batch, not node-aware. A name longer than 32 bytes is cut at the last
    /// whole character that fits.
    pub fn new(name: &str) -> Self {
        let settings = Settings {
            name: Name::new(name),
            seeks: DEFAULT_SEEKS,
            batch: DEFAULT_BATCH,
            node_aware: false,
            value: DEFAULT_VALUE,
            class: 0,
            lane: Lane::Sync,
            deadline: nanoseconds(DEFAULT_DEADLINE),
        };
        Self { settings }
    }

    /// What an object costs to make again: twice the seeks, half the pressure. 0 means that objects cost next to nothing:
    /// half of the cache per walk, whatever the priority. Whoever knows better later says so then
    /// ([`Registration::set_seeks`]).
    pub fn seeks(mut self, seeks: u32) -> Self {
        self.settings.seeks = seeks;
        self
    }

    /// How many objects one `scan` call is asked for at most; 0 means the default. Where [`Count::each`](crate::Count::each)
    /// says how large they are, a call is asked for at most 256 KiB of them, or one object.
    pub fn batch(mut self, batch: usize) -> Self {
        self.settings.batch = if batch == 0 { DEFAULT_BATCH } else { batch };
        self
    }

    /// Whether the cache can tell its objects apart by NUMA node. If so it is called once per node, and must count and
    /// free only that node's objects.
    pub fn node_aware(mut self, node_aware: bool) -> Self {
        self.settings.node_aware = node_aware;
        self
    }

    /// How dear its content is, from 1 to [`MAX_VALUE`]; 0 means the default. A cache is asked only when all of lower value
    /// have nothing left to give; those of the same value share the pressure.
    pub fn value(mut self, value: u8) -> Self {
        self.settings.value = match value {
            0 => DEFAULT_VALUE,
            value => value.min(MAX_VALUE),
        };
        self
    }

    /// The class it belongs to, below [`CLASSES`] (higher ones count as the highest): a number that the program gives to the
    /// locks its callbacks take, or to whatever else makes them unwelcome at times. A walk may leave out classes
    /// ([`Walk::without`](crate::Walk::without)). Unless said, 0.
    pub fn class(mut self, class: u8) -> Self {
        self.settings.class = class.min(CLASSES - 1);
        self
    }

    /// Where its callbacks run; [`Lane::Sync`] unless said.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.settings.lane = lane;
        self
    }

    /// How long one `count` or `scan` may take in the sync lane; [`DEFAULT_DEADLINE`] unless said. Whoever overruns it in
    /// three visits in a row, no more than a minute apart, is moved to the async lane. For a visit of that length, or a
    /// tenth of a second, whoever is passed over meanwhile should wait ([`WalkReport::pending`](crate::WalkReport::pending)).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = nanoseconds(deadline);
        self
    }

    /// Takes all memory that the shrinker will need, without showing it to anybody.
    ///
    /// # Errors
    /// [`RegisterError::OutOfMemory`]; the cache was dropped then.
    pub fn prepare(
        self,
        list: &'static ShrinkerList,
        cache: impl Shrink + 'static,
    ) -> Result<Prepared, RegisterError> {
        let chain = list.chain_or_make()?;
        chain.warm();
        let record = try_box(Record::new(self.settings, try_box(cache)?)?)?;
        Ok(Prepared {
            list,
            chain,
            record,
        })
    }

    /// [`prepare`](Self::prepare) and [`Prepared::register`] in one.
    ///
    /// # Errors
    /// Those of `prepare`.
    pub fn register(
        self,
        list: &'static ShrinkerList,
        cache: impl Shrink + 'static,
    ) -> Result<Registration, RegisterError> {
        self.prepare(list, cache).map(Prepared::register)
    }
}

/// A shrinker that has all its memory and is not registered yet. Dropping it drops the cache.
#[must_use = "nothing is registered until `register` is called"]
pub struct Prepared {
    list: &'static ShrinkerList,
    chain: &'static Chain,
    record: Box<Record>,
}

impl Prepared {
    /// Puts the shrinker on its list. Cannot fail, and allocates nothing.
    pub fn register(self) -> Registration {
        let registration = self.into_registration();
        // SAFETY: alive, new, and freed only after `Registration` had it unlinked.
        unsafe { registration.chain.link(registration.record) };
        registration
    }

    /// As [`register`](Self::register), for bindings whose callbacks know of the registration: `keep` puts it away before the
    /// first callback can begin.
    ///
    /// # Safety
    /// `keep` does not use the registration, nor drop it, nor panic: it is good when this has returned, or in a callback.
    pub unsafe fn register_with(self, keep: impl FnOnce(Registration)) {
        let registration = self.into_registration();
        let (chain, record) = (registration.chain, registration.record);
        keep(registration);
        // SAFETY: alive, new, and freed only after the registration, which was put away, had it unlinked.
        unsafe { chain.link(record) };
    }

    /// As [`Registration::set_seeks`], beforehand.
    pub fn set_seeks(&self, seeks: u32) {
        self.record.set_seeks(seeks);
    }

    /// Where its callbacks will run.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.record.lane()
    }

    /// What it will be once its record is linked, which the caller sees to.
    fn into_registration(self) -> Registration {
        Registration {
            list: self.list,
            chain: self.chain,
            record: NonNull::from(Box::leak(self.record)),
        }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.record.name();
        f.debug_tuple("Prepared").field(&name).finish()
    }
}

impl ShrinkerList {
    /// The chain, made if this is the first preparation.
    fn chain_or_make(&self) -> Result<&'static Chain, RegisterError> {
        if let Some(chain) = self.chain() {
            return Ok(chain);
        }
        let new = Box::into_raw(try_box(Chain::new())?);
        // Release: whoever loads the pointer sees the chain. Relaxed on failure: `chain()` loads it again.
        let made =
            self.chain
                .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed);
        if made.is_err() {
            // SAFETY: ours came from a box and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
        self.chain().ok_or(RegisterError::OutOfMemory)
    }
}
