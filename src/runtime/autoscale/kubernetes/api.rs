//! The questions that are asked of the Kubernetes API, and what its refusals mean.
//!
//! | what | right |
//! |---|---|
//! | which Deployments there are, with how many pods | `list` of `deployments` (apps) |
//! | who else holds them | `list` of `horizontalpodautoscalers` (autoscaling) |
//! | so many pods | `patch` of `deployments/scale` (apps) |

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Client, Config};

use super::rules::{ANNOTATION, Deployment, Holder, function_of};

/// What the API server is told who changes things.
const MANAGER: &str = "tidemill-autoscale";

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answers, or has no time to.
    Away(String),
    /// It is answered: no.
    Refused(String),
}

/// A connection to one namespace.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    deployments: kube::Api<apps::Deployment>,
    autoscalers: kube::Api<HorizontalPodAutoscaler>,
    namespace: String,
}

impl Api {
    /// Nothing is asked yet. The namespace is that of the kubeconfig's context, or of this pod, unless it is given.
    ///
    /// # Errors
    /// There is neither a kubeconfig nor a pod's service account, or what they say cannot be used.
    pub fn new(namespace: Option<&str>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let mut config = Config::infer().await.context(
                "no way to the Kubernetes API: give a kubeconfig (KUBECONFIG, ~/.kube/config), or run in a pod with a \
                 service account (automountServiceAccountToken: true)",
            )?;
            // Waits are this program's, which says so.
            config.default_retry = false;
            config.connect_timeout = Some(WITHIN);
            let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
            Ok::<_, anyhow::Error>((Client::try_from(config).context("the Kubernetes API")?, namespace))
        });
        let (client, namespace) = client?;
        Ok(Self {
            deployments: kube::Api::namespaced(client.clone(), &namespace),
            autoscalers: kube::Api::namespaced(client, &namespace),
            runtime,
            namespace,
        })
    }

    /// Where the Deployments are.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Deployments that are for functions.
    pub fn deployments(&self) -> Result<Vec<Deployment>, Failure> {
        let all = ListParams::default();
        let listed = self.ask("list deployments", self.deployments.list(&all))?;
        Ok(listed.items.into_iter().filter_map(deployment).collect())
    }

    /// Who holds Deployments too.
    pub fn holders(&self) -> Result<Vec<Holder>, Failure> {
        let all = ListParams::default();
        let listed = self.ask("list horizontalpodautoscalers", self.autoscalers.list(&all))?;
        Ok(listed.items.into_iter().filter_map(holder).collect())
    }

    /// So many pods. Returns what is set now.
    pub fn set(&self, deployment: &str, replicas: u32) -> Result<u32, Failure> {
        let patch = Patch::Merge(serde_json::json!({ "spec": { "replicas": replicas } }));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("patch deployments/scale of {deployment}");
        let scale = self.ask(&what, self.deployments.patch_scale(deployment, &params, &patch))?;
        Ok(number(scale.spec.and_then(|spec| spec.replicas)))
    }

    fn ask<T>(&self, what: &str, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        let timed = async { tokio::time::timeout(WITHIN, answer).await };
        // The client logs each failure as an error of its own; here it is told once.
        let silent = tracing::subscriber::NoSubscriber::default();
        match tracing::subscriber::with_default(silent, || self.runtime.block_on(timed)) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(what, error)),
            Err(_) => Err(Failure::Away(format!("cannot {what}: no answer for {} s", WITHIN.as_secs()))),
        }
    }

    fn failure(&self, what: &str, error: kube::Error) -> Failure {
        let namespace = &self.namespace;
        match error {
            kube::Error::Api(status) => {
                let said = &status.message;
                match status.code {
                    401 => Failure::Refused(format!(
                        "cannot {what}: the API server does not know this program: renew its token or kubeconfig: {said}"
                    )),
                    403 => Failure::Refused(format!(
                        "may not {what} in the namespace {namespace}: give it that right, as the Role in \
                         deploy/kubernetes/scaler.yaml does: {said}"
                    )),
                    404 => Failure::Refused(format!(
                        "cannot {what} in the namespace {namespace}: it is not there: {said}"
                    )),
                    429 | 500.. => Failure::Away(format!("cannot {what}: {said}")),
                    _ => Failure::Refused(format!("cannot {what} in the namespace {namespace}: {said}")),
                }
            }
            // Their own words are those of what they hold.
            kube::Error::Service(error) => {
                Failure::Away(format!("cannot {what}: {:#}", anyhow::anyhow!(error)))
            }
            kube::Error::HyperError(error) => {
                Failure::Away(format!("cannot {what}: {:#}", anyhow::anyhow!(error)))
            }
            error => Failure::Away(format!("cannot {what}: {error}")),
        }
    }
}

/// Counts of the API are never negative.
fn number(count: Option<i32>) -> u32 {
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default()
}

fn deployment(listed: apps::Deployment) -> Option<Deployment> {
    let meta = listed.metadata;
    let function = function_of(meta.annotations.as_ref()?.get(ANNOTATION)?);
    let set_by = who_set_replicas(&meta);
    Some(Deployment {
        name: meta.name?,
        function,
        // The API server puts 1 for what is not said.
        replicas: number(listed.spec?.replicas),
        ready: number(listed.status.and_then(|status| status.ready_replicas)),
        set_by,
    })
}

/// Of those who own the field the one who wrote last.
fn who_set_replicas(meta: &ObjectMeta) -> Option<String> {
    let owners = meta.managed_fields.iter().flatten().filter(|entry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get("f:replicas").is_some())
    });
    let last = owners.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager.clone()
}

fn holder(listed: HorizontalPodAutoscaler) -> Option<Holder> {
    let target = listed.spec?.scale_target_ref;
    if target.kind != "Deployment" {
        return None;
    }
    let name = listed.metadata.name?;
    let maker =
        listed.metadata.owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
    let name = match maker {
        Some(maker) => format!("HorizontalPodAutoscaler {name} of the {} {}", maker.kind, maker.name),
        None => format!("HorizontalPodAutoscaler {name}"),
    };
    Some(Holder { deployment: target.name, name })
}
