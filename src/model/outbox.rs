//! What one call emits and does to its key, staged until the call has succeeded: a failed call leaves nothing.

use std::ops::Range;
use std::time::Duration;

use super::keyed::{At, Effect};
use super::record::Header;

/// The key of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChoice<'a> {
    /// The key of the event that is being handled.
    OfEvent,
    /// Kafka's null key.
    Null,
    /// These bytes.
    Bytes(&'a [u8]),
}

/// One output of a handler, before routing and encoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Emit<'a> {
    /// The sink it is addressed to; `None`: to each sink whose filters take it.
    pub sink: Option<&'a str>,
    /// Its key.
    pub key: KeyChoice<'a>,
    /// Its payload; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The payload's media type, when the handler knows it.
    pub content_type: Option<&'a str>,
    /// Kafka timestamp in milliseconds since the epoch; `None`: the event's time.
    pub timestamp_ms: Option<i64>,
    /// Further headers; those named `ce_…` set CloudEvents attributes on a `cloudevents` sink.
    pub headers: &'a [Header<'a>],
}

type Span = Range<u32>;

struct Staged {
    sink: Option<Span>,
    key: StagedKey,
    value: Option<Span>,
    content_type: Option<Span>,
    timestamp_ms: Option<i64>,
    headers: Range<u32>,
}

enum StagedKey {
    OfEvent,
    Null,
    Bytes(Span),
}

enum StagedEffect {
    Put { name: Span, value: Span, ttl: Option<Duration> },
    Delete { name: Span },
    Timer { name: Span, at: At },
    Cancel { name: Span },
}

/// A place in an outbox to fall back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    emits: usize,
    effects: usize,
    headers: usize,
    bytes: usize,
}

/// The staging buffer: one arena for all bytes of a call, reused from call to call, so that a call
/// that emits does not allocate once the buffer has grown.
#[derive(Default)]
pub struct Outbox {
    arena: Vec<u8>,
    headers: Vec<(Span, Option<Span>)>,
    emits: Vec<Staged>,
    effects: Vec<StagedEffect>,
}

impl Outbox {
    /// The most bytes one call may stage: spans are 32-bit.
    pub const MAX_BYTES: usize = 1 << 30;

    /// An output with more headers than this costs an allocation each time it is visited.
    pub const INLINE_HEADERS: usize = 12;

    /// Stages one output. `false`: it does not fit in [`Outbox::MAX_BYTES`], nothing was staged.
    #[must_use]
    pub fn push(&mut self, emit: &Emit<'_>) -> bool {
        let mark = self.mark();
        let sum: usize = emit.value.map_or(0, <[u8]>::len)
            + emit.headers.iter().map(|h| h.name.len() + h.value.map_or(0, <[u8]>::len)).sum::<usize>()
            + match emit.key {
                KeyChoice::Bytes(key) => key.len(),
                _ => 0,
            };
        if self.arena.len() + sum + 4096 > Self::MAX_BYTES {
            self.rollback(mark);
            return false;
        }
        let sink = emit.sink.map(|sink| self.store(sink.as_bytes()));
        let key = match emit.key {
            KeyChoice::OfEvent => StagedKey::OfEvent,
            KeyChoice::Null => StagedKey::Null,
            KeyChoice::Bytes(key) => StagedKey::Bytes(self.store(key)),
        };
        let value = emit.value.map(|value| self.store(value));
        let content_type = emit.content_type.map(|text| self.store(text.as_bytes()));
        let first = self.headers.len() as u32;
        for header in emit.headers {
            let name = self.store(header.name.as_bytes());
            let value = header.value.map(|value| self.store(value));
            self.headers.push((name, value));
        }
        let headers = first..self.headers.len() as u32;
        self.emits.push(Staged { sink, key, value, content_type, timestamp_ms: emit.timestamp_ms, headers });
        true
    }

    /// Stages what is done to the call's key. `false`: it does not fit in [`Outbox::MAX_BYTES`], nothing was staged.
    #[must_use]
    pub fn push_effect(&mut self, effect: &Effect<'_>) -> bool {
        let (Effect::Put { name, .. }
        | Effect::Delete { name }
        | Effect::Timer { name, .. }
        | Effect::Cancel { name }) = *effect;
        let value = match effect {
            Effect::Put { value, .. } => value.len(),
            _ => 0,
        };
        if self.arena.len() + name.len() + value > Self::MAX_BYTES {
            return false;
        }
        let name = self.store(name.as_bytes());
        let staged = match *effect {
            Effect::Put { value, ttl, .. } => StagedEffect::Put { name, value: self.store(value), ttl },
            Effect::Delete { .. } => StagedEffect::Delete { name },
            Effect::Timer { at, .. } => StagedEffect::Timer { name, at },
            Effect::Cancel { .. } => StagedEffect::Cancel { name },
        };
        self.effects.push(staged);
        true
    }

    /// What is done to the call's key, in order.
    pub fn effects(&self) -> impl Iterator<Item = Effect<'_>> {
        self.effects.iter().map(|staged| match staged {
            StagedEffect::Put { name, value, ttl } => {
                Effect::Put { name: self.text(name), value: self.bytes(value), ttl: *ttl }
            }
            StagedEffect::Delete { name } => Effect::Delete { name: self.text(name) },
            StagedEffect::Timer { name, at } => Effect::Timer { name: self.text(name), at: *at },
            StagedEffect::Cancel { name } => Effect::Cancel { name: self.text(name) },
        })
    }

    /// What the call itself has put under `name`, `Some(None)` if it has deleted it; `None`: it has not touched it.
    pub fn staged_value(&self, name: &str) -> Option<Option<&[u8]>> {
        self.effects.iter().rev().find_map(|staged| match staged {
            StagedEffect::Put { name: put, value, .. } if self.text(put) == name => {
                Some(Some(self.bytes(value)))
            }
            StagedEffect::Delete { name: deleted } if self.text(deleted) == name => Some(None),
            _ => None,
        })
    }

    /// How many outputs are staged.
    pub fn len(&self) -> usize {
        self.emits.len()
    }

    /// Nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.emits.is_empty()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.headers.clear();
        self.emits.clear();
        self.effects.clear();
    }

    /// Where the outbox stands now.
    pub fn mark(&self) -> Mark {
        Mark {
            emits: self.emits.len(),
            effects: self.effects.len(),
            headers: self.headers.len(),
            bytes: self.arena.len(),
        }
    }

    /// Drops everything staged after `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.emits.truncate(mark.emits);
        self.effects.truncate(mark.effects);
        self.headers.truncate(mark.headers);
        self.arena.truncate(mark.bytes);
    }

    /// Calls `each` for every staged output, in order. Up to [`Outbox::INLINE_HEADERS`] headers are
    /// listed on the stack.
    pub fn visit<E>(&self, mut each: impl FnMut(&Emit<'_>) -> Result<(), E>) -> Result<(), E> {
        for staged in &self.emits {
            let spans = &self.headers[staged.headers.start as usize..staged.headers.end as usize];
            match spans.len() {
                0 => each(&self.emit(staged, &[]))?,
                count @ 1..=Self::INLINE_HEADERS => {
                    let mut inline = [Header { name: "", value: None }; Self::INLINE_HEADERS];
                    for (place, span) in inline.iter_mut().zip(spans) {
                        *place = self.header(span);
                    }
                    each(&self.emit(staged, &inline[..count]))?;
                }
                _ => {
                    let listed: Vec<Header<'_>> = spans.iter().map(|span| self.header(span)).collect();
                    each(&self.emit(staged, &listed))?;
                }
            }
        }
        Ok(())
    }

    fn emit<'a>(&'a self, staged: &Staged, headers: &'a [Header<'a>]) -> Emit<'a> {
        Emit {
            sink: staged.sink.as_ref().map(|span| self.text(span)),
            key: match &staged.key {
                StagedKey::OfEvent => KeyChoice::OfEvent,
                StagedKey::Null => KeyChoice::Null,
                StagedKey::Bytes(span) => KeyChoice::Bytes(self.bytes(span)),
            },
            value: staged.value.as_ref().map(|span| self.bytes(span)),
            content_type: staged.content_type.as_ref().map(|span| self.text(span)),
            timestamp_ms: staged.timestamp_ms,
            headers,
        }
    }

    fn header(&self, (name, value): &(Span, Option<Span>)) -> Header<'_> {
        Header { name: self.text(name), value: value.as_ref().map(|value| self.bytes(value)) }
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        start..self.arena.len() as u32
    }

    fn bytes(&self, span: &Span) -> &[u8] {
        &self.arena[span.start as usize..span.end as usize]
    }

    fn text(&self, span: &Span) -> &str {
        std::str::from_utf8(self.bytes(span)).expect("only `str`s are stored as text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_did_to_its_key_is_seen_by_it_and_taken_back_with_it() {
        let mut outbox = Outbox::default();
        let put = Effect::Put { name: "order", value: b"1", ttl: None };
        assert!(outbox.push_effect(&put));
        assert_eq!(outbox.staged_value("order"), Some(Some(&b"1"[..])));
        assert_eq!(outbox.staged_value("other"), None);
        let mark = outbox.mark();
        let effects = [
            Effect::Delete { name: "order" },
            Effect::Timer { name: "pay-by", at: At::Event(5) },
            Effect::Cancel { name: "pay-by" },
        ];
        effects.iter().for_each(|effect| assert!(outbox.push_effect(effect)));
        assert_eq!(outbox.staged_value("order"), Some(None), "deleted by the call itself");
        assert_eq!(outbox.effects().skip(1).collect::<Vec<_>>(), effects);
        outbox.rollback(mark);
        assert_eq!(outbox.effects().collect::<Vec<_>>(), [put]);
        outbox.clear();
        assert_eq!(outbox.effects().count(), 0);
    }
}
