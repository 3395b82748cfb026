//! `run --watch`: manifests and plugins that come, change, break and go are taken up while other functions work on
//! and do not notice.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tidemill::plugin::{Profile, build_crate};

use crate::harness::{
    Follower, Listeners, Load, Stage, ToSend, Worker, assert_each_once, cluster, holds_for, trial_plugin,
    unique, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

/// A process that watches a folder of manifests.
struct Watching {
    folder: PathBuf,
    listeners: Listeners,
    worker: Worker,
}

impl Watching {
    /// Begins with the manifests that `write` puts into the folder.
    fn start(stage: &Stage, write: impl FnOnce(&Path)) -> Self {
        let folder = stage.folder().join("functions");
        fs::create_dir(&folder).expect("a folder");
        write(&folder);
        let listeners = Listeners::free();
        let args = ["run", folder.to_str().expect("text"), "--watch"];
        let worker = stage.spawn_args("watching", &args, &listeners.env());
        Self { folder, listeners, worker }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn problem(&self, stage: &Stage) -> Option<String> {
        Some(self.listeners.function(&stage.name)?["problem"].as_str()?.to_owned())
    }

    #[track_caller]
    fn wait_for_problem(&self, stage: &Stage, part: &str) {
        wait_until(WITHIN, part, || self.problem(stage).is_some_and(|problem| problem.contains(part)));
    }

    #[track_caller]
    fn wait_until_mended(&self, stage: &Stage) {
        wait_until(WITHIN, "the problem to be gone", || self.problem(stage).is_none());
    }

    #[track_caller]
    fn wait_for_state(&self, stage: &Stage, state: &str) {
        wait_until(WITHIN, state, || self.listeners.state(&stage.name) == state);
    }

    fn log_count(&self, part: &str) -> usize {
        self.worker.log().matches(part).count()
    }
}

/// Sends `value` and waits for what comes of it.
fn pass(stage: &Stage, follower: &Follower, event: ToSend) -> String {
    let before = follower.count();
    cluster().produce(&stage.source, [event]);
    follower.wait_for(before + 1, WITHIN).remove(before).text().to_owned()
}

/// Puts a file into its place at once, as builds do.
fn replace(place: &Path, with: &Path) {
    let beside = place.with_extension("new");
    fs::copy(with, &beside).expect("a copy");
    fs::rename(&beside, place).expect("a new name");
}

/// A plugin that does not know the headers which the trial obeys.
fn echo_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/echo");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libwatched-echo.so");
        build_crate(&crate_dir, &file, Profile::Dev).unwrap_or_else(|error| panic!("{error}"));
        file
    })
}

#[test]
fn functions_come_change_and_go_and_the_neighbour_does_not_notice() {
    let neighbour = Stage::new(cluster(), "neighbour", 4);
    let load = Load::start(cluster(), &neighbour.source, 20);
    let results = Follower::start(cluster(), &neighbour.sink);
    let mut watching =
        Watching::start(&neighbour, |folder| neighbour.write_to(&folder.join("neighbour.yaml")));
    results.wait_for(100, WITHIN);
    let members = neighbour.member_ids();

    // It comes.
    let stage =
        Stage::new(cluster(), "changing", 1).with("/spec/handler", json!({ "plugin": trial_plugin() }));
    let file = watching.file("changing.yaml");
    stage.write_to(&file);
    let follower = Follower::start(cluster(), &stage.sink);
    assert_eq!(pass(&stage, &follower, ToSend::new("k", "0")), "0");

    // It changes so that it has to begin anew: what it did stands, and nothing is done twice.
    let other_sink = unique("changed-sink");
    cluster().create_topic(&other_sink, 1, &[]);
    let before = stage.member_ids();
    let stage = stage.with("/spec/sinks/0/topic", json!(other_sink));
    stage.write_to(&file);
    let follower_of_old = follower;
    let follower = Follower::start(cluster(), &other_sink);
    wait_until(WITHIN, "another member", || {
        let now = stage.member_ids();
        !now.is_empty() && now != before
    });
    watching.wait_for_state(&stage, "running");
    assert_eq!(pass(&stage, &follower, ToSend::new("k", "1")), "1");
    assert_eq!((follower_of_old.count(), follower.count()), (1, 1));

    // What cannot work stops it, and a mended manifest starts it again, though nobody else does.
    let stage = stage.with("/spec/sinks/0/topic", json!(unique("missing")));
    stage.write_to(&file);
    watching.wait_for_state(&stage, "stopped");
    assert_eq!(stage.members(), 0);
    let stage = stage.with("/spec/sinks/0/topic", json!(other_sink));
    stage.write_to(&file);
    assert_eq!(pass(&stage, &follower, ToSend::new("k", "2")), "2");

    // It goes.
    stage.wait_until_drained(WITHIN);
    fs::remove_file(&file).unwrap();
    wait_until(WITHIN, "it to be gone", || watching.listeners.function(&stage.name).is_none());
    assert_eq!(stage.members(), 0, "it has left");

    // It comes back, where it left.
    cluster().produce(&stage.source, [ToSend::new("k", "3")]);
    stage.write_to(&file);
    assert_eq!(follower.wait_for(3, WITHIN)[2].text(), "3");

    assert_eq!(neighbour.member_ids(), members, "the neighbour's group has not changed");
    assert_eq!(watching.log_count(&format!("{}/0", neighbour.source)), 1, "{}", watching.worker.log());
    let count = load.finish();
    assert_each_once(count, &results.wait_for(count as usize, WITHIN));
    assert_eq!(watching.worker.terminate(WITHIN).code(), Some(0));
}

#[test]
fn another_handler_takes_over_without_a_rebalance() {
    let stage = Stage::new(cluster(), "handler-only", 1);
    let plugin = stage.folder().join("libhandler.so");
    replace(&plugin, trial_plugin());
    let stage = stage.with("/spec/handler", json!({ "plugin": plugin }));
    let mut watching = Watching::start(&stage, |folder| stage.write_to(&folder.join("function.yaml")));
    let file = watching.file("function.yaml");
    let follower = Follower::start(cluster(), &stage.sink);
    let sized = |n: usize| ToSend::new("k", n.to_string()).header("size", "3");
    assert_eq!(pass(&stage, &follower, sized(0)), "xxx", "the trial handles it");
    let members = stage.member_ids();
    let taken_over = |watching: &Watching, times: usize| {
        wait_until(WITHIN, "the handler to be replaced", || watching.log_count("handler replaced") == times);
    };

    // Its config.
    let stage = stage.with_trial().with("/spec/handler/plugin", json!(plugin));
    stage.write_to(&file);
    taken_over(&watching, 1);
    assert_eq!(pass(&stage, &follower, sized(1)), "xxx");
    assert_eq!(stage.calls().len(), 1, "the new config says where to note calls");

    // A plugin that is none, then one that is: half-written files look like the former.
    fs::write(plugin.with_extension("half"), b"\x7fELF, but no library").unwrap();
    replace(&plugin, &plugin.with_extension("half"));
    watching.wait_for_problem(&stage, "libhandler.so");
    assert_eq!(pass(&stage, &follower, sized(2)), "xxx", "the old one stays");
    replace(&plugin, echo_plugin());
    taken_over(&watching, 2);
    watching.wait_until_mended(&stage);
    assert_eq!(pass(&stage, &follower, sized(3)), "3", "the very next event is the new one's");

    // An entry that is not there.
    let stage = stage.with("/spec/handler/entry", json!("nobody"));
    stage.write_to(&file);
    watching.wait_for_problem(&stage, "nobody");
    assert_eq!(pass(&stage, &follower, sized(4)), "4");
    assert_eq!(watching.log_count("not taken up"), 2, "said once a change: {}", watching.worker.log());

    assert_eq!(stage.member_ids(), members, "the group did not notice");
    assert_eq!(watching.worker.terminate(WITHIN).code(), Some(0));
}

#[test]
fn a_broken_manifest_leaves_the_function_at_work_until_it_is_mended() {
    let stage = Stage::new(cluster(), "broken", 1);
    let mut watching = Watching::start(&stage, |folder| stage.write_to(&folder.join("a.yaml")));
    let follower = Follower::start(cluster(), &stage.sink);
    assert_eq!(pass(&stage, &follower, ToSend::new("k", "0")), "0");
    let members = stage.member_ids();

    let file = watching.file("a.yaml");
    fs::write(&file, stage.text().replace("\"sinks\"", "\n\"sink\"")).unwrap();
    watching.wait_for_problem(&stage, "a.yaml:2: spec.sink");
    // Not even YAML, as an editor leaves it half-way.
    fs::write(&file, &stage.text()[..40]).unwrap();
    wait_until(WITHIN, "the other problem", || {
        watching.problem(&stage).is_some_and(|problem| !problem.contains("spec.sink"))
    });
    assert_eq!(pass(&stage, &follower, ToSend::new("k", "1")), "1", "the old one works on");
    holds_for(Duration::from_secs(3), "said once a change", || watching.log_count("not taken up") == 2);
    // Another one in its group, which it still uses though its manifest cannot tell.
    let problems = || watching.listeners.functions().unwrap_or_default()["problems"].clone();
    let wait_for_other = |part: &str| {
        wait_until(WITHIN, part, || problems()[0].as_str().is_some_and(|problem| problem.contains(part)));
    };
    let rival = watching.file("rival.yaml");
    Stage::without_topics(cluster(), "rival").with("/spec/group", json!(stage.group())).write_to(&rival);
    wait_for_other("manifest is broken");
    fs::remove_file(&rival).unwrap();
    stage.write_to(&file);
    watching.wait_until_mended(&stage);

    // Two of one name: neither is believed.
    let twin = watching.file("b.yaml");
    stage.write_to(&twin);
    watching.wait_for_problem(&stage, "stands in");
    assert_eq!(pass(&stage, &follower, ToSend::new("k", "2")), "2");
    fs::remove_file(&file).unwrap();
    watching.wait_until_mended(&stage);

    // A broken newcomer is nobody's problem, and is shown.
    let newcomer = watching.file("c.yaml");
    fs::write(&newcomer, "apiVersion: tidemill.dev/v1alpha1\nkind: Function\n").unwrap();
    wait_for_other("c.yaml");
    fs::remove_file(&newcomer).unwrap();
    wait_until(WITHIN, "it to be gone", || problems() == json!([]));

    assert_eq!(pass(&stage, &follower, ToSend::new("k", "3")), "3");
    assert_eq!(stage.member_ids(), members, "through all of this the group did not notice");
    assert_eq!(watching.worker.terminate(WITHIN).code(), Some(0));
}

/// Kubernetes keeps the files of a ConfigMap behind a link, `..data`, and swaps that.
#[test]
fn a_config_map_that_is_swapped_is_taken_up() {
    let old = Stage::new(cluster(), "mounted", 1).with("/spec/handler", json!({ "plugin": trial_plugin() }));
    let version = |folder: &Path, name: &str, stage: &Stage| {
        fs::create_dir(folder.join(name)).unwrap();
        stage.write_to(&folder.join(name).join("function.yaml"));
    };
    let mut watching = Watching::start(&old, |folder| {
        version(folder, "..2026_1", &old);
        symlink("..2026_1", folder.join("..data")).unwrap();
        symlink("..data/function.yaml", folder.join("function.yaml")).unwrap();
    });
    let follower = Follower::start(cluster(), &old.sink);
    assert_eq!(pass(&old, &follower, ToSend::new("k", "0")), "0");

    let new = old.with_trial();
    version(&watching.folder, "..2026_2", &new);
    symlink("..2026_2", watching.file("..data_tmp")).unwrap();
    fs::rename(watching.file("..data_tmp"), watching.file("..data")).unwrap();
    fs::remove_dir_all(watching.file("..2026_1")).unwrap();
    wait_until(WITHIN, "the new config", || watching.log_count("handler replaced") == 1);
    assert_eq!(pass(&new, &follower, ToSend::new("k", "1")), "1");
    assert_eq!(new.calls().len(), 1);
    assert_eq!(watching.worker.terminate(WITHIN).code(), Some(0));
}

/// Two members of one process with one transactional id would fence each other.
#[test]
fn a_renamed_function_that_keeps_its_group_goes_on_where_it_was() {
    let group = unique("kept-group");
    let stage = Stage::new(cluster(), "renamed", 1).with_trial().with("/spec/group", json!(group));
    let follower = Follower::start(cluster(), &stage.sink);
    let numbered = |n: usize| ToSend::new("key", n.to_string());
    cluster().produce(&stage.source, [numbered(0), numbered(1).header("sleep-ms", "3000")]);
    let mut watching = Watching::start(&stage, |folder| stage.write_to(&folder.join("function.yaml")));
    wait_until(WITHIN, "the slow call", || stage.calls().len() == 2);
    // Before the old one in the alphabet, so it is met first, and while that has something to finish.
    let old = stage.name.clone();
    let new = format!("a-{old}");
    let stage = stage.with("/metadata/name", json!(new));
    stage.write_to(&watching.file("function.yaml"));
    cluster().produce(&stage.source, (2..100).map(numbered));
    wait_until(WITHIN, "the new name", || {
        watching.listeners.function(&old).is_none() && watching.listeners.state(&new) == "running"
    });
    assert_each_once(100, &follower.wait_for(100, WITHIN));
    assert!(stage.calls().values().all(|attempts| attempts == &[1]), "no event was called twice");
    // It may have nothing left to do, and say only later that it is there.
    let starts = |line: &str| line.contains("worker started") && line.contains(&new);
    wait_until(WITHIN, "the new worker", || watching.worker.log().lines().any(starts));
    let log = watching.worker.log();
    let left = log.lines().position(|line| line.contains("worker stopped"));
    assert!(left.is_some() && left < log.lines().position(starts), "one after the other: {log}");
    assert_eq!(watching.worker.terminate(WITHIN).code(), Some(0));
}
