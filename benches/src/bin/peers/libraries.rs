//! The libraries that can be preloaded: ours, Debian's, and those that the command line names.

use std::path::{Path, PathBuf};

use crate::contest::Contestant;
use crate::options::Preload;
use ebb_benches::{cargo, machine, packaged};

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
    let packaged = packaged::libraries().into_iter();
    let packaged = packaged.map(|(name, path)| (name.to_owned(), Some(path)));
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
