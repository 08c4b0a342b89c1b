//! Building the C libraries and C programs, and running programs.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::header::workspace;

/// Where the two libraries are, built in release mode when first asked for.
///
/// They have a target directory of their own, since cargo holds the usual one while it runs this test.
///
/// # Panics
/// When they cannot be built.
pub fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let target = scratch().join("libraries");
        if are_compiled() {
            return target.join("release");
        }
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "-p", "ebbmalloc-ffi", "--target-dir"])
            .arg(&target)
            .current_dir(workspace())
            .output()
            .expect("cargo can be started");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.join("release")
    })
}

/// Whether all is compiled already, by an earlier run of the same tests (`EBB_TEST_COMPILED`): in a guest there is no compiler.
fn are_compiled() -> bool {
    env::var_os("EBB_TEST_COMPILED").is_some()
}

/// The shared library.
#[must_use]
pub fn shared_library() -> PathBuf {
    libraries().join("libebbmalloc.so")
}

/// A directory that tests may write to.
#[must_use]
pub fn scratch() -> PathBuf {
    let target = env::current_exe().expect("this test's own path");
    // target/debug/deps/test
    let target = target
        .ancestors()
        .nth(3)
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let scratch = target.join("ebb-tests");
    std::fs::create_dir_all(&scratch).expect("the target directory can be written to");
    scratch
}

/// How a program gets the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not at all: for `LD_PRELOAD`.
    None,
    /// The shared library.
    Shared,
    /// The archive.
    Static,
}

/// The program of `tests/c/<source>`, compiled as C11 or C++17 by its ending, when first asked for: whoever asks again
/// may be running it.
///
/// # Panics
/// When it does not compile without warnings.
#[must_use]
pub fn compile(source: &str, link: Link, more: &[&str]) -> PathBuf {
    static COMPILED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let program = scratch().join(format!("{source}-{link:?}"));
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !are_compiled() && !compiled.contains(&program) {
        compile_to(&program, source, link, more);
        compiled.push(program.clone());
    }
    program
}

fn compile_to(program: &Path, source: &str, link: Link, more: &[&str]) {
    let (compiler, standard) = if source.ends_with(".cpp") {
        ("g++", "-std=c++17")
    } else {
        ("gcc", "-std=c11")
    };
    let mut command = Command::new(compiler);
    command
        .args([
            standard,
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-pthread",
        ])
        .arg("-I")
        .arg(workspace().join("include"))
        .arg(workspace().join("tests/c").join(source))
        .arg("-o")
        .arg(program);
    let libraries = libraries();
    match link {
        Link::None => {}
        Link::Shared => {
            command.arg("-L").arg(libraries).arg("-lebbmalloc");
            command.arg(format!("-Wl,-rpath,{}", libraries.display()));
        }
        Link::Static => {
            command
                .arg(libraries.join("libebbmalloc.a"))
                .args(["-ldl", "-lm"]);
        }
    }
    let output = command
        .args(more)
        .output()
        .expect("gcc and g++ are installed");
    assert!(
        output.status.success(),
        "{source}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A program that runs so many seconds hangs, and is killed.
const LIMIT_S: u32 = 120;

/// Runs a program with more environment.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    // Cargo's, whose directories may have a library that was built for something else.
    command.env_remove("LD_LIBRARY_PATH");
    command.args(arguments).envs(environment.iter().copied());
    let limit = || {
        // SAFETY: no pointers; it outlasts the exec.
        unsafe { libc::alarm(LIMIT_S) };
        Ok(())
    };
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(limit) };
    command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Asserts that a run succeeded.
///
/// # Panics
/// When it did not, with all that it wrote.
pub fn assert_ok(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
