//! The figures of a pattern, and the table of all allocators.

use serde_json::{Value, json};

use crate::patterns::Seen;

/// What two runs of a pattern saw, as JSON: shares from the one, times from the other.
pub(crate) fn of(name: &str, places: Seen, times: Seen) -> Value {
    let seen = places.local + places.remote;
    let share = places.remote as f64 / seen.max(1) as f64;
    let rate = times.operations as f64 / times.time.as_secs_f64() / 1e6;
    json!({
        "name": name,
        "looked_at": seen,
        "local": places.local,
        "remote": places.remote,
        "remote_share": share,
        "million_per_second": rate,
        "malloc_ns": percentiles(times.mallocs),
        "free_ns": percentiles(times.frees),
    })
}

/// What half, 99 % and 99.9 % of the calls do not exceed, in nanoseconds; the clock's own time is in it.
fn percentiles(mut all: Vec<u32>) -> Value {
    all.sort_unstable();
    let last = all.len().saturating_sub(1);
    let at = |thousandths: usize| all.get(last * thousandths / 1000).copied().unwrap_or(0);
    json!({"p50": at(500), "p99": at(990), "p999": at(999)})
}

/// Prints a table with a line for each pattern and allocator.
pub(crate) fn print(allocators: &[Value]) {
    println!(
        "{:<10} {:<12} {:>8} {:>8} {:>8} {:>9}  {:>20}  {:>20}",
        "pattern", "allocator", "looked", "remote", "remote", "M alloc", "malloc ns", "free ns"
    );
    println!(
        "{:<10} {:<12} {:>8} {:>8} {:>8} {:>9}  {:>20}  {:>20}",
        "", "", "at", "", "%", "per s", "50 / 99 / 99.9 %", "50 / 99 / 99.9 %"
    );
    let patterns = allocators
        .first()
        .and_then(|first| first["patterns"].as_array());
    for index in 0..patterns.map_or(0, Vec::len) {
        for allocator in allocators {
            line(allocator, &allocator["patterns"][index]);
        }
    }
}

fn line(allocator: &Value, figures: &Value) {
    let times = |name: &str| {
        let times = &figures[name];
        format!("{} / {} / {}", times["p50"], times["p99"], times["p999"])
    };
    println!(
        "{:<10} {:<12} {:>8} {:>8} {:>8.2} {:>9.2}  {:>20}  {:>20}",
        figures["name"].as_str().unwrap_or(""),
        allocator["name"].as_str().unwrap_or(""),
        figures["looked_at"].as_u64().unwrap_or(0),
        figures["remote"].as_u64().unwrap_or(0),
        figures["remote_share"].as_f64().unwrap_or(0.0) * 100.0,
        figures["million_per_second"].as_f64().unwrap_or(0.0),
        times("malloc_ns"),
        times("free_ns")
    );
}
