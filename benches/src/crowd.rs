//! Many functions in one process.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock;
use crate::contest::Route;
use crate::process::Running;
use crate::session::Session;
use crate::subject::{Function, Tidemill};

/// Names and topics of many functions, which share their dead letters.
pub struct Crowd {
    /// Names of the functions.
    pub names: Vec<String>,
    /// The topic of each.
    pub inputs: Vec<String>,
    /// The topic that each writes: one for all.
    pub outputs: Vec<String>,
}

/// How long until all of them sleep.
const WITHIN: Duration = Duration::from_secs(1800);

impl Crowd {
    /// Makes the topics: one for each function of so many partitions, or one for all. The topics that redriven dead letters
    /// come back by are made with one partition: a broker here cannot hold twice as many.
    pub fn gather(session: &Session, functions: usize, partitions: i32, is_one_topic: bool) -> Result<Self> {
        let names: Vec<String> = (0..functions).map(|_| session.fresh_name("one")).collect();
        let one = session.fresh_name("in");
        let inputs: Vec<String> = match is_one_topic {
            true => names.iter().map(|_| one.clone()).collect(),
            false => names.iter().map(|name| format!("{name}.in")).collect(),
        };
        let output = session.fresh_name("out");
        let mut topics = vec![(output.clone(), crate::topics::PARTITIONS)];
        topics.extend(names.iter().map(|name| (format!("{name}.redrive"), 1)));
        let sources = if is_one_topic { &inputs[..1] } else { &inputs };
        topics.extend(sources.iter().map(|input| (input.clone(), partitions)));
        let all: i64 = topics.iter().map(|(_, count)| i64::from(*count)).sum();
        eprintln!("making {} topics of {all} partitions", topics.len());
        session.topics().create_many(&topics)?;
        let outputs = names.iter().map(|_| output.clone()).collect();
        Ok(Self { names, inputs, outputs })
    }

    /// Starts a process of them; `function` says what the one of this number is.
    pub fn start(
        &self,
        session: &Session,
        (tidemill, verb): (&Tidemill, &[&str]),
        function: impl Fn(usize) -> Function,
    ) -> Result<Running> {
        let functions: Vec<Function> = (0..self.names.len())
            .map(|number| Function {
                delivery: ", deadLetter: { topic: bench-crowd.dlq }",
                ..function(number)
            })
            .collect();
        let each = self.names.iter().zip(self.inputs.iter().zip(&self.outputs)).zip(&functions);
        let members: Vec<_> = each
            .map(|((name, (input, output)), function)| (name.as_str(), function, Route { input, output }))
            .collect();
        tidemill.start_all(session, &session.fresh_name("crowd"), &members, verb)
    }

    /// Waits until all of them sleep.
    pub fn wait_until_asleep(&self, running: &Running) -> Result<()> {
        let quiet = clock::until("all of them sleep", WITHIN, Duration::from_millis(500), || {
            running.check()?;
            Ok((asleep(running) >= self.names.len()).then_some(()))
        });
        quiet.with_context(|| format!("{} sleep; {}", asleep(running), running.tail()))
    }
}

/// How many functions of a process sleep.
pub fn asleep(running: &Running) -> usize {
    let mut last = BTreeMap::new();
    for line in running.said("default/bench-one-") {
        let Some(function) = line.field("function") else { continue };
        if line.text.contains("falls asleep") {
            last.insert(function.to_owned(), true);
        } else if line.text.contains("wakes") {
            last.insert(function.to_owned(), false);
        }
    }
    last.into_values().filter(|sleeps| *sleeps).count()
}
