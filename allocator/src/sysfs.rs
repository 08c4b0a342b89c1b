//! Reading the kernel's description of the machine, without allocating.

use core::ffi::CStr;
use core::fmt::Arguments;

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
            for part in text.split(',') {
                let mut ends = part.splitn(2, '-').map(number);
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
            text.split(' ').filter_map(number).for_each(&mut *f);
        });
    }

    /// The memory of the node with an id, in bytes; 0 when that is not said.
    pub(crate) fn node_memory(self, id: usize) -> usize {
        let mut bytes = 0;
        // "Node 0 MemTotal:   16303160 kB", and more lines.
        self.read(format_args!("node/node{id}/meminfo"), &mut |text| {
            let mut words = text.split(' ').skip_while(|word| *word != "MemTotal:");
            bytes = words.find_map(number).unwrap_or(0) << 10;
        });
        bytes
    }

    /// Calls `f` with a file's text, if there is such a file.
    fn read(self, name: Arguments<'_>, f: &mut dyn FnMut(&str)) {
        let Ok(root) = self.0.to_str() else { return };
        if let Some(text) = os::read_text(format_args!("{root}/{name}"), &mut [0; 4096]) {
            f(text.trim_ascii());
        }
    }
}

fn number(digits: &str) -> Option<usize> {
    digits.parse().ok()
}
