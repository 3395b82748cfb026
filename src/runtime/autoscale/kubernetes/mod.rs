//! Deployments on Kubernetes: each has as many pods as the decided workers of its function fill. Which Deployment is whose, an
//! annotation says ([`ANNOTATION`]); how many pods there are to be is set by its scale subresource, and nothing else of it.
//!
//! Every few seconds all Deployments of the namespace are looked at: what somebody else changed is set again, and what a
//! HorizontalPodAutoscaler holds too is refused. Between the looks a number is set when another was decided. While the API
//! server is away everything stays as it is there.
//!
//! | file | what it holds |
//! |---|---|
//! | `rules` | whose a Deployment is, how many pods, when to set that |
//! | `api` | what is asked of the API server, and what its refusals mean |

mod api;
mod rules;

use std::sync::Arc;
use std::time::Duration;

pub use self::rules::ANNOTATION;

use self::api::{Api, Failure};
use self::rules::{Keeper, claim, pods};
use super::back_off::BackOff;
use super::board::{self, Board};
use crate::model::Clock;
use crate::observe::metrics::Id;
use crate::observe::{Exposition, Level};
use crate::runtime::Stop;

/// How often it is looked whether something else was decided.
const TURN_EVERY: Duration = Duration::from_millis(200);

/// How often Deployments are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An API server that is away is asked again after this time at the latest.
const AWAY_AT_MOST: Duration = Duration::from_secs(15);

/// Sees to it that Deployments have their pods.
pub struct Kubernetes {
    api: Api,
    workers_per_pod: u32,
    kept: Vec<Kept>,
    /// When Deployments are looked at next.
    due: Duration,
    back_off: BackOff,
    /// Why nothing can be looked at.
    away: Option<String>,
    /// It was said that nobody can tell who else holds Deployments.
    is_blind_told: bool,
    board: Board,
    clock: Arc<dyn Clock>,
}

/// One function's.
struct Kept {
    keeper: Keeper,
    /// What stands on the board.
    shown: Option<board::Deployment>,
    replicas: Arc<Level>,
    unheld: Arc<Level>,
}

impl Kubernetes {
    /// Finds the API server by the kubeconfig or by the pod's service account; nothing is asked yet. Decisions come from
    /// `board`, and what becomes of them is shown there.
    ///
    /// # Errors
    /// There is neither, or what they say cannot be used.
    pub fn new(
        (namespace, workers_per_pod): (Option<&str>, u32),
        board: &Board,
        exposition: &Exposition,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let kept = |function: String| {
            let level = |id| exposition.level(id, &[("function", &function)]);
            let (replicas, unheld) = (level(Id::ScaleReplicas), level(Id::ScaleUnheld));
            Kept { keeper: Keeper::new(function), shown: None, replicas, unheld }
        };
        Ok(Self {
            api: Api::new(namespace)?,
            workers_per_pod,
            kept: board.read().into_keys().map(kept).collect(),
            due: Duration::ZERO,
            back_off: BackOff::default(),
            away: None,
            is_blind_told: false,
            board: board.clone(),
            clock,
        })
    }

    /// The namespace whose Deployments are kept.
    pub fn namespace(&self) -> &str {
        self.api.namespace()
    }

    /// Keeps them until told to stop. They stay as they are then.
    pub fn run(mut self, stop: &Stop) {
        loop {
            let now = self.clock.now().elapsed;
            if now >= self.due {
                self.look();
            }
            if self.away.is_none() {
                self.set(stop);
            }
            self.show();
            if stop.wait(TURN_EVERY) {
                return;
            }
        }
    }

    fn look(&mut self) {
        let deployments = match self.api.deployments() {
            Ok(deployments) => deployments,
            Err(Failure::Away(problem) | Failure::Refused(problem)) => return self.wait(problem),
        };
        let holders = match self.api.holders() {
            Ok(holders) => holders,
            Err(Failure::Away(problem)) => return self.wait(problem),
            Err(Failure::Refused(problem)) => {
                if !std::mem::replace(&mut self.is_blind_told, true) {
                    tracing::warn!(problem, "it cannot be seen whether somebody else holds a Deployment too");
                }
                Vec::new()
            }
        };
        if self.away.take().is_some() {
            tracing::info!("the Kubernetes API answers again");
        }
        self.back_off = BackOff::default();
        self.due = self.clock.now().elapsed + LOOK_EVERY;
        for Kept { keeper, .. } in &mut self.kept {
            let claimed = claim(&keeper.function, &deployments, &holders);
            let by = claimed.as_ref().ok().and_then(|deployment| deployment.set_by.clone());
            let Some(overruled) = keeper.see(claimed) else { continue };
            let (function, from, to) = (&keeper.function, overruled.from, overruled.to);
            if keeper.overruled == 1 {
                tracing::warn!(
                    function,
                    from,
                    to,
                    by,
                    "somebody else changes the replicas: they are set again"
                );
            } else {
                tracing::debug!(function, from, to, by, "somebody else changed the replicas again");
            }
        }
    }

    /// Nothing is asked for a while.
    fn wait(&mut self, problem: String) {
        let now = self.clock.now().elapsed;
        let wait = self.back_off.died(now, now).min(AWAY_AT_MOST);
        self.due = now + wait;
        self.kept.iter_mut().for_each(|kept| kept.keeper.fail(problem.clone()));
        if self.away.as_ref() != Some(&problem) {
            tracing::warn!(problem, again_in = ?wait, "the Kubernetes API cannot be used; Deployments stay as they are");
        }
        self.away = Some(problem);
    }

    fn set(&mut self, stop: &Stop) {
        let (standings, now) = (self.board.read(), self.clock.now().elapsed);
        for Kept { keeper, .. } in &mut self.kept {
            let wanted = standings
                .get(&keeper.function)
                .and_then(|standing| pods(standing, now, self.workers_per_pod));
            let Some((deployment, to)) = keeper.change_to(wanted).filter(|_| !stop.is_set()) else {
                continue;
            };
            match self.api.set(&deployment, to) {
                Ok(to) => {
                    let from = keeper.was_set(to);
                    tracing::info!(function = keeper.function, deployment, from, to, "replicas set");
                }
                Err(Failure::Refused(problem)) => keeper.fail(problem),
                Err(Failure::Away(problem)) => return self.wait(problem),
            }
        }
    }

    /// Puts on the board what has changed, and says it.
    fn show(&mut self) {
        for Kept { keeper, shown, replicas, unheld } in &mut self.kept {
            let seen = keeper.seen.as_ref().ok();
            let now = board::Deployment {
                namespace: self.api.namespace().to_owned(),
                name: seen.map(|seen| seen.name.clone()),
                replicas: seen.map(|seen| seen.replicas),
                ready: seen.map(|seen| seen.ready),
                overruled: keeper.overruled,
                problem: keeper.seen.as_ref().err().cloned(),
            };
            if shown.as_ref() == Some(&now) {
                continue;
            }
            unheld.set(now.problem.is_some().into());
            if let Some(count) = now.replicas {
                replicas.set(count.into());
            }
            let before = shown.as_ref().map(|shown| &shown.problem);
            if before != Some(&now.problem) {
                match &now.problem {
                    // Said once for all of them.
                    Some(problem) if self.away.as_ref() == Some(problem) => {}
                    Some(problem) => {
                        tracing::warn!(function = keeper.function, problem, "its Deployment is not held")
                    }
                    None => tracing::info!(
                        function = keeper.function,
                        deployment = now.name,
                        replicas = now.replicas,
                        "its Deployment is held"
                    ),
                }
            }
            self.board.put(&keeper.function, |standing| standing.deployment = Some(now.clone()));
            *shown = Some(now);
        }
    }
}
