//! `tidemill run`: workers for the functions of these manifests, until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::Global;
use crate::kafka::Cluster;
use crate::manifest::{self, LogFormat, Platform};
use crate::model::{Clock, Function, SystemClock};
use crate::observe::trace::Tracing;
use crate::observe::{self, Status};
use crate::plugin::{Notes, Registry};
use crate::runtime::admin::{self, Admin, Shown, Token};
use crate::runtime::autoscale::Board;
use crate::runtime::overrides::Overrides;
use crate::runtime::telemetry::{self, Telemetry};
use crate::runtime::{
    Follow, Handlers, Instance, Limits, Protocols, Runtime, Shared, Stop, watch_signals, watch_stdin,
};
use crate::worker::{AdminAddress, ProcessRate};

/// Run functions
///
/// Reads the manifests, loads their plugins, prepares their topics and runs their workers until SIGTERM
/// or Ctrl-C: then it finishes what is begun, cuts, and leaves the groups. A second signal stops at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill run functions/ride-receipts --brokers 127.0.0.1:9092
  tidemill run /functions --watch

Exit codes: 0 ended as asked; 1 a function stopped because of an error; 2 an invalid manifest; 143 not finished in
time (`shutdown.deadline`), or a second signal.")]
pub struct Run {
    /// Manifests, or folders with manifests
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Take up manifests and plugins that come, change or go meanwhile, and run on when no function is left
    ///
    /// Other functions do not notice. A plugin's file, and `config`, `entry`, `sha256` and `plugin` of a handler, are
    /// replaced between two cuts without a rebalance; any other change lets the function finish, leave its group and
    /// begin anew. What is broken is not taken up: the function goes on as it was, and the log and `/functions` say
    /// why. A function that stopped because of an error begins again when its manifest or plugin changes.
    #[arg(long)]
    watch: bool,
    /// Run this function alone, though there are others in the manifests
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "watch")]
    only: Option<String>,
    /// Run so many workers of each function, whatever the manifests say
    #[arg(long, value_name = "NUMBER", conflicts_with = "watch", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Stop, as after SIGTERM, when standard input ends: for a program that starts this one and must not leave it behind
    #[arg(long)]
    until_stdin_ends: bool,
}

impl Run {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let platform = global.platform()?;
        init_logs(&platform)?;
        let (stop, noted) = (Stop::default(), Arc::new(OnceLock::new()));
        watch_signals(stop.clone(), platform.shutdown_deadline, Arc::clone(&noted))?;
        if self.until_stdin_ends {
            watch_stdin(stop.clone(), platform.shutdown_deadline, Arc::clone(&noted))?;
        }
        let instance = instance(&platform)?;
        let notes = Notes::open(&platform.state_dir, instance.id())
            .with_context(|| format!("the notes of calls in {}", platform.state_dir.display()))?;
        let _ = noted.set(Arc::clone(&notes));
        let functions = self.functions()?;
        let registry = Arc::new(Registry::default());
        let functions = functions
            .into_iter()
            .map(|function| {
                let function = Arc::new(function);
                let handlers = Handlers::load(&function, &registry, &platform.state_dir)?;
                Ok((function, handlers))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let cluster = cluster(&platform)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let exposition = observe::install().context("metrics")?;
        let status = Status::default();
        let read = telemetry::Read {
            exposition: exposition.clone(),
            status: status.clone(),
            clock: Arc::clone(&clock),
        };
        let (telemetry, tracing) = export(&platform, instance.id(), read)?.unzip();
        let shared = Shared {
            status,
            tracing: tracing.flatten(),
            limits: Limits {
                memory: platform.limits.memory,
                rate: platform.limits.rate.map(ProcessRate::new),
            },
            notes: Some(notes),
            protocols: Protocols::new(platform.group_protocol),
            ..Shared::new(cluster, instance.id(), clock, exposition)
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            brokers = shared.cluster.brokers(),
            instance = shared.instance,
            functions = functions.len(),
            "tidemill starts"
        );
        let runtime = Runtime::new(&shared, &stop, None);
        let admin = serve(&platform, &shared, (&runtime, None), &stop)?;
        for (function, handlers) in functions.clone() {
            runtime.put(function, handlers)?;
        }
        if self.watch {
            let (state_dir, status) = (platform.state_dir.clone(), shared.status.clone());
            Follow::new(self.paths, state_dir, runtime.clone(), status, &functions).run(&stop);
        }
        let result = runtime.wait();
        stop.set();
        admin.join();
        if let Some(telemetry) = telemetry {
            telemetry.finish();
        }
        result?;
        tracing::info!("tidemill stopped");
        Ok(ExitCode::SUCCESS)
    }

    fn functions(&self) -> anyhow::Result<Vec<Function>> {
        let mut functions = manifest::load(&self.paths)?;
        if let Some(only) = &self.only {
            functions.retain(|function| function.name.to_string() == *only);
            anyhow::ensure!(!functions.is_empty(), "no manifest is of a function {only}");
        }
        if let Some(workers) = self.workers {
            for function in &mut functions {
                (function.workers, function.is_scaled) = (workers, false);
            }
        }
        Ok(functions)
    }
}

/// Which process this is.
pub(super) fn instance(platform: &Platform) -> anyhow::Result<Instance> {
    Ok(match &platform.instance {
        Some(id) => Instance::configured(id),
        None => Instance::of_state_dir(&platform.state_dir)?,
    })
}

/// The listeners for metrics and administration; `runtime` runs functions; how many workers they should have is
/// decided elsewhere than in it, or by it.
pub(super) fn serve(
    platform: &Platform,
    shared: &Shared,
    (runtime, decided): (&Runtime, Option<(Board, Overrides)>),
    stop: &Stop,
) -> anyhow::Result<Admin> {
    let token =
        platform.admin_token.as_ref().map(|token| anyhow::Ok(Token::new(&token.resolve()?)?)).transpose()?;
    let config = admin::Config {
        metrics: platform.metrics,
        admin: platform.admin,
        token,
        tls: platform.admin_tls.clone(),
    };
    let scaling = &shared.scaling;
    let (board, overrides) =
        decided.unwrap_or_else(|| (scaling.board().clone(), scaling.overrides().clone()));
    let shown = Shown {
        exposition: shared.exposition.clone(),
        status: shared.status.clone(),
        clock: Arc::clone(&shared.clock),
        runtime: runtime.clone(),
        board,
        overrides,
    };
    let stop = stop.clone();
    let stopped = async move {
        while !stop.is_set() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let (is_tls, admin) = (config.tls.is_some(), Admin::start(&config, shown, stopped)?);
    if let Some(address) = admin.admin() {
        // Nobody else sets it.
        let _ = shared.admin.set(AdminAddress { address, is_tls });
    }
    Ok(admin)
}

/// The exporter of traces and metrics, if there is to be one.
fn export(
    platform: &Platform,
    instance: &str,
    read: telemetry::Read,
) -> anyhow::Result<Option<(Telemetry, Option<Tracing>)>> {
    let settings = &platform.telemetry;
    let Some(endpoint) = settings.endpoint.clone() else { return Ok(None) };
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let config = telemetry::Config {
        endpoint,
        headers: settings.resolve_headers().context("a secret of `telemetry.headers`")?,
        ratio: settings.ratio,
        interval: settings.interval,
        service: service.unwrap_or_else(|| "tidemill".to_owned()),
        instance: instance.to_owned(),
    };
    Ok(Some(Telemetry::start(config, read).context("telemetry")?))
}

/// How often the listeners look whether the process stops.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The cluster of a platform, its secrets resolved.
pub(super) fn cluster(platform: &Platform) -> anyhow::Result<Cluster> {
    let brokers = platform.brokers()?;
    let settings = platform.kafka_settings().context("a secret of the platform's kafka settings")?;
    Ok(Cluster::new(brokers, settings))
}

/// Logs as the platform wants them, on standard error.
pub(super) fn init_logs(platform: &Platform) -> anyhow::Result<()> {
    let format = match platform.log.format {
        LogFormat::Text => observe::log::Format::Text,
        LogFormat::Json => observe::log::Format::Json,
    };
    observe::log::init(&platform.log.filter, format).context("log")
}
