//! The C header: current, documented, and clean C11 and C++17.

use std::fs;
use std::process::Command;

use ebb_tests::c::scratch;
use ebb_tests::header;

#[test]
fn is_current() {
    let wanted = header::generate();
    if std::env::var_os("EBB_BLESS").is_some() {
        fs::write(header::path(), &wanted).unwrap();
    }
    let found = fs::read_to_string(header::path()).unwrap_or_default();
    assert!(
        found == wanted,
        "include/ebbmalloc.h is not what the sources say; run: EBB_BLESS=1 cargo test -p ebb-tests --test header"
    );
}

/// Every declaration of a function, and every type, follows a comment.
#[test]
fn documents_everything() {
    let header = header::generate();
    let (_, functions) = header.split_once("extern \"C\" {").unwrap();
    let mut count = 0;
    for item in functions.split("\n\n").filter(|item| item.contains("ebb_")) {
        assert!(item.trim_start().starts_with("/**"), "no comment:\n{item}");
        count += 1;
    }
    assert!(count >= 25, "only {count} functions were found");
}

#[test]
fn compiles_by_itself() {
    for (compiler, name, standard) in [
        ("gcc", "header.c", "-std=c11"),
        ("g++", "header.cpp", "-std=c++17"),
    ] {
        let source = scratch().join(name);
        fs::write(&source, "#include <ebbmalloc.h>\nint nothing;\n").unwrap();
        let output = Command::new(compiler)
            .args([
                standard,
                "-Wall",
                "-Wextra",
                "-Werror",
                "-pedantic",
                "-fsyntax-only",
                "-I",
            ])
            .arg(header::workspace().join("include"))
            .arg(source)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
