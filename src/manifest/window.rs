//! Windows and their state: from their YAML form, with everything checked that no schema can say, to the
//! model's, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::join;
use super::resolve::Resolver;
use super::spec::DurationText;
use super::window_spec::{
    Aggregate, CountWindow, Fire, FireAt, Hopping, Session, Sliding, State, Tumbling, Window,
};
use super::{defaults, text};
use crate::model::{
    self, AggregateOp, AggregateSpec, Format, Function, KeySpec, Order, WindowKind, WindowSpec,
};

/// Where a window stands.
const WINDOW: &str = "spec.window";

/// The longest that a window lasts, ten years: ends stay far from where time overflows.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// The most hopping windows that one event is in: each is brought up to date with it.
const MAX_OVERLAP: u128 = 10_000;

/// The least room for state, in bytes.
const LEAST_STATE: u64 = 1 << 20;

/// Fields that every result has.
const RESULT_FIELDS: [&str; 2] = ["key", "window"];

impl Resolver<'_> {
    /// The window that was written; what does not hold is noted.
    pub(super) fn window(&mut self, window: Window) -> WindowSpec {
        self.check_whole(&window);
        let kind = self.kind(&window);
        let grace = self.span(&join(WINDOW, "grace"), &window.grace);
        if matches!(kind, WindowKind::Count { .. }) && !grace.is_zero() {
            let message = "a `count` window ends with its last event, not with time: remove it";
            self.document.refuse(&join(WINDOW, "grace"), message);
        }
        WindowSpec {
            kind,
            fire: self.fire(window.fire, kind),
            aggregates: self.aggregates(window.aggregate),
            grace,
            idle: self.duration(&join(WINDOW, "idle"), &window.idle),
            max_skew: self.duration(&join(WINDOW, "maxSkew"), &window.max_skew),
        }
    }

    /// Notes what a window cannot be without.
    fn check_whole(&mut self, window: &Window) {
        // What was refused has been taken out, and would seem to be missing here.
        if self.document.is_refused(WINDOW) {
            return;
        }
        let Window { tumbling, hopping, sliding, session, count, .. } = window;
        let written =
            [tumbling.is_some(), hopping.is_some(), sliding.is_some(), session.is_some(), count.is_some()];
        let choice = "`tumbling`, `hopping`, `sliding`, `session`, `count`";
        match written.iter().filter(|is_written| **is_written).count() {
            0 => self.document.refuse(WINDOW, format!("give one of {choice}")),
            1 => {}
            _ => self.document.refuse(WINDOW, format!("give only one of {choice}")),
        }
        if window.aggregate.is_empty() {
            let message = "windows that keep their events and call the handler's `on_window` are not yet supported \
                           in this version: name an aggregate";
            self.document.refuse(&join(WINDOW, "aggregate"), message);
        }
    }

    /// The kind that was written; where there is none, or more than one, any.
    fn kind(&mut self, window: &Window) -> WindowKind {
        let Window { tumbling, hopping, sliding, session, count, .. } = window;
        let tumbling = tumbling.as_ref().map(|tumbling| self.tumbling(tumbling));
        let hopping = hopping.as_ref().map(|hopping| self.hopping(hopping));
        let sliding = sliding.as_ref().map(|sliding| self.sliding(sliding));
        let session = session.as_ref().map(|session| self.session(session));
        let count = count.as_ref().map(|count| WindowKind::Count { size: count.size });
        let any = WindowKind::Tumbling { size: Duration::ZERO };
        tumbling.or(hopping).or(sliding).or(session).or(count).unwrap_or(any)
    }

    fn tumbling(&mut self, tumbling: &Tumbling) -> WindowKind {
        WindowKind::Tumbling { size: self.length("tumbling", "size", &tumbling.size) }
    }

    fn hopping(&mut self, hopping: &Hopping) -> WindowKind {
        let size = self.length("hopping", "size", &hopping.size);
        let advance = self.length("hopping", "advance", &hopping.advance);
        let path = join(WINDOW, "hopping");
        if self.document.is_refused(&path) {
            return WindowKind::Hopping { size, advance };
        }
        let overlap = size.as_millis().div_ceil(advance.as_millis());
        let size_text = text::duration_text(size);
        if advance > size {
            let message = format!(
                "is longer than `size` ({size_text}): events between two windows would be in none; shorten it"
            );
            self.document.refuse(&join(&path, "advance"), message);
        } else if overlap > MAX_OVERLAP {
            let message = format!(
                "is too short for a `size` of {size_text}: each event would be in {overlap} windows, at most \
                 {MAX_OVERLAP}; lengthen it, or take `sliding`"
            );
            self.document.refuse(&join(&path, "advance"), message);
        }
        WindowKind::Hopping { size, advance }
    }

    fn sliding(&mut self, sliding: &Sliding) -> WindowKind {
        WindowKind::Sliding { size: self.length("sliding", "size", &sliding.size) }
    }

    fn session(&mut self, session: &Session) -> WindowKind {
        WindowKind::Session { gap: self.length("session", "gap", &session.gap) }
    }

    /// A duration of a window of `kind`; zero only if it was refused.
    fn length(&mut self, kind: &str, key: &str, written: &DurationText) -> Duration {
        let path = join(&join(WINDOW, kind), key);
        let length = self.span(&path, written);
        if length.is_zero() {
            self.document.refuse(&path, "must be longer than zero");
        }
        length
    }

    fn span(&mut self, path: &str, written: &DurationText) -> Duration {
        let span = self.duration(path, written);
        if span > LONGEST {
            let message = format!("{:?} is too long: at most {}", written.0, text::duration_text(LONGEST));
            self.document.refuse(path, message);
        }
        span
    }

    fn fire(&mut self, fire: Fire, kind: WindowKind) -> model::Fire {
        let path = join(WINDOW, "fire");
        if fire.at == FireAt::Count {
            return self.fire_by_count(&path, fire, kind);
        }
        let only = "is for `at: count` only: set that too, or remove it";
        // A word that was refused has been taken out, and may have been meant to be `count`.
        let is_known = !self.document.is_refused(&join(&path, "at"));
        if is_known && fire.count.is_some() {
            self.document.refuse(&join(&path, "count"), only);
        }
        if is_known && fire.then.is_some() {
            self.document.refuse(&join(&path, "then"), only);
        }
        match fire.at {
            FireAt::Update => model::Fire::Update,
            _ => model::Fire::Close,
        }
    }

    fn fire_by_count(&mut self, path: &str, fire: Fire, kind: WindowKind) -> model::Fire {
        if let WindowKind::Count { size } = kind {
            let message =
                format!("a `count` window closes with its {size} events: use `close`, or a shorter `size`");
            self.document.refuse(&join(path, "at"), message);
        }
        if fire.count.is_none() {
            self.document.refuse(path, "`at: count` needs how many events, as in `count: 10`");
        }
        let then = fire.then.unwrap_or_else(defaults::after_fire);
        model::Fire::Count { every: fire.count.unwrap_or(1), then }
    }

    fn aggregates(&mut self, written: BTreeMap<String, Aggregate>) -> BTreeMap<String, AggregateSpec> {
        let path = join(WINDOW, "aggregate");
        for (name, aggregate) in &written {
            let path = join(&path, name);
            if RESULT_FIELDS.contains(&name.as_str()) {
                let message = format!("every result has a field `{name}`: choose another name");
                self.document.refuse(&path, message);
            }
            match &aggregate.field {
                Some(field) => self.hold(&join(&path, "field"), text::pointer(field)),
                None if aggregate.op == AggregateOp::Count => {}
                None => self
                    .document
                    .refuse(&path, "needs a `field`, as in `field: /fare`: only `count` has none"),
            }
        }
        written
            .into_iter()
            .map(|(name, Aggregate { op, field })| (name, AggregateSpec { op, field }))
            .collect()
    }

    /// The room for state, in bytes.
    pub(super) fn max_state(&mut self, state: Option<State>, has_window: bool) -> u64 {
        // A window that was refused has been taken out, and would seem to be missing here.
        if state.is_some() && !has_window && self.document.errors.is_empty() {
            let message = "state without a `window` is not yet supported in this version: remove it";
            self.document.refuse("spec.state", message);
        }
        let written = state.map_or_else(defaults::max_state, |state| state.max_bytes);
        self.size("spec.state.maxBytes", &written, LEAST_STATE)
    }

    /// Rules between a function's window and its other parts.
    pub(super) fn check_window(&mut self, function: &Function, window: &WindowSpec) {
        let gather = "needs a gather stage, which is not yet supported in this version";
        if function.handler.is_some() {
            let message =
                "a handler beside `window` is not yet supported in this version: remove one of them";
            self.document.refuse("spec.handler", message);
        }
        if function.delivery.origin_headers {
            let message =
                "the result of a window has many origins, and names none: remove it, or the `window`";
            self.document.refuse("spec.delivery.originHeaders", message);
        }
        if function.order != Order::Key {
            self.document.refuse("spec.order", "windows are by key: write `key`, or remove it");
        }
        for index in 1..function.sources.len() {
            let message = format!("a second source beside `window` {gather}: remove it");
            self.document.refuse(&format!("spec.sources[{index}]"), message);
        }
        for (index, source) in function.sources.iter().enumerate() {
            let path = format!("spec.sources[{index}]");
            if source.key != KeySpec::Record {
                let message = format!(
                    "a key of its own beside `window` {gather}: let another function write the topic anew by \
                     this key, and remove it here"
                );
                self.document.refuse(&join(&path, "key"), message);
            }
            self.check_fields(&join(&path, "format"), source.format, window);
        }
    }

    /// Aggregates of fields find some only in bodies that have fields.
    fn check_fields(&mut self, path: &str, format: Format, window: &WindowSpec) {
        let of_field = window.aggregates.iter().find(|(_, aggregate)| aggregate.field.is_some());
        if let Some((name, _)) = of_field
            && matches!(format, Format::Bytes | Format::Text)
        {
            let aggregate = join(&join(WINDOW, "aggregate"), name);
            let message = format!(
                "has no fields, and {aggregate} takes one: use `json`, `cloudevents` or `auto`, or count all \
                 events"
            );
            self.document.refuse(path, message);
        }
    }
}

/// A window as YAML has it, every default written out.
pub(super) fn written(window: &WindowSpec) -> Window {
    let mut written = Window {
        tumbling: None,
        hopping: None,
        sliding: None,
        session: None,
        count: None,
        fire: written_fire(window.fire),
        aggregate: window.aggregates.iter().map(written_aggregate).collect(),
        grace: window.grace.into(),
        idle: window.idle.into(),
        max_skew: window.max_skew.into(),
    };
    match window.kind {
        WindowKind::Tumbling { size } => written.tumbling = Some(Tumbling { size: size.into() }),
        WindowKind::Hopping { size, advance } => {
            written.hopping = Some(Hopping { size: size.into(), advance: advance.into() });
        }
        WindowKind::Sliding { size } => written.sliding = Some(Sliding { size: size.into() }),
        WindowKind::Session { gap } => written.session = Some(Session { gap: gap.into() }),
        WindowKind::Count { size } => written.count = Some(CountWindow { size }),
    }
    written
}

fn written_fire(fire: model::Fire) -> Fire {
    match fire {
        model::Fire::Close => Fire { at: FireAt::Close, count: None, then: None },
        model::Fire::Update => Fire { at: FireAt::Update, count: None, then: None },
        model::Fire::Count { every, then } => {
            Fire { at: FireAt::Count, count: Some(every), then: Some(then) }
        }
    }
}

fn written_aggregate((name, aggregate): (&String, &AggregateSpec)) -> (String, Aggregate) {
    (name.clone(), Aggregate { op: aggregate.op, field: aggregate.field.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::render;
    use super::super::tests::{findings, one};
    use super::*;
    use crate::model::{AfterFire, Fire};

    const WINDOWED: &str = "\
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {name: mill}
spec:
  window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}
  sources: [{topic: in}]
  sinks: [{topic: out}]
";

    const TUMBLING: &str = "tumbling: {size: 10s}";
    const RIDES: &str = "rides: {op: count}";

    fn with(part: &str, instead: &str) -> String {
        assert!(WINDOWED.contains(part), "{part}");
        WINDOWED.replacen(part, instead, 1)
    }

    /// What is found in the windowed manifest with one part replaced, without the file's name.
    fn found(part: &str, instead: &str) -> Vec<String> {
        let findings = findings(&with(part, instead));
        findings.iter().map(|finding| finding.trim_start_matches("f.yaml:").to_owned()).collect()
    }

    #[test]
    fn the_smallest_window_gets_every_default() {
        let function = one(WINDOWED);
        let window = WindowSpec {
            kind: WindowKind::Tumbling { size: Duration::from_secs(10) },
            fire: Fire::Close,
            aggregates: [("rides".to_owned(), AggregateSpec { op: AggregateOp::Count, field: None })].into(),
            grace: Duration::ZERO,
            idle: Duration::from_secs(10),
            max_skew: Duration::from_secs(3600),
        };
        assert_eq!((function.window, function.max_state), (Some(window), 1 << 30));
        assert_eq!(function.state_topic, "mill.state");
    }

    #[test]
    fn every_kind_and_every_moment_resolves_and_is_rendered() {
        let ten = Duration::from_secs(10);
        let second = Duration::from_secs(1);
        let decade = Duration::from_secs(3650 * 86_400);
        let kinds = [
            ("tumbling: {size: 3650d}", WindowKind::Tumbling { size: decade }),
            ("hopping: {size: 10s, advance: 1s}", WindowKind::Hopping { size: ten, advance: second }),
            ("hopping: {size: 10s, advance: 10s}", WindowKind::Hopping { size: ten, advance: ten }),
            ("hopping: {size: 10s, advance: 1ms}", WindowKind::Hopping { size: ten, advance: second / 1000 }),
            ("sliding: {size: 10s}", WindowKind::Sliding { size: ten }),
            ("session: {gap: 10s}", WindowKind::Session { gap: ten }),
            ("count: {size: 10}", WindowKind::Count { size: 10 }),
            ("count: {size: 1}, grace: 0s", WindowKind::Count { size: 1 }),
        ];
        for (written, kind) in kinds {
            let function = one(&with(TUMBLING, written));
            assert_eq!(function.window.as_ref().map(|window| window.kind), Some(kind), "{written}");
            assert_eq!(one(&render(&function)), Function { file: "/f/function.yaml".into(), ..function });
        }
        let (reset, goes_on) = (AfterFire::Reset, AfterFire::Continue);
        let moments = [
            ("{}", Fire::Close),
            ("{at: close}", Fire::Close),
            ("{at: update}", Fire::Update),
            ("{at: count, count: 5}", Fire::Count { every: 5, then: goes_on }),
            ("{at: count, count: 5, then: reset}", Fire::Count { every: 5, then: reset }),
        ];
        for (written, fire) in moments {
            let function = one(&with(TUMBLING, &format!("{TUMBLING}, fire: {written}")));
            assert_eq!(function.window.as_ref().map(|window| window.fire), Some(fire), "{written}");
            assert_eq!(one(&render(&function)), function);
        }
        let every = "count: {size: 3}, fire: {at: update}";
        assert_eq!(one(&with(TUMBLING, every)).window.map(|window| window.fire), Some(Fire::Update));
    }

    #[test]
    fn aggregates_state_and_time_are_taken_as_written() {
        let ops = "a: {op: count}, b: {op: count, field: /b}, c: {op: sum, field: /c/0}, d: {op: min, field: /d}, \
                   e: {op: max, field: /e}, f: {op: avg, field: ''}, g: {op: first, field: /g}, \
                   h: {op: last, field: /h}, i: {op: distinct, field: /i~1j}";
        let function = one(&with(RIDES, ops));
        let window = function.window.as_ref().unwrap();
        let written: Vec<_> = window.aggregates.values().map(|one| (one.op, one.field.as_deref())).collect();
        let expected = [
            (AggregateOp::Count, None),
            (AggregateOp::Count, Some("/b")),
            (AggregateOp::Sum, Some("/c/0")),
            (AggregateOp::Min, Some("/d")),
            (AggregateOp::Max, Some("/e")),
            (AggregateOp::Avg, Some("")),
            (AggregateOp::First, Some("/g")),
            (AggregateOp::Last, Some("/h")),
            (AggregateOp::Distinct, Some("/i~1j")),
        ];
        assert_eq!(written, expected);
        assert_eq!(one(&render(&function)), function);

        let times = "window: {grace: 1m, idle: 0s, maxSkew: 2d, ";
        let window = one(&with("window: {", times)).window.unwrap();
        let seconds = [window.grace, window.idle, window.max_skew].map(|time| time.as_secs());
        assert_eq!(seconds, [60, 0, 172_800]);
        let function = one(&with("spec:", "spec:\n  state: {maxBytes: 1Mi}"));
        assert_eq!(function.max_state, 1 << 20);
        assert_eq!(one(&render(&function)), function);
        for sink in ["auto", "bytes", "text", "json", "cloudevents"] {
            assert_eq!(found("topic: out", &format!("topic: out, format: {sink}")), [""; 0]);
        }
        for source in ["bytes", "text"] {
            assert_eq!(found("topic: in", &format!("topic: in, format: {source}")), [""; 0]);
        }
    }

    /// Each row replaces the kind of the window, and names what is then found.
    #[test]
    fn a_window_of_no_sense_is_refused() {
        let choice = "`tumbling`, `hopping`, `sliding`, `session`, `count`";
        let rows: &[(&str, &str)] = &[
            ("grace: 0s", &format!(": give one of {choice}")),
            ("tumbling: {size: 1s}, count: {size: 5}", &format!(": give only one of {choice}")),
            ("tumbling: {size: 0s}", ".tumbling.size: must be longer than zero"),
            ("tumbling: {size: 5}", ".tumbling.size: a bare number has no unit: write `5s` or `5ms`"),
            (
                "tumbling: {size: 5us}",
                ".tumbling.size: \"5us\" is no duration: write a whole number and ms, s, m, h or d, as in `10s`",
            ),
            ("tumbling: {size: 3651d}", ".tumbling.size: \"3651d\" is too long: at most 3650d"),
            ("tumbling: {size: 99999d}", ".tumbling.size: \"99999d\" is too long: at most 36525d"),
            ("tumbling: {}", ".tumbling.size: is missing"),
            ("tumbling: {sise: 1s}", ".tumbling.sise: unknown key, did you mean `size`?"),
            ("tumblin: {size: 1s}", ".tumblin: unknown key, did you mean `tumbling`?"),
            ("hopping: {size: 10s}", ".hopping.advance: is missing"),
            ("hopping: {size: 10s, advance: 0s}", ".hopping.advance: must be longer than zero"),
            (
                "hopping: {size: 10s, advance: 11s}",
                ".hopping.advance: is longer than `size` (10s): events between two windows would be in none; shorten it",
            ),
            (
                "hopping: {size: 10001ms, advance: 1ms}",
                ".hopping.advance: is too short for a `size` of 10001ms: each event would be in 10001 windows, at most \
                 10000; lengthen it, or take `sliding`",
            ),
            ("hopping: {sise: 1ms, advance: 2s}", ".hopping.sise: unknown key, did you mean `size`?"),
            ("sliding: {size: 0ms}", ".sliding.size: must be longer than zero"),
            ("session: {gap: 0h}", ".session.gap: must be longer than zero"),
            ("count: {size: 0}", ".count.size: 0 is too small: at least 1"),
            ("count: {size: 5s}", ".count.size: expected a whole number, found the text \"5s\""),
            (
                "count: {size: 5}, grace: 1s",
                ".grace: a `count` window ends with its last event, not with time: remove it",
            ),
            (
                "count: {size: 5}, fire: {at: count, count: 2}",
                ".fire.at: a `count` window closes with its 5 events: use `close`, or a shorter `size`",
            ),
            ("tumbling: {size: 1s}, grace: 3651d", ".grace: \"3651d\" is too long: at most 3650d"),
            ("stitch: {within: 1h}", ".stitch: not yet supported in this version: remove it"),
        ];
        for (written, expected) in rows {
            assert_eq!(found(TUMBLING, written), [format!("5: spec.window{expected}")], "{written}");
        }
    }

    #[test]
    fn a_moment_of_no_sense_is_refused() {
        let only = "is for `at: count` only: set that too, or remove it";
        let rows: &[(&str, &str)] = &[
            ("{at: count}", ": `at: count` needs how many events, as in `count: 10`"),
            ("{at: count, counts: 5}", ".counts: unknown key, did you mean `count`?"),
            ("{at: count, count: 0}", ".count: 0 is too small: at least 1"),
            ("{count: 10}", &format!(".count: {only}")),
            ("{at: update, count: 10}", &format!(".count: {only}")),
            ("{then: reset}", &format!(".then: {only}")),
            ("{at: update, then: continue}", &format!(".then: {only}")),
            (
                "{at: complete}",
                ".at: `complete` is not yet supported in this version; it takes `close`, `update`, `count`",
            ),
            ("{at: closed}", ".at: unknown word `closed`, did you mean `close`?"),
            ("{at: cuont, count: 2, then: reset}", ".at: unknown word `cuont`, did you mean `count`?"),
            ("{at: count, count: 2, then: stop}", ".then: unknown word `stop`, it takes `reset`, `continue`"),
        ];
        for (written, expected) in rows {
            let found = found(TUMBLING, &format!("{TUMBLING}, fire: {written}"));
            assert_eq!(found, [format!("5: spec.window.fire{expected}")], "{written}");
        }
        for key in ["late: {topic: l}", "onTimeout: {}", "repeat: next", "maxDrift: 1m"] {
            let name = key.split(':').next().unwrap();
            let expected = format!("5: spec.window.{name}: not yet supported in this version: remove it");
            assert_eq!(found(TUMBLING, &format!("{TUMBLING}, {key}")), [expected]);
        }
    }

    #[test]
    fn an_aggregate_of_no_sense_is_refused() {
        let no_field = "needs a `field`, as in `field: /fare`: only `count` has none";
        for op in ["sum", "min", "max", "avg", "first", "last", "distinct"] {
            let expected = format!("5: spec.window.aggregate.x: {no_field}");
            assert_eq!(found(RIDES, &format!("x: {{op: {op}}}")), [expected]);
        }
        let no_events = "windows that keep their events and call the handler's `on_window` are not yet supported in \
                         this version: name an aggregate";
        let rows: &[(&str, &str)] = &[
            ("", &format!(": {no_events}")),
            ("x: {op: count, field: fare}", ".x.field: \"fare\" is no JSON pointer: write `/fare`"),
            (
                "x: {op: average, field: /a}",
                ".x.op: unknown word `average`, it takes `count`, `sum`, `min`, `max`, `avg`, `first`, `last`, `distinct`",
            ),
            ("x: {field: /a}", ".x.op: is missing"),
            ("x: {op: sum, fields: /a}", ".x.fields: unknown key, did you mean `field`?"),
            ("key: {op: count}", ".key: every result has a field `key`: choose another name"),
            ("window: {op: count}", ".window: every result has a field `window`: choose another name"),
        ];
        for (written, expected) in rows {
            let expected = format!("5: spec.window.aggregate{expected}");
            assert_eq!(found(RIDES, written), [expected], "{written}");
        }
        let aggregate = ", aggregate: {rides: {op: count}}";
        assert_eq!(found(aggregate, ""), [format!("5: spec.window.aggregate: {no_events}")]);
        let misspelt = "5: spec.window.aggregates: unknown key, did you mean `aggregate`?";
        assert_eq!(found("aggregate:", "aggregates:"), [misspelt]);
    }

    /// Each row replaces one part of the windowed manifest, and names what is then found.
    #[test]
    fn what_does_not_go_with_a_window_is_refused() {
        let gather = "needs a gather stage, which is not yet supported in this version";
        let own_key = format!(
            "a key of its own beside `window` {gather}: let another function write the topic anew by this key, and \
             remove it here"
        );
        let no_fields = "has no fields, and spec.window.aggregate.x takes one: use `json`, `cloudevents` or `auto`, or \
                         count all events";
        let state = "\"mill.state\" is where the function keeps its state";
        let sum =
            "window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}\n  sources: [{topic: in}]";
        let summed = "window: {tumbling: {size: 10s}, aggregate: {x: {op: sum, field: /a}}}\n  \
                      sources: [{topic: in, format: text}]";
        let rows: &[(&str, &str, &str)] = &[
            (
                "spec:",
                "spec:\n  delivery: {originHeaders: true}",
                "5: spec.delivery.originHeaders: the result of a window has many origins, and names none: remove it, or the \
                 `window`",
            ),
            (
                "spec:",
                "spec:\n  handler: {plugin: mill}",
                "5: spec.handler: a handler beside `window` is not yet supported in this version: remove one of them",
            ),
            (
                "spec:",
                "spec:\n  order: partition",
                "5: spec.order: windows are by key: write `key`, or remove it",
            ),
            ("spec:", "spec:\n  order: none", "5: spec.order: windows are by key: write `key`, or remove it"),
            (
                "{topic: in}",
                "{topic: in}, {topic: more}",
                &format!("6: spec.sources[1]: a second source beside `window` {gather}: remove it"),
            ),
            (
                "{topic: in}",
                "{topic: in, key: {fields: [/a]}}",
                &format!("6: spec.sources[0].key: {own_key}"),
            ),
            ("{topic: in}", "{topic: in, key: {header: h}}", &format!("6: spec.sources[0].key: {own_key}")),
            (sum, summed, &format!("6: spec.sources[0].format: {no_fields}")),
            (
                "  sinks: [{topic: out}]\n",
                "",
                "4: spec: has a `window` and no `sinks`: its results would go nowhere",
            ),
            ("topic: in", "topic: mill.state", &format!("6: spec.sources[0].topic: {state}")),
            ("topic: out", "topic: mill.state", &format!("7: spec.sinks[0].topic: {state}")),
            (
                "spec:",
                "spec:\n  delivery: {deadLetter: {topic: mill.state}}",
                &format!("5: spec.delivery.deadLetter.topic: {state}"),
            ),
            (
                "spec:",
                "spec:\n  state: {maxBytes: 1023Ki}",
                "5: spec.state.maxBytes: 1023Ki is too little to work with: at least 1Mi",
            ),
            (
                "spec:",
                "spec:\n  state: {ttl: 1d}",
                "5: spec.state.ttl: not yet supported in this version: remove it",
            ),
            ("window:", "windows:", "5: spec.windows: unknown key, did you mean `window`?"),
        ];
        for (part, instead, expected) in rows {
            assert_eq!(found(part, instead), [*expected], "{instead}");
        }
        let window = "window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}";
        let expected =
            "5: spec.state: state without a `window` is not yet supported in this version: remove it";
        assert_eq!(found(window, "state: {}"), [expected]);
    }

    #[test]
    fn without_a_window_the_state_topic_is_a_topic_like_others() {
        let text = with("  window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}\n", "");
        assert_eq!(findings(&text.replace("topic: out", "topic: mill.state")), [""; 0]);
    }
}
