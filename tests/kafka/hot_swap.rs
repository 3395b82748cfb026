//! A plugin that is replaced takes over between two cuts, without a rebalance and before the next event; one that
//! cannot be loaded leaves the old one at work.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock, SystemClock};
use tidemill::observe::Exposition;
use tidemill::plugin::{Profile, Registry, build_crate};
use tidemill::runtime::{Handlers, Runtime, Shared, Stop};

use crate::harness::{Follower, Stage, ToSend, cluster, trial_plugin, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_newer_plugin_takes_over_and_a_broken_one_does_not() {
    let stage = Stage::new(cluster(), "swap", 1);
    let plugin = stage.folder().join("libhandler.so");
    replace(&plugin, trial_plugin());
    let stage = stage.with("/spec/handler", json!({ "plugin": plugin }));
    let mut functions =
        tidemill::manifest::load(&[stage.manifest()]).unwrap_or_else(|errors| panic!("{errors}"));
    let function = Arc::new(functions.remove(0));
    let registry = Arc::new(Registry::default());
    let handlers = Handlers::load(&function, &registry, stage.folder()).unwrap();
    let stop = Stop::default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let shared = Shared::new(cluster().as_cluster(), "swap", clock, Exposition::default());
    let runtime = Runtime::start(vec![(function, handlers.clone())], &shared, &stop, None).unwrap();
    let follower = Follower::start(cluster(), &stage.sink);
    // The trial obeys this header, the echo does not know it.
    let send = |n: usize| {
        cluster().produce(&stage.source, [ToSend::new("k", n.to_string()).header("size", "3")]);
        follower.wait_for(n + 1, WITHIN).remove(n).text().to_owned()
    };
    assert_eq!(send(0), "xxx", "the trial handles it");
    let rebalances = stage.member_ids();

    fs::write(&plugin, b"\x7fELF, but no library").unwrap();
    let refused = handlers.reload().unwrap_err();
    assert!(format!("{refused:#}").contains("libhandler.so"), "{refused:#}");
    assert_eq!(send(1), "xxx", "the old one stays");

    let echo = stage.folder().join("libecho.so");
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/echo");
    build_crate(&crate_dir, &echo, Profile::Dev).unwrap_or_else(|error| panic!("{error}"));
    replace(&plugin, &echo);
    handlers.reload().unwrap();
    assert_eq!(send(2), "2", "the very next event is the new one's");
    assert_eq!(stage.member_ids(), rebalances, "the group did not notice");

    runtime.stop();
    wait_until(WITHIN, "the runtime to end", || runtime.is_finished());
    runtime.wait().unwrap();
}

/// Puts a file into its place at once, as builds do.
fn replace(place: &Path, with: &Path) {
    let beside = place.with_extension("new");
    fs::copy(with, &beside).expect("a copy");
    fs::rename(&beside, place).expect("a new name");
}
