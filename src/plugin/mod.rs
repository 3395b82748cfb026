//! Plugins: shared libraries that carry handlers, behind the C contract of `tidemill-abi`.
//!
//! A file is checked before it is loaded (`file`), copied to a private place named by its digest, and
//! loaded from there for good (`load`). A worker thread makes itself an [`Instance`] of a handler and calls
//! it with borrowed events (`instance`), windows (`window`) and timers (`timer`); the handler asks and answers through
//! callbacks (`host`, for what is its key's `keyed`). The [`Registry`] says which plugin a function runs now, so that a
//! new version takes over between two cuts. [`build_crate`] makes a plugin from its crate.
//!
//! What can be checked of a plugin is checked; what it does inside a call cannot be. A panic ends in the
//! SDK's shim; a crash takes the process, and `notes` tell the next one during which call.
#![allow(unsafe_code, reason = "a plugin is C functions and raw pointers")]

mod build;
mod error;
mod file;
mod host;
mod instance;
mod keyed;
mod load;
mod notes;
mod registry;
mod timer;
mod window;

pub use build::{BuildError, Profile, build_crate};
pub use error::PluginError;
pub use instance::{Call, Instance};
pub use load::Plugin;
pub use notes::{Notes, Slot, result_number};
pub use registry::{Current, Registry};
pub use timer::OfTimer;
pub use window::OfWindow;
