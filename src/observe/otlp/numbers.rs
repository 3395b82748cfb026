//! `ExportMetricsServiceRequest`: the names, labels and numbers of `/metrics`.

use super::super::histogram::BOUNDS_NS;
use super::super::metrics::{Kind, Metric};
use super::super::snapshot::{Number, Point, Snapshot};
use super::wire::Message;
use super::{Resource, attribute, request};

/// Value of `AggregationTemporality`: since the start of the series.
const CUMULATIVE: u64 = 2;

/// All numbers of a snapshot taken at `now_ns`, by a process that has counted since `start_ns`, both since the epoch.
pub fn numbers(resource: &Resource, snapshot: &Snapshot, (start_ns, now_ns): (u64, u64)) -> Vec<u8> {
    request(resource, |scope| {
        for (id, points) in snapshot.families() {
            scope.message(2, |family| put_family(family, id.metric(), points, (start_ns, now_ns)));
        }
    })
}

fn put_family(family: &mut Message, metric: &Metric, points: &[Point], (start_ns, now_ns): (u64, u64)) {
    family.text(1, metric.name).text(2, metric.help).text(3, &unit(metric));
    let (field, starts) = match metric.kind {
        Kind::Gauge => (5, None),
        Kind::Counter => (7, Some(start_ns)),
        Kind::Histogram => (9, Some(start_ns)),
    };
    family.message(field, |data| {
        for point in points {
            data.message(1, |message| put_point(message, point, (starts, now_ns)));
        }
        if metric.kind != Kind::Gauge {
            data.number(2, CUMULATIVE);
        }
        if metric.kind == Kind::Counter {
            data.number(3, 1);
        }
    });
}

fn put_point(message: &mut Message, point: &Point, (start_ns, now_ns): (Option<u64>, u64)) {
    if let Some(start_ns) = start_ns {
        message.fixed64(2, start_ns);
    }
    message.fixed64(3, now_ns);
    let attributes = match &point.number {
        Number::Seconds(seconds) => {
            message.double(4, *seconds);
            7
        }
        Number::Whole(number) => {
            message.fixed64(6, *number);
            7
        }
        Number::Histogram(counts, sum_ns) => {
            message.fixed64(4, counts.iter().sum()).double(5, *sum_ns as f64 / 1e9);
            message.packed(6, counts.iter().copied());
            message.packed(7, BOUNDS_NS.iter().map(|ns| (*ns as f64 / 1e9).to_bits()));
            9
        }
    };
    for (name, value) in &point.labels {
        attribute(message, attributes, name, value);
    }
}

/// The unit by UCUM; what is counted stands in braces.
fn unit(metric: &Metric) -> String {
    match metric.unit {
        "seconds" => "s".to_owned(),
        "bytes" => "By".to_owned(),
        counted => format!("{{{counted}}}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
    use opentelemetry_proto::tonic::metrics::v1::{
        AggregationTemporality, Metric as Sent, NumberDataPoint, metric::Data, number_data_point::Value,
    };
    use prost::Message as _;

    use super::super::super::checker::samples;
    use super::super::super::exposition::tests::one_of_everything;
    use super::super::super::metrics::TABLE;
    use super::*;

    fn labels(attributes: &[KeyValue]) -> String {
        let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{}=\"{text}\"", pair.key)
            }
            other => panic!("{other:?}"),
        };
        attributes.iter().map(text).collect::<Vec<_>>().join(",")
    }

    fn series(name: &str, labels: &str) -> String {
        if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") }
    }

    /// What a reader of the specification gets, written as `/metrics` writes it.
    fn read(sent: &[Sent]) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        let mut put = |series, number| assert!(all.insert(series, number).is_none());
        let number = |point: &NumberDataPoint| match point.value {
            Some(Value::AsInt(number)) => number as f64,
            Some(Value::AsDouble(number)) => number,
            None => panic!("{point:?}"),
        };
        for metric in sent {
            let name = metric.name.as_str();
            match metric.data.as_ref().expect("data") {
                Data::Gauge(gauge) => {
                    for point in &gauge.data_points {
                        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (0, 9));
                        put(series(name, &labels(&point.attributes)), number(point));
                    }
                }
                Data::Sum(sum) => {
                    assert!(sum.is_monotonic);
                    assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
                    for point in &sum.data_points {
                        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (3, 9));
                        put(series(name, &labels(&point.attributes)), number(point));
                    }
                }
                Data::Histogram(histogram) => {
                    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
                    for point in &histogram.data_points {
                        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                        let labels = labels(&point.attributes);
                        let bounds = point.explicit_bounds.iter().map(f64::to_string);
                        let mut count = 0;
                        for (counted, bound) in
                            point.bucket_counts.iter().zip(bounds.chain(["+Inf".to_owned()]))
                        {
                            count += counted;
                            put(format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), count as f64);
                        }
                        put(format!("{name}_sum{{{labels}}}"), point.sum.expect("a sum"));
                        put(format!("{name}_count{{{labels}}}"), point.count as f64);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn a_reader_of_the_specification_gets_the_numbers_of_the_metrics_page() {
        let (exposition, status) = one_of_everything();
        exposition
            .seconds(super::super::super::metrics::Id::WorkerCpu, &[("function", "x")])
            .add(Duration::from_millis(250));
        let resource = Resource { name: "tidemill".to_owned(), instance: "pod-1".to_owned() };
        let bytes = numbers(&resource, &exposition.snapshot(&status), (3, 9));
        let request = ExportMetricsServiceRequest::decode(&*bytes).expect("protobuf");
        let sent = &request.resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(read(sent), samples(&exposition.render(&status)));
        for metric in &TABLE {
            let found = sent.iter().filter(|sent| sent.name == metric.name).count();
            assert_eq!(found, 1, "{}", metric.name);
        }
        let unit = |name: &str| sent.iter().find(|sent| sent.name == name).map(|sent| sent.unit.clone());
        assert_eq!(unit("tidemill_handler_duration_seconds").as_deref(), Some("s"));
        assert_eq!(unit("tidemill_source_lag_records").as_deref(), Some("{records}"));
    }
}
