//! `ExportTraceServiceRequest`.

use super::super::trace::{Batch, CallSpan, CutSpan};
use super::wire::Message;
use super::{Resource, attribute, number_attribute, request};

/// Links of a cut's span, the first ones.
pub const MOST_LINKS: usize = 128;

/// Field numbers of `Span`.
const ATTRIBUTES: u64 = 9;
const LINKS: u64 = 13;
/// Values of `SpanKind`.
const CLIENT: u64 = 3;
const CONSUMER: u64 = 5;
/// Value of `StatusCode`.
const ERROR: u64 = 2;

/// The spans of some cuts, and of their calls.
pub fn spans(resource: &Resource, batches: &[Batch]) -> Vec<u8> {
    request(resource, |scope| {
        for batch in batches {
            for call in &batch.calls {
                scope.message(2, |span| put_call(span, batch, call));
            }
            scope.message(2, |span| put_cut(span, batch));
        }
    })
}

fn put_call(span: &mut Message, batch: &Batch, call: &CallSpan) {
    let context = &call.context;
    span.bytes(1, &context.trace_id).bytes(2, &context.span_id).text(3, &call.state);
    if let Some(parent) = &call.parent {
        span.bytes(4, parent);
    }
    span.text(5, &format!("process {}", call.topic)).number(6, CONSUMER);
    span.fixed64(7, call.begin_ns).fixed64(8, call.end_ns).fixed32(16, u32::from(context.flags));
    let is_committed = batch.cut.is_committed && !call.is_stale;
    for (key, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "process"),
        ("messaging.operation.name", "process"),
        ("messaging.destination.name", &call.topic),
        ("messaging.destination.partition.id", &call.partition.to_string()),
        ("messaging.consumer.group.name", &batch.group),
        ("tidemill.function", &batch.function),
        ("tidemill.outcome", call.outcome),
        ("tidemill.cut.outcome", outcome(is_committed)),
    ] {
        attribute(span, ATTRIBUTES, key, value);
    }
    number_attribute(span, ATTRIBUTES, "messaging.kafka.offset", call.offset as u64);
    number_attribute(span, ATTRIBUTES, "tidemill.attempt", u64::from(call.attempt));
    if let Some(error) = call.error {
        attribute(span, ATTRIBUTES, "error.type", error);
        span.message(15, |status| {
            status.number(3, ERROR);
        });
    }
}

fn put_cut(span: &mut Message, batch: &Batch) {
    let CutSpan { context, is_committed, records, outputs, begin_ns, end_ns } = &batch.cut;
    span.bytes(1, &context.trace_id).bytes(2, &context.span_id).text(5, "cut").number(6, CLIENT);
    span.fixed64(7, *begin_ns).fixed64(8, *end_ns).fixed32(16, u32::from(context.flags));
    for (key, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "settle"),
        ("messaging.operation.name", "commit"),
        ("messaging.consumer.group.name", &*batch.group),
        ("tidemill.function", &batch.function),
        ("tidemill.cut.outcome", outcome(*is_committed)),
    ] {
        attribute(span, ATTRIBUTES, key, value);
    }
    number_attribute(span, ATTRIBUTES, "tidemill.cut.records", *records);
    number_attribute(span, ATTRIBUTES, "tidemill.cut.outputs", *outputs);
    for call in batch.calls.iter().take(MOST_LINKS) {
        span.message(LINKS, |link| {
            link.bytes(1, &call.context.trace_id).bytes(2, &call.context.span_id);
            link.fixed32(6, u32::from(call.context.flags));
        });
    }
    span.number(14, batch.calls.len().saturating_sub(MOST_LINKS) as u64);
}

fn outcome(is_committed: bool) -> &'static str {
    if is_committed { "committed" } else { "aborted" }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    use prost::Message as _;

    use super::super::super::trace::TraceParent;
    use super::*;

    fn words(attributes: &[KeyValue]) -> Vec<String> {
        let word = |pair: &KeyValue| match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
            Some(Value::StringValue(text)) => format!("{}={text}", pair.key),
            Some(Value::IntValue(number)) => format!("{}={number}", pair.key),
            other => panic!("{other:?}"),
        };
        attributes.iter().map(word).collect()
    }

    fn call(n: u8) -> CallSpan {
        CallSpan {
            context: TraceParent::root([7; 16], [n; 8]),
            parent: None,
            state: String::new(),
            topic: "rides".to_owned(),
            partition: 3,
            offset: 1 << 40,
            attempt: 2,
            outcome: "ok",
            error: None,
            begin_ns: 1_700_000_000_000_000_001,
            end_ns: 1_700_000_000_000_000_002,
            is_stale: false,
        }
    }

    fn batch(calls: Vec<CallSpan>) -> Batch {
        let cut = CutSpan {
            context: TraceParent::root([9; 16], [9; 8]),
            is_committed: true,
            records: 300,
            outputs: 200,
            begin_ns: 5,
            end_ns: 6,
        };
        Batch { function: "default/f".into(), group: "tidemill.default.f".into(), cut, calls }
    }

    fn sent(batch: Batch) -> ExportTraceServiceRequest {
        let resource = Resource { name: "tidemill".to_owned(), instance: "pod-1".to_owned() };
        ExportTraceServiceRequest::decode(&*spans(&resource, &[batch])).expect("protobuf")
    }

    #[test]
    fn a_reader_of_the_specification_reads_spans_as_they_were() {
        let failed = CallSpan {
            parent: Some([4; 8]),
            state: "a=1".to_owned(),
            outcome: "dead-letter",
            error: Some("rejected"),
            is_stale: true,
            ..call(2)
        };
        let request = sent(batch(vec![call(1), failed]));
        let of_process = &request.resource_spans[0];
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            words(&of_process.resource.as_ref().unwrap().attributes),
            ["service.name=tidemill", "service.instance.id=pod-1", &format!("service.version={version}")]
        );
        let spans = &of_process.scope_spans[0].spans;
        let [ok, failed, cut] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((ok.name.as_str(), ok.kind()), ("process rides", SpanKind::Consumer));
        assert_eq!((&ok.trace_id[..], &ok.span_id[..], ok.flags), (&[7; 16][..], &[1; 8][..], 1));
        assert_eq!((ok.parent_span_id.len(), ok.trace_state.as_str(), &ok.status), (0, "", &None));
        assert_eq!(ok.end_time_unix_nano - ok.start_time_unix_nano, 1);
        let expected = [
            "messaging.system=kafka",
            "messaging.operation.type=process",
            "messaging.operation.name=process",
            "messaging.destination.name=rides",
            "messaging.destination.partition.id=3",
            "messaging.consumer.group.name=tidemill.default.f",
            "tidemill.function=default/f",
            "tidemill.outcome=ok",
            "tidemill.cut.outcome=committed",
            "messaging.kafka.offset=1099511627776",
            "tidemill.attempt=2",
        ];
        assert_eq!(words(&ok.attributes), expected);
        assert_eq!((&failed.parent_span_id[..], failed.trace_state.as_str()), (&[4; 8][..], "a=1"));
        assert_eq!(failed.status.as_ref().unwrap().code(), StatusCode::Error);
        let of_failed = words(&failed.attributes);
        for word in ["error.type=rejected", "tidemill.outcome=dead-letter", "tidemill.cut.outcome=aborted"] {
            assert!(of_failed.contains(&word.to_owned()), "{word} in {of_failed:?}");
        }
        assert_eq!((cut.name.as_str(), cut.kind()), ("cut", SpanKind::Client));
        let linked: Vec<_> = cut.links.iter().map(|link| link.span_id[0]).collect();
        assert_eq!((linked, cut.dropped_links_count), (vec![1, 2], 0));
        let of_cut = words(&cut.attributes);
        assert_eq!(
            of_cut[4..],
            [
                "tidemill.function=default/f",
                "tidemill.cut.outcome=committed",
                "tidemill.cut.records=300",
                "tidemill.cut.outputs=200"
            ]
        );
    }

    #[test]
    fn a_cut_links_the_first_of_many_calls() {
        let request = sent(batch((0..MOST_LINKS as u8 + 3).map(call).collect()));
        let cut = request.resource_spans[0].scope_spans[0].spans.last().unwrap();
        assert_eq!((cut.links.len(), cut.dropped_links_count), (MOST_LINKS, 3));
    }
}
