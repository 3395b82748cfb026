//! Manifests: the YAML that describes a function, and the platform's settings. Everything is checked
//! before anything connects; every finding names file, line and path.
//!
//! Text becomes documents that know their lines (`document`), which are held against the JSON Schema
//! (`strict`, `schema`) that is made from the YAML types (`spec`, `window_spec`, `schedule`), and resolved with the defaults
//! (`defaults`) into the model's [`Function`](crate::model::Function) (`resolve`, `filter`, `window`).
//! [`render()`] is the way back.

mod defaults;
mod document;
mod error;
mod filter;
mod load;
mod owned;
mod platform;
mod platform_spec;
mod reference;
mod render;
mod resolve;
mod schedule;
mod schema;
mod secret;
mod spec;
mod strict;
#[cfg(test)]
mod tests;
mod text;
mod topics;
mod typed;
mod window;
mod window_spec;

pub use defaults::group as default_group;
pub use error::{Diagnostic, Errors};
pub use load::{Fault, Survey, load, manifest_files, parse, survey};
pub use platform::{Log, Overrides, Platform, Telemetry, TlsFiles};
pub use platform_spec::LogFormat;
pub use reference::reference;
pub use render::{render, render_json};
pub use schema::{function_schema, platform_schema};
pub use secret::{Secret, SecretError, resolve_config};
pub use text::duration;
pub use topics::{HEADROOM_BYTES, NewTopic, TopicRole, topics};
pub use typed::Typed;
