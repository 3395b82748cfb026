//! Windows and their state: from their YAML form, with everything checked that no schema can say, to the
//! model's, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{Document, join};
use super::resolve::Resolver;
use super::spec::DurationText;
use super::window_spec::{
    Aggregate, CountWindow, EventTime, Fire, FireAt, Hopping, LateTopic, OnTimeout, Session, Sliding, State,
    Stitch, TimeoutAction, Tumbling, Window,
};
use super::{defaults, text};
use crate::model::{
    self, AggregateOp, AggregateSpec, Format, Function, Order, Source, StartAt, StateSpec, StitchSpec,
    TableScope, TimeSpec, WindowKind, WindowSpec,
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
const RESULT_FIELDS: [&str; 3] = ["key", "window", "missing"];

impl Resolver<'_> {
    /// The window that was written; what does not hold is noted.
    pub(super) fn window(&mut self, window: Window, sources: &[Source]) -> WindowSpec {
        self.check_whole(&window);
        let kind = self.kind(&window);
        let grace = self.span(&join(WINDOW, "grace"), &window.grace);
        if matches!(kind, WindowKind::Count { .. }) && !grace.is_zero() {
            let message = "a `count` window ends with its last event, not with time: remove it";
            self.document.refuse(&join(WINDOW, "grace"), message);
        }
        if let Some(late) = &window.late {
            self.hold(&join(&join(WINDOW, "late"), "topic"), text::topic(&late.topic));
        }
        let on_timeout = self.on_timeout(window.on_timeout, kind);
        WindowSpec {
            kind,
            fire: self.fire(window.fire, kind),
            sources: gathered_topics(sources),
            stitch: self.stitch_of(window.stitch, on_timeout, sources),
            late_topic: window.late.map(|late| late.topic),
            max_drift: self.duration(&join(WINDOW, "maxDrift"), &window.max_drift),
            aggregates: self.aggregates(window.aggregate),
            grace,
            idle: self.duration(&join(WINDOW, "idle"), &window.idle),
            max_skew: self.duration(&join(WINDOW, "maxSkew"), &window.max_skew),
            state: None,
            tables: Vec::new(),
        }
    }

    /// Notes what a window cannot be without.
    fn check_whole(&mut self, window: &Window) {
        // What was refused has been taken out, and would seem to be missing here.
        if self.document.is_refused(WINDOW) {
            return;
        }
        let Window { tumbling, hopping, sliding, session, count, stitch, .. } = window;
        let written = [
            tumbling.is_some(),
            hopping.is_some(),
            sliding.is_some(),
            session.is_some(),
            count.is_some(),
            stitch.is_some(),
        ];
        let choice = "`tumbling`, `hopping`, `sliding`, `session`, `count`, `stitch`";
        match written.iter().filter(|is_written| **is_written).count() {
            0 => self.document.refuse(WINDOW, format!("give one of {choice}")),
            1 => {}
            _ => self.document.refuse(WINDOW, format!("give only one of {choice}")),
        }
        if window.stitch.is_some() && !window.aggregate.is_empty() {
            let message = "a `stitch` keeps its events and makes no numbers of them: remove it";
            self.document.refuse(&join(WINDOW, "aggregate"), message);
        }
    }

    /// The kind that was written; where there is none, or more than one, any.
    fn kind(&mut self, window: &Window) -> WindowKind {
        let Window { tumbling, hopping, sliding, session, count, stitch, .. } = window;
        let tumbling = tumbling.as_ref().map(|tumbling| self.tumbling(tumbling));
        let hopping = hopping.as_ref().map(|hopping| self.hopping(hopping));
        let sliding = sliding.as_ref().map(|sliding| self.sliding(sliding));
        let session = session.as_ref().map(|session| self.session(session));
        let count = count.as_ref().map(|count| WindowKind::Count { size: count.size });
        let stitch = stitch.as_ref().map(|stitch| self.stitch(stitch));
        let any = WindowKind::Tumbling { size: Duration::ZERO };
        tumbling.or(hopping).or(sliding).or(session).or(count).or(stitch).unwrap_or(any)
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

    fn stitch(&mut self, stitch: &Stitch) -> WindowKind {
        WindowKind::Stitch { within: self.length("stitch", "within", &stitch.within) }
    }

    /// Which sources a stitch is made of.
    fn stitch_of(
        &mut self,
        stitch: Option<Stitch>,
        on_timeout: model::OnTimeout,
        sources: &[Source],
    ) -> StitchSpec {
        let Some(stitch) = stitch else { return StitchSpec::default() };
        let path = join(WINDOW, "stitch");
        let is_part = |source: &&Source| {
            source.table.is_none_or(|scope| scope == TableScope::Lane && stitch.need.contains(&source.name))
        };
        if sources.iter().filter(is_part).count() < 2 && self.document.errors.is_empty() {
            let message =
                "puts events of several sources together, and there is one: add sources, or take `count`";
            self.document.refuse(&path, message);
        }
        let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let mut taken = Vec::new();
        let mut find = |document: &mut Document, key: &str, names: &[String]| {
            let mut found = Vec::new();
            for (index, name) in names.iter().enumerate() {
                let path = format!("{}[{index}]", join(&path, key));
                match known.iter().position(|known| known == name) {
                    None => {
                        let message = format!("unknown source `{name}`; the sources are {}", quoted(&known));
                        document.refuse(&path, message);
                    }
                    Some(at) if key == "optional" && sources[at].table.is_some() => {
                        let message = format!("`{name}` is a table, which is looked up: remove it");
                        document.refuse(&path, message);
                    }
                    Some(at) if sources[at].table == Some(TableScope::All) => {
                        let message = format!(
                            "`{name}` is kept by each worker apart from the function's key, so nothing can wait for its \
                             rows: remove it, or take `table: {{scope: lane}}`"
                        );
                        document.refuse(&path, message);
                    }
                    Some(at) if taken.contains(&at) => {
                        document.refuse(&path, format!("`{name}` is named already: remove it"));
                    }
                    Some(at) => {
                        taken.push(at);
                        found.push(u16::try_from(at).unwrap_or(u16::MAX));
                    }
                }
            }
            found
        };
        let optional = find(self.document, "optional", &stitch.optional);
        let mut need = find(self.document, "need", &stitch.need);
        let rest = |at: &u16| {
            let at = usize::from(*at);
            !taken.contains(&at) && sources.get(at).is_none_or(|source| source.table.is_none())
        };
        let mut others = (0..u16::try_from(sources.len()).unwrap_or(u16::MAX)).filter(rest);
        if stitch.need.is_empty() {
            need.extend(others);
        } else if let Some(source) = others.next().and_then(|at| sources.get(usize::from(at))) {
            let message =
                format!("source `{}` is neither in `need` nor in `optional`: add it to one", source.name);
            self.document.refuse(&path, message);
        }
        let is_table = |at: &u16| sources.get(usize::from(*at)).is_some_and(|source| source.table.is_some());
        if need.iter().all(is_table) && self.document.errors.is_empty() {
            self.document.refuse(&path, "needs no source, so it would never be complete: name one in `need`");
        }
        need.sort_unstable();
        StitchSpec { need, optional, repeat: stitch.repeat, on_timeout }
    }

    fn on_timeout(&mut self, written: Option<OnTimeout>, kind: WindowKind) -> model::OnTimeout {
        let path = join(WINDOW, "onTimeout");
        let Some(OnTimeout { action, sink }) = written else { return model::OnTimeout::Call };
        if !matches!(kind, WindowKind::Stitch { .. }) {
            self.document.refuse(&path, "only a `stitch` can be unfinished at its end: remove it");
        }
        match (action, sink) {
            (TimeoutAction::Emit, Some(sink)) => return model::OnTimeout::Emit(sink),
            (TimeoutAction::Emit, None) => {
                self.document.refuse(&path, "`emit` needs a `sink`, as in `sink: unpaid`");
            }
            (_, Some(_)) => {
                let message = "is for `action: emit` only: set that too, or remove it";
                self.document.refuse(&join(&path, "sink"), message);
            }
            (_, None) => {}
        }
        match action {
            TimeoutAction::Drop => model::OnTimeout::Drop,
            TimeoutAction::DeadLetter => model::OnTimeout::DeadLetter,
            TimeoutAction::Call | TimeoutAction::Emit => model::OnTimeout::Call,
        }
    }

    /// A duration of a window of `kind`; zero only if it was refused.
    fn length(&mut self, kind: &str, key: &str, written: &DurationText) -> Duration {
        self.positive(&join(&join(WINDOW, kind), key), written)
    }

    fn positive(&mut self, path: &str, written: &DurationText) -> Duration {
        let length = self.span(path, written);
        if length.is_zero() {
            self.document.refuse(path, "must be longer than zero");
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
        let is_stitch = matches!(kind, WindowKind::Stitch { .. });
        match fire.at {
            Some(FireAt::Update | FireAt::Count) if is_stitch => {
                let message = "a `stitch` gives its result when it is complete or when it closes: use `complete` or \
                               `close`";
                self.document.refuse(&join(&path, "at"), message);
            }
            Some(FireAt::Complete) if !is_stitch => {
                let message =
                    "is for `stitch` only, which knows what it needs: use `close`, `update` or `count`";
                self.document.refuse(&join(&path, "at"), message);
            }
            _ => {}
        }
        if fire.at == Some(FireAt::Count) {
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
            Some(FireAt::Update) => model::Fire::Update,
            Some(FireAt::Complete) => model::Fire::Complete,
            None if is_stitch => model::Fire::Complete,
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

    /// What the handler may keep, and the room for state, in bytes.
    pub(super) fn state(&mut self, state: Option<State>) -> (Option<StateSpec>, u64) {
        let ttl = state.as_ref().and_then(|state| state.ttl.as_ref());
        let ttl = ttl.map(|ttl| self.positive("spec.state.ttl", ttl));
        let kept = state.as_ref().map(|_| StateSpec { ttl });
        let written = state.map_or_else(defaults::max_state, |state| state.max_bytes);
        (kept, self.size("spec.state.maxBytes", &written, LEAST_STATE))
    }

    /// What is gathered by key, if anything is: in a window, or what the handler keeps, or tables.
    pub(super) fn gathered(
        &mut self,
        (window, time): (Option<Window>, Option<EventTime>),
        state: Option<StateSpec>,
        sources: &[Source],
    ) -> Option<WindowSpec> {
        let tables: Vec<_> = tables(sources).collect();
        let has_lane_tables = tables.iter().any(|(_, scope)| *scope == TableScope::Lane);
        let gathered = match (window, &time) {
            (Some(window), None) => self.window(window, sources),
            (Some(window), Some(_)) => {
                self.document.refuse("spec.time", "a `window` says these itself: write them there");
                self.window(window, sources)
            }
            (None, _) if state.is_some() || has_lane_tables => {
                let time = time.unwrap_or_default();
                WindowSpec {
                    kind: WindowKind::Each,
                    fire: model::Fire::Close,
                    aggregates: BTreeMap::new(),
                    sources: gathered_topics(sources),
                    stitch: StitchSpec::default(),
                    grace: Duration::ZERO,
                    idle: self.duration("spec.time.idle", &time.idle),
                    max_skew: self.duration("spec.time.maxSkew", &time.max_skew),
                    late_topic: None,
                    max_drift: self.duration("spec.time.maxDrift", &time.max_drift),
                    state: None,
                    tables: Vec::new(),
                }
            }
            (None, time) => {
                if time.is_some() && self.document.errors.is_empty() {
                    let message =
                        "is for functions with `state` or a table: event time moves nothing here; remove it";
                    self.document.refuse("spec.time", message);
                }
                return None;
            }
        };
        Some(WindowSpec { state, tables, ..gathered })
    }

    /// Rules of tables.
    pub(super) fn check_tables(&mut self, function: &Function) {
        let is_table = |source: &Source| source.table.is_some();
        if !function.sources.is_empty()
            && function.sources.iter().all(is_table)
            && self.document.errors.is_empty()
        {
            let message = "are all tables, which call nothing: add a source without `table`";
            self.document.refuse("spec.sources", message);
        }
        for (index, source) in function.sources.iter().enumerate().filter(|(_, source)| is_table(source)) {
            let path = format!("spec.sources[{index}]");
            if function.handler.is_none() && self.document.errors.is_empty() {
                let message = "nobody looks it up: only a handler does";
                self.document.refuse(&join(&path, "table"), message);
            }
            if function.window.is_none()
                && function.handler.as_ref().is_some_and(|handler| handler.concurrency > 1)
            {
                let message = "tables are for calls on the worker's own thread in this version: remove it";
                self.document.refuse("spec.handler.concurrency", message);
            }
            if source.start_at != StartAt::Earliest {
                let message = "a table is read from its beginning: remove it";
                self.document.refuse(&join(&path, "startAt"), message);
            }
            if source.time != TimeSpec::Record {
                let message = "a table moves no time: remove it";
                self.document.refuse(&join(&path, "time"), message);
            }
        }
    }

    /// Rules between a function's window and its other parts.
    pub(super) fn check_window(&mut self, function: &Function, window: &WindowSpec) {
        if let Some(handler) = &function.handler
            && handler.concurrency > 1
        {
            let message = "windows, state and tables are for calls on the worker's own thread in this version: remove it";
            self.document.refuse("spec.handler.concurrency", message);
        }
        if let Some(handler) = &function.handler
            && handler.rate.is_some()
        {
            let message = "calls with windows, state or tables are not counted in this version: remove it";
            self.document.refuse("spec.handler.rate", message);
        }
        if window.kind == WindowKind::Each && function.handler.is_none() && self.document.errors.is_empty() {
            let message = "only a `window` or a `handler` keeps something: add one, or remove it";
            self.document.refuse("spec.state", message);
        }
        let keeps = window.aggregates.is_empty() && function.has_window();
        let resets = matches!(window.fire, model::Fire::Count { then: model::AfterFire::Reset, .. });
        if keeps && resets && matches!(window.kind, WindowKind::Hopping { .. }) {
            let message =
                "hopping windows share the events that they keep: use `continue`, or name an `aggregate`";
            self.document.refuse(&join(&join(WINDOW, "fire"), "then"), message);
        }
        if let model::OnTimeout::Emit(sink) = &window.stitch.on_timeout
            && function.sinks.iter().all(|known| known.name != *sink)
        {
            let known: Vec<&str> = function.sinks.iter().map(|sink| sink.name.as_str()).collect();
            let message = format!("unknown sink `{sink}`; the sinks are {}", quoted(&known));
            self.document.refuse(&join(&join(WINDOW, "onTimeout"), "sink"), message);
        }
        if function.delivery.origin_headers {
            let message = "the result of a window or a timer has many origins, and names none: remove it, or the `window`";
            self.document.refuse("spec.delivery.originHeaders", message);
        }
        if function.order != Order::Key {
            self.document.refuse("spec.order", "windows and state are by key: write `key`, or remove it");
        }
        for (index, source) in function.sources.iter().enumerate() {
            let path = format!("spec.sources[{index}]");
            if keeps && RESULT_FIELDS.contains(&source.name.as_str()) {
                let message = format!("every result has a field `{}`: choose another name", source.name);
                self.document.refuse(&join(&path, "name"), message);
            }
            if source.table.is_none() {
                self.check_fields(&join(&path, "format"), source.format, window);
            }
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
pub(super) fn written(window: &WindowSpec, sources: &[Source]) -> Window {
    let names = |list: &[u16]| {
        let of = |at: &u16| sources.get(usize::from(*at)).map(|source| source.name.clone());
        list.iter().filter_map(of).collect()
    };
    let StitchSpec { need, optional, repeat, on_timeout } = &window.stitch;
    let mut written = Window {
        tumbling: None,
        hopping: None,
        sliding: None,
        session: None,
        count: None,
        stitch: None,
        max_drift: window.max_drift.into(),
        late: window.late_topic.clone().map(|topic| LateTopic { topic }),
        on_timeout: matches!(window.kind, WindowKind::Stitch { .. }).then(|| written_timeout(on_timeout)),
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
        WindowKind::Stitch { within } => {
            let (need, optional, repeat) = (names(need), names(optional), *repeat);
            written.stitch = Some(Stitch { within: within.into(), need, optional, repeat });
        }
        // That is what there is without a window.
        WindowKind::Each => {}
    }
    written
}

/// What the handler may keep, and the room for it, as YAML has them.
pub(super) fn written_state(function: &Function) -> Option<State> {
    let state = function.window.as_ref()?.state?;
    let max_bytes = text::size_text(function.max_state);
    Some(State { ttl: state.ttl.map(DurationText::from), max_bytes })
}

/// How event time goes on, as YAML has it.
pub(super) fn written_time(gathered: &WindowSpec) -> EventTime {
    EventTime {
        idle: gathered.idle.into(),
        max_skew: gathered.max_skew.into(),
        max_drift: gathered.max_drift.into(),
    }
}

/// Tables, by their places.
fn tables(sources: &[Source]) -> impl Iterator<Item = (u16, TableScope)> {
    (0u16..).zip(sources).filter_map(|(at, source)| Some((at, source.table?)))
}

/// The topics that are brought together, if there are several.
fn gathered_topics(sources: &[Source]) -> Vec<String> {
    let shared = sources.iter().filter(|source| !source.is_read_by_all());
    let topics: Vec<String> = shared.map(|source| source.topic.clone()).collect();
    if topics.len() > 1 { topics } else { Vec::new() }
}

fn written_timeout(on_timeout: &model::OnTimeout) -> OnTimeout {
    let (action, sink) = match on_timeout {
        model::OnTimeout::Call => (TimeoutAction::Call, None),
        model::OnTimeout::Drop => (TimeoutAction::Drop, None),
        model::OnTimeout::DeadLetter => (TimeoutAction::DeadLetter, None),
        model::OnTimeout::Emit(sink) => (TimeoutAction::Emit, Some(sink.clone())),
    };
    OnTimeout { action, sink }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn written_fire(fire: model::Fire) -> Fire {
    let (at, count, then) = match fire {
        model::Fire::Close => (FireAt::Close, None, None),
        model::Fire::Complete => (FireAt::Complete, None, None),
        model::Fire::Update => (FireAt::Update, None, None),
        model::Fire::Count { every, then } => (FireAt::Count, Some(every), Some(then)),
    };
    Fire { at: Some(at), count, then }
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
            sources: Vec::new(),
            stitch: StitchSpec::default(),
            late_topic: None,
            max_drift: Duration::from_secs(60),
            state: None,
            tables: Vec::new(),
        };
        assert_eq!(function.stitch_topic, None, "it is gathered where it is");
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
        let choice = "`tumbling`, `hopping`, `sliding`, `session`, `count`, `stitch`";
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
                ".at: is for `stitch` only, which knows what it needs: use `close`, `update` or `count`",
            ),
            ("{at: closed}", ".at: unknown word `closed`, did you mean `close`?"),
            ("{at: cuont, count: 2, then: reset}", ".at: unknown word `cuont`, did you mean `count`?"),
            ("{at: count, count: 2, then: stop}", ".then: unknown word `stop`, it takes `reset`, `continue`"),
        ];
        for (written, expected) in rows {
            let found = found(TUMBLING, &format!("{TUMBLING}, fire: {written}"));
            assert_eq!(found, [format!("5: spec.window.fire{expected}")], "{written}");
        }
        for (key, expected) in [
            ("late: {topic: 'l m'}", "late.topic: \"l m\" is no topic name"),
            ("onTimeout: {}", "onTimeout: only a `stitch` can be unfinished at its end: remove it"),
            ("repeat: next", "repeat: unknown key"),
            ("maxDrift: 5", "maxDrift: a bare number has no unit: write `5s` or `5ms`"),
        ] {
            let found = found(TUMBLING, &format!("{TUMBLING}, {key}"));
            assert!(matches!(found.as_slice(), [found] if found.contains(expected)), "{key}: {found:?}");
        }
    }

    #[test]
    fn an_aggregate_of_no_sense_is_refused() {
        let no_field = "needs a `field`, as in `field: /fare`: only `count` has none";
        for op in ["sum", "min", "max", "avg", "first", "last", "distinct"] {
            let expected = format!("5: spec.window.aggregate.x: {no_field}");
            assert_eq!(found(RIDES, &format!("x: {{op: {op}}}")), [expected]);
        }
        let rows: &[(&str, &str)] = &[
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
        assert_eq!(found(", aggregate: {rides: {op: count}}", ""), [""; 0], "it keeps its events");
        let misspelt = "5: spec.window.aggregates: unknown key, did you mean `aggregate`?";
        assert_eq!(found("aggregate:", "aggregates:"), [misspelt]);
    }

    /// Each row replaces one part of the windowed manifest, and names what is then found.
    #[test]
    fn what_does_not_go_with_a_window_is_refused() {
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
                "5: spec.delivery.originHeaders: the result of a window or a timer has many origins, and names none: remove \
                 it, or the `window`",
            ),
            (
                "spec:",
                "spec:\n  handler: {plugin: mill, concurrency: 2}",
                "5: spec.handler.concurrency: windows, state and tables are for calls on the worker's own thread in this version: \
                 remove it",
            ),
            (
                "spec:",
                "spec:\n  handler: {plugin: mill, rate: 5/s}",
                "5: spec.handler.rate: calls with windows, state or tables are not counted in this version: remove it",
            ),
            (
                "spec:",
                "spec:\n  order: partition",
                "5: spec.order: windows and state are by key: write `key`, or remove it",
            ),
            (
                "spec:",
                "spec:\n  order: none",
                "5: spec.order: windows and state are by key: write `key`, or remove it",
            ),
            (
                "{topic: in}",
                "{topic: in}, {topic: mill.stitch}",
                "6: spec.sources[1].topic: \"mill.stitch\" is where the function brings its sources together",
            ),
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
            ("spec:", "spec:\n  state: {ttl: 0s}", "5: spec.state.ttl: must be longer than zero"),
            ("spec:", "spec:\n  time: {}", "5: spec.time: a `window` says these itself: write them there"),
            ("window:", "windows:", "5: spec.windows: unknown key, did you mean `window`?"),
        ];
        for (part, instead, expected) in rows {
            assert_eq!(found(part, instead), [*expected], "{instead}");
        }
        let window = "window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}";
        let expected = "5: spec.state: only a `window` or a `handler` keeps something: add one, or remove it";
        assert_eq!(found(window, "state: {}"), [expected]);
    }

    const KEEPING: &str = "\
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {name: mill}
spec:
  handler: {plugin: mill}
  state: {ttl: 30d}
  time: {idle: 5s}
  sources: [{topic: in}]
";

    #[test]
    fn state_without_a_window_is_gathered_where_it_is() {
        let function = one(KEEPING);
        let gathered = function.window.clone().unwrap();
        assert_eq!((gathered.kind, gathered.idle), (WindowKind::Each, Duration::from_secs(5)));
        assert_eq!(gathered.state, Some(StateSpec { ttl: Some(Duration::from_secs(30 * 86_400)) }));
        assert_eq!((function.has_window(), function.keeps_state()), (false, true));
        assert_eq!((function.stitch_topic.as_deref(), function.gathered_topic()), (None, Some("in")));
        assert_eq!(one(&render(&function)), function);
    }

    #[test]
    fn a_table_is_kept_by_key_or_read_by_all() {
        let with = |table: &str| one(&KEEPING.replace("{topic: in}", &format!("{{topic: in}}, {table}")));
        let kept = with("{topic: more, name: t, table: {}}");
        assert_eq!(kept.window.as_ref().unwrap().tables, [(1, TableScope::Lane)]);
        assert_eq!(kept.stitch_topic.as_deref(), Some("mill.stitch"));
        assert_eq!(one(&render(&kept)), kept);
        let all = with("{topic: more, name: t, table: {scope: all}, key: {header: h}}");
        assert_eq!(all.window.as_ref().unwrap().tables, [(1, TableScope::All)]);
        assert_eq!((all.stitch_topic.as_deref(), all.gathered_topic()), (None, Some("in")));
        assert!(all.window.as_ref().unwrap().sources.is_empty(), "it may come and go");
        assert_eq!(all.shared_sources().count(), 1);
        assert_eq!(one(&render(&all)), all);
        let text = KEEPING.replace("  state: {ttl: 30d}\n  time: {idle: 5s}\n", "");
        let stateless = one(&text.replace("{topic: in}", "{topic: in}, {topic: more, table: {scope: all}}"));
        assert_eq!(stateless.window, None, "such a table alone gathers nothing");
    }

    #[test]
    fn a_table_of_no_sense_is_refused() {
        let table = |table: &str| findings(&KEEPING.replace("{topic: in}", table));
        let rows: &[(&str, &str)] = &[
            ("{topic: in, table: {}}", ": are all tables, which call nothing: add a source without `table`"),
            (
                "{topic: in}, {topic: t, table: {}, startAt: latest}",
                "[1].startAt: a table is read from its beginning: remove it",
            ),
            (
                "{topic: in}, {topic: t, table: {}, time: {field: /t}}",
                "[1].time: a table moves no time: remove it",
            ),
            ("{topic: in}, {topic: t, table: {scope: some}}", "[1].table.scope: unknown word `some`"),
            (
                "{schedule: {cron: '0 9 * * *'}, name: t, table: {}}",
                "[0].table: a clock is no table: remove it",
            ),
        ];
        for (written, expected) in rows {
            let found = table(written);
            let expected = format!("f.yaml:8: spec.sources{expected}");
            assert!(found.iter().any(|found| found.starts_with(&expected)), "{written}: {found:?}");
        }
        let stitched = STITCHED.replace("name: b, key", "name: b, table: {}, key");
        let found = findings(&stitched);
        let expected = "`b` is a table, which is looked up: remove it";
        assert!(found.iter().any(|found| found.contains(expected)), "{found:?}");
    }

    #[test]
    fn a_stitch_waits_for_a_row_of_a_table_that_is_kept_by_its_key() {
        let with = |table: &str, stitch: &str| {
            let text = STITCHED.replace("name: b, key", &format!("name: b, table: {table}, key"));
            let text = text.replace("need: [a], optional: [b]", stitch);
            text.replace("\n  sources", "\n  handler: {plugin: p}\n  sources")
        };
        let function = one(&with("{}", "need: [a, b]"));
        assert_eq!(one(&render(&function)), function);
        let window = function.window.unwrap();
        assert_eq!((window.stitch.need, window.tables), (vec![0, 1], vec![(1, TableScope::Lane)]));
        for (table, stitch, expected) in [
            ("{}", "need: [b], optional: [a]", "needs no source, so it would never be complete"),
            ("{}", "need: [a], optional: [b]", "is a table, which is looked up: remove it"),
            ("{}", "need: [a]", "puts events of several sources together, and there is one"),
            ("{scope: all}", "need: [a, b]", "so nothing can wait for its rows: remove it"),
        ] {
            let found = findings(&with(table, stitch));
            assert!(found.iter().any(|found| found.contains(expected)), "{stitch}: {found:?}");
        }
    }

    const STITCHED: &str = "\
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {name: mill}
spec:
  window: {stitch: {within: 1h, need: [a], optional: [b]}}
  sources: [{topic: in, name: a}, {topic: more, name: b, key: {header: h}}]
  sinks: [{topic: out}, {topic: late, name: late}]
";

    #[test]
    fn a_stitch_knows_its_sources() {
        let function = one(STITCHED);
        assert_eq!(function.stitch_topic.as_deref(), Some("mill.stitch"));
        assert_eq!(function.gathered_topic(), Some("mill.stitch"));
        assert_eq!(one(&render(&function)), function);
        let window = function.window.unwrap();
        assert_eq!(window.kind, WindowKind::Stitch { within: Duration::from_secs(3600) });
        assert_eq!((window.fire, window.sources), (Fire::Complete, vec!["in".to_owned(), "more".to_owned()]));
        assert_eq!((window.stitch.need, window.stitch.optional), (vec![0], vec![1]));
        let all = one(&STITCHED.replace(", need: [a], optional: [b]", ", repeat: collect"));
        let stitch = all.window.unwrap().stitch;
        assert_eq!((stitch.need, stitch.repeat), (vec![0, 1], model::Repeat::Collect));
        for (action, expected) in [
            ("{}", model::OnTimeout::Call),
            ("{action: drop}", model::OnTimeout::Drop),
            ("{action: deadLetter}", model::OnTimeout::DeadLetter),
            ("{action: emit, sink: late}", model::OnTimeout::Emit("late".to_owned())),
        ] {
            let text =
                STITCHED.replace("[b]}}", &format!("[b]}}, onTimeout: {action}, fire: {{at: close}}}}"));
            let function = one(&text);
            assert_eq!(one(&render(&function)), function);
            let window = function.window.unwrap();
            assert_eq!((window.stitch.on_timeout, window.fire), (expected, Fire::Close));
        }
        let keyed = one(&with("{topic: in}", "{topic: in, key: {header: h}}"));
        assert_eq!(keyed.stitch_topic.as_deref(), Some("mill.stitch"), "one source by another key");
    }

    #[test]
    fn a_stitch_of_no_sense_is_refused() {
        let whole = "{within: 1h, need: [a], optional: [b]}}";
        let rows: &[(&str, &str)] = &[
            ("{within: 1h, need: [c]}}", ".stitch.need[0]: unknown source `c`; the sources are `a`, `b`"),
            ("{within: 1h, need: [a, a, b]}}", ".stitch.need[1]: `a` is named already: remove it"),
            (
                "{within: 1h, need: [a]}}",
                ".stitch: source `b` is neither in `need` nor in `optional`: add it to one",
            ),
            (
                "{within: 1h, optional: [a, b]}}",
                ".stitch: needs no source, so it would never be complete: name one in `need`",
            ),
            ("{need: [a, b]}}", ".stitch.within: is missing"),
            ("{within: 0s}}", ".stitch.within: must be longer than zero"),
            (
                "{within: 1h, repeat: again}}",
                ".stitch.repeat: unknown word `again`, it takes `next`, `replace`, `collect`",
            ),
            (
                "{within: 1h}, aggregate: {n: {op: count}}}",
                ".aggregate: a `stitch` keeps its events and makes no numbers of them: remove it",
            ),
            (
                "{within: 1h}, fire: {at: update}}",
                ".fire.at: a `stitch` gives its result when it is complete or when it closes: use `complete` or `close`",
            ),
            (
                "{within: 1h}, onTimeout: {action: emit}}",
                ".onTimeout: `emit` needs a `sink`, as in `sink: unpaid`",
            ),
            (
                "{within: 1h}, onTimeout: {action: emit, sink: unpaid}}",
                ".onTimeout.sink: unknown sink `unpaid`; the sinks are `default`, `late`",
            ),
            (
                "{within: 1h}, onTimeout: {sink: late}}",
                ".onTimeout.sink: is for `action: emit` only: set that too, or remove it",
            ),
        ];
        for (written, expected) in rows {
            let found = findings(
                &STITCHED.replace(whole, written).replace("{topic: out}", "{topic: out, name: default}"),
            );
            assert_eq!(found, [format!("f.yaml:5: spec.window{expected}")], "{written}");
        }
        let alone =
            STITCHED.replace(", {topic: more, name: b, key: {header: h}}", "").replace(", optional: [b]", "");
        let found = findings(&alone);
        assert!(
            matches!(found.as_slice(), [one] if one.contains("of several sources together")),
            "{found:?}"
        );
    }

    #[test]
    fn without_a_window_the_state_topic_is_a_topic_like_others() {
        let text = with("  window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}\n", "");
        assert_eq!(findings(&text.replace("topic: out", "topic: mill.state")), [""; 0]);
    }
}
