//! Dead letters: the original record, byte by byte, with headers that say what happened to it.

use super::origin::{FUNCTION, OFFSET, PARTITION, RESULT, ROUND, TIMESTAMP, TOPIC};
use super::stamp::Stamp;
use super::write::{OutRecord, Target, Writer};
use crate::model::{DeadLetterReason, Function, Header, HeaderBuffer, Record};

/// Every header that a dead letter adds begins with this; those of an earlier death are replaced, but for the round
/// of an event that was brought back and died again.
pub const PREFIX: &str = "tidemill-";

/// The longest `tidemill-error`, in bytes: a header counts against the broker's message size.
pub const MAX_ERROR_BYTES: usize = 2048;

/// What happened.
#[derive(Debug, Clone, Copy)]
pub struct Death<'a> {
    /// Why.
    pub reason: DeadLetterReason,
    /// The error's text; cut off at [`MAX_ERROR_BYTES`].
    pub error: &'a str,
    /// How often it was called, 0 when it never was.
    pub attempts: u32,
    /// How often it was brought back before, 0: never.
    pub round: u32,
    /// The span of the call, if the event came in a trace and is sampled.
    pub span: Option<&'a [u8]>,
    /// The result of a window or a timer, so that it can be brought back, or nothing if that would be too large; `None`: an
    /// event died.
    pub result: Option<Option<&'a [u8]>>,
}

impl<'a> Death<'a> {
    /// For this reason, without a call.
    pub fn of(reason: DeadLetterReason, error: &'a str) -> Self {
        Self { reason, error, attempts: 0, round: 0, span: None, result: None }
    }
}

/// Writes the dead letters of one function.
pub struct DeadLetters {
    function: String,
    has_late_topic: bool,
    stamp: Stamp,
    headers: HeaderBuffer,
}

impl DeadLetters {
    /// For `function`.
    pub fn new(function: &Function) -> Self {
        let stamp = Stamp::new(function);
        let has_late_topic = function.window.as_ref().is_some_and(|window| window.late_topic.is_some());
        let function = function.name.to_string();
        Self { function, has_late_topic, stamp, headers: HeaderBuffer::default() }
    }

    /// Writes `record` to the dead-letter topic, stamped `now_ms`: a dead letter with the original's
    /// time could be older than the topic keeps, or further ahead than the broker takes. It was read as `read`: the
    /// same record, but for one that was brought back.
    pub fn write<W: Writer>(
        &mut self,
        (record, read): (&Record<'_>, &Record<'_>),
        death: &Death<'_>,
        now_ms: i64,
        writer: &mut W,
    ) {
        // Late events have a topic of their own, if the manifest says so.
        let is_late = death.reason == DeadLetterReason::Late && self.has_late_topic;
        let target = if is_late { Target::Late } else { Target::DeadLetter };
        self.stamp.begin(read);
        let mut numbers = [itoa::Buffer::new(); 5];
        let [attempts, partition, offset, timestamp, round] = &mut numbers;
        let added: [(&str, &str); 8] = [
            (FUNCTION, &self.function),
            ("tidemill-reason", death.reason.as_str()),
            ("tidemill-error", shortened(death.error)),
            ("tidemill-attempts", attempts.format(death.attempts)),
            (TOPIC, record.topic),
            (PARTITION, partition.format(record.partition)),
            (OFFSET, offset.format(record.offset)),
            (TIMESTAMP, timestamp.format(record.timestamp_ms)),
        ];
        let mut headers = self.headers.lend();
        headers.extend(record.headers().iter().filter(|header| !header.name.starts_with(PREFIX)));
        if death.span.is_some() {
            let is_parent =
                |header: &&mut Header<'_>| ["traceparent", "ce_traceparent"].contains(&header.name);
            headers.iter_mut().filter(is_parent).for_each(|header| header.value = death.span);
        }
        let round = (death.round > 0).then(|| (ROUND, round.format(death.round)));
        let added = added.into_iter().chain(round);
        headers.extend(added.map(|(name, value)| Header { name, value: Some(value.as_bytes()) }));
        headers.extend(death.result.map(|result| Header { name: RESULT, value: result }));
        headers.push(self.stamp.header(0, 1));
        writer.write(&OutRecord {
            target,
            key: record.key,
            value: record.value,
            headers: &headers,
            timestamp_ms: Some(now_ms),
        });
        self.headers.put_back(headers);
    }
}

fn shortened(error: &str) -> &str {
    &error[..error.floor_char_boundary(MAX_ERROR_BYTES)]
}
