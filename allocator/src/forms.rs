//! The text and the JSON form of a snapshot. Nothing here allocates.

use core::fmt::{self, Write};

use crate::stats::{ClassStats, NodeStats, ReclaimStats, Stats};

impl NodeStats {
    /// Names and values, for the writers.
    fn fields(&self) -> [(&'static str, u64); 13] {
        [
            ("node", self.node),
            ("backed", self.backed),
            ("budget", self.budget),
            ("in_use", self.in_use),
            ("free", self.free),
            ("cached", self.cached),
            ("free_spans", self.free_spans),
            ("hit", self.hit),
            ("miss", self.miss),
            ("foreign", self.foreign),
            ("interleave", self.interleave),
            ("local", self.local),
            ("other", self.other),
        ]
    }
}

impl ReclaimStats {
    /// Names and values, for the writers.
    fn fields(&self) -> [(&'static str, u64); 19] {
        [
            ("failures", self.failures),
            ("reclaims", self.reclaims),
            ("satisfied", self.satisfied),
            ("failed", self.failed),
            ("walks", self.walks),
            ("bytes_credited", self.bytes_credited),
            ("time_ns_total", self.time_ns_total),
            ("time_ns_max", self.time_ns_max),
            ("drains", self.drains),
            ("purges", self.purges),
            ("followed", self.followed),
            ("bytes_excess", self.bytes_excess),
            ("waits", self.waits),
            ("last_chances", self.last_chances),
            ("moved", self.moved),
            ("forced", self.forced),
            ("bytes_forced", self.bytes_forced),
            ("soft_reclaims", self.soft_reclaims),
            ("bytes_soft", self.bytes_soft),
        ]
    }
}

impl Stats {
    /// Names and values of the totals, for the writers.
    fn fields(&self) -> [(&'static str, u64); 9] {
        [
            ("backed", self.backed),
            ("budget", self.budget),
            ("reserve", self.reserve),
            ("soft_limit", self.soft_limit),
            ("in_use", self.in_use),
            ("cached", self.cached),
            ("free_spans", self.free_spans),
            ("mapped", self.mapped),
            ("metadata", self.metadata),
        ]
    }

    /// Writes one JSON object, on one line, without the shrinkers.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str("{")?;
        self.write_json_members(out)?;
        out.write_str("}")
    }

    pub(crate) fn write_json_members(&self, out: &mut dyn Write) -> fmt::Result {
        write_members(out, &self.fields())?;
        out.write_str(",\"nodes\":[")?;
        for (index, node) in self.known_nodes().iter().enumerate() {
            write!(out, "{}{{", comma(index))?;
            write_members(out, &node.fields())?;
            out.write_str("}")?;
        }
        out.write_str("],\"classes\":[")?;
        for (index, class) in self.used_classes().enumerate() {
            write!(out, "{}{{", comma(index))?;
            let ClassStats {
                size,
                slabs,
                in_use,
                free,
                cached,
            } = *class;
            let members = [
                ("size", size),
                ("slabs", slabs),
                ("in_use", in_use),
                ("free", free),
                ("cached", cached),
            ];
            write_members(out, &members)?;
            out.write_str("}")?;
        }
        out.write_str("],\"reclaim\":{")?;
        write_members(out, &self.reclaim.fields())?;
        out.write_str("}")
    }
}

pub(crate) fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { "," }
}

pub(crate) fn write_members(out: &mut dyn Write, members: &[(&str, u64)]) -> fmt::Result {
    for (index, (name, value)) in members.iter().enumerate() {
        write!(out, "{}\"{name}\":{value}", comma(index))?;
    }
    Ok(())
}

/// The text form, a few dozen lines.
impl fmt::Display for Stats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "ebbmalloc {}", env!("CARGO_PKG_VERSION"))?;
        for (name, value) in self.fields() {
            writeln!(out, "  {name:<16} {value:>14}")?;
        }
        for node in self.known_nodes() {
            let [(_, id), figures @ ..] = node.fields();
            write!(out, "node {id}:")?;
            for (name, value) in figures {
                write!(out, " {name} {value}")?;
            }
            writeln!(out)?;
        }
        writeln!(out, "reclaim:")?;
        for (name, value) in self.reclaim.fields() {
            writeln!(out, "  {name:<16} {value:>14}")?;
        }
        writeln!(
            out,
            "class size      slabs     in use       free     cached"
        )?;
        for class in self.used_classes() {
            writeln!(
                out,
                "{:>10} {:>10} {:>10} {:>10} {:>10}",
                class.size, class.slabs, class.in_use, class.free, class.cached
            )?;
        }
        Ok(())
    }
}
