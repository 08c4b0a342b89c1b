//! The root file system of a guest: an archive in memory, of the kind that Linux unpacks at boot ("newc" cpio).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An archive under construction.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: usize,
    known: BTreeSet<PathBuf>,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

impl Initramfs {
    /// One with the console that the kernel gives to its first process, and places to mount file systems at.
    #[must_use]
    pub fn new() -> Self {
        let mut archive = Self::default();
        for directory in ["/dev", "/proc", "/sys", "/tmp"] {
            archive.directory(Path::new(directory));
        }
        archive.entry(Path::new("/dev/console"), CONSOLE, (5, 1), &[]);
        archive
    }

    /// Adds a directory and those above it.
    pub fn directory(&mut self, path: &Path) {
        let above: Vec<_> = path.ancestors().collect();
        for directory in above.into_iter().rev() {
            if directory.parent().is_some() && self.known.insert(directory.to_path_buf()) {
                self.entry(directory, DIRECTORY, (0, 0), &[]);
            }
        }
    }

    /// Adds a file that may be run.
    pub fn file(&mut self, path: &Path, content: &[u8]) {
        if let Some(directory) = path.parent() {
            self.directory(directory);
        }
        if self.known.insert(path.to_path_buf()) {
            self.entry(path, PROGRAM, (0, 0), content);
        }
    }

    /// Adds one of our programs as `path`, and the shared libraries it needs where they are here.
    ///
    /// # Panics
    /// When a file cannot be read.
    pub fn program(&mut self, path: &Path, program: &Path) {
        let read = |file: &Path| {
            fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        self.file(path, &read(program));
        let listed = Command::new("ldd").arg(program).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for library in listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            self.file(Path::new(library), &read(Path::new(library)));
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, device: (u32, u32), content: &[u8]) {
        let name = path.strip_prefix("/").unwrap_or(path);
        self.raw(&name.to_string_lossy(), mode, device, content);
    }

    /// One entry: thirteen numbers of eight hexadecimal digits, the name, the content; both padded to four bytes.
    fn raw(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let fields = [
            self.entries,
            mode as usize,
            0, // owner
            0, // group
            1, // links
            0, // time
            content.len(),
            0, // device it lies on
            0,
            device.0 as usize,
            device.1 as usize,
            name.len() + 1,
            0, // checksum
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.raw("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}
