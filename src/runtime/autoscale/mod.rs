//! The scaler alone: once a second it looks at all functions from outside, decides for each how many workers it should
//! have, and puts that on the [`Board`]. Who carries it out reads it there: [`Fleet`] keeps processes on this host,
//! [`Kubernetes`] the pods of Deployments.
//!
//! | file | what it holds |
//! |---|---|
//! | `board` | what was decided last, shared |
//! | `watched` | one function: from samples to a decision |
//! | `hold` | of several processes one decides about a function |
//! | `fleet` | its processes on this host |
//! | `kubernetes` | its Deployment's pods |
//! | `keda` | KEDA's questions, answered over gRPC |
//! | `back_off` | how long what failed is waited with |

mod back_off;
mod board;
mod fleet;
mod hold;
pub mod keda;
mod kubernetes;
mod watched;

use std::sync::Arc;
use std::time::Duration;

pub use board::{Board, Deployment, Process, Standing, Standings};
pub use fleet::{Fleet, Launch, ToCommand};
pub use hold::scaler_group;
use hold::{Held, Hold};
pub use kubernetes::{ANNOTATION, Kubernetes};
use watched::Watched;

use super::Stop;
use super::overrides::Overrides;
use crate::kafka::admin::Group;
use crate::kafka::{Cluster, GroupAdmin};
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
    /// The functions that are claimed, and by what name; none: nobody else decides.
    claimed: Option<(Vec<Arc<Function>>, String)>,
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
            claimed: None,
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

    /// Decides only about functions about which no other process does. Those that wait see in the groups who decides, by
    /// this name.
    pub fn alone(mut self, functions: &[Arc<Function>], client_id: &str) -> Self {
        self.claimed = Some((functions.to_vec(), client_id.to_owned()));
        self
    }

    /// Where decisions are put.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Decides once a second until told to stop.
    pub fn run(mut self, stop: &Stop) {
        // Claims are of the thread that hears their groups.
        let claimed = self.claimed.take();
        let hold = |(functions, client_id): (Vec<Arc<Function>>, String)| {
            functions.iter().map(|function| Hold::new(&self.cluster, function, &client_id)).collect()
        };
        let mut holds: Vec<Hold> = claimed.map_or_else(Vec::new, hold);
        let mut next = self.clock.now().elapsed;
        while !stop.is_set() {
            self.turn(&mut holds);
            // A turn that took long is followed by a pause all the same, and by no volley of turns.
            next = (next + EVERY).max(self.clock.now().elapsed + EVERY / 10);
            stop.wait(next.saturating_sub(self.clock.now().elapsed));
        }
    }

    fn turn(&mut self, holds: &mut [Hold]) {
        // Members before offsets: who has left has committed by then.
        let groups = self.groups(holds);
        let (members, scalers) = groups.split_at(self.targets.len());
        let here = self.hold(holds, scalers);
        let targets: Vec<Target> = here.iter().map(|place| self.targets[*place].clone()).collect();
        let samples = match self.sampler.sample(&targets) {
            Ok(samples) => samples,
            Err(error) => {
                let problem = error.to_string();
                here.iter().for_each(|place| self.functions[*place].fail(&problem, &self.board));
                return;
            }
        };
        let now = self.clock.now();
        for (place, sample) in here.into_iter().zip(samples) {
            let function = &mut self.functions[place];
            match (sample, &members[place]) {
                (Ok(sample), Ok(group)) => {
                    let members = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
                    function.see(now, sample, members, (&self.board, &self.overrides));
                }
                (Err(error), _) => function.fail(&error.to_string(), &self.board),
                (_, Err(problem)) => function.fail(problem, &self.board),
            }
        }
    }

    /// The places of those functions about which it is to be decided here.
    fn hold(&mut self, holds: &mut [Hold], scalers: &[Result<Group, String>]) -> Vec<usize> {
        if holds.is_empty() {
            return (0..self.functions.len()).collect();
        }
        let at = self.clock.now().elapsed;
        let mut here = Vec::new();
        for (place, (hold, group)) in holds.iter_mut().zip(scalers).enumerate() {
            let function = &mut self.functions[place];
            match hold.turn(at, group.as_ref().ok().map(|group| group.members.as_slice())) {
                Ok(Held::Here) => {
                    function.take_up();
                    here.push(place);
                }
                Ok(Held::Elsewhere(who)) => function.stand_by(who, &self.board),
                // Nobody is known to decide: what was decided holds on, through brokers' outages too.
                Ok(Held::Open) => match group {
                    Ok(_) => function.pause(),
                    Err(problem) => function.fail(problem, &self.board),
                },
                Err(error) => function.fail(&error.to_string(), &self.board),
            }
        }
        here
    }

    /// The groups of the functions, and those of who scales them. All of them are asked at once.
    fn groups(&mut self, holds: &[Hold]) -> Vec<Result<Group, String>> {
        let targets = self.targets.iter().map(|target| target.group.as_str());
        let asked: Vec<&str> = targets.chain(holds.iter().map(|hold| hold.group.as_str())).collect();
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
                groups.into_iter().map(|group| group.map_err(|error| error.to_string())).collect()
            }
            Err(error) => all(error.to_string()),
        }
    }
}
