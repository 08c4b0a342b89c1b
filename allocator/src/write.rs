//! All statistics as text and as JSON: the totals, the object caches, and the table of shrinkers. Nothing here allocates.

use core::fmt::{self, Write};

use ebb_shrinker::{Lane, ShrinkerStats};

use crate::cache_stats::{CacheStats, slab_caches};
use crate::forms::{comma, write_members};
use crate::os;
use crate::snapshot::stats;
use crate::tally::SHRINKERS;

/// The form in which [`write_stats`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Writes a snapshot, the object caches as `/proc/slabinfo` would, and the table of shrinkers. Allocates nothing, as long as `out` does not.
///
/// # Errors
/// Those of `out`.
pub fn write_stats(out: &mut dyn Write, format: StatsFormat) -> fmt::Result {
    match format {
        StatsFormat::Text => {
            write!(out, "{}", stats())?;
            write_caches_text(out)?;
            write_shrinkers_text(out)
        }
        StatsFormat::Json => {
            out.write_str("{")?;
            stats().write_json_members(out)?;
            write_caches_json(out)?;
            write_shrinkers_json(out)?;
            out.write_str("}\n")
        }
    }
}

fn write_caches_text(out: &mut dyn Write) -> fmt::Result {
    let (mut result, mut header) = (Ok(()), CacheStats::HEADER);
    slab_caches(&mut |cache| {
        let above = if header.is_empty() { "" } else { "\n" };
        result = result.and_then(|()| writeln!(out, "{header}{above}{cache}"));
        header = "";
    });
    result
}

fn write_caches_json(out: &mut dyn Write) -> fmt::Result {
    let mut result = out.write_str(",\"slab_caches\":[");
    let mut index = 0;
    slab_caches(&mut |cache| {
        result = result
            .and_then(|()| write!(out, "{}{{\"name\":\"", comma(index)))
            .and_then(|()| write_escaped(out, cache.name()))
            .and_then(|()| out.write_str("\","))
            .and_then(|()| write_members(out, &cache.fields()))
            .and_then(|()| out.write_str("}"));
        index += 1;
    });
    result.and_then(|()| out.write_str("]"))
}

fn write_shrinkers_text(out: &mut dyn Write) -> fmt::Result {
    if SHRINKERS.is_empty() {
        return Ok(());
    }
    let mut result = writeln!(
        out,
        "shrinker                             id lane value      calls    scanned      freed          bytes  stops \
         deferred  p50 us  p99 us  max us  last error         held by"
    );
    SHRINKERS.for_each(&mut |shrinker| {
        result = result.and_then(|()| write_row(out, shrinker));
    });
    result
}

/// Where its callbacks run: `moved` is the async lane too, and `none` is that of one that panicked.
fn lane(shrinker: &ShrinkerStats) -> &'static str {
    match shrinker.lane {
        _ if shrinker.quarantined => "none",
        _ if shrinker.moved => "moved",
        Lane::Sync => "sync",
        Lane::Async => "async",
    }
}

fn write_row(out: &mut dyn Write, shrinker: &ShrinkerStats) -> fmt::Result {
    let lane = lane(shrinker);
    write!(
        out,
        "{:<32} {:>6} {lane:<5} {:>4} {:>10} {:>10} {:>10} {:>14} {:>6} {:>8} {:>7} {:>7} {:>7}",
        shrinker.name(),
        shrinker.id,
        shrinker.value,
        shrinker.calls,
        shrinker.scanned,
        shrinker.objects,
        shrinker.bytes,
        shrinker.stops,
        shrinker.deferred,
        shrinker.time_ns_p50 / 1000,
        shrinker.time_ns_p99 / 1000,
        shrinker.time_ns_max / 1000,
    )?;
    match shrinker.last_error {
        None => write!(out, "  {:<18}", "-")?,
        Some(fault) => {
            let seconds = shrinker.last_error_ns / 1_000_000_000;
            write!(out, "  {:<9}{seconds:>5} s ago", fault.as_str())?;
        }
    }
    match shrinker.held_by {
        0 => writeln!(out, " -"),
        thread => writeln!(out, " {thread} for {} us", shrinker.held_ns / 1000),
    }
}

fn write_shrinkers_json(out: &mut dyn Write) -> fmt::Result {
    let mut result = out.write_str(",\"shrinkers\":[");
    let mut index = 0;
    SHRINKERS.for_each(&mut |shrinker| {
        let members = [
            ("id", shrinker.id),
            ("seeks", u64::from(shrinker.seeks)),
            ("calls", shrinker.calls),
            ("scans", shrinker.scans),
            ("scanned", shrinker.scanned),
            ("objects", shrinker.objects),
            ("bytes", shrinker.bytes),
            ("stops", shrinker.stops),
            ("skipped_busy", shrinker.skipped_busy),
            ("misreports", shrinker.misreports),
            ("timeouts", shrinker.timeouts),
            ("overruns", shrinker.overruns),
            ("async", u64::from(shrinker.lane == Lane::Async)),
            ("moved", u64::from(shrinker.moved)),
            ("value", u64::from(shrinker.value)),
            ("class", u64::from(shrinker.class)),
            ("panics", shrinker.panics),
            ("quarantined", u64::from(shrinker.quarantined)),
            ("deferred", shrinker.deferred as u64),
            ("time_ns_total", shrinker.time_ns_total),
            ("time_ns_p50", shrinker.time_ns_p50),
            ("time_ns_p99", shrinker.time_ns_p99),
            ("time_ns_max", shrinker.time_ns_max),
            ("last_error_ns", shrinker.last_error_ns),
            ("references", u64::from(shrinker.references)),
            ("held_by", u64::from(shrinker.held_by)),
            ("held_ns", shrinker.held_ns),
            ("dying", u64::from(shrinker.dying)),
        ];
        result = result
            .and_then(|()| write!(out, "{}{{\"name\":\"", comma(index)))
            .and_then(|()| write_escaped(out, shrinker.name()))
            .and_then(|()| out.write_str("\",\"last_error\":"))
            .and_then(|()| match shrinker.last_error {
                None => out.write_str("null,"),
                Some(fault) => write!(out, "\"{}\",", fault.as_str()),
            })
            .and_then(|()| write_members(out, &members))
            .and_then(|()| out.write_str("}"));
        index += 1;
    });
    result.and_then(|()| out.write_str("]"))
}

/// Writes a string as JSON wants it inside quotes.
fn write_escaped(out: &mut dyn Write, text: &str) -> fmt::Result {
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(out, "\\{letter}")?,
            letter if (letter as u32) < 0x20 => write!(out, "\\u{:04x}", letter as u32)?,
            letter => out.write_char(letter)?,
        }
    }
    Ok(())
}

/// Standard error as a writer.
struct StandardError;

impl Write for StandardError {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        os::say(part.as_bytes());
        Ok(())
    }
}

/// Called when the process exits, if `EBB_STATS` asked for it.
pub(crate) extern "C" fn write_at_exit() {
    // Never fails.
    let _ = write_stats(&mut StandardError, StatsFormat::Text);
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
