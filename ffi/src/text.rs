//! All statistics as text and as JSON, for C.

use std::ffi::{c_char, c_int};
use std::fmt::{self, Write};
use std::ptr;

use ebb::StatsFormat;

/// `ebb_write_stats`: text for people.
pub const EBB_STATS_TEXT: c_int = 0;
/// `ebb_write_stats`: one JSON object.
pub const EBB_STATS_JSON: c_int = 1;

/// A C string of limited length under construction: like `snprintf`, it counts what does not fit.
struct Text {
    buffer: *mut u8,
    /// How many bytes fit, the closing NUL not counted.
    room: usize,
    /// How many bytes there were so far, whether they fit or not.
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let bytes = part.len().min(self.room.saturating_sub(self.length));
        if bytes > 0 {
            // SAFETY: `length` is below `room`, which lies in the buffer.
            let end = unsafe { self.buffer.add(self.length) };
            // SAFETY: `bytes` more fit below `room`, and the part has them.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), end, bytes) };
        }
        self.length += part.len();
        Ok(())
    }
}

/// Writes all statistics, the shrinkers' too, as a C string of at most `length` bytes with its closing NUL.
///
/// `format` is `EBB_STATS_TEXT` or `EBB_STATS_JSON`. Gives the length that the whole text has, its NUL not counted, like
/// `snprintf`: the text is complete when that is below `length`. `buffer` may be NULL when `length` is 0. An unknown
/// format gives 0 and writes nothing. Allocates nothing.
///
/// # Safety
///
/// `length` bytes from `buffer` on may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_write_stats(
    buffer: *mut c_char,
    length: usize,
    format: c_int,
) -> usize {
    let format = match format {
        EBB_STATS_TEXT => StatsFormat::Text,
        EBB_STATS_JSON => StatsFormat::Json,
        _ => return 0,
    };
    let mut text = Text {
        buffer: buffer.cast(),
        room: length.saturating_sub(1),
        length: 0,
    };
    // `Text` never fails, so neither does this.
    let _ = ebb::write_stats(&mut text, format);
    if length > 0 {
        // SAFETY: the caller's clause: the index is below `length`.
        let end = unsafe { text.buffer.add(text.length.min(text.room)) };
        // SAFETY: as above.
        unsafe { end.write(0) };
    }
    text.length
}
