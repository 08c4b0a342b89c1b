//! Debugging object caches: caches whose objects are watched, for whoever hunts a program that writes where it must not.
//!
//! `cache_debug` has the flags and who asks for them, `watch` what the memory around an object looks like. Here is when it
//! is looked at, and what is done about what is found:
//!
//! | when | what is looked at |
//! | --- | --- |
//! | an object is allocated | it: red zones, and whether somebody wrote to it while it was free |
//! | an object is freed | it: red zones, whether it is an object and in use |
//! | a slab goes back | all its objects, as when they are allocated |
//! | `validate`, and `destroy` | all objects, and what `destroy` finds in use |
//!
//! The first three only with the flag `F`, but a pointer that is no object in use is found always, and at once: a watched
//! cache has nothing at hand on a CPU, each object comes from its slab's bitmap and goes there.
//!
//! **What is found ends the process**, in the first three: what was found, byte by byte, and who had the object, on
//! standard error, and then the line with which every misuse ends it. The kernel repairs the bytes and goes on, since a machine
//! that stops costs more than one that may be wrong. A process that stops leaves a core file with all of memory as it was
//! found, which is what whoever asked for this wants; one that goes on may be writing into its files by then. `validate`
//! is for those who want to know only: it says what it finds, changes nothing, and goes on.
//!
//! **Under the lock of the home** an object is looked at, marked and taken from or put into its slab in one go. So whoever
//! looks at all of them sees each in use or free, as it is in the bitmap. What is to be said is said after that.

use core::fmt;

use crate::cache_home::Slabs;
use crate::lock::Guard;
use crate::node;
use crate::object_cache::ObjectCache;
use crate::os::{self, KeepErrno, Line};
use crate::slab::Misuse;
use crate::watch::{Fault, User, Watch, Wrong};
use crate::window::Tag;

/// How many faults on one node are said.
const LISTED: usize = 16;

impl ObjectCache {
    /// Makes the memory of a new slab, which nobody else has yet, free objects.
    pub(crate) fn begin_watch(&self, start: usize) {
        let Some(watch) = self.watch() else { return };
        for object in self.objects(start) {
            // SAFETY: a place of the slab.
            unsafe { watch.begin(watch.place(object.addr().get())) };
        }
    }

    /// The object in a place that was just taken, with the lock under which it was.
    pub(crate) fn hand_out(&self, home: Guard<'_, Slabs>, place: usize) -> usize {
        let Some(watch) = self.watch() else {
            return place;
        };
        // SAFETY: just taken, and the lock is held.
        let fault = unsafe { watch.hand_out(place) };
        drop(home);
        fault.inspect(|fault| self.end(fault));
        watch.object(place)
    }

    /// The place of an object, to be put back into its slab under the same lock.
    pub(crate) fn take_back<'a>(
        &'static self,
        watch: Watch,
        mut home: Guard<'a, Slabs>,
        tag: Tag,
        object: usize,
    ) -> (Guard<'a, Slabs>, usize) {
        let place = watch.place(object);
        let Some(is_free) = home.is_free(tag, self.address(), object, place) else {
            drop(home);
            node::report(object, Misuse::NotAnObject)
        };
        let fault = if is_free {
            // SAFETY: an object of ours, and the lock is held.
            Some(unsafe { watch.fault(Wrong::DoubleFree, place) })
        } else {
            // SAFETY: as above, and it is in use.
            unsafe { watch.take_back(place) }
        };
        if let Some(fault) = fault {
            drop(home);
            self.end(&fault);
        }
        (home, place)
    }

    /// Looks at the objects of a slab that goes back: all are free, and nobody else has it.
    #[inline(never)]
    pub(crate) fn check_gone(&self, start: usize) {
        let Some(watch) = self.watch() else { return };
        for object in self.objects(start) {
            // SAFETY: a place of the slab.
            let fault = unsafe { watch.check_always(watch.place(object.addr().get()), false) };
            fault.inspect(|fault| self.end(fault));
        }
    }

    /// Looks at all objects, and says what is wrong: how many are. Takes its locks one after the other, each for as long as it
    /// takes to read what is watched there.
    pub(crate) fn validate(&self) -> usize {
        // SAFETY: a place, and its home's lock is held.
        self.survey(|watch, place, in_use| unsafe { watch.check(place, in_use) })
    }

    /// Says which objects are in use: how many.
    pub(crate) fn name_left(&self) -> usize {
        self.survey(|watch, place, in_use| {
            // SAFETY: as above.
            in_use.then(|| unsafe { watch.fault(Wrong::Left, place) })
        })
    }

    /// Says what `look` finds, which is called under the home's lock with each place and whether it is in use: how much.
    fn survey(&self, look: impl Fn(&Watch, usize, bool) -> Option<Fault>) -> usize {
        let Some(watch) = self.watch() else { return 0 };
        let _errno = KeepErrno::new();
        let mut all = 0;
        for node in 0..self.homes.len() {
            let (mut first, mut found) = ([None; LISTED], 0);
            self.home(node).each_place(|place, is_free| {
                let fault = look(&watch, place, !is_free);
                if let (Some(_), Some(room)) = (fault, first.get_mut(found)) {
                    *room = fault;
                }
                found += usize::from(fault.is_some());
            });
            first.iter().flatten().for_each(|fault| self.tell(fault));
            if found > LISTED {
                let name = self.identity.lock().name;
                say(format_args!("cache {name:?}: and {} more", found - LISTED));
            }
            all += found;
        }
        all
    }

    /// Says what is wrong with an object, and who had it. With no lock held.
    fn tell(&self, fault: &Fault) {
        let name = self.identity.lock().name;
        let (object, size) = (fault.object, self.object_size());
        let head = format_args!("cache {name:?}: object {object:#x} of {size} bytes");
        match &fault.what {
            Wrong::Left => say(format_args!("{head}: still in use")),
            Wrong::DoubleFree => say(format_args!("{head}: freed twice")),
            Wrong::Written(written) => say(format_args!(
                "{head}: {} was written to: not {:02x} from byte {} on, but{}",
                written.part,
                written.expected,
                written.offset,
                Bytes(written.found())
            )),
        }
        if let Some(users) = &fault.users {
            tell_user("allocated", &users.allocated);
            tell_user("freed", &users.freed);
        }
    }

    /// Says what is wrong with an object, and ends the process.
    #[cold]
    fn end(&self, fault: &Fault) -> ! {
        self.tell(fault);
        let object = fault.object;
        match fault.what {
            Wrong::DoubleFree => node::report(object, Misuse::DoubleFree),
            _ => os::abort(format_args!(
                "corrupted memory at object {object:#x} of a cache: see above"
            )),
        }
    }
}

fn tell_user(what: &str, user: &User) {
    if user.when == 0 {
        return;
    }
    let ago = os::now_ns().saturating_sub(user.when) / 1000;
    say(format_args!(
        "  last {what} by thread {}, {ago} us ago",
        user.thread
    ));
}

fn say(text: fmt::Arguments<'_>) {
    Line::new(format_args!("ebbmalloc: {text}\n")).write();
}

/// Bytes as they are shown.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(out, " {byte:02x}"))
    }
}
