//! The scaler alone: once a second it looks at all functions from outside, decides for each how many workers it should
//! have, and puts that on the [`Board`]. Who carries it out reads it there: [`Fleet`] keeps processes on this host,
//! [`Kubernetes`] the pods of Deployments.
//!
//! | file | what it holds |
//! |---|---|
//! | `board` | what was decided last, shared |
//! | `watched` | one function: from samples to a decision |
//! | `fleet` | its processes on this host |
//! | `kubernetes` | its Deployment's pods |
//! | `keda` | KEDA's questions, answered over gRPC |
//! | `back_off` | how long what failed is waited with |

mod back_off;
mod board;
mod fleet;
pub mod keda;
mod kubernetes;
mod watched;

use std::sync::Arc;
use std::time::Duration;

pub use board::{Board, Deployment, Process, Standing, Standings};
pub use fleet::{Fleet, Launch, ToCommand};
pub use kubernetes::{ANNOTATION, Kubernetes};
use watched::Watched;

use super::Stop;
use super::overrides::Overrides;
use crate::kafka::admin::Group;
use crate::kafka::{AdminError, Cluster, GroupAdmin};
use crate::model::{Clock, Function};
use crate::observe::Exposition;
use crate::scale::{Policy, Sampler, Target};

/// How often it is looked and decided.
const EVERY: Duration = Duration::from_secs(1);

/// How long the cluster has to answer one question.
const WITHIN: Duration = Duration::from_secs(5);

/// The loop that decides.
pub struct Autoscale {
    cluster: Cluster,
    sampler: Sampler,
    /// Asks who is in the groups; made anew after a failure, since librdkafka remembers coordinators that moved.
    admin: Option<GroupAdmin>,
    functions: Vec<Watched>,
    targets: Vec<Target>,
    board: Board,
    overrides: Overrides,
    clock: Arc<dyn Clock>,
}

impl Autoscale {
    /// Nothing connects yet.
    pub fn new(
        cluster: &Cluster,
        functions: &[Arc<Function>],
        policy: Policy,
        exposition: &Exposition,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let names: Vec<String> = functions.iter().map(|function| function.name.to_string()).collect();
        let overrides = Overrides::new(&clock);
        functions.iter().for_each(|function| overrides.admit(function, true));
        Self {
            cluster: cluster.clone(),
            sampler: Sampler::new(cluster, WITHIN),
            admin: None,
            functions: functions.iter().map(|function| Watched::new(function, policy, exposition)).collect(),
            targets: functions.iter().map(|function| Target::of(function)).collect(),
            board: Board::new(names.iter().map(String::as_str)),
            overrides,
            clock,
        }
    }

    /// Where a person's numbers are put.
    pub fn overrides(&self) -> Overrides {
        self.overrides.clone()
    }

    /// Where decisions are put.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Decides once a second until told to stop.
    pub fn run(mut self, stop: &Stop) {
        let mut next = self.clock.now().elapsed;
        while !stop.is_set() {
            self.turn();
            // A turn that took long is followed by a pause all the same, and by no volley of turns.
            next = (next + EVERY).max(self.clock.now().elapsed + EVERY / 10);
            stop.wait(next.saturating_sub(self.clock.now().elapsed));
        }
    }

    fn turn(&mut self) {
        // Members before offsets: who has left has committed by then.
        let members = self.members();
        let samples = match self.sampler.sample(&self.targets) {
            Ok(samples) => samples,
            Err(error) => {
                let problem = error.to_string();
                self.functions.iter_mut().for_each(|function| function.fail(&problem, &self.board));
                return;
            }
        };
        let now = self.clock.now();
        for ((function, sample), members) in self.functions.iter_mut().zip(samples).zip(members) {
            match (sample, members) {
                (Ok(sample), Ok(members)) => {
                    function.see(now, sample, members, (&self.board, &self.overrides));
                }
                (Err(error), _) => function.fail(&error.to_string(), &self.board),
                (_, Err(problem)) => function.fail(&problem, &self.board),
            }
        }
    }

    /// How many members each group has. All of them are asked at once.
    fn members(&mut self) -> Vec<Result<u32, String>> {
        let asked: Vec<&str> = self.targets.iter().map(|target| target.group.as_str()).collect();
        let all = |problem: String| asked.iter().map(|_| Err(problem.clone())).collect();
        let fresh = || GroupAdmin::new(&self.cluster, "autoscale").map(|admin| admin.within(WITHIN));
        let admin = match self.admin.take().map_or_else(fresh, Ok) {
            Ok(admin) => admin,
            Err(error) => return all(error.to_string()),
        };
        match admin.admin().groups(&asked) {
            Ok(groups) => {
                if groups.iter().all(Result::is_ok) {
                    self.admin = Some(admin);
                }
                let count = |group: Result<Group, AdminError>| {
                    group.map(|group| group.members.len() as u32).map_err(|error| error.to_string())
                };
                groups.into_iter().map(count).collect()
            }
            Err(error) => all(error.to_string()),
        }
    }
}
