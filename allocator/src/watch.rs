//! What the memory of a watched object cache looks like: around each object, and in it while it is free.
//!
//! ```text
//!  place (of the size class)
//!  | lead: red zone | object | red zone up to the end | users |
//!                   └ what the program has
//! ```
//!
//! Slabs, bitmaps and everything else that a cache consists of know places only. Here alone one is made the other:
//! [`Watch::object`] and [`Watch::place`]. The lead is a multiple of the alignment that the objects were asked with, and
//! of 16 bytes; behind the object are at least 16 bytes of red zone, so that the next byte is watched whatever the class.
//!
//! The bytes are the kernel's (`include/linux/poison.h`): red zones of objects in use and of free ones differ, so that an
//! object that somebody wrote over from before its beginning to behind its end is seen too. Red zones of an object in use
//! and all bytes of a free one are nobody's but ours: so they are written, and looked at, under the lock of the home that
//! the place belongs to (or in a slab that nobody else has). A byte that a program writes meanwhile, against the rules, is
//! read as it was or as it is.
//!
//! Nothing is known of who called, but which thread: no walk up the stack is sure to allocate nothing.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr;

use crate::cache_debug::CacheDebug;
use crate::config::MIN_ALIGN;
use crate::os;
use crate::size_class::{self, SHAPES};

/// In red zones of objects in use.
const ZONE_USED: u8 = 0xcc;
/// In red zones of free objects.
const ZONE_FREE: u8 = 0xbb;
/// In free objects.
const POISON: u8 = 0x6b;
/// At their end.
const POISON_END: u8 = 0xa5;

/// Bytes of red zone behind an object at least.
const ZONE_LEAST: usize = MIN_ALIGN;

/// Bytes that are shown of what was found.
const SHOWN: usize = 16;

/// How a cache's places look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    flags: CacheDebug,
    /// Bytes in front of the object.
    lead: usize,
    /// Bytes of an object.
    pub(crate) size: usize,
    /// Bytes of a place.
    room: usize,
}

/// One that did something with an object.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    /// The time, as `os::now_ns` has it; 0 for nobody.
    pub(crate) when: u64,
    /// The thread, by the system's number.
    pub(crate) thread: u64,
}

/// Who allocated and who freed an object last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Users {
    pub(crate) allocated: User,
    pub(crate) freed: User,
}

/// What is wrong with an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) what: Wrong,
    /// Its address, as the program has it.
    pub(crate) object: usize,
    pub(crate) users: Option<Users>,
}

/// See [`Fault`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// It is in use when it should not be.
    Left,
    /// It was freed, and is free.
    DoubleFree,
    /// A byte is not what it should be.
    Written(Written),
}

/// A byte that somebody wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Where it is.
    pub(crate) part: &'static str,
    /// Counted from where the object begins.
    pub(crate) offset: isize,
    pub(crate) expected: u8,
    /// It and those behind it, as far as they are of the same part.
    bytes: [u8; SHOWN],
    len: usize,
}

impl Written {
    pub(crate) fn found(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Watch {
    /// The class and the places for objects of this layout, to be watched if there are flags. Where red zones and users do
    /// not fit in any class there are none of them. Nothing when the objects themselves do not.
    pub(crate) fn new(flags: CacheDebug, layout: Layout) -> Option<(usize, Option<Self>)> {
        let (size, align) = (layout.size().max(1), layout.align());
        let (mut lead, mut behind) = (0, 0);
        if flags.has(CacheDebug::RED_ZONES) {
            (lead, behind) = (align.max(MIN_ALIGN), ZONE_LEAST);
        }
        if flags.has(CacheDebug::USERS) {
            behind += size_of::<Users>();
        }
        let Some(class) = size_class::of_layout(lead + size + behind, align) else {
            let less = flags.without(CacheDebug::RED_ZONES | CacheDebug::USERS);
            return (less != flags).then(|| Self::new(less, layout)).flatten();
        };
        let watch = Self {
            flags,
            lead,
            size,
            room: SHAPES[class].size,
        };
        Some((class, (flags != CacheDebug::NONE).then_some(watch)))
    }

    /// In one word, which is not 0; that of no watch is.
    pub(crate) fn to_word(watch: Option<Self>) -> usize {
        watch.map_or(0, |watch| {
            watch.size << 32 | watch.lead << 8 | usize::from(watch.flags.bits())
        })
    }

    /// From a word, for a cache whose places have `room` bytes.
    pub(crate) fn from_word(word: usize, room: usize) -> Option<Self> {
        (word != 0).then(|| Self {
            flags: CacheDebug::from_bits(word as u8),
            lead: word >> 8 & 0xff_ffff,
            size: word >> 32,
            room,
        })
    }

    /// The object in a place.
    pub(crate) fn object(&self, place: usize) -> usize {
        place.wrapping_add(self.lead)
    }

    /// The place of what is said to be an object.
    pub(crate) fn place(&self, object: usize) -> usize {
        object.wrapping_sub(self.lead)
    }

    /// The parts of a place that are watched, and what should be there.
    fn parts(
        &self,
        place: usize,
        in_use: bool,
    ) -> impl Iterator<Item = (&'static str, Range<usize>, u8)> {
        let (start, users) = (self.object(place), self.users_at(place));
        let end = start + self.size;
        let zones = self.flags.has(CacheDebug::RED_ZONES);
        let zone = if in_use { ZONE_USED } else { ZONE_FREE };
        let poison = self.flags.has(CacheDebug::POISON) && !in_use;
        [
            (zones, "the red zone in front", place..start, zone),
            (poison, "the free object", start..end - 1, POISON),
            (poison, "the free object", end - 1..end, POISON_END),
            (zones, "the red zone behind", end..users, zone),
        ]
        .into_iter()
        .filter_map(|(watched, name, part, byte)| watched.then_some((name, part, byte)))
    }

    /// Writes to the watched parts what should be there.
    fn fill(&self, place: usize, in_use: bool) {
        for (_, part, byte) in self.parts(place, in_use) {
            let start = ptr::with_exposed_provenance_mut::<u8>(part.start);
            // SAFETY: a part of a place that is ours, by the callers' clauses.
            unsafe { start.write_bytes(byte, part.len()) };
        }
    }

    /// What is wrong with the object in a place, the first thing that is.
    ///
    /// # Safety
    /// A place of a slab of the cache, whose state nobody changes meanwhile.
    pub(crate) unsafe fn check(&self, place: usize, in_use: bool) -> Option<Fault> {
        let mut parts = self.parts(place, in_use);
        let written = parts.find_map(|(name, part, byte)| {
            let at = find_other(part.clone(), byte)?;
            let mut bytes = [0; SHOWN];
            let shown = bytes.iter_mut().zip(at..part.end);
            let len = shown.map(|(to, at)| *to = read(at)).count();
            Some(Written {
                part: name,
                offset: at.wrapping_sub(self.object(place)) as isize,
                expected: byte,
                bytes,
                len,
            })
        });
        // SAFETY: the caller's clause.
        written.map(|written| unsafe { self.fault(Wrong::Written(written), place) })
    }

    /// A fault of the object in a place.
    ///
    /// # Safety
    /// As for [`check`](Self::check).
    pub(crate) unsafe fn fault(&self, what: Wrong, place: usize) -> Fault {
        let users = ptr::with_exposed_provenance::<Users>(self.users_at(place));
        let known = self.flags.has(CacheDebug::USERS);
        Fault {
            what,
            object: self.object(place),
            // SAFETY: the caller's clause: in the place, whose end is aligned to 16 bytes; numbers.
            users: known.then(|| unsafe { users.read() }),
        }
    }

    /// Makes the memory of a new slab a free place.
    ///
    /// # Safety
    /// In a slab that nobody else has.
    pub(crate) unsafe fn begin(&self, place: usize) {
        self.fill(place, false);
        if self.flags.has(CacheDebug::USERS) {
            let users = ptr::with_exposed_provenance_mut::<Users>(self.users_at(place));
            // SAFETY: as in `fault`, and the slab is the caller's.
            unsafe { users.write_bytes(0, 1) };
        }
    }

    /// Makes a free place one in use. What is wrong with it.
    ///
    /// # Safety
    /// The caller has the lock of its home and has just taken it.
    pub(crate) unsafe fn hand_out(&self, place: usize) -> Option<Fault> {
        // SAFETY: the caller's clause.
        let fault = unsafe { self.check_always(place, false) };
        if fault.is_none() {
            self.fill(place, true);
            self.note(place, false);
        }
        fault
    }

    /// Makes a place in use a free one, to be put into its slab. What is wrong with it.
    ///
    /// # Safety
    /// The caller has the lock of its home, and it is in use.
    pub(crate) unsafe fn take_back(&self, place: usize) -> Option<Fault> {
        // SAFETY: the caller's clause.
        let fault = unsafe { self.check_always(place, true) };
        if fault.is_none() {
            self.fill(place, false);
            self.note(place, true);
        }
        fault
    }

    /// As [`check`](Self::check), where objects are always looked at with the flag `F`.
    ///
    /// # Safety
    /// As for `check`.
    pub(crate) unsafe fn check_always(&self, place: usize, in_use: bool) -> Option<Fault> {
        let checks = self.flags.has(CacheDebug::CHECKS);
        // SAFETY: the caller's clause.
        checks
            .then(|| unsafe { self.check(place, in_use) })
            .flatten()
    }

    /// Where a place has its users, or ends.
    fn users_at(&self, place: usize) -> usize {
        let users = self.flags.has(CacheDebug::USERS);
        place + self.room - usize::from(users) * size_of::<Users>()
    }

    /// Notes that this thread allocated or freed an object.
    fn note(&self, place: usize, freed: bool) {
        if !self.flags.has(CacheDebug::USERS) {
            return;
        }
        let user = User {
            when: os::now_ns(),
            thread: os::thread_id(),
        };
        let at = self.users_at(place) + usize::from(freed) * size_of::<User>();
        // SAFETY: as in `fault`, and the place is ours by the callers' clauses.
        unsafe { ptr::with_exposed_provenance_mut::<User>(at).write(user) };
    }
}

/// The first byte of a part that is not `byte`. Word by word, where there are whole ones.
fn find_other(part: Range<usize>, byte: u8) -> Option<usize> {
    const WORD: usize = size_of::<u64>();
    let expected = u64::from_ne_bytes([byte; WORD]);
    let mut at = part.start;
    while at < part.end {
        let whole = at.is_multiple_of(WORD) && part.end - at >= WORD;
        let step = if whole { WORD } else { 1 };
        // SAFETY: aligned, and in a place of a slab.
        if !whole || unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() } != expected
        {
            let other = (at..at + step).find(|at| read(*at) != byte);
            if other.is_some() {
                return other;
            }
        }
        at += step;
    }
    None
}

/// A byte of a place, which a program may write to against the rules.
fn read(at: usize) -> u8 {
    // SAFETY: in a place of a slab.
    unsafe { ptr::with_exposed_provenance::<u8>(at).read_volatile() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects are aligned, and nothing in a place overlaps: whatever the flags, and the same after it was a word.
    #[test]
    fn places_have_room_for_all() {
        for bits in 1..16 {
            let flags = CacheDebug::from_bits(bits);
            for align in [1, 16, 64, 4096, 32768] {
                for size in [0, 1, 15, 16, 17, 100, 5000, 150_000, 256 << 10] {
                    let layout = Layout::from_size_align(size, align).unwrap();
                    let Some((class, watch)) = Watch::new(flags, layout) else {
                        assert!(size.next_multiple_of(align) > 200_000);
                        continue;
                    };
                    let Some(watch) = watch else {
                        assert!(size > 100_000, "without room there are none");
                        continue;
                    };
                    let place = 7 * SHAPES[class].size;
                    let object = watch.object(place);
                    assert!(object.is_multiple_of(align) && watch.place(object) == place);
                    let zones = watch.flags.has(CacheDebug::RED_ZONES);
                    let behind = if zones { ZONE_LEAST } else { 0 };
                    assert!(object + size.max(1) + behind <= watch.users_at(place));
                    let word = Watch::to_word(Some(watch));
                    assert_eq!(Watch::from_word(word, watch.room), Some(watch));
                }
            }
        }
        assert_eq!(Watch::from_word(Watch::to_word(None), 16), None);
    }
}
