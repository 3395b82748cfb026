//! Tidemill: a Kafka-native stream function processor.
//!
//! A **function** is a manifest and a handler. Tidemill subscribes to its topics, filters, calls the
//! handler, writes what it emits, exactly once. The modules stand in layers, the lowest first; each
//! may use those above it in this list and none beside it (`tests/it/layers.rs` holds that):
//!
//! | layer | modules | what is there |
//! |---|---|---|
//! | ground | [`model`], [`observe`] | plain types and the clock; names of metrics, logs |
//! | means | [`manifest`], [`codec`], [`plugin`], [`window`], [`kafka`] | each with its own config and error |
//! | path | [`pipeline`] | what happens to a record; no I/O in it |
//! | control | [`scale`], [`worker`] | how many workers there should be; one member of the consumer group |
//! | assembly | [`runtime`] | builds the parts, starts, drains, stops; the admin server; the exporter |
//! | edge | [`cli`] | what a person types |

pub mod cli;
pub mod codec;
pub mod kafka;
pub mod manifest;
pub mod model;
pub mod observe;
pub mod pipeline;
pub mod plugin;
pub mod runtime;
pub mod scale;
pub mod window;
pub mod worker;
