//! The README says what is: each of its blocks compiles or runs, and what it names exists.
//!
//! Rust blocks are documentation tests of this crate (`ebb_tests::readme`). Seen to fail: with a changed line in
//! the C block, a misspelt example, a package that does not exist, a link to a file that is not there, a library name that is
//! not linked, and with a variable left out of the table.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ebb_tests::c::{assert_ok, libraries, scratch};
use ebb_tests::header::workspace;

fn document(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
}

fn readme() -> String {
    document("README.md")
}

/// The fenced blocks: language and text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for part in text.split("\n```").skip(1).step_by(2) {
        let (language, body) = part.split_once('\n').unwrap();
        blocks.push((language.to_owned(), format!("{body}\n")));
    }
    blocks
}

fn blocks_of(language: &str) -> Vec<String> {
    let blocks = blocks(&readme()).into_iter();
    blocks
        .filter(|(of, _)| of == language)
        .map(|(_, body)| body)
        .collect()
}

/// No block is of a kind that nothing checks; `text` is what programs print.
#[test]
fn every_block_is_checked() {
    let blocks = blocks(&readme());
    assert!(blocks.len() >= 7, "only {} blocks", blocks.len());
    for (language, body) in blocks {
        let known = ["rust", "c", "sh", "python", "text"].contains(&language.as_str());
        assert!(known, "nothing checks {language:?} blocks:\n{body}");
    }
}

/// `c_programs` compiles that file and runs it.
#[test]
fn the_c_block_is_the_tested_program() {
    let program = fs::read_to_string(workspace().join("tests/c/quickstart.c")).unwrap();
    assert_eq!(blocks_of("c"), [program]);
}

/// Shell blocks run in a directory that looks like the workspace after they built it, and show the statistics where they ask
/// for them. Cargo itself is left out. Seen to fail with `ls`, which closes standard error before it exits.
#[test]
fn shell_blocks_run() {
    let place = scratch().join("readme");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(place.join("target")).unwrap();
    symlink(libraries(), place.join("target/release")).unwrap();
    for name in ["include", "tests"] {
        symlink(workspace().join(name), place.join(name)).unwrap();
    }
    for block in blocks_of("sh") {
        let script = format!("set -eu\ncargo() {{ :; }}\n{block}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&place)
            .output()
            .unwrap();
        assert_ok(&block, &output);
        let err = String::from_utf8_lossy(&output.stderr);
        // What the loader says of a library that it does not find, and goes on.
        assert!(!err.contains("cannot be preloaded"), "{block}{err}");
        let shown = err.contains("\nreclaim:\n");
        assert_eq!(shown, block.contains("EBB_STATS=1"), "{block}{err}");
    }
}

/// The Python block asks a program that only preloads the library. Seen to fail with a command misspelt.
#[test]
fn the_python_block_asks_a_console() {
    let path = std::env::temp_dir().join(format!("ebb-readme-{}", std::process::id()));
    let mut asked = Command::new("sleep")
        .arg("100")
        .env("LD_PRELOAD", libraries().join("libebbmalloc.so"))
        .env("EBB_CONTROL", &path)
        .spawn()
        .unwrap();
    while !path.exists() && asked.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let blocks = blocks_of("python");
    let script = blocks[0].replace("/tmp/ebb-1234", path.to_str().unwrap());
    let output = Command::new("python3").args(["-c", &script]).output();
    asked.kill().unwrap();
    asked.wait().unwrap();
    // Who was killed did not take it away.
    let _ = fs::remove_file(&path);
    let output = output.unwrap();
    assert_ok(&script, &output);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.starts_with("reclaimed: ") && said.contains("backed") && !said.contains("error"),
        "{said}"
    );
    assert_eq!(blocks.len(), 1);
}

/// `.ci/run` does what the README has people do, and what CONTRIBUTING says are its parts, in the same words. Seen to
/// fail with an argument changed in each of the three.
#[test]
fn ci_runs_these_commands() {
    let script = document(".ci/run");
    let run = |line: &str| {
        let commands = script.lines().map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let limited = words.first() == Some(&"timeout");
            words[if limited { 2 } else { 0 }..].join(" ")
        });
        let wanted = line.split('#').next().unwrap_or("").trim();
        commands.into_iter().any(|command| command == wanted)
    };
    let readme = blocks_of("sh");
    let parts = blocks(&document("CONTRIBUTING.md"));
    let (_, parts) = parts.last().expect("the parts of .ci/run");
    let lines = readme.iter().flat_map(|block| block.lines());
    let lines = lines.filter(|line| line.starts_with("cargo "));
    let lines: Vec<_> = lines.chain(parts.lines()).collect();
    assert!(lines.len() >= 7, "only {lines:?}");
    for line in lines {
        assert!(run(line), ".ci/run does not have: {line}");
    }
}

#[test]
fn cargo_commands_name_what_is_there() {
    let mut count = 0;
    for name in ["README.md", "CONTRIBUTING.md"] {
        let blocks = blocks(&document(name)).into_iter();
        for (_, block) in blocks.filter(|(language, _)| language == "sh") {
            for line in block.lines().filter(|line| line.contains("cargo ")) {
                check_cargo(line);
                count += 1;
            }
        }
    }
    assert!(count >= 8, "only {count} commands were found");
}

fn check_cargo(line: &str) {
    let command = line.split('#').next().unwrap_or("");
    let (_, command) = command.split_once("cargo ").unwrap();
    let words: Vec<_> = command.split_whitespace().collect();
    assert!(
        ["build", "run", "test", "bench", "doc", "fmt", "clippy"].contains(&words[0]),
        "{line}"
    );
    for pair in words.windows(2) {
        match *pair {
            ["--example", name] => assert!(
                workspace()
                    .join(format!("allocator/examples/{name}"))
                    .is_dir(),
                "{line}: there is no such example"
            ),
            ["--test", name] => assert!(
                ["allocator", "shrinker", "tests"].iter().any(|directory| {
                    let tests = workspace().join(directory).join("tests");
                    tests.join(format!("{name}.rs")).exists() || tests.join(name).is_dir()
                }),
                "{line}: there is no such test"
            ),
            ["-p", name] => assert!(packages().contains(&name.to_owned()), "{line}: {name}"),
            _ => {}
        }
    }
}

fn packages() -> Vec<String> {
    let manifests = ["allocator", "shrinker", "ffi", "benches", "tests"]
        .map(|directory| workspace().join(directory).join("Cargo.toml"));
    let names = manifests.iter().map(|manifest| {
        let text = fs::read_to_string(manifest).unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("name = "));
        name.unwrap().trim_matches('"').to_owned()
    });
    names.collect()
}

#[test]
fn links_lead_somewhere() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = document(name);
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or("");
            let here = !target.is_empty() && !target.contains("://");
            assert!(
                !here || workspace().join(target).exists(),
                "{name}: no {target}"
            );
        }
    }
}

/// The table of environment variables has those that the sources read, and no others.
#[test]
fn knows_the_environment() {
    let mut read = Vec::new();
    for directory in ["allocator/src", "shrinker/src", "ffi/src"] {
        collect_variables(&workspace().join(directory), &mut read);
    }
    let text = readme();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `EBB_"));
    let mut told: Vec<_> = rows
        .map(|row| format!("EBB_{}", row.split(['=', '`']).next().unwrap_or("")))
        .collect();
    read.sort();
    read.dedup();
    told.sort();
    assert!(read.contains(&"EBB_BUDGET".to_owned()));
    assert_eq!(told, read);
}

/// Adds the variables that the sources under a directory name as C strings.
fn collect_variables(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_variables(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let names = source.split("c\"EBB_").skip(1);
        found.extend(names.map(|rest| format!("EBB_{}", rest.split('"').next().unwrap_or(""))));
    }
}
