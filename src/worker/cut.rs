//! The cut: the moment at which outputs, dead letters and offsets become visible together.

use super::recover::Recovery;
use super::{Stopped, Worker};
use crate::kafka::{Commit, Error, Partition};
use crate::observe::Phase;
use crate::observe::events::{CutCommitted, Fenced};

impl Worker {
    /// Closes what was done since the last cut. When that fails, the work is undone and the worker is
    /// in recovery afterwards; an error is only what nothing can be done about.
    pub(super) fn cut(&mut self) -> Result<(), Stopped> {
        let began = self.now();
        self.report.is_at(Phase::Cut);
        self.write_state();
        let commits = self.commits();
        if commits.is_empty() {
            // Outputs of lanes that have gone: nothing that fences a zombie could be committed with them.
            if self.outputs.is_open() {
                self.fail(Error::Stale("the lanes of these outputs are gone".to_owned()))?;
            }
            return Ok(());
        }
        let has_outlasted = self.pace.age(began.elapsed) > self.config.transaction_timeout();
        if let Err(error) = self.outputs.commit(&commits, &self.consumer) {
            // A transaction begins with the first output. Alone, that is after the long call and not before it.
            for lane in self.lanes.iter_mut().filter(|lane| has_outlasted && lane.track.is_dirty) {
                lane.alone_until = lane.track.checkpoint.ledger.next();
            }
            return self.fail(error);
        }
        let now = self.now();
        let took = now.elapsed.saturating_sub(began.elapsed);
        for lane in self.lanes.iter_mut().filter(|lane| lane.track.is_dirty) {
            lane.track.committed();
            lane.committed = lane.track.checkpoint.offset();
            self.suspects.settle(&lane.partition, lane.committed);
            if let Some(notes) = self.config.notes.as_ref().filter(|_| !lane.deadly.is_empty()) {
                let Partition { topic, partition } = &lane.partition;
                let counted: Vec<i64> = lane.deadly.iter().copied().collect();
                let function = self.config.function.name.to_string();
                notes.settle(&function, (topic, *partition), lane.committed, &counted);
                lane.deadly.retain(|offset| *offset >= lane.committed);
            }
        }
        self.must_cut = false;
        self.pace.cut(now.elapsed, took);
        self.last_cut_ms = Some(now.wall_ms);
        self.trace_cut(took, true);
        CutCommitted { took }.emit(&mut self.meter);
        self.states_are_committed()?;
        self.trim();
        self.ticks_are_made();
        if let Some(tap) = &mut self.tap
            && self.consumer.at_hand() == 0
            && (self.sent <= 0 || self.config.function.workers > 1)
        {
            tap.rested();
        }
        Ok(())
    }

    /// Offset and metadata of each lane that moved or was written for: without an offset in the
    /// transaction nothing would fence a zombie.
    fn commits(&self) -> Vec<Commit> {
        self.lanes
            .iter()
            .filter(|lane| lane.track.is_dirty)
            .map(|lane| {
                let mut checkpoint = lane.track.checkpoint.clone();
                checkpoint.cut += 1;
                Commit {
                    partition: lane.partition.clone(),
                    offset: checkpoint.offset(),
                    metadata: checkpoint.metadata(),
                }
            })
            .collect()
    }

    /// Undoes what was done since the last cut, because of `error`.
    pub(super) fn fail(&mut self, error: Error) -> Result<(), Stopped> {
        self.report.is_at(Phase::Recover);
        self.accuse()?;
        let aborted = match error {
            Error::Refused(_) | Error::Config(_) => return Err(error.into()),
            Error::Fenced(_) | Error::Fatal(_) | Error::Unknown(_) => Err(error.clone()),
            _ => self.outputs.abort(),
        };
        let began = self.now().elapsed;
        // Often it is the abort that tells: what the broker refused before looks like any refusal. A transaction that
        // has timed out, because brokers were away or a call took long, was fenced by the broker itself.
        let has_outlasted = self.pace.age(began) > self.config.transaction_timeout();
        if matches!(aborted, Err(Error::Fenced(_))) && !has_outlasted {
            Fenced { transactional_id: &self.config.transactional_id() }.emit(&mut self.meter);
            self.outputs.fenced(&self.config);
        }
        let needs_producer = aborted.is_err();
        self.recovery = Some(Recovery { began, cause: error, needs_producer });
        self.must_cut = false;
        Ok(())
    }

    /// Finds the events whose outputs were refused.
    fn accuse(&mut self) -> Result<(), Stopped> {
        let (refused, put_off): (Vec<_>, Vec<_>) =
            self.outputs.refusals().into_iter().partition(|refusal| refusal.is_final);
        // A topic that is gone or a broker that is away is no event's fault: tried again, and said.
        if let Some(first) = put_off.first() {
            tracing::warn!(
                topic = first.topic,
                outputs = put_off.len(),
                "outputs not taken: {}",
                first.reason
            );
        }
        for refusal in refused {
            let Some(lane) = self.lanes.by_number(refusal.origin.lane()) else {
                continue;
            };
            if refusal.origin.is_of_no_record() {
                return Err(Stopped::Refused { topic: refusal.topic, reason: refusal.reason });
            }
            let offset = refusal.origin.offset();
            if refusal.topic == self.config.function.delivery.dead_letter_topic {
                return Err(Stopped::DeadLetter {
                    event: format!("{}@{offset}", lane.partition),
                    topic: refusal.topic,
                    reason: refusal.reason,
                });
            }
            let reason = format!("topic {} refused an output: {}", refusal.topic, refusal.reason);
            tracing::warn!(partition = %lane.partition, offset, "{reason}");
            self.suspects.accuse(&lane.partition, offset, &reason);
        }
        Ok(())
    }
}
