//! Promises that only a real Apache Kafka can show: one scenario a file, named as the promise it keeps.
//!
//! The broker comes from [`harness`], one for the whole run.

mod harness;

mod admin;
mod audit;
mod autoscale;
mod broker_outage;
mod brokers_outage;
mod command_line;
mod crashes;
mod dead_letters;
mod deadly_results;
mod dev_makes_what_is_missing;
mod dlq;
mod explain;
mod fenced;
mod flights_week;
mod formats_on_the_wire;
mod handovers;
mod hangs;
mod harness_is_real;
mod hot_swap;
mod idle_zombie;
mod invoke_reads_an_event;
mod kills;
mod lost_offsets;
mod new_from_topic;
mod pause;
mod rebalance;
mod redriven_results;
mod refused_outputs;
mod reset;
mod restoring;
mod retries;
mod scale;
mod scaling;
mod schedule;
mod scripts;
mod shutdown;
mod sleep;
mod slow_calls;
mod start_offsets;
mod state;
mod state_limit;
mod state_topic;
mod stitches;
mod timers;
mod traces;
mod transactional_source;
mod turmoil;
mod watch;
mod why;
mod windows;
mod zombie;
