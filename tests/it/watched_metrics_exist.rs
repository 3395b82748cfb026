//! Dashboard and alerts ask for what `/metrics` shows: each metric exists, has the labels that are asked of it, and is
//! asked as its kind wants to be.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tidemill::observe::metrics::{Kind, Metric, TABLE};

fn deploy(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).unwrap()
}

/// A metric where an expression names it.
struct Named<'e> {
    metric: &'static Metric,
    /// `le` too, where it has that.
    labels: Vec<&'static str>,
    /// What stands before it, and after it.
    before: &'e str,
    after: &'e str,
}

fn named(expression: &str) -> Result<Vec<Named<'_>>, String> {
    let mut all = Vec::new();
    for (start, _) in expression.match_indices("tidemill_") {
        let rest = &expression[start..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let of = |metric: &Metric| match metric.kind {
            Kind::Histogram => {
                ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", metric.name)).to_vec()
            }
            Kind::Counter | Kind::Gauge => vec![metric.name.to_owned()],
        };
        let metric = TABLE.iter().find(|metric| of(metric).iter().any(|series| series == name));
        let metric = metric.ok_or_else(|| format!("{name} is no metric"))?;
        let le = name.ends_with("_bucket").then_some("le");
        let labels = metric.labels.iter().copied().chain(le).collect();
        all.push(Named { metric, labels, before: &expression[..start], after });
    }
    Ok(all)
}

/// Selectors name labels that the metric has.
fn check_selectors(expression: &str) -> Result<usize, String> {
    let all = named(expression)?;
    for Named { metric, labels, after, .. } in &all {
        let Some((selector, _)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
            continue;
        };
        for matcher in selector.split(',') {
            let label = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            if !labels.contains(&label) {
                return Err(format!("{} has no label {label:?}", metric.name));
            }
        }
    }
    Ok(all.len())
}

/// What only grows is asked for its growth, and nothing is grouped by a label that it does not have; says by which it is.
fn check(expression: &str) -> Result<BTreeSet<&str>, String> {
    if check_selectors(expression)? == 0 {
        return Err("no metric is asked for".to_owned());
    }
    let all = named(expression)?;
    for Named { metric, before, .. } in &all {
        let is_growth = before.ends_with("rate(") || before.ends_with("increase(");
        if is_growth != (metric.kind != Kind::Gauge) {
            return Err(format!("{} is a {}", metric.name, metric.kind.as_str()));
        }
    }
    let lists = expression.split("by (").skip(1).chain(expression.split("on (").skip(1));
    let labels = lists.flat_map(|list| list.split(')').next().unwrap_or_default().split(','));
    let labels: BTreeSet<&str> = labels.map(str::trim).collect();
    for label in &labels {
        if let Some(without) = all.iter().find(|named| !named.labels.contains(label)) {
            return Err(format!("{} has no label {label:?}", without.metric.name));
        }
    }
    Ok(labels)
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&deploy("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = String::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let grouped_by =
                check(expression).unwrap_or_else(|error| panic!("{title}: {error}: {expression}"));
            let legend = target["legendFormat"].as_str().unwrap();
            for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
                assert!(grouped_by.contains(label), "{title}: {label} of the legend is not there");
            }
            shown += expression;
        }
    }
    for metric in &TABLE {
        assert!(shown.contains(metric.name), "{} is on no panel", metric.name);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            let asked = named(query).unwrap();
            let label = variable["name"].as_str().unwrap();
            assert!(asked.len() == 1 && asked[0].labels.contains(&label), "{query}");
        }
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let rules = deploy("alerts.yaml");
    for alert in rules.split("- alert:").skip(1) {
        let grouped_by = check(alert).unwrap_or_else(|error| panic!("{error}:{alert}"));
        for label in alert.split("$labels.").skip(1).map(|rest| rest.split(' ').next().unwrap()) {
            assert!(grouped_by.contains(label), "there is no $labels.{label} in{alert}");
        }
    }
    assert!(check_selectors(&deploy("alerts.test.yaml")).unwrap() > 5);
}

#[test]
fn what_does_not_exist_is_found() {
    for (expression, error) in [
        ("rate(tidemill_cut_commit_total[5m])", "tidemill_cut_commit_total is no metric"),
        ("rate(tidemill_cut_duration_seconds[5m])", "tidemill_cut_duration_seconds is no metric"),
        ("tidemill_source_lag_records{reason=\"x\"}", "tidemill_source_lag_records has no label \"reason\""),
        ("tidemill_source_in_flight_records_bucket", "tidemill_source_in_flight_records_bucket is no metric"),
        (
            "sum by (sink) (rate(tidemill_cut_commits_total[5m]))",
            "tidemill_cut_commits_total has no label \"sink\"",
        ),
        ("tidemill_cut_commits_total", "tidemill_cut_commits_total is a counter"),
        ("rate(tidemill_source_lag_records[5m])", "tidemill_source_lag_records is a gauge"),
        ("up", "no metric is asked for"),
    ] {
        assert_eq!(check(expression).unwrap_err(), error);
    }
}
