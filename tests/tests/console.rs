//! The console: commands over a Unix socket. Numbers of steps are those at the head of `allocator/src/console.rs`.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, process, thread};

use ebb_tests::fork::forked;
use ebb_tests::{Block, Cache, MIB, alone_in, patient};
use ebbmalloc::{Count, Scan, Shrink, ShrinkControl};

/// Runs the body of a test in a process of its own that has a console; what it said.
fn with_console(name: &str, path: &Path, body: impl FnOnce(&Path)) -> Option<String> {
    let setting = path.to_str().unwrap();
    alone_in(name, &[("EBB_CONTROL", setting)], || {
        let setting = env::var("EBB_CONTROL").unwrap();
        body(Path::new(
            &setting.replace("%p", &process::id().to_string()),
        ));
    })
}

/// A path for a test. Short enough for any system, which the target directory may not be.
fn path(name: &str) -> PathBuf {
    env::temp_dir().join(format!("ebb-{name}-{}", process::id()))
}

/// A client of a console.
struct Client(BufReader<UnixStream>);

impl Client {
    fn new(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next answer, without the empty line; nothing at the end.
    fn answer(&mut self) -> Option<String> {
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.as_str() {
                "" => {
                    assert_eq!(answer, "", "an answer ends with an empty line");
                    return None;
                }
                "\n" => return Some(answer),
                line => answer += line,
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(format!("{line}\n").as_bytes());
        self.answer().expect("the connection lives")
    }

    /// The answer is one line that says what is wrong.
    fn is_refused(&mut self, line: &[u8]) {
        self.say(line);
        self.say(b"\n");
        let answer = self.answer().expect("the connection lives");
        let line = String::from_utf8_lossy(line);
        assert!(answer.starts_with("error: "), "{line:?}: {answer:?}");
        assert_eq!(answer.lines().count(), 1, "{line:?}: {answer:?}");
    }
}

/// Steps 1 and 2. Seen to fail with `help`, `stats` or `json` left out of `obey`, with text for JSON, without `limits::set` in
/// `budget`, with a purge, a reclaim or a drop that does nothing, with the name up to the first space only, with one object more, and without `%p`.
#[test]
fn each_command_is_obeyed() {
    let name = "each_command_is_obeyed";
    with_console(name, &path("each-%p"), |path| {
        let mut client = Client::new(path);
        let help = client.ask("help");
        for command in [
            "help", "stats", "json", "budget", "purge", "reclaim", "drop", "scan",
        ] {
            assert!(help.contains(&format!("\n{command} ")) || help.starts_with(command));
        }
        let cache = Cache::new(100, 1000);
        let registration = cache.register(patient("my cache"));
        let (stats, json) = (client.ask("stats"), client.ask("json"));
        assert!(stats.starts_with("ebbmalloc 0."), "{stats}");
        assert!(stats.contains("\nmy cache   "), "{stats}");
        assert!(
            json.starts_with("{\"backed\":") && json.ends_with("]}\n"),
            "{json}"
        );
        assert!(
            json.contains("\"shrinkers\":[{\"name\":\"my cache\""),
            "{json}"
        );

        assert_eq!(client.ask("budget"), "budget: none\n");
        assert_eq!(client.ask(" budget\t256M \r"), "budget: 268435456 bytes\n");
        assert_eq!(ebbmalloc::budget(), Some(256 * MIB));
        assert_eq!(client.ask("budget"), "budget: 268435456 bytes\n");
        let part = ebbmalloc::memory_limit() / 100 * 50;
        assert_eq!(client.ask("budget 50%"), format!("budget: {part} bytes\n"));
        assert_eq!(client.ask("budget none"), "budget: none\n");
        assert_eq!(ebbmalloc::budget(), None);

        let freed = |objects| format!("visited: 1 objects: {objects} bytes: {}\n", objects * 1000);
        assert_eq!(client.ask("scan my cache 0 30"), freed(30));
        assert_eq!(cache.len(), 70);
        let id = registration.stats().id;
        assert_eq!(client.ask(&format!("scan {id} 0 1000")), freed(70));
        assert!(cache.is_empty());
        let scanned = ebbmalloc::shrinkers().scan(id, 0, 1).unwrap();
        assert_eq!(scanned.visited, 1, "nobody is in it any more");

        drop((0..100).map(|_| Block::new(100_000)).collect::<Vec<_>>());
        let before = ebbmalloc::backed();
        let said = client.ask("purge");
        let purged = said
            .strip_prefix("purged: ")
            .unwrap()
            .strip_suffix(" bytes\n");
        let purged: usize = purged.unwrap().parse().unwrap();
        let gone = before - ebbmalloc::backed();
        assert!(
            purged >= MIB && gone.abs_diff(purged) < MIB,
            "{purged} {gone}"
        );

        let cache = Cache::new(3000, 2000);
        let _registration = cache.register(patient("other"));
        ebbmalloc::purge();
        let before = ebbmalloc::backed();
        let said = client.ask("reclaim 1M");
        assert!(said.starts_with("reclaimed: "), "{said}");
        assert!(ebbmalloc::backed() + MIB <= before && cache.len() > 1000);
        let before = ebbmalloc::backed();
        let said = client.ask("drop");
        assert!(said.starts_with("dropped: ") && cache.is_empty(), "{said}");
        assert!(ebbmalloc::backed() + MIB <= before);
    });
}

/// Step 2. Seen to fail with 0 objects or unknown nodes let through, with a budget taken away that cannot be read, with the end of a
/// long line obeyed, with a buffer of a byte more or less, and with a last line obeyed that has no end.
#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let name = "what_is_wrong_is_said_and_changes_nothing";
    with_console(name, &path("wrong-%p"), |path| {
        let cache = Cache::new(10, 1000);
        let _registration = cache.register(patient("cache"));
        ebbmalloc::set_budget(Some(300 * MIB));
        let mut client = Client::new(path);
        let lines = [
            "",
            " ",
            "\r",
            "nothing",
            "STATS",
            "stats now",
            "json\0",
            "purge 1",
            "budget 0",
            "budget lots",
            "budget 101%",
            "budget -1",
            "budget 1G 2",
            "scan",
            "scan cache",
            "scan cache 0",
            "scan 0 5",
            "scan cache 0 0",
            "scan cache 0 -1",
            "scan cache 64 5",
            "scan cache 4294967296 5",
            "scan cache 0 99999999999999999999",
            "scan cach 0 5",
            "scan  0 5",
            "scan 0 0 5",
            "scan 999999 0 5",
            "scan cache x 5",
            "reclaim",
            "reclaim lots",
            "budget \u{661}",
        ];
        for line in lines {
            client.is_refused(line.as_bytes());
        }
        assert_eq!(ebbmalloc::budget(), Some(300 * MIB));
        client.is_refused(b"budget \xff");
        client.is_refused(b"\x00\x01\x02\xff\xfe");
        let longest = format!("budget {:>248}", "400M");
        assert_eq!(client.ask(&longest), "budget: 419430400 bytes\n");
        assert_eq!(client.ask("budget 300M"), "budget: 314572800 bytes\n");
        client.is_refused(format!("budget {:>249}", "400M").as_bytes());
        // What would be a command of its own, if a line went on where the buffer begins anew.
        client.is_refused(format!("{:>256}budget 400M", "").as_bytes());
        client.is_refused(&[b'x'; 100_000]);
        // Several in one piece, and one in several.
        client.say(b"budget\nbudget\nbud");
        client.say(b"get\n");
        for _ in 0..3 {
            assert_eq!(client.answer().unwrap(), "budget: 314572800 bytes\n");
        }
        client.say(b"budget 400M");
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let answer = client.answer().unwrap();
        assert!(answer.starts_with("error: "), "{answer}");
        assert_eq!(client.answer(), None);
        assert_eq!(ebbmalloc::budget(), Some(300 * MIB));
        assert_eq!((cache.len(), cache.scans()), (10, 0));
        assert_eq!(Client::new(path).ask("budget"), "budget: 314572800 bytes\n");
    });
}

/// A cache that takes its time.
struct Slow;

impl Shrink for Slow {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(1)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        thread::sleep(Duration::from_millis(1));
        Scan::Stop
    }
}

/// Step 3. Seen to fail (hung) without an end of turns; with one that is looked at only where there is nothing to read (the
/// one that never pauses), or no room for an answer alone (the silent one).
#[test]
fn a_client_holds_nobody_up_for_ever() {
    let name = "a_client_holds_nobody_up_for_ever";
    with_console(name, &path("turns-%p"), |path| {
        // Who says nothing, who says half a line, and who reads no answers.
        let mut silent = Client::new(path);
        let mut half = Client::new(path);
        half.say(b"stat");
        let mut deaf = Client::new(path);
        deaf.say(&b"json\n".repeat(1000));
        let mut last = Client::new(path);
        assert!(last.ask("stats").starts_with("ebbmalloc"));
        // Where nobody waits a turn has no end: this one has waited for several.
        assert_eq!(last.ask("budget"), "budget: none\n");
        for client in [&mut silent, &mut half] {
            let said = client.answer().unwrap();
            assert!(said.contains("another waits"), "{said}");
            assert_eq!(client.answer(), None);
        }
        drop(last);
        // And who never pauses: there is always another line, and room for its answer.
        let _registration = ebbmalloc::register(patient("slow"), Slow).unwrap();
        let mut restless = Client::new(path);
        assert_eq!(restless.ask("budget"), "budget: none\n");
        let mut input = restless.0.get_ref().try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || while input.write_all(&b"scan slow 0 1\n".repeat(100)).is_ok() {});
            scope.spawn(move || restless.0.read_to_end(&mut Vec::new()));
            assert_eq!(Client::new(path).ask("budget"), "budget: none\n");
        });
    });
}

/// Seen to fail with all that does not answer, or every socket, taken for stale.
#[test]
fn a_path_that_is_taken_is_left_alone() {
    let name = "a_path_that_is_taken_is_left_alone";
    if env::var_os("EBB_CONTROL").is_some() {
        let _ = with_console(name, Path::new(""), |path| assert!(!is_listening(path)));
        return;
    }
    let (socket, file) = (path("taken"), path("file"));
    let listener = UnixListener::bind(&socket).unwrap();
    fs::write(&file, "mine").unwrap();
    let number = fs::metadata(&socket).unwrap().ino();
    for path in [&socket, &file] {
        let said = with_console(name, path, |_| {}).unwrap();
        let line = format!(
            "ebbmalloc: EBB_CONTROL: no socket at {}: it is taken; there is none\n",
            path.display()
        );
        assert_eq!(said, line);
    }
    assert_eq!(fs::metadata(&socket).unwrap().ino(), number);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    // The other's own clients come to it as before; the one that came first only asked whether anybody answers.
    let _client = UnixStream::connect(&socket).unwrap();
    let answers = (0..2).all(|_| listener.accept().is_ok());
    assert!(answers);
    fs::remove_file(&socket).unwrap();
    fs::remove_file(&file).unwrap();
}

/// Each says why in one line, and the program runs. Seen to fail with an address that is cut off.
#[test]
fn a_path_that_cannot_be_is_refused() {
    let name = "a_path_that_cannot_be_is_refused";
    let long = path(&"l".repeat(100));
    let longer = path(&"l".repeat(600));
    let nowhere = path("none").join("socket");
    for (path, why) in [
        (long, "too long"),
        (longer, "too long"),
        (nowhere, "no such directory"),
        (PathBuf::from("/proc/socket"), "; there is none"),
    ] {
        let said = with_console(name, &path, |path| assert!(!path.exists()));
        let Some(said) = said else { return };
        assert!(
            said.starts_with("ebbmalloc: EBB_CONTROL: no socket at /"),
            "{said}"
        );
        assert!(
            said.contains(why) && said.ends_with("; there is none\n"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Seen to fail without `is_stale`; and, the path being there afterwards, without `end`.
#[test]
fn what_an_ended_process_left_is_replaced_and_the_own_removed() {
    let name = "what_an_ended_process_left_is_replaced_and_the_own_removed";
    let path = path("stale");
    if env::var_os("EBB_CONTROL").is_none() {
        drop(UnixListener::bind(&path).unwrap());
    }
    let said = with_console(name, &path, |path| {
        assert_eq!(Client::new(path).ask("budget"), "budget: none\n");
    });
    if let Some(said) = said {
        assert_eq!(said, "");
        assert!(fs::symlink_metadata(&path).is_err(), "it is left behind");
    }
}

/// Seen to fail without the mode (another one), and with `F_DUPFD` for `F_DUPFD_CLOEXEC`.
#[test]
fn it_is_this_user_s_and_this_program_s_alone() {
    let name = "it_is_this_user_s_and_this_program_s_alone";
    with_console(name, &path("mode-%p"), |path| {
        let about = fs::symlink_metadata(path).unwrap();
        assert!(about.file_type().is_socket());
        assert_eq!(about.permissions().mode() & 0o7777, 0o600);
        let mut client = Client::new(path);
        assert_eq!(client.ask("budget"), "budget: none\n");
        // The listener and the client of it are open here, and not there.
        let both = sockets(Path::new("/proc/self/fd"));
        let listed = Command::new("ls")
            .args(["-l", "/proc/self/fd"])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(is_listening(path) && both.len() >= 3 && listed.contains("/proc/"));
        for socket in &both {
            assert!(!listed.contains(socket), "{socket} in\n{listed}");
        }
    });
}

/// The sockets among a process's descriptors above those that it began with.
fn sockets(descriptors: &Path) -> Vec<String> {
    let links = fs::read_dir(descriptors).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let link = fs::read_link(entry.path()).ok()?;
        (number > 2).then(|| link.to_str().unwrap().to_owned())
    });
    links.filter(|link| link.starts_with("socket:")).collect()
}

/// The inode, as a descriptor's link has it, of the socket that has this path.
fn socket_at(path: &Path) -> Option<String> {
    let all = fs::read_to_string("/proc/net/unix").unwrap();
    let line = all
        .lines()
        .find(|line| line.ends_with(path.to_str().unwrap()))?;
    let inode = line.split_ascii_whitespace().nth(6)?;
    Some(format!("socket:[{inode}]"))
}

/// Whether this process listens there.
fn is_listening(path: &Path) -> bool {
    socket_at(path).is_some_and(|socket| sockets(Path::new("/proc/self/fd")).contains(&socket))
}

/// Step 5. Seen to fail with `forget` left out; with its listener left out, and its client; and with `hang_up` for `close`.
#[test]
fn a_forked_child_neither_serves_nor_disturbs() {
    let name = "a_forked_child_neither_serves_nor_disturbs";
    with_console(name, &path("fork-%p"), |path| {
        let mut client = Client::new(path);
        assert_eq!(client.ask("budget"), "budget: none\n");
        let own = format!("{:?}", client.0.get_ref().as_raw_fd());
        let answer = forked(|| {
            // The test's own end alone is left.
            let left = sockets(Path::new("/proc/self/fd"));
            assert_eq!(left.len(), 1, "{left:?}, of which {own} is the test's");
            assert!(!is_listening(path));
            ebbmalloc::set_budget(Some(100 * MIB));
            // SAFETY: ends the child as a program ends, with all that is done then.
            unsafe { libc::exit(7) }
        });
        assert_eq!(answer, Some(7));
        assert_eq!(client.ask("budget"), "budget: none\n");
        drop(client);
        assert_eq!(Client::new(path).ask("budget"), "budget: none\n");
    });
}

/// Step 5 again: clients and forks at any moment. Seen to fail without the lock in `fork`: a client stays open in a child.
#[test]
fn forks_at_any_moment() {
    let name = "forks_at_any_moment";
    with_console(name, &path("forks-%p"), |path| {
        thread::scope(|scope| {
            let forking = scope.spawn(|| {
                for _ in 0..300 {
                    let left = forked(|| {
                        let listening = is_listening(path);
                        let console = sockets(Path::new("/proc/self/fd")).len();
                        // One may be the test's.
                        u8::from(listening || console > 1)
                    });
                    assert_eq!(left, Some(0));
                }
            });
            while !forking.is_finished() {
                assert_eq!(Client::new(path).ask("budget"), "budget: none\n");
            }
        });
    });
}

/// Step 6. Seen to fail with `is_ours` always true: the program's own socket is closed in its child. And (hung) without a limit to
/// how long the thread sleeps.
#[test]
fn a_program_may_close_everything() {
    let name = "a_program_may_close_everything";
    with_console(name, &path("closed-%p"), |path| {
        let socket = socket_at(path).unwrap();
        let number = fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
            let entry = entry.unwrap();
            let link = fs::read_link(entry.path()).ok()?;
            (link.to_str() == Some(&socket)).then(|| entry.file_name())
        });
        let number: i32 = number.unwrap().to_str().unwrap().parse().unwrap();
        let own_path = path.with_extension("own");
        let own = UnixListener::bind(&own_path).unwrap();
        own.set_nonblocking(true).unwrap();
        // SAFETY: takes the number for a socket of this test's.
        assert_eq!(unsafe { libc::dup2(own.as_raw_fd(), number) }, number);
        let answer = forked(|| {
            // SAFETY: asks whether it is open.
            u8::from(unsafe { libc::fcntl(number, libc::F_GETFD) } < 0)
        });
        assert_eq!(
            answer,
            Some(0),
            "the child closed what is not the console's"
        );
        // Whoever comes to the console now ends it, unless it has ended already, and is not served.
        if let Ok(mut client) = UnixStream::connect(path) {
            let _ = client.write_all(b"budget 1\n");
            match client.read_to_end(&mut Vec::new()) {
                Ok(read) => assert_eq!(read, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        let _own_client = UnixStream::connect(&own_path).unwrap();
        assert!(own.accept().is_ok(), "it is the program's client");
        assert_eq!(ebbmalloc::budget(), None);
        fs::remove_file(&own_path).unwrap();
    });
}
