//! Logs: where they go and how they look. Standard error, never standard output, which belongs to what a
//! verb prints. Fields are called the same everywhere: `function`, `worker`, `topic`, `partition`, `offset`.

use std::io::IsTerminal;

use tracing::Span;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; in colour on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line, for containers.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log filter `{filter}` is not valid: {reason}; write a level, or `tidemill=debug,warn`")]
    Filter {
        /// As it was given.
        filter: String,
        /// The parser's words.
        reason: String,
    },
    /// Somebody in this process logs already.
    #[error("logging was started twice")]
    Twice,
}

/// Sends logs of the whole process to standard error; once in a process. `filter` is a level
/// (`info`) or a list of `target=level`.
pub fn init(filter: &str, format: Format) -> Result<(), LogError> {
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let subscriber = subscriber(filter, format, colours, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

fn subscriber<W>(
    filter: &str,
    format: Format,
    colours: bool,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let levels = EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(levels).with_writer(writer).with_target(false);
    Ok(match format {
        Format::Text => Box::new(builder.with_ansi(colours).compact().finish()),
        Format::Json => Box::new(
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish(),
        ),
    })
}

/// The span that a worker's thread works in: its lines carry function and number.
pub fn worker_span(function: &str, worker: u32) -> Span {
    tracing::info_span!("worker", function, worker)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A place where a test finds what was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `act` logs through `filter` in this form, without colours.
    pub(in crate::observe) fn logged(filter: &str, format: Format, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = subscriber(filter, format, false, move || sink.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_carries_the_workers_function_and_number() {
        let line = logged("info", Format::Json, || {
            let _in_worker = worker_span("default/echo", 3).entered();
            tracing::info!(topic = "rides", partition = 2, "assigned");
        });
        let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON document");
        assert_eq!((&line["message"], &line["level"]), (&"assigned".into(), &"INFO".into()));
        assert_eq!((&line["topic"], &line["partition"]), (&"rides".into(), &2.into()));
        assert_eq!((&line["span"]["function"], &line["span"]["worker"]), (&"default/echo".into(), &3.into()));
    }

    #[test]
    fn text_is_one_line_without_escapes_when_nobody_watches() {
        let text = logged("info", Format::Text, || {
            let _in_worker = worker_span("default/echo", 3).entered();
            tracing::info!(topic = "rides", "assigned");
            tracing::debug!("not shown");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.contains("assigned topic=\"rides\""), "{text}");
        assert!(text.contains("function=\"default/echo\"") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_wrong_filter_says_what_to_write() {
        let error = init("tidemill=loud", Format::Text).unwrap_err();
        assert!(matches!(&error, LogError::Filter { filter, .. } if filter == "tidemill=loud"), "{error}");
        assert!(error.to_string().contains("write a level"), "{error}");
    }
}
