//! One output that wants more said about it than key and value.

use std::cell::RefCell;
use std::ops::Range;

use serde::Serialize;
use tidemill_abi as abi;

use crate::Failure;

/// The key of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// The key of the event, window or timer that is being handled.
    OfEvent,
    /// Kafka's null key.
    Null,
    /// These bytes.
    Bytes(&'a [u8]),
}

/// What can stand as an output's key: anything that is text or bytes, an `Option` of a reference to such (`None` is
/// Kafka's null key), or a [`Key`].
pub trait AsKey {
    /// As a key.
    fn as_key(&self) -> Key<'_>;
}

impl<T: AsRef<[u8]> + ?Sized> AsKey for &T {
    fn as_key(&self) -> Key<'_> {
        Key::Bytes((*self).as_ref())
    }
}

impl<T: AsRef<[u8]> + ?Sized> AsKey for Option<&T> {
    fn as_key(&self) -> Key<'_> {
        self.map_or(Key::Null, |key| Key::Bytes(key.as_ref()))
    }
}

impl AsKey for String {
    fn as_key(&self) -> Key<'_> {
        Key::Bytes(self.as_bytes())
    }
}

impl AsKey for Vec<u8> {
    fn as_key(&self) -> Key<'_> {
        Key::Bytes(self)
    }
}

impl AsKey for Key<'_> {
    fn as_key(&self) -> Key<'_> {
        *self
    }
}

/// One output with its key, value, and what else should be said about it; [`Context::send`](crate::Context::send)
/// takes it.
///
/// ```
/// # use serde_json::json;
/// # use tidemill_sdk::{Context, Done, Event, Out, Outcome};
/// fn screen(event: &Event, ctx: &mut Context) -> Outcome {
///     let out = Out::json(event.key(), &json!({ "reason": "amount" }))?
///         .to("review")
///         .header("screened-by", "limits")
///         .attribute("type", "com.example.payment.held");
///     ctx.send(out)?;
///     Ok(Done::Ok)
/// }
/// ```
pub struct Out {
    /// All bytes of the output, one after the other.
    bytes: Vec<u8>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    key: OwnKey,
    value: Option<Range<usize>>,
    sink: Option<Range<usize>>,
    content_type: Option<Range<usize>>,
    at: Option<i64>,
}

enum OwnKey {
    OfEvent,
    Null,
    Bytes(Range<usize>),
}

impl Out {
    /// `value` as JSON.
    ///
    /// # Errors
    /// A reject when the value has no form in JSON (a map whose keys are not text).
    pub fn json<V: Serialize + ?Sized>(key: impl AsKey, value: &V) -> Result<Self, Failure> {
        let mut out = Self::empty(&key);
        let start = out.bytes.len();
        serde_json::to_writer(&mut out.bytes, value).map_err(not_json)?;
        out.value = Some(start..out.bytes.len());
        Ok(out.content_type("application/json"))
    }

    /// `value` as it is.
    pub fn bytes(key: impl AsKey, value: impl AsRef<[u8]>) -> Self {
        let mut out = Self::empty(&key);
        out.value = Some(out.store(value.as_ref()));
        out
    }

    /// `value` as text.
    pub fn text(key: impl AsKey, value: impl AsRef<str>) -> Self {
        Self::bytes(key, value.as_ref()).content_type("text/plain; charset=utf-8")
    }

    /// Kafka's null: deletes `key` on a compacted topic.
    pub fn tombstone(key: impl AsKey) -> Self {
        Self::empty(&key)
    }

    /// To the sink of this name, instead of each sink whose filters take it.
    #[must_use]
    pub fn to(mut self, sink: &str) -> Self {
        self.sink = Some(self.store(sink.as_bytes()));
        self
    }

    /// With a further header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let header = (self.store(name.as_bytes()), Some(self.store(value.as_ref())));
        self.headers.push(header);
        self
    }

    /// With a CloudEvents attribute (`type`, `subject`, an extension …), for sinks of the format
    /// `cloudevents`; elsewhere it is the header `ce_<name>`.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"ce_");
        self.bytes.extend_from_slice(name.as_bytes());
        let header = (start..self.bytes.len(), Some(self.store(value.as_bytes())));
        self.headers.push(header);
        self
    }

    /// With this media type.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(self.store(media_type.as_bytes()));
        self
    }

    /// With this Kafka timestamp, milliseconds since the epoch, instead of the time of the event or
    /// the window.
    #[must_use]
    pub fn at(mut self, time_ms: i64) -> Self {
        self.at = Some(time_ms);
        self
    }

    /// Calls `then` with this output as the contract wants it.
    pub(crate) fn lend<R>(&self, headers: &mut Vec<abi::Header>, then: impl FnOnce(&abi::Output) -> R) -> R {
        headers.clear();
        headers.extend(self.headers.iter().map(|(name, value)| abi::Header {
            name: self.slice(name),
            value: value.as_ref().map_or(abi::Slice::ABSENT, |value| self.slice(value)),
        }));
        let optional = |range: &Option<Range<usize>>| {
            range.as_ref().map_or(abi::Slice::ABSENT, |range| self.slice(range))
        };
        let key = match &self.key {
            OwnKey::OfEvent => Key::OfEvent,
            OwnKey::Null => Key::Null,
            OwnKey::Bytes(range) => Key::Bytes(&self.bytes[range.clone()]),
        };
        then(&abi::Output {
            has_timestamp: u32::from(self.at.is_some()),
            timestamp_ms: self.at.unwrap_or_default(),
            sink: optional(&self.sink),
            content_type: optional(&self.content_type),
            headers: headers.as_ptr(),
            header_count: headers.len(),
            ..output(key, abi::Slice::ABSENT, self.value.as_ref().map(|range| &self.bytes[range.clone()]))
        })
    }

    fn empty(key: &impl AsKey) -> Self {
        let (bytes, headers) = POOL.with_borrow_mut(|pool| pool.pop()).unwrap_or_default();
        let (key, value, sink, content_type, at) = (key.as_key(), None, None, None, None);
        let mut out = Self { bytes, headers, key: OwnKey::Null, value, sink, content_type, at };
        out.key = match key {
            Key::OfEvent => OwnKey::OfEvent,
            Key::Null => OwnKey::Null,
            Key::Bytes(key) => OwnKey::Bytes(out.store(key)),
        };
        out
    }

    fn store(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn slice(&self, range: &Range<usize>) -> abi::Slice {
        abi::Slice::of(&self.bytes[range.clone()])
    }
}

/// An output's buffers.
type Buffers = (Vec<u8>, Vec<(Range<usize>, Option<Range<usize>>)>);

/// How many pairs of buffers a thread keeps, and how large they may be to be kept.
const POOLED: usize = 8;
const POOLED_BYTES: usize = 1 << 20;

thread_local! {
    /// Buffers of outputs that were sent, so that the next one does not allocate.
    static POOL: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.bytes.capacity() > POOLED_BYTES {
            return;
        }
        self.bytes.clear();
        self.headers.clear();
        let buffers = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.headers));
        // An output that is dropped while its thread ends finds no pool any more, and needs none.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOLED {
                pool.push(buffers);
            }
        });
    }
}

/// An output of key, media type and value, as the contract wants it.
pub(crate) fn output(key: Key<'_>, content_type: abi::Slice, value: Option<&[u8]>) -> abi::Output {
    let (key_kind, key) = match key {
        Key::OfEvent => (abi::KEY_OF_EVENT, abi::Slice::ABSENT),
        Key::Null => (abi::KEY_NULL, abi::Slice::ABSENT),
        Key::Bytes(key) => (abi::KEY_BYTES, abi::Slice::of(key)),
    };
    abi::Output {
        size: size_of::<abi::Output>() as u32,
        version: abi::VERSION,
        key_kind,
        has_timestamp: 0,
        timestamp_ms: 0,
        sink: abi::Slice::ABSENT,
        key,
        value: abi::Slice::of_option(value),
        content_type,
        headers: std::ptr::null(),
        header_count: 0,
    }
}

pub(crate) fn not_json(error: serde_json::Error) -> Failure {
    Failure::reject(format_args!("the output has no form in JSON: {error}"))
}
