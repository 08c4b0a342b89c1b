//! Which callbacks run on this thread's stack: a chain of frames, so that nobody waits for himself.

use std::ptr;

use crate::sync::FRAMES;

/// A callback in progress on this thread's stack.
struct Frame {
    /// The record's address; only compared.
    record: *const (),
    /// The class of the shrinker, as a mask of one bit; none where it may wait.
    class: u8,
    below: *const Frame,
}

/// Runs `f` with `record` marked as running on this thread. `class` is that of the shrinker, as a mask of one bit; none
/// where it may wait.
pub(crate) fn with_frame<T, R>(record: &T, class: u8, f: impl FnOnce() -> R) -> R {
    struct Pop(*const Frame);
    impl Drop for Pop {
        fn drop(&mut self) {
            FRAMES.with(|top| top.set(self.0.cast()));
        }
    }
    let below = FRAMES.with(std::cell::Cell::get).cast::<Frame>();
    let record = ptr::from_ref(record).cast();
    let frame = Frame {
        record,
        class,
        below,
    };
    FRAMES.with(|top| top.set(ptr::from_ref(&frame).cast()));
    let _pop = Pop(below);
    f()
}

/// Whether any callback or visitor runs on this thread's stack.
pub(crate) fn in_callback() -> bool {
    !FRAMES.with(std::cell::Cell::get).is_null()
}

/// The class of the callback that runs on this thread and may not wait, as a mask of one bit; none otherwise. Walks do not
/// nest, so there is one at most.
pub(crate) fn classes_in_callback() -> u8 {
    let top = FRAMES.with(std::cell::Cell::get).cast::<Frame>();
    // SAFETY: null, or a frame further down this thread's own stack, which is unchained before it goes.
    unsafe { top.as_ref() }.map_or(0, |frame| frame.class)
}

/// How many callbacks of `record` run on this thread's stack.
pub(crate) fn frames<T>(record: &T) -> u32 {
    let record = ptr::from_ref(record).cast();
    let mut top = FRAMES.with(std::cell::Cell::get).cast::<Frame>();
    let mut count = 0;
    // SAFETY: the chain names frames further down this thread's own stack; each is unchained before it goes.
    while let Some(frame) = unsafe { top.as_ref() } {
        count += u32::from(frame.record == record);
        top = frame.below;
    }
    count
}
