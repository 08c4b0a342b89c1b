//! A few words per thread, for architectures without their own code. Constant and without a destructor, so that no
//! access runs code; in a library loaded late the first access on a thread may allocate in the C library.

use std::cell::Cell;

/// How many words there are.
pub(crate) const THREAD_WORDS: usize = 5;

thread_local! {
    static WORDS: [Cell<usize>; THREAD_WORDS] = const { [const { Cell::new(0) }; THREAD_WORDS] };
}

/// One of this thread's words; 0 at first.
pub(crate) fn thread_word(index: usize) -> usize {
    WORDS.with(|words| words[index].get())
}

/// Sets one of this thread's words.
pub(crate) fn set_thread_word(index: usize, word: usize) {
    WORDS.with(|words| words[index].set(word));
}
