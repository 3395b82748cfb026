//! What the workers tell: each event with what came of it, copied and sent to the loop that shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::Signal;
use crate::model::{Function, Record, lend_headers, own_headers};
use crate::pipeline::{OutRecord, Settled, Target};
use crate::runtime::Tapper;
use crate::worker::{Settlement, Tap};

/// One pass of one event through a function.
#[derive(Debug, Clone)]
pub struct Happening {
    /// Which function.
    pub function: Arc<Function>,
    /// The event's record.
    pub record: OwnedRecord,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// How it ended.
    pub settled: Settled,
    /// How long it took.
    pub took: Duration,
    /// What it wrote to its sinks.
    pub outputs: Vec<OwnedRecord>,
}

impl Happening {
    /// The event will not be tried again.
    pub fn is_final(&self) -> bool {
        !matches!(self.settled, Settled::Retry { .. })
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        match &self.settled {
            Settled::DeadLetter { error, .. } => Some(error),
            Settled::Retry { message, .. } | Settled::Stop { message, .. } => Some(message),
            Settled::Ok { .. } | Settled::Skipped | Settled::Filtered => None,
        }
    }
}

/// A record of its own. Of one that was written, partition and offset are not known: -1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch, -1 for none.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    fn read(record: &Record<'_>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: own_headers(record.headers()),
        }
    }

    fn written(topic: &str, out: &OutRecord<'_>) -> Self {
        Self::read(&Record {
            topic,
            partition: -1,
            offset: -1,
            timestamp_ms: out.timestamp_ms.unwrap_or(-1),
            key: out.key,
            value: out.value,
            headers: &out.headers.to_vec(),
        })
    }

    /// Lends the record.
    pub fn lend<R>(&self, to: impl FnOnce(&Record<'_>) -> R) -> R {
        to(&Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &lend_headers(&self.headers),
        })
    }
}

/// How it is told that the sample is through, and how far the workers are then. Clones share it.
#[derive(Clone, Default)]
pub struct Ending(Arc<(AtomicBool, AtomicUsize)>);

impl Ending {
    /// Nothing more will come.
    pub fn begin(&self) {
        self.0.0.store(true, Ordering::SeqCst);
    }

    /// It was begun.
    pub fn has_begun(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Workers that have something open, or may have.
    pub fn open(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    fn add(&self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
    }

    fn take(&self) {
        self.0.1.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes the taps of all workers.
pub fn tapper(signals: SyncSender<Signal>, ending: Ending) -> Tapper {
    Arc::new(move |function: &Function| {
        ending.add();
        Box::new(Listener {
            function: Arc::new(function.clone()),
            outputs: Vec::new(),
            signals: signals.clone(),
            ending: ending.clone(),
            has_ended: false,
        })
    })
}

/// Collects the outputs of the event at hand, which are written before it ends.
struct Listener {
    function: Arc<Function>,
    outputs: Vec<OwnedRecord>,
    signals: SyncSender<Signal>,
    ending: Ending,
    has_ended: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended();
    }
}

impl Listener {
    fn goes_on(&mut self) {
        if std::mem::take(&mut self.has_ended) {
            self.ending.add();
        }
    }

    fn tell(&self, signal: Signal) {
        // Nobody listens any more when the process ends.
        let _ = self.signals.send(signal);
    }
}

impl Tap for Listener {
    fn wrote(&mut self, topic: &str, out: &OutRecord<'_>) {
        // A dead letter is told by how its event ended.
        if out.target != Target::DeadLetter {
            self.outputs.push(OwnedRecord::written(topic, out));
        }
    }

    fn settled(&mut self, settlement: &Settlement<'_>) {
        self.goes_on();
        let outputs = std::mem::take(&mut self.outputs);
        self.tell(Signal::Happened(Box::new(Happening {
            function: Arc::clone(&self.function),
            record: OwnedRecord::read(settlement.record),
            attempt: settlement.attempt,
            settled: settlement.settled.clone(),
            took: settlement.took,
            outputs,
        })));
    }

    fn gave(&mut self) {
        self.goes_on();
        if !self.outputs.is_empty() {
            let outputs = std::mem::take(&mut self.outputs);
            self.tell(Signal::Gave(Arc::clone(&self.function), outputs));
        }
    }

    fn rested(&mut self) {
        self.tell(Signal::Rested);
    }

    fn is_over(&self) -> bool {
        self.ending.has_begun()
    }

    fn ended(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.ending.take();
        }
    }
}
