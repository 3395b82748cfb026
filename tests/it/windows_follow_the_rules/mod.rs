//! Windows against the boundary rules of other systems, case by case: what Apache Kafka Streams, Apache Flink and Apache
//! Beam test themselves with (`data/windows`, Apache-2.0), and what their sources say where they have no case. Where
//! Tidemill differs, the expectation is Tidemill's and says so; ARCHITECTURE.md has the reasons.
//!
//! `Bench` is all that knows how windows are driven, and `Lane` of several sources.

mod cases;
mod rules;
mod stitch_cases;
mod stitches;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidemill::manifest;
use tidemill::model::{DeadLetterReason, Function, Moment, NoHeaders, Record};
use tidemill::pipeline::{Pass, Pipeline, Settled, Target};
use tidemill::window::Windows;

use crate::scene::Recorder;

/// Later than every window of these cases ends.
const FAR: i64 = 1 << 50;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// It is in all its windows but so many.
    In { missed: u64 },
    /// It is a dead letter.
    Refused(DeadLetterReason),
}

const IN_ALL: Placed = Placed::In { missed: 0 };
const LATE: Placed = Placed::Refused(DeadLetterReason::Late);

/// One result of a window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Given {
    key: String,
    bounds: (i64, i64),
    fired: String,
    time: i64,
    /// Which events are in it, counted from 0 as they came; those without a value leave no trace here.
    events: Vec<usize>,
    count: u64,
}

/// A function with a window, and one partition of its source.
struct Bench {
    function: Arc<Function>,
    pipeline: Pipeline,
    windows: Windows,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    written: Recorder,
    events: usize,
}

fn function(window: &str) -> Result<Function, String> {
    let text = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  window: {{{window}, \
         aggregate: {{events: {{op: count}}, which: {{op: sum, field: ''}}}}}}\n  sources: [{{topic: in, format: \
         json}}]\n  sinks: [{{topic: out, format: json}}]\n"
    );
    let functions =
        manifest::parse(Path::new("function.yaml"), &text).map_err(|errors| errors.to_string())?;
    Ok(functions.into_iter().next().unwrap())
}

impl Bench {
    /// Of a window as the manifest has it.
    fn new(window: &str) -> Self {
        let function = Arc::new(function(window).unwrap());
        Self {
            pipeline: Pipeline::new(Arc::clone(&function), None),
            windows: Windows::new(function.window.as_ref().unwrap(), i64::MIN),
            function,
            state: BTreeMap::new(),
            written: Recorder::default(),
            events: 0,
        }
    }

    /// An event comes, and what it makes due is closed.
    fn event(&mut self, key: &str, time: i64) -> Placed {
        // Each event has a bit of its own, so their sum tells which ones it is of.
        let value = (1_u64 << self.events).to_string();
        self.record(Some(key), Some(&value), time)
    }

    fn record(&mut self, key: Option<&str>, value: Option<&str>, time: i64) -> Placed {
        let record = Record {
            topic: "in",
            partition: 0,
            offset: self.events as i64,
            timestamp_ms: time,
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            headers: &NoHeaders,
        };
        self.events += 1;
        let now = Moment { wall_ms: time, elapsed: Duration::ZERO };
        let pass = Pass { source: 0, record: &record, failed: 0, is_probe: false, now };
        let placed = match self.pipeline.gather(&pass, &mut self.windows, &mut self.written) {
            Settled::Ok { .. } => Placed::In { missed: self.pipeline.take_partly_late() },
            Settled::DeadLetter { reason, .. } => Placed::Refused(reason),
            other => panic!("{other:?}"),
        };
        self.close();
        placed
    }

    /// Time comes so far without an event.
    fn watermark(&mut self, time: i64) {
        self.windows.advance_to(time);
        self.close();
    }

    fn close(&mut self) {
        let now = Moment { wall_ms: 0, elapsed: Duration::ZERO };
        let place = (("in", 0), now);
        while self.pipeline.close_next(place, &mut self.windows, &mut self.written) {
            assert!(self.pipeline.given().is_plain());
        }
    }

    /// A cut, and another worker takes over from what it wrote.
    fn restart(&mut self) {
        let state = &mut self.state;
        self.windows.changes(|key, value| {
            match value {
                Some(value) => state.insert(key.to_vec(), value.to_vec()),
                None => state.remove(key),
            };
        });
        let watermark = self.windows.watermark_ms();
        self.windows = Windows::new(self.function.window.as_ref().unwrap(), watermark);
        for (key, value) in &self.state {
            self.windows.restore(key, Some(value));
        }
        self.windows.restored().unwrap();
    }

    /// The results since the last call, in order.
    fn results(&mut self) -> Vec<Given> {
        let written = std::mem::take(&mut self.written.0);
        let to_sinks = written.into_iter().filter(|written| written.target != Target::DeadLetter);
        let given = to_sinks.map(|written| {
            let result: Value = serde_json::from_str(written.text()).unwrap();
            let which = result["which"].as_u64().unwrap();
            let key = result["key"].as_str().unwrap().to_owned();
            let bound = |name: &str| result["window"][name].as_i64().unwrap();
            assert_eq!(written.key.as_deref(), Some(key.as_bytes()));
            Given {
                key,
                bounds: (bound("start"), bound("end")),
                fired: result["window"]["fired"].as_str().unwrap().to_owned(),
                time: written.timestamp_ms.unwrap(),
                events: (0..64).filter(|bit| which >> bit & 1 == 1).collect(),
                count: result["events"].as_u64().unwrap(),
            }
        });
        given.collect()
    }

    /// The bounds of the results since the last call, by key and start.
    fn bounds(&mut self) -> Vec<(i64, i64)> {
        let mut given = self.results();
        given.sort();
        given.into_iter().map(|given| given.bounds).collect()
    }
}
