//! The boundary rules. W-n are those of Kafka Streams, by the class that they were read in (apache/kafka, streams,
//! kstream/internals); where Flink's (windowing/triggers/EventTimeTrigger) and Beam's (transforms/windowing) are others,
//! that is said.

use tidemill::model::DeadLetterReason;

use super::{Bench, FAR, IN_ALL, LATE, Placed};

/// W-1, KStreamWindowAggregate: time is the newest event's, over all keys, and never goes back.
#[test]
fn time_is_that_of_the_newest_event_of_any_key() {
    let mut bench = Bench::new("tumbling: {size: 10ms}");
    assert_eq!(bench.event("ada", 5), IN_ALL);
    assert_eq!(bench.event("bob", 9), IN_ALL);
    assert_eq!(bench.bounds(), []);
    assert_eq!(bench.event("bob", 10), IN_ALL);
    assert_eq!(bench.bounds(), [(0, 10), (0, 10)]);
    assert_eq!(bench.event("ada", 9), LATE, "it is judged by time over all keys, not by its own key's");
    assert_eq!(bench.event("ada", 19), IN_ALL);
    assert_eq!(bench.event("ada", 11), IN_ALL);
    bench.watermark(12);
    assert_eq!(bench.event("cyd", 9), LATE, "neither an older event nor an older watermark turns time back");
    assert_eq!(bench.bounds(), []);
    bench.watermark(20);
    assert_eq!(bench.bounds(), [(10, 20), (10, 20)]);
}

/// W-1: Kafka Streams moves time first and judges then. It comes to the same: no event is in a window that it closes.
#[test]
fn an_event_is_never_late_by_its_own_time() {
    for window in [
        "tumbling: {size: 1ms}",
        "hopping: {size: 3ms, advance: 1ms}",
        "sliding: {size: 1ms}",
        "session: {gap: 1ms}",
    ] {
        let mut bench = Bench::new(window);
        for time in [0, 1, 5, 1_000_000, 1_000_001] {
            assert_eq!(bench.event("a", time), IN_ALL, "{window}");
        }
    }
}

/// W-2, TimeWindows: [start, end), starts at multiples of the advance. Flink and Beam: the same, before the epoch too, as
/// here; Kafka Streams has none there.
#[test]
fn aligned_windows_begin_before_the_epoch_too() {
    let mut bench = Bench::new("hopping: {size: 10ms, advance: 4ms}");
    assert_eq!(bench.event("a", 0), IN_ALL);
    bench.watermark(FAR);
    assert_eq!(bench.bounds(), [(-8, 2), (-4, 6), (0, 10)]);
    // Events are not.
    assert_eq!(bench.event("a", -1), Placed::Refused(DeadLetterReason::Unkeyed));
}

/// W-3, KStreamWindowAggregate: closed once end <= time - grace, window by window. Flink and Beam: once the watermark has
/// come to end - 1 + grace, and theirs says that everything up to it has come, as Tidemill's does up to one before it.
#[test]
fn aligned_windows_are_closed_from_end_and_grace_on() {
    for grace in [0, 3] {
        let mut bench = Bench::new(&format!("hopping: {{size: 10ms, advance: 5ms}}, grace: {grace}ms"));
        assert_eq!(bench.event("a", 12), IN_ALL);
        bench.watermark(15 + grace - 1);
        assert_eq!((bench.event("a", 12), bench.bounds()), (IN_ALL, vec![]));
        bench.watermark(15 + grace);
        assert_eq!(bench.bounds(), [(5, 15)]);
        assert_eq!(bench.event("a", 12), Placed::In { missed: 1 });
        bench.watermark(20 + grace - 1);
        assert_eq!(bench.event("a", 12), Placed::In { missed: 1 });
        bench.watermark(20 + grace);
        let given = bench.results();
        assert_eq!((given.len(), given[0].bounds, given[0].count), (1, (10, 20), 4));
        assert_eq!((bench.event("a", 12), bench.bounds()), (LATE, vec![]));
    }
}

/// W-4, AbstractKStreamTimeWindowAggregateProcessor: a window closes once, and not again after a restart.
#[test]
fn what_has_closed_stays_closed_across_a_restart() {
    for (window, last) in [
        ("tumbling: {size: 10ms}", 10),
        ("hopping: {size: 10ms, advance: 10ms}", 10),
        ("sliding: {size: 10ms}", 16),
        ("session: {gap: 10ms}", 16),
    ] {
        let mut bench = Bench::new(window);
        assert_eq!(bench.event("a", 5), IN_ALL);
        bench.restart();
        bench.watermark(last);
        assert_eq!(bench.results().len(), 1, "{window}");
        bench.restart();
        bench.watermark(last);
        assert_eq!(bench.event("a", 5), LATE, "{window}: time is kept too");
        bench.watermark(FAR);
        assert_eq!(bench.bounds(), [], "{window}");
    }
}

/// W-5, KStreamSlidingWindowAggregate: [time - size, time], both in, for each event. Kafka Streams adds those that start
/// right after one; and W-7: events in the first `size` after the epoch share [0, size] there.
#[test]
fn a_sliding_window_ends_with_each_event_and_holds_both_its_ends() {
    let mut bench = Bench::new("sliding: {size: 10ms}");
    for time in [3, 10, 13, 14, 14] {
        assert_eq!(bench.event("a", time), IN_ALL);
    }
    bench.watermark(FAR);
    let given: Vec<_> = bench.results().into_iter().map(|given| (given.bounds, given.events)).collect();
    let expected = [
        ((-7, 3), vec![0]),
        ((0, 10), vec![0, 1]),
        ((3, 13), vec![0, 1, 2]),
        // Events of one time share a window.
        ((4, 14), vec![1, 2, 3, 4]),
    ];
    assert_eq!(given, expected);
}

/// W-6, KStreamSlidingWindowAggregate: a window is skipped once end < time - grace, and an event dropped whole once
/// that is so of time + size; at equality both are in.
#[test]
fn a_sliding_window_is_closed_once_time_has_passed_end_and_grace() {
    for grace in [0, 3] {
        let mut bench = Bench::new(&format!("sliding: {{size: 10ms}}, grace: {grace}ms"));
        assert_eq!(bench.event("a", 20), IN_ALL);
        bench.watermark(20 + grace);
        assert_eq!((bench.event("a", 20), bench.bounds()), (IN_ALL, vec![]));
        bench.watermark(21 + grace);
        let given = bench.results();
        assert_eq!((given.len(), given[0].bounds, given[0].count), (1, (10, 20), 2));
        // Its own window is closed; it is still in those of later events.
        assert_eq!(bench.event("a", 20), Placed::In { missed: 1 });
        assert_eq!(bench.event("a", 30), IN_ALL);
        bench.watermark(30 + grace);
        assert_eq!(bench.event("a", 20), Placed::In { missed: 1 });
        assert_eq!(bench.event("a", 19), LATE);
        bench.watermark(31 + grace);
        assert_eq!(bench.event("a", 20), LATE);
        let given = bench.results();
        assert_eq!((given.len(), given[0].bounds, &given[0].events), (1, (20, 30), &vec![0, 1, 2, 3, 4]));
    }
}

/// W-8, KStreamSessionWindowAggregate, and Flink's EventTimeSessionWindows: events exactly a gap apart are one session
/// (in Beam's Sessions two), [first, last] with both in; one between two sessions joins them.
#[test]
fn a_session_takes_what_is_no_further_than_the_gap() {
    for (times, expected) in [
        (&[0, 10][..], &[(0, 10)][..]),
        (&[0, 11], &[(0, 0), (11, 11)]),
        (&[10, 0], &[(0, 10)]),
        (&[11, 0], &[(0, 0), (11, 11)]),
        (&[0, 20], &[(0, 0), (20, 20)]),
        (&[0, 20, 10], &[(0, 20)]),
        (&[0, 21, 11], &[(0, 0), (11, 21)]),
        (&[0, 21, 10], &[(0, 10), (21, 21)]),
        (&[5, 5, 5], &[(5, 5)]),
    ] {
        let mut bench = Bench::new("session: {gap: 10ms}, grace: 1s");
        times.iter().for_each(|time| assert_eq!(bench.event("a", *time), IN_ALL));
        assert_eq!(bench.event("b", 1000), IN_ALL);
        bench.watermark(FAR);
        let mut given = bench.results();
        given.retain(|given| given.key == "a");
        given.sort();
        let bounds: Vec<_> = given.iter().map(|given| given.bounds).collect();
        assert_eq!(bounds, expected, "{times:?}");
        assert_eq!(given.iter().map(|given| given.count).sum::<u64>(), times.len() as u64, "each is in one");
    }
}

/// W-9, KStreamSessionWindowAggregate: late once the merged end < time - grace - gap; at equality it is in. In Flink and
/// Beam the session is closed from last + gap on, one earlier: then the order of two events of that time would decide.
#[test]
fn a_session_is_closed_once_time_has_passed_last_gap_and_grace() {
    for grace in [0, 3] {
        let window = format!("session: {{gap: 10ms}}, grace: {grace}ms");
        let mut bench = Bench::new(&window);
        assert_eq!(bench.event("a", 20), IN_ALL);
        bench.watermark(30 + grace);
        assert_eq!((bench.event("b", 20), bench.bounds()), (IN_ALL, vec![]));
        // By itself it would be late; what it joins is not.
        assert_eq!(bench.event("c", 12), LATE);
        assert_eq!(bench.event("a", 12), IN_ALL);
        bench.watermark(31 + grace);
        assert_eq!(bench.bounds(), [(12, 20), (20, 20)]);
        assert_eq!(bench.event("a", 20), LATE);
        assert_eq!(bench.event("a", 21), IN_ALL, "closed is final: the next begins closer than the gap");
        bench.watermark(FAR);
        assert_eq!(bench.bounds(), [(21, 21)]);
    }
    // The tie: whichever key's event comes first.
    for keys in [["a", "b"], ["b", "a"]] {
        let mut bench = Bench::new("session: {gap: 10ms}");
        assert_eq!(bench.event("a", 0), IN_ALL);
        keys.iter().for_each(|key| assert_eq!(bench.event(key, 10), IN_ALL));
        bench.watermark(FAR);
        assert_eq!(bench.bounds(), [(0, 10), (10, 10)]);
    }
}

/// W-9: Kafka Streams merges a session that has closed with an event that an open one lets in, and gives its events a
/// second result. Here closed is final.
#[test]
fn a_closed_session_is_not_joined_again() {
    let mut bench = Bench::new("session: {gap: 10ms}");
    assert_eq!(bench.event("a", 0), IN_ALL);
    assert_eq!(bench.event("a", 20), IN_ALL);
    assert_eq!(bench.bounds(), [(0, 0)]);
    assert_eq!(bench.event("a", 10), IN_ALL);
    bench.watermark(FAR);
    let given = bench.results();
    assert_eq!((given.len(), given[0].bounds, &given[0].events), (1, (10, 20), &vec![1, 2]));
}

/// W-10, KStreamSessionWindowAggregate: in Kafka Streams a merge first gives a tombstone of each old session. Here the
/// key of a result is the event's and not that of the session, so a tombstone would delete more: the new one alone.
#[test]
fn a_merge_gives_the_new_session_alone() {
    let mut bench = Bench::new("session: {gap: 10ms}, grace: 1s, fire: {at: update}");
    let mut given = |time| {
        assert_eq!(bench.event("a", time), IN_ALL);
        let results = bench.results();
        results.into_iter().map(|given| (given.bounds, given.count, given.time)).collect::<Vec<_>>()
    };
    assert_eq!(given(0), [((0, 0), 1, 0)]);
    assert_eq!(given(0), [((0, 0), 2, 0)], "with the same bounds there is nothing to replace anywhere");
    assert_eq!(given(20), [((20, 20), 1, 20)]);
    assert_eq!(given(10), [((0, 20), 4, 20)]);
}

/// W-11, KStreamWindowAggregate: without a key an event is in no window. Kafka Streams skips it; here it is a dead letter.
/// Nor does it move time, nor does one that is too far ahead.
#[test]
fn an_event_without_a_key_is_a_dead_letter_and_moves_nothing() {
    for window in
        ["tumbling: {size: 10ms}", "sliding: {size: 10ms}", "session: {gap: 10ms}", "count: {size: 2}"]
    {
        let mut bench = Bench::new(window);
        assert_eq!(bench.event("a", 5), IN_ALL);
        assert_eq!(bench.record(None, Some("1"), 500), Placed::Refused(DeadLetterReason::Unkeyed));
        assert_eq!(bench.record(Some("a"), Some("{"), 500), Placed::Refused(DeadLetterReason::Malformed));
        assert_eq!(bench.bounds(), [], "{window}");
        assert_eq!(bench.event("a", 5), IN_ALL, "{window}");
    }
}

/// KStreamSlidingWindowAggregate skips an event without a value, KStreamWindowAggregate and
/// KStreamSessionWindowAggregate do not: here it is an event in every kind, which no aggregate of a field takes.
#[test]
fn an_event_without_a_value_counts() {
    for window in
        ["tumbling: {size: 10ms}", "sliding: {size: 10ms}", "session: {gap: 10ms}", "count: {size: 2}"]
    {
        let mut bench = Bench::new(window);
        assert_eq!(bench.event("a", 5), IN_ALL);
        assert_eq!(bench.record(Some("a"), None, 5), IN_ALL);
        bench.watermark(FAR);
        let given = bench.results();
        assert_eq!((given.len(), given[0].count, &given[0].events), (1, 2, &vec![0]), "{window}");
    }
}

/// W-12, KStreamWindowAggregate: each pair of an event and a window that was closed for it counts. An event that is late
/// for all is a dead letter instead. Kafka Streams counts likewise for sliding windows; here only an event's own window
/// is one that it misses, the others are those of other events.
#[test]
fn what_an_event_misses_is_counted() {
    let mut bench = Bench::new("hopping: {size: 10ms, advance: 2ms}");
    for (watermark, expected) in [(20, 0), (21, 0), (22, 1), (25, 2), (28, 4), (29, 4)] {
        bench.watermark(watermark);
        assert_eq!(bench.event("a", 20), Placed::In { missed: expected }, "at {watermark}");
    }
    bench.watermark(30);
    assert_eq!(bench.event("a", 20), LATE);
    let mut bench = Bench::new("sliding: {size: 10ms}");
    for time in [20, 22, 24] {
        assert_eq!(bench.event("a", time), IN_ALL);
    }
    assert_eq!(bench.event("a", 21), Placed::In { missed: 1 });
}

/// The first result. Kafka Streams: with each event, or once, when the window has closed; so here. Flink and Beam give one
/// at the end and another for each late event that the allowed lateness lets in.
#[test]
fn events_within_the_grace_are_in_the_one_result() {
    for (window, closes_at) in [
        ("tumbling: {size: 10ms}, grace: 5ms", 15),
        ("hopping: {size: 10ms, advance: 10ms}, grace: 5ms", 15),
        ("sliding: {size: 10ms}, grace: 5ms", 9),
        ("session: {gap: 10ms}, grace: 5ms", 19),
    ] {
        let mut bench = Bench::new(window);
        assert_eq!(bench.event("a", 3), IN_ALL);
        // Past the end, within the grace.
        bench.watermark(closes_at - 1);
        assert_eq!(bench.bounds(), [], "{window}");
        assert_eq!(bench.event("a", 3), IN_ALL, "{window}");
        bench.watermark(closes_at);
        let given = bench.results();
        assert_eq!((given.len(), given[0].count), (1, 2), "{window}");
        bench.watermark(FAR);
        assert_eq!(bench.bounds(), [], "{window}");
    }
}
