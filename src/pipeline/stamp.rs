//! Which event made a record: the header by which the audit finds each result's origin again.

use crate::model::{Function, Header, Record};

/// The header's name.
pub const ORIGIN: &str = "tidemill-origin";

/// What the header says: `namespace/name/topic/partition/offset/number/of`. The event is named by the place where the
/// function read it: of one that was brought back, in the redrive topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The function, `namespace/name`.
    pub function: &'a str,
    /// The topic that it read.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Which of the event's records this is, from 0.
    pub number: u32,
    /// How many records the event made.
    pub of: u32,
}

impl<'a> Origin<'a> {
    /// Reads the header's value; `None`: it says something else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.rsplitn(6, '/');
        let of = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok().filter(|number| *number < of)?;
        let offset = parts.next()?.parse().ok().filter(|offset| *offset >= 0)?;
        let partition = parts.next()?.parse().ok().filter(|partition| *partition >= 0)?;
        let topic = parts.next()?;
        let function = parts.next()?;
        Some(Self { function, topic, partition, offset, number, of })
    }
}

/// Writes the header's value, in memory that goes from event to event.
#[derive(Debug)]
pub(super) struct Stamp {
    /// `namespace/name/`.
    function: String,
    text: String,
    /// Where the text of the event at hand ends and that of a record begins.
    event: usize,
}

impl Stamp {
    pub fn new(function: &Function) -> Self {
        Self { function: format!("{}/", function.name), text: String::new(), event: 0 }
    }

    /// What follows is made of `record`.
    pub fn begin(&mut self, record: &Record<'_>) {
        let Self { function, text, event } = self;
        text.clear();
        for part in [
            function.as_str(),
            record.topic,
            "/",
            itoa::Buffer::new().format(record.partition),
            "/",
            itoa::Buffer::new().format(record.offset),
            "/",
        ] {
            text.push_str(part);
        }
        *event = text.len();
    }

    /// The header of one of `of` records.
    pub fn header(&mut self, number: u32, of: u32) -> Header<'_> {
        self.text.truncate(self.event);
        self.text.push_str(itoa::Buffer::new().format(number));
        self.text.push('/');
        self.text.push_str(itoa::Buffer::new().format(of));
        Header { name: ORIGIN, value: Some(self.text.as_bytes()) }
    }
}

/// Adds the header, in place of that of an earlier function.
pub(super) fn push<'h>(origin: Option<Header<'h>>, headers: &mut Vec<Header<'h>>) {
    if let Some(origin) = origin {
        headers.retain(|header| header.name != ORIGIN);
        headers.push(origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_seven_parts_that_make_sense() {
        let origin = Origin {
            function: "default/receipts",
            topic: "rides",
            partition: 3,
            offset: 42,
            number: 1,
            of: 2,
        };
        assert_eq!(Origin::parse("default/receipts/rides/3/42/1/2"), Some(origin));
        for wrong in [
            "",
            "rides/3/42/0/1",
            "default/receipts/rides/3/42/1",
            "default/receipts/rides/3/42/2/2",
            "default/receipts/rides/-3/42/0/1",
            "default/receipts/rides/3/-1/0/1",
            "default/receipts/rides/3/42/0/",
        ] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }
}
