//! Stitches as data: what comes in, what comes out. The cases of Apache Kafka Streams are those of its stream-stream joins
//! (apache/kafka@1eb7644349cb, streams/src/test/java/org/apache/kafka/streams/kstream/internals, Apache-2.0); J-1 to J-8 are
//! the rules read in KStreamKStreamJoin and JoinWindowsTest there.
//!
//! Every source partition in `holds` holds time from the start: the lane has no watermark before each of them was heard of.
//! An event is judged by its own source partition's watermark before it (if the partition was idle: the greater of that and
//! the lane's), placed, then moves its partition; the lane's watermark is the least of those that are not idle, and what
//! that closes is given before the next step. Results are in order, each with the number of the step (from 0) that gave
//! it; what is still open after the last step is not listed.

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Event(Event),
    /// A source partition was read to its end and has been quiet: it holds nothing back, until it speaks again.
    Idle {
        source: &'static str,
        partition: i32,
    },
    /// All are idle from here on, and the clock has brought event time so far.
    Tick(i64),
}

#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub source: &'static str,
    pub partition: i32,
    pub key: &'static str,
    /// What tells it from others; `None` is a null value.
    pub value: Option<&'static str>,
    pub time: i64,
    pub is_late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub step: usize,
    pub key: &'static str,
    /// First event's time, and `within` later.
    pub bounds: (i64, i64),
    /// `complete`, `close` (ended with all that is needed) or `timeout`.
    pub fired: &'static str,
    /// Of `complete` the newest event's time (J-2), else the end.
    pub time: i64,
    /// By time, source (in the order of `holds`), partition, offset.
    pub events: &'static [(&'static str, &'static str)],
    pub missing: &'static [&'static str],
}

pub struct StitchCase {
    pub name: &'static str,
    /// Which system, which file; or which rule.
    pub source: &'static str,
    /// `spec.window` without `onTimeout`, which is `call` throughout.
    pub window: &'static str,
    pub holds: &'static [(&'static str, i32)],
    pub steps: &'static [Step],
    pub given: &'static [Given],
}

const fn ev(source: &'static str, key: &'static str, value: &'static str, time: i64) -> Step {
    at(source, 0, key, value, time)
}

const fn at(source: &'static str, partition: i32, key: &'static str, value: &'static str, time: i64) -> Step {
    Step::Event(Event { source, partition, key, value: Some(value), time, is_late: false })
}

const fn late(source: &'static str, key: &'static str, value: &'static str, time: i64) -> Step {
    Step::Event(Event { source, partition: 0, key, value: Some(value), time, is_late: true })
}

const fn null(source: &'static str, key: &'static str, time: i64) -> Step {
    Step::Event(Event { source, partition: 0, key, value: None, time, is_late: false })
}

const fn idle(source: &'static str) -> Step {
    Step::Idle { source, partition: 0 }
}

type Events = &'static [(&'static str, &'static str)];

/// `within` is 100 wherever nothing else is said.
const fn complete(step: usize, key: &'static str, first: i64, time: i64, events: Events) -> Given {
    Given { step, key, bounds: (first, first + 100), fired: "complete", time, events, missing: &[] }
}

const fn closed(step: usize, key: &'static str, first: i64, events: Events) -> Given {
    Given { step, key, bounds: (first, first + 100), fired: "close", time: first + 100, events, missing: &[] }
}

const fn timeout(
    step: usize,
    key: &'static str,
    first: i64,
    events: Events,
    missing: &'static [&'static str],
) -> Given {
    Given { step, key, bounds: (first, first + 100), fired: "timeout", time: first + 100, events, missing }
}

const TWO: &[(&str, i32)] = &[("left", 0), ("right", 0)];
const THREE: &[(&str, i32)] = &[("left", 0), ("right", 0), ("promo", 0)];
const LEFT: &[&str] = &["left"];
const RIGHT: &[&str] = &["right"];
const BOTH: &[&str] = &["left", "right"];

/// Left and right, both needed, at once when both are there, the next stitch for a second one.
const PAIR: StitchCase = StitchCase {
    name: "",
    source: "",
    window: "stitch: {within: 100ms, need: [left, right]}",
    holds: TWO,
    steps: &[],
    given: &[],
};

const J02: &[Step] = &[
    ev("left", "0", "A0", 0),
    ev("left", "1", "A1", 0),
    ev("right", "0", "a0", 0),
    ev("right", "1", "a1", 0),
    ev("left", "0", "B0", 0),
    ev("left", "1", "B1", 0),
    ev("left", "2", "B2", 0),
    ev("left", "3", "B3", 0),
    ev("right", "0", "b0", 0),
    ev("right", "1", "b1", 0),
    ev("right", "2", "b2", 0),
    ev("right", "3", "b3", 0),
    ev("left", "0", "C0", 0),
    ev("left", "1", "C1", 0),
    ev("left", "2", "C2", 0),
    ev("left", "3", "C3", 0),
    ev("right", "0", "c0", 0),
    ev("right", "1", "c1", 0),
    Step::Tick(100),
    Step::Tick(101),
];

pub const CASES: &[StitchCase] = &[
    // The cases of Kafka Streams. There every left event is paired with every right one in reach (J02: 22 pairs);
    // here an
    // event is in one stitch.
    StitchCase {
        name: "J02: one to one, in the order of arrival",
        source: "KStreamKStreamJoinTest.testJoin",
        steps: J02,
        given: &[
            complete(2, "0", 0, 0, &[("left", "A0"), ("right", "a0")]),
            complete(3, "1", 0, 0, &[("left", "A1"), ("right", "a1")]),
            complete(8, "0", 0, 0, &[("left", "B0"), ("right", "b0")]),
            complete(9, "1", 0, 0, &[("left", "B1"), ("right", "b1")]),
            complete(10, "2", 0, 0, &[("left", "B2"), ("right", "b2")]),
            complete(11, "3", 0, 0, &[("left", "B3"), ("right", "b3")]),
            complete(16, "0", 0, 0, &[("left", "C0"), ("right", "c0")]),
            complete(17, "1", 0, 0, &[("left", "C1"), ("right", "c1")]),
            timeout(19, "2", 0, &[("left", "C2")], RIGHT),
            timeout(19, "3", 0, &[("left", "C3")], RIGHT),
        ],
        ..PAIR
    },
    StitchCase {
        name: "J02: collected until the end, the 22 pairs are left times right of each key: 9 + 9 + 2 + 2",
        source: "KStreamKStreamJoinTest.testJoin",
        window: "stitch: {within: 100ms, need: [left, right], repeat: collect}, fire: {at: close}",
        steps: J02,
        given: &[
            closed(
                19,
                "0",
                0,
                &[
                    ("left", "A0"),
                    ("left", "B0"),
                    ("left", "C0"),
                    ("right", "a0"),
                    ("right", "b0"),
                    ("right", "c0"),
                ],
            ),
            closed(
                19,
                "1",
                0,
                &[
                    ("left", "A1"),
                    ("left", "B1"),
                    ("left", "C1"),
                    ("right", "a1"),
                    ("right", "b1"),
                    ("right", "c1"),
                ],
            ),
            closed(19, "2", 0, &[("left", "B2"), ("left", "C2"), ("right", "b2")]),
            closed(19, "3", 0, &[("left", "B3"), ("left", "C3"), ("right", "b3")]),
        ],
        ..PAIR
    },
    StitchCase {
        name: "J07: the slower source holds time; the unmatched of both sides are told; one partner is enough for one",
        source: "KStreamKStreamLeftJoinTest.testLeftJoinDuplicates (left join, grace 10)",
        window: "stitch: {within: 100ms, need: [left, right]}, grace: 10ms",
        steps: &[
            ev("left", "0", "A0", 0),
            ev("left", "0", "A0-0", 0),
            ev("right", "1", "a0", 111),
            ev("right", "2", "dummy", 500),
            ev("left", "2", "A2", 1000),
            ev("left", "2", "A2-0", 1000),
            ev("right", "2", "a2", 1001),
            // Kafka Streams takes it, and finds nothing to join.
            late("right", "3", "a3", 315),
            Step::Tick(1110),
            Step::Tick(1111),
        ],
        given: &[
            timeout(4, "0", 0, &[("left", "A0")], RIGHT),
            timeout(4, "0", 0, &[("left", "A0-0")], RIGHT),
            timeout(4, "1", 111, &[("right", "a0")], LEFT),
            complete(6, "2", 1000, 1001, &[("left", "A2"), ("right", "a2")]),
            timeout(6, "2", 500, &[("right", "dummy")], LEFT),
            timeout(9, "2", 1000, &[("left", "A2-0")], RIGHT),
        ],
        ..PAIR
    },
    StitchCase {
        name: "J19: an event is placed before it moves time; timeouts are in the order of their ends",
        source: "KStreamKStreamOuterJoinTest.testLeftExpiredNonJoinedRecordsAreEmittedByTheLeftProcessor (outer join)",
        steps: &[
            ev("left", "0", "A0", 1),
            ev("left", "1", "A1", 2),
            ev("left", "0", "A0-0", 3),
            ev("right", "1", "11", 3),
            ev("left", "2", "dummy", 401),
            ev("right", "2", "100", 401),
        ],
        given: &[
            complete(3, "1", 2, 3, &[("left", "A1"), ("right", "11")]),
            complete(5, "2", 401, 401, &[("left", "dummy"), ("right", "100")]),
            timeout(5, "0", 1, &[("left", "A0")], RIGHT),
            timeout(5, "0", 3, &[("left", "A0-0")], RIGHT),
        ],
        ..PAIR
    },
    // J-1: both ends in, whichever comes first.
    StitchCase {
        name: "exactly within apart",
        source: "J-1, KStreamKStreamJoin",
        steps: &[ev("left", "k", "L", 0), ev("right", "k", "R", 100)],
        given: &[complete(1, "k", 0, 100, &[("left", "L"), ("right", "R")])],
        ..PAIR
    },
    StitchCase {
        name: "exactly within apart, the right one earlier in time and later in coming",
        source: "J-1, KStreamKStreamJoin",
        steps: &[ev("left", "k", "L", 100), ev("right", "k", "R", 0)],
        given: &[complete(1, "k", 0, 100, &[("right", "R"), ("left", "L")])],
        ..PAIR
    },
    StitchCase {
        name: "one further apart",
        source: "J-1, KStreamKStreamJoin",
        steps: &[ev("left", "k", "L", 0), ev("right", "k", "R", 101), Step::Tick(101), Step::Tick(202)],
        given: &[timeout(2, "k", 0, &[("left", "L")], RIGHT), timeout(3, "k", 101, &[("right", "R")], LEFT)],
        ..PAIR
    },
    StitchCase {
        name: "one further apart, the right one earlier",
        source: "J-1, KStreamKStreamJoin",
        steps: &[ev("left", "k", "L", 101), ev("right", "k", "R", 0), Step::Tick(202)],
        given: &[timeout(2, "k", 0, &[("right", "R")], LEFT), timeout(2, "k", 101, &[("left", "L")], RIGHT)],
        ..PAIR
    },
    StitchCase {
        name: "keys do not meet",
        source: "J-1, KStreamKStreamJoin",
        steps: &[ev("left", "a", "L", 0), ev("right", "b", "R", 0), Step::Tick(101)],
        given: &[timeout(2, "a", 0, &[("left", "L")], RIGHT), timeout(2, "b", 0, &[("right", "R")], LEFT)],
        ..PAIR
    },
    // J-3: an end, and grace.
    StitchCase {
        name: "open at end and grace, ended after it",
        source: "J-3, KStreamKStreamJoin; Tidemill: both ends in, watermark > end + grace",
        window: "stitch: {within: 100ms, need: [left, right]}, grace: 10ms",
        steps: &[
            ev("left", "k", "L", 0),
            ev("left", "x", "X", 110),
            ev("right", "y", "Y", 110),
            ev("right", "k", "R", 100),
            ev("left", "k", "M", 0),
            ev("left", "x", "Z", 111),
            ev("right", "y", "W", 111),
            late("left", "k", "N", 0),
        ],
        given: &[
            complete(3, "k", 0, 100, &[("left", "L"), ("right", "R")]),
            timeout(6, "k", 0, &[("left", "M")], RIGHT),
        ],
        ..PAIR
    },
    // J-4.
    StitchCase {
        name: "a late event joins nobody, though a partner still waits",
        source: "J-4, KStreamKStreamJoin (there it joins every partner that is still kept)",
        steps: &[
            ev("right", "k", "R", 50),
            ev("left", "x", "X", 101),
            // By its own partition's time every stitch that it could be in has ended: it would end at 100.
            late("left", "k", "L", 0),
            ev("left", "k", "M", 1),
        ],
        given: &[complete(3, "k", 1, 50, &[("left", "M"), ("right", "R")])],
        // Read into it: a stitch that an event joins ends no later than within after that event, so it is
        // late by its own time alone.
        ..PAIR
    },
    StitchCase {
        name: "it does not matter which source was read first: left before right",
        source: "Tidemill: closing by the lane's watermark, lateness by the event's own source partition's",
        steps: &[
            ev("left", "k", "L", 0),
            ev("left", "x", "X", 5000),
            ev("right", "k", "R", 10),
            ev("right", "y", "Y", 5000),
        ],
        given: &[complete(2, "k", 0, 10, &[("left", "L"), ("right", "R")])],
        ..PAIR
    },
    StitchCase {
        name: "it does not matter which source was read first: right before left",
        source: "Tidemill: closing by the lane's watermark, lateness by the event's own source partition's",
        steps: &[
            ev("right", "k", "R", 10),
            ev("right", "y", "Y", 5000),
            ev("left", "k", "L", 0),
            ev("left", "x", "X", 5000),
        ],
        given: &[complete(2, "k", 0, 10, &[("left", "L"), ("right", "R")])],
        ..PAIR
    },
    // J-8. A null key is a dead letter before it comes here; Kafka Streams skips it, or emits it as unmatched.
    StitchCase {
        name: "a null value is an event",
        source: "J-8, KStreamKStreamJoin (there it is skipped)",
        steps: &[ev("left", "k", "L", 0), null("right", "k", 1)],
        given: &[complete(1, "k", 0, 1, &[("left", "L"), ("right", "")])],
        ..PAIR
    },
    // Clock: several source partitions and idleness.
    StitchCase {
        name: "the least of the source partitions is the lane's time",
        source: "Tidemill: the lane's watermark (Flink, Beam: the least of the inputs; Kafka Streams: the newest of all)",
        holds: &[("left", 0), ("left", 1), ("right", 0)],
        steps: &[
            ev("left", "k", "L", 0),
            ev("left", "x", "X", 500),
            ev("right", "y", "Y", 500),
            // Left 1 has not been heard of: it holds time.
            at("left", 1, "z", "Z", 100),
            at("left", 1, "z", "V", 101),
        ],
        given: &[timeout(4, "k", 0, &[("left", "L")], RIGHT)],
        ..PAIR
    },
    StitchCase {
        name: "an idle source partition holds nothing back, and is judged by the lane when it speaks again",
        source: "the rule of idle",
        steps: &[
            ev("left", "k", "L", 0),
            ev("left", "x", "X", 500),
            idle("right"),
            late("right", "k", "R", 10),
            // A late one moves nothing, but whose it is holds time again once one is in.
            ev("right", "x", "P", 450),
            ev("left", "y", "Y", 700),
            ev("right", "q", "Q", 460),
        ],
        given: &[
            timeout(2, "k", 0, &[("left", "L")], RIGHT),
            complete(4, "x", 450, 500, &[("right", "P"), ("left", "X")]),
        ],
        // Read into it: an idle source partition whose event is placed holds the lane's time again, which
        // does not go back.
        ..PAIR
    },
    StitchCase {
        name: "when all are idle the clock goes on",
        source: "the rule of idle",
        steps: &[ev("left", "k", "L", 0), idle("left"), idle("right"), Step::Tick(100), Step::Tick(101)],
        given: &[timeout(4, "k", 0, &[("left", "L")], RIGHT)],
        ..PAIR
    },
    // repeat: next.
    StitchCase {
        name: "next: partners go to the oldest that lacks them",
        source: "the rule of repeat",
        steps: &[
            ev("left", "k", "A", 0),
            ev("left", "k", "B", 10),
            ev("right", "k", "a", 20),
            ev("right", "k", "b", 30),
        ],
        given: &[
            complete(2, "k", 0, 20, &[("left", "A"), ("right", "a")]),
            complete(3, "k", 10, 30, &[("left", "B"), ("right", "b")]),
        ],
        ..PAIR
    },
    StitchCase {
        name: "next: the oldest is that of the earliest event, not the one that came first",
        source: "the rule of repeat",
        steps: &[
            ev("left", "k", "A", 10),
            ev("left", "k", "B", 0),
            ev("right", "k", "a", 20),
            ev("right", "k", "b", 30),
        ],
        given: &[
            complete(2, "k", 0, 20, &[("left", "B"), ("right", "a")]),
            complete(3, "k", 10, 30, &[("left", "A"), ("right", "b")]),
        ],
        // Read into it: oldest: by the time of the first event, then by coming.
        ..PAIR
    },
    StitchCase {
        name: "next: of one time the one that came first",
        source: "the rule of repeat",
        steps: &[
            ev("left", "k", "A", 0),
            ev("left", "k", "B", 0),
            ev("right", "k", "a", 0),
            ev("right", "k", "b", 0),
        ],
        given: &[
            complete(2, "k", 0, 0, &[("left", "A"), ("right", "a")]),
            complete(3, "k", 0, 0, &[("left", "B"), ("right", "b")]),
        ],
        ..PAIR
    },
    StitchCase {
        name: "next: out of the oldest's reach, the next one takes it",
        source: "the rule of repeat",
        steps: &[
            ev("left", "k", "A", 0),
            ev("left", "k", "B", 50),
            ev("right", "k", "a", 120),
            ev("left", "x", "X", 101),
        ],
        given: &[
            complete(2, "k", 50, 120, &[("left", "B"), ("right", "a")]),
            timeout(3, "k", 0, &[("left", "A")], RIGHT),
        ],
        ..PAIR
    },
    // repeat: replace.
    StitchCase {
        name: "replace: the later one stays, and the reach is counted from what is there",
        source: "the rule of repeat",
        window: "stitch: {within: 100ms, need: [left, right], repeat: replace}",
        steps: &[ev("left", "k", "A", 0), ev("left", "k", "B", 90), ev("right", "k", "a", 150)],
        given: &[complete(2, "k", 90, 150, &[("left", "B"), ("right", "a")])],
        // Read into it: what was replaced no longer counts for first and end.
        ..PAIR
    },
    StitchCase {
        name: "replace: one that is older in time replaces nothing",
        source: "the rule of repeat",
        window: "stitch: {within: 100ms, need: [left, right], repeat: replace}",
        steps: &[ev("left", "k", "A", 10), ev("left", "k", "B", 0), ev("right", "k", "a", 20)],
        given: &[complete(2, "k", 10, 20, &[("left", "A"), ("right", "a")])],
        // Read into it: later: by time, source, partition, offset, as for first and last.
        ..PAIR
    },
    StitchCase {
        name: "replace: of one time the later offset stays",
        source: "the rule of repeat",
        window: "stitch: {within: 100ms, need: [left, right], repeat: replace}",
        steps: &[ev("left", "k", "A", 10), ev("left", "k", "B", 10), ev("right", "k", "a", 20)],
        given: &[complete(2, "k", 10, 20, &[("left", "B"), ("right", "a")])],
        ..PAIR
    },
    StitchCase {
        name: "replace: out of reach it begins a stitch of its own",
        source: "the rule of repeat",
        window: "stitch: {within: 100ms, need: [left, right], repeat: replace}",
        steps: &[
            ev("left", "k", "A", 0),
            ev("left", "k", "B", 101),
            ev("right", "k", "a", 150),
            Step::Tick(150),
        ],
        given: &[
            complete(2, "k", 101, 150, &[("left", "B"), ("right", "a")]),
            timeout(2, "k", 0, &[("left", "A")], RIGHT),
        ],
        ..PAIR
    },
    // repeat: collect.
    StitchCase {
        name: "collect: all are there",
        source: "the rule of repeat",
        window: "stitch: {within: 100ms, need: [left, right], repeat: collect}",
        steps: &[
            ev("left", "k", "A", 10),
            ev("left", "k", "B", 0),
            ev("right", "k", "a", 20),
            ev("left", "k", "C", 30),
            ev("right", "k", "b", 40),
        ],
        given: &[
            complete(2, "k", 0, 20, &[("left", "B"), ("left", "A"), ("right", "a")]),
            complete(4, "k", 30, 40, &[("left", "C"), ("right", "b")]),
        ],
        ..PAIR
    },
    StitchCase {
        name: "collect: out of reach it begins a stitch of its own",
        source: "the rule of repeat",
        window: "stitch: {within: 100ms, need: [left, right], repeat: collect}",
        steps: &[
            ev("left", "k", "A", 0),
            ev("left", "k", "B", 101),
            ev("right", "k", "a", 60),
            ev("right", "k", "b", 102),
        ],
        given: &[
            complete(2, "k", 0, 60, &[("left", "A"), ("right", "a")]),
            complete(3, "k", 101, 102, &[("left", "B"), ("right", "b")]),
        ],
        ..PAIR
    },
    // Three sources.
    StitchCase {
        name: "three: all within reach of each other",
        source: "Tidemill: no further apart than within",
        window: "stitch: {within: 100ms, need: [left, right, promo]}",
        holds: THREE,
        steps: &[ev("right", "k", "R", 60), ev("promo", "k", "P", 110), ev("left", "k", "L", 10)],
        given: &[complete(2, "k", 10, 110, &[("left", "L"), ("right", "R"), ("promo", "P")])],
    },
    StitchCase {
        name: "three: in reach of one and not of the other is out of reach",
        source: "Tidemill: no further apart than within",
        window: "stitch: {within: 100ms, need: [left, right, promo]}",
        holds: THREE,
        steps: &[
            ev("right", "k", "R", 60),
            ev("promo", "k", "P", 110),
            ev("left", "k", "L", 9),
            Step::Tick(161),
        ],
        given: &[
            timeout(3, "k", 9, &[("left", "L")], &["right", "promo"]),
            timeout(3, "k", 60, &[("right", "R"), ("promo", "P")], LEFT),
        ],
    },
    // optional.
    StitchCase {
        name: "optional: taken along when it is there",
        source: "the rule of optional",
        window: "stitch: {within: 100ms, need: [left, right], optional: [promo]}",
        holds: THREE,
        steps: &[ev("promo", "k", "P", 5), ev("left", "k", "L", 0), ev("right", "k", "R", 20)],
        given: &[complete(2, "k", 0, 20, &[("left", "L"), ("promo", "P"), ("right", "R")])],
    },
    StitchCase {
        name: "optional: not waited for, and too late it ends alone",
        source: "the rule of optional",
        window: "stitch: {within: 100ms, need: [left, right], optional: [promo]}",
        holds: THREE,
        steps: &[
            ev("left", "k", "L", 0),
            ev("right", "k", "R", 20),
            ev("promo", "k", "P", 30),
            Step::Tick(131),
        ],
        given: &[
            complete(1, "k", 0, 20, &[("left", "L"), ("right", "R")]),
            timeout(3, "k", 30, &[("promo", "P")], BOTH),
        ],
        // Read into it: an optional event alone is an unfinished stitch like any other; `fire: {at: close}`
        // waits for it.
    },
    StitchCase {
        name: "a left join: the right one is optional, and waited for to the end",
        source: "J-3, KStreamKStreamJoin (there a pair comes at once, and the unmatched one has its own time)",
        window: "stitch: {within: 100ms, need: [left], optional: [right]}, fire: {at: close}",
        steps: &[
            ev("left", "a", "A", 0),
            ev("left", "b", "B", 0),
            ev("right", "a", "a", 50),
            ev("right", "c", "c", 60),
            Step::Tick(161),
        ],
        given: &[
            closed(4, "a", 0, &[("left", "A"), ("right", "a")]),
            closed(4, "b", 0, &[("left", "B")]),
            timeout(4, "c", 60, &[("right", "c")], LEFT),
        ],
        ..PAIR
    },
    StitchCase {
        name: "at close: complete or not, once, at the end",
        source: "the rule of fire",
        window: "stitch: {within: 100ms, need: [left, right]}, fire: {at: close}",
        steps: &[
            ev("left", "b", "L", 0),
            ev("right", "b", "R", 0),
            ev("left", "a", "M", 0),
            Step::Tick(100),
            Step::Tick(101),
            late("right", "a", "S", 0),
        ],
        // Of one end, in the order of the keys.
        given: &[
            timeout(4, "a", 0, &[("left", "M")], RIGHT),
            closed(4, "b", 0, &[("left", "L"), ("right", "R")]),
        ],
        ..PAIR
    },
];

/// JoinWindowsTest (apache/kafka): a window as the manifest has it, whether Kafka Streams takes its like, and whether
/// Tidemill does. `before` and `after` of their own do not exist: a stitch has no left and right.
pub const VALIDATION: &[(&str, bool, bool)] = &[
    ("stitch: {within: -1ms, need: [left, right]}", false, false),
    // Refused like every other length of zero.
    ("stitch: {within: 0ms, need: [left, right]}", true, false),
    ("stitch: {within: 3ms, need: [left, right]}, grace: -1ms", false, false),
    ("stitch: {within: 123ms, after: -124ms, need: [left, right]}", false, false),
    ("stitch: {within: 123ms, before: -124ms, need: [left, right]}", false, false),
    ("stitch: {within: 123ms, after: -123ms, need: [left, right]}", true, false),
    ("stitch: {within: 123ms, before: -123ms, need: [left, right]}", true, false),
];
