//! What passes between librdkafka's admin calls and owned values: guards that free what was made, and readers
//! that copy what an answer points to.

#![allow(unsafe_code, reason = "these objects exist in C alone")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use rdkafka::bindings as rd;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;

use super::admin::NewTopic;

/// Why a request, or one item of it, came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: Code,
    pub reason: String,
}

/// One partition with an offset and metadata, as requests and answers carry it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
}

/// Places, each with its own failure.
pub(super) type Answered = Vec<(Place, Result<(), Refusal>)>;

/// The answer to a request about several things: the request's own failure, or each thing with its own.
pub(super) type Answers<K, V = ()> = Result<Vec<(K, Result<V, Refusal>)>, Refusal>;

pub(super) struct Options(pub *mut rd::rd_kafka_AdminOptions_t);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AdminOptions_new`, destroyed once.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

pub(super) struct Queue(pub *mut rd::rd_kafka_queue_t);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, destroyed once; a request under way holds its own reference.
        unsafe { rd::rd_kafka_queue_destroy(self.0) }
    }
}

pub(super) struct Answer(pub *mut rd::rd_kafka_event_t);

impl Answer {
    /// The request's own error, or what `read` makes of the event.
    pub fn read<T>(&self, read: impl FnOnce(*mut rd::rd_kafka_event_t) -> T) -> Result<T, Refusal> {
        // SAFETY: the event lives until `self` is dropped.
        unsafe { refused(rd::rd_kafka_event_error(self.0), rd::rd_kafka_event_error_string(self.0)) }?;
        Ok(read(self.0))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: taken from the queue by `ask`, destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0) }
    }
}

pub(super) struct OwnedNewTopic(pub *mut rd::rd_kafka_NewTopic_t);

impl OwnedNewTopic {
    pub fn new(topic: &NewTopic) -> Result<Self, Refusal> {
        let name = c_string(&topic.name)?;
        // -1 asks for the broker's default (KIP-464).
        let partitions = topic.partitions.map_or(-1, |n| c_int::try_from(n).unwrap_or(c_int::MAX));
        let replication = topic.replication.map_or(-1, c_int::from);
        let mut message = [0 as c_char; 256];
        // SAFETY: C strings and a buffer of the named size, all copied.
        unsafe {
            let size = message.len();
            let made =
                rd::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replication, message.as_mut_ptr(), size);
            if made.is_null() {
                return Err(Refusal { code: Code::InvalidArgument, reason: text(message.as_ptr()) });
            }
            let made = Self(made);
            for (setting, value) in &topic.config {
                let (setting, value) = (c_string(setting)?, c_string(value)?);
                let code = rd::rd_kafka_NewTopic_set_config(made.0, setting.as_ptr(), value.as_ptr());
                refused(code, ptr::null())?;
            }
            Ok(made)
        }
    }
}

impl Drop for OwnedNewTopic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_NewTopic_new`, destroyed once.
        unsafe { rd::rd_kafka_NewTopic_destroy(self.0) }
    }
}

pub(super) struct PlaceList(pub *mut rd::rd_kafka_topic_partition_list_t);

impl PlaceList {
    pub fn new<'a>(places: impl Iterator<Item = (&'a str, i32, i64, &'a str)>) -> Result<Self, Refusal> {
        // SAFETY: `list` is destroyed by its guard; `add` copies the name and gives an element of the list,
        // whose metadata the list frees with librdkafka's allocator, so it comes from there.
        unsafe {
            let list = Self(rd::rd_kafka_topic_partition_list_new(8));
            for (topic, partition, offset, metadata) in places {
                let topic = c_string(topic)?;
                let element = rd::rd_kafka_topic_partition_list_add(list.0, topic.as_ptr(), partition);
                (*element).offset = offset;
                if !metadata.is_empty() {
                    let copy = rd::rd_kafka_mem_malloc(ptr::null_mut(), metadata.len());
                    ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                    (*element).metadata = copy;
                    (*element).metadata_size = metadata.len();
                }
            }
            Ok(list)
        }
    }
}

impl Drop for PlaceList {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_partition_list_new`, destroyed once.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// SAFETY: `groups` are the results of an event that lives.
pub(super) unsafe fn group_places(groups: &[*const rd::rd_kafka_group_result_t]) -> Answers<Place> {
    let &group = groups.first().ok_or_else(no_answer)?;
    // SAFETY: see above; the list has `cnt` elements.
    unsafe {
        no_error(rd::rd_kafka_group_result_error(group))?;
        Ok(places(rd::rd_kafka_group_result_partitions(group)))
    }
}

/// SAFETY: `list` is null, or a list that lives.
pub(super) unsafe fn places(
    list: *const rd::rd_kafka_topic_partition_list_t,
) -> Vec<(Place, Result<(), Refusal>)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: see above; the list has `cnt` elements.
    unsafe { (0..(*list).cnt as usize).map(|index| place(&*(*list).elems.add(index))).collect() }
}

/// SAFETY: the element is of a list that lives.
pub(super) unsafe fn place(element: &rd::rd_kafka_topic_partition_t) -> (Place, Result<(), Refusal>) {
    // SAFETY: topic is a C string, metadata has the size that stands beside it.
    unsafe {
        let metadata = match element.metadata_size {
            0 => String::new(),
            size => {
                let bytes = std::slice::from_raw_parts(element.metadata.cast::<u8>(), size);
                String::from_utf8_lossy(bytes).into_owned()
            }
        };
        let place = Place {
            topic: text(element.topic),
            partition: element.partition,
            offset: element.offset,
            metadata,
        };
        (place, refused(element.err, ptr::null()))
    }
}

/// The array that a result holds.
pub(super) fn array<'a, T>(get: impl FnOnce(*mut usize) -> *mut *const T) -> &'a [*const T] {
    let mut count = 0;
    let first = get(&mut count);
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: librdkafka gave `count` pointers that live as long as the event, which every caller holds.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// SAFETY: `error` is null or lives.
pub(super) unsafe fn no_error(error: *const rd::rd_kafka_error_t) -> Result<(), Refusal> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: see above.
    unsafe { refused(rd::rd_kafka_error_code(error), rd::rd_kafka_error_string(error)) }
}

/// SAFETY: `error` is null or owned by the caller, who gives it away.
pub(super) unsafe fn taken_error(error: *mut rd::rd_kafka_error_t) -> Result<(), Refusal> {
    // SAFETY: see above; read before it is destroyed, null is not destroyed.
    unsafe {
        let answer = no_error(error);
        if !error.is_null() {
            rd::rd_kafka_error_destroy(error);
        }
        answer
    }
}

/// SAFETY: `reason` is null or a C string that lives.
pub(super) unsafe fn refused(code: RDKafkaRespErr, reason: *const c_char) -> Result<(), Refusal> {
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let code = Code::from(code);
    // SAFETY: see above.
    let reason = unsafe { text(reason) };
    Err(Refusal { code, reason: if reason.is_empty() { code.to_string() } else { reason } })
}

/// SAFETY: `pointer` is null or a C string that lives.
pub(super) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

pub(super) fn c_string(text: &str) -> Result<CString, Refusal> {
    CString::new(text)
        .map_err(|_| Refusal { code: Code::InvalidArgument, reason: format!("{text:?} holds a zero byte") })
}

pub(super) fn no_answer() -> Refusal {
    Refusal { code: Code::BadMessage, reason: "the answer is empty".to_owned() }
}
