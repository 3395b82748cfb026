//! One fetched record, still in librdkafka's memory: lent, not copied.

use std::cell::{Cell, OnceCell};
use std::ffi::CStr;
use std::os::raw::c_char;
use std::ptr;

use rdkafka_sys as sys;

use crate::model::{Header, Headers, Record};

/// A fetched message, destroyed when dropped. Neither `Send` nor `Sync`: reading headers writes into it.
pub(super) struct Message {
    raw: *mut sys::rd_kafka_message_t,
}

/// Which topic handle a message came with: equal for all messages of a topic while it is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicHandle(*mut sys::rd_kafka_topic_t);

impl Message {
    /// # Safety
    /// `raw` is a live message whose ownership passes here, and its client outlives it.
    pub(super) unsafe fn own(raw: *mut sys::rd_kafka_message_t) -> Self {
        Self { raw }
    }

    #[inline]
    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: `raw` is alive until drop.
        unsafe { &*self.raw }
    }

    #[inline]
    pub(super) fn error(&self) -> sys::rd_kafka_resp_err_t {
        self.get().err
    }

    #[inline]
    pub(super) fn partition(&self) -> i32 {
        self.get().partition
    }

    #[inline]
    pub(super) fn offset(&self) -> i64 {
        self.get().offset
    }

    #[inline]
    pub(super) fn topic_handle(&self) -> TopicHandle {
        TopicHandle(self.get().rkt)
    }

    pub(super) fn topic(&self) -> &str {
        let handle = self.get().rkt;
        if handle.is_null() {
            return "";
        }
        // SAFETY: the handle is alive while the message is; Kafka's topic names are ASCII.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(handle)) }.to_str().unwrap_or("")
    }

    pub(super) fn error_text(&self) -> String {
        // SAFETY: the message is alive; the text is copied.
        unsafe { CStr::from_ptr(sys::rd_kafka_message_errstr(self.raw)) }.to_string_lossy().into_owned()
    }

    /// The record, borrowed. `topic` is handed in so that the name is not looked up per record, `headers` stand for
    /// those of this message.
    #[inline]
    pub(super) fn record<'a>(&'a self, topic: &'a str, headers: &'a LazyHeaders) -> Record<'a> {
        let message = self.get();
        let bytes = |start: *mut std::os::raw::c_void, length: usize| {
            // SAFETY: pointers and lengths of key and payload belong to the live message.
            (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
        };
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let timestamp_ms = unsafe { sys::rd_kafka_message_timestamp(self.raw, &mut kind) };
        Record {
            topic,
            partition: message.partition,
            offset: message.offset,
            timestamp_ms,
            key: bytes(message.key, message.key_len),
            value: bytes(message.payload, message.len),
            headers,
        }
    }
}

/// The headers of one message, listed when somebody asks, in a list whose memory goes from message to message.
pub(super) struct LazyHeaders {
    raw: *mut sys::rd_kafka_message_t,
    listed: OnceCell<Vec<Header<'static>>>,
    empty: Cell<Vec<Header<'static>>>,
}

impl LazyHeaders {
    pub(super) fn new() -> Self {
        Self { raw: ptr::null_mut(), listed: OnceCell::new(), empty: Cell::default() }
    }

    /// Those of `message` from now on.
    ///
    /// # Safety
    /// They are not asked for once `message` is gone.
    #[inline]
    pub(super) unsafe fn stand_for(&mut self, message: &Message) {
        self.raw = message.raw;
        if let Some(mut list) = self.listed.take() {
            list.clear();
            self.empty.set(list);
        }
    }
}

impl Headers for LazyHeaders {
    fn list(&self) -> &[Header<'_>] {
        self.listed.get_or_init(|| {
            let mut list = self.empty.take();
            // SAFETY: the message is alive, by the promise given to `stand_for`, and so are its headers: nobody
            // sees them as `'static`, since `list` lends them for as long as `self` is borrowed.
            unsafe { list_headers(self.raw, &mut list) };
            list
        })
    }
}

/// # Safety
/// `message` is alive, and outlives what is listed.
unsafe fn list_headers(message: *mut sys::rd_kafka_message_t, list: &mut Vec<Header<'static>>) {
    let mut headers = ptr::null_mut();
    // SAFETY: librdkafka parses the headers on the first call and keeps them with the message; a message belongs to
    // one thread, so nobody parses at the same time.
    if unsafe { sys::rd_kafka_message_headers(message, &mut headers) } as i32 != 0 {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null(), 0);
        // SAFETY: the headers live as long as the message; the three results are ours. A name is a C string.
        list.push(unsafe {
            if sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) as i32 != 0 {
                return;
            }
            let name = CStr::from_ptr(name).to_bytes();
            // Nearly all names are ASCII, which is found out in a fraction of the time that UTF-8 takes. One that is
            // neither breaks the protocol (KIP-82: names are strings); it matches nothing.
            let name = if name.is_ascii() {
                std::str::from_utf8_unchecked(name)
            } else {
                std::str::from_utf8(name).unwrap_or("")
            };
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            Header { name, value }
        });
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: owned, and dropped once.
        unsafe { sys::rd_kafka_message_destroy(self.raw) }
    }
}
