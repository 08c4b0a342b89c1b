//! All object caches: made, closed, gone round, and held still for a fork.
//!
//! They are in one list, which only grows: a cache that is over waits there for the next that is made. So the list needs no
//! lock to go through, and who comes with a stale address finds a cache, if not his own.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use ebb_shrinker::Name;

use crate::apart;
use crate::budget;
use crate::cache_home::Slabs;
use crate::config::PAGE;
use crate::lock::{Lock, hold, let_go};
use crate::object_cache::{Home, Identity, ObjectCache, Place, State};
use crate::os;
use crate::topology;
use crate::watch::Watch;

/// The cache made last.
static LAST: AtomicPtr<ObjectCache> = AtomicPtr::new(ptr::null_mut());

/// Held while a cache is made.
static MAKING: Lock<()> = Lock::new(());

/// All there are, those apart too.
pub(crate) fn all() -> impl Iterator<Item = &'static ObjectCache> {
    made().chain(&apart::CACHES)
}

/// All that were ever made, open, closed or over.
pub(crate) fn made() -> impl Iterator<Item = &'static ObjectCache> {
    // Acquire: pairs with the Release in `make_room`.
    let mut next = LAST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a cache, which is never unmapped.
        let cache = unsafe { next.as_ref() }?;
        // Relaxed: written before the cache was published, and never again.
        next = cache.next.load(Ordering::Relaxed);
        Some(cache)
    })
}

/// Opens a cache of objects of a size class, without hooks, watched or not. Nothing when there is no memory for it.
pub(crate) fn open(name: Name, class: usize, watch: Option<Watch>) -> Option<&'static ObjectCache> {
    let _making = MAKING.lock();
    let mut alike = made().filter(|cache| cache.places.is_empty() == watch.is_some());
    let over = alike.find(|cache| cache.identity.lock().state == State::Over);
    let cache = over.or_else(|| make_room(watch.is_some()))?;
    // Relaxed, all three: whoever uses it is handed it later.
    cache.class.store(class, Ordering::Relaxed);
    cache.watch.store(Watch::to_word(watch), Ordering::Relaxed);
    cache.closed.store(false, Ordering::Relaxed);
    *cache.identity.lock() = Identity {
        state: State::Open,
        name,
        hooks: None,
    };
    Some(cache)
}

/// Closes a cache: what it has free goes back, and the rest when its last object is freed.
pub(crate) fn close(cache: &'static ObjectCache) {
    cache.identity.lock().state = State::Closed;
    // Release: pairs with the Acquire in `end_if_over`.
    cache.closed.store(true, Ordering::Release);
    cache.drain(None);
    cache.end_if_over();
}

/// A new cache that is over, in the list; with no places if it is to be watched.
#[cold]
fn make_room(watched: bool) -> Option<&'static ObjectCache> {
    let machine = topology::machine();
    let homes = size_of::<Home>() * machine.nodes;
    let cpus = if watched { 0 } else { machine.cpus };
    let places = size_of::<Place>() * cpus;
    let bytes = (homes + places + size_of::<ObjectCache>()).next_multiple_of(PAGE);
    if !budget::charge(bytes) {
        return None;
    }
    let Some(start) = os::map(bytes) else {
        budget::release(bytes);
        return None;
    };
    let homes = fill(start, machine.nodes, || Home(Lock::new(Slabs::new())));
    // SAFETY: behind the homes, in the mapping.
    let rest = unsafe { start.byte_add(size_of_val(homes)) };
    let places = fill(rest, cpus, || Place(Lock::new(None)));
    // SAFETY: behind the places, in the mapping.
    let rest = unsafe { rest.byte_add(size_of_val(places)) };
    let caches = fill(rest, 1, || ObjectCache {
        // Relaxed: under the lock.
        next: AtomicPtr::new(LAST.load(Ordering::Relaxed)),
        class: AtomicUsize::new(0),
        watch: AtomicUsize::new(0),
        closed: AtomicBool::new(true),
        slabs: AtomicUsize::new(0),
        identity: Lock::new(Identity {
            state: State::Over,
            name: Name::new(""),
            hooks: None,
        }),
        places,
        homes,
    });
    let cache = caches.first()?;
    // Release: pairs with the Acquire in `all`.
    LAST.store(ptr::from_ref(cache).cast_mut(), Ordering::Release);
    Some(cache)
}

/// Values one behind the other, for ever, in fresh memory of that size, aligned for them.
fn fill<T>(start: NonNull<u8>, count: usize, make: impl Fn() -> T) -> &'static [T] {
    let first = start.cast::<T>();
    for index in 0..count {
        // SAFETY: inside the memory.
        let place = unsafe { first.add(index) };
        // SAFETY: fresh, aligned and ours.
        unsafe { place.write(make()) };
    }
    // SAFETY: so many were written; the memory is never unmapped, and nobody changes it but through them.
    unsafe { core::slice::from_raw_parts(first.as_ptr(), count) }
}

/// Those that have slabs.
pub(crate) fn with_slabs() -> impl Iterator<Item = &'static ObjectCache> {
    // Relaxed: one that gets its first slab now has nothing to spare, and nothing to show.
    all().filter(|cache| cache.slabs.load(Ordering::Relaxed) > 0)
}

/// Drains all caches, or what of them is one node's. The bytes that were given back.
pub(crate) fn drain(only: Option<usize>) -> usize {
    with_slabs().map(|cache| cache.drain(only)).sum()
}

/// Takes the locks of all caches, in their order, for a fork.
pub(crate) fn hold_all() {
    hold(&MAKING);
    for cache in all() {
        hold(&cache.identity);
        cache.places.iter().for_each(|place| hold(&place.0));
        cache.homes.iter().for_each(|home| hold(&home.0));
    }
}

/// Gives the locks of all caches back.
///
/// # Safety
/// This thread (or in a forked child, its parent's forking thread) took them by [`hold_all`].
pub(crate) unsafe fn let_go_all() {
    for cache in all() {
        for home in cache.homes {
            // SAFETY: the caller's clause. A cache that was made since then has locks that are free.
            unsafe { let_go(&home.0) };
        }
        for place in cache.places {
            // SAFETY: as above.
            unsafe { let_go(&place.0) };
        }
        // SAFETY: as above.
        unsafe { let_go(&cache.identity) };
    }
    // SAFETY: as above.
    unsafe { let_go(&MAKING) };
}

const _: () = assert!(align_of::<Home>() >= align_of::<Place>());
const _: () = assert!(align_of::<Place>() >= align_of::<ObjectCache>());
const _: () = assert!(size_of::<Place>().is_multiple_of(align_of::<ObjectCache>()));
