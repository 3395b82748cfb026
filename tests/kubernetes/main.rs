//! Promises that only a real Kubernetes API server can show, beside a real Apache Kafka. `cargo test` leaves them out, since they
//! build the API server first, once, which takes ten minutes:
//!
//! ```sh
//! cargo test --test kubernetes
//! ```
//!
//! [`ApiServer`] is kube-apiserver with its etcd in one process, built from `api/` with Go; `kubectl` applies the
//! manifests of `deploy/` and does what a person would. No kubelet runs pods: [`Pods`] are processes, as many as the Deployment
//! says. The scaler has the rights that `deploy/kubernetes` gives it, and no others.

#[path = "../kafka/harness/mod.rs"]
mod harness;

mod api_server;
mod place;

mod away;
mod manifests_apply;
mod refusals;
mod replicas_follow;

pub use api_server::{ApiServer, api_server};
pub use place::{Place, Pods};
