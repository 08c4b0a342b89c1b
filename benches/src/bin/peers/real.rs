//! Real programs, for the preloaded comparison when no command is given: those of them that are installed, on inputs of
//! our own (`benches/programs`).

use std::env;
use std::path::{Path, PathBuf};

use crate::contest::Case;
use crate::options::shell;

/// The group of these cases.
pub(crate) const GROUP: &str = "real programs";

/// Where the inputs are.
const INPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// A name, the programs of which one must be there, and a command for the shell; `$0` is the program, `$1` where the
/// inputs are.
#[rustfmt::skip]
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("python", &["python3"], "PYTHONMALLOC=malloc $0 $1/objects.py"),
    ("perl", &["perl"], "$0 $1/words.pl"),
    ("ruby", &["ruby"], "$0 $1/words.rb"),
    ("lua", &["lua5.4", "lua"], "$0 $1/tables.lua"),
    ("jq", &["jq"], "$0 -n -f $1/orders.jq"),
    ("sqlite", &["sqlite3"], "$0 -init $1/rows.sql :memory: .quit"),
    ("gs", &["gs"], "$0 -q -dNOPAUSE -dBATCH -sDEVICE=pdfwrite -sOutputFile=/dev/null $1/pages.ps"),
    ("z3", &["z3"], "$0 $1/jobs.smt2"),
    ("g++", &["g++"], "$0 -std=c++17 -O1 -S -o /dev/null $1/templates.cpp"),
    ("clang++", &["clang++"], "$0 -std=c++17 -O1 -S -o /dev/null $1/templates.cpp"),
    ("rocksdb", &["db_bench"], "$1/rocksdb $0"),
    ("redis", &["redis-server"], "$1/redis $0"),
];

/// The cases of what is installed; says what is not.
pub(crate) fn cases() -> Vec<Case> {
    let case = |&(name, programs, command): &(&str, &[&str], &str)| {
        let found = programs.iter().find_map(|program| installed(program));
        let Some(program) = found else {
            eprintln!("skipped: {name}: {} is not installed", programs[0]);
            return None;
        };
        let mut case = shell(GROUP, name, command);
        case.command.extend([program.into(), INPUTS.into()]);
        Some(case)
    };
    PROGRAMS.iter().filter_map(case).collect()
}

/// The program's file, if it can be found.
fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| Path::is_file(file))
}
