//! `tidemill autoscale`: the scaler alone. It decides how many workers functions should have, and keeps processes for them
//! on this host or pods on Kubernetes, or tells KEDA.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Global, run};
use crate::manifest::{self, Platform};
use crate::model::{Clock, Function, SystemClock};
use crate::observe::{self, Exposition};
use crate::runtime::autoscale::keda::Keda;
use crate::runtime::autoscale::{Autoscale, Board, Fleet, Kubernetes, Launch};
use crate::runtime::{Instance, Runtime, Shared, Stop, watch_signals};
use crate::scale::Policy;
use crate::worker::ClientId;

/// How much longer than their own deadline processes have to end before they are killed, and this one after them.
const GRACE: Duration = Duration::from_secs(2);

/// A pod is scheduled, its image pulled, its process started; learnt from the first change on.
const POD_START_UP: Duration = Duration::from_secs(10);

/// Decide how many workers functions should have, and see to it from outside
///
/// Looks once a second at where the functions' partitions end and what their groups have finished, without joining them,
/// and decides as `explain` shows: up with the backlog, down when a lower need has lasted, to none when nothing came for
/// --zero-after, and from none when a record waits or a deadline comes up. It logs each change with its reason;
/// `/scale` of the admin listener and `/metrics` show where each function stands. Of several of these one decides for a function (it is in the group `<group>.scaler`), and the others stand by until it ends.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill autoscale functions/ride-receipts --brokers 127.0.0.1:9092
  tidemill autoscale functions --workers-per-process 4 --zero-after 10m
  tidemill autoscale functions --target kubernetes --kube-namespace rides
  tidemill autoscale functions --target keda --listen 0.0.0.0:9466
  curl http://127.0.0.1:9465/scale

A process of `--target process` runs one function with --workers-per-process workers. Its admin listener is at a free port of
loopback, where `pause` and others find it. It ends when this one does, however that ends. One that dies is started again, after a longer while each time in a row.

`--target kubernetes` sets the replicas of Deployments and nothing else of them. A function's Deployment is the one in the
namespace that has the annotation `tidemill.dev/function: NAMESPACE/NAME`. Its pods run `tidemill run FOLDER --only NAMESPACE/NAME
--workers N`, N being --workers-per-process. No HorizontalPodAutoscaler or ScaledObject may hold the same Deployment. The API
server is that of the kubeconfig (KUBECONFIG, ~/.kube/config), or of the pod's service account.

For `--target keda` the trigger's metadata name `scalerAddress` (this one's), `function` (namespace/name) and, if it is not 1,
`workersPerPod`. The metric `desiredWorkers` has that as its target, so there are as many pods as the workers need.

Exit codes: 0 ended as asked; 1 it could not start; 2 wrong usage or an invalid manifest; 143 its processes did not end in time
(`shutdown.deadline`), or a second signal.")]
pub struct AutoscaleArgs {
    /// Manifests, or folders with manifests
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Who carries the decisions out
    #[arg(long, value_enum, default_value_t = Where::Process)]
    target: Where,
    /// Of `--target process` and `kubernetes`: how many workers a process, or a pod, has; there are as many as the workers need
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers_per_process: u32,
    /// Of `--target keda`: where its questions are answered, without TLS: for KEDA's operator alone
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9466")]
    listen: SocketAddr,
    /// Of `--target kubernetes`: the namespace of the Deployments [default: the pod's own, or that of the kubeconfig's context]
    #[arg(long, value_name = "NAMESPACE")]
    kube_namespace: Option<String>,
    /// How long nothing may have come or waited before the last worker goes, whatever the manifests say (scale.zeroAfter)
    #[arg(long, value_name = "DURATION", value_parser = manifest::duration)]
    zero_after: Option<Duration>,
}

/// Who carries decisions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// This program keeps `tidemill run` processes on this host.
    Process,
    /// The annotated Deployments have as many pods as are needed.
    Kubernetes,
    /// KEDA asks by gRPC (`external` and `external-push` triggers) and keeps pods.
    Keda,
}

/// Carries decisions out until told to stop.
type Target = Box<dyn FnOnce(&Stop)>;

impl AutoscaleArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let platform = global.platform()?;
        run::init_logs(&platform)?;
        let stop = Stop::default();
        watch_signals(stop.clone(), platform.shutdown_deadline + GRACE * 2, Arc::default())?;
        let instance = run::instance(&platform)?;
        let mut functions = manifest::load(&self.paths)?;
        for function in &mut functions {
            function.scale.zero_after = self.zero_after.unwrap_or(function.scale.zero_after);
        }
        let functions: Vec<Arc<Function>> = functions.into_iter().map(Arc::new).collect();
        let exposition = observe::install().context("metrics")?;
        let shared = shared(&platform, &instance, exposition)?;
        let policy = Policy { start_up: self.start_up(), ..Policy::default() };
        let autoscale = Autoscale::new(
            &shared.cluster,
            &functions,
            policy,
            &shared.exposition,
            Arc::clone(&shared.clock),
        );
        let board = autoscale.board();
        let runtime = Runtime::new(&shared, &stop, None);
        let admin =
            run::serve(&platform, &shared, (&runtime, Some((board.clone(), autoscale.overrides()))), &stop)?;
        let (instance, admin_at) = (shared.instance.clone(), shared.admin.get().copied());
        let client_id = ClientId { instance, slot: 0, admin: admin_at }.to_string();
        let autoscale = autoscale.alone(&functions, &client_id);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            brokers = shared.cluster.brokers(),
            instance = shared.instance,
            functions = functions.len(),
            "tidemill autoscale starts"
        );
        let target: Target = match self.target {
            Where::Process => {
                let fleet = self.fleet(global, &platform, (&functions, &board), &shared)?;
                Box::new(move |stop| fleet.run(stop))
            }
            Where::Kubernetes => {
                let kubernetes = self.kubernetes(&board, &shared)?;
                Box::new(move |stop| kubernetes.run(stop))
            }
            Where::Keda => {
                let keda = self.keda(&board, &shared)?;
                Box::new(move |stop| keda.serve_until(stop))
            }
        };
        let deciding = stop.clone();
        let decider = std::thread::Builder::new()
            .name("autoscale".to_owned())
            .spawn(move || autoscale.run(&deciding))
            .context("the scaler's thread")?;
        target(&stop);
        stop.set();
        if decider.join().is_err() {
            tracing::warn!("the scaler's thread panicked");
        }
        admin.join();
        tracing::info!("tidemill autoscale stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// How long a worker takes to be there, until that was measured.
    fn start_up(&self) -> Duration {
        match self.target {
            Where::Process => Policy::default().start_up,
            Where::Kubernetes | Where::Keda => POD_START_UP,
        }
    }

    fn kubernetes(&self, board: &Board, shared: &Shared) -> anyhow::Result<Kubernetes> {
        let place = (self.kube_namespace.as_deref(), self.workers_per_process);
        let kubernetes = Kubernetes::new(place, board, &shared.exposition, Arc::clone(&shared.clock))?;
        tracing::info!(namespace = kubernetes.namespace(), "Deployments are kept");
        Ok(kubernetes)
    }

    fn keda(&self, board: &Board, shared: &Shared) -> anyhow::Result<Keda> {
        let keda = Keda::start(self.listen, board, Arc::clone(&shared.clock))
            .with_context(|| format!("cannot listen on {}; set --listen to a free address", self.listen))?;
        tracing::info!(address = %keda.address(), "KEDA's questions are answered");
        Ok(keda)
    }

    fn fleet(
        &self,
        global: &Global,
        platform: &Platform,
        (functions, board): (&[Arc<Function>], &Board),
        shared: &Shared,
    ) -> anyhow::Result<Fleet> {
        let program = std::env::current_exe().context("the path of this program")?;
        let files = functions.iter().map(|function| (function.name.to_string(), function.file.clone()));
        let files: BTreeMap<String, PathBuf> = files.collect();
        let (global, workers) = (global.clone(), self.workers_per_process);
        let command = move |function: &str, instance: &str| {
            let mut command = Command::new(&program);
            command.arg("run").args(files.get(function));
            command.args(["--until-stdin-ends", "--only", function, "--workers", &workers.to_string()]);
            if let Some(config) = &global.config {
                command.arg("--config").arg(config);
            }
            if let Some(brokers) = &global.brokers {
                command.args(["--brokers", brokers]);
            }
            // Ctrl-C is for this process, which tells the others.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command.env("TIDEMILL_INSTANCE", instance);
            // They would all want the same ports. Orders find them through the function's group.
            command.env("TIDEMILL_METRICS", "off").env("TIDEMILL_ADMIN", "127.0.0.1:0");
            command
        };
        let launch = Launch {
            command: Box::new(command),
            instance: shared.instance.clone(),
            workers_per_process: self.workers_per_process,
            killed_after: platform.shutdown_deadline + GRACE,
        };
        Ok(Fleet::new(launch, board, &shared.exposition, Arc::clone(&shared.clock)))
    }
}

/// What the listeners show is of a process that runs no function itself.
fn shared(platform: &Platform, instance: &Instance, exposition: Exposition) -> anyhow::Result<Shared> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let cluster = run::cluster(platform)?;
    Ok(Shared { can_prepare: false, ..Shared::new(cluster, instance.id(), clock, exposition) })
}
