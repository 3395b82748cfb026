//! What was decided last, function by function: written by the loop and by whoever keeps processes, read by the admin
//! server, by KEDA's answers, and by those who carry decisions out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::runtime::overrides::Override;
use crate::scale::{Decision, Inputs};

/// The last decisions. Clones share them.
#[derive(Debug, Clone)]
pub struct Board {
    standings: Arc<watch::Sender<Standings>>,
}

/// Functions by name, `namespace/name`.
pub type Standings = BTreeMap<String, Standing>;

/// Where a function stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// So many workers it should have; `None`: nothing was decided yet.
    pub desired: Option<u32>,
    /// Members of its group.
    pub running: u32,
    /// Why, one word for programs.
    pub reason: &'static str,
    /// Why, for people.
    pub text: String,
    /// Records to be handled, at most.
    pub backlog: u64,
    /// λ, records a second.
    pub arrival_rate: f64,
    /// μ of one busy worker, records a second; `None`: not known yet.
    pub service_rate: Option<f64>,
    /// Milliseconds until its next deadline.
    pub wake_in_ms: Option<u64>,
    /// Why the last look failed; the decision before it holds on.
    pub problem: Option<String>,
    /// When it was decided, on the loop's clock.
    #[serde(skip)]
    pub decided_at: Duration,
    /// Another process, which decides; this one stands by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// What a person fixed.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Override>,
    /// The processes that are kept for it on this host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// The Deployment that is kept for it; `None`: none is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
}

/// A process that is kept, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// What it is called, in transactional ids too.
    pub instance: String,
    /// `None`: it is not there.
    pub pid: Option<u32>,
    /// `running`, `stopping`, or `waiting`: it died, and is started again after a while.
    pub state: &'static str,
    /// How often it died in a row.
    pub deaths: u32,
    /// How it ended the last time that it died.
    pub last_end: Option<String>,
}

/// The Deployment whose pods are a function's workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Where it is, or should be.
    pub namespace: String,
    /// `None`: it is not held, and `problem` says why.
    pub name: Option<String>,
    /// Pods that it is to have.
    pub replicas: Option<u32>,
    /// Pods that are ready.
    pub ready: Option<u32>,
    /// How often somebody else changed the number while it was held.
    pub overruled: u32,
    /// Why it is not held.
    pub problem: Option<String>,
}

/// How long a decision is believed when no other follows.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

impl Standing {
    /// So many workers were decided, not too long before `now`, else why that cannot be told.
    pub fn believed(&self, now: Duration) -> Result<u32, String> {
        let problem = self.problem.as_deref().unwrap_or("the first look is not over");
        let desired = self.desired.ok_or_else(|| format!("nothing is decided yet: {problem}"))?;
        let age = now.saturating_sub(self.decided_at);
        if age > BELIEVED_FOR {
            return Err(format!("decided {}s ago and not since: {problem}", age.as_secs()));
        }
        Ok(desired)
    }

    /// Takes over what was decided at `at`.
    pub fn decide(&mut self, at: Duration, decision: &Decision, inputs: &Inputs, fixed: Option<Override>) {
        self.fixed = fixed;
        self.decided_by = None;
        self.desired = Some(decision.workers);
        self.running = inputs.workers;
        self.reason = decision.reason.name();
        self.text = decision.reason.to_string();
        self.backlog = inputs.backlog();
        self.arrival_rate = decision.arrival_rate;
        self.service_rate = decision.service_rate;
        self.wake_in_ms = inputs.wake_in.map(|wake_in| wake_in.as_millis() as u64);
        self.problem = None;
        self.decided_at = at;
    }
}

impl Board {
    /// Nothing is decided for these functions yet.
    pub fn new<'a>(functions: impl IntoIterator<Item = &'a str>) -> Self {
        let standings = functions.into_iter().map(|name| (name.to_owned(), Standing::default()));
        Self { standings: Arc::new(watch::Sender::new(standings.collect())) }
    }

    /// Changes where a function stands; one that is not on the board is passed over.
    pub fn put(&self, function: &str, change: impl FnOnce(&mut Standing)) {
        self.standings.send_modify(|standings| {
            if let Some(standing) = standings.get_mut(function) {
                change(standing);
            }
        });
    }

    /// A function is there from now on, if it was not.
    pub fn admit(&self, function: &str) {
        self.standings.send_modify(|standings| {
            standings.entry(function.to_owned()).or_default();
        });
    }

    /// It is not decided here any more.
    pub fn forget(&self, function: &str) {
        self.standings.send_modify(|standings| {
            standings.remove(function);
        });
    }

    /// How many workers a function should have; `None`: not decided yet, or there is no such function.
    pub fn desired(&self, function: &str) -> Option<u32> {
        self.standings.borrow().get(function)?.desired
    }

    /// Everything as it stands now.
    pub fn read(&self) -> Standings {
        self.standings.borrow().clone()
    }

    /// Everything, now and with each change.
    pub fn subscribe(&self) -> watch::Receiver<Standings> {
        self.standings.subscribe()
    }
}
