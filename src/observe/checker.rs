//! For tests: a strict reader of Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::{BTreeMap, BTreeSet};

/// Every sample by its name with labels, as written. Panics where the text breaks a rule.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line ends with a line feed");
    let mut all = BTreeMap::new();
    let mut families: BTreeSet<&str> = BTreeSet::new();
    let mut family = ("", "");
    let mut helped = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = Some(help.split_once(' ').expect("help has a text").0);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram"].contains(&family.1), "{line}");
            assert!(families.insert(family.0), "the lines of {} are not in one group", family.0);
            assert_eq!(helped.take(), Some(family.0), "help stands right before the type");
        } else {
            let (series, value) = sample(line);
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] =
                if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(
                suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family.0)),
                "{name} stands under {}",
                family.0
            );
            assert!(all.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    histograms_are_whole(&all);
    all
}

fn sample(line: &str) -> (&str, f64) {
    let name_end = line.find(['{', ' ']).expect("a name ends");
    let name = &line[..name_end];
    assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{line}");
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
    let mut at = name_end;
    if line[at..].starts_with('{') {
        loop {
            at += 1;
            let label_end = at + line[at..].find("=\"").expect("a label has a value");
            let label = &line[at..label_end];
            assert!(
                !label.is_empty() && label.chars().all(|c| c.is_ascii_alphabetic() || c == '_'),
                "{line}"
            );
            at = label_end + 2;
            while !line[at..].starts_with('"') {
                let escape = line[at..].starts_with('\\');
                assert!(!escape || line[at + 1..].starts_with(['\\', '"', 'n']), "{line}");
                at += if escape { 2 } else { line[at..].chars().next().expect("the value ends").len_utf8() };
            }
            at += 1;
            if !line[at..].starts_with(',') {
                break;
            }
        }
        assert!(line[at..].starts_with('}'), "{line}");
        at += 1;
    }
    let value = line[at..].strip_prefix(' ').expect("one space before the value");
    assert!(!value.contains(' '), "no timestamps are written: {line}");
    (&line[..at], value.parse().expect(line))
}

fn histograms_are_whole(all: &BTreeMap<String, f64>) {
    let mut buckets: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    for (series, value) in all {
        let Some((name, labels)) = series.split_once("_bucket{") else { continue };
        let (labels, bound) = labels.rsplit_once("le=\"").expect("a bucket has a bound");
        let bound = bound.trim_end_matches("\"}");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect(series) };
        let labels = labels.trim_end_matches(',').to_owned();
        buckets.entry((name.to_owned(), labels)).or_default().push((bound, *value));
    }
    for ((name, labels), mut buckets) in buckets {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: buckets are cumulative");
        let (bound, count) = *buckets.last().expect("there is one");
        assert_eq!(bound, f64::INFINITY, "{name}");
        assert_eq!(all.get(&format!("{name}_count{{{labels}}}")), Some(&count), "{name}");
        assert!(all.contains_key(&format!("{name}_sum{{{labels}}}")), "{name}");
    }
}
