//! Spans and numbers as OTLP's protobuf messages (<https://opentelemetry.io/docs/specs/otlp/>), names and attributes by
//! OpenTelemetry's semantic conventions for messaging.
//!
//! The few messages are written by hand: the crate that has them all comes with a second implementation of tracing and
//! metrics. Tests read what is written with that crate.

mod numbers;
mod spans;
mod wire;

pub use numbers::numbers;
pub use spans::{MOST_LINKS, spans};
use wire::Message;

/// Who sends: the process.
#[derive(Debug, Clone)]
pub struct Resource {
    /// `service.name`.
    pub name: String,
    /// `service.instance.id`.
    pub instance: String,
}

impl Resource {
    fn write(&self, message: &mut Message) {
        attribute(message, 1, "service.name", &self.name);
        attribute(message, 1, "service.instance.id", &self.instance);
        attribute(message, 1, "service.version", env!("CARGO_PKG_VERSION"));
    }
}

/// `resource_spans` or `resource_metrics`, with one scope and what `fill` adds to that as field 2.
fn request(resource: &Resource, fill: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |all| {
        all.message(1, |message| resource.write(message));
        all.message(2, |scope| {
            scope.message(1, |scope| {
                scope.text(1, "tidemill").text(2, env!("CARGO_PKG_VERSION"));
            });
            fill(scope);
        });
    });
    request.into_bytes()
}

/// A `KeyValue` of text.
fn attribute(message: &mut Message, field: u64, key: &str, value: &str) {
    message.message(field, |pair| {
        pair.text(1, key).message(2, |any| {
            any.text(1, value);
        });
    });
}

/// A `KeyValue` of a whole number.
fn number_attribute(message: &mut Message, field: u64, key: &str, value: u64) {
    message.message(field, |pair| {
        pair.text(1, key).message(2, |any| {
            any.number(3, value);
        });
    });
}
