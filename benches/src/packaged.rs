//! The allocators that Debian packages as libraries to be preloaded.

use std::path::{Path, PathBuf};

/// Where the linker finds libraries.
const DIRECTORIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
];

/// Packaged allocators: name and file.
const PACKAGED: &[(&str, &str)] = &[
    ("mimalloc", "libmimalloc.so.2"),
    ("jemalloc", "libjemalloc.so.2"),
    ("tcmalloc", "libtcmalloc_minimal.so.4"),
];

/// Those that are installed, by name.
#[must_use]
pub fn libraries() -> Vec<(&'static str, PathBuf)> {
    let find = |(name, file): &(&'static str, &str)| {
        let mut paths = DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(file));
        Some((*name, paths.find(|path| path.is_file())?))
    };
    PACKAGED.iter().filter_map(find).collect()
}
