//! An API server that is away: the scaler waits, says so once, and goes on.

use crate::harness::wait_until;
use crate::place::WITHIN;
use crate::{ApiServer, Place};

#[test]
fn an_api_server_that_is_away_is_waited_for() {
    let mut api = ApiServer::start();
    let place = Place::new(&api, "kube-away");
    let scaler = place.scaler();
    wait_until(WITHIN, "none", || place.replicas() == Some(0));
    let Place { namespace, stage, .. } = place;

    api.stop();
    scaler.wait_for_problem(&["list deployments", "onnection refused"]);
    api.start_again();
    scaler.wait_until_held();

    // What is wanted meanwhile is set afterwards.
    api.stand_still();
    scaler.wait_for_problem(&["no answer"]);
    crate::harness::cluster().produce(&stage.source, [crate::harness::ToSend::new("key", "0")]);
    wait_until(WITHIN, "a pod to be wanted", || {
        scaler.listeners.scale(&stage.name).is_some_and(|scale| scale["desired"] == 1)
    });
    api.go_on();
    let place = Place { api: &api, namespace, stage };
    wait_until(WITHIN, "it to be set", || place.replicas() == Some(1));

    let log = scaler.end();
    assert_eq!(log.matches("the Kubernetes API answers again").count(), 2, "{log}");
    assert!(log.contains("the Kubernetes API cannot be used"), "{log}");
    assert!(!log.contains("its Deployment is not held"), "one line for all functions: {log}");
}
