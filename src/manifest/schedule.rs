//! Sources that are clocks: their YAML, and from there to the model and back.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::join;
use super::resolve::Resolver;
use super::spec::Source;
use super::{defaults, filter, text};
use crate::model::{
    self, CatchUp, Format, Function, FunctionName, KeySpec, ScheduleError, StartAt, TimeSpec,
};

/// A clock as a source: one event each time that `cron` says. It is JSON, as in
/// `{"scheduled": "2026-03-29T03:00:00+02:00", "missed": 0}`, with the source's name as its key and
/// the tick's time as its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Schedule {
    /// Minute, hour, day of the month, month, day of the week, as in `0 9 * * 1-5`; six fields begin
    /// with seconds. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` too.
    #[schemars(length(min = 1))]
    pub cron: String,
    /// The time zone by its name, as in `Europe/Berlin`. A time of day that a switch of the clocks
    /// skips ticks at the end of the gap, one that comes twice the first time.
    #[serde(default = "defaults::zone")]
    #[schemars(length(min = 1))]
    pub zone: String,
    /// What becomes of ticks that nobody made, because nothing ran or the function was paused.
    #[serde(default = "defaults::catch_up")]
    pub catch_up: CatchUp,
}

/// Keys of a source that mean nothing for a clock, and why.
const MEANINGLESS: [(&str, &str); 6] = [
    ("topic", "give `topic` or `schedule`: a clock's topic is the function's own"),
    ("format", "a tick is JSON: remove it"),
    ("startAt", "a clock begins with the first tick after it was registered: remove it"),
    ("key", "the key of a tick is the source's name: remove it"),
    ("time", "the time of a tick is when it was due: remove it"),
    ("table", "a clock is no table: remove it"),
];

impl Resolver<'_> {
    /// The source at `path`, which is a clock.
    pub(super) fn clock(&mut self, path: &str, source: Source, function: &FunctionName) -> model::Source {
        for (key, why) in MEANINGLESS {
            let path = join(path, key);
            if self.document.has(&path) {
                self.document.refuse(&path, why);
            }
        }
        let name = source.name.unwrap_or_default();
        let topic = defaults::schedule_topic(function, &name);
        if name.is_empty() {
            let message = "is missing: a clock is told from others, and its topic named, by its name";
            self.document.refuse(&join(path, "name"), message);
        } else {
            self.hold(&join(path, "name"), text::topic(&topic));
        }
        let schedule = source.schedule.and_then(|schedule| self.schedule(&join(path, "schedule"), &schedule));
        model::Source {
            topic,
            name,
            format: Format::Json,
            // Ticks of long ago, of a group that was forgotten, are not made again.
            start_at: StartAt::Latest,
            filters: filter::resolve(self.document, &join(path, "filters"), source.filters),
            key: KeySpec::Record,
            time: TimeSpec::Record,
            schedule,
            table: None,
        }
    }

    fn schedule(&mut self, path: &str, schedule: &Schedule) -> Option<model::Schedule> {
        let Schedule { cron, zone, catch_up } = schedule;
        let time_zone = TimeZone::get(zone).unwrap_or_else(|_| {
            self.document.refuse(&join(path, "zone"), unknown_zone(zone));
            TimeZone::UTC
        });
        model::Schedule::new(cron, (zone, time_zone), *catch_up)
            .map_err(|error| self.document.refuse(&join(path, "cron"), no_cron(cron, &error)))
            .ok()
    }

    /// Nothing gathers ticks.
    pub(super) fn check_clocks(&mut self, function: &Function) {
        for (index, source) in function.sources.iter().enumerate() {
            if source.schedule.is_some() && function.window.is_some() {
                let message = "a clock gives events one by one, and a `window`, `state` or a table gathers them by key: \
                               remove one of them";
                self.document.refuse(&format!("spec.sources[{index}].schedule"), message);
            }
        }
    }
}

fn unknown_zone(zone: &str) -> String {
    let known: Vec<_> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    match text::nearest(zone, known.iter().map(String::as_str)) {
        Some(near) => format!("no time zone is called {zone:?}, did you mean `{near}`?"),
        None => format!("no time zone is called {zone:?}: write a name such as `Europe/Berlin` or `UTC`"),
    }
}

fn no_cron(cron: &str, error: &ScheduleError) -> String {
    let form = "minute, hour, day of the month, month, day of the week, as in `0 9 * * 1-5`";
    match error {
        ScheduleError::Fields(count) => {
            format!("{cron:?} has {count} fields, and not 5 ({form}) or 6 (seconds before them)")
        }
        ScheduleError::Field(_) => format!("{cron:?} is no cron expression, {error}: write {form}"),
        ScheduleError::Never => format!("{cron:?} {error}"),
    }
}

/// A schedule as YAML has it, every default written out.
pub(super) fn written(schedule: &model::Schedule) -> Schedule {
    Schedule { cron: schedule.cron.clone(), zone: schedule.zone.clone(), catch_up: schedule.catch_up }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{TopicRole, parse, render, topics};
    use super::*;

    fn manifest(sources: &str, rest: &str) -> String {
        format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  sinks: [{{topic: out}}]\n\
             \x20 sources:\n    - {sources}\n{rest}"
        )
    }

    #[test]
    fn a_clock_needs_a_name_and_a_cron_alone_and_is_written_out() {
        let text = manifest(
            "{name: morning, schedule: {cron: 0 9 * * *}, filters: [{field: {path: /missed, eq: 0}}]}",
            "",
        );
        let functions = parse(Path::new("/f/function.yaml"), &text).unwrap();
        let source = &functions[0].sources[0];
        assert_eq!((source.topic.as_str(), source.name.as_str()), ("mill.schedule.morning", "morning"));
        assert_eq!((source.format, source.start_at), (Format::Json, StartAt::Latest));
        let rendered = render(&functions[0]);
        let written = "
    - name: morning
      filters:
        - field:
            eq: 0
            path: /missed
      schedule:
        catchUp: one
        cron: 0 9 * * *
        zone: UTC
";
        assert!(rendered.contains(written), "{rendered}");
        assert_eq!(parse(Path::new("/f/function.yaml"), &rendered).unwrap(), functions);
    }

    #[test]
    fn ticks_are_kept_in_one_partition_by_size() {
        let text = manifest("{topic: in}\n    - {name: morning, schedule: {cron: 0 9 * * *}}", "")
            .replace("name: mill", "name: mill, namespace: east");
        let functions = parse(Path::new("/f/function.yaml"), &text).unwrap();
        let made = topics(&functions[0]);
        let ticks = made.iter().find(|topic| topic.role == TopicRole::Schedule).unwrap();
        assert_eq!((ticks.topic.as_str(), ticks.create.partitions), ("east.mill.schedule.morning", Some(1)));
        assert_eq!(ticks.create.config["retention.ms"], "-1");
        assert!(made.iter().all(|topic| topic.sized_after.iter().all(|name| name == "in")), "{made:?}");
    }

    #[test]
    fn nonsense_is_refused_with_line_path_and_a_hint() {
        let clock = |rest: &str| format!("{{name: m, schedule: {{cron: 0 9 * * *}}{rest}}}");
        let cron = |cron: &str| format!("{{name: m, schedule: {{cron: \"{cron}\"}}}}");
        let cases = [
            ("{name: m}".to_owned(), "topic: is missing: give `topic` or `schedule`"),
            ("{schedule: {cron: 0 9 * * *}}".to_owned(), "name: is missing: a clock is told from others"),
            (
                clock(", topic: in"),
                "topic: give `topic` or `schedule`: a clock's topic is the function's own",
            ),
            (clock(", format: json"), "format: a tick is JSON: remove it"),
            (
                clock(", startAt: latest"),
                "startAt: a clock begins with the first tick after it was registered",
            ),
            (clock(", key: {header: a}"), "key: the key of a tick is the source's name: remove it"),
            (clock(", time: {field: /a}"), "time: the time of a tick is when it was due: remove it"),
            (
                "{name: a b, schedule: {cron: 0 9 * * *}}".to_owned(),
                "name: \"mill.schedule.a b\" is no topic name",
            ),
            (clock(", shedule: {}"), "shedule: unknown key, did you mean `schedule`?"),
            ("{name: m, schedule: {}}".to_owned(), "schedule.cron: is missing"),
            (
                "{name: m, schedule: {cron: 0 9 * * *, zone: Europe/Berln}}".to_owned(),
                "schedule.zone: no time zone is called \"Europe/Berln\", did you mean `Europe/Berlin`?",
            ),
            (
                "{name: m, schedule: {cron: 0 9 * * *, zone: nowhere at all}}".to_owned(),
                "schedule.zone: no time zone is called \"nowhere at all\": write a name such as `Europe/Berlin` or `UTC`",
            ),
            (
                "{name: m, schedule: {cron: 0 9 * * *, catchUp: al}}".to_owned(),
                "schedule.catchUp: unknown word `al`, did you mean `all`?",
            ),
            (cron("0 9 * *"), "schedule.cron: \"0 9 * *\" has 4 fields, and not 5 (minute, hour,"),
            (cron("0 0 9 * * * 2030"), "schedule.cron: \"0 0 9 * * * 2030\" has 7 fields, and not 5"),
            (cron("0 25 * * *"), "schedule.cron: \"0 25 * * *\" is no cron expression, "),
            (
                cron("every day at nine o'clock"),
                "schedule.cron: \"every day at nine o'clock\" is no cron expression, ",
            ),
            (cron("0 0 31 2 *"), "schedule.cron: \"0 0 31 2 *\" never ticks: there is no such day"),
        ];
        for (source, expected) in cases {
            let errors = parse(Path::new("f.yaml"), &manifest(&source, "")).unwrap_err();
            let [error] = errors.0.as_slice() else { panic!("{source}: {errors}") };
            let expected = format!("f.yaml:7: spec.sources[0].{expected}");
            assert!(error.to_string().starts_with(&expected), "{source}:\n{error}\n{expected}");
        }
    }

    #[test]
    fn clocks_have_names_of_their_own_and_no_window() {
        let clock = "{name: m, schedule: {cron: 0 9 * * *}}";
        let cases = [
            (
                manifest(&format!("{clock}\n    - {clock}"), ""),
                "f.yaml:8: spec.sources[1].name: spec.sources[0] is called \"m\" too",
            ),
            (
                manifest(&format!("{clock}\n    - {{topic: mill.schedule.m}}"), ""),
                "f.yaml:8: spec.sources[1].topic: spec.sources[0] reads \"mill.schedule.m\" too: read it once",
            ),
            (
                manifest(clock, "").replace("topic: out", "topic: mill.schedule.m"),
                "f.yaml:5: spec.sinks[0].topic: spec.sources[0] reads \"mill.schedule.m\": the function would feed itself for ever",
            ),
            (
                manifest(clock, "  window: {tumbling: {size: 1h}, aggregate: {n: {op: count}}}\n"),
                "f.yaml:7: spec.sources[0].schedule: a clock gives events one by one, and a `window`, `state` or a table gathers them by key: \
                 remove one of them",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(Path::new("f.yaml"), &text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
