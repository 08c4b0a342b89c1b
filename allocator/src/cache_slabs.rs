//! The slabs of an object cache as they come and go: with them its objects are constructed and destroyed.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::cache_home::Refused;
use crate::config::SLICE;
use crate::list::List;
use crate::node::{self, Node};
use crate::object_cache::{ObjectCache, State};
use crate::os::{KeepErrno, Uncancelled};
use crate::slab::Slab;
use crate::span_map;
use crate::window::Tag;

impl ObjectCache {
    /// Makes a slab of slices that `find` gave: an object of it.
    pub(crate) fn build(&'static self, node: &'static Node, start: usize) -> Option<usize> {
        let shape = self.shape();
        let slab = NonNull::new(span_map::slab_of_slice(start))?;
        // SAFETY: the descriptor of a slice that was just handed out to us.
        let here = unsafe { &mut *slab.as_ptr() };
        here.init(start, self.class());
        (here.offered, here.round) = (0, 0);
        span_map::set_backs(start, shape.slices);
        self.begin_watch(start);
        self.construct(node, start);
        span_map::set_owner(start, shape.slices, self.address());
        let tag = Tag::new(node.number(), Tag::CACHE);
        span_map::set_tags(start, shape.slices, tag, tag);
        // Relaxed: raised before the slab can be given back.
        self.slabs.fetch_add(1, Ordering::Relaxed);
        let mut home = self.home(node.number());
        // SAFETY: new; alive until it is given back; reached through the home alone.
        let place = unsafe { home.add(slab) };
        Some(self.hand_out(home, place))
    }

    /// Constructs all objects of a slab. If that unwinds those that were made are destroyed, and the slices go back.
    fn construct(&'static self, node: &'static Node, start: usize) {
        let Some(hooks) = self.hooks() else { return };
        let _uncancelled = Uncancelled::new();
        let mut unfinished = Unfinished {
            cache: self,
            node,
            start,
            made: 0,
        };
        for object in self.objects(start) {
            // SAFETY: memory of a slab that nobody else has yet.
            unsafe { hooks.construct(object) };
            unfinished.made += 1;
        }
        core::mem::forget(unfinished);
    }

    /// With all locks given back: reports what was refused, and gives slabs back. How many bytes.
    pub(crate) fn finish(&'static self, put: Result<(), Refused>, mut gone: List<Slab>) -> usize {
        if let Err((object, misuse)) = put {
            node::report(object, misuse);
        }
        if gone.is_empty() {
            return 0;
        }
        let _errno = KeepErrno::new();
        let (shape, hooks) = (self.shape(), self.hooks());
        let _uncancelled = hooks.map(|_| Uncancelled::new());
        let mut slabs = 0;
        while let Some(slab) = gone.pop() {
            // SAFETY: taken out of list and ring, so ours; its descriptor stays until the arena has the slices.
            let start = unsafe { slab.as_ref() }.start;
            let node = node::node(span_map::tag(start).node());
            span_map::set_tags(start, shape.slices, Tag::NONE, Tag::NONE);
            self.check_gone(start);
            for object in hooks.into_iter().flat_map(|_| self.objects(start)) {
                // SAFETY: constructed when the slab was built; all objects of it are free, and the slab is ours.
                hooks.inspect(|hooks| unsafe { hooks.destroy(object) });
            }
            node.free_span(start, shape.slices);
            slabs += 1;
        }
        // Release: pairs with the Acquire in `end_if_over`: nothing above is done with hooks that have ended.
        self.slabs.fetch_sub(slabs, Ordering::Release);
        self.end_if_over();
        slabs * shape.slices * SLICE
    }

    /// Once it is closed and has no slabs: ends its hooks, and makes room for another cache.
    pub(crate) fn end_if_over(&self) {
        // Acquire, both: see `finish`.
        if !self.closed.load(Ordering::Acquire) || self.slabs.load(Ordering::Acquire) > 0 {
            return;
        }
        let mut identity = self.identity.lock();
        if identity.state != State::Closed {
            return;
        }
        identity.state = State::Over;
        let hooks = identity.hooks.take();
        drop(identity);
        drop(hooks);
    }
}

/// A slab that is being built.
struct Unfinished {
    cache: &'static ObjectCache,
    node: &'static Node,
    start: usize,
    /// Objects constructed.
    made: usize,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let hooks = self.cache.hooks();
        for object in self.cache.objects(self.start).take(self.made) {
            // SAFETY: just constructed, and nobody has it.
            hooks.inspect(|hooks| unsafe { hooks.destroy(object) });
        }
        self.node.free_span(self.start, self.cache.shape().slices);
    }
}
