//! KEDA's external scaler over gRPC: KEDA asks how many pods a function should have, and is told at once when there is to be
//! one at all. What is decided comes from the [`Board`].
//!
//! The metric of a function is the number of workers that it should have, its target the number of workers in one pod
//! (`workersPerPod` of the trigger, 1 by default). Kubernetes divides the one by the other (`AverageValue`), which makes the
//! number of pods. Between 0 and 1 KEDA decides by `IsActive`.
//!
//! While nothing was decided, or not for a minute, every question is refused as unavailable: then KEDA leaves the
//! number of pods as it is, or takes the trigger's `fallback`.

#[rustfmt::skip]
pub mod externalscaler;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use self::externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use self::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::board::Board;
use crate::model::Clock;
use crate::runtime::Stop;

/// The one metric of each function.
const METRIC: &str = "desiredWorkers";

/// The keys of a trigger's metadata; KEDA's own address key comes along.
const FUNCTION: &str = "function";
const WORKERS_PER_POD: &str = "workersPerPod";

/// How often it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A running server.
#[derive(Debug)]
pub struct Keda {
    address: SocketAddr,
    thread: JoinHandle<()>,
    /// Dropped, it ends the server.
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Keda {
    /// Listens, then answers from `board` on a thread of its own until its end. `clock` is the one that decisions are made by.
    pub fn start(address: SocketAddr, board: &Board, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let service = ExternalScalerServer::new(Scaler { board: board.clone(), clock });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("keda".to_owned()).spawn(move || {
            let served = runtime.block_on(async move {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
                let server = Server::builder().add_service(service).serve_with_incoming(incoming);
                // Streams that are open would hold up a graceful end for ever; KEDA opens them again elsewhere.
                tokio::select! {
                    served = server => served.map_err(io::Error::other),
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!(%error, "KEDA's questions are answered no more");
            }
        })?;
        Ok(Self { address, thread, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until told to stop, or until it can no more.
    pub fn serve_until(self, stop: &Stop) {
        while !stop.wait(LOOK_EVERY) && !self.thread.is_finished() {}
        self.end();
    }

    /// Ends it.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::warn!("the thread of KEDA's questions panicked");
        }
    }
}

struct Scaler {
    board: Board,
    clock: Arc<dyn Clock>,
}

/// What a trigger asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    function: String,
    workers_per_pod: NonZeroU32,
}

impl Asked {
    fn of(object: &ScaledObjectRef) -> Result<Self, Status> {
        let wrong = |what: String| {
            Status::invalid_argument(format!("ScaledObject {}/{}: {what}", object.namespace, object.name))
        };
        let metadata = &object.scaler_metadata;
        let function = metadata.get(FUNCTION).ok_or_else(|| {
            wrong(format!("the trigger's metadata has no `{FUNCTION}`: set it to namespace/name"))
        })?;
        // As everywhere, `default` need not be said.
        let function = if function.contains('/') { function.clone() } else { format!("default/{function}") };
        let workers_per_pod = match metadata.get(WORKERS_PER_POD) {
            None => NonZeroU32::MIN,
            Some(text) => text
                .parse()
                .map_err(|_| wrong(format!("`{WORKERS_PER_POD}` is {text:?}: a whole number from 1 on")))?,
        };
        Ok(Self { function, workers_per_pod })
    }
}

impl Scaler {
    /// How many workers a function should have.
    fn desired(&self, function: &str) -> Result<u32, Status> {
        let standings = self.board.read();
        let known = || standings.keys().cloned().collect::<Vec<_>>().join(", ");
        let standing = standings.get(function).ok_or_else(|| {
            Status::not_found(format!("no function {function} is decided for here, but {}", known()))
        })?;
        standing.believed(self.clock.now().elapsed).map_err(Status::unavailable)
    }
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = ReceiverStream<Result<IsActiveResponse, Status>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let asked = Asked::of(request.get_ref())?;
        let result = self.desired(&asked.function)? > 0;
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let asked = Asked::of(request.get_ref())?;
        if let Err(unknown) = self.desired(&asked.function)
            && unknown.code() == tonic::Code::NotFound
        {
            return Err(unknown);
        }
        let (told, answers) = mpsc::channel(1);
        let (mut changes, clock) = (self.board.subscribe(), Arc::clone(&self.clock));
        tokio::spawn(async move {
            let mut last = None;
            while !told.is_closed() {
                let standing = changes.borrow_and_update().get(&asked.function).cloned();
                let desired = standing.map(|standing| standing.believed(clock.now().elapsed));
                // While nothing can be believed nothing is said, and what was said holds on.
                if let Some(Ok(desired)) = desired
                    && last.replace(desired > 0) != Some(desired > 0)
                    && told.send(Ok(IsActiveResponse { result: desired > 0 })).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = told.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let workers_per_pod = Asked::of(request.get_ref())?.workers_per_pod.get();
        let spec = MetricSpec {
            metric_name: METRIC.to_owned(),
            target_size: workers_per_pod.into(),
            target_size_float: workers_per_pod.into(),
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let object = scaled_object_ref.ok_or_else(|| Status::invalid_argument("no ScaledObject is named"))?;
        let desired = self.desired(&Asked::of(&object)?.function)?;
        let value =
            MetricValue { metric_name, metric_value: desired.into(), metric_value_float: desired.into() };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}
