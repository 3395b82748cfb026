//! A Deployment has the pods that its function's backlog needs: from none to some and back, with the rights of `deploy/kubernetes`.

use crate::harness::{ToSend, cluster, wait_until};
use crate::place::WITHIN;
use crate::{Place, Pods, api_server};

#[test]
fn pods_come_with_the_backlog_and_go_with_it() {
    let place = Place::new(api_server(), "kube-tide");
    let (scaler, mut pods) = (place.scaler(), Pods::new(&place));
    wait_until(WITHIN, "the pod that a new Deployment has to go", || pods.tend() == 0);
    for round in 0..2 {
        let events = (round * 4000..(round + 1) * 4000)
            .map(|n| ToSend::new(format!("key-{n}"), n.to_string()).header("sleep-ms", "10"));
        cluster().produce(&place.stage.source, events);
        pods.most = 0;
        wait_until(WITHIN, "more than one pod", || pods.tend() > 1);
        wait_until(WITHIN, "none", || pods.tend() == 0);
        assert!(pods.most <= 3, "no more than may be: {}", pods.most);
    }
    let deployment = scaler.deployment();
    assert_eq!(deployment["replicas"], 0, "{deployment}");
    assert_eq!((&deployment["problem"], &deployment["overruled"]), (&serde_json::Value::Null, &0.into()));
    let (_, metrics) = scaler.listeners.metrics("/metrics");
    for (name, value) in [("deployment_replicas", 0), ("unheld_deployments", 0)] {
        let line = format!("tidemill_scale_{name}{{function=\"default/{}\"}} {value}\n", place.stage.name);
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert_eq!(scaler.listeners.metrics("/readyz").0, 200);
    let log = scaler.end();
    assert!(log.contains("replicas set") && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
    place.stage.assert_each_ends_once(8000);
}

#[test]
fn what_somebody_else_sets_is_set_again() {
    let place = Place::new(api_server(), "kube-other");
    let scaler = place.scaler();
    let by_hand =
        ["patch", "deployment", "tidemill", "--type=merge", "--patch", r#"{"spec":{"replicas":7}}"#];
    let by_scale = ["scale", "deployment", "tidemill", "--replicas", "7"];
    for (times, change) in [(1, &by_hand[..]), (2, &by_scale[..])] {
        wait_until(WITHIN, "none", || place.replicas() == Some(0));
        wait_until(WITHIN, "that to be known", || scaler.deployment()["replicas"] == 0);
        place.kubectl(change);
        wait_until(WITHIN, "the others to be noticed", || scaler.deployment()["overruled"] == times);
    }
    wait_until(WITHIN, "none", || place.replicas() == Some(0));
    let log = scaler.end();
    let said = "somebody else changes the replicas";
    assert_eq!(log.matches(said).count(), 1, "it is said once: {log}");
    assert!(
        log.lines().any(|line| line.contains(said) && line.contains("kubectl-patch")),
        "and who it was: {log}"
    );
}

#[test]
fn what_nobody_could_look_at_keeps_its_pods() {
    let place = Place::new(api_server(), "kube-blind");
    place.kubectl(&["scale", "deployment", "tidemill", "--replicas", "2"]);
    // A source that is not there cannot be looked at.
    let missing = serde_json::json!(format!("{}.missing", place.stage.name));
    let place = Place { stage: place.stage.with("/spec/sources/0/topic", missing), ..place };
    let scaler = place.scaler();
    scaler.wait_until_held();
    wait_until(WITHIN, "looks to fail", || scaler.process.log().contains("it cannot be looked at"));
    assert_eq!(place.replicas(), Some(2));
    let log = scaler.end();
    assert!(!log.contains("replicas set"), "{log}");
}
