//! Building what is to be measured.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs `cargo build` with these arguments, its messages shown; the files that it made or found up to date.
///
/// # Errors
/// When cargo cannot be started, or fails.
pub fn build(arguments: &[&str]) -> Result<Vec<PathBuf>, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--message-format=json-render-diagnostics"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo build {} failed", arguments.join(" ")));
    }
    Ok(artifacts(&String::from_utf8_lossy(&output.stdout)))
}

/// The files that cargo's messages name.
fn artifacts(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| match &message["filenames"] {
            Value::Array(names) => names.clone(),
            _ => Vec::new(),
        })
        .filter_map(|name| Some(PathBuf::from(name.as_str()?)))
        .collect()
}

/// The file of that name among those that were built.
///
/// # Errors
/// When it is not among them.
pub fn named(files: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    let found = files
        .iter()
        .find(|file| file.file_name() == Some(OsStr::new(name)));
    found
        .cloned()
        .ok_or_else(|| format!("cargo built no {name}"))
}

/// Where this program was built, or else the current directory.
#[must_use]
pub fn target_directory() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let target = program
        .ancestors()
        .find(|path| path.join(".rustc_info.json").exists());
    target.map(PathBuf::from).unwrap_or_default()
}

/// The version of a crate that the lock file names; empty when it names none.
#[must_use]
pub fn locked_version(name: &str) -> String {
    version_in(include_str!("../../Cargo.lock"), name).to_owned()
}

fn version_in<'a>(lock: &'a str, name: &str) -> &'a str {
    let line = format!("\nname = \"{name}\"\n");
    let entry = lock
        .split("\n[[package]]")
        .find(|entry| entry.contains(&line));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail when any entry with the name in it was taken.
    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a-sys\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"2.0.0\"\ndependencies = [\n \"a-sys\",\n]\n";
        assert_eq!(version_in(lock, "a"), "2.0.0");
        assert_eq!(version_in(lock, "b"), "");
        assert_eq!(locked_version("ebb-benches"), env!("CARGO_PKG_VERSION"));
    }
}
