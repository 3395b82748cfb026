//! The loop of `dev`: feeds, shows, hears keys and what was saved. It waits for one thing alone, the next
//! signal, and for that no longer than until the next event is due.

use std::collections::BTreeSet;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::display::Display;
use super::engine::Engine;
use super::failed::Failed;
use super::feed::{Fed, Feed, Samples};
use super::flow::Flow;
use super::keys::{self, Key, Keys};
use super::line::short;
use super::place::Place;
use super::tap::{Happening, OwnedRecord};
use super::totals::{Totals, counted};
use super::watch::{Saved, Watch};
use super::workshop::Workshop;
use super::{DevArgs, Signal};
use crate::manifest;
use crate::model::{Clock as _, Function, SystemClock};
use crate::plugin::BuildError;
use crate::runtime::{Handlers, Stop};

/// The longest the loop waits for a signal.
const LOOK: Duration = Duration::from_millis(25);
/// When it is worth telling what functions wait for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long functions may take to make room for changed ones.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// What a session is made of.
pub struct Parts {
    /// Where things are shown.
    pub display: Display,
    /// Which broker.
    pub place: Place,
    /// What runs the functions.
    pub engine: Engine,
    /// Where failed events are kept.
    pub failed: Failed,
    /// The process shall end.
    pub quit: Stop,
    /// For threads that tell something.
    pub sender: SyncSender<Signal>,
    /// What they tell.
    pub signals: Receiver<Signal>,
}

/// One run of `dev`.
pub struct Session {
    args: DevArgs,
    /// Before the broker that it writes to, so that it is dropped before.
    feed: Feed,
    parts: Parts,
    samples: Samples,
    flow: Flow,
    totals: Totals,
    last: Option<OwnedRecord>,
    watch: Option<Watch>,
    /// The sample is fed once the functions are ready.
    is_fed: bool,
    /// The last event of the sample was sent; to be told when it is through.
    tells_end: bool,
    /// A worker has cut everything since the last event.
    is_rested: bool,
    is_building: bool,
    /// Saved while a build was running.
    saved: Saved,
    /// Functions of a changed manifest, to be started after the build.
    changed: Option<Vec<Function>>,
    waits: Option<String>,
    stopped: BTreeSet<String>,
    has_failed: bool,
}

impl Session {
    /// Makes topics and starts the functions.
    pub fn begin(
        args: DevArgs,
        functions: Vec<Function>,
        gap: Duration,
        mut parts: Parts,
    ) -> anyhow::Result<Self> {
        let limit_bytes = parts.place.limit_bytes();
        let feed = Feed::new(&parts.place.cluster(), gap, limit_bytes).context("the feed's producer")?;
        greet(&mut parts)?;
        let functions: Vec<_> = functions.into_iter().map(|function| parts.place.fit(function)).collect();
        let functions = parts.engine.load(functions)?;
        let mut session = Self {
            args,
            feed,
            parts,
            samples: Samples::default(),
            flow: Flow::default(),
            totals: Totals::default(),
            last: None,
            watch: None,
            is_fed: false,
            tells_end: false,
            is_rested: true,
            is_building: false,
            saved: Saved::default(),
            changed: None,
            waits: None,
            stopped: BTreeSet::new(),
            has_failed: false,
        };
        session.start(functions)?;
        Ok(session)
    }

    fn start(&mut self, functions: Vec<(Arc<Function>, Handlers)>) -> anyhow::Result<()> {
        for (function, _) in &functions {
            for topic in self.parts.place.make_topics(function)? {
                let text = format!(
                    "made topic {topic}, which did not exist; `run` would wait for a source and refuse a sink"
                );
                self.parts.display.say("topic", &text, json!({ "topic": topic }))?;
            }
        }
        self.parts.display.names_functions = functions.len() > 1;
        for (function, _) in &functions {
            introduce(function, &mut self.parts.display)?;
        }
        self.parts.engine.start(functions)?;
        let functions: Vec<_> = self.parts.engine.functions().cloned().collect();
        self.samples = Samples::of(&functions, self.args.sample.as_deref());
        self.flow = Flow::new(functions.iter().map(AsRef::as_ref));
        self.stopped.clear();
        if !self.args.once {
            let functions = functions.iter().map(AsRef::as_ref);
            self.watch = Some(Watch::start(functions, self.parts.sender.clone())?);
        }
        Ok(())
    }

    /// Until the sample is through (`--once`) or somebody ends it.
    pub fn run(mut self) -> anyhow::Result<ExitCode> {
        let keys = if self.args.once { None } else { Keys::listen(self.parts.sender.clone()) };
        if keys.is_some() {
            self.parts.display.say("keys", keys::HELP, json!({}))?;
        }
        let result = self.turn();
        // Whatever comes now, the terminal is as it was and nobody is sent to this broker.
        drop(keys);
        self.parts.place.forget_address();
        result.and(self.finish())?;
        self.parts.display.totals(&self.totals)?;
        Ok(if self.has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        while !self.parts.quit.is_set() && !self.parts.display.is_closed {
            self.hear_for(LOOK)?;
            self.notice_stopped()?;
            if self.parts.engine.is_finished() {
                self.has_failed = true;
                return Ok(());
            }
            if self.is_fed || self.is_ready()? {
                self.feed()?;
            }
            let is_through = self.is_through();
            if is_through && self.args.once && self.is_rested {
                match self.parts.engine.has_ended() {
                    // State on a real broker is not the sample's alone.
                    None if self.parts.place.is_embedded() => self.parts.engine.end(),
                    Some(false) => {}
                    None | Some(true) => {
                        // What was told before that may say that there is more.
                        self.hear_for(Duration::ZERO)?;
                        let has_ended = self.parts.engine.has_ended() != Some(false);
                        if self.is_through() && self.is_rested && has_ended {
                            return Ok(());
                        }
                    }
                }
            }
            if is_through && std::mem::take(&mut self.tells_end) {
                let text = "the sample is through; waiting for more events";
                self.parts.display.say("through", text, json!({}))?;
            }
        }
        Ok(())
    }

    fn is_through(&self) -> bool {
        self.is_fed && self.feed.is_empty() && self.flow.is_through()
    }

    /// Takes what was told within a while: at least one look, and then all that is there.
    fn hear_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let mut next = self.parts.signals.recv_timeout(time).ok();
        while let Some(signal) = next {
            self.hear(signal)?;
            next = self.parts.signals.try_recv().ok();
        }
        Ok(())
    }

    fn hear(&mut self, signal: Signal) -> anyhow::Result<()> {
        match signal {
            Signal::Happened(happening) => self.happened(&happening),
            Signal::Gave(function, outputs) => {
                self.is_rested = false;
                self.totals.add_outputs(&outputs);
                self.flow.wrote(&outputs);
                Ok(self.parts.display.gave(&function, &outputs)?)
            }
            Signal::Rested => {
                self.is_rested = true;
                Ok(())
            }
            Signal::Key(key) => self.key(key),
            Signal::Saved(saved) => self.saved(saved),
            Signal::Built(result, took) => self.built(result, took),
        }
    }

    fn happened(&mut self, happening: &Happening) -> anyhow::Result<()> {
        self.is_rested = false;
        self.totals.add(happening);
        self.flow.happened(happening);
        self.last = Some(happening.record.clone());
        // Once an event: the command does not change from attempt to attempt.
        let is_first = happening.attempt == 1 || happening.is_final();
        let invoke = happening.failure().filter(|_| is_first).map(|_| self.parts.failed.invoke(happening));
        let now_ms = self.parts.engine.clock().now().wall_ms;
        Ok(self.parts.display.event(happening, now_ms, invoke.as_deref())?)
    }

    /// The functions take events; says what they wait for if that takes long.
    fn is_ready(&mut self) -> anyhow::Result<bool> {
        let waits = self.parts.engine.waits_for();
        if waits.is_empty() {
            self.read_sample()?;
            return Ok(true);
        }
        let waits = waits.join("; ");
        if self.parts.engine.elapsed() > PATIENCE && self.waits.as_ref() != Some(&waits) {
            self.parts.display.say("waiting", &format!("waiting: {waits}"), json!({ "for": waits }))?;
            self.waits = Some(waits);
        }
        Ok(false)
    }

    fn feed(&mut self) -> anyhow::Result<()> {
        let now = self.parts.engine.elapsed();
        self.tells_end |= self.feed.turn(now, &mut self.flow)? == Fed::Last && !self.args.once;
        for refusal in self.feed.refusals(&mut self.flow) {
            self.has_failed = true;
            self.parts.display.complain("refused", &refusal, json!({ "error": refusal }))?;
        }
        Ok(())
    }

    /// Reads the sample as it is now, to be fed.
    fn read_sample(&mut self) -> anyhow::Result<()> {
        self.is_fed = true;
        let (events, problems) = self.samples.read();
        for problem in &problems {
            self.has_failed |= self.args.once;
            self.parts.display.complain("sample", problem, json!({ "error": problem }))?;
        }
        let files: Vec<_> = self.samples.files().map(|file| file.display().to_string()).collect();
        let count = events.len() as u64;
        let text = match files.as_slice() {
            [] => {
                "no sample.jsonl beside the manifest: write events with `tidemill produce TOPIC`".to_owned()
            }
            files => format!("feeding {} of {}", counted(count, "event"), files.join(", ")),
        };
        self.has_failed |= self.args.once && files.is_empty();
        self.parts.display.say("feeding", &text, json!({ "events": count, "files": files }))?;
        self.feed.add(events);
        Ok(())
    }

    fn key(&mut self, key: Key) -> anyhow::Result<()> {
        match key {
            Key::Quit => self.parts.quit.set(),
            Key::Help => self.parts.display.say("keys", keys::HELP, json!({}))?,
            Key::Pause => {
                self.feed.is_paused = !self.feed.is_paused;
                let text = if self.feed.is_paused { "paused; p goes on" } else { "goes on" };
                let is_paused = self.feed.is_paused;
                self.parts.display.say("pause", text, json!({ "paused": is_paused }))?;
            }
            Key::Feed if self.is_fed => self.read_sample()?,
            Key::Feed => {}
            Key::Redeliver => match &self.last {
                Some(record) => self.feed.redeliver(record, &mut self.flow)?,
                None => self.parts.display.say("redeliver", "no event came yet", json!({}))?,
            },
        }
        Ok(())
    }

    fn saved(&mut self, saved: Saved) -> anyhow::Result<()> {
        if self.is_building {
            self.saved = Saved {
                plugin: self.saved.plugin || saved.plugin,
                manifest: self.saved.manifest || saved.manifest,
            };
            return Ok(());
        }
        if saved.manifest {
            match manifest::load(std::slice::from_ref(&self.args.dir)) {
                Err(errors) => {
                    let text = format!("{errors}\nthe manifest is not taken over; the old one goes on");
                    let error = errors.to_string();
                    self.parts.display.complain("manifest", &text, json!({ "error": error }))?;
                }
                Ok(functions) => {
                    let place = &self.parts.place;
                    let functions: Vec<_> =
                        functions.into_iter().map(|function| place.fit(function)).collect();
                    let is_same = functions.iter().eq(self.parts.engine.functions().map(AsRef::as_ref));
                    self.changed = (!is_same).then_some(functions);
                }
            }
        }
        if saved.plugin || self.changed.is_some() {
            self.build()?;
        }
        Ok(())
    }

    fn build(&mut self) -> anyhow::Result<()> {
        self.is_building = true;
        let workshop = match &self.changed {
            Some(functions) => Workshop::new(functions.iter()),
            None => Workshop::new(self.parts.engine.functions().map(AsRef::as_ref)),
        };
        let sender = self.parts.sender.clone();
        std::thread::Builder::new().name("build".to_owned()).spawn(move || {
            let clock = SystemClock::start();
            let result = workshop.build();
            // Nobody waits for it any more when the process ends.
            let _ = sender.send(Signal::Built(result, clock.now().elapsed));
        })?;
        Ok(())
    }

    fn built(&mut self, result: Result<(), BuildError>, took: Duration) -> anyhow::Result<()> {
        self.is_building = false;
        let changed = self.changed.take();
        if let Err(error) = result {
            let text = format!("{error}; the old one goes on");
            self.parts.display.complain("build", &text, json!({ "error": error.to_string() }))?;
        } else if let Err(error) = self.take_over(changed, took) {
            let text = format!("not taken over, the old one goes on: {error:#}");
            self.parts.display.complain("reload", &text, json!({ "error": format!("{error:#}") }))?;
        }
        let saved = std::mem::take(&mut self.saved);
        if saved == Saved::default() { Ok(()) } else { self.saved(saved) }
    }

    fn take_over(&mut self, changed: Option<Vec<Function>>, took: Duration) -> anyhow::Result<()> {
        let Some(functions) = changed else {
            self.parts.engine.reload()?;
            let text = format!("reloaded, built in {}", short(took));
            let took_ms = took.as_millis() as u64;
            return Ok(self.parts.display.say("reload", &text, json!({ "build_ms": took_ms }))?);
        };
        let functions = self.parts.engine.load(functions)?;
        self.parts.display.say("restart", "the manifest changed: starting anew", json!({}))?;
        self.finish()?;
        self.start(functions)
    }

    /// Tells once of each function that stopped by itself.
    fn notice_stopped(&mut self) -> anyhow::Result<()> {
        for (function, reason) in self.parts.engine.stopped() {
            if self.stopped.insert(function.clone()) {
                self.has_failed = true;
                let text = format!("{function} stopped: {reason}");
                let fields = json!({ "function": function, "error": reason });
                self.parts.display.complain("stopped", &text, fields)?;
                // What it did not finish, nobody will.
                let others = self.parts.engine.functions().filter(|of| of.name.to_string() != function);
                self.flow = Flow::new(others.map(AsRef::as_ref));
            }
        }
        Ok(())
    }

    /// Stops the functions and hears what they still tell, since they wait for a listener.
    fn finish(&mut self) -> anyhow::Result<()> {
        self.parts.engine.stop();
        let until = self.parts.engine.elapsed() + STOPPED_WITHIN;
        while !self.parts.engine.is_finished() {
            anyhow::ensure!(self.parts.engine.elapsed() < until, "the functions do not stop");
            if let Ok(Signal::Happened(happening)) = self.parts.signals.recv_timeout(LOOK) {
                self.happened(&happening)?;
            }
        }
        // Why a function stopped was told when it did.
        let _ = self.parts.engine.finish();
        Ok(())
    }
}

/// Where it runs, and what that means.
fn greet(parts: &mut Parts) -> io::Result<()> {
    let cluster = parts.place.cluster();
    let brokers = cluster.brokers();
    let is_embedded = parts.place.is_embedded();
    let text = if is_embedded {
        format!(
            "embedded broker at {brokers}: for trying out, in memory and at least once; --brokers HOST:PORT runs on \
             a Kafka"
        )
    } else {
        format!("on {brokers}")
    };
    parts.display.say("start", &text, json!({ "brokers": brokers, "embedded": is_embedded }))
}

/// What a function reads and writes.
fn introduce(function: &Function, display: &mut Display) -> io::Result<()> {
    let sources: Vec<_> = function.sources.iter().map(|source| source.topic.as_str()).collect();
    let sinks: Vec<_> = function.sinks.iter().map(|sink| sink.topic.as_str()).collect();
    let dead_letters = function.delivery.dead_letter_topic.as_str();
    let text = format!(
        "{}: {} → {} (dead letters: {dead_letters})",
        function.name.name,
        sources.join(", "),
        sinks.join(", ")
    );
    let name = function.name.to_string();
    let fields =
        json!({ "function": name, "sources": sources, "sinks": sinks, "deadLetterTopic": dead_letters });
    display.say("function", &text, fields)
}
