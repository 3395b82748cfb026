//! What `dev` prints: lines for people, or one JSON object a happening.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::line::{Line, Paint, Style, brief, short};
use super::tap::{Happening, OwnedRecord};
use super::totals::Totals;
use crate::cli::{Output, sample};
use crate::codec::rfc3339::Timestamp;
use crate::model::Function;
use crate::pipeline::Settled;

/// The terminal, or whatever standard output is.
pub struct Display {
    output: Output,
    colours: bool,
    is_terminal: bool,
    /// Whoever read standard output has gone.
    pub is_closed: bool,
    /// Several functions run, so each event says which it met.
    pub names_functions: bool,
    /// The event that was shown last: its further attempts do not show it again.
    last: Option<(String, String, i32, i64)>,
}

impl Display {
    /// On standard output; colours only on a terminal and unless `NO_COLOR` is set.
    pub fn new(output: Output) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let wants_colours = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Self {
            output,
            colours: is_terminal && wants_colours,
            is_terminal,
            is_closed: false,
            names_functions: false,
            last: None,
        }
    }

    fn style(&self) -> Style {
        let size = self.is_terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Style { colours: self.colours, width }
    }

    /// One pass of an event. `invoke`: the command that runs a failed one again.
    pub fn event(&mut self, happening: &Happening, now_ms: i64, invoke: Option<&str>) -> io::Result<()> {
        if self.output == Output::Json {
            return self.print(&format!("{}\n", event_json(happening, invoke)));
        }
        let record = &happening.record;
        let name = happening.function.name.to_string();
        let event = Some((name, record.topic.clone(), record.partition, record.offset));
        let is_new = self.last != event;
        self.last = event;
        let style = self.style();
        let mut text = String::new();
        if is_new {
            text += &incoming(record, now_ms).render(style);
        }
        text += &outcome(happening, self.names_functions).render(style);
        for output in &happening.outputs {
            text += &outgoing(output).render(style);
        }
        if let Some(invoke) = invoke {
            // Not cut: it is there to be copied.
            text += &Line::default()
                .add(Paint::Dim, format!("    {invoke}"))
                .render(Style { width: None, ..style });
        }
        self.print(&text)
    }

    /// What windows of a function gave.
    pub fn gave(&mut self, function: &Function, outputs: &[OwnedRecord]) -> io::Result<()> {
        if self.output == Output::Json {
            let outputs: Vec<Value> = outputs.iter().map(record_json).collect();
            let function = function.name.to_string();
            let object = json!({ "happening": "windows", "function": function, "outputs": outputs });
            return self.print(&format!("{object}\n"));
        }
        self.last = None;
        let style = self.style();
        let text: String = outputs.iter().map(|output| outgoing(output).render(style)).collect();
        self.print(&text)
    }

    /// Something else that happened: `what` in one word, `text` for people, `fields` for programs.
    pub fn say(&mut self, what: &str, text: &str, fields: Value) -> io::Result<()> {
        self.note(Paint::Dim, what, text, fields)
    }

    /// Something that somebody has to mend.
    pub fn complain(&mut self, what: &str, text: &str, fields: Value) -> io::Result<()> {
        self.note(Paint::Red, what, text, fields)
    }

    fn note(&mut self, paint: Paint, what: &str, text: &str, fields: Value) -> io::Result<()> {
        self.last = None;
        let printed = match self.output {
            Output::Json => {
                let mut object = json!({ "happening": what });
                if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
                    object.extend(fields);
                }
                format!("{object}\n")
            }
            Output::Text => {
                let style = Style { width: None, ..self.style() };
                text.lines().map(|line| Line::default().add(paint, line).render(style)).collect()
            }
        };
        self.print(&printed)
    }

    /// The end.
    pub fn totals(&mut self, totals: &Totals) -> io::Result<()> {
        match self.output {
            Output::Text => self.print(&format!("{totals}\n")),
            Output::Json => self.say("totals", "", serde_json::to_value(totals)?),
        }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            result => result,
        }
    }
}

fn incoming(record: &OwnedRecord, now_ms: i64) -> Line {
    let time = Timestamp::from_millisecond(now_ms).render();
    let time = time.as_ref().and_then(|time| time.as_str().get(11..19)).unwrap_or("--:--:--");
    let line = Line::default().add(Paint::Dim, format!("{time} ")).add(Paint::Blue, "→ ");
    contents(line.add(Paint::Blue, record.topic.clone()), record)
}

fn outgoing(record: &OwnedRecord) -> Line {
    let line = Line::default().add(Paint::Green, "  ← ");
    contents(line.add(Paint::Green, record.topic.clone()), record)
}

fn contents(line: Line, record: &OwnedRecord) -> Line {
    line.add(Paint::Dim, " key=")
        .add(Paint::Plain, brief(record.key.as_deref()))
        .add(Paint::Plain, " ")
        .add(Paint::Plain, brief(record.value.as_deref()))
}

fn outcome(happening: &Happening, names_function: bool) -> Line {
    let Happening { function, attempt, settled, took, .. } = happening;
    let name = if names_function { format!(" {}", function.name.name) } else { String::new() };
    let took = format!(" {}", short(*took));
    let line = Line::default();
    // A message may have several lines.
    let brief = |text: &str| brief(Some(text.as_bytes())).into_owned();
    match settled {
        Settled::Ok { unrouted, .. } => {
            let line = line.add(Paint::Green, format!("  ✓{name}")).add(Paint::Dim, took);
            match unrouted {
                0 => line,
                count => line.add(Paint::Yellow, format!(", taken by no sink: {count}")),
            }
        }
        Settled::Skipped => line.add(Paint::Yellow, format!("  –{name} skipped")).add(Paint::Dim, took),
        Settled::Filtered => line.add(Paint::Yellow, format!("  –{name} filtered")),
        Settled::DeadLetter { reason, error, .. } => line
            .add(Paint::Red, format!("  ✗{name} {}: {}", reason.as_str(), brief(error)))
            .add(Paint::Dim, format!(" ⇒ {}", function.delivery.dead_letter_topic)),
        Settled::Retry { message, is_panic, .. } => {
            let most = function.delivery.retry.max_attempts;
            let failed = if *is_panic { " panicked" } else { "" };
            line.add(Paint::Red, format!("  ✗{name} attempt {attempt} of {most}{failed}: {}", brief(message)))
        }
        Settled::Stop { message, .. } => {
            let text = format!("  ✗{name} out of attempts, so it stops: {}", brief(message));
            line.add(Paint::Red, text)
        }
    }
}

fn event_json(happening: &Happening, invoke: Option<&str>) -> Value {
    let outcome = match &happening.settled {
        Settled::Ok { .. } => "ok",
        Settled::Skipped => "skip",
        Settled::Filtered => "filtered",
        Settled::DeadLetter { .. } => "deadLetter",
        Settled::Retry { .. } => "retry",
        Settled::Stop { .. } => "stop",
    };
    let mut object = json!({
        "happening": "event",
        "function": happening.function.name.to_string(),
        "event": record_json(&happening.record),
        "attempt": happening.attempt,
        "outcome": outcome,
        "took_us": u64::try_from(happening.took.as_micros()).unwrap_or(u64::MAX),
        "outputs": happening.outputs.iter().map(record_json).collect::<Vec<_>>(),
    });
    if let Settled::DeadLetter { reason, .. } = &happening.settled {
        object["reason"] = reason.as_str().into();
        object["deadLetterTopic"] = happening.function.delivery.dead_letter_topic.clone().into();
    }
    if let Some(error) = happening.failure() {
        object["error"] = error.into();
    }
    if let Some(invoke) = invoke {
        object["invoke"] = invoke.into();
    }
    object
}

/// As a line of a sample; of an output partition and offset are not known.
fn record_json(record: &OwnedRecord) -> Value {
    let mut value = serde_json::from_str(&record.lend(sample::render)).unwrap_or_default();
    if let Value::Object(object) = &mut value
        && record.offset < 0
    {
        object.remove("partition");
        object.remove("offset");
    }
    value
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::manifest;
    use crate::model::DeadLetterReason;

    fn happening(settled: Settled) -> Happening {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec:\n  \
                    sources: [{topic: in}]\n  sinks: [{topic: out}]\n";
        let function = manifest::parse(Path::new("/f/function.yaml"), text).unwrap().remove(0);
        let record = |topic: &str, offset| OwnedRecord {
            topic: topic.to_owned(),
            partition: 0,
            offset,
            timestamp_ms: -1,
            key: Some(b"k".to_vec()),
            value: Some(b"{\"a\": 1}".to_vec()),
            headers: Vec::new(),
        };
        Happening {
            function: Arc::new(function),
            record: record("in", 7),
            attempt: 1,
            settled,
            took: Duration::from_micros(12),
            outputs: vec![record("out", -1)],
        }
    }

    const PLAIN: Style = Style { colours: false, width: None };

    #[test]
    fn an_event_its_outcome_and_its_outputs_take_a_line_each() {
        let ok = happening(Settled::Ok { written: 0, unrouted: 0 });
        // 2023-11-14T22:13:20Z.
        assert_eq!(incoming(&ok.record, 1_700_000_000_000).render(PLAIN), "22:13:20 → in key=k {\"a\": 1}\n");
        assert_eq!(outcome(&ok, false).render(PLAIN), "  ✓ 12 µs\n");
        assert_eq!(outcome(&ok, true).render(PLAIN), "  ✓ mill 12 µs\n");
        assert_eq!(outgoing(&ok.outputs[0]).render(PLAIN), "  ← out key=k {\"a\": 1}\n");
    }

    #[test]
    fn every_outcome_says_what_became_of_the_event() {
        let (reason, error) = (DeadLetterReason::Rejected, "no\nfare".to_owned());
        let message = "down".to_owned();
        for (settled, shown) in [
            (Settled::Ok { written: 0, unrouted: 2 }, "  ✓ 12 µs, taken by no sink: 2\n"),
            (Settled::Skipped, "  – skipped 12 µs\n"),
            (Settled::Filtered, "  – filtered\n"),
            (Settled::DeadLetter { reason, error, called: None }, "  ✗ rejected: no fare ⇒ mill.dlq\n"),
            (
                Settled::Retry { after: None, message: message.clone(), is_panic: true },
                "  ✗ attempt 1 of 12 panicked: down\n",
            ),
            (Settled::Stop { message, is_panic: false }, "  ✗ out of attempts, so it stops: down\n"),
        ] {
            assert_eq!(outcome(&happening(settled), false).render(PLAIN), shown);
        }
    }

    #[test]
    fn programs_are_told_the_same() {
        let settled = Settled::DeadLetter {
            reason: DeadLetterReason::Malformed,
            error: "no json".to_owned(),
            called: None,
        };
        let expected = json!({
            "happening": "event", "function": "default/mill", "attempt": 1, "outcome": "deadLetter", "took_us": 12,
            "event": { "topic": "in", "partition": 0, "offset": 7, "key": "k", "value": { "a": 1 } },
            "outputs": [{ "topic": "out", "key": "k", "value": { "a": 1 } }],
            "reason": "malformed", "error": "no json", "deadLetterTopic": "mill.dlq", "invoke": "tidemill invoke f",
        });
        assert_eq!(event_json(&happening(settled), Some("tidemill invoke f")), expected);
    }
}
