//! Hearing the group: partitions come and go.

use std::time::Duration;

use super::restore::{self, Progress, Restoring};
use super::states::Takeover;
use super::{ADMITTED_WITHIN, ASK_WAIT, IDLE_WAIT, Stopped, Worker};
use crate::kafka::{Committed, Error, GroupEvent, Partition};
use crate::model::{Class, GroupProtocol, StartAt};
use crate::observe::Rebalance;
use crate::observe::events::{LanePlaced, Rebalanced, StateRestored};
use crate::pipeline::Checkpoint;
use crate::window::Windows;

/// A partition that was given: its source, where its owner stood, and whether it never had one.
type Opened = (Partition, usize, Checkpoint, bool);

/// How long calls of partitions that are to be let go may take to end; then others make them again.
const REVOKE_WITHIN: Duration = Duration::from_secs(1);
/// From one heartbeat to the next while partitions are being shared out.
const HURRY_EVERY: Duration = Duration::from_millis(50);
/// The same while there is something to do.
const HEAR_EVERY: Duration = Duration::from_secs(1);
/// How long who leaves waits until it has joined.
const JOINED_WITHIN: Duration = Duration::from_secs(2);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Worker {
    /// Hears everything the group has said so far.
    pub(super) fn hear(&mut self) -> Result<(), Stopped> {
        while let Some(event) = self.consumer.group_event() {
            self.answer(event)?;
        }
        Ok(())
    }

    /// Hears the group for at least so long, doing nothing else.
    pub(super) fn hear_for(&mut self, time: Duration) -> Result<(), Stopped> {
        if let Some(event) = self.consumer.group_event_within(time) {
            self.answer(event)?;
        }
        Ok(())
    }

    /// By KIP-848 a member that is to have no partition is told nothing: it is assigned when it is a member.
    pub(super) fn await_admission(&mut self) -> Result<(), Stopped> {
        if self.is_assigned || self.config.protocol != GroupProtocol::Consumer {
            return Ok(());
        }
        let waited = self.now().elapsed.saturating_sub(self.asked_at);
        self.is_assigned = self.consumer.check_membership().is_ok();
        let is_refused = !self.is_assigned && waited >= ADMITTED_WITHIN && !self.contact.is_doubtful();
        match is_refused && self.config.may_change_protocol {
            true => Err(Stopped::NotAdmitted { waited }),
            false => Ok(()),
        }
    }

    /// Whoever leaves while it joins by KIP-848 stays a member to the broker, with partitions that nobody reads, until its
    /// session ends.
    pub(super) fn await_membership(&mut self) {
        let until = self.now().elapsed + JOINED_WITHIN;
        while self.config.protocol == GroupProtocol::Consumer
            && self.consumer.check_membership().is_err()
            && self.now().elapsed < until
        {
            if let Some(GroupEvent::Assign(_)) = self.consumer.group_event_within(LOOK_EVERY) {
                // What is left is told by the close.
                let _ = self.consumer.assign(&[]);
            }
        }
    }

    /// By KIP-848 a member hears of changes with its next heartbeat, for which the brokers leave it 5 s; subscribing to
    /// the same again makes it send one at once.
    pub(super) fn hurry(&mut self) -> Result<(), Stopped> {
        let now = self.now().elapsed;
        let is_in_haste = self.supervision.is_in_haste();
        // What is busy talks to the brokers all the time; others are not to wait for it when they join.
        let is_due = (is_in_haste || self.idle_since.is_none()) && now >= self.hurry_at;
        if self.config.protocol != GroupProtocol::Consumer || !is_due {
            return Ok(());
        }
        self.hurry_at = now + if is_in_haste { HURRY_EVERY } else { HEAR_EVERY };
        Ok(self.consumer.subscribe(&self.config.function.subscribed_topics().collect::<Vec<_>>())?)
    }

    fn answer(&mut self, event: GroupEvent) -> Result<(), Stopped> {
        self.heard += 1;
        match event {
            GroupEvent::Assign(partitions) => {
                self.tell(Rebalance::Assigned, &partitions);
                self.is_assigned = true;
                // Answered at once with none of them: until then librdkafka reads nothing at all, and the
                // newcomers may have to wait for a dead owner's transaction.
                self.stand_firm()?;
                self.consumer.assign(&[])?;
                self.read_on()?;
                self.arriving.extend(partitions);
                self.count_at_once();
                self.ask_at = self.now().elapsed;
                Ok(())
            }
            GroupEvent::Revoke { partitions, is_lost } => {
                self.tell(if is_lost { Rebalance::Lost } else { Rebalance::Revoked }, &partitions);
                self.let_go(&self.with_led(partitions), is_lost)
            }
            GroupEvent::Trouble(error @ Error::Fatal(_)) => Err(error.into()),
            GroupEvent::Trouble(error) if error.class() == Class::Fatal => Err(error.into()),
            GroupEvent::Trouble(error) => {
                tracing::debug!("kafka client: {error}");
                Ok(())
            }
            GroupEvent::Away(error) => {
                tracing::debug!("kafka client: {error}");
                self.doubt();
                Ok(())
            }
        }
    }

    /// Commits before it releases, unless the partitions are somebody else's already.
    fn let_go(&mut self, partitions: &[Partition], is_lost: bool) -> Result<(), Stopped> {
        let is_mine = |lane: &super::Lane| partitions.contains(&lane.partition);
        if !is_lost && self.lanes.iter().any(is_mine) {
            self.finish_calls(REVOKE_WITHIN)?;
        }
        let holds_work = self.is_dirty() && self.recovery.is_none();
        if holds_work && is_lost {
            self.fail(Error::Stale("the partitions were lost".to_owned()))?;
        } else if holds_work && self.lanes.iter().any(is_mine) {
            self.cut()?;
        }
        self.arriving.retain(|partition| !partitions.contains(partition));
        if self.arriving.is_empty() {
            // Nobody here wants what is being restored any more.
            self.restoring = None;
        }
        for lane in self.lanes.iter().filter(|lane| partitions.contains(&lane.partition)) {
            self.desk.forget(lane.track.lane);
            if self.recovery.is_none() {
                self.meter.released(lane.track.in_flight() as u64);
            }
        }
        let is_paused = |lane: &&super::Lane| lane.is_paused && partitions.contains(&lane.partition);
        let paused: Vec<_> = self.lanes.iter().filter(is_paused).map(|lane| lane.partition.clone()).collect();
        if !paused.is_empty() {
            // librdkafka would still hold it paused when it comes back.
            self.consumer.resume(&paused)?;
        }
        self.lanes.close(partitions);
        if let Some(states) = &mut self.states {
            states.close(partitions);
        }
        self.gathers.close(partitions);
        self.share_budget();
        self.stand_firm()?;
        self.consumer.release(partitions)?;
        self.read_on()
    }

    /// Tells librdkafka where each lane that stays goes on, before the group is answered.
    pub(super) fn stand_firm(&mut self) -> Result<(), Stopped> {
        let starts: Vec<_> =
            self.lanes.iter().map(|lane| (lane.partition.clone(), lane.track.read_to)).collect();
        match self.consumer.rewind(&starts, ASK_WAIT) {
            Err(error) if self.recovery.is_none() => self.fail(error),
            _ => Ok(()),
        }
    }

    /// Once the group is answered: while it waited, librdkafka had paused every lane, and where nothing is left to fetch its
    /// thread for a broker sleeps for up to a second. The end of a pause does not wake it; going to a place does.
    fn read_on(&mut self) -> Result<(), Stopped> {
        self.stand_firm()
    }

    fn tell(&mut self, kind: Rebalance, partitions: &[Partition]) {
        let lanes: Vec<_> =
            partitions.iter().map(|partition| (partition.topic.as_str(), partition.partition)).collect();
        Rebalanced { kind, lanes: &lanes }.emit(&mut self.meter);
    }

    /// Opens lanes for partitions that were given, where the group committed them last.
    pub(super) fn take_over(&mut self) -> Result<(), Stopped> {
        let at = self.now();
        let now = at.elapsed;
        if now < self.ask_at || !self.has_tables() {
            return Ok(());
        }
        // Lanes that work already must not wait for those that come.
        let (wait, pause) =
            if self.lanes.is_empty() { (ASK_WAIT, IDLE_WAIT) } else { (ASK_WAIT / 10, ASK_WAIT / 2) };
        self.ask_at = now + pause;
        if !self.take_along() {
            tracing::debug!("waiting for the sources' partitions");
            return Ok(());
        }
        let committed = match self.consumer.committed(&self.arriving, wait) {
            Ok(committed) => committed,
            // A dead owner's open transaction, a rebalance, or brokers away: asked again later.
            Err(error) if error.class() != Class::Fatal => {
                tracing::debug!("waiting for committed offsets: {error}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut opened = Vec::with_capacity(committed.len());
        for found in committed {
            let Some(source) = self.pipeline.source_of(&found.partition.topic) else {
                continue;
            };
            let Some((checkpoint, is_new)) = self.checkpoint_of(&found, source)? else {
                return Ok(());
            };
            opened.push((found.partition, source, checkpoint, is_new));
        }
        // Whatever came or went while the brokers were asked, the answer may be out of date.
        let heard = self.heard;
        self.hear()?;
        if self.heard != heard {
            return Ok(());
        }
        let Some(restored) = self.restored(&opened)? else { return Ok(()) };
        let starts: Vec<_> = opened
            .iter()
            .map(|(partition, _, checkpoint, _)| (partition.clone(), checkpoint.offset()))
            .collect();
        self.stand_firm()?;
        self.consumer.assign(&starts)?;
        self.arriving.clear();
        if let Some(states) = &mut self.states {
            for (partition, windows) in restored {
                let deaths = self.config.deaths_of_results(partition);
                self.pipeline.suspect(deaths.keys().copied());
                let is_it = |(of, ..): &&Opened| states.is_of(of) && of.partition == partition;
                let wake_at =
                    opened.iter().find(is_it).and_then(|(_, _, checkpoint, _)| checkpoint.wake_at_ms);
                let wake_at_ms = wake_at.and_then(|at| i64::try_from(at).ok());
                states.open(partition, windows, Takeover { wake_at_ms, deaths }, at);
            }
        }
        for (partition, source, checkpoint, is_new) in opened {
            LanePlaced {
                topic: &partition.topic,
                partition: partition.partition,
                offset: checkpoint.offset(),
                finished_beyond: (checkpoint.ledger.next() - checkpoint.offset()).unsigned_abs(),
            }
            .emit(&mut self.meter);
            // A start that was only just resolved is committed with the next cut, so it is resolved once.
            let lane = self.lanes.open(self.desk.policy(), partition, source, (checkpoint, self.epoch));
            lane.track.is_dirty = is_new;
            if self.config.function.has_window() {
                lane.track.places_events(self.desk.policy());
            }
            lane.deaths = self.config.deaths(&lane.partition, lane.committed);
        }
        self.share_budget();
        self.await_tables();
        Ok(())
    }

    /// The windows of the partitions that are arriving; `None`: they are still being restored.
    fn restored(&mut self, opened: &[Opened]) -> Result<Option<Vec<(i32, Windows)>>, Stopped> {
        let Some(states) = &self.states else { return Ok(Some(Vec::new())) };
        let partitions = || {
            let gathered = opened.iter().filter(|(partition, ..)| states.is_of(partition));
            gathered.map(|(partition, _, checkpoint, _)| (partition.partition, checkpoint))
        };
        if partitions().next().is_none() {
            return Ok(Some(Vec::new()));
        }
        let Some(restoring) = self.restoring.take().filter(|restoring| restoring.is_for(partitions())) else {
            let source = restore::Source {
                cluster: &self.config.cluster,
                topic: &self.config.function.state_topic,
                spec: states.spec(),
                sources: states.sources(),
                clock: &self.config.clock,
            };
            self.restoring = Some(Restoring::start(&source, partitions())?);
            return Ok(None);
        };
        match restoring.progress()? {
            Progress::Done(windows, entries, took) => {
                StateRestored { partitions: windows.len(), entries, took }.emit(&mut self.meter);
                return Ok(Some(windows));
            }
            Progress::Going => self.restoring = Some(restoring),
            Progress::Again => {}
        }
        Ok(None)
    }

    /// This worker may make the part of the function's calls that it has of the partitions.
    fn share_budget(&mut self) {
        let now = self.now().elapsed;
        let Some(budget) = &mut self.budget else { return };
        let sources = self.config.function.sources.len();
        let shared = self.config.function.shared_sources();
        let counts = shared.map(|source| self.consumer.partitions(&source.topic, ASK_WAIT));
        // Brokers that do not answer: as if all of them were this worker's, until the next change.
        let all = counts.map(|partitions| partitions.map_or(0, |partitions| partitions.len())).sum();
        // Those of the redrive topic go along.
        let mine = self.lanes.iter().filter(|lane| lane.source < sources).count();
        budget.share(mine, all, now);
    }

    /// `None`: the brokers could not say yet.
    fn checkpoint_of(&self, found: &Committed, source: usize) -> Result<Option<(Checkpoint, bool)>, Stopped> {
        if let Some(offset) = found.offset {
            let checkpoint = Checkpoint::read(offset, &found.metadata)
                .map_err(|cause| Stopped::Metadata { partition: found.partition.to_string(), cause })?;
            return Ok(Some((checkpoint, false)));
        }
        // What was redriven before anybody looked is not to be missed.
        let start_at =
            self.config.function.sources.get(source).map_or(StartAt::Earliest, |source| source.start_at);
        match super::start::resolve(&self.consumer, &found.partition, start_at) {
            Ok(offset) => {
                tracing::info!(partition = %found.partition, offset, "no committed offset: start resolved");
                Ok(Some((Checkpoint::fresh(offset), true)))
            }
            Err(error) if error.class() != Class::Fatal => {
                tracing::debug!("waiting for the start offset: {error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
