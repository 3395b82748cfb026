//! Media types, as far as formats depend on them. Types are compared without regard to case (RFC 9110,
//! section 8.3.1); parameters do not count.

/// JSON.
pub const JSON: &str = "application/json";
/// Text of a `text` sink.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// A structured CloudEvent.
pub const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";

/// What a media type says about a record's content mode (Kafka protocol binding, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing of CloudEvents.
    Other,
    /// One CloudEvent as JSON.
    Structured,
    /// Several CloudEvents, which the Kafka binding does not know.
    Batch,
    /// One CloudEvent in an event format that is not JSON.
    Unreadable,
}

/// The content mode that `media_type` announces.
pub fn mode(media_type: &str) -> Mode {
    const PREFIX: &str = "application/cloudevents";
    let Some(rest) = media_type
        .get(..PREFIX.len())
        .filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
        .map(|_| &media_type[PREFIX.len()..])
    else {
        return Mode::Other;
    };
    let suffix = essence(rest);
    if suffix.is_empty() || suffix.eq_ignore_ascii_case("+json") {
        Mode::Structured
    } else if suffix.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("-batch")) {
        Mode::Batch
    } else {
        Mode::Unreadable
    }
}

/// The payload is JSON: `application/json`, `text/json`, or any type that ends in `+json`.
pub fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.eq_ignore_ascii_case(JSON)
        || essence.eq_ignore_ascii_case("text/json")
        || ends_with(essence, "+json")
}

/// The payload is text that is no JSON: `text/…`, XML, or anything that names a charset.
pub fn is_text(media_type: &str) -> bool {
    let essence_of = essence(media_type);
    essence_of.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"))
        || essence_of.eq_ignore_ascii_case("application/xml")
        || ends_with(essence_of, "+xml")
        || media_type.to_ascii_lowercase().contains("charset=")
}

fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn ends_with(text: &str, end: &str) -> bool {
    text.len()
        .checked_sub(end.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|last| last.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_mode_is_read_without_regard_to_case_and_parameters() {
        for (media_type, expected) in [
            ("application/cloudevents+json", Mode::Structured),
            ("Application/CloudEvents+JSON; charset=UTF-8", Mode::Structured),
            ("application/cloudevents", Mode::Structured),
            ("application/cloudevents-batch+json", Mode::Batch),
            ("APPLICATION/CLOUDEVENTS-BATCH+JSON", Mode::Batch),
            ("application/cloudevents+avro", Mode::Unreadable),
            ("application/cloudevents+protobuf; x=y", Mode::Unreadable),
            ("application/json", Mode::Other),
            ("application/cloudevent", Mode::Other),
            ("applicätion/cloudevents", Mode::Other),
            ("", Mode::Other),
        ] {
            assert_eq!(mode(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn json_is_told_from_text_and_from_bytes() {
        for json in
            ["application/json", "Application/JSON; charset=utf-8", "text/json", "application/vnd.x+json"]
        {
            assert!(is_json(json), "{json}");
        }
        for other in ["", "json", "application/jsonl", "application/octet-stream", "é"] {
            assert!(!is_json(other) && !is_text(other), "{other}");
        }
        for text in
            ["text/plain", "TEXT/CSV", "application/xml", "image/svg+xml", "application/x; Charset=utf-8"]
        {
            assert!(is_text(text) && !is_json(text), "{text}");
        }
    }
}
