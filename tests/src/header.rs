//! The C header, made from the sources of the `ebbmalloc-ffi` crate by cbindgen.

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

/// The files whose public functions are the C interface.
const SOURCES: [&str; 15] = [
    "heap.rs",
    "new.rs",
    "control.rs",
    "stats.rs",
    "text.rs",
    "shrinker.rs",
    "handle.rs",
    "shrinker_stats.rs",
    "last_chance.rs",
    "pressure.rs",
    "scope.rs",
    "cache.rs",
    "eviction.rs",
    "cache_stats.rs",
    "lock_order.rs",
];

/// What C calls the Rust types.
const NAMES: [(&str, &str); 19] = [
    ("EbbStats", "ebb_stats_t"),
    ("EbbNodeStats", "ebb_node_stats_t"),
    ("EbbShrinker", "ebb_shrinker_t"),
    ("EbbShrinkerOps", "ebb_shrinker_ops_t"),
    ("EbbShrinkControl", "ebb_shrink_control_t"),
    ("EbbShrinkerStats", "ebb_shrinker_stats_t"),
    ("EbbCountResult", "ebb_count_result_t"),
    ("EbbScanResult", "ebb_scan_result_t"),
    ("EbbCount", "ebb_count_fn"),
    ("EbbScan", "ebb_scan_fn"),
    ("EbbLastChance", "ebb_last_chance_fn"),
    ("EbbListener", "ebb_listener_fn"),
    ("EbbCache", "ebb_cache_t"),
    ("EbbCacheOps", "ebb_cache_ops_t"),
    ("EbbCacheStats", "ebb_cache_stats_t"),
    ("EbbObject", "ebb_object_fn"),
    ("EbbOccupancy", "ebb_occupancy_t"),
    ("EbbVisit", "ebb_visit_fn"),
    ("EbbLockClass", "ebb_lock_class_t"),
];

const HEAD: &str = "\
/* ebbmalloc: a memory allocator that gives memory back before it gives up.
 *
 * Generated from the crate ebbmalloc-ffi; changes made here are lost. To make it anew:
 * EBB_BLESS=1 cargo test -p ebb-tests --test header
 */";

const MACROS: &str = "
/** The version this header belongs to. */
#define EBB_VERSION \"@VERSION@\"

#if defined(__GNUC__)
#define EBB_ATTR(...) __attribute__((__VA_ARGS__))
#else
#define EBB_ATTR(...)
#endif

#if defined(__cplusplus)
#define EBB_NOTHROW noexcept
#elif defined(__GNUC__)
#define EBB_NOTHROW EBB_ATTR(nothrow)
#else
#define EBB_NOTHROW
#endif";

/// The workspace's directory.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where the header is.
#[must_use]
pub fn path() -> PathBuf {
    workspace().join("include/ebbmalloc.h")
}

/// The header as it should be.
///
/// # Panics
/// When the sources cannot be read.
#[must_use]
pub fn generate() -> String {
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        style: Style::Both,
        header: Some(HEAD.to_owned()),
        include_guard: Some("EBBMALLOC_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        after_includes: Some(MACROS.replace("@VERSION@", env!("CARGO_PKG_VERSION"))),
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 100,
        ..Config::default()
    };
    config.function.postfix = Some("EBB_NOTHROW".to_owned());
    config.export.rename = NAMES
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .into();
    let sources = workspace().join("ffi/src");
    let builder = SOURCES
        .iter()
        .fold(Builder::new().with_config(config), |builder, source| {
            builder.with_src(sources.join(source))
        });
    let mut header = Vec::new();
    builder
        .generate()
        .expect("the sources of the C interface parse")
        .write(&mut header);
    String::from_utf8(header).expect("cbindgen writes UTF-8")
}
