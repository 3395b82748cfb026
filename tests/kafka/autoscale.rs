//! `tidemill autoscale --target process`: processes come with the work and go without it, one that dies comes again, and
//! none outlives the scaler. `--target keda`: KEDA is told of the work, and that it is done.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal as RawSignal, kill_process};
use serde_json::json;

use tidemill::runtime::autoscale::keda::externalscaler::{
    GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use crate::harness::{
    Follower, Listeners, Load, Signal, Stage, ToSend, Worker, assert_each_once, cluster, free_port, try_wait,
    wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

struct Scaler {
    process: Worker,
    listeners: Listeners,
    name: String,
}

/// A process of a function, as the scaler shows it.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    instance: String,
    pid: Option<i32>,
    deaths: u64,
}

impl Scaler {
    fn spawn(stage: &Stage, args: &[&str]) -> Self {
        let listeners = Listeners::free();
        let manifest = stage.manifest();
        let mut all = vec!["autoscale", manifest.to_str().expect("a path that is text")];
        all.extend(args);
        let process = stage.spawn_args("scaler", &all, &listeners.env());
        Self { process, listeners, name: stage.name.clone() }
    }

    fn desired(&self) -> Option<u64> {
        self.listeners.scale(&self.name)?["desired"].as_u64()
    }

    fn processes(&self) -> Vec<Kept> {
        let standing = self.listeners.scale(&self.name).unwrap_or_default();
        let kept = |process: &serde_json::Value| Kept {
            instance: process["instance"].as_str().expect("a name").to_owned(),
            pid: process["pid"].as_i64().map(|pid| pid as i32),
            deaths: process["deaths"].as_u64().expect("a number"),
        };
        standing["processes"].as_array().map_or_else(Vec::new, |all| all.iter().map(kept).collect())
    }

    fn pids(&self) -> BTreeSet<i32> {
        self.processes().into_iter().filter_map(|process| process.pid).collect()
    }

    #[track_caller]
    fn wait_until_off(&self, stage: &Stage) {
        wait_until(WITHIN, "nobody to be there", || {
            self.desired() == Some(0) && self.processes().is_empty() && stage.members() == 0
        });
    }
}

/// Still there, and not only as an entry that nobody has asked for yet.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_record_brings_a_process_and_quiet_ends_it() {
    let stage = Stage::new(cluster(), "from-off", 2);
    let follower = Follower::start(cluster(), &stage.sink);
    let mut scaler = Scaler::spawn(&stage, &["--zero-after", "2s"]);
    for n in 0..2 {
        scaler.wait_until_off(&stage);
        cluster().produce(&stage.source, [ToSend::new("key", n.to_string())]);
        follower.wait_for(n + 1, WITHIN);
        wait_until(WITHIN, "the process to be shown", || {
            scaler.pids().len() == 1 || scaler.desired() == Some(0)
        });
    }
    scaler.wait_until_off(&stage);
    wait_until(WITHIN, "the numbers to say so", || {
        let (_, metrics) = scaler.listeners.metrics("/metrics");
        let is_0 = |name: &str| {
            metrics.contains(&format!("tidemill_scale_{name}{{function=\"default/{}\"}} 0\n", stage.name))
        };
        ["desired_workers", "running_workers", "lag_records"].into_iter().all(is_0)
    });
    assert_eq!(scaler.listeners.metrics("/readyz").0, 200);
    assert!(scaler.process.terminate(WITHIN).success(), "{}", scaler.process.log());
    assert_eq!(scaler.process.log().matches("process started").count(), 2, "{}", scaler.process.log());
    stage.assert_each_ends_once(2);
}

#[test]
fn a_process_that_dies_comes_again_in_its_place() {
    let stage = Stage::new(cluster(), "child-dies", 2).with_short_sessions();
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let mut scaler = Scaler::spawn(&stage, &[]);
    follower.wait_for(200, WITHIN);
    for deaths in 1..=2 {
        let before = scaler.processes().remove(0);
        let pid = before.pid.and_then(Pid::from_raw).expect("it is there");
        kill_process(pid, RawSignal::KILL).expect("a signal reaches it");
        wait_until(WITHIN, "another in its place", || {
            let now = scaler.processes().into_iter().next();
            now.is_some_and(|now| {
                now.instance == before.instance && now.deaths == deaths && now.pid.is_some()
            })
        });
        follower.wait_for_more(200, WITHIN);
    }
    let count = load.finish();
    assert_each_once(count, &follower.wait_for(count as usize, WITHIN));
    assert!(scaler.process.log().contains("process died"), "{}", scaler.process.log());
    assert!(scaler.process.terminate(WITHIN).success(), "{}", scaler.process.log());
    stage.assert_each_ends_once(count);
}

#[test]
fn no_process_outlives_the_scaler() {
    for signal in [Signal::Terminate, Signal::Kill] {
        let stage = Stage::new(cluster(), "orphans", 2);
        let follower = Follower::start(cluster(), &stage.sink);
        cluster().produce(&stage.source, (0..100).map(|n| ToSend::new("key", n.to_string())));
        let mut scaler = Scaler::spawn(&stage, &["--workers-per-process", "2"]);
        follower.wait_for(100, WITHIN);
        wait_until(WITHIN, "a process", || !scaler.pids().is_empty());
        let pids = scaler.pids();
        assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");
        scaler.process.signal(signal);
        scaler.process.wait(WITHIN);
        if signal == Signal::Terminate {
            assert!(!pids.iter().any(|pid| lives(*pid)), "it waits for them");
        }
        wait_until(WITHIN, "all to be gone", || !pids.iter().any(|pid| lives(*pid)));
        assert_eq!(stage.members(), 0, "they left the group in order: {}", scaler.process.log());
        stage.assert_each_ends_once(100);
    }
}

/// KEDA's side.
struct Keda {
    runtime: tokio::runtime::Runtime,
    grpc: Grpc<Channel>,
    object: ScaledObjectRef,
}

impl Keda {
    fn connect(address: &str, function: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = try_wait(WITHIN, "a connection", || {
            runtime.block_on(endpoint.connect()).map_err(|error| error.to_string())
        });
        let scaler_metadata = [("function".to_owned(), format!("default/{function}"))].into();
        let object = ScaledObjectRef { name: "it".to_owned(), namespace: "apps".to_owned(), scaler_metadata };
        Self { runtime, grpc: Grpc::new(channel), object }
    }

    fn stream(&mut self) -> Streaming<IsActiveResponse> {
        let opened = async {
            self.grpc.ready().await.expect("a connection");
            let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamIsActive");
            let codec = ProstCodec::default();
            self.grpc.server_streaming(Request::new(self.object.clone()), path, codec).await
        };
        self.runtime.block_on(opened).expect("a stream").into_inner()
    }

    fn pushed(&self, stream: &mut Streaming<IsActiveResponse>) -> bool {
        let next = async { tokio::time::timeout(WITHIN, stream.message()).await };
        self.runtime
            .block_on(next)
            .expect("a push in time")
            .expect("an answer")
            .expect("an open stream")
            .result
    }

    fn metric(&mut self) -> f64 {
        let metric_name = "desiredWorkers".to_owned();
        let question = GetMetricsRequest { scaled_object_ref: Some(self.object.clone()), metric_name };
        let asked = async {
            self.grpc.ready().await.expect("a connection");
            let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/GetMetrics");
            let codec = ProstCodec::<_, GetMetricsResponse>::default();
            self.grpc.unary(Request::new(question), path, codec).await
        };
        let answer = self.runtime.block_on(asked).expect("an answer").into_inner();
        answer.metric_values.first().expect("one metric").metric_value_float
    }
}

#[test]
fn keda_is_told_that_there_is_work_and_that_it_is_done() {
    let stage = Stage::new(cluster(), "for-keda", 2);
    let address = format!("127.0.0.1:{}", free_port());
    let args = ["--target", "keda", "--listen", &address, "--zero-after", "2s"];
    let mut scaler = Scaler::spawn(&stage, &args);
    let mut keda = Keda::connect(&address, &stage.name);
    let mut stream = keda.stream();
    assert!(!keda.pushed(&mut stream), "nothing is there");
    assert_eq!(keda.metric(), 0.0);
    cluster().produce(&stage.source, (0..10).map(|n| ToSend::new("key", n.to_string())));
    assert!(keda.pushed(&mut stream), "a backlog");
    assert_eq!(keda.metric(), 1.0);
    // What KEDA has Kubernetes do.
    let mut pod = stage.spawn("pod");
    stage.wait_until_drained(WITHIN);
    assert!(!keda.pushed(&mut stream), "drained, and quiet for long enough");
    assert_eq!(keda.metric(), 0.0);
    assert!(pod.terminate(WITHIN).success(), "{}", pod.log());
    assert!(scaler.process.terminate(WITHIN).success(), "{}", scaler.process.log());
    stage.assert_each_ends_once(10);
}

/// Two that both kept processes would each want others to go.
#[test]
fn of_two_scalers_one_decides_and_the_other_takes_over_when_it_dies() {
    let stage = Stage::new(cluster(), "scalers", 2).with("/spec/scale", json!({ "min": 1, "max": 1 }));
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let manifest = stage.manifest();
    let args = ["autoscale", manifest.to_str().expect("a path that is text")];
    let listeners = [Listeners::free(), Listeners::free()];
    let standing = |place: usize| listeners[place].scale(&stage.name).unwrap_or_default();
    let mut first = stage.spawn_args("first", &args, &listeners[0].env());
    wait_until(WITHIN, "the first to decide", || standing(0)["desired"] == 1 && stage.members() == 1);
    let mut second = stage.spawn_args("second", &args, &listeners[1].env());
    wait_until(WITHIN, "the second to stand by", || standing(1)["decidedBy"].is_string());
    follower.wait_for_more(200, WITHIN);
    assert_eq!((standing(1)["desired"].is_null(), stage.members()), (true, 1), "{}", second.log());
    assert_eq!(listeners[1].metrics("/readyz").0, 200, "it does what it is for");

    first.kill();
    wait_until(WITHIN, "the second to decide", || standing(1)["desired"] == 1);
    wait_until(WITHIN, "its process", || stage.members() == 1);
    follower.wait_for_more(200, WITHIN);
    // One that ends leaves, and nobody waits for its session.
    let mut third = stage.spawn_args("first", &args, &listeners[0].env());
    wait_until(WITHIN, "the third to stand by", || standing(0)["decidedBy"].is_string());
    assert!(second.terminate(WITHIN).success(), "{}", second.log());
    wait_until(WITHIN, "the third to decide", || standing(0)["desired"] == 1);
    let count = load.finish();
    assert_each_once(count, &follower.wait_for(count as usize, WITHIN));
    assert!(third.terminate(WITHIN).success(), "{}", third.log());
}
