//! The libraries that can be preloaded: ours, Debian's, and those that the command line names.

use std::path::{Path, PathBuf};

use crate::cargo;
use crate::contest::Contestant;
use crate::machine;
use crate::options::Preload;

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

/// The name under which nothing is preloaded.
const SYSTEM: &str = "system";

/// Builds our library, and finds the others.
pub(crate) fn find(preload: &Preload, only: &[String]) -> Result<Vec<Contestant>, String> {
    let mut known = known();
    for (name, path) in &preload.libraries {
        if !path.is_file() {
            return Err(format!(
                "--lib {name}={}: there is no such file",
                path.display()
            ));
        }
        known.retain(|(other, _)| other != name);
        known.push((name.clone(), Some(path.clone())));
    }
    let names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
    let named = preload
        .environment
        .iter()
        .map(|(name, _, _)| name)
        .chain(only);
    if let Some(name) = named.into_iter().find(|name| !names.contains(name)) {
        return Err(format!(
            "there is no allocator {name:?}; there are {}",
            names.join(", ")
        ));
    }
    let chosen: Vec<_> = match only {
        [] => known.iter().collect(),
        _ => only
            .iter()
            .flat_map(|name| known.iter().filter(move |(other, _)| other == name))
            .collect(),
    };
    chosen
        .into_iter()
        .map(|(name, path)| contestant(name, path.as_deref(), preload))
        .collect()
}

/// Ours without a path yet, what is installed, and the system's own.
fn known() -> Vec<(String, Option<PathBuf>)> {
    let packaged = PACKAGED.iter().filter_map(|(name, file)| {
        let found = DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(file))
            .find(|path| path.is_file());
        Some(((*name).to_owned(), Some(found?)))
    });
    std::iter::once(("ebbmalloc".to_owned(), None))
        .chain(packaged)
        .chain([(SYSTEM.to_owned(), None)])
        .collect()
}

/// The names of what is there.
pub(crate) fn names() -> Vec<String> {
    known().into_iter().map(|(name, _)| name).collect()
}

fn contestant(name: &str, path: Option<&Path>, preload: &Preload) -> Result<Contestant, String> {
    let path = match (name, path) {
        (_, Some(path)) => Some(path.canonicalize().map_err(|error| error.to_string())?),
        (SYSTEM, None) => None,
        (_, None) => {
            let files = cargo::build(&["--release", "--package=ebbmalloc-ffi"])?;
            Some(cargo::named(&files, "libebbmalloc.so")?)
        }
    };
    let version = match &path {
        Some(path) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        None => machine::libc_version(),
    };
    let preloaded = path.iter().map(|path| ("LD_PRELOAD".into(), path.into()));
    let set = preload
        .environment
        .iter()
        .filter(|(other, _, _)| other == name);
    let set = set.map(|(_, variable, value)| (variable.into(), value.into()));
    Ok(Contestant {
        name: name.into(),
        version,
        program: None,
        environment: preloaded.chain(set).collect(),
    })
}
