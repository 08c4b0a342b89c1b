//! Reading the kernel's description of the machine, without allocating.

use core::ffi::CStr;
use core::fmt::{Arguments, Write};

use crate::os::{self, NODE_IDS};

/// Where the kernel describes the machine.
const SYSFS: &CStr = c"/sys/devices/system";

/// A directory with such a description.
#[derive(Clone, Copy)]
pub(crate) struct Sysfs<'a>(&'a CStr);

impl<'a> Sysfs<'a> {
    /// The kernel's, or another.
    pub(crate) fn new(directory: Option<&'a CStr>) -> Self {
        Self(directory.unwrap_or(SYSFS))
    }

    /// Calls `f` with every number in a list file, like `0-3,8`.
    pub(crate) fn list(self, name: Arguments<'_>, f: &mut dyn FnMut(usize)) {
        self.read(name, &mut |text| {
            for part in text.split(|byte| *byte == b',') {
                let mut ends = part.splitn(2, |byte| *byte == b'-').map(number);
                let Some(Some(first)) = ends.next() else {
                    continue;
                };
                let last = ends.next().flatten().unwrap_or(first);
                (first..=last.min(first.saturating_add(NODE_IDS))).for_each(&mut *f);
            }
        });
    }

    /// Calls `f` with every number in a file of numbers with spaces between them.
    pub(crate) fn numbers(self, name: Arguments<'_>, f: &mut dyn FnMut(usize)) {
        self.read(name, &mut |text| {
            text.split(|byte| *byte == b' ')
                .filter_map(number)
                .for_each(&mut *f);
        });
    }

    /// The memory of the node with an id, in bytes; 0 when that is not said.
    pub(crate) fn node_memory(self, id: usize) -> usize {
        let mut bytes = 0;
        // "Node 0 MemTotal:   16303160 kB", and more lines.
        self.read(format_args!("node/node{id}/meminfo"), &mut |text| {
            let mut words = text
                .split(|byte| *byte == b' ')
                .skip_while(|word| *word != b"MemTotal:");
            bytes = words.find_map(number).unwrap_or(0) << 10;
        });
        bytes
    }

    /// Calls `f` with a file's text, if there is such a file.
    fn read(self, name: Arguments<'_>, f: &mut dyn FnMut(&[u8])) {
        let mut path = Path {
            bytes: [0; 512],
            len: 0,
        };
        let Ok(root) = self.0.to_str() else { return };
        if write!(path, "{root}/{name}").is_err() {
            return;
        }
        let Ok(path) = CStr::from_bytes_until_nul(&path.bytes) else {
            return;
        };
        let mut buffer = [0; 4096];
        if let Some(text) = os::read_file(path, &mut buffer) {
            f(text.trim_ascii());
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// A path under construction; the last byte stays 0.
struct Path {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Path {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        let end = self.len + part.len();
        if end >= self.bytes.len() {
            return Err(core::fmt::Error);
        }
        self.bytes[self.len..end].copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}
