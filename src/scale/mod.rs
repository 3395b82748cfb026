//! How many workers a function should have: **sample**, then **decide**. What is decided is carried out elsewhere.
//!
//! [`Sampler`] asks the cluster from outside, without joining a group: where partitions begin and end, what groups have
//! committed and which offsets beyond are finished ([`Ledger`](crate::pipeline::Ledger)). One client serves all functions, its
//! questions go out together. [`unread`] makes a backlog of the answers, [`Inputs::between`] rates of two samples.
//!
//! [`Decider`] computes and does nothing else: no clock, no I/O. It is handed a moment and [`Inputs`] and says how many workers
//! there should be and why. The formula stands in [`need`](Need), what is held against it in [`decide`](Decider).
//!
//! | file | what it holds |
//! |---|---|
//! | `backlog` | the backlog of one partition, from offsets and ledger |
//! | `sample` | asking the cluster |
//! | `inputs` | two samples become rates: arrivals, throughput, the service rate of a busy worker |
//! | `arrivals` | the arrival rate to reckon with |
//! | `need` | Little's law and the time to drain: workers that a load asks for |
//! | `hold` | how long a lower need has held |
//! | `change` | what a change of the number costs, learnt from those that were made |
//! | `trial` | whether more workers brought more |
//! | `decide` | up, down or stay |
//! | `reason` | why, in words |

mod arrivals;
mod backlog;
mod change;
mod decide;
mod error;
mod hold;
mod inputs;
mod need;
mod reason;
mod sample;
mod trial;

pub use backlog::unread;
pub use decide::{Decider, Decision, Policy};
pub use error::Error;
pub use inputs::{Inputs, Load};
pub use need::Need;
pub use reason::Reason;
pub use sample::{LaneSample, Role, Sample, Sampler, Source, Target};
