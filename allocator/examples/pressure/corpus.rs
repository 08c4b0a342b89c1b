//! The files that queries are about.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Larger files are left out.
const LARGEST: u64 = 256 << 10;

/// So many files are plenty.
const MOST: usize = 8000;

/// A directory that somebody names has so many files at least.
const FEWEST: usize = 16;

/// A directory that nobody named has so many bytes of text at least: the caches then want several times the default
/// budget.
const ENOUGH: u64 = 16 << 20;

/// What counts as text by its name.
const ENDINGS: [&str; 12] = [
    "rs", "md", "txt", "toml", "c", "h", "cpp", "py", "js", "json", "html", "css",
];

/// A directory of text files.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
}

impl Corpus {
    /// The files under `path`, or else under the first of the usual places that has enough of them.
    pub(crate) fn find(path: Option<&Path>) -> Result<Self, String> {
        if let Some(path) = path {
            let corpus =
                Self::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            return match corpus.files.len() {
                FEWEST.. => Ok(corpus),
                few => Err(format!(
                    "{} has {few} text files; at least {FEWEST} are needed. Name another directory",
                    path.display()
                )),
            };
        }
        let places = usual_places();
        let found = places.iter().filter_map(|place| Self::read(place).ok());
        let mut found = found;
        found.find(|corpus| corpus.bytes >= ENOUGH).ok_or_else(|| {
            format!(
                "no {} MiB of text found in any of {places:?}; name a directory of text files",
                ENOUGH >> 20
            )
        })
    }

    fn read(root: &Path) -> io::Result<Self> {
        let mut corpus = Self {
            root: root.to_path_buf(),
            files: Vec::new(),
            bytes: 0,
        };
        corpus.add(root)?;
        corpus.files.shrink_to_fit();
        Ok(corpus)
    }

    /// The name of a file, from the root on.
    pub(crate) fn name(&self, file: usize) -> &str {
        let path = &self.files[file];
        let name = path.strip_prefix(&self.root).unwrap_or(path);
        name.to_str().unwrap_or("?")
    }

    /// Adds the text files under a directory, in the order of their names.
    fn add(&mut self, directory: &Path) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(directory)?.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // Of the entry itself: links are not followed, so there are no circles.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            let path = entry.path();
            if self.files.len() >= MOST {
                return Ok(());
            }
            if about.is_dir() {
                // A directory that cannot be read has nothing for us.
                let _ = self.add(&path);
            } else if (1..=LARGEST).contains(&about.len()) && is_text(&path) {
                self.bytes += about.len();
                self.files.push(path);
            }
        }
        Ok(())
    }
}

fn is_text(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// Cargo's downloaded sources, which whoever built this has; or else (they may be vendored) what most systems have.
fn usual_places() -> Vec<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cargo"));
    let crates = cargo.or_else(home).map(|cargo| cargo.join("registry/src"));
    let system = ["/usr/include", "/usr/share", "/usr/lib"].map(PathBuf::from);
    crates.into_iter().chain(system).collect()
}

/// An allocation failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfMemory;

/// The text of a file, its bytes that are not UTF-8 replaced by question marks; no text when it cannot be read.
pub(crate) fn read(path: &Path) -> Result<String, OutOfMemory> {
    let mut text = Vec::new();
    if let Ok(mut file) = fs::File::open(path) {
        let len = file.metadata().map_or(0, |about| about.len().min(LARGEST)) as usize;
        text.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
        text.resize(len, 0);
        let read = read_all(&mut file, &mut text);
        text.truncate(read);
    }
    for byte in &mut text {
        if !byte.is_ascii() {
            *byte = b'?';
        }
    }
    Ok(String::from_utf8(text).unwrap_or_default())
}

fn read_all(file: &mut fs::File, buffer: &mut [u8]) -> usize {
    let mut len = 0;
    while let Ok(more) = file.read(&mut buffer[len..]) {
        if more == 0 {
            break;
        }
        len += more;
    }
    len
}
