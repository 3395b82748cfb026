//! The one lane of a function with a window, in virtual time: its windows, its state as the state topic would hold it,
//! and what a worker does about time.
//!
//! Each source is a topic with one partition, and all keys are in this lane. Sources that are brought together first go
//! through the stitch topic's records; their partitions become idle, and event time goes on without events, by the rules
//! that `src/worker/gathers.rs` and `src/worker/states.rs` work by, each at the very moment at which it may.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::trial::List;
use crate::model::{Function, Moment, NoHeaders, Record, WindowSpec};
use crate::pipeline::{Pass, Pipeline, Settled, back_off};
use crate::window::{Damaged, OpenWindow, Part, Windows};

/// Between the two ends of what jitter may do to a pause.
const NO_JITTER: f64 = 0.5;

/// A function's lane.
pub struct Lane {
    function: Arc<Function>,
    spec: WindowSpec,
    /// When its clock began, milliseconds since the epoch.
    began_ms: i64,
    windows: Windows,
    /// What the state topic holds: the newest entry of each key, in the order in which they were written.
    state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    times: Times,
    /// As of the last cut.
    committed: Times,
}

/// What a worker knows of time.
#[derive(Debug, Clone)]
struct Times {
    now: Moment,
    /// Where event time stood at the cut.
    watermark_ms: i64,
    /// Of sources that are brought together: their partitions.
    feeds: Vec<Feed>,
    /// The stitch topic's next offset.
    next_offset: i64,
    /// When an event was placed last, or somebody began to look.
    heard_at: Duration,
    /// Since when the lane is idle, and where event time stood then.
    idle: Option<(Duration, i64)>,
    /// When results that wait are given again, by their numbers.
    again_at: BTreeMap<u64, Duration>,
}

/// A source's only partition.
#[derive(Debug, Clone)]
struct Feed {
    watermark_ms: i64,
    /// When an event came last.
    moved_at: Duration,
    is_idle: bool,
    /// What the windows were told of it last.
    said: Option<(i64, bool)>,
}

impl Feed {
    fn new(watermark_ms: i64, now: Duration) -> Self {
        Self { watermark_ms, moved_at: now, is_idle: false, said: None }
    }
}

impl Lane {
    /// Of a function with a window, else `None`. Nothing is open and no event has come.
    pub fn new(function: &Arc<Function>, now: Moment) -> Option<Self> {
        let spec = function.window.clone()?;
        let sources = function.stitch_topic.as_ref().map_or(0, |_| function.sources.len());
        let times = Times {
            now,
            watermark_ms: i64::MIN,
            feeds: vec![Feed::new(i64::MIN, now.elapsed); sources],
            next_offset: 0,
            heard_at: now.elapsed,
            idle: None,
            again_at: BTreeMap::new(),
        };
        let elapsed_ms = i64::try_from(now.elapsed.as_millis()).unwrap_or(i64::MAX);
        let mut lane = Self {
            windows: empty(function, &spec, i64::MIN),
            function: Arc::clone(function),
            spec,
            began_ms: now.wall_ms.saturating_sub(elapsed_ms),
            state: Vec::new(),
            committed: times.clone(),
            times,
        };
        lane.tell();
        lane.keep();
        Some(lane)
    }

    /// What its clock shows.
    pub fn now(&self) -> Moment {
        self.times.now
    }

    /// The windows that are open.
    pub fn open(&self) -> Vec<OpenWindow<'_>> {
        self.windows.all_open()
    }

    /// An event comes, of one of the sources.
    pub fn event(&mut self, pass: &Pass<'_>, pipeline: &mut Pipeline, list: &mut List<'_>) -> Settled {
        let now = self.times.now.elapsed;
        let settled = match self.times.feeds.get_mut(pass.source) {
            None => {
                (self.times.heard_at, self.times.idle) = (now, None);
                let settled = pipeline.gather(pass, &mut self.windows, list);
                list.note(pipeline);
                settled
            }
            Some(feed) => {
                (feed.moved_at, feed.is_idle) = (now, false);
                let settled = pipeline.send(pass, &mut feed.watermark_ms, list);
                list.take_sent().map_or(settled, |sent| self.sent(&sent, pipeline, list))
            }
        };
        self.look(pipeline, list);
        settled
    }

    /// An event has come through the stitch topic.
    fn sent(
        &mut self,
        (key, value): &(Vec<u8>, Vec<u8>),
        pipeline: &mut Pipeline,
        list: &mut List<'_>,
    ) -> Settled {
        let topic = self.function.stitch_topic.as_deref().unwrap_or_default();
        let source = pipeline.source_of(topic).expect("what was sent went to the stitch topic");
        let now = self.times.now;
        let record = Record {
            topic,
            partition: 0,
            offset: self.times.next_offset,
            timestamp_ms: now.wall_ms,
            key: Some(key),
            value: Some(value),
            headers: &NoHeaders,
        };
        self.times.next_offset += 1;
        (self.times.heard_at, self.times.idle) = (now.elapsed, None);
        let pass = Pass { source, record: &record, failed: 0, is_probe: false, now };
        let settled = pipeline.gather(&pass, &mut self.windows, list);
        list.note(pipeline);
        settled
    }

    /// The clock goes on by so much, and nothing comes.
    pub fn advance(&mut self, by: Duration, pipeline: &mut Pipeline, list: &mut List<'_>) {
        let until = self.times.now.elapsed + by;
        while let Some(at) = self.next_moment().filter(|at| *at < until) {
            self.set_clock(at);
            self.look(pipeline, list);
        }
        self.set_clock(until);
        self.look(pipeline, list);
    }

    /// Gives what waits again until nothing does. Event time stands still meanwhile.
    pub fn settle(&mut self, pipeline: &mut Pipeline, list: &mut List<'_>) {
        while list.stopped.is_none() && self.windows.waiting().next().is_some() {
            self.give_again(pipeline, list);
            if let Some(at) = self.times.again_at.values().min().copied() {
                self.set_clock(at.max(self.times.now.elapsed));
            }
        }
    }

    /// A cut: what has happened since the last one stays.
    pub fn keep(&mut self) {
        let state = &mut self.state;
        self.windows.changes(|key, value| {
            state.retain(|(known, _)| known != key);
            state.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        });
        self.windows.committed();
        self.times.watermark_ms = self.windows.watermark_ms();
        self.committed.clone_from(&self.times);
    }

    /// What has happened since the last cut has not happened.
    pub fn undo(&mut self) {
        self.windows.rolled_back();
        self.times.clone_from(&self.committed);
    }

    /// The windows are read from the state.
    pub fn reload(&mut self) -> Result<(), Damaged> {
        let mut windows = empty(&self.function, &self.spec, self.times.watermark_ms);
        for (key, value) in &self.state {
            windows.restore(key, value.as_deref());
        }
        windows.restored()?;
        self.windows = windows;
        Ok(())
    }

    /// Another process has taken over: it has the state, and what was committed says since when the sources are quiet.
    pub fn restart(&mut self, pipeline: &mut Pipeline, list: &mut List<'_>) -> Result<(), Damaged> {
        self.reload()?;
        self.times.feeds.iter_mut().for_each(|feed| feed.said = None);
        self.times.again_at.clear();
        self.look(pipeline, list);
        Ok(())
    }

    fn set_clock(&mut self, elapsed: Duration) {
        let passed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        self.times.now = Moment { wall_ms: self.began_ms.saturating_add(passed_ms), elapsed };
    }

    /// When a worker would next find something to do if nothing came.
    fn next_moment(&self) -> Option<Duration> {
        let Times { now, feeds, heard_at, idle, again_at, .. } = &self.times;
        let quiet = feeds.iter().filter(|feed| !feed.is_idle).map(|feed| feed.moved_at + self.spec.idle);
        let passing = match idle {
            None => Some(*heard_at + self.spec.idle),
            Some((since, base)) => self.windows.next_deadline_ms().and_then(|deadline| {
                let passed = u64::try_from(deadline.checked_sub(*base)?).ok()?;
                since.checked_add(Duration::from_millis(passed))
            }),
        };
        let timer = self.windows.next_clock_ms().map(|at| {
            let ahead = u64::try_from(at.saturating_sub(now.wall_ms)).unwrap_or(0);
            now.elapsed + Duration::from_millis(ahead)
        });
        let moments = quiet.chain(passing).chain(again_at.values().copied()).chain(timer);
        moments.filter(|moment| *moment > now.elapsed).min()
    }

    /// What a worker does in every round.
    fn look(&mut self, pipeline: &mut Pipeline, list: &mut List<'_>) {
        let now = self.times.now.elapsed;
        for feed in &mut self.times.feeds {
            feed.is_idle |= now >= feed.moved_at + self.spec.idle;
        }
        self.tell();
        self.let_time_pass();
        let function = Arc::clone(&self.function);
        let place = ((function.gathered_topic().unwrap_or_default(), 0), self.times.now);
        while list.stopped.is_none()
            && (self.windows.fire_by_clock(self.times.now.wall_ms)
                || pipeline.close_next(place, &mut self.windows, list))
        {
            list.note(pipeline);
            if self.windows.has_fresh() {
                self.give_again(pipeline, list);
            }
        }
        self.give_again(pipeline, list);
    }

    /// Tells the windows how far the sources have come, where that is not what they heard last.
    fn tell(&mut self) {
        let mut parts = Vec::new();
        for (source, feed) in (0..).zip(&mut self.times.feeds) {
            if self.function.sources.get(usize::from(source)).is_none_or(|source| source.table.is_some()) {
                continue;
            }
            let says = (feed.watermark_ms, feed.is_idle);
            if feed.said != Some(says) {
                feed.said = Some(says);
                parts.push(Part { source, partition: 0, watermark_ms: says.0, is_idle: says.1 });
            }
        }
        if !parts.is_empty() {
            let counts: Vec<_> = parts.iter().map(|part| (part.source, 1)).collect();
            self.windows.hear(counts.into_iter(), parts.into_iter());
        }
    }

    /// Lets event time go on where nothing comes.
    fn let_time_pass(&mut self) {
        let (now, windows) = (self.times.now.elapsed, &mut self.windows);
        let quiet_since = self.times.heard_at + self.spec.idle;
        if now < quiet_since || windows.progress().is_some_and(|progress| !progress.is_idle()) {
            self.times.idle = None;
            return;
        }
        let since = if self.times.feeds.is_empty() { quiet_since } else { now };
        let (since, base) = *self.times.idle.get_or_insert((since, windows.watermark_ms()));
        let passed = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(i64::MAX);
        let time_ms = base.saturating_add(passed);
        if windows.next_deadline_ms().is_some_and(|deadline| deadline <= time_ms) {
            windows.advance_to(time_ms);
        }
    }

    /// Gives results again that wait and whose pause is over, those of one key in order.
    fn give_again(&mut self, pipeline: &mut Pipeline, list: &mut List<'_>) {
        let now = self.times.now;
        let topic = self.function.gathered_topic().unwrap_or_default();
        while list.stopped.is_none() {
            let (retry, again_at) = (&self.function.delivery.retry, &mut self.times.again_at);
            let mut seen = HashSet::new();
            let mut due = None;
            for (number, pending) in self.windows.waiting() {
                if !seen.insert(pending.key.clone()) {
                    continue;
                }
                let pause = || match pending.attempts {
                    0 => Duration::ZERO,
                    attempts => back_off(retry, attempts, NO_JITTER),
                };
                if *again_at.entry(number).or_insert_with(|| now.elapsed + pause()) <= now.elapsed {
                    due = due.or(Some((number, Arc::clone(pending))));
                }
            }
            self.windows.take_fresh();
            let Some((number, pending)) = due else { break };
            again_at.remove(&number);
            match pipeline.give_again(((topic, 0), now), (&pending, false), &mut self.windows, list) {
                true => self.windows.settled(number),
                false => self.windows.failed_again(number),
            }
            list.note(pipeline);
        }
    }
}

/// Windows without anything in them.
fn empty(function: &Function, spec: &WindowSpec, watermark_ms: i64) -> Windows {
    let windows = Windows::new(spec, watermark_ms);
    match function.stitch_topic {
        Some(_) => windows.of_sources(function.sources.len()),
        None => windows,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::cases;
    use crate::cli::verdict::judge;
    use crate::manifest;
    use crate::model::{Emit, Failure, FailureKind, KeyChoice, Outbox, Outcome};
    use crate::pipeline::{Call, Handler, OfWindow};

    fn function(spec: &str) -> Arc<Function> {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{ name: f }}\nspec:\n{spec}\n"
        );
        Arc::new(manifest::parse(Path::new("function.yaml"), &text).unwrap().remove(0))
    }

    /// One source, gathered where it is.
    fn counting(window: &str) -> Arc<Function> {
        function(&format!(
            "  sources: [{{ topic: in, format: json, filters: [{{ field: {{ path: /no, exists: false }} }}] }}]\n  \
             window: {{ {window}, aggregate: {{ n: {{ op: count }} }} }}\n  sinks: [{{ topic: out, format: json }}]"
        ))
    }

    /// Two sources that are brought together.
    fn pairs(more: &str) -> Arc<Function> {
        let source =
            |name| format!("{{ topic: {name}s, name: {name}, format: json, key: {{ fields: [/id] }} }}");
        function(&format!(
            "{more}\n  sources: [{}, {}]\n  window: {{ stitch: {{ within: 1m }} }}\n  \
             sinks: [{{ topic: out, format: json }}]",
            source("a"),
            source("b")
        ))
    }

    /// What is found in a case with these steps.
    fn found(function: &Arc<Function>, make: super::super::trial::Make<'_>, rest: &str) -> String {
        let text = format!("cases:\n  - name: n\n    at: 1970-01-01T00:10:00Z\n{rest}");
        let case = cases::parse(Path::new("cases.yaml"), &text, function).unwrap().remove(0);
        judge(function, make, &case).unwrap().join("\n")
    }

    fn found_without(function: &Arc<Function>, rest: &str) -> String {
        found(function, &|| Ok(None), rest)
    }

    #[test]
    fn windows_of_every_kind_close_when_nothing_comes() {
        let event = "    given:\n      - { key: k, value: 1 }\n      - { key: k, value: 1 }\n";
        for (window, wait, bounds) in [
            ("tumbling: { size: 1m }", "70s", "start: 600000, end: 660000, fired: close"),
            ("sliding: { size: 1m }", "10001ms", "start: 540000, end: 600000, fired: close"),
            ("session: { gap: 1m }", "70001ms", "start: 600000, end: 600000, fired: close"),
            ("tumbling: { size: 1m }, grace: 5s", "75s", "start: 600000, end: 660000, fired: close"),
            ("tumbling: { size: 1m }, idle: 1s", "61s", "start: 600000, end: 660000, fired: close"),
        ] {
            let function = counting(window);
            let before = just_before(wait);
            let expect =
                format!("{{ emits: [{{ key: k, value: {{ key: k, window: {{ {bounds} }}, n: 2 }} }}] }}");
            let rest = format!(
                "{event}      - {{ advance: {before}, expect: {{ count: 0 }} }}\n      - {{ advance: 1ms, expect: {expect} }}\n"
            );
            assert_eq!(found_without(&function, &rest), "", "{window}");
        }
        let hopping = counting("hopping: { size: 1m, advance: 30s }");
        let rest = format!(
            "{event}      - {{ advance: 40s, expect: {{ count: 1 }} }}\n      - {{ advance: 30s, expect: {{ count: 1 }} }}\n"
        );
        assert_eq!(found_without(&hopping, &rest), "");
        let counted = counting("count: { size: 2 }");
        let rest = format!("{event}      - {{ advance: 30d }}\n    expect: {{ count: 1 }}\n");
        assert_eq!(found_without(&counted, &rest), "");
    }

    /// A millisecond less.
    fn just_before(wait: &str) -> String {
        format!("{}ms", manifest::duration(wait).unwrap().as_millis() - 1)
    }

    #[test]
    fn a_source_holds_time_until_it_is_idle() {
        let function = pairs("");
        let ride = "    given:\n      - { source: a, value: { id: 1 } }\n";
        // Idle after 10 s; a minute and a millisecond later it is over.
        for (steps, expect) in [
            ("      - advance: 70000ms\n", "count: 0"),
            ("      - advance: 70001ms\n", "emits: [{ key: '1', timestamp: 660000 }]"),
            // Another event of the same source, of any key, holds it anew; one of the other source, too.
            (
                "      - advance: 5s\n      - { source: a, value: { id: 2 } }\n      - advance: 65000ms\n",
                "count: 0",
            ),
            (
                "      - advance: 9s\n      - { source: b, value: { id: 2 } }\n      - advance: 61000ms\n",
                "count: 0",
            ),
            // A restart does not: since when it is quiet was committed.
            ("      - advance: 9s\n      - restart: true\n      - advance: 61000ms\n", "count: 0"),
            ("      - advance: 9s\n      - restart: true\n      - advance: 61001ms\n", "count: 1"),
            // An idle source lets the other's events move time, whoever takes over.
            (
                "      - advance: 15s\n      - { source: a, value: { id: 2 }, timestamp: 660001 }\n",
                "count: 1",
            ),
            (
                "      - advance: 15s\n      - restart: true\n      - { source: a, value: { id: 2 }, timestamp: 660001 }\n",
                "count: 1",
            ),
        ] {
            let rest = format!("{ride}{steps}    expect: {{ {expect} }}\n");
            assert_eq!(found_without(&function, &rest), "", "{steps}");
        }
    }

    #[test]
    fn what_a_filter_refuses_is_not_nothing() {
        let function = counting("tumbling: { size: 1m }");
        let rest = "    given:
      - { key: k, value: 1 }
      - advance: 9s
      - { key: k, value: { no: 1 }, expect: { outcome: filtered } }
      - { advance: 69999ms, expect: { count: 0 } }
      - { advance: 1ms, expect: { count: 1 } }
";
        assert_eq!(found_without(&function, rest), "");
    }

    #[test]
    fn lateness_skew_and_filters_are_judged_as_in_production() {
        let function = counting("tumbling: { size: 1m }, late: { topic: behind }");
        let rest = "    given:
      - { key: k, value: 1, timestamp: 500000 }
      - { key: k, value: { no: 1 }, expect: { outcome: filtered } }
      - { key: k, value: 1, timestamp: 540000, expect: { emits: [{ value: { key: k, window: { start: 480000, end: 540000, fired: close }, n: 1 } }] } }
      - { key: j, value: 1, timestamp: 539999, expect: { outcome: deadLetter, reason: late } }
      - { value: 1 }
      - { key: k, value: 1, timestamp: 4200001 }
      - { key: k, value: 1, timestamp: 4200000 }
    expect:
      deadLetters: [{ reason: late, topic: behind, key: j }, { reason: unkeyed, topic: f.dlq }, { reason: ahead }]
";
        let other = "given[6] (event): emits[0]: not expected: default: \"k\" = {\"key\":\"k\",\"n\":1,";
        let all = found_without(&function, rest);
        assert!(all.starts_with(other) && !all.contains('\n'), "{all}");
    }

    #[test]
    fn what_steps_do_not_say_is_found() {
        let event = "    given:\n      - { key: k, value: 1 }\n";
        let function = counting("tumbling: { size: 1m }");
        for (rest, finding) in [
            (
                "      - { advance: 2m, expect: { count: 0 } }\n",
                "given[1] (advance): count: expected 0 outputs, got 1",
            ),
            (
                "      - { advance: 1m, expect: { count: 0 } }\n      - advance: 1m\n",
                "given[2] (advance): emits[0]: not expected: default: \"k\" = ",
            ),
            ("      - advance: 1m\n    expect: { emits: [{}] }\n", "emits[0]: expected an output, got none"),
            (
                "      - { restart: true, expect: { emits: [{ key: k }] } }\n",
                "given[1] (restart): emits[0]: expected an output, got none",
            ),
            (
                "      - { value: 1, expect: { deadLetters: [{ reason: late, error: no }] } }\n",
                "given[1] (event): deadLetters[0].reason: expected late, got unkeyed (it has no key",
            ),
            (
                "      - { value: 1 }\n    expect: { deadLetters: [] }\n",
                "deadLetters[0]: not expected: dead letter (unkeyed: it has no key",
            ),
            (
                "      - { value: 1, expect: { count: 0 } }\n",
                "given[1] (event): outcome: expected ok, got deadLetter (it has no key",
            ),
            (
                "    expect: { deadLetters: [{ key: k }] }\n",
                "deadLetters[0]: expected a dead letter, got none",
            ),
        ] {
            let all = found_without(&function, &format!("{event}{rest}"));
            assert!(all.starts_with(finding), "{rest}:\n{all}");
        }
        let unfinished = pairs("");
        let mut unfinished = Function::clone(&unfinished);
        if let Some(window) = &mut unfinished.window {
            window.stitch.on_timeout = crate::model::OnTimeout::DeadLetter;
        }
        let unfinished = Arc::new(unfinished);
        let rest = "    given:\n      - { source: a, value: { id: 1 } }\n      - advance: 2m\n    expect: {";
        let all = found_without(&unfinished, &format!("{rest} count: 0 }}\n"));
        assert_eq!(
            all,
            "given[1] (advance): deadLetters: not expected: dead letter (incomplete: its stitch ended without b): \
             null = {\"id\":1}"
        );
        let listed = format!("{rest} deadLetters: [{{ reason: incomplete, value: {{ id: 1 }} }}] }}\n");
        assert_eq!(found_without(&unfinished, &listed), "");
    }

    /// A handler of windows made of a closure: what it says is emitted with the window's key.
    struct Made<F>(F);

    impl<F: FnMut(&OfWindow<'_>) -> Result<String, FailureKind> + Send> Handler for Made<F> {
        fn call(&mut self, _: &Call<'_>, _: &mut Outbox) -> Outcome {
            unreachable!("no event is handled by itself")
        }

        fn call_window(&mut self, call: &OfWindow<'_>, outbox: &mut Outbox) -> Outcome {
            match (self.0)(call) {
                Err(kind) => Outcome::Failed(Failure { kind, message: "away".to_owned() }),
                Ok(text) => {
                    let emit = Emit {
                        sink: None,
                        key: KeyChoice::OfEvent,
                        value: Some(text.as_bytes()),
                        content_type: None,
                        timestamp_ms: None,
                        headers: &[],
                    };
                    assert!(outbox.push(&emit));
                    Outcome::Ok
                }
            }
        }

        fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
    }

    fn found_with<F>(more: &str, handler: impl Fn() -> F, rest: &str) -> String
    where
        F: FnMut(&OfWindow<'_>) -> Result<String, FailureKind> + Send + 'static,
    {
        let function = pairs(&format!("  handler: {{ plugin: f }}\n{more}"));
        found(&function, &|| Ok(Some(Box::new(Made(handler())))), rest)
    }

    const PAIR: &str =
        "    given:\n      - { source: a, value: { id: 1 } }\n      - { source: b, value: { id: 1 } }\n";

    /// Goes well at this attempt.
    fn at(attempt: u32) -> impl Fn(&OfWindow<'_>) -> Result<String, FailureKind> + Send + 'static {
        move |call| match call.attempt {
            now if now >= attempt => Ok(json_of(call)),
            _ => Err(FailureKind::Retry { after: None }),
        }
    }

    fn json_of(call: &OfWindow<'_>) -> String {
        format!("{{\"attempt\":{},\"at\":{}}}", call.attempt, call.now_ms)
    }

    #[test]
    fn a_result_is_called_again_after_its_pause() {
        // 200 ms, then 400 ms, also across a restart; another of its key waits behind it.
        let second = "      - { source: a, value: { id: 1 } }\n      - { source: b, value: { id: 1 } }\n";
        let rest = format!(
            "{PAIR}{second}      - {{ advance: 199ms, expect: {{ count: 0 }} }}\n      - advance: 1ms\n      \
             - restart: true\n      - {{ advance: 399ms, expect: {{ count: 0 }} }}\n      - advance: 1ms\n        \
             expect: {{ emits: [{{ key: '1', value: {{ attempt: 3, at: 600600 }} }}] }}\n      - advance: 600ms\n        \
             expect: {{ emits: [{{ key: '1', value: {{ attempt: 3, at: 601200 }} }}] }}\n"
        );
        assert_eq!(found_with("", || at(3), &rest), "");
        // After the last step nothing waits: what would be called again is.
        let rest = format!("{PAIR}    expect: {{ emits: [{{ value: {{ attempt: 3, at: 600600 }} }}] }}\n");
        assert_eq!(found_with("", || at(3), &rest), "");
    }

    #[test]
    fn attempts_for_a_result_run_out() {
        let two = "  delivery: { retry: { maxAttempts: 2 }, onExhausted: ACTION }";
        let letter = "deadLetters: [{ reason: exhausted, error: away, key: '1' }]";
        let rest = format!("{PAIR}    expect: {{ count: 0, {letter} }}\n");
        assert_eq!(found_with(&two.replace("ACTION", "deadLetter"), || at(3), &rest), "");
        let stop = two.replace("ACTION", "stop");
        let rest = format!("{PAIR}      - {{ advance: 1s, expect: {{ outcome: stop, error: away }} }}\n");
        assert_eq!(found_with(&stop, || at(3), &rest), "");
        let rest = format!("{PAIR}    expect: {{ count: 0 }}\n");
        assert_eq!(found_with(&stop, || at(3), &rest), "event 2: outcome: expected ok, got stop (away)");
    }

    #[test]
    fn state_hidden_in_a_handler_of_windows_is_found() {
        let counting = || {
            let mut calls = 0;
            move |_: &OfWindow<'_>| {
                calls += 1;
                Ok(calls.to_string())
            }
        };
        let rest = format!("{PAIR}    expect: {{ count: 1 }}\n");
        assert_eq!(
            found_with("", counting, &rest),
            "state hidden in the handler: event 2 gives something else when events are delivered twice; what \
             `self` keeps is lost on a restart and not shared between workers\n  \
             at first: ok default: \"1\" = 1\n  then:     ok default: \"1\" = 2"
        );
        let remembering = || {
            let mut seen = Vec::new();
            move |call: &OfWindow<'_>| {
                if !seen.contains(&call.window.start_ms) {
                    seen.push(call.window.start_ms);
                }
                Ok(seen.len().to_string())
            }
        };
        let rest = format!(
            "{PAIR}      - advance: 1s\n      - {{ source: a, value: {{ id: 2 }} }}\n      \
             - {{ source: b, value: {{ id: 2 }} }}\n    expect: {{ count: 2 }}\n"
        );
        let all = found_with("", remembering, &rest);
        assert!(
            all.starts_with(
                "state hidden in the handler: given[4] (event) gives something else in a fresh handler"
            ),
            "{all}"
        );
    }

    #[test]
    fn the_clock_goes_on_for_single_events_too() {
        let function = function(
            "  sources: [{ topic: in, format: json }]\n  delivery: { maxEventAge: 1m }\n  sinks: [{ topic: out }]",
        );
        let rest = "    given:
      - { value: 1, timestamp: 600000, expect: { count: 1 } }
      - advance: 61s
      - { value: 1, timestamp: 600000, expect: { outcome: deadLetter, reason: too-old } }
      - { value: 1, expect: { count: 1 } }
";
        assert_eq!(found_without(&function, rest), "");
    }
}
