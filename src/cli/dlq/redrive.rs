//! `tidemill dlq redrive`: brings dead letters back, each exactly once.
//!
//! Letters go in transactions of some hundred, and each transaction also commits, for a group that nobody joins, which
//! letters went. The transactional id is the function's: whoever begins to redrive fences who did before, which aborts
//! what that one left open, and only then asks what went. So a redrive that was killed is simply run again, and
//! of two at the same time the first one is stopped before anything could be sent twice.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::choice::Choice;
use super::letter::{Id, Kept, Letter};
use super::list::{Summary, line, width};
use super::order::{Entry, arrange};
use super::progress::Redriven;
use super::read::{LOOK_WITHIN, Log};
use super::{Global, Output, Which, redrive_group};
use crate::cli::invoke::place;
use crate::cli::{connect, run};
use crate::kafka::{
    Admin, Cluster, Error, Origin, Produce, Producer, ProducerConfig, TopicIndex, message_limits,
};
use crate::model::{Clock as _, Function, Header, SystemClock};
use crate::pipeline::{FUNCTION, Place, RESULT, ROUND, own_headers_of};
use crate::runtime::make_redrive_topic;

/// As many letters go in one transaction, or as many bytes.
const MOST_LETTERS: usize = 500;
const MOST_BYTES: usize = 4 << 20;
/// How often it is said how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the broker lets a killed redrive hold up readers, unless it is run again before.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long brokers may take to end what an earlier redrive left open.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// How long they may take for a transaction's letters.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

/// Bring dead letters back
///
/// Writes the events as they were to a topic that the function alone reads beside its sources, where each takes the
/// way of the source it came from. What went is noted in the same transaction: a letter goes back once, however often
/// this is run or killed, whatever the topic. One that dies again is a new dead letter. The function need not run.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill dlq redrive functions/ride-receipts --reason rejected --dry-run
  tidemill dlq redrive functions/ride-receipts --reason rejected
  tidemill dlq redrive functions/ride-receipts 0@5 0@9
  tidemill dlq redrive functions/ride-receipts --until 1d --to rides-to-look-at

Events of one key that come from one partition go in their order.

What went is kept as offsets of the group `<group>.redrive` on the dead-letter topic, which nobody joins. Kafka forgets
them when nothing was redriven for offsets.retention.minutes (7 days by default); then what is still in the redrive
topic counts.

Exit codes: 0 all that was chosen went; 1 something could not go, or an error; 2 an invalid manifest.")]
pub struct Redrive {
    #[command(flatten)]
    which: Which,
    /// These only, as `dlq list` shows them; all that the filters take when left out
    #[arg(value_name = "PARTITION@OFFSET")]
    ids: Vec<Id>,
    #[command(flatten)]
    choice: Choice,
    /// To this topic, instead of the one that the function reads
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// List what would go, in its order, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is to be done.
struct Plan {
    /// Each partition's letters, and whether they went.
    letters: Vec<BTreeMap<i64, bool>>,
    /// Those that go, in their order.
    entries: Vec<Entry>,
    /// How many have gone.
    sent: usize,
    /// Chosen, but they went already.
    went: usize,
    /// Chosen, and why they cannot go.
    stuck: Vec<(Id, String)>,
}

impl Redrive {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let function = self.which.function()?;
        run::init_logs(&global.platform()?)?;
        // The embedded broker keeps no transactional offsets, so nothing could be promised there.
        let cluster = connect::cluster(global)?;
        let target = self.to.as_deref().unwrap_or(&function.delivery.redrive_topic);
        let writer = if self.dry_run { None } else { Some(Writer::open(&function, &cluster, target)?) };
        let group = redrive_group(&function);
        let mut log = Log::open(&cluster, &function.delivery.dead_letter_topic, &group)?;
        let wait = if self.dry_run { LOOK_WITHIN } else { BEGIN_WITHIN };
        let known = match log.redriven(wait)? {
            Some(noted) => Known { noted, told: HashSet::new() },
            None => Known::forgotten(&function, &cluster, &log)?,
        };
        let mut plan = self.plan(&function, &mut log, &known)?;
        match writer {
            None => self.show(global, &function, &mut log, &plan)?,
            Some(mut writer) => {
                let entries = std::mem::take(&mut plan.entries);
                let mut pace = Pace::default();
                for chunk in chunks(&entries) {
                    writer.send(&mut log, &mut plan.letters, chunk).with_context(|| {
                        let (sent, total) = (plan.sent, entries.len());
                        format!(
                            "{sent} of {total} dead letters of {} were redriven to {target}",
                            function.name
                        )
                    })?;
                    plan.sent += chunk.len();
                    pace.tell(plan.sent, entries.len());
                }
                report(global, &function, target, &plan);
            }
        }
        for (id, reason) in &plan.stuck {
            eprintln!("tidemill: {id} cannot go: {reason}");
        }
        Ok(if plan.stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Reads all letters, and finds those that go.
    fn plan(&self, function: &Function, log: &mut Log, known: &Known) -> anyhow::Result<Plan> {
        let name = function.name.to_string();
        let mut letters = vec![BTreeMap::new(); log.partitions()];
        let mut plan = Plan { letters: Vec::new(), entries: Vec::new(), sent: 0, went: 0, stuck: Vec::new() };
        log.read(&mut |record| {
            let Some(letter) = Letter::of(record, &name) else { return Ok(ControlFlow::Continue(())) };
            let id = letter.id;
            let went = known.contains(&letter);
            letters[id.partition as usize].insert(id.offset, went);
            let is_chosen = self.choice.takes(&letter) && (self.ids.is_empty() || self.ids.contains(&id));
            match is_chosen.then(|| self.obstacle(&letter, function)) {
                None => {}
                Some(_) if went => plan.went += 1,
                Some(Some(reason)) => plan.stuck.push((id, reason)),
                Some(None) => plan.entries.push(Entry::of(&letter)),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for id in &self.ids {
            let is_there =
                letters.get(id.partition as usize).is_some_and(|those| those.contains_key(&id.offset));
            if !is_there {
                bail!("no dead letter {id} of {name} in {}; `dlq list` shows what there is", log.topic());
            }
        }
        arrange(&mut plan.entries);
        plan.entries.truncate(self.choice.limit.unwrap_or(usize::MAX));
        Ok(Plan { letters, ..plan })
    }

    /// Why a letter cannot go.
    fn obstacle(&self, letter: &Letter<'_>, function: &Function) -> Option<String> {
        let place = match &letter.place {
            Ok(place) => place,
            Err(error) => return Some(error.to_string()),
        };
        let result = letter.record.headers().iter().find(|header| header.name == RESULT);
        if result.is_some_and(|result| result.value.is_none()) {
            let message =
                "the window was too large to be kept whole in its dead letter: its value shows what it held";
            return Some(message.to_owned());
        }
        let is_read = result.is_some() || function.sources.iter().any(|source| source.topic == place.topic);
        (self.to.is_none() && !is_read)
            .then(|| format!("it came from topic {}, which no source of the function reads", place.topic))
    }

    /// What would go.
    fn show(&self, global: &Global, function: &Function, log: &mut Log, plan: &Plan) -> anyhow::Result<()> {
        let (name, topic) = (function.name.to_string(), log.topic().to_owned());
        let mut summary = Summary::default();
        for entries in chunks(&plan.entries) {
            let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
            for kept in log.fetch(&ids)? {
                let headers = kept.headers();
                let record = kept.record(&topic, &headers);
                let letter = Letter::of(&record, &name).context("a dead letter has changed")?;
                summary.count(&letter, false);
                match global.output {
                    Output::Json => println!("{}", letter.json(Some(false))),
                    Output::Text => println!("{}", line(&letter, false, width())),
                }
            }
        }
        if global.output == Output::Text {
            let went = if plan.went == 0 { String::new() } else { format!("; {} went before", plan.went) };
            match plan.entries.len() {
                0 => println!("would redrive nothing of {name} in {topic}{went}"),
                _ => println!("would redrive {}{went}", summary.text(&format!("{name} in {topic}"))),
            }
        }
        Ok(())
    }
}

/// Says now and then how far it is.
struct Pace {
    clock: SystemClock,
    next: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { clock: SystemClock::start(), next: Duration::ZERO }
    }
}

impl Pace {
    fn tell(&mut self, sent: usize, total: usize) {
        let now = self.clock.now().elapsed;
        if sent < total && now >= self.next {
            self.next = now + TELL_EVERY;
            eprintln!("tidemill: {sent} of {total} redriven");
        }
    }
}

fn report(global: &Global, function: &Function, target: &str, plan: &Plan) {
    let name = function.name.to_string();
    if global.output == Output::Json {
        let (sent, went, stuck) = (plan.sent, plan.went, plan.stuck.len());
        println!(
            "{}",
            json!({ "function": name, "topic": target, "redriven": sent, "before": went, "cannot": stuck })
        );
        return;
    }
    let sent = plan.sent;
    let noun = if sent == 1 { "dead letter" } else { "dead letters" };
    let mut text = format!("{sent} {noun} of {name} redriven to {target}");
    if plan.went > 0 {
        text += &format!("; {} went before", plan.went);
    }
    if !plan.stuck.is_empty() {
        text += &format!("; {} cannot go", plan.stuck.len());
    }
    println!("{text}");
}

/// Which letters went.
struct Known {
    /// By the group's notes.
    noted: Vec<Redriven>,
    /// By what is in the redrive topic: letters with their events, since an offset may be another's after the
    /// dead-letter topic was made anew.
    told: HashSet<(Id, String, u32)>,
}

impl Known {
    /// What went, as far as the redrive topic still tells, when the group has forgotten it.
    fn forgotten(function: &Function, cluster: &Cluster, log: &Log) -> anyhow::Result<Self> {
        let mut known = Self { noted: vec![Redriven::default(); log.partitions()], told: HashSet::new() };
        let topic = function.delivery.redrive_topic.as_str();
        if !Admin::new(cluster)?.topics(&[topic])?.into_values().any(|found| found.is_some()) {
            return Ok(known);
        }
        let name = function.name.to_string();
        Log::open(cluster, topic, &redrive_group(function))?.read(&mut |record| {
            let stood = record.header(LETTER).and_then(|header| std::str::from_utf8(header.value?).ok());
            if let Some((partition, offset)) = stood.and_then(place)
                && partition.topic == log.topic()
                && let Some(letter) = Letter::of(record, &name)
            {
                let id = Id { partition: partition.partition, offset };
                known.told.insert((id, letter.origin(), letter.round()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(known)
    }

    fn contains(&self, letter: &Letter<'_>) -> bool {
        let noted = self.noted.get(letter.id.partition as usize);
        noted.is_some_and(|noted| noted.contains(letter.id.offset))
            || self.told.contains(&(letter.id, letter.origin(), letter.round() + 1))
    }
}

/// Cuts the list into what goes in one transaction.
fn chunks(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(MOST_LETTERS).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += entry.bytes.max(1);
            is_first || bytes <= MOST_BYTES
        });
        let (chunk, others) = rest.split_at(fits.count());
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Makes the function's redrive topic if it is missing. Its partitions are read by whoever reads those of the first
/// source, so it may not have more.
fn check_partitions(function: &Function, cluster: &Cluster, admin: &Admin) -> anyhow::Result<()> {
    let source = function.sources.first().map_or("", |source| source.topic.as_str());
    let found = admin.topics(&[source])?.into_values().flatten().next();
    let most = found.with_context(|| format!("source topic {source} does not exist"))?;
    let count = make_redrive_topic(function, cluster, admin)?;
    if count > most {
        bail!(
            "topic {} has {count} partitions and {source} {most}: those beyond would not be read; delete it, to have \
             it made anew",
            function.delivery.redrive_topic
        );
    }
    Ok(())
}

/// The dead letter that a redriven record was, `TOPIC/PARTITION@OFFSET`.
const LETTER: &str = "tidemill-dead-letter";

/// The writing side.
struct Writer<'a> {
    function: &'a Function,
    target: &'a str,
    producer: Producer,
    topic: TopicIndex,
    /// How many the target has.
    partitions: i32,
}

impl<'a> Writer<'a> {
    /// Makes sure of the topic, and ends what an earlier redrive left open.
    fn open(function: &'a Function, cluster: &Cluster, target: &'a str) -> anyhow::Result<Self> {
        let admin = Admin::new(cluster)?;
        if target == function.delivery.dead_letter_topic {
            bail!("{target} is where the dead letters are; give another topic");
        }
        if target == function.delivery.redrive_topic {
            check_partitions(function, cluster, &admin)?;
        } else if admin.topics(&[target])?.into_values().flatten().next().is_none() {
            bail!("topic {target} does not exist; create it or check the name");
        }
        let mut producer = Producer::new(&ProducerConfig {
            cluster,
            client_id: "tidemill-dlq",
            transactional_id: Some(&redrive_group(function)),
            transaction_timeout: TRANSACTION_TIMEOUT,
            limits: Some(message_limits(cluster, &[target.to_owned()])),
            settings: &function.kafka.producer,
        })?;
        producer.init_transactions(BEGIN_WITHIN)?;
        let topic = producer.topic(target)?;
        let partitions = admin.topics(&[target])?.into_values().flatten().next().unwrap_or(0);
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        Ok(Self { function, target, producer, topic, partitions })
    }

    /// Sends letters, and notes in the same transaction that they went.
    fn send(
        &mut self,
        log: &mut Log,
        letters: &mut [BTreeMap<i64, bool>],
        entries: &[Entry],
    ) -> anyhow::Result<()> {
        let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
        for id in &ids {
            letters[id.partition as usize].insert(id.offset, true);
        }
        let commits = log.commits(letters).context(
            "too many that went and that did not alternate; let the oldest go first (without --reason and --key, \
             with --until), or fewer at once",
        )?;
        let kept = log.fetch(&ids)?;
        self.producer.begin().map_err(|error| self.explain(error))?;
        for (kept, id) in kept.iter().zip(&ids) {
            self.produce(kept, *id, log.topic())?;
        }
        let is_flushed = self.producer.flush(WRITTEN_WITHIN);
        let refusals = self.producer.refusals();
        if let Some(error) = self.producer.fatal().cloned() {
            return Err(self.explain(error));
        }
        if let Some(first) = refusals.first() {
            let id = Id { partition: i32::from(first.origin.lane()), offset: first.origin.offset() };
            let reason = format!("topic {} refused {id}: {}", first.topic, first.reason);
            self.abort();
            bail!("{reason}");
        }
        if !is_flushed {
            self.abort();
            bail!("topic {} did not take them within {WRITTEN_WITHIN:?}; run it again", self.target);
        }
        let sent = self.producer.send_offsets_of_nobody(&commits, log.consumer());
        sent.and_then(|()| self.producer.commit()).map_err(|error| self.explain(error))
    }

    /// The event as it was, with where it stood, and the round.
    fn produce(&mut self, kept: &Kept, id: Id, topic: &str) -> anyhow::Result<()> {
        let headers = kept.headers();
        let record = kept.record(topic, &headers);
        let name = self.function.name.to_string();
        let letter = Letter::of(&record, &name).context("a dead letter has changed")?;
        let Place { topic: origin, partition, offset, timestamp_ms, round } = letter.place?;
        let added = [
            (FUNCTION, name.clone()),
            ("tidemill-topic", origin.to_owned()),
            ("tidemill-partition", partition.to_string()),
            ("tidemill-offset", offset.to_string()),
            ("tidemill-timestamp", timestamp_ms.to_string()),
            (ROUND, (round + 1).to_string()),
            (LETTER, format!("{topic}/{id}")),
        ];
        let mut all = own_headers_of(&headers);
        all.extend(headers.iter().filter(|header| header.name == RESULT));
        all.extend(added.iter().map(|(name, value)| Header { name, value: Some(value.as_bytes()) }));
        self.producer.produce(&Produce {
            topic: self.topic,
            partition: self.partition_of(partition),
            key: record.key,
            value: record.value,
            headers: &all,
            // Now: with the event's own it could be older than the topic keeps.
            timestamp_ms: None,
            origin: Origin::new(id.partition as u16, id.offset),
        });
        Ok(())
    }

    /// An event that is gathered goes back to where its key's windows are: to the partition of the same number.
    fn partition_of(&self, origin: i32) -> Option<i32> {
        let is_home = self.target == self.function.delivery.redrive_topic && origin < self.partitions;
        (is_home && self.function.window.is_some()).then_some(origin)
    }

    fn abort(&mut self) {
        if let Err(error) = self.producer.abort() {
            tracing::warn!("the transaction was not aborted: {error}; the next redrive ends it");
        }
    }

    /// What an error means to whoever redrives.
    fn explain(&self, error: Error) -> anyhow::Error {
        let group = redrive_group(self.function);
        match error {
            Error::Fenced(_) => anyhow!(
                "another redrive of {} was begun, so this one stops: what it noted stands, the other goes on with the \
                 rest",
                self.function.name
            ),
            Error::Stale(reason) => anyhow!(
                "group {group} has members or was moved from outside ({reason}); it only notes what was redriven: \
                 stop them, and run this again"
            ),
            Error::Unknown(reason) => {
                anyhow!("whether the last ones went is not known: {reason}; run it again, none goes twice")
            }
            error => anyhow!(error).context("run it again; none goes twice"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::dead;
    use super::*;

    #[test]
    fn a_transaction_takes_so_many_letters_or_so_many_bytes() {
        let kept = dead(Id { partition: 0, offset: 5 }, &[]);
        let headers = kept.headers();
        let record = kept.record("f.dlq", &headers);
        let entry = Entry::of(&Letter::of(&record, "default/f").expect("a letter"));
        let sizes = |entries: &[Entry]| chunks(entries).map(<[Entry]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![entry; 1050]), [500, 500, 50]);
        let large = Entry { bytes: MOST_BYTES - 1, ..entry };
        let larger = Entry { bytes: MOST_BYTES * 2, ..entry };
        assert_eq!(sizes(&[large, entry, larger, entry, entry]), [1, 1, 1, 2]);
    }
}
