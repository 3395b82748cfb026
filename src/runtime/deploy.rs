//! Holds the samples in `deploy/` valid.

use std::path::{Path, PathBuf};

use super::autoscale::ANNOTATION;
use crate::manifest::{self, Overrides, Platform};

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).unwrap()
}

#[test]
fn the_functions_are_valid() {
    let functions = manifest::load(&[deploy("functions")]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(functions.len(), 1);
}

#[test]
fn the_platform_settings_for_kubernetes_are_valid() {
    let kubernetes = text("kubernetes/settings.yaml");
    let (_, settings) = kubernetes.split_once("tidemill.yaml: |\n").unwrap();
    let settings: String = settings
        .lines()
        .take_while(|line| line.starts_with("    "))
        .map(|line| line[4..].to_owned() + "\n")
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidemill.yaml");
    let loaded = |settings: &str| {
        std::fs::write(&file, settings).unwrap();
        Platform::load(Some(&file), [], &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
    };
    let platform = loaded(&settings);
    assert_eq!(platform.metrics.map(|address| address.port()), Some(9464), "what the probes ask");
    let (open, secured) = settings.split_once("# kafka:").unwrap();
    let secured = loaded(&format!("{open}kafka:{}", secured.replace("# ", "")));
    assert_eq!(secured.kafka.len(), 4, "the settings in comments are valid too");
}

#[test]
fn a_pod_may_finish_before_it_is_killed() {
    let kubernetes = text("kubernetes/workers.yaml");
    let (_, grace) = kubernetes.split_once("terminationGracePeriodSeconds: ").unwrap();
    let grace: u64 = grace.lines().next().unwrap().parse().unwrap();
    let platform = Platform::load(None, [], &Overrides::default()).unwrap();
    assert!(grace > platform.shutdown_deadline.as_secs());
}

/// One count of workers a pod, wherever it stands, and one function whose pods they are.
#[test]
fn the_scaler_finds_the_deployment_of_the_function() {
    let (workers, scaler) = (text("kubernetes/workers.yaml"), text("kubernetes/scaler.yaml"));
    let functions = manifest::load(&[deploy("functions")]).unwrap_or_else(|errors| panic!("{errors}"));
    let name = &functions[0].name;
    assert!(workers.contains(&format!("\n    {ANNOTATION}: {name}\n")), "{name}");
    assert!(workers.contains(&format!("- --only={name}\n")), "{name}");
    assert!(workers.contains("- --workers=1\n") && scaler.contains("- --workers-per-process=1\n"));
    assert!(text("keda/scaledobject.yaml").contains("workersPerPod: \"1\"\n"));
    assert!(!workers.contains("\n  replicas:"), "what is applied again would contradict the scaler");
    assert!(functions[0].scale.min == 0, "with nothing to do it has no pod");
}

#[test]
fn the_trigger_finds_the_scaler_and_its_function() {
    let (scaler, object) = (text("keda/scaler.yaml"), text("keda/scaledobject.yaml"));
    let functions = manifest::load(&[deploy("functions")]).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(object.contains(&format!("function: {}\n", functions[0].name)), "{}", functions[0].name);
    assert!(object.contains("scalerAddress: tidemill-autoscale.default.svc:9466\n"));
    for part in [
        "kind: Service\nmetadata:\n  name: tidemill-autoscale\n",
        "port: 9466, targetPort: keda",
        "--listen=0.0.0.0:9466",
    ] {
        assert!(scaler.contains(part), "{part}");
    }
}
