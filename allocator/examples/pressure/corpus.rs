//! The files that queries are about.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Larger files are left out.
const LARGEST: u64 = 256 << 10;

/// So many files are plenty.
const MOST: usize = 8000;

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
    /// The files under `path`, or under the sources that cargo has downloaded.
    pub(crate) fn find(path: Option<&Path>) -> Result<Self, String> {
        let root = match path {
            Some(path) => path.to_path_buf(),
            None => downloaded_crates()?,
        };
        let mut corpus = Self {
            root: root.clone(),
            files: Vec::new(),
            bytes: 0,
        };
        corpus
            .add(&root)
            .map_err(|error| format!("{}: {error}", root.display()))?;
        if corpus.files.len() < 16 {
            return Err(format!(
                "{} has {} text files; at least 16 are needed. Name another directory",
                root.display(),
                corpus.files.len()
            ));
        }
        corpus.files.shrink_to_fit();
        Ok(corpus)
    }

    /// Adds the text files under a directory, in the order of their names.
    fn add(&mut self, directory: &Path) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(directory)?.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
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

fn downloaded_crates() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cargo"));
    let sources = cargo.or_else(home).map(|cargo| cargo.join("registry/src"));
    sources.filter(|sources| sources.is_dir()).ok_or_else(|| {
        "cargo's downloaded sources were not found; name a directory of text files".to_owned()
    })
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
