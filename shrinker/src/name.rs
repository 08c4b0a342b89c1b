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
    pub const fn new(name: &str) -> Self {
        // What a constant function may do.
        let mut len = if name.len() < NAME_MAX {
            name.len()
        } else {
            NAME_MAX
        };
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        let (mut bytes, mut at) = ([0; NAME_MAX], 0);
        while at < len {
            bytes[at] = name.as_bytes()[at];
            at += 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the bytes of a character kept that does not fit.
    #[test]
    fn a_long_name_is_what_is_kept_of_it() {
        for name in [
            "",
            "short",
            &"a".repeat(40),
            &"ä".repeat(20),
            &"€".repeat(20),
        ] {
            let kept = Name::new(name);
            assert!(name.starts_with(kept.as_str()));
            assert!(kept.as_str().len() + 3 > name.len().min(NAME_MAX));
            assert_eq!(kept, Name::new(kept.as_str()));
        }
    }
}
