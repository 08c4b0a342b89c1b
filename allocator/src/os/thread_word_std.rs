//! One word per thread, for architectures without their own code. Constant and without a destructor, so that no
//! access runs code; in a library loaded late the first access on a thread may allocate in the C library.

use std::cell::Cell;

thread_local! {
    static WORD: Cell<usize> = const { Cell::new(0) };
}

/// This thread's word; 0 at first.
pub(crate) fn thread_word() -> usize {
    WORD.get()
}

/// Sets this thread's word.
pub(crate) fn set_thread_word(word: usize) {
    WORD.set(word);
}
