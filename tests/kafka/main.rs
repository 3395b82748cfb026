//! Promises that only a real Apache Kafka can show: one scenario a file, named as the promise it keeps.
//!
//! The broker comes from [`harness`], one for the whole run.

mod harness;

mod admin;
mod command_line;
mod harness_is_real;
mod invoke_reads_an_event;
mod new_from_topic;
