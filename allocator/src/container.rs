//! How much memory this process may use: what the machine has, or less where a container says so.
//!
//! The kernel kills a process in a control group that exceeds the group's limit, so a part of "the memory" has to be a
//! part of that. The limit may be the group's own or that of any group above it; of those above a container its
//! processes see nothing.

use core::fmt::Arguments;
use core::iter;

use crate::os;

/// Where the kernel says which groups a process is in, and where it shows them.
const KERNEL_S: Groups = Groups {
    own: "/proc/self/cgroup",
    root: "/sys/fs/cgroup",
};

/// How much memory this process may use, in bytes: what the machine has, or the lowest limit of the control groups that it
/// is in (`memory.max` and `memory.high`, or `memory.limit_in_bytes` of version 1), as far as it can see them.
///
/// Read anew each time: a budget that is made of it does not follow when the limit is changed.
///
/// ```
/// ebbmalloc::set_budget(Some(ebbmalloc::memory_limit() / 5 * 4));
/// ```
#[must_use]
pub fn memory_limit() -> usize {
    let machine = os::physical_memory();
    KERNEL_S.limit().map_or(machine, |limit| limit.min(machine))
}

/// The control groups of a process.
struct Groups<'a> {
    /// The file that names them.
    own: &'a str,
    /// The directory in which they are directories.
    root: &'a str,
}

impl Groups<'_> {
    /// The lowest limit; none where nobody set one, or nothing can be read.
    fn limit(&self) -> Option<usize> {
        let mut buffer = [0; 4096];
        let lines = os::read_text(format_args!("{}", self.own), &mut buffer)?.lines();
        lines.filter_map(|line| self.limit_of(line)).min()
    }

    /// The lowest limit of the group that a line names, and of those above it: `0::/group` in version 2, which has all
    /// controllers in one tree, `4:memory:/group` in version 1, where each may have its own.
    fn limit_of(&self, line: &str) -> Option<usize> {
        let (_, named) = line.split_once(':')?;
        let (controllers, group) = named.split_once(':')?;
        let (tree, files): (_, &[_]) = match controllers {
            "" => ("", &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/memory", &["memory.limit_in_bytes"])
            }
            _ => return None,
        };
        let root = self.root;
        let above = group.rmatch_indices('/').map(|(end, _)| &group[..end]);
        let limits = iter::once(group).chain(above).flat_map(|group| {
            let limit = move |file| number(format_args!("{root}{tree}{group}/{file}"));
            files.iter().filter_map(limit)
        });
        limits.min()
    }
}

/// The number in a file; none where it says `max`, or there is no such file.
fn number(file: Arguments<'_>) -> Option<usize> {
    os::read_text(file, &mut [0; 32])?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::{env, fs, process};

    /// The limit that a process of these groups has, with these files.
    fn limit(groups: &str, files: &[(&str, &str)]) -> Option<usize> {
        let root = env::temp_dir().join(format!("ebbmalloc-groups-{}", process::id()));
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(&root.join("own"), groups);
        for (file, text) in files {
            write(&root.join("groups").join(file), text);
        }
        let (own, tree) = (root.join("own"), root.join("groups"));
        let (own, tree) = (own.to_str().unwrap(), tree.to_str().unwrap());
        let limit = Groups { own, root: tree }.limit();
        fs::remove_dir_all(root).unwrap();
        limit
    }

    /// Seen to fail without the groups above, without `memory.high`, and with the other controllers of version 1.
    #[test]
    fn the_lowest_limit_counts() {
        let none: &[(&str, &str)] = &[("a/memory.max", "max\n")];
        assert_eq!(limit("0::/a\n", none), None);
        let own = &[("a/b/memory.max", "3000\n"), ("a/memory.max", "max\n")];
        assert_eq!(limit("0::/a/b\n", own), Some(3000));
        let above = &[("a/b/memory.max", "3000\n"), ("a/memory.max", "2000\n")];
        assert_eq!(limit("0::/a/b\n", above), Some(2000));
        let high = &[("a/memory.max", "3000\n"), ("a/memory.high", "1000\n")];
        assert_eq!(limit("0::/a\n", high), Some(1000));
        // As in a container that has a namespace of its own, and in one that has none.
        let inside = &[("memory.max", "500\n")];
        assert_eq!(limit("0::/\n", inside), Some(500));
        assert_eq!(limit("0::/system/container\n", inside), Some(500));
        let first = &[
            ("memory/a/memory.limit_in_bytes", "700\n"),
            ("memory/b/memory.limit_in_bytes", "600\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let groups = "9:name=x:/b\n4:memory:/a\n2:cpu:/b\n0::/\n";
        assert_eq!(limit(groups, first), Some(700));
        assert_eq!(limit("", first), None);
        assert_eq!(limit("no groups", first), None);
    }

    #[test]
    fn there_is_some_memory() {
        let limit = memory_limit();
        assert!(limit > 1 << 20 && limit <= os::physical_memory(), "{limit}");
    }
}
