//! Messages, written without allocating.

use core::fmt::{self, Write};

use super::Uncancelled;

/// A line of limited length on the stack. What does not fit is left out.
pub(crate) struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    pub(crate) fn new(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self {
            bytes: [0; 256],
            len: 0,
        };
        // Never fails.
        let _ = line.write_fmt(text);
        line
    }

    /// The line, to standard error.
    pub(crate) fn write(&self) {
        say(&self.bytes[..self.len]);
    }
}

impl Write for Line {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = part.len().min(room.len());
        room[..len].copy_from_slice(&part.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Writes to standard error, as far as it goes.
pub(crate) fn say(mut text: &[u8]) {
    let _uncancelled = Uncancelled::new();
    while !text.is_empty() {
        // SAFETY: the length is the text's own.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => text = &text[written.min(text.len())..],
            _ => return,
        }
    }
}

/// Says what is wrong in one line, and ends the process.
#[cold]
#[inline(never)]
pub(crate) fn abort(what: fmt::Arguments<'_>) -> ! {
    Line::new(format_args!("ebbmalloc: {what}\n")).write();
    // SAFETY: abort may be called at any time.
    unsafe { libc::abort() }
}
