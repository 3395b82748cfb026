//! A real Apache Kafka for the tests, and what scenarios need around it.
//!
//! [`cluster`] is the broker that all tests of a run share, started by the first that asks:
//!
//! 1. `TIDEMILL_TEST_BROKERS=host:port,…`, when set;
//! 2. else Java and Maven: Kafka is fetched once into `target/kafka-4.2.0` by `tests/kafka/pom.xml`;
//! 3. else Docker's `apache/kafka`;
//! 4. else the test fails and says what to install. Nothing is skipped.
//!
//! A scenario names its topics with [`unique`], so that tests run side by side. One that stops the
//! broker takes a [`PrivateBroker`], one that wants several has [`Brokers`] in turn with others.
//! [`Worker`] is a `tidemill` process, [`Stage`] a function with its topics for it to run, [`Load`] writes
//! numbered records all the while, and a [`Follower`] sees what comes out.
//! With `TIDEMILL_TEST_IMAGE=tidemill:0.1.0` workers are containers of that image instead of processes ([`container`]).
//!
//! Nothing outlives the run: broker and workers are ended by a shell that reads a pipe which the test
//! process holds ([`supervisor`]), so a panic, Ctrl-C or SIGKILL of the tests ends them as well.

#![allow(dead_code, unused_imports, reason = "what one scenario needs, another does not")]

mod broker;
mod brokers;
mod client;
mod collector;
mod container;
mod dice;
mod follower;
mod kafka_home;
mod listener;
mod load;
mod siege;
mod stage;
mod supervisor;
mod wait;
mod worker;

pub use broker::{PrivateBroker, cluster};
pub use brokers::{Brokers, on_three_brokers};
pub use client::{Isolation, Kafka, ReadRecord, ToSend, unique};
pub use collector::{Collector, attribute};
pub use dice::{Dice, number};
pub use follower::Follower;
pub use listener::Listeners;
pub use load::{Load, assert_each_ends_once, assert_each_once, assert_none_lost, trying};
pub use siege::Siege;
pub use stage::{Ended, Stage, trial_plugin};
pub use supervisor::Supervisor;
pub use wait::{Deadline, holds_for, try_wait, wait_until};
pub use worker::{Signal, Worker, free_port};
