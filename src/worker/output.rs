//! What a worker writes: the producer, its open transaction, and the pipeline's targets as topics.

use std::time::Duration;

use super::tap::Tap;
use super::ticks::CLOCK_PARTITION;
use super::{ASK_WAIT, Config, Stopped, Supervision};
use crate::kafka::{Commit, Consumer, Error, Origin, Produce, Producer, ProducerConfig, Refusal, TopicIndex};
use crate::model::{Class, Header};
use crate::observe::Meter;
use crate::pipeline::{OutRecord, Target, Writer};

/// How long a flush may take before the cut is given up.
const FLUSH_WAIT: Duration = Duration::from_secs(30);
/// How long reports are waited for when the cut has failed already.
const FLUSH_ANYWAY: Duration = Duration::from_millis(100);

/// The writing side of a worker.
pub struct Outputs {
    producer: Producer,
    is_exactly_once: bool,
    sinks: Vec<TopicIndex>,
    dead_letters: TopicIndex,
    state: Option<TopicIndex>,
    stitch: Option<TopicIndex>,
    late: Option<TopicIndex>,
    /// Of sources that are clocks.
    clocks: Vec<TopicIndex>,
    names: Vec<String>,
    /// A transaction has begun, or (at least once) something was written since the last cut.
    is_open: bool,
    begin_error: Option<Error>,
    bytes: usize,
    /// So many bytes make a cut due however little time has passed: a transaction must fit the client's queue.
    cut_bytes: usize,
    fenced_at: Option<Duration>,
    epoch: u32,
}

/// Writes for one event.
pub struct EventWriter<'a> {
    outputs: &'a mut Outputs,
    origin: Origin,
    meter: &'a mut Meter,
    tap: Option<&'a mut Box<dyn Tap>>,
}

impl Writer for EventWriter<'_> {
    fn write(&mut self, out: &OutRecord<'_>) {
        if let Some(tap) = &mut self.tap
            && out.target != Target::Stitch
        {
            tap.wrote(self.outputs.topic_name(out.target), out);
        }
        if let Target::Sink(sink) = out.target {
            self.meter.emitted(sink, bytes_of(out));
        }
        self.outputs.write(out, self.origin);
    }
}

/// Key and value.
fn bytes_of(out: &OutRecord<'_>) -> usize {
    out.value.map_or(0, <[u8]>::len) + out.key.map_or(0, <[u8]>::len)
}

impl Outputs {
    /// Makes the producer and, exactly once, fences what an earlier run left open. Waits for the
    /// brokers; `None`: told to stop meanwhile.
    pub fn open(config: &Config, supervision: &dyn Supervision) -> Result<Option<Self>, Stopped> {
        let mut outputs = Self::connect(config, 0)?;
        let mut is_said = false;
        while let Err(error) = outputs.init(ASK_WAIT * 5) {
            if error.class() == Class::Fatal {
                return Err(error.into());
            }
            if !is_said {
                tracing::warn!(brokers = config.cluster.brokers(), "waiting for kafka: {error}");
                is_said = true;
            }
            if supervision.pause(super::IDLE_WAIT) {
                return Ok(None);
            }
            if !matches!(error, Error::Away(_)) {
                outputs = Self::connect(config, 0)?;
            }
        }
        Ok(Some(outputs))
    }

    fn connect(config: &Config, epoch: u32) -> Result<Self, Error> {
        let function = &config.function;
        let id = match epoch {
            0 => config.transactional_id(),
            epoch => format!("{}/{epoch}", config.transactional_id()),
        };
        let is_exactly_once = config.is_exactly_once();
        let mut producer = Producer::new(&ProducerConfig {
            cluster: &config.cluster,
            client_id: &config.client_id(),
            transactional_id: is_exactly_once.then_some(&id),
            transaction_timeout: config.transaction_timeout(),
            limits: config.limits,
            settings: &config.producer_settings(),
        })?;
        let mut names: Vec<String> = function.sinks.iter().map(|sink| sink.topic.clone()).collect();
        let sinks = names.iter().map(|topic| producer.topic(topic)).collect::<Result<_, _>>()?;
        let dead_letters = producer.topic(&function.delivery.dead_letter_topic)?;
        names.push(function.delivery.dead_letter_topic.clone());
        let has_state = function.window.is_some();
        let state = has_state.then(|| producer.topic(&function.state_topic)).transpose()?;
        let stitch = function.stitch_topic.as_deref().map(|topic| producer.topic(topic)).transpose()?;
        let late = function.window.as_ref().and_then(|window| window.late_topic.as_deref());
        names.push(late.unwrap_or_default().to_owned());
        let late = late.map(|topic| producer.topic(topic)).transpose()?;
        let clocks = function.sources.iter().filter(|source| source.schedule.is_some());
        let clocks = clocks.map(|clock| producer.topic(&clock.topic)).collect::<Result<_, _>>()?;
        Ok(Self {
            producer,
            clocks,
            is_exactly_once,
            sinks,
            dead_letters,
            state,
            stitch,
            late,
            names,
            is_open: false,
            begin_error: None,
            bytes: 0,
            cut_bytes: usize::try_from(function.memory / 4).unwrap_or(usize::MAX),
            fenced_at: None,
            epoch,
        })
    }

    fn init(&self, wait: Duration) -> Result<(), Error> {
        if self.is_exactly_once { self.producer.init_transactions(wait) } else { Ok(()) }
    }

    /// This producer was fenced. Twice in a minute means that somebody else uses the id too: from the next
    /// [`Outputs::renew`] on, take a new one, and say so.
    pub fn fenced(&mut self, config: &Config) {
        let now = config.clock.now().elapsed;
        let last = self.fenced_at.replace(now);
        if last.is_some_and(|last| now.saturating_sub(last) < Duration::from_secs(60)) {
            self.epoch += 1;
            tracing::error!(
                id = config.transactional_id(),
                epoch = self.epoch,
                "fenced twice in a minute: another process uses this transactional id; taking a new one. \
                 Give each process its own instance id"
            );
        }
    }

    /// Makes a new producer under the same id, which fences the old one.
    pub fn renew(&mut self, config: &Config) -> Result<(), Error> {
        let fresh = Self::connect(config, self.epoch)?;
        *self = Self { fenced_at: self.fenced_at, ..fresh };
        self.init(ASK_WAIT * 5)
    }

    /// A writer for the event at `origin`.
    pub fn writer<'a>(
        &'a mut self,
        origin: Origin,
        meter: &'a mut Meter,
        tap: Option<&'a mut Box<dyn Tap>>,
    ) -> EventWriter<'a> {
        EventWriter { outputs: self, origin, meter, tap }
    }

    fn topic_name(&self, target: Target) -> &str {
        let at = match target {
            Target::Sink(at) => at,
            Target::DeadLetter => self.sinks.len(),
            Target::Late => self.sinks.len() + 1,
            Target::Stitch => return "",
        };
        self.names.get(at).map_or("", String::as_str)
    }

    #[inline]
    fn write(&mut self, out: &OutRecord<'_>, origin: Origin) {
        if !self.is_open {
            self.begin();
        }
        let topic = match out.target {
            Target::Sink(at) => self.sinks.get(at).copied(),
            Target::DeadLetter => Some(self.dead_letters),
            Target::Late => self.late,
            Target::Stitch => self.stitch,
        };
        let Some(topic) = topic else { return };
        self.bytes += bytes_of(out) + 64;
        self.producer.produce(&Produce {
            topic,
            partition: None,
            key: out.key,
            value: out.value,
            headers: out.headers,
            timestamp_ms: out.timestamp_ms,
            origin,
        });
    }

    /// Writes an entry of the state of `partition`; without a value it is gone.
    pub fn write_state(&mut self, partition: i32, origin: Origin, (key, value): (&[u8], Option<&[u8]>)) {
        let Some(topic) = self.state else { return };
        if !self.is_open {
            self.begin();
        }
        self.bytes += key.len() + value.map_or(0, <[u8]>::len) + 64;
        self.producer.produce(&Produce {
            topic,
            partition: Some(partition),
            key: Some(key),
            value,
            headers: &[],
            timestamp_ms: None,
            origin,
        });
    }

    /// Tells a partition of the stitch topic how far source partitions have come.
    pub fn write_tidings(&mut self, partition: i32, origin: Origin, value: &[u8]) {
        let Some(topic) = self.stitch else { return };
        if !self.is_open {
            self.begin();
        }
        self.bytes += value.len() + 64;
        self.producer.produce(&Produce {
            topic,
            partition: Some(partition),
            key: None,
            value: Some(value),
            headers: &[],
            timestamp_ms: None,
            origin,
        });
    }

    /// Writes a tick, key and value, of the clock at this place among the function's clocks.
    pub fn write_tick(&mut self, clock: usize, origin: Origin, (key, value): (&[u8], &[u8]), time_ms: i64) {
        let Some(topic) = self.clocks.get(clock).copied() else { return };
        if !self.is_open {
            self.begin();
        }
        self.bytes += key.len() + value.len() + 64;
        self.producer.produce(&Produce {
            topic,
            partition: Some(CLOCK_PARTITION),
            key: Some(key),
            value: Some(value),
            headers: &[Header { name: "content-type", value: Some(b"application/json") }],
            timestamp_ms: Some(time_ms),
            origin,
        });
    }

    #[cold]
    fn begin(&mut self) {
        self.is_open = true;
        if self.is_exactly_once
            && let Err(error) = self.producer.begin()
        {
            self.begin_error.get_or_insert(error);
        }
    }

    /// Something was written since the last cut.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// So much was written that a cut is due.
    pub fn is_full(&self) -> bool {
        self.bytes > self.cut_bytes || self.producer.has_refusals()
    }

    /// Takes reports without waiting; once a batch.
    pub fn serve(&mut self) {
        self.producer.serve(Duration::ZERO);
    }

    /// Makes everything written and these offsets visible together (exactly once), or makes sure
    /// that everything is written and then commits (at least once).
    pub fn commit(&mut self, commits: &[Commit], consumer: &Consumer) -> Result<(), Error> {
        if self.is_exactly_once && !self.is_open {
            self.begin();
        }
        if let Some(error) = self.begin_error.take() {
            return Err(error);
        }
        // Outputs are on their way to the broker while the offsets are, which takes two of its answers. What was refused
        // names its culprit, whatever else failed because of it.
        let (sent, is_flushed) =
            match self.is_exactly_once.then(|| self.producer.send_offsets(commits, consumer)) {
                None => (Ok(()), self.producer.flush(FLUSH_WAIT)),
                Some(Err(error)) => (Err(error), self.producer.flush(FLUSH_ANYWAY)),
                Some(Ok(mut offsets)) => {
                    let is_flushed = self.producer.flush_while(FLUSH_WAIT, || !offsets.have_failed());
                    (offsets.wait(), is_flushed)
                }
            };
        if let Some(error) = self.producer.fatal() {
            return Err(error.clone());
        }
        if self.producer.has_refusals() {
            return Err(Error::Abort("an output was refused".to_owned()));
        }
        sent?;
        if !is_flushed {
            return Err(Error::Abort("outputs were not acknowledged in time".to_owned()));
        }
        if self.is_exactly_once {
            self.producer.commit()?;
        } else {
            consumer.check_membership()?;
            consumer.commit(commits)?;
        }
        self.close();
        Ok(())
    }

    /// What was refused since the last call.
    pub fn refusals(&mut self) -> Vec<Refusal> {
        self.producer.refusals()
    }

    /// Aborts what is open. An error means that this producer is of no use any more.
    pub fn abort(&mut self) -> Result<(), Error> {
        let is_open = self.is_open;
        self.close();
        self.begin_error = None;
        if self.is_exactly_once && is_open { self.producer.abort() } else { Ok(()) }
    }

    /// Aborts at the end of the worker's life, where an error changes nothing any more.
    pub fn abort_if_open(&mut self) {
        if self.is_open
            && let Err(error) = self.abort()
        {
            tracing::warn!("the open transaction was not aborted: {error}; it ends at its timeout");
        }
    }

    fn close(&mut self) {
        self.is_open = false;
        self.bytes = 0;
    }
}
