//! The files of one run of a guest: its root file system, and what comes out of it.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::needs::own_program;
use crate::header::workspace;
use crate::initramfs::Initramfs;

/// The list of strings, each ended by a NUL, that tells `guest-init` what to run: the working directory, `NAME=value`
/// as often as wanted, an empty string, the program, its arguments.
pub const JOB: &str = "/job";

/// The files of one run, removed with it.
pub(super) struct Workplace(PathBuf);

impl Workplace {
    pub(super) fn new() -> io::Result<Self> {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: any number that is used once.
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let runs = workspace().join("target/vm/runs");
        let path = runs.join(format!("{}-{run}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The guest's root file system.
    pub(super) fn root(
        &self,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        files: &[PathBuf],
    ) -> io::Result<Vec<u8>> {
        let directory = env::current_dir()?;
        let program = program.canonicalize()?;
        let mut job = vec![directory.to_string_lossy().into_owned()];
        job.extend(
            environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        job.push(String::new());
        job.push(program.to_string_lossy().into_owned());
        job.extend(arguments.iter().map(ToString::to_string));
        let mut root = Initramfs::new();
        root.directory(&directory);
        root.program(
            Path::new("/init"),
            &self.stripped(&own_program("guest-init")),
        );
        root.program(&program, &self.stripped(&program));
        for file in files {
            root.program(&std::path::absolute(file)?, &self.stripped(file));
        }
        root.file(Path::new(JOB), (job.join("\0") + "\0").as_bytes());
        Ok(root.finish())
    }

    /// A copy of a program without what is for debuggers, which is most of it; itself where there is no `strip`.
    fn stripped(&self, program: &Path) -> PathBuf {
        let copy = self.file("program");
        let strip = Command::new("strip")
            .arg("-o")
            .arg(&copy)
            .arg(program)
            .stderr(Stdio::null())
            .status();
        match strip {
            Ok(status) if status.success() => copy,
            _ => program.to_path_buf(),
        }
    }

    /// An error with the end of what the guest's kernel said.
    pub(super) fn error(&self, what: &str) -> io::Error {
        let console = fs::read(self.file("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().rev().take(20).collect();
        let last: Vec<_> = lines.into_iter().rev().collect();
        io::Error::other(format!(
            "{what} a guest, whose kernel says:\n{}",
            last.join("\n")
        ))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Left over files would only take room.
        let _ = fs::remove_dir_all(&self.0);
    }
}
