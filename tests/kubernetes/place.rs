//! A namespace with what `deploy/kubernetes` applies, a function for it, and the scaler.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::harness::{Listeners, Stage, Worker, cluster, unique, wait_until};

/// Everything here may take its time on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(120);

/// A folder or file of the project.
pub fn project(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().expect("a path that is text").to_owned()
}

/// A namespace of one test, its Deployment `tidemill` annotated with the stage's function.
pub struct Place<'a> {
    /// Where it is.
    pub api: &'a ApiServer,
    /// Its name.
    pub namespace: String,
    /// The function.
    pub stage: Stage,
}

impl<'a> Place<'a> {
    /// Applies `deploy/kubernetes`. The function is slow, wants to be done with what waits in two seconds, and rests soon.
    pub fn new(api: &'a ApiServer, stem: &str) -> Self {
        let scale = json!({ "min": 0, "max": 3, "drainWithin": "2s", "zeroAfter": "2s" });
        let stage = Stage::new(cluster(), stem, 4).with_trial().with("/spec/scale", scale);
        let namespace = unique(stem);
        api.kubectl(&["create", "namespace", &namespace]).expect("a namespace");
        let place = Self { api, namespace, stage };
        place.kubectl(&["apply", "--server-side", "--validate=strict", "-k", &project("deploy/kubernetes")]);
        let function = format!("tidemill.dev/function=default/{}", place.stage.name);
        place.kubectl(&["annotate", "--overwrite", "deployment", "tidemill", &function]);
        place
    }

    /// What `kubectl ARGS…` prints, in the namespace.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    }

    /// The same of something that may fail.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let all: Vec<&str> = ["--namespace", &self.namespace].iter().chain(args).copied().collect();
        self.api.kubectl(&all)
    }

    /// Pods that the Deployment is to have; `None`: the API server does not say.
    pub fn replicas(&self) -> Option<usize> {
        let get =
            ["get", "deployment", "tidemill", "-o", "jsonpath={.spec.replicas}", "--request-timeout", "5s"];
        self.try_kubectl(&get).ok()?.parse().ok()
    }

    /// The scaler, with the rights of its ServiceAccount.
    pub fn scaler(&self) -> Scaler {
        let token = self.kubectl(&["create", "token", "tidemill-autoscale"]);
        let kubeconfig = self.stage.folder().join("kubeconfig");
        fs::write(&kubeconfig, self.api.kubeconfig(token.trim(), &self.namespace)).expect("a kubeconfig");
        let listeners = Listeners::free();
        let manifest = self.stage.manifest();
        let args = ["autoscale", manifest.to_str().expect("a path that is text"), "--target", "kubernetes"];
        let [admin, metrics] = listeners.env();
        let env = [admin, metrics, ("KUBECONFIG", kubeconfig.to_str().expect("a path that is text"))];
        let process = self.stage.spawn_args("scaler", &args, &env);
        Scaler { process, listeners, name: self.stage.name.clone() }
    }
}

/// A running `autoscale --target kubernetes`.
pub struct Scaler {
    /// It.
    pub process: Worker,
    /// What it shows.
    pub listeners: Listeners,
    name: String,
}

impl Scaler {
    /// The Deployment as `/scale` shows it.
    pub fn deployment(&self) -> Value {
        self.listeners.scale(&self.name).unwrap_or_default()["deployment"].clone()
    }

    /// Waits until `/scale` says why it does not hold the Deployment, in these words among others.
    #[track_caller]
    pub fn wait_for_problem(&self, words: &[&str]) {
        let mut last = String::new();
        wait_until(WITHIN, &format!("a problem with {words:?}"), || {
            last = self.deployment()["problem"].as_str().unwrap_or_default().to_owned();
            words.iter().all(|word| last.contains(word))
        });
        let (status, body) = self.listeners.metrics("/readyz");
        assert!(status == 503 && words.iter().all(|word| body.contains(word)), "{status} {body}");
    }

    /// Waits until it holds the Deployment.
    #[track_caller]
    pub fn wait_until_held(&self) {
        wait_until(WITHIN, "the Deployment to be held", || self.deployment()["name"] == "tidemill");
    }

    /// Ends it, and returns what it has printed.
    #[track_caller]
    pub fn end(mut self) -> String {
        assert!(self.process.terminate(WITHIN).success(), "{}", self.process.log());
        self.process.log()
    }
}

/// What a kubelet would run: as many processes as the Deployment says, ended from the last on.
pub struct Pods<'a> {
    place: &'a Place<'a>,
    running: Vec<Worker>,
    /// The most that there ever were.
    pub most: usize,
}

impl<'a> Pods<'a> {
    /// None yet.
    pub fn new(place: &'a Place<'a>) -> Self {
        Self { place, running: Vec::new(), most: 0 }
    }

    /// Starts or ends what there is too few or too many, and says how many there are.
    #[track_caller]
    pub fn tend(&mut self) -> usize {
        let replicas = self.place.replicas().unwrap_or(self.running.len());
        while self.running.len() > replicas {
            let mut pod = self.running.pop().expect("there is one");
            assert!(pod.terminate(WITHIN).success(), "{}", pod.log());
        }
        while self.running.len() < replicas {
            let stage = &self.place.stage;
            let (manifest, only) = (stage.manifest(), format!("default/{}", stage.name));
            let args = ["run", manifest.to_str().expect("text"), "--only", &only, "--workers", "1"];
            self.running.push(stage.spawn_args(&format!("pod-{}", self.running.len()), &args, &[]));
        }
        self.most = self.most.max(replicas);
        replicas
    }
}
