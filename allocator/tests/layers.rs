//! The layers of `src/lib.rs`: a file imports only from files above it in the table there.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Each file's place in the table, counted from the top.
fn layers(head: &str) -> HashMap<String, usize> {
    let rows = head
        .lines()
        .filter(|line| line.starts_with("//! |") && line.contains('`'));
    let mut layers = HashMap::new();
    for (depth, row) in rows.enumerate() {
        for name in row.split('`').skip(1).step_by(2) {
            layers.insert(name.to_owned(), depth);
        }
    }
    layers
}

/// The modules of this crate that a source names as `crate::...`, tests apart.
fn imports(source: &str) -> Vec<String> {
    let product = source.split("#[cfg(test)]").next().unwrap_or("");
    let code: String = product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        let list = match after.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(""),
            None => after,
        };
        let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        names.extend(list.trim().split(end).next().map(str::to_owned));
    }
    names
}

#[test]
fn files_import_only_from_above() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(layers.len() > 20, "the table was found");
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() || name == "lib" || name.ends_with("_tests") {
            continue;
        }
        let here = layers
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is not in the table of lib.rs"));
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            let Some(there) = layers.get(&import) else {
                continue;
            };
            assert!(
                there < here || import == name,
                "{name} imports from {import}, which is not above it"
            );
        }
    }
}
