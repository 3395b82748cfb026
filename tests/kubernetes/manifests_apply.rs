//! What `deploy/` holds for Kubernetes is what the API server takes, to the last field.

use crate::api_server;
use crate::harness::unique;
use crate::harness::wait_until;
use crate::place::{WITHIN, project};

fn namespace() -> String {
    let namespace = unique("kube-apply");
    api_server().kubectl(&["create", "namespace", &namespace]).expect("a namespace");
    namespace
}

#[track_caller]
fn apply(namespace: &str, what: &[&str]) -> Result<String, String> {
    let apply = ["--namespace", namespace, "apply", "--server-side", "--validate=strict"];
    api_server().kubectl(&apply.iter().chain(what).copied().collect::<Vec<_>>())
}

#[test]
fn the_manifests_are_valid_and_may_be_applied_again() {
    let namespace = namespace();
    for _ in 0..2 {
        let applied = apply(&namespace, &["-k", &project("deploy/kubernetes")]).expect("it is valid");
        for object in [
            "deployment.apps/tidemill ",
            "deployment.apps/tidemill-autoscale",
            "role.rbac",
            "configmap/tidemill-functions",
        ] {
            assert!(applied.contains(object), "{object}: {applied}");
        }
    }
    let get = ["--namespace", &namespace, "get", "pods,replicasets"];
    assert!(api_server().kubectl(&get).is_ok(), "the namespace is there");
    let wrong = apply(&namespace, &["-f", &project("deploy/functions/large-fares.yaml")]);
    assert!(wrong.is_err(), "a function is nothing of Kubernetes'");
}

#[test]
fn the_scaler_for_keda_is_valid() {
    let namespace = namespace();
    apply(&namespace, &["-f", &project("deploy/keda/scaler.yaml")]).expect("it is valid");
    // KEDA's own kind is known where KEDA is; that the rest of the file is one object of it can be seen anyhow.
    let refused =
        apply(&namespace, &["-f", &project("deploy/keda/scaledobject.yaml")]).expect_err("KEDA is not there");
    assert!(
        refused.contains("no matches for kind \"ScaledObject\" in version \"keda.sh/v1alpha1\""),
        "{refused}"
    );
}

#[test]
fn the_scaler_may_do_what_it_needs_and_nothing_else() {
    let namespace = namespace();
    apply(&namespace, &["-k", &project("deploy/kubernetes")]).expect("it is valid");
    let who = format!("--as=system:serviceaccount:{namespace}:tidemill-autoscale");
    let may = |verb: &str, what: &str| {
        let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
        let subresource = format!("--subresource={subresource}");
        let ask = ["--namespace", &namespace, "auth", "can-i", verb, what, &subresource, &who];
        api_server().kubectl(&ask).is_ok()
    };
    wait_until(WITHIN, "the Role to hold", || may("list", "deployments.apps"));
    assert!(may("patch", "deployments.apps/scale") && may("list", "horizontalpodautoscalers.autoscaling"));
    for (verb, what) in [
        ("patch", "deployments.apps"),
        ("get", "deployments.apps"),
        ("delete", "deployments.apps"),
        ("create", "pods"),
        ("list", "secrets"),
        ("patch", "statefulsets.apps/scale"),
    ] {
        assert!(!may(verb, what), "{verb} {what}");
    }
}
