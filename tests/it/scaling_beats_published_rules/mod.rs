//! How many workers a load gets by Tidemill's decision, beside the rules that KEDA, Google's scaler for Cloud Run and Lambda
//! publish: the same group, the same second by second, in virtual time. `cargo test --test it scaling -- --nocapture` prints the
//! table.

use std::process::Command;

use self::group::{Group, Outcome, Terms};
use self::rules::{CloudRun, DRAIN_WITHIN, Keda, Lambda, Rule, Tidemill};

mod group;
mod rules;

/// Records a second to each partition, second by second.
type Load = Box<dyn Fn(u64) -> Vec<f64>>;

struct Scenario {
    name: &'static str,
    terms: Terms,
    seconds: u64,
    load: Load,
}

const PARTITIONS: usize = 12;

/// Workers that do 100/s, are there in 5 s, and stand still for 3 s when one comes or goes.
fn terms() -> Terms {
    Terms { partitions: PARTITIONS, service_rate: 100.0, downstream: None, start_up: 5, rebalance: 3 }
}

/// The same to every partition.
fn evenly(rate: impl Fn(u64) -> f64 + 'static) -> Load {
    Box::new(move |second| vec![rate(second) / PARTITIONS as f64; PARTITIONS])
}

fn steady() -> Scenario {
    Scenario { name: "steady", terms: terms(), seconds: 3600, load: evenly(|_| 330.0) }
}

fn step() -> Scenario {
    let rate = |second| if (300..1200).contains(&second) { 600.0 } else { 50.0 };
    Scenario { name: "step", terms: terms(), seconds: 2400, load: evenly(rate) }
}

/// 30 000 at once every ten minutes, and hardly anything between.
fn bursts() -> Scenario {
    let rate = |second: u64| if second % 600 < 5 { 6000.0 } else { 20.0 };
    Scenario { name: "bursts", terms: terms(), seconds: 3600, load: evenly(rate) }
}

/// The first two days of the flights example, each flight spread over the ten minutes from its schedule.
fn flights() -> Scenario {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/functions/flights/week.jsonl.gz");
    let week = Command::new("gzip").args(["-dc", example]).output().expect("gzip runs");
    let day = 24 * 3600;
    let mut rate = vec![0.0; 2 * day];
    let mut first = None;
    for line in String::from_utf8(week.stdout).expect("text").lines() {
        let flight: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let ms = flight["value"]["sched"].as_u64().expect("a time");
        let first = *first.get_or_insert(ms / 86_400_000 * 86_400_000);
        let second = ms.saturating_sub(first) / 1000;
        rate.iter_mut().skip(second as usize).take(600).for_each(|rate| *rate += 60.0);
    }
    let seconds = rate.len() as u64;
    Scenario {
        name: "flights",
        terms: terms(),
        seconds,
        load: evenly(move |second| rate.get(second as usize).copied().unwrap_or(0.0)),
    }
}

/// A database that takes 300/s, whoever writes.
fn saturated() -> Scenario {
    let terms = Terms { downstream: Some(300.0), ..terms() };
    let rate = |second| if (300..1200).contains(&second) { 600.0 } else { 50.0 };
    Scenario { name: "downstream saturates", terms, seconds: 3600, load: evenly(rate) }
}

/// Most records have the same key.
fn hot() -> Scenario {
    let load = |second| {
        let mut rates = vec![10.0; PARTITIONS];
        if (300..900).contains(&second) {
            rates[0] = 200.0;
        }
        rates
    };
    Scenario { name: "one hot partition", terms: terms(), seconds: 3600, load: Box::new(load) }
}

/// Workers that take 45 s to be there, and 10 s to share out partitions, under waves.
fn slow_starters() -> Scenario {
    let terms = Terms { start_up: 45, rebalance: 10, ..terms() };
    let rate = |second: u64| if second % 480 < 240 { 80.0 } else { 350.0 };
    Scenario { name: "slow starters, waves", terms, seconds: 4800, load: evenly(rate) }
}

fn trickle() -> Scenario {
    let load = |second: u64| {
        let mut rates = vec![0.0; PARTITIONS];
        if second.is_multiple_of(400) {
            rates[(second / 400) as usize % PARTITIONS] = 1.0;
        }
        rates
    };
    Scenario { name: "trickle", terms: terms(), seconds: 7200, load: Box::new(load) }
}

fn run(scenario: &Scenario, rule: &mut dyn Rule) -> Outcome {
    let mut group = Group::new(scenario.terms.clone());
    for second in 0..scenario.seconds {
        let arrivals = (scenario.load)(second);
        group.second(&arrivals);
        let workers = rule.decide(&group, arrivals.iter().sum());
        group.scale_to(workers);
    }
    group.outcome
}

/// The published rules; where they take a lag to aim at, as it comes and as somebody sets it who knows what a worker does.
fn published() -> Vec<Box<dyn Rule>> {
    let known = 100 * DRAIN_WITHIN;
    vec![
        Box::new(Keda::new(10)),
        Box::new(Keda::new(known)),
        Box::new(CloudRun::new(1000)),
        Box::new(CloudRun::new(known)),
        Box::<Lambda>::default(),
    ]
}

/// All loads under Tidemill and the published rules: the scenario, who, what came of it; Tidemill first.
fn table() -> Vec<(Scenario, Vec<(String, Outcome)>)> {
    let scenarios = [steady(), step(), bursts(), flights(), saturated(), hot(), slow_starters(), trickle()];
    let rules = || std::iter::once(Box::new(Tidemill::new()) as Box<dyn Rule>).chain(published());
    let run_all = |scenario: Scenario| {
        let outcomes = rules().map(|mut rule| (rule.name(), run(&scenario, rule.as_mut()))).collect();
        (scenario, outcomes)
    };
    scenarios.into_iter().map(run_all).collect()
}

fn print(table: &[(Scenario, Vec<(String, Outcome)>)]) {
    let head = ["longest wait s", "worker-seconds", "rebalances", "most workers"];
    println!("{:22}{:28}{:>16}{:>16}{:>12}{:>14}", "load", "rule", head[0], head[1], head[2], head[3]);
    for (scenario, outcomes) in table {
        for (rule, outcome) in outcomes {
            let Outcome { longest_wait, worker_seconds, rebalances, most_workers } = outcome;
            let figures = format!("{longest_wait:>16}{worker_seconds:>16}{rebalances:>12}{most_workers:>14}");
            println!("{:22}{rule:28}{figures}", scenario.name);
        }
    }
}

#[test]
fn no_published_rule_is_better_on_all_three() {
    let table = table();
    print(&table);
    let mut faults = Vec::new();
    let mut rebalances = vec![0; published().len() + 1];
    for (Scenario { name, .. }, outcomes) in &table {
        let [(_, own), others @ ..] = outcomes.as_slice() else { panic!("no outcome") };
        let figures = |of: &Outcome| [of.longest_wait, of.worker_seconds, of.rebalances];
        for (rule, other) in others {
            let pairs = || figures(other).into_iter().zip(figures(own));
            if pairs().all(|(other, own)| other <= own) && pairs().any(|(other, own)| other < own) {
                faults.push(format!("{name}: {rule} is better"));
            }
        }
        // Nobody drains much sooner.
        let soonest = others.iter().map(|(_, other)| other.longest_wait).min().unwrap_or(0);
        if own.longest_wait as f64 > soonest as f64 * 1.05 {
            faults.push(format!("{name}: waits {} s, others {soonest} s", own.longest_wait));
        }
        rebalances.iter_mut().zip(outcomes).for_each(|(sum, (_, outcome))| *sum += outcome.rebalances);
    }
    // Nobody gets by with fewer rebalances, all in all.
    if rebalances.iter().any(|other| *other < rebalances[0]) {
        faults.push(format!("rebalances in all: {rebalances:?}"));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_steady_load_is_left_alone() {
    let mut tidemill = Tidemill::new();
    let outcome = run(&steady(), &mut tidemill);
    let (last, workers, _) = tidemill.decisions.last().expect("a decision");
    assert!(*last < 300 && *workers == 4 && outcome.rebalances <= 3, "{:?}", tidemill.decisions);
}

#[test]
fn workers_that_bring_no_more_go_again() {
    let mut tidemill = Tidemill::new();
    run(&saturated(), &mut tidemill);
    // Three can do what the database takes; a fourth is tried now and then.
    let later = tidemill.decisions.iter().filter(|(second, ..)| *second > 330);
    let most = later.clone().map(|(_, workers, _)| *workers).max();
    assert_eq!(most, Some(4), "{:?}", tidemill.decisions);
    assert!(later.count() <= 8, "{:?}", tidemill.decisions);
}
