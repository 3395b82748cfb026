//! A collector that keeps what it is sent: OTLP over HTTP, protobuf.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// What was sent, in the order of its coming.
#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    heads: Vec<String>,
}

/// A collector that listens until the test ends.
pub struct Collector {
    address: String,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    /// Listens on a free port.
    pub fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// Listens there.
    pub fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let keeps = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &keeps);
            }
        });
        Self { address, kept }
    }

    /// What `telemetry.endpoint` must be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans that came.
    pub fn spans(&self) -> Vec<Span> {
        self.kept().spans.clone()
    }

    /// Request lines and headers that came.
    pub fn heads(&self) -> Vec<String> {
        self.kept().heads.clone()
    }

    /// The last number that came of a counter with this label, if any did.
    pub fn counter(&self, name: &str, label: (&str, &str)) -> Option<i64> {
        let kept = self.kept();
        let metric = kept.metrics.iter().rev().find(|metric| metric.name == name)?;
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        assert!(sum.is_monotonic);
        let point = sum.data_points.iter().find(|point| attribute(&point.attributes, label.0) == label.1)?;
        match point.value {
            Some(number_data_point::Value::AsInt(number)) => Some(number),
            _ => panic!("{point:?}"),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attribute as text; empty when it is not there.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|pair| pair.key == key);
    match found.and_then(|pair| pair.value.as_ref()).and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Reads one request, keeps what is in it, and answers.
fn answer(stream: TcpStream, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if head.starts_with("POST /v1/traces ") {
            let request = ExportTraceServiceRequest::decode(&*body).expect("protobuf");
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            kept.spans.extend(scopes.flat_map(|scope| scope.spans));
        } else {
            assert!(head.starts_with("POST /v1/metrics "), "{head}");
            let request = ExportMetricsServiceRequest::decode(&*body).expect("protobuf");
            let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
            kept.metrics.extend(scopes.flat_map(|scope| scope.metrics));
        }
        kept.heads.push(head);
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    let _ = reader.get_mut().write_all(answer);
}
