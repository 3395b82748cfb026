//! What is open, for who looks on.

use super::{Kind, NEVER, Windows};

/// A window that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWindow<'w> {
    /// Whose it is.
    pub key: &'w [u8],
    /// Its bounds, milliseconds since the epoch; of sessions and counted windows as far as they go yet.
    pub bounds: (i64, i64),
    /// The first watermark at which it is closed; `None`: time closes it not.
    pub closes_at_ms: Option<i64>,
}

impl Windows {
    /// Every window that is open, by key and start.
    pub fn all_open(&self) -> Vec<OpenWindow<'_>> {
        let mut open = Vec::new();
        for (key, owner) in &self.keys {
            let held = &owner.held;
            let times = held.events.iter().map(|kept| (kept.belongs, kept.place.time_ms));
            let bounds: Vec<(i64, i64)> = match self.rules.kind {
                Kind::Sliding { size } => times.map(|(_, time)| (time.saturating_sub(size), time)).collect(),
                Kind::Stitch { within } => {
                    // Events are by time: the first that names a stitch begins it.
                    let mut seen = Vec::new();
                    let firsts = times.filter(|(stitch, _)| {
                        let is_first = !seen.contains(stitch);
                        seen.push(*stitch);
                        is_first
                    });
                    firsts.map(|(_, first)| (first, first.saturating_add(within))).collect()
                }
                _ => held.windows.iter().map(|window| (window.start, window.end)).collect(),
            };
            open.extend(bounds.into_iter().map(|bounds| {
                let closes_at_ms = Some(self.rules.deadline(bounds.1)).filter(|deadline| *deadline != NEVER);
                OpenWindow { key, bounds, closes_at_ms }
            }));
        }
        open.sort_by_key(|open| (open.key, open.bounds));
        open.dedup();
        open
    }
}
