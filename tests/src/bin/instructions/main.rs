//! `instructions`: what single operations take, in instructions, against what is stored.
//!
//! Seconds are noise on a shared machine; instructions are not. The programs run in a guest under QEMU whose clock
//! advances by a nanosecond with each instruction (`ebb_tests::vm`). Unlike a tracer or valgrind it is a whole machine,
//! where restartable sequences work and the fast path is the one that is used everywhere.

mod baselines;
mod subjects;

use std::error::Error;
use std::process::ExitCode;

use baselines::Baselines;
use ebb_tests::vm;
use lexopt::prelude::*;
use subjects::{Figures, Subject};

const HELP: &str = "\
Counts the instructions of single operations, as Rust programs and as C programs call them, and compares with
benches/instructions.txt: a difference of more than 2 percent is a failure.

  --accept     writes the file anew; the reason belongs into the commit
  --others     shows what mimalloc takes beside (the crate; libmimalloc where it is installed); compares nothing
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures, and does what is asked; whether all is as it was.
fn run() -> Result<bool, Box<dyn Error>> {
    let (mut accept, mut others) = (false, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("accept") => accept = true,
            Long("others") => others = true,
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(true);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if !vm::available() {
        return Ok(true);
    }
    let subjects = if others {
        subjects::with_others()?
    } else {
        subjects::ours()?
    };
    let figures: Vec<Figures> = subjects
        .iter()
        .map(Subject::measure)
        .collect::<Result<_, _>>()?;
    if others {
        print!("{}", beside(&subjects, &figures));
        return Ok(true);
    }
    let now = Baselines::measured(&figures);
    if accept {
        now.write()?;
        return Ok(true);
    }
    let before = Baselines::stored()?;
    let changes = before.changes(&now);
    print!("{now}");
    for change in &changes {
        eprintln!("{change}");
    }
    if !changes.is_empty() {
        eprintln!("{}", baselines::ADVICE);
        if before.made_with != now.made_with {
            eprintln!(
                "They were counted with {}; this is {}.",
                before.made_with, now.made_with
            );
        }
    }
    Ok(changes.is_empty())
}

/// A column for each subject.
fn beside(subjects: &[Subject], figures: &[Figures]) -> String {
    let mut text = format!("{:<40}", "instructions for one operation");
    for subject in subjects {
        text += &format!("{:>18}", subject.name);
    }
    for (row, (path, _)) in figures[0].iter().enumerate() {
        text += &format!("\n{path:<40}");
        for column in figures {
            text += &format!("{:>18.2}", column[row].1);
        }
    }
    text + "\n"
}
