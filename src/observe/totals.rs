//! What was counted so far, for people: shown by `/functions` and at the end of a run.

use serde::Serialize;

/// What a worker (or several) counted and published since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the metric table says what each is")]
pub struct Totals {
    pub consumed: u64,
    pub ok: u64,
    pub skipped: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub emitted: u64,
    pub emitted_bytes: u64,
    pub unrouted: u64,
    pub read: u64,
    pub read_bytes: u64,
    pub lost_offsets: u64,
    pub calls: u64,
    pub failed_calls: u64,
    pub commits: u64,
    pub aborts: u64,
    pub rebalances: u64,
    pub cpu_ms: u64,
}

impl Totals {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.consumed += other.consumed;
        self.ok += other.ok;
        self.skipped += other.skipped;
        self.filtered += other.filtered;
        self.dead_lettered += other.dead_lettered;
        self.emitted += other.emitted;
        self.emitted_bytes += other.emitted_bytes;
        self.unrouted += other.unrouted;
        self.read += other.read;
        self.read_bytes += other.read_bytes;
        self.lost_offsets += other.lost_offsets;
        self.calls += other.calls;
        self.failed_calls += other.failed_calls;
        self.commits += other.commits;
        self.aborts += other.aborts;
        self.rebalances += other.rebalances;
        self.cpu_ms += other.cpu_ms;
    }
}
