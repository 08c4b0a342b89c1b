//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

const HELP: &str = "\
A service in miniature that answers queries over text files through three caches, under a memory budget.

cargo run --release --example pressure -- [OPTIONS] [PATH]

  PATH              a directory of text files (default: the crates that cargo has downloaded)
  --budget SIZE     what the allocator may take from the system, as 64M or 1G (default 64M)
  --seconds N       how long to run (default 20)
  --queries N       stop after so many queries, even earlier
  --threads N       worker threads (default 4)
  --seed N          another sequence of queries (default 1)
  --plot FILE       where to draw memory over time (default pressure.svg in the target directory)
  --no-shrinkers    do not register the caches: the run ends out of memory
";

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) path: Option<PathBuf>,
    pub(crate) budget: usize,
    pub(crate) time: Duration,
    pub(crate) queries: u64,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) plot: PathBuf,
    pub(crate) shrinkers: bool,
}

impl Options {
    /// The options; `None` when help was asked for, and shown.
    pub(crate) fn from_command_line() -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            path: None,
            budget: 64 << 20,
            time: Duration::from_secs(20),
            queries: u64::MAX,
            threads: 4,
            seed: 1,
            plot: target_directory().join("pressure.svg"),
            shrinkers: true,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("budget") => options.budget = size(&parser.value()?.string()?)?,
                Long("seconds") => options.time = Duration::from_secs(parser.value()?.parse()?),
                Long("queries") => options.queries = parser.value()?.parse()?,
                Long("threads") => {
                    options.threads = parser.value()?.parse::<usize>()?.clamp(1, 256)
                }
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("plot") => options.plot = parser.value()?.into(),
                Long("no-shrinkers") => options.shrinkers = false,
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                Value(path) if options.path.is_none() => options.path = Some(path.into()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// A size as `64M`; at least 8 MiB, below which the program itself has no room.
fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes >= 8 << 20 => Ok(bytes),
        Some(_) => Err(format!("--budget {text}: at least 8M is needed")),
        None => Err(format!(
            "--budget {text}: a number, with K, M or G after it if you like, was expected"
        )),
    }
}

/// Where this program was built, or else the current directory.
fn target_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists());
    target.map(PathBuf::from).unwrap_or_default()
}
