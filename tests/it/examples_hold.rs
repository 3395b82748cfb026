//! The examples do what their cases and their READMEs say, through the command that a person types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidemill::cli::sample::Sample;
use tidemill::manifest;
use tidemill::model::{Moment, Record};
use tidemill::pipeline::{Pass, Pipeline, Settled, Target};
use tidemill::plugin::{Profile, Registry, build_crate};
use tidemill::runtime::Handlers;

use crate::scene::Recorder;

/// `tidemill` with these arguments, in the repository.
fn tidemill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("tidemill starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("functions").join(name)
}

#[test]
fn the_cases_of_every_example_hold() {
    let output = tidemill(&["test", "functions", "--output", "json"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("one JSON document");
    for name in [
        "billing",
        "carpool",
        "echo",
        "flight-stitch",
        "flights",
        "flights-hourly",
        "order-saga",
        "payment-screen",
        "quiet-sensor",
        "reminders",
        "ride-loyalty",
        "ride-receipts",
    ] {
        let tested = report["functions"].as_array().unwrap().iter();
        let tested = tested.clone().find(|tested| tested["function"] == format!("default/{name}"));
        let cases =
            tested.unwrap_or_else(|| panic!("{name} is not in {stdout}"))["cases"].as_array().unwrap();
        assert!(!cases.is_empty() && cases.iter().all(|case| case["passed"] == true), "{name}: {cases:?}");
    }
}

/// A folder with the manifest of ride-receipts, its crate named from afar, and these cases.
fn receipts_with(cases: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = std::fs::read_to_string(example("ride-receipts").join("function.yaml")).unwrap();
    let crate_dir = format!("crate: {}", example("ride-receipts").display());
    std::fs::write(folder.path().join("function.yaml"), manifest.replace("crate: .", &crate_dir)).unwrap();
    std::fs::write(folder.path().join("cases.yaml"), cases).unwrap();
    folder
}

#[test]
fn a_wrong_expectation_fails_and_is_named() {
    let folder = receipts_with(
        "cases:\n  - name: too much\n    given:\n      - attributes: { id: r, source: /a, type: com.example.ride.completed }\n        \
         value: { ride: r-1, rider: ada, fare_cents: 1190, currency: EUR }\n    \
         expect:\n      emits:\n        - value: { ride: r-1, rider: ada, total_cents: 9999, vat_cents: 190, currency: EUR }\n  \
         - name: of another type\n    given:\n      - attributes: { id: r, source: /a, type: com.example.ride.begun }\n    \
         expect: { outcome: filtered }\n",
    );
    let output = tidemill(&["test", folder.path().to_str().unwrap()]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}{}", text(&output.stderr));
    let place = format!("  FAILED  too much ({}:2)", folder.path().join("cases.yaml").display());
    let expected = format!(
        "default/ride-receipts\n{place}\n          emits[0].value.total_cents: expected 9999, got 1190\n  \
         ok      of another type\n1 cases hold, 1 FAILED\n"
    );
    assert_eq!(stdout, expected);
}

#[test]
fn invalid_cases_are_refused_before_anything_is_built() {
    let folder = receipts_with("cases:\n  - name: n\n    given: [{}]\n    expect: { outcom: ok }\n");
    let output = tidemill(&["test", folder.path().to_str().unwrap()]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let place = format!("{}:4: cases[0].expect.outcom:", folder.path().join("cases.yaml").display());
    assert_eq!(stderr, format!("{place} unknown key, did you mean `outcome`?\n"));
}

#[test]
fn the_sequence_in_the_readme_holds_for_billing() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let mut blocks = readme.split("```yaml\n").filter_map(|rest| Some(rest.split_once("```")?.0));
    let cases = blocks.find(|block| block.contains("advance:")).expect("a case with a sequence");
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = std::fs::read_to_string(example("billing").join("function.yaml")).unwrap();
    let crate_dir = format!("crate: {}", example("billing").display());
    std::fs::write(folder.path().join("function.yaml"), manifest.replace("crate: .", &crate_dir)).unwrap();
    for (cases, code) in [(cases.to_owned(), 0), (cases.replace("advance: 59m", "advance: 61m"), 1)] {
        std::fs::write(folder.path().join("cases.yaml"), cases).unwrap();
        let output = tidemill(&["test", folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn invoke_shows_the_windows_of_an_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("event.json");
    let sample = sample("billing");
    std::fs::write(&file, sample.lines().find(|line| line.contains("ended-rides")).expect("an event"))
        .unwrap();
    let arguments = ["invoke", "functions/billing", "--event", file.to_str().unwrap()];
    let output = tidemill(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "default/billing: ok\n  is in the window of `r-3001`: 2026-03-14T08:15:00Z to 2026-03-14T09:15:00Z, closes when \
         event time comes to 2026-03-14T09:15:00.001Z\n  gives its result as soon as it has `payment`\n  \
         would emit nothing yet\n"
    );
    let output = tidemill(&[&arguments[..], &["--output", "json"]].concat());
    let shown: Value = serde_json::from_str(&text(&output.stdout)).expect("JSON");
    assert_eq!(
        shown["windows"],
        serde_json::json!([{ "key": "r-3001", "start": 1773476100000i64, "end": 1773479700000i64, "closesAt": 1773479700001i64 }])
    );
}

/// What became of `lines`: how many events ended how, and how many records each topic got.
fn totals(name: &str, lines: &str) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut function = manifest::load(&[example(name)]).expect("a valid manifest").remove(0);
    let plugin = folder.path().join("plugin");
    build_crate(&example(name), &plugin, Profile::Dev).expect("the example builds");
    function.handler.as_mut().expect("a handler").plugin = plugin;
    let function = Arc::new(function);
    let handlers =
        Handlers::load(&function, &Arc::new(Registry::default()), folder.path()).expect("a plugin");
    let mut pipeline = Pipeline::new(Arc::clone(&function), handlers.handler(None).expect("a handler"));
    let mut totals = BTreeMap::new();
    let mut count = |what: String| *totals.entry(what).or_default() += 1;
    for (number, line) in lines.lines().enumerate() {
        let sample = Sample::parse(line).expect("a record");
        let topic = sample.topic.as_deref().expect("a topic");
        let record = Record {
            topic,
            partition: 0,
            offset: number as i64,
            timestamp_ms: sample.timestamp_ms.unwrap_or(0),
            key: sample.key.as_deref(),
            value: sample.value.as_deref(),
            headers: &sample.borrowed_headers(),
        };
        let source = pipeline.source_of(topic).expect("the topic of a source");
        let now = Moment { wall_ms: 0, elapsed: Duration::ZERO };
        let mut recorder = Recorder::default();
        match pipeline
            .process(&Pass { source, record: &record, failed: 0, is_probe: false, now }, &mut recorder)
        {
            Settled::Ok { .. } => count("ok".to_owned()),
            Settled::Skipped => count("skipped".to_owned()),
            Settled::Filtered => count("filtered".to_owned()),
            Settled::DeadLetter { .. } => {}
            other => panic!("{other:?} for {line}"),
        }
        for written in recorder.0 {
            match written.target {
                Target::Sink(place) => count(function.sinks[place].topic.clone()),
                Target::DeadLetter | Target::Late | Target::Stitch => {
                    count(function.delivery.dead_letter_topic.clone())
                }
            }
            if name == "flights" {
                count(String::from_utf8(written.key.expect("a carrier")).expect("text"));
            }
        }
    }
    totals
}

fn expected<const N: usize>(totals: [(&str, usize); N]) -> BTreeMap<String, usize> {
    totals.map(|(what, count)| (what.to_owned(), count)).into()
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(example(name).join("sample.jsonl")).expect("a sample")
}

#[test]
fn the_samples_come_to_what_the_readmes_say() {
    assert_eq!(
        totals("ride-receipts", &sample("ride-receipts")),
        expected([("ok", 16), ("skipped", 1), ("filtered", 2), ("receipts", 16), ("ride-receipts.dlq", 1)])
    );
    assert_eq!(
        totals("payment-screen", &sample("payment-screen")),
        expected([("ok", 17), ("payments-approved", 10), ("payments-review", 7), ("payment-screen.dlq", 1)])
    );
    let flights = totals("flights", &sample("flights"));
    let count = |what: &str| flights.get(what).copied();
    assert_eq!((count("ok"), count("skipped"), count("flight-delays")), (Some(202), Some(1), Some(22)));
}

#[test]
fn the_week_of_flights_comes_to_what_was_counted_without_tidemill() {
    let week = Command::new("gzip").arg("-dc").arg(example("flights").join("week.jsonl.gz")).output();
    let week = text(&week.expect("gzip runs").stdout);
    assert_eq!(week.lines().count(), 6099);
    assert_eq!(
        totals("flights", &week),
        expected([
            ("ok", 6064),
            ("skipped", 35),
            ("flight-delays", 686),
            ("EV", 226),
            ("B6", 140),
            ("UA", 96),
            ("AA", 68),
            ("MQ", 51),
            ("9E", 47),
            ("DL", 38),
            ("WN", 10),
            ("US", 4),
            ("F9", 2),
            ("HA", 2),
            ("VX", 1),
            ("YV", 1),
        ])
    );
}
