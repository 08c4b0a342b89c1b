//! What the `console` obeys: the statistics, the budget, a purge, a reclaim, caches dropped, and shrinkers scanned by hand, as the kernel's
//! debugfs has them.
//!
//! An answer is text. One that begins with `error:` is one line, says what is wrong, and nothing was done. It is written to
//! pages of its own, so it costs the heap nothing, and is sent when it is whole: no client can hold up what it is about.

use core::fmt::{self, Write};
use core::ptr::{self, NonNull};

use crate::bytes;
use crate::container::memory_limit;
use crate::limits;
use crate::os::{self, Socket};
use crate::reclaim;
use crate::soft;
use crate::tally::SHRINKERS;
use crate::topology;
use crate::write::{StatsFormat, write_stats};

/// The longest answer, in bytes: a thousand shrinkers as JSON. Backed as far as it was needed, until its client leaves.
const ANSWER: usize = 1 << 20;

/// What `help` answers.
const HELP: &str = "\
help                       this
stats                      the statistics, the object caches and the shrinkers
json                       the same as JSON, in one line
budget                     the budget
budget BYTES|NN%|none      sets it, written as in EBB_BUDGET
purge                      gives back what is kept for reuse; calls no shrinker
reclaim BYTES|NN%          asks the shrinkers too, gently first, until so many bytes less are backed
drop                       asks the shrinkers for everything that they have
scan NAME|ID NODE OBJECTS  has a shrinker look at so many objects of a node; 0 where it tells none apart
";

/// Obeys a line.
fn obey(line: &[u8], out: &mut Answer) -> fmt::Result {
    let Ok(line) = str::from_utf8(line) else {
        return out.write_str("error: that is not UTF-8\n");
    };
    let line = line.trim_ascii();
    let (word, rest) = line
        .split_once(|letter: char| letter.is_ascii_whitespace())
        .unwrap_or((line, ""));
    match (word, rest.trim_ascii()) {
        ("help", "") => out.write_str(HELP),
        ("stats", "") => write_stats(out, StatsFormat::Text),
        ("json", "") => write_stats(out, StatsFormat::Json),
        ("budget", value) => budget(value, out),
        ("purge", "") => writeln!(out, "purged: {} bytes", reclaim::purge()),
        ("reclaim", value) => match bytes::parse(value, limits::backed) {
            Some(bytes) => writeln!(out, "reclaimed: {} bytes", reclaim::on_demand(bytes)),
            None => writeln!(
                out,
                "error: cannot read {value:?}; accepted: {}",
                bytes::ACCEPTED
            ),
        },
        ("drop", "") => writeln!(out, "dropped: {} bytes", reclaim::drop_caches()),
        ("scan", what) => scan(what, out),
        _ => writeln!(out, "error: no such command: {line:?}; try help"),
    }
}

fn budget(value: &str, out: &mut Answer) -> fmt::Result {
    let bytes = match value {
        "" => limits::get(),
        "none" => None,
        _ => match bytes::parse(value, memory_limit) {
            Some(bytes) => Some(bytes),
            None => {
                let accepted = bytes::ACCEPTED;
                return writeln!(
                    out,
                    "error: cannot read {value:?}; accepted: none, {accepted}"
                );
            }
        },
    };
    if !value.is_empty() {
        limits::set(bytes);
        soft::arm();
    }
    match bytes {
        Some(bytes) => writeln!(out, "budget: {bytes} bytes"),
        None => out.write_str("budget: none\n"),
    }
}

/// What begins with the name, which may have spaces in it, and ends with two numbers.
fn scan(what: &str, out: &mut Answer) -> fmt::Result {
    let mut parts = what.rsplitn(3, |letter: char| letter.is_ascii_whitespace());
    let objects = parts.next().and_then(|objects| objects.parse().ok());
    let node = parts.next().and_then(|node| node.parse().ok());
    let name = parts.next().unwrap_or("").trim_ascii();
    // 0 objects would be as many as a walk takes.
    let (Some(objects @ 1..), Some(node)) = (objects, node) else {
        return out.write_str("error: accepted: scan NAME|ID NODE OBJECTS, at least 1 object\n");
    };
    // A cache may have a table of its own of the nodes there are.
    if node >= topology::machine().turns(0, true).1 {
        return writeln!(out, "error: no node {node}");
    }
    let id = name.parse().ok().or_else(|| SHRINKERS.find(name));
    match id.and_then(|id| SHRINKERS.scan(id, node, objects)) {
        None => writeln!(out, "error: no shrinker {name:?}"),
        Some(report) if report.visited == 0 => writeln!(
            out,
            "error: another thread is in shrinker {name:?}, or it panicked before; try again"
        ),
        Some(report) => writeln!(
            out,
            "visited: {} objects: {} bytes: {}",
            report.visited, report.objects, report.bytes
        ),
    }
}

/// An answer, in pages of its own.
pub(crate) struct Answer {
    // INVARIANT: `ANSWER` bytes that are mapped, and nobody else's.
    start: NonNull<u8>,
    len: usize,
}

impl Answer {
    pub(crate) fn new() -> Option<Self> {
        os::map(ANSWER).map(|start| Self { start, len: 0 })
    }

    /// Becomes the answer to a line; to none, if that was too long.
    pub(crate) fn to(&mut self, line: Option<&[u8]>) {
        self.len = 0;
        let Some(line) = line else {
            self.whole("error: the line is too long\n");
            return;
        };
        if obey(line, self).is_err() {
            self.whole("error: the answer is too long\n");
        }
    }

    /// Becomes this text.
    pub(crate) fn whole(&mut self, text: &str) {
        self.len = 0;
        // It has room.
        let _ = self.write_str(text);
    }

    /// Sends it, with an empty line behind. Whether `wait` always gave leave to go on, and nothing broke.
    pub(crate) fn send(&self, client: Socket, wait: impl Fn(bool) -> bool) -> bool {
        // SAFETY: the invariant; so many were written.
        let text = unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) };
        [text, b"\n"].into_iter().all(|mut rest| {
            while !rest.is_empty() {
                match client.send(rest) {
                    Some(0) => return false,
                    Some(sent) => rest = rest.get(sent..).unwrap_or(&[]),
                    None if !wait(true) => return false,
                    None => {}
                }
            }
            true
        })
    }

    /// Gives the pages back.
    pub(crate) fn discard(&mut self) {
        self.len = 0;
        // SAFETY: the invariant; nothing in it is needed. If it fails they are used again.
        let _ = unsafe { os::discard(self.start, ANSWER) };
    }
}

impl Write for Answer {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if part.len() > ANSWER - self.len {
            return Err(fmt::Error);
        }
        // SAFETY: at most to the end.
        let to = unsafe { self.start.add(self.len) };
        // SAFETY: the invariant, and it fits.
        unsafe { ptr::copy_nonoverlapping(part.as_ptr(), to.as_ptr(), part.len()) };
        self.len += part.len();
        Ok(())
    }
}
