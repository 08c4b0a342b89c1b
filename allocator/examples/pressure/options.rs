//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

const HELP: &str = "\
A service in miniature that answers queries over text files through three caches, under a memory budget.
The caches want several times the budget. They are registered as shrinkers: no allocation fails.

cargo run --release --example pressure -- [OPTIONS] [PATH]

  PATH              a directory of text files (default: the sources of the crates that cargo has downloaded)
  --budget SIZE     what the allocator may take from the system, as 64M or 1G, at least 8M (default 64M)
  --seconds N       how long to run, as 20 or 0.5 (default 20)
  --queries N       stop after so many queries, if they are answered before the time is over
  --threads N       worker threads, 1 to 256 (default 4)
  --seed N          another sequence of queries (default 1)
  --plot FILE       where to draw memory over time (default pressure.svg in the target directory)
  --no-shrinkers    do not register the caches: the run ends out of memory
  --help            this text

Exit status: 0 when all went well; 1 when an answer was wrong or the resident memory rose too high; 2 when the
command line or a file is no good; 3 when an allocation failed.
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
                Long("seconds") => options.time = seconds(&parser.value()?.string()?)?,
                Long("queries") => options.queries = number("--queries", &mut parser)?,
                Long("threads") => options.threads = threads(&mut parser)?,
                Long("seed") => options.seed = number("--seed", &mut parser)?,
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

fn number<T: FromStr>(option: &str, parser: &mut lexopt::Parser) -> Result<T, lexopt::Error> {
    let text = parser.value()?.string()?;
    let number = text.parse();
    number.map_err(|_| format!("{option} {text}: a whole number was expected").into())
}

fn threads(parser: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    match number("--threads", parser)? {
        threads @ 1..=256 => Ok(threads),
        threads => Err(format!("--threads {threads}: 1 to 256 are possible").into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok();
    time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("--seconds {text}: a number, as 20 or 0.5, was expected"))
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
        .find(|path| path.join(".rustc_info.json").exists());
    target.map(PathBuf::from).unwrap_or_default()
}
