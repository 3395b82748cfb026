//! KEDA's contract over real gRPC: what it asks, by the names on the wire, and what it is told as decisions change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidemill::model::ManualClock;
use tidemill::runtime::autoscale::Board;
use tidemill::runtime::autoscale::keda::Keda;
use tidemill::runtime::autoscale::keda::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

const WITHIN: Duration = Duration::from_secs(10);
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/runtime/autoscale/keda/externalscaler.proto");
const CODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/runtime/autoscale/keda/externalscaler.rs");
const HEAD: &str = "\
//! Written from `externalscaler.proto` by a test, which holds this file equal to it:
//! `TIDEMILL_WRITE_REFERENCE=1 cargo test --test it keda` writes it anew. A build needs neither `protoc` nor this step.
#![allow(missing_docs, unused_qualifications, clippy::all)]

";

/// Decisions that the test makes, and KEDA's side of the wire.
struct Scene {
    board: Board,
    clock: Arc<ManualClock>,
    keda: Keda,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let (board, clock) = (Board::new(["default/rides", "shop/orders"]), Arc::new(ManualClock::at(0)));
        let keda = Keda::start(SocketAddr::from(([127, 0, 0, 1], 0)), &board, clock.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { board, clock, keda, runtime }
    }

    fn decide(&self, function: &str, workers: u32) {
        self.board.put(function, |standing| standing.desired = Some(workers));
    }

    async fn grpc(&self) -> Grpc<Channel> {
        let endpoint = Channel::from_shared(format!("http://{}", self.keda.address())).unwrap();
        let mut grpc = Grpc::new(endpoint.connect().await.unwrap());
        grpc.ready().await.unwrap();
        grpc
    }

    fn ask<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let asked = async {
            let (codec, path) = (ProstCodec::default(), PathAndQuery::from_static(method));
            self.grpc().await.unary(Request::new(question), path, codec).await
        };
        let answer = async { tokio::time::timeout(WITHIN, asked).await.expect("an answer in time") };
        self.runtime.block_on(answer).map(tonic::Response::into_inner)
    }

    fn is_active(&self, object: ScaledObjectRef) -> Result<bool, Status> {
        let answer: IsActiveResponse = self.ask("/externalscaler.ExternalScaler/IsActive", object)?;
        Ok(answer.result)
    }

    fn spec(&self, object: ScaledObjectRef) -> Result<(String, i64, f64), Status> {
        let answer: GetMetricSpecResponse =
            self.ask("/externalscaler.ExternalScaler/GetMetricSpec", object)?;
        let [spec] = answer.metric_specs.try_into().expect("one metric");
        Ok((spec.metric_name, spec.target_size, spec.target_size_float))
    }

    fn metric(&self, object: ScaledObjectRef) -> Result<(i64, f64), Status> {
        let metric_name = self.spec(object.clone())?.0;
        let question =
            GetMetricsRequest { scaled_object_ref: Some(object), metric_name: metric_name.clone() };
        let answer: GetMetricsResponse = self.ask("/externalscaler.ExternalScaler/GetMetrics", question)?;
        let [value] = answer.metric_values.try_into().expect("one metric");
        assert_eq!(value.metric_name, metric_name);
        Ok((value.metric_value, value.metric_value_float))
    }

    fn stream(&self, object: ScaledObjectRef) -> Result<Streaming<IsActiveResponse>, Status> {
        let opened = async {
            let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamIsActive");
            self.grpc().await.server_streaming(Request::new(object), path, ProstCodec::default()).await
        };
        self.runtime.block_on(opened).map(tonic::Response::into_inner)
    }

    fn pushed(&self, stream: &mut Streaming<IsActiveResponse>) -> bool {
        let next = async { tokio::time::timeout(WITHIN, stream.message()).await };
        self.runtime.block_on(next).expect("a push in time").unwrap().expect("an open stream").result
    }
}

fn object<const N: usize>(metadata: [(&str, &str); N]) -> ScaledObjectRef {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let scaler_metadata: HashMap<String, String> = metadata.map(owned).into();
    ScaledObjectRef { name: "rides".to_owned(), namespace: "apps".to_owned(), scaler_metadata }
}

#[test]
fn a_function_has_as_many_pods_as_its_workers_need() {
    let scene = Scene::new();
    scene.decide("default/rides", 7);
    scene.decide("shop/orders", 0);
    let rides = object([("scalerAddress", "tidemill:6000"), ("function", "default/rides")]);
    assert!(scene.is_active(rides.clone()).unwrap());
    assert_eq!(scene.spec(rides.clone()).unwrap(), ("desiredWorkers".to_owned(), 1, 1.0));
    assert_eq!(scene.metric(rides).unwrap(), (7, 7.0));
    let two_each = object([("function", "rides"), ("workersPerPod", "2")]);
    assert_eq!(scene.spec(two_each.clone()).unwrap().1, 2);
    assert_eq!(scene.metric(two_each).unwrap().0, 7, "Kubernetes makes 4 pods of 7 / 2");
    let orders = object([("function", "shop/orders")]);
    assert_eq!((scene.is_active(orders.clone()).unwrap(), scene.metric(orders).unwrap().0), (false, 0));
}

#[test]
fn a_change_between_none_and_some_is_pushed_at_once() {
    let scene = Scene::new();
    let mut stream = scene.stream(object([("function", "default/rides")])).unwrap();
    scene.decide("default/rides", 0);
    assert!(!scene.pushed(&mut stream));
    // Neither another function's nor another number's is pushed.
    scene.decide("shop/orders", 1);
    scene.decide("default/rides", 1);
    assert!(scene.pushed(&mut stream));
    scene.decide("default/rides", 5);
    scene.decide("default/rides", 0);
    assert!(!scene.pushed(&mut stream));
    scene.keda.end();
}

#[test]
fn what_is_not_known_is_no_number() {
    let scene = Scene::new();
    let rides = object([("function", "default/rides")]);
    let undecided = scene.metric(rides.clone()).unwrap_err();
    assert_eq!(undecided.code(), Code::Unavailable, "{undecided}");
    scene.decide("default/rides", 3);
    scene.board.put("default/rides", |standing| standing.problem = Some("nobody answers".to_owned()));
    scene.clock.advance(Duration::from_secs(60));
    assert_eq!(scene.metric(rides.clone()).unwrap().0, 3, "a look that failed changes nothing yet");
    scene.clock.advance(Duration::from_secs(1));
    for old in [scene.metric(rides.clone()).unwrap_err(), scene.is_active(rides).unwrap_err()] {
        assert_eq!(old.code(), Code::Unavailable);
        assert_eq!(old.message(), "decided 61s ago and not since: nobody answers");
    }
}

#[test]
fn a_trigger_that_is_wrong_is_told_what_is() {
    let scene = Scene::new();
    for (object, code, text) in [
        (object([]), Code::InvalidArgument, "has no `function`: set it to namespace/name"),
        (
            object([("function", "x/y")]),
            Code::NotFound,
            "no function x/y is decided for here, but default/rides, shop/orders",
        ),
        (
            object([("function", "rides"), ("workersPerPod", "0")]),
            Code::InvalidArgument,
            "ScaledObject apps/rides: `workersPerPod` is \"0\": a whole number from 1 on",
        ),
    ] {
        let refused = scene.is_active(object.clone()).unwrap_err();
        assert!(refused.code() == code && refused.message().contains(text), "{refused}");
        assert_eq!(scene.stream(object).unwrap_err().code(), code);
    }
}

#[test]
fn the_code_is_what_the_contract_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let parent = std::path::Path::new(PROTO).parent().unwrap();
    let contract = protox::compile([PROTO], [parent]).unwrap();
    let config = tonic_prost_build::configure().build_client(false).build_transport(true);
    config.out_dir(folder.path()).compile_fds(contract).unwrap();
    let code = std::fs::read_to_string(folder.path().join("externalscaler.rs")).unwrap();
    let code = format!("{HEAD}{code}");
    if std::env::var_os("TIDEMILL_WRITE_REFERENCE").is_some() {
        std::fs::write(CODE, &code).unwrap();
    }
    let stored = std::fs::read_to_string(CODE).unwrap_or_default();
    assert!(stored == code, "externalscaler.rs is old: run this test with TIDEMILL_WRITE_REFERENCE=1");
}
