//! Who is measured: a program, and what is preloaded into it.

use std::env;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use ebb_benches::cargo;
use ebb_benches::packaged;
use ebb_tests::vm::Machine;

/// The columns of the stored file: calls from Rust, sizes known on free; and from C.
pub(crate) const OURS: [&str; 2] = ["Rust", "C"];

/// Instructions for each path, by its name.
pub(crate) type Figures = Vec<(String, f64)>;

/// One to be measured.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    program: PathBuf,
    library: Option<PathBuf>,
}

/// Ours, as programs in Rust and in C have it. Builds what is needed.
pub(crate) fn ours() -> Result<Vec<Subject>, Box<dyn Error>> {
    build_guest()?;
    let files = cargo::build(&[
        "--release",
        "--bin=peer-ebbmalloc",
        "--bin=peer-system",
        "--package=ebb-benches",
        "--package=ebbmalloc-ffi",
        "--lib",
    ])?;
    let program = |name| cargo::named(&files, name);
    Ok(vec![
        Subject {
            name: OURS[0].into(),
            program: program("peer-ebbmalloc")?,
            library: None,
        },
        Subject {
            name: OURS[1].into(),
            program: program("peer-system")?,
            library: Some(program("libebbmalloc.so")?),
        },
    ])
}

/// Ours, and beside it mimalloc and whatever else is packaged.
pub(crate) fn with_others() -> Result<Vec<Subject>, Box<dyn Error>> {
    let mut subjects = ours()?;
    let files = cargo::build(&["--release", "--features=mimalloc", "--bin=peer-mimalloc3"])?;
    let program = subjects[1].program.clone();
    subjects.push(Subject {
        name: "mimalloc crate".into(),
        program: cargo::named(&files, "peer-mimalloc3")?,
        library: None,
    });
    subjects.extend(
        packaged::libraries()
            .into_iter()
            .map(|(name, path)| Subject {
                name: format!("C: {name}"),
                program: program.clone(),
                library: Some(path),
            }),
    );
    Ok(subjects)
}

/// Builds the guest's first process to where it is looked for: beside this program.
fn build_guest() -> Result<(), Box<dyn Error>> {
    let here = env::current_exe()?;
    let directory = here.parent().and_then(Path::file_name).unwrap_or_default();
    let profile = match directory.to_str() {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    cargo::build(&[
        "--package=ebb-tests",
        "--bin=guest-init",
        "--profile",
        profile,
    ])?;
    Ok(())
}

impl Subject {
    /// Boots a guest and measures in it.
    pub(crate) fn measure(&self) -> io::Result<Figures> {
        let mut machine = Machine::new(&[(1, 512)]).counting();
        let mut environment = Vec::new();
        if let Some(library) = &self.library {
            let library = library.canonicalize()?;
            machine = machine.file(&library);
            environment.push(("LD_PRELOAD", library.to_string_lossy().into_owned()));
        }
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let outcome = machine.run(&self.program, &["--paths"], &environment)?;
        let figures: Option<Figures> = outcome.output.trim().lines().map(figure).collect();
        match figures {
            Some(figures) if outcome.status == 0 && !figures.is_empty() => Ok(figures),
            _ => Err(io::Error::other(format!(
                "{}: {}",
                self.name, outcome.output
            ))),
        }
    }
}

/// A path and its figure: the last word of the line.
fn figure(line: &str) -> Option<(String, f64)> {
    let (path, figure) = line.trim().rsplit_once(' ')?;
    Some((path.trim().into(), figure.parse().ok()?))
}
