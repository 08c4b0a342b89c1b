//! Caches that the environment has watched.

use ebb_tests::{alone_in, in_environments};
use ebbmalloc::raw::UntypedCache;

use crate::{cache, free, write};

/// Whether the objects of a cache have red zones, and patterns while they are free.
fn kinds(cache: &UntypedCache) -> (bool, bool) {
    let object = cache.alloc().unwrap();
    // Where the size class has more than the object.
    let before = write(object, 42, 1);
    let zones = cache.validate() > 0;
    write(object, 42, before);
    free(cache, object);
    let before = write(object, 9, 1);
    let poison = cache.validate() > 0;
    write(object, 9, before);
    (zones, poison)
}

/// The same of a cache of this name for which nothing is asked.
fn watched(name: &str) -> (bool, bool) {
    kinds(&cache(name, 40, "-"))
}

/// Seen to fail without the variable read, and with names not compared.
#[test]
fn the_environment_names_caches() {
    let name = "environment::the_environment_names_caches";
    let setting = ("EBB_CACHE_DEBUG", "FZ,pages,inode*;-,dentries;P");
    alone_in(name, &[setting], || {
        assert_eq!(watched("pages"), (true, false));
        assert_eq!(watched("inodes"), (true, false));
        assert_eq!(watched("dentries"), (false, false));
        assert_eq!(watched("others"), (false, true));
    });
}

#[test]
fn without_a_name_all_are_watched() {
    let name = "environment::without_a_name_all_are_watched";
    alone_in(name, &[("EBB_CACHE_DEBUG", "FZPU")], || {
        assert_eq!(watched("any"), (true, true));
    });
}

/// The flags of the code and those of the environment count together.
#[test]
fn code_and_environment_add_up() {
    let name = "environment::code_and_environment_add_up";
    alone_in(name, &[("EBB_CACHE_DEBUG", "P,both")], || {
        assert_eq!(kinds(&cache("both", 40, "Z")), (true, true));
        assert_eq!(kinds(&cache("other", 40, "Z")), (true, false));
    });
}

/// What cannot be used is said in one line, and nothing is watched. Seen to fail with texts not looked at when
/// they are read.
#[test]
fn a_wrong_text_is_said() {
    let name = "environment::a_wrong_text_is_said";
    let setting = ("EBB_CACHE_DEBUG", "FZP;FX,pages");
    let said = alone_in(name, &[setting], || {
        assert_eq!(watched("pages"), (false, false))
    });
    if let Some(said) = said {
        let line = "ebbmalloc: EBB_CACHE_DEBUG: cannot use \"FZP;FX,pages\"; accepted: any of F, Z, P and U, ";
        let lines = said.lines().filter(|line| line.contains("EBB_"));
        assert_eq!(lines.clone().count(), 1, "{said}");
        assert!(lines.clone().all(|said| said.starts_with(line)), "{said}");
    }
}

/// An empty variable is none.
#[test]
fn nothing_is_watched_for_nothing() {
    let name = "environment::nothing_is_watched_for_nothing";
    in_environments(name, &[&[], &[("EBB_CACHE_DEBUG", "")]], || {
        assert_eq!(watched("any"), (false, false));
    });
}
