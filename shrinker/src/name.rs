//! Short names, held by value.

use std::fmt;

/// The longest name kept, in bytes.
const NAME_MAX: usize = 32;

/// A short name, held by value so that showing it never allocates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Name {
    /// The name, cut at the last whole character that fits.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let len = name.floor_char_boundary(NAME_MAX);
        let mut bytes = [0; NAME_MAX];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// What was kept of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always valid: it was cut at a character's end.
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
