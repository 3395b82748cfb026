//! An outage is not poison: when calls fail for one key after the other, it is not the events' fault. The lane's
//! circuit opens: nothing is called but now and then one event, to probe, and no attempts are counted, until
//! one goes well.
//!
//! It opens when first calls of events, or of results of windows and timers, failed for so many keys (strands), one after the other, with no call that went well in
//! between, all within a time. Only first calls count: events that are tried again and again are known to fail.
//! The idea and its states are Nygard's (*Release It!*, 2007).

use std::time::Duration;

use super::Strand;
use crate::model::{CircuitSpec, Retry};
use crate::pipeline::back_off;

/// Of one lane.
#[derive(Debug)]
pub(super) struct Circuit {
    spec: CircuitSpec,
    /// Strands whose first calls failed, since a call last went well.
    failed: Vec<(Duration, Strand)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Duration,
    /// Probes that failed.
    probes: u32,
    probe_at: Duration,
    is_probing: bool,
    /// The next probe is an event that was never called, if there is one: those that failed may be poison.
    wants_fresh: bool,
}

impl Circuit {
    pub(super) fn new(spec: CircuitSpec) -> Self {
        Self { spec, failed: Vec::new(), open: None }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When it opened.
    pub(super) fn open_since(&self) -> Option<Duration> {
        self.open.as_ref().map(|open| open.since)
    }

    /// A call failed that counts; whether that opened it.
    pub(super) fn failed(&mut self, strand: Strand, is_first: bool, now: Duration, pause: Duration) -> bool {
        if self.open.is_some() || !is_first || self.spec.keys == 0 {
            return false;
        }
        self.failed.retain(|(at, known)| now.saturating_sub(*at) <= self.spec.within && *known != strand);
        self.failed.push((now, strand));
        if self.failed.len() < self.spec.keys {
            return false;
        }
        self.failed.clear();
        let probe_at = now + pause;
        self.open = Some(Open { since: now, probes: 0, probe_at, is_probing: false, wants_fresh: true });
        true
    }

    /// A call went well; whether that closed it.
    #[inline]
    pub(super) fn went_well(&mut self) -> bool {
        // Nothing is written where nothing has failed: this comes for every record.
        if self.failed.is_empty() && self.open.is_none() {
            return false;
        }
        self.failed.clear();
        self.open.take().is_some()
    }

    /// A probe is due.
    pub(super) fn may_probe(&self, now: Duration) -> bool {
        self.open.as_ref().is_some_and(|open| !open.is_probing && open.probe_at <= now)
    }

    /// When the next probe is due.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        self.open.as_ref().filter(|open| !open.is_probing).map(|open| open.probe_at)
    }

    pub(super) fn wants_fresh(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.wants_fresh)
    }

    /// A probe is on its way.
    pub(super) fn probing(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_probing = true;
        }
    }

    /// Where events and results wait, results are the next to be probed with: two in turn, one that was never called and one
    /// that was.
    pub(super) fn is_for_results(&self) -> bool {
        self.open.as_ref().is_some_and(|open| (open.probes / 2).is_multiple_of(2))
    }

    /// The probe failed: the next one comes after a pause.
    pub(super) fn probe_failed(&mut self, retry: &Retry, (now, dice): (Duration, f64)) {
        if let Some(open) = &mut self.open {
            open.is_probing = false;
            open.probes = open.probes.saturating_add(1);
            open.probe_at = now + back_off(retry, open.probes.saturating_add(1), dice);
            open.wants_fresh = !open.wants_fresh;
        }
    }

    /// The probe is undecided and will not come back.
    pub(super) fn forget_probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_probing = false;
        }
    }
}
