//! After something went wrong between two cuts: one way back, whatever it was.
//!
//! The transaction is aborted, or its producer dropped and a new one made under the same id, which
//! fences the old. Then what is committed is fetched from the group. A commit of unknown outcome shows
//! there: the lane's cut number is one higher if it happened. Every lane is rewound to what is
//! committed, and the loop goes on. While the brokers are away this is tried again and again, and the
//! group is heard in between.

use std::time::Duration;

use super::{ASK_WAIT, Stopped, Worker};
use crate::kafka::{Error, Partition};
use crate::model::Class;
use crate::observe::Phase;
use crate::observe::events::{CutAborted, CutCommitted};
use crate::pipeline::Checkpoint;

/// What is still to be done.
#[derive(Debug)]
pub struct Recovery {
    /// When it began, on the clock's monotonic time.
    pub began: Duration,
    /// What went wrong.
    pub cause: Error,
    /// The producer is of no use any more.
    pub needs_producer: bool,
}

impl Worker {
    /// One try; still in recovery afterwards if it failed.
    pub(super) fn recover(&mut self) -> Result<(), Stopped> {
        self.report.is_at(Phase::Recover);
        match self.try_recover() {
            Ok(()) => {
                self.recovery = None;
                self.regained();
                Ok(())
            }
            Err(Stopped::Kafka(error)) if error.class() != Class::Fatal => {
                self.lost(&error);
                // The ask itself waited; an answer that came at once must not make a busy loop.
                self.hear_for(super::IDLE_WAIT)
            }
            Err(stopped) => Err(stopped),
        }
    }

    fn try_recover(&mut self) -> Result<(), Stopped> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        if recovery.needs_producer {
            self.outputs.renew(&self.config)?;
            recovery.needs_producer = false;
        }
        let partitions: Vec<Partition> = self.lanes.iter().map(|lane| lane.partition.clone()).collect();
        if partitions.is_empty() {
            self.undone();
            return Ok(());
        }
        let committed = self.consumer.committed(&partitions, ASK_WAIT)?;
        let mut fresh = Vec::with_capacity(committed.len());
        for found in committed {
            let Some(lane) = self.lanes.find(&found.partition.topic, found.partition.partition) else {
                continue;
            };
            let checkpoint = match found.offset {
                Some(offset) => Checkpoint::read(offset, &found.metadata)
                    .map_err(|cause| Stopped::Metadata { partition: lane.partition.to_string(), cause })?,
                // Nothing committed yet: where the lane began.
                None => Checkpoint::fresh(lane.committed),
            };
            fresh.push((found.partition, checkpoint));
        }
        let starts: Vec<_> =
            fresh.iter().map(|(partition, checkpoint)| (partition.clone(), checkpoint.offset())).collect();
        self.consumer.rewind(&starts, ASK_WAIT)?;
        // All lanes of a cut are committed together, so one that moved tells for all.
        let has_happened = fresh.iter().any(|(partition, checkpoint)| {
            self.lanes
                .find(&partition.topic, partition.partition)
                .is_some_and(|lane| lane.track.is_dirty && checkpoint.cut == lane.track.checkpoint.cut + 1)
        });
        if has_happened {
            tracing::info!("the cut was committed all the same");
            let took = self.since_failure();
            self.trace_cut(took, true);
            CutCommitted { took }.emit(&mut self.meter);
            self.states_are_committed()?;
            self.ticks_are_made();
        } else {
            self.undone();
        }
        self.epoch = self.epoch.wrapping_add(1);
        for (partition, checkpoint) in fresh {
            if let Some(lane) = self.lanes.find(&partition.topic, partition.partition) {
                lane.committed = checkpoint.offset();
                self.desk.rewind(&mut lane.track, checkpoint, self.epoch);
                lane.deaths = self.config.deaths(&lane.partition, lane.committed);
                self.suspects.settle(&lane.partition, lane.committed);
            }
        }
        self.go_on_reading()?;
        Ok(())
    }

    fn undone(&mut self) {
        if let Some(states) = &mut self.states {
            states.rolled_back();
            let config = &self.config;
            states.recount_deaths(|partition| config.deaths_of_results(partition));
        }
        self.gathers.rolled_back();
        self.sent = 0;
        self.ticks.rolled_back();
        let took = self.since_failure();
        self.trace_cut(took, false);
        if let Some(recovery) = &self.recovery {
            CutAborted { took, reason: &recovery.cause }.emit(&mut self.meter);
        }
    }

    fn since_failure(&self) -> Duration {
        let now = self.now().elapsed;
        self.recovery.as_ref().map_or(Duration::ZERO, |recovery| now.saturating_sub(recovery.began))
    }
}
