//! Real programs under `LD_PRELOAD`, with and without a budget and in both modes: they say what they say without.
//!
//! A program that is not installed is passed over with a note; where the environment has `CI` it is a failure.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ebb_tests::c::{scratch, shared_library};
use ebb_tests::is_ci;

/// What each program is run with besides the library.
const MODES: [(&str, &str); 3] = [
    ("EBB_BUDGET", ""),
    ("EBB_BUDGET", "768M"),
    ("EBB_NO_RSEQ", "1"),
];

/// A directory for one test.
fn directory(name: &str) -> PathBuf {
    let directory = scratch().join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Whether a program is there.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    assert!(
        found || !is_ci(),
        "{program} is not installed; install the package of that name"
    );
    if !found {
        eprintln!("passed over: {program} is not installed");
    }
    found
}

/// A program preloaded with the allocator.
fn preloaded(program: &str, mode: (&str, &str)) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", shared_library())
        .env(mode.0, mode.1);
    command
}

fn text(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{}\n{out}{err}", output.status)
}

/// Runs a program without the library and then in each mode; all must succeed and say the same.
fn same(program: &str, arguments: &[&str], prepare: &dyn Fn(&mut Command)) {
    if !installed(program) {
        return;
    }
    let mut plain = Command::new(program);
    prepare(plain.args(arguments));
    let plain = plain.output().unwrap();
    assert!(
        plain.status.success(),
        "{program} without the library: {}",
        text(&plain)
    );
    for mode in MODES {
        let mut command = preloaded(program, mode);
        prepare(command.args(arguments));
        let output = command.output().unwrap();
        assert_eq!(text(&output), text(&plain), "{program} with {mode:?}");
    }
}

const PYTHON: &str = r#"
import hashlib, json, re, threading
table = {str(i): [i] * (i % 17) for i in range(60000)}
text = json.dumps(table)
assert json.loads(text) == table
results = [None] * 4
def work(k):
    words = sorted(re.findall(r"\d+", text[k * 1000:400000]), key=lambda word: word[::-1])
    results[k] = hashlib.sha256(" ".join(words).encode()).hexdigest()
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(text), results)
"#;

#[test]
fn python() {
    same("python3", &["-c", PYTHON], &|command| {
        command
            .env("PYTHONMALLOC", "malloc")
            .env("PYTHONHASHSEED", "0");
    });
}

const PERL: &str = r#"
my %seen; my @lines = map { join ",", $_, $_ * 7 % 1013, "x" x ($_ % 50) } 1 .. 60000;
$seen{(split /,/)[1]} .= $_ for @lines;
my $sum = 0; $sum += length $seen{$_} for sort { $a <=> $b } keys %seen;
print "$sum ", scalar(keys %seen), " ", substr(join("|", reverse @lines), 0, 100), "\n";
"#;

#[test]
fn perl() {
    same("perl", &["-e", PERL], &|_| {});
}

#[test]
fn sqlite() {
    let script = "create table t(a integer primary key, b text, c real);\
        with recursive n(x) as (select 1 union all select x + 1 from n where x < 60000)\
        insert into t select x, hex(x * 7919 % 10007) || 'text', x / 3.0 from n;\
        create index i on t(b); select count(*), sum(length(b)), round(avg(c), 3) from t;\
        select substr(b, 1, 2), count(*) from t group by 1 order by 2 desc, 1 limit 5; pragma integrity_check;";
    same("sqlite3", &[":memory:", script], &|_| {});
}

#[test]
fn git() {
    if !installed("git") {
        return;
    }
    let script = "set -e; cd \"$1\"; rm -rf repository; git init -q repository; cd repository; \
        git config user.name n; git config user.email e; \
        for i in 1 2 3 4 5 6 7 8; do seq 1 $((i * 3000)) > f$i; git add .; git commit -q -m \"commit $i\"; done; \
        git gc -q; git log --stat --format=%s; git diff HEAD~3 | tail -3; git fsck --full 2>&1; git rev-parse HEAD";
    let directory = directory("git");
    let at = directory.to_str().unwrap();
    let date = "2020-01-01T00:00:00Z";
    same("sh", &["-c", script, "sh", at], &|command| {
        command
            .env("GIT_AUTHOR_DATE", date)
            .env("GIT_COMMITTER_DATE", date);
    });
}

/// A C file of some thousand lines.
fn c_source() -> String {
    let mut source = String::from("#include <stdio.h>\n#include <string.h>\n");
    for i in 0..400 {
        source += &format!(
            "static unsigned f{i}(unsigned x) {{\n  unsigned a[8] = {{0}};\n  for (unsigned k = 0; k < {}; k++) \
             a[k % 8] += x * k + {i};\n  return a[x % 8] ^ (x >> {});\n}}\n",
            i % 13 + 3,
            i % 7
        );
    }
    source += "int main(void) {\n  unsigned s = 1;\n";
    for i in 0..400 {
        source += &format!("  s = f{i}(s);\n");
    }
    source + "  printf(\"%u\\n\", s);\n  return 0;\n}\n"
}

#[test]
fn gcc_and_gxx() {
    let directory = directory("gcc");
    fs::write(directory.join("large.c"), c_source()).unwrap();
    let cxx = "#include <map>\n#include <regex>\n#include <iostream>\nint main() { std::map<std::string, int> m; \
        std::regex r(\"[a-z]+\"); std::string s = \"some words to count, some twice\"; \
        for (std::sregex_iterator i(s.begin(), s.end(), r), e; i != e; ++i) m[i->str()]++; \
        for (auto &p : m) std::cout << p.first << p.second << '\\n'; }\n";
    fs::write(directory.join("words.cpp"), cxx).unwrap();
    let at = directory.to_str().unwrap();
    let script = "set -e; cd \"$1\"; gcc -O2 -S large.c -o - | md5sum; gcc -O2 large.c -o large; ./large; \
        g++ -O1 words.cpp -o words; ./words";
    if installed("gcc") && installed("g++") {
        same("sh", &["-c", script, "sh", at], &|_| {});
    }
}

/// A server that is stopped when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects to the server at `port`, which may still be starting.
fn connect(port: u16) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) if start.elapsed() > Duration::from_secs(100) => {
                panic!("the server does not answer: {error}")
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Stores values of many sizes and reads them back.
fn store_and_read(port: u16, client: usize) {
    let stream = connect(port);
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut requests = stream;
    let mut line = String::new();
    for round in 0..1500 {
        let len = (round * 7919 + client * 13) % 20_000;
        let value = vec![b'a' + (round % 26) as u8; len];
        let key = format!("k{client}-{}", round % 50);
        // In one piece, so that no end waits for the other's acknowledgement.
        let mut request = format!("set {key} 0 0 {len}\r\n").into_bytes();
        request.extend_from_slice(&value);
        request.extend_from_slice(format!("\r\nget {key}\r\n").as_bytes());
        requests.write_all(&request).unwrap();
        let mut next = || {
            line.clear();
            answers.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        assert_eq!(next(), "STORED");
        assert_eq!(next(), format!("VALUE {key} 0 {len}"));
        assert!(next().as_bytes() == value);
        assert_eq!(next(), "END");
    }
}

#[test]
fn memcached_with_threads_under_load() {
    if !installed("memcached") {
        return;
    }
    for (mode, port) in MODES.into_iter().zip(23_400_u16..) {
        let mut command = preloaded("memcached", mode);
        command.args([
            "-l",
            "127.0.0.1",
            "-t",
            "4",
            "-m",
            "64",
            "-u",
            "root",
            "-p",
            &port.to_string(),
        ]);
        let server = Server(command.stderr(Stdio::null()).spawn().unwrap());
        thread::scope(|scope| {
            for client in 0..8 {
                scope.spawn(move || store_and_read(port, client));
            }
        });
        drop(server);
    }
}

/// The library is really what these programs use.
#[test]
fn the_library_is_loaded() {
    if installed("python3") {
        let output = preloaded("python3", ("EBB_STATS", "1"))
            .args(["-c", "pass"])
            .output()
            .unwrap();
        assert!(text(&output).contains("ebbmalloc 0."), "{}", text(&output));
    }
}

/// A program that knows nothing of the allocator obeys commands: `EBB_CONTROL`. Seen to fail with the console's thread not
/// started.
#[test]
fn a_console() {
    if !installed("perl") {
        return;
    }
    let path = std::env::temp_dir().join("ebb-preload-%p");
    let mut command = preloaded("perl", ("EBB_CONTROL", path.to_str().unwrap()));
    // Until its standard input ends.
    command.args(["-e", "<STDIN>"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut program = Server(command.spawn().unwrap());
    let path = path.with_file_name(format!("ebb-preload-{}", program.0.id()));
    let start = Instant::now();
    let mut console = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > Duration::from_secs(100) => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    let patience = Some(Duration::from_secs(100));
    console.set_read_timeout(patience).unwrap();
    console.write_all(b"stats\nbudget 64M\n").unwrap();
    console.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    console.read_to_string(&mut answers).unwrap();
    assert!(answers.starts_with("ebbmalloc 0."), "{answers}");
    assert!(
        answers.ends_with("\n\nbudget: 67108864 bytes\n\n"),
        "{answers}"
    );
    // Its thread keeps no program alive.
    drop(program.0.stdin.take());
    assert!(program.0.wait().unwrap().success());
    let mut said = String::new();
    let pipe = program.0.stderr.take();
    pipe.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((said.as_str(), path.exists()), ("", false));
}

/// It brings no other library with it. Seen to fail without `gcc_eh` in the library's build script.
#[test]
fn nothing_else_is_loaded() {
    if installed("perl") {
        let output = preloaded("perl", MODES[0])
            .args(["-pe", "1", "/proc/self/maps"])
            .output()
            .unwrap();
        let maps = text(&output);
        assert!(maps.contains("libebbmalloc.so"), "{maps}");
        assert!(!maps.contains("libgcc_s"), "{maps}");
    }
}
