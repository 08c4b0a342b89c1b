//! C and C++ programs linked against the header, by the shared library and by the archive, in all modes.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use ebb_tests::c::{Link, assert_ok, compile, run, shared_library};

/// By restartable sequences; by the fallback, asked for; and by the fallback, because the C library registers nothing.
const MODES: [(&str, &str); 3] = [
    ("EBB_NO_RSEQ", "0"),
    ("EBB_NO_RSEQ", "1"),
    ("GLIBC_TUNABLES", "glibc.pthread.rseq=0"),
];

/// A program, linked both ways, and run in all modes.
fn works(source: &str, more: &[&str]) {
    works_with(source, more, "");
}

/// The same under a budget. The archive has the same code, so one mode will do there.
fn works_with(source: &str, more: &[&str], budget: &str) {
    for (link, modes) in [(Link::Shared, &MODES[..]), (Link::Static, &MODES[..1])] {
        let program = compile(source, link, more);
        for mode in modes {
            let output = run(&program, &[], &[*mode, ("EBB_BUDGET", budget)]);
            assert_ok(&format!("{source} {link:?} {mode:?}"), &output);
        }
    }
}

#[test]
fn quick_start() {
    works("quickstart.c", &[]);
}

#[test]
fn every_function_of_the_header() {
    works("ebb_api.c", &[]);
    works("caches.c", &[]);
    works("ebb_api.cpp", &[]);
}

/// A deadlock in waiting is reported once and by name, and not at all where reports are off. Seen to fail without `reported`
/// in the check of locks (one line more), and with `ebb_lock_acquired` doing nothing.
#[test]
fn an_inversion_is_reported_unless_reports_are_off() {
    for link in [Link::Shared, Link::Static] {
        let program = compile("lock_order.c", link, &[]);
        for (reports, lines) in [("1", 1), ("0", 0)] {
            let output = run(&program, &[], &[("EBB_REPORTS", reports)]);
            assert_ok(&format!("lock_order.c {link:?}"), &output);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said.lines().count(), lines, "{said}");
            assert_eq!(
                said.matches("the lock \"bad blocks\"").count(),
                lines,
                "{said}"
            );
        }
    }
}

#[test]
fn standard_names() {
    works("malloc_names.c", &["-rdynamic", "-ldl"]);
}

#[test]
fn operators_new_and_delete() {
    works_with("new_delete.cpp", &[], "96M");
}

#[test]
fn the_system_s_limits() {
    works("limits.c", &[]);
}

/// Seen to fail with the environment not read after the first allocation.
#[test]
fn before_main_and_after_exit() {
    for link in [Link::Shared, Link::Static] {
        let program = compile("life.cpp", link, &[]);
        for mode in MODES {
            let environment = [mode, ("EBB_BUDGET", "64M"), ("EBB_STATS", "1")];
            let output = run(&program, &[], &environment);
            assert_ok(&format!("life.cpp {link:?} {mode:?}"), &output);
            assert_eq!(output.stdout, b"life: ok\n", "{link:?} {mode:?}");
        }
    }
}

#[test]
fn threads_and_forks() {
    works("threads.c", &[]);
}

#[test]
fn every_function_as_a_threads_first_and_last() {
    works("first_last.cpp", &[]);
}

#[test]
fn new_in_a_late_plugin_throws() {
    let plugin = compile("plugin.cpp", Link::None, &["-shared", "-fPIC"]);
    let host = compile(
        "plugin_host.c",
        Link::Shared,
        &["-ldl", "-Wl,--no-as-needed"],
    );
    let output = run(&host, &[plugin.to_str().unwrap()], &[]);
    assert_ok("plugin_host.c", &output);
}

/// Fork handlers of others allocate, also those that were registered before ours, which run while we hold all locks:
/// linked, and preloaded. Seen to fail (it hung) with `held` left out of `lock`.
#[test]
fn fork_handlers_may_allocate() {
    let handlers = compile("atfork.c", Link::None, &["-shared", "-fPIC"]);
    let handlers = handlers.to_str().unwrap();
    for link in [Link::None, Link::Shared, Link::Static] {
        let program = compile("forking.c", link, &[handlers]);
        let preload = match link {
            Link::None => shared_library(),
            _ => PathBuf::new(),
        };
        let preload = ("LD_PRELOAD", preload.to_str().unwrap());
        for mode in MODES {
            let output = run(&program, &[], &[mode, preload]);
            assert_ok(&format!("forking.c {link:?} {mode:?}"), &output);
        }
    }
}

/// Seen to fail (a crash) with `ebb_shrinker_unregister` doing nothing; and, by the threads that walk meanwhile, without its
/// wait for them.
#[test]
fn plugins_come_and_go() {
    let plugin = compile("plugin.c", Link::Shared, &["-shared", "-fPIC"]);
    let host = compile("unload.c", Link::None, &["-ldl"]);
    for mode in MODES {
        let output = run(&host, &[plugin.to_str().unwrap()], &[mode]);
        assert_ok(&format!("unload.c {mode:?}"), &output);
    }
}

/// Seen to fail (an abort) without the guard in `reclaim`; and the report by itself without that and the one in `say`.
#[test]
fn an_allocation_is_not_cancelled() {
    works("cancel.c", &[]);
}

/// Seen to fail ("memory allocation of 64 bytes failed", an abort) with nothing withheld for such threads.
#[test]
fn a_walk_has_what_it_needs() {
    works("addresses.c", &[]);
}

/// Seen to fail ("failed to register TLS destructor: out of memory", an abort) with a node's budget not exceeded for such
/// threads, with what was withheld for one of them then left to all, and with objects of ordinary slabs in place of those apart,
/// whose neighbours others take: in the first wave by all addresses, in the second by the budget, where it is exceeded without
/// end (a failed check). So it is with threads that must not fail until they end.
#[test]
fn a_crowd_gets_null_where_nothing_is_left() {
    let program = compile("crowd.c", Link::Shared, &[]);
    for what in ["budget", "nodes", "addresses"] {
        for (mode, (threads, waves)) in
            MODES
                .into_iter()
                .zip([("100", "5"), ("30", "10"), ("300", "1")])
        {
            let arguments = [what, threads, waves];
            let output = run(&program, &arguments, &[mode]);
            assert_ok(&format!("crowd.c {arguments:?} {mode:?}"), &output);
        }
    }
}

/// Ends by SIGABRT with one line on standard error, in all modes. The line names what the program announced.
fn aborts(program: &Path, arguments: &[&str], says: &str) {
    for mode in MODES {
        let output = run(program, arguments, &[mode]);
        let err = String::from_utf8_lossy(&output.stderr);
        let name = String::from_utf8_lossy(&output.stdout);
        let name = name.trim_end();
        assert_eq!(output.status.signal(), Some(6), "{arguments:?}: {err}");
        let line = format!("ebbmalloc: {says}{name}");
        let rest = err.strip_prefix(&line).unwrap_or_default();
        assert!(
            rest.starts_with([':', ',']) && rest.lines().count() == 1,
            "{arguments:?}: {err:?} and not {line:?}"
        );
    }
}

#[test]
fn new_without_a_cxx_library_says_so() {
    let program = compile("new_without_cxx.c", Link::Shared, &[]);
    aborts(&program, &[], "operator new: out of memory");
}

/// The program that frees what it must not.
fn misuse() -> PathBuf {
    compile(
        "misuse.c",
        Link::Shared,
        &["-Wno-use-after-free", "-fno-builtin"],
    )
}

/// What is freed twice, or was never allocated: each way a block can lie. Seen to fail with the message in two parts, and
/// for each way with its check left out.
#[test]
fn misuse_aborts_with_one_line() {
    let program = misuse();
    let double = [
        ["twice", "1", "0"],
        ["twice", "100", "0"],
        ["twice", "5000", "0"],
        ["twice", "262144", "0"],
        ["twice", "100", "64"],
        ["twice", "100", "4096"],
        ["twice", "200000", "32768"],
        ["later", "64", "0"],
        ["later", "2000", "0"],
        ["threads", "64", "0"],
    ];
    for arguments in double {
        aborts(&program, &arguments, "double free of ");
    }
    let invalid = [
        // The memory of a whole span or mapping is gone, so that is all that can be said.
        ["twice", "1000000", "0"],
        ["twice", "2097152", "0"],
        ["twice", "200000", "65536"],
        ["twice", "3000000", "0"],
        ["twice", "100000000", "0"],
        ["twice", "100", "131072"],
        ["twice", "100", "1073741824"],
        ["realloc-free", "1000000", "0"],
        ["realloc-free", "100000000", "0"],
        ["size-free", "1000000", "0"],
        ["size-free", "100000000", "0"],
        ["inside", "1000000", "0"],
        ["inside", "100000000", "0"],
        ["inside", "100", "1048576"],
        ["inside-page", "1000000", "0"],
        ["inside-page", "100000000", "0"],
        ["inside-slice", "1000000", "0"],
        ["inside-slice", "100000000", "0"],
        ["before", "100000000", "0"],
        ["before", "100", "1048576"],
        ["small", "100", "0"],
        ["small", "3000", "0"],
        ["stack", "1", "0"],
        ["data", "1", "0"],
        ["code", "1", "0"],
        ["wild", "8", "0"],
        ["wild", "0x10000", "0"],
        ["wild", "0x7ffffffffff0", "0"],
    ];
    for arguments in invalid {
        aborts(&program, &arguments, "invalid free of ");
    }
}

/// Handlers of SIGABRT allocate when they print a stack: the lock of the class is free by then. Seen to fail (it hung) with
/// the report made under it.
#[test]
fn a_handler_of_the_abort_may_allocate() {
    let program = misuse();
    let reports = [
        ["twice", "100", "0", "100"],
        ["small", "100", "0", "100"],
        ["twice", "1000000", "0", "1000000"],
        ["inside", "100000000", "0", "100000000"],
    ];
    for arguments in reports {
        let output = run(&program, &arguments, &[]);
        assert_eq!(output.status.code(), Some(42), "{arguments:?}");
    }
}

#[test]
fn budget_from_the_environment() {
    let program = compile("budget.c", Link::Shared, &[]);
    assert_ok(
        "64M",
        &run(&program, &["67108864"], &[("EBB_BUDGET", "64M")]),
    );
    assert_ok("none", &run(&program, &["0"], &[("EBB_BUDGET", "")]));
    let rubbish = run(&program, &["0"], &[("EBB_BUDGET", "lots")]);
    assert_ok("rubbish", &rubbish);
    let err = String::from_utf8_lossy(&rubbish.stderr);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.contains("\"lots\"") && err.contains("256M") && err.contains('%'),
        "{err}"
    );
}

#[test]
fn what_is_kept_from_the_environment() {
    let program = compile("budget.c", Link::Shared, &[]);
    for (value, bytes) in [("64M", "67108864"), ("0", "0"), ("", "10485760")] {
        assert_ok(value, &run(&program, &["0", bytes], &[("EBB_KEEP", value)]));
    }
    let rubbish = run(&program, &["0", "10485760"], &[("EBB_KEEP", "lots")]);
    assert_ok("rubbish", &rubbish);
    let err = String::from_utf8_lossy(&rubbish.stderr);
    assert!(
        err.lines().count() == 1 && err.contains("\"lots\""),
        "{err}"
    );
}

#[test]
fn statistics_at_exit() {
    let program = compile("budget.c", Link::Shared, &[]);
    let output = run(
        &program,
        &["67108864"],
        &[("EBB_BUDGET", "64M"), ("EBB_STATS", "1")],
    );
    assert_ok("EBB_STATS=1", &output);
    let err = String::from_utf8_lossy(&output.stderr);
    for word in ["backed", "budget", "67108864", "in_use", "class size"] {
        assert!(err.contains(word), "no {word} in\n{err}");
    }
    assert!(shared_library().exists());
}
