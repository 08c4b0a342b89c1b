//! The steps of a trial in which one callback runs at a time.

use std::sync::Arc;

use super::{OBJECTS, Report, Trial};
use crate::DEFAULT_BATCH;
use crate::shrink::{Count, Scan, Shrink};

impl<C: Shrink + 'static> Trial<C> {
    pub(super) fn full(&self) -> Arc<C> {
        let cache = (self.make)();
        if let Some(fill) = &self.fill {
            fill(&cache, OBJECTS);
        }
        Arc::new(cache)
    }

    /// Two counts in a row are the same, and as many as were inserted at most.
    pub(super) fn counts(&self, report: &mut Report) {
        let cache = self.full();
        let (Some(first), Some(second)) = (
            self.count(&cache, report, "with nobody about"),
            self.count(&cache, report, "with nobody about"),
        ) else {
            return;
        };
        match first {
            Count::Objects { .. } => {}
            Count::Empty => report.add("count answers Empty although the cache is full"),
            Count::Unknown => report.add("count answers Unknown although nobody holds a lock"),
        }
        if first != second {
            report.add(format!(
                "count changes the cache: {first:?}, and then {second:?} without a scan in between"
            ));
        }
        if self.fill.is_some() && objects(first) > OBJECTS {
            report.add(format!(
                "count answers {} although only {OBJECTS} objects were inserted",
                objects(first)
            ));
        }
        let fresh = Arc::new((self.make)());
        if self.fill.is_some()
            && let Some(count @ Count::Objects { .. }) =
                self.count(&fresh, report, "of an empty cache")
        {
            report.add(format!("an empty cache counts {} objects", objects(count)));
        }
    }

    /// Single scans: no more than asked for, and what is said to be freed is gone.
    pub(super) fn scans(&self, report: &mut Report) {
        let cache = self.full();
        for asked in [1, 7, DEFAULT_BATCH] {
            let Some(before) = self.count(&cache, report, "between scans") else {
                return;
            };
            let Some((answer, looked)) = self.scan(&cache, asked, report, "with nobody about")
            else {
                return;
            };
            let Some(after) = self.count(&cache, report, "between scans") else {
                return;
            };
            let gone = objects(before).saturating_sub(objects(after));
            match answer {
                Scan::Stop => report.add("scan answers Stop although nobody holds a lock"),
                Scan::Freed { objects, .. } if objects > asked => report.add(format!(
                    "scan was asked for {asked} objects and freed {objects}"
                )),
                Scan::Freed { objects, .. } if objects != gone => report.add(format!(
                    "scan says that it freed {objects} objects, but count went down by {gone}"
                )),
                Scan::Freed { objects, .. } if looked < objects => report.add(format!(
                    "scan says that it looked at {looked} objects and freed {objects} of them"
                )),
                Scan::Freed { .. } if looked > asked => report.add(format!(
                    "scan was asked to look at {asked} objects and says that it looked at {looked}"
                )),
                Scan::Freed { .. } if looked == 0 => report.add(
                    "scan says that it looked at no object; where none can be looked at the answer is Stop",
                ),
                Scan::Freed { .. } => {}
            }
        }
    }

    /// Scans that go on come to an end, and leave nothing that could be freed.
    pub(super) fn drains(&self, report: &mut Report) {
        let cache = self.full();
        let Some(count) = self.count(&cache, report, "before it is drained") else {
            return;
        };
        // Twice over: the first time may only take marks away.
        let most = 2 * objects(count).div_ceil(DEFAULT_BATCH) + 2;
        for _ in 0..most {
            match self.count(&cache, report, "while it is drained") {
                Some(Count::Objects { .. }) => {}
                Some(_) | None => return,
            }
            let scanned = self.scan(&cache, DEFAULT_BATCH, report, "while it is drained");
            if scanned.is_none() {
                return;
            }
        }
        let left = self.count(&cache, report, "after it was drained");
        if let Some(Count::Objects { objects, .. }) = left {
            report.add(format!(
                "no progress: after {most} scans of {DEFAULT_BATCH} objects, which is all of them twice, {objects} \
                 objects are still counted"
            ));
        }
    }

    /// With the locks held by another thread both callbacks return at once, and say so.
    pub(super) fn locks(&self, report: &mut Report) {
        let Some(locked) = &self.locked else { return };
        let cache = self.full();
        locked(&cache, &mut || {
            let when = "while another thread holds the cache's locks";
            if let Some(Count::Empty) = self.count(&cache, report, when) {
                report.add(format!("count answers Empty {when}; that is Unknown"));
            }
            let scanned = self.scan(&cache, DEFAULT_BATCH, report, when);
            if let Some((Scan::Freed { objects: 0, .. }, _)) = scanned {
                report.add(format!("scan freed nothing {when}; the answer is Stop"));
            }
        });
    }
}

fn objects(count: Count) -> usize {
    match count {
        Count::Objects { objects, .. } => objects.get(),
        Count::Empty | Count::Unknown => 0,
    }
}
