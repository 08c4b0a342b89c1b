//! Which object caches are watched, and for what: the debugging flags of the kernel's slab allocator, and the text that asks
//! for them, `EBB_CACHE_DEBUG`, in the form of its `slab_debug=`.
//!
//! ```text
//! FZPU                all caches, for everything
//! FZ,pages,inode*     two kinds of caches, for some of it
//! ,pages;F            one for everything, all others for F
//! ```
//!
//! `watch` says what a watched cache's memory looks like, `cache_watch` what is done with it.

use core::ffi::CStr;
use core::ops::BitOr;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use ebb_shrinker::Name;

use crate::config::PAGE;
use crate::os;

/// What is accepted.
const ACCEPTED: &str = "any of F, Z, P and U, or - for none, for all caches; FLAGS,NAME,NAME* for some; several with ; \
     between them";

/// What the objects of a cache are watched for: the kernel's debugging flags of a cache. [`NONE`](Self::NONE) is usual.
///
/// ```
/// use ebbmalloc::{CacheDebug, SlabCache};
///
/// let pages = SlabCache::<[u8; 2000]>::debugged("pages", CacheDebug::CHECKS | CacheDebug::RED_ZONES)?;
/// let page = pages.alloc([1; 2000]).map_err(|_| "no memory")?;
/// assert_eq!(pages.validate(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheDebug(u8);

impl CacheDebug {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `F`: each object is looked at when it is allocated, when it is freed and when its slab goes back, and what is wrong ends
    /// the process. Without it that is seen by [`validate`](crate::SlabCache::validate) alone. A double free ends the
    /// process with any of the flags.
    pub const CHECKS: Self = Self(1);
    /// `Z`: red zones, memory in front of and behind each object that nobody may write to.
    pub const RED_ZONES: Self = Self(2);
    /// `P`: free objects are filled with a pattern, so that a write to one can be seen, and a read of one gives odd values.
    /// Not where there is a constructor: its objects keep their state while they are free.
    pub const POISON: Self = Self(4);
    /// `U`: which thread allocated and freed an object last, and when.
    pub const USERS: Self = Self(8);
    /// All of it.
    pub const ALL: Self = Self(15);

    /// Whether all of these flags are among its own.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The same without these flags.
    pub(crate) const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// The flags as the kernel writes them: letters of `FZPU`, large or small, all when there is none, and `-` for
    /// none. Nothing when there is another letter.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Self> {
        match letters {
            "" => return Some(Self::ALL),
            "-" => return Some(Self::NONE),
            _ => (),
        }
        letters.bytes().try_fold(Self::NONE, |flags, letter| {
            Some(match letter.to_ascii_uppercase() {
                b'F' => flags | Self::CHECKS,
                b'Z' => flags | Self::RED_ZONES,
                b'P' => flags | Self::POISON,
                b'U' => flags | Self::USERS,
                _ => return None,
            })
        })
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }
}

impl BitOr for CacheDebug {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The flags of each block of a text, and the names that they are for.
fn blocks(text: &str) -> impl Iterator<Item = (Option<CacheDebug>, &str)> {
    text.split(';').map(|block| {
        let (letters, names) = block.split_once(',').unwrap_or((block, ""));
        (CacheDebug::parse(letters), names)
    })
}

/// Whether a pattern, a name or the beginning of one and a `*`, is for a cache. Of both as much counts as caches keep.
fn is_for(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(Name::new(beginning).as_str()),
        None => Name::new(pattern).as_str() == name,
    }
}

/// What a text has for a cache: the first block that names it, or else the last one without names.
fn look_up(text: &str, name: &str) -> CacheDebug {
    let named = blocks(text).find(|(_, names)| {
        let mut names = names.split(',').filter(|name| !name.is_empty());
        names.any(|pattern| is_for(pattern, name))
    });
    let all = || blocks(text).filter(|(_, names)| names.is_empty()).last();
    let flags = named.or_else(all).and_then(|(flags, _)| flags);
    flags.unwrap_or(CacheDebug::NONE)
}

/// The text from the environment, if there is one.
static TEXT: AtomicPtr<Text> = AtomicPtr::new(ptr::null_mut());

struct Text {
    len: usize,
    bytes: [u8; ROOM],
}

/// Longer texts are not accepted.
const ROOM: usize = PAGE - size_of::<usize>();

/// Takes a text from the environment; what cannot be used is said, and changes nothing.
pub(crate) fn read(value: &CStr) {
    let text = value.to_str().unwrap_or("(not UTF-8)");
    if text.is_empty() {
        return;
    }
    let usable = text.len() <= ROOM && blocks(text).all(|(flags, _)| flags.is_some());
    if !usable || !keep(text) {
        os::Line::new(format_args!(
            "ebbmalloc: EBB_CACHE_DEBUG: cannot use {text:?}; accepted: {ACCEPTED}; no cache is watched\n"
        ))
        .write();
    }
}

/// Keeps a copy of a text, for ever. False when there is no memory.
fn keep(text: &str) -> bool {
    let Some(room) = os::map(PAGE) else {
        return false;
    };
    let mut copy = Text {
        len: text.len(),
        bytes: [0; ROOM],
    };
    copy.bytes[..text.len()].copy_from_slice(text.as_bytes());
    let room = room.cast::<Text>().as_ptr();
    // SAFETY: fresh memory of a page, which is what a text has.
    unsafe { room.write(copy) };
    // Release: pairs with the Acquire in `asked_for`.
    TEXT.store(room, Ordering::Release);
    true
}

/// What the environment asks for a cache of this name.
pub(crate) fn asked_for(name: Name) -> CacheDebug {
    // Acquire: pairs with the Release in `keep`.
    let text = TEXT.load(Ordering::Acquire);
    // SAFETY: null, or what `keep` put there for ever.
    let text = unsafe { text.as_ref() };
    let text = text.and_then(|text| str::from_utf8(text.bytes.get(..text.len)?).ok());
    text.map_or(CacheDebug::NONE, |text| look_up(text, name.as_str()))
}

const _: () = assert!(size_of::<Text>() == PAGE);

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str, name: &str) -> u8 {
        look_up(text, name).bits()
    }

    /// Seen to fail with the blocks looked at from the last to the first, and with `*` as a letter like any other.
    #[test]
    fn texts_as_the_kernel_has_them() {
        assert_eq!(
            (flags("FZPU", "a"), flags("fz", "a"), flags("-", "a")),
            (15, 3, 0)
        );
        assert_eq!((flags("F,a,b", "b"), flags("F,a,b", "c")), (1, 0));
        assert_eq!((flags(",a;P", "a"), flags(",a;P", "b")), (15, 4));
        assert_eq!((flags("P;U", "b"), flags("-,a;U", "a")), (8, 0));
        assert_eq!((flags("F,a*;Z,ab", "ab"), flags("Z,ab;F,a*", "ab")), (1, 2));
        assert_eq!((flags("F,*", "x"), flags("F,a*", "ba")), (1, 0));
        let long = "n".repeat(40);
        assert_eq!(flags(&format!("F,{long}"), &long[..32]), 1, "names are cut");
    }

    #[test]
    fn odd_letters_are_not_accepted() {
        let is_usable = |text| blocks(text).all(|(flags, _)| flags.is_some());
        assert!(is_usable("FZPU,a;-,b;,c"));
        assert!(!is_usable("FX") && !is_usable("1") && !is_usable("F;Q,a") && !is_usable("F-"));
    }
}
