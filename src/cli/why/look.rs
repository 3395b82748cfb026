//! Asks the cluster about one key. The order is that of a worker that takes a partition over: first what is committed,
//! waiting for open transactions, then the state up to its end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Context as _, anyhow, bail};
use serde_json::value::RawValue;

use super::report::{Event, Kept, Lag, Open, Part, Refused, Report, Row, Standing, Time, Timer, Waiting};
use crate::cli::dlq::letter::Letter;
use crate::cli::sample;
use crate::cli::scan::{self, Stretch};
use crate::cli::trial::Bytes;
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Cluster, Committed, Consumer, Partition, partition_of_key};
use crate::model::{Function, KeySpec, Record, WindowKind, WindowSpec};
use crate::pipeline::{Checkpoint, Envelope, Intake};
use crate::window::{self, Damaged, Windows};

/// So many offsets of each partition are searched for dead letters, the last ones.
const SEARCHED: i64 = 100_000;

/// What is asked.
pub struct Question<'a> {
    /// Of which function.
    pub function: &'a Function,
    /// The key.
    pub key: &'a [u8],
    /// Where it is, if somebody knows.
    pub partition: Option<i32>,
    /// How many dead letters to show.
    pub dead_letters: usize,
    /// Values are shown.
    pub shows_values: bool,
}

/// Looks.
pub fn look(cluster: &Cluster, question: &Question<'_>) -> anyhow::Result<Report> {
    let Question { function, key, .. } = *question;
    let name = function.name.to_string();
    let (Some(spec), Some(topic)) = (&function.window, function.gathered_topic()) else {
        bail!(
            "{name} keeps nothing by key, neither in a window nor as state: each event is handled by itself, and no key waits \
             for another event; `tidemill lag` says what is still to be read, `tidemill dlq list --key` what could not be \
             handled"
        );
    };
    let admin = Admin::new(cluster)?;
    let counts = Counts::ask(&admin, function)?;
    let partitions = counts.check(function, topic)?;
    let partition = match question.partition {
        Some(partition) if !(0..partitions as i32).contains(&partition) => {
            bail!("topic {topic} has no partition {partition}, only 0 to {}", partitions.saturating_sub(1))
        }
        Some(partition) => partition,
        None => partition_of_key(key, partitions),
    };
    let home = Partition { topic: topic.to_owned(), partition };
    let read = counts.read(function, &home);
    let committed = admin.committed(&function.group, Some(&read), true).context(
        "asked how far the function has come (a cut under way is waited for, and one that a killed worker left open)",
    )?;
    let own = committed.iter().find(|committed| committed.partition == home);
    let checkpoint = match own.and_then(|own| Some((own.offset?, &own.metadata))) {
        Some((offset, metadata)) => Some(
            Checkpoint::read(offset, metadata)
                .with_context(|| format!("what {} has committed for {home}", function.group))?,
        ),
        None => None,
    };
    let watermark_ms = checkpoint.as_ref().map_or(i64::MIN, |checkpoint| checkpoint.watermark_ms);
    let windows = restore(cluster, &admin, function, (spec, partition, watermark_ms))?;
    let mut report = Report {
        function: name,
        group: function.group.clone(),
        workers: admin.group(&function.group)?.members.len(),
        key: std::str::from_utf8(key).ok().map(str::to_owned),
        key_bytes: key.to_vec(),
        partition: home.to_string(),
        is_gathered: function.stitch_topic.is_some(),
        cut: checkpoint.as_ref().map(|checkpoint| checkpoint.cut),
        sources: function.sources.iter().map(|source| source.name.clone()).collect(),
        max_attempts: function.delivery.retry.max_attempts,
        has_window: function.has_window(),
        is_end_out: matches!(spec.kind, WindowKind::Tumbling { .. } | WindowKind::Hopping { .. }),
        fire: spec.fire,
        on_timeout: spec.stitch.on_timeout.clone(),
        time: time(function, spec, &counts, &windows),
        open: open(question, spec, &windows)?,
        waiting: waiting(question, &windows)?,
        values: values(question, &windows)?,
        timers: windows.timers(key).map(|(name, at)| Timer::new(name, at)).collect(),
        rows: rows(question, &windows)?,
        refused: Vec::new(),
        lag: lag(&admin, committed, &home)?,
        notes: Vec::new(),
        keys: windows.keys(),
    };
    refused(cluster, &admin, question, &mut report)?;
    let has_found = !(report.has_nothing() && report.refused.is_empty());
    if question.partition.is_none() && !report.is_gathered && !has_found {
        report.notes.push(format!(
            "the key is looked for in partition {partition}, where producers put it that partition as Java's do by \
             default; --partition looks in another"
        ));
    }
    Ok(report)
}

/// How many partitions the function's topics have; those that do not exist are left out.
struct Counts(BTreeMap<String, u32>);

impl Counts {
    fn ask(admin: &Admin, function: &Function) -> anyhow::Result<Self> {
        let mut names: Vec<&str> = function.sources.iter().map(|source| source.topic.as_str()).collect();
        names.extend(function.stitch_topic.as_deref());
        names.extend([function.state_topic.as_str(), function.delivery.redrive_topic.as_str()]);
        names.sort_unstable();
        names.dedup();
        let found = admin.topics(&names)?;
        Ok(Self(
            found
                .into_iter()
                .filter_map(|(topic, count)| Some((topic, u32::try_from(count?).ok()?)))
                .collect(),
        ))
    }

    fn of(&self, topic: &str) -> u32 {
        self.0.get(topic).copied().unwrap_or(0)
    }

    /// How many partitions the windows have, if they can be looked at.
    fn check(&self, function: &Function, topic: &str) -> anyhow::Result<u32> {
        let state = function.state_topic.as_str();
        let (of_state, partitions) = (self.of(state), self.of(topic));
        if of_state == 0 {
            bail!("state topic {state} does not exist: the function has not run on this cluster yet");
        }
        if partitions == 0 {
            bail!("topic {topic} does not exist; create it or check the name");
        }
        if of_state != partitions {
            bail!(
                "state topic {state} has {of_state} partitions and {topic} has {partitions}: keys have moved away from \
                 their state; give the function another name or group, to begin anew"
            );
        }
        Ok(partitions)
    }

    /// What an event of a key whose windows are in `home` can be waiting in.
    fn read(&self, function: &Function, home: &Partition) -> Vec<Partition> {
        let mut read = vec![home.clone()];
        let gathered = function.sources.iter().filter(|_| function.stitch_topic.is_some());
        // The group reads no table of which each worker has all rows.
        for topic in gathered.filter(|source| !source.is_read_by_all()).map(|source| &source.topic) {
            let all =
                (0..self.of(topic) as i32).map(|partition| Partition { topic: topic.clone(), partition });
            read.extend(all);
        }
        let redrive = &function.delivery.redrive_topic;
        let all = 0..self.of(redrive) as i32;
        // Brought back events of a source that is gathered elsewhere are in any partition.
        let redriven =
            all.filter(|partition| function.stitch_topic.is_some() || *partition == home.partition);
        read.extend(redriven.map(|partition| Partition { topic: redrive.clone(), partition }));
        read.sort();
        read.dedup();
        read
    }
}

/// The windows of a partition as its last cut left them.
fn restore(
    cluster: &Cluster,
    admin: &Admin,
    function: &Function,
    (spec, partition, watermark_ms): (&WindowSpec, i32, i64),
) -> anyhow::Result<Windows> {
    let mut windows = Windows::new(spec, watermark_ms);
    if function.stitch_topic.is_some() {
        windows = windows.of_sources(function.sources.len());
    }
    let topic = function.state_topic.as_str();
    // The end for readers of committed records can lie before the last cut (KAFKA-10167).
    let whole = scan::whole(admin, &[topic], Isolation::ReadUncommitted)?;
    let whole = whole.into_iter().filter(|stretch| stretch.partition.partition == partition);
    read_all(cluster, &whole.collect::<Vec<_>>(), &mut |record| {
        windows.restore(record.key.unwrap_or_default(), record.value);
        Ok(())
    })?;
    windows.restored().map_err(|cause| {
        let way_out = match cause {
            Damaged::Other { .. } => "; `tidemill reset --state` begins anew",
            _ => "",
        };
        anyhow!("partition {partition} of state topic {topic}: {cause}{way_out}")
    })?;
    Ok(windows)
}

fn read_all(
    cluster: &Cluster,
    stretches: &[Stretch],
    visit: &mut dyn FnMut(&Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let some = stretches.iter().filter(|stretch| stretch.from < stretch.to);
    let starts: Vec<_> = some.map(|stretch| (stretch.partition.clone(), stretch.from)).collect();
    if starts.is_empty() {
        return Ok(());
    }
    let mut consumer = Consumer::reader(cluster, "why")?;
    consumer.assign(&starts)?;
    let _ = scan::read(&mut consumer, stretches, &mut |record| {
        visit(record)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}

/// Where event time stands in the partition, and in those that feed it.
fn time(function: &Function, spec: &WindowSpec, counts: &Counts, windows: &Windows) -> Time {
    let known = |time_ms: i64| (time_ms != i64::MIN).then_some(time_ms);
    let progress = windows.progress();
    let lane_ms = progress.and_then(window::Progress::lane_ms);
    let mut parts = Vec::new();
    let timed = function.sources.iter().enumerate().filter(|(_, source)| source.table.is_none());
    for (place, source) in timed.filter(|_| progress.is_some()) {
        for partition in 0..counts.of(&source.topic) as i32 {
            let told = progress.into_iter().flat_map(|progress| progress.parts());
            let is_it =
                |part: &&window::Part| usize::from(part.source) == place && part.partition == partition;
            let told = told.copied().find(|part| is_it(&part));
            let standing = match told {
                None => Standing::Unheard,
                Some(part) if part.is_idle => Standing::Idle,
                Some(_) => Standing::Active,
            };
            parts.push(Part {
                partition: format!("{}/{partition}", source.topic),
                watermark_ms: told.and_then(|part| known(part.watermark_ms)),
                // The least of those that are active is the lane's.
                holds_time: match told {
                    None => lane_ms.is_none(),
                    Some(part) => !part.is_idle && Some(part.watermark_ms) == lane_ms,
                },
                standing,
            });
        }
    }
    Time {
        watermark_ms: known(windows.watermark_ms()),
        idle_ms: spec.idle.as_millis() as u64,
        goes_by_clock: progress.is_some_and(window::Progress::is_idle),
        parts,
    }
}

fn open(question: &Question<'_>, spec: &WindowSpec, windows: &Windows) -> anyhow::Result<Vec<Open>> {
    let function = question.function;
    let name = |source: u16| name_of(function, source);
    let open = windows.open_of(question.key).into_iter().map(|open| {
        let aggregates = open.aggregates(spec.aggregates.keys().map(String::as_str));
        let events = open.members.iter().map(|kept| {
            let place = kept.place();
            let topic = function.sources.get(usize::from(place.source)).map_or("", |source| &source.topic);
            Ok(Event {
                place: format!("{topic}/{}@{}", place.partition, place.offset),
                time_ms: place.time_ms,
                event: event(question, kept.body())?,
            })
        });
        Ok(Open {
            start_ms: open.bounds.0,
            end_ms: open.bounds.1,
            closes_at_ms: open.closes_at_ms,
            events: open.events,
            takes: open.takes,
            by_source: open.by_source.iter().map(|(source, count)| (name(*source), *count)).collect(),
            missing: open.missing.iter().map(|source| name(*source)).collect(),
            aggregates: aggregates.filter(|_| question.shows_values).map(json).transpose()?,
            members: events.collect::<anyhow::Result<_>>()?,
        })
    });
    open.collect()
}

/// Results that their handler did not take.
fn waiting(question: &Question<'_>, windows: &Windows) -> anyhow::Result<Vec<Waiting>> {
    let own = windows.waiting().filter(|(_, pending)| pending.key == question.key);
    let waiting = own.map(|(_, pending)| {
        let aggregates = pending.aggregates.as_ref().filter(|_| question.shows_values);
        let shown = pending.events.iter().filter(|_| question.shows_values);
        let events = shown.filter_map(|body| event(question, body).transpose());
        Ok(Waiting {
            start_ms: pending.bounds.0,
            end_ms: pending.bounds.1,
            fired: pending.why.as_str(),
            timer: pending.timer.as_ref().map(|(name, at)| Timer::new(name, *at)),
            attempts: pending.attempts,
            events: pending.events.len(),
            missing: pending.missing.iter().map(|source| name_of(question.function, *source)).collect(),
            aggregates: aggregates.map(|object| json(object.to_vec())).transpose()?,
            members: events.collect::<anyhow::Result<_>>()?,
        })
    });
    waiting.collect()
}

/// What the handler keeps.
fn values(question: &Question<'_>, windows: &Windows) -> anyhow::Result<Vec<Kept>> {
    let values = windows.values(question.key).map(|value| {
        Ok(Kept {
            name: value.name.to_owned(),
            expires_at_ms: value.expires_ms,
            bytes: value.bytes.len(),
            value: shown(question, value.bytes)?,
        })
    });
    values.collect()
}

/// What tables have that are kept by the function's key.
fn rows(question: &Question<'_>, windows: &Windows) -> anyhow::Result<Vec<Row>> {
    let rows = windows.rows(question.key).map(|(source, bytes)| {
        let table = name_of(question.function, source);
        Ok(Row { table, bytes: bytes.len(), value: shown(question, bytes)? })
    });
    rows.collect()
}

/// JSON as it is, and anything else as text or in base64.
fn shown(question: &Question<'_>, bytes: &[u8]) -> anyhow::Result<Option<Box<RawValue>>> {
    if !question.shows_values {
        return Ok(None);
    }
    let is_json = serde_json::from_slice::<&RawValue>(bytes).is_ok();
    let text = match is_json {
        true => String::from_utf8(bytes.to_vec())?,
        false => Bytes(Some(bytes.to_vec())).text().to_string(),
    };
    Ok(Some(RawValue::from_string(text)?))
}

fn name_of(function: &Function, source: u16) -> String {
    function.sources.get(usize::from(source)).map_or_else(|| source.to_string(), |source| source.name.clone())
}

/// An event that a window keeps, as samples have it.
fn event(question: &Question<'_>, body: &[u8]) -> anyhow::Result<Option<Box<RawValue>>> {
    if !question.shows_values || body.is_empty() {
        return Ok(None);
    }
    let envelope = Envelope::read(body).context("an event of the state")?;
    Ok(Some(RawValue::from_string(sample::render(&envelope.record()))?))
}

fn json(object: Vec<u8>) -> anyhow::Result<Box<RawValue>> {
    Ok(RawValue::from_string(String::from_utf8(object)?)?)
}

/// What is still to be read where an event of the key could be; the partition of its windows always.
fn lag(admin: &Admin, committed: Vec<Committed>, home: &Partition) -> anyhow::Result<Vec<Lag>> {
    let list = |at| {
        let place = |found: &Committed| (found.partition.topic.clone(), found.partition.partition);
        let places: Vec<_> = committed.iter().map(place).collect();
        let queries: Vec<_> =
            places.iter().map(|(topic, partition)| (topic.as_str(), *partition, at)).collect();
        admin.list_offsets(&queries, Isolation::ReadCommitted)
    };
    let bounds = list(OffsetAt::Earliest)?.into_iter().zip(list(OffsetAt::Latest)?);
    let rows = committed.iter().zip(bounds).map(|(found, (first, end))| {
        let (first, end) = (first.unwrap_or(0), end.unwrap_or(0));
        let from = found.offset.map_or(first, |offset| offset.max(first));
        let (committed, lag) = (found.offset, end.saturating_sub(from).max(0));
        (found.partition == *home, Lag { partition: found.partition.to_string(), committed, end, lag })
    });
    Ok(rows.filter(|(is_home, row)| *is_home || row.lag > 0).map(|(_, row)| row).collect())
}

/// The newest dead letters and late events of the key.
fn refused(
    cluster: &Cluster,
    admin: &Admin,
    question: &Question<'_>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let function = question.function;
    let intakes: Vec<Intake> = function.sources.iter().map(Intake::new).collect();
    let late = function.window.as_ref().and_then(|window| window.late_topic.as_deref());
    let mut topics = vec![function.delivery.dead_letter_topic.as_str()];
    topics.extend(late);
    topics.sort_unstable();
    topics.dedup();
    let mut stretches = scan::whole(admin, &topics, Isolation::ReadCommitted)?;
    if function.sources.iter().all(|source| source.key == KeySpec::Record) {
        // A letter has its record's key, and whoever writes it partitions by that.
        let count = |topic: &str| stretches.iter().filter(|stretch| stretch.partition.topic == topic).count();
        let homes: BTreeMap<String, i32> = topics
            .iter()
            .map(|topic| ((*topic).to_owned(), partition_of_key(question.key, count(topic) as u32)))
            .collect();
        stretches.retain(|stretch| homes.get(&stretch.partition.topic) == Some(&stretch.partition.partition));
    }
    for stretch in &mut stretches {
        if stretch.to - stretch.from > SEARCHED {
            stretch.from = stretch.to - SEARCHED;
            report
                .notes
                .push(format!("only the last {SEARCHED} offsets of {} were searched", stretch.partition));
        }
    }
    let name = function.name.to_string();
    let mut found = Vec::new();
    read_all(cluster, &stretches, &mut |record| {
        let Some(letter) = Letter::of(record, &name).filter(|letter| is_of(letter, question.key, &intakes))
        else {
            return Ok(());
        };
        found.push(Refused {
            topic: record.topic.to_owned(),
            id: letter.id.to_string(),
            time_ms: letter.died_ms,
            reason: letter.reason.to_owned(),
            error: letter.error.to_owned(),
            attempts: letter.attempts,
            event: letter.origin(),
        });
        Ok(())
    })?;
    found.sort_by_key(|refused| std::cmp::Reverse(refused.time_ms));
    found.truncate(question.dead_letters);
    report.refused = found;
    Ok(())
}

/// The function's key of the event that died is this one; of an event without, its record's.
fn is_of(letter: &Letter<'_>, key: &[u8], intakes: &[Intake]) -> bool {
    let topic = letter.place.as_ref().map(|place| place.topic).unwrap_or_default();
    let intake = intakes.iter().find(|intake| intake.source().topic == topic);
    let own = intake.and_then(|intake| {
        letter.with_event(|event| intake.with_key(event, |found| found.map(|found| found == key)))
    });
    own.unwrap_or(letter.record.key == Some(key))
}
