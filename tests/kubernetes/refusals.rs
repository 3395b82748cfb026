//! What the scaler may not do, does not find, or must not hold: it says what to do, and goes on when that was done.

use crate::harness::wait_until;
use crate::place::WITHIN;
use crate::{Place, api_server};

/// Replaces the rules of the scaler's Role.
fn allow(place: &Place<'_>, rules: &str) {
    let patch = format!(r#"[{{"op":"replace","path":"/rules","value":{rules}}}]"#);
    place.kubectl(&["patch", "role", "tidemill-autoscale", "--type=json", "--patch", &patch]);
}

const LIST: &str = r#"{"apiGroups":["apps"],"resources":["deployments"],"verbs":["list"]}"#;
const SCALE: &str = r#"{"apiGroups":["apps"],"resources":["deployments/scale"],"verbs":["patch"]}"#;

#[test]
fn a_right_that_is_missing_is_named() {
    let place = Place::new(api_server(), "kube-rights");
    allow(&place, "[]");
    let scaler = place.scaler();
    scaler.wait_for_problem(&["may not list deployments", &place.namespace, "Role", "tidemill-autoscale"]);
    allow(&place, &format!("[{LIST}]"));
    scaler.wait_for_problem(&["may not patch deployments/scale of tidemill", "Role"]);
    assert_eq!(place.replicas(), Some(1), "nothing is set");
    allow(&place, &format!("[{LIST},{SCALE}]"));
    wait_until(WITHIN, "none", || place.replicas() == Some(0));
    scaler.wait_until_held();
    let log = scaler.end();
    for said in [
        "may not list horizontalpodautoscalers",
        "may not list deployments",
        "may not patch deployments/scale",
    ] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
    assert!(log.contains("its Deployment is held"), "{log}");
}

#[test]
fn a_deployment_that_is_missing_is_named() {
    let place = Place::new(api_server(), "kube-missing");
    place.kubectl(&["annotate", "deployment", "tidemill", "tidemill.dev/function-"]);
    let scaler = place.scaler();
    let annotation = format!("tidemill.dev/function: default/{}", place.stage.name);
    scaler.wait_for_problem(&["no Deployment", &annotation]);
    let annotation = annotation.replace(": ", "=");
    place.kubectl(&["annotate", "deployment", "tidemill", &annotation]);
    wait_until(WITHIN, "none", || place.replicas() == Some(0));
    place.kubectl(&["create", "deployment", "another", "--image", "it"]);
    place.kubectl(&["annotate", "deployment", "another", &annotation]);
    scaler.wait_for_problem(&["another, tidemill", "leave it on one"]);
    place.kubectl(&["delete", "deployment", "another"]);
    scaler.wait_until_held();
    scaler.end();
}

#[test]
fn a_deployment_that_an_autoscaler_holds_is_left_to_it() {
    let place = Place::new(api_server(), "kube-hpa");
    place.kubectl(&["scale", "deployment", "tidemill", "--replicas", "2"]);
    place.kubectl(&[
        "autoscale",
        "deployment",
        "tidemill",
        "--min",
        "1",
        "--max",
        "5",
        "--cpu-percent",
        "80",
    ]);
    let scaler = place.scaler();
    scaler.wait_for_problem(&["HorizontalPodAutoscaler tidemill", "delete that", "tidemill.dev/function"]);
    let (_, metrics) = scaler.listeners.metrics("/metrics");
    let unheld =
        format!("tidemill_scale_unheld_deployments{{function=\"default/{}\"}} 1\n", place.stage.name);
    assert!(metrics.contains(&unheld), "{metrics}");
    assert_eq!(place.replicas(), Some(2), "nothing is set");
    place.kubectl(&["delete", "horizontalpodautoscaler", "tidemill"]);
    wait_until(WITHIN, "none", || place.replicas() == Some(0));
    scaler.wait_until_held();
    let log = scaler.end();
    assert_eq!(log.matches("its Deployment is not held").count(), 1, "{log}");
}
