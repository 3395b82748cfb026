//! A look at what one key has open, for whoever asks why it has given no result yet. Nothing changes by it.

use std::collections::BTreeMap;

use super::result::Span;
use super::{Cell, Fired, Held, Kept, Kind, Members, NEVER, Why, Windows};

/// A window that is open, or is yet to give its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Open<'a> {
    /// Its bounds, milliseconds since the epoch; whether the end is in it depends on its kind.
    pub bounds: (i64, i64),
    /// The watermark at which it closes; `None`: time does not close it.
    pub closes_at_ms: Option<i64>,
    /// How many events it has.
    pub events: u64,
    /// How many events close it, if that is what closes it.
    pub takes: Option<u64>,
    /// How many of each source, by their places in the manifest; empty where a window keeps numbers instead of its events.
    pub by_source: BTreeMap<u16, u64>,
    /// Sources that a stitch needs and has nothing of, by their places in the manifest.
    pub missing: Vec<u16>,
    /// Its events, where it keeps them, by time, source, partition and offset.
    pub members: Vec<&'a Kept>,
    cells: Vec<Cell>,
}

impl Open<'_> {
    /// Its aggregates so far as one JSON object; `None`: it has none.
    pub fn aggregates<'n>(&self, names: impl Iterator<Item = &'n str>) -> Option<Vec<u8>> {
        if self.cells.is_empty() {
            return None;
        }
        let (cells, members) = (&*self.cells, Members { events: &[], span: Span::All });
        let (bounds, time_ms) = (self.bounds, self.bounds.1);
        let mut out = Vec::new();
        Fired { key: &[], bounds, why: Why::Close, time_ms, cells, members, missing: &[] }
            .write_aggregates(names, &mut out);
        Some(out)
    }
}

/// What a handler keeps for a key under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptValue<'a> {
    /// The name.
    pub name: &'a str,
    /// The watermark at which it is gone; `None`: it stays.
    pub expires_ms: Option<i64>,
    /// The value.
    pub bytes: &'a [u8],
}

impl Windows {
    /// What the handler keeps for a key, by name.
    pub fn values(&self, key: &[u8]) -> impl Iterator<Item = KeptValue<'_>> {
        let own = self.keys.get(key).and_then(|held| held.own.as_ref());
        own.into_iter().flat_map(|own| &own.values).map(|value| KeptValue {
            name: &value.name,
            expires_ms: Some(value.kept.expires_ms).filter(|expires_ms| *expires_ms != NEVER),
            bytes: &value.kept.bytes,
        })
    }

    /// What tables have for a key, by the places of their sources in the manifest.
    pub fn rows(&self, key: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
        let own = self.keys.get(key).and_then(|held| held.own.as_ref());
        own.into_iter().flat_map(|own| &own.rows).map(|row| (row.source, &*row.bytes))
    }

    /// What `key` has open, the oldest first.
    pub fn open_of(&self, key: &[u8]) -> Vec<Open<'_>> {
        let Some(held) = self.keys.get(key) else { return Vec::new() };
        match self.rules.kind {
            Kind::Sliding { size } => self.sliding_of(held, size),
            Kind::Stitch { within } => self.stitches_of(held, within),
            kind => {
                let windows = held.windows.iter().map(|window| {
                    let span = self.rules.span(window);
                    let members = held.events.iter().filter(|kept| span.has(kept)).collect();
                    let open = self.open((window.start, window.end), window.cells.to_vec(), members);
                    let takes = match kind {
                        Kind::Count { size } => Some(size),
                        _ => None,
                    };
                    Open { events: window.events, takes, ..open }
                });
                windows.collect()
            }
        }
    }

    /// One for each time at which an event ends a window that is not closed yet.
    fn sliding_of<'a>(&self, held: &'a Held, size: i64) -> Vec<Open<'a>> {
        let is_open =
            |kept: &&Kept| !kept.is_done || self.rules.deadline(kept.place.time_ms) > self.watermark_ms;
        let mut ends: Vec<i64> = held.events.iter().filter(is_open).map(|kept| kept.place.time_ms).collect();
        ends.dedup();
        let of_end = |end: i64| {
            let span = Span::To(end.saturating_sub(size), end);
            let members: Vec<&Kept> = held.events.iter().filter(|kept| span.has(kept)).collect();
            let mut cells = self.rules.empty_cells();
            for kept in &members {
                for (cell, field) in cells.iter_mut().zip(&kept.fields) {
                    field.iter().for_each(|field| cell.fold(kept.place, field));
                }
            }
            self.open((end.saturating_sub(size), end), cells.into_vec(), members)
        };
        ends.into_iter().map(of_end).collect()
    }

    fn stitches_of<'a>(&self, held: &'a Held, within: i64) -> Vec<Open<'a>> {
        let mut stitches: BTreeMap<u64, Vec<&Kept>> = BTreeMap::new();
        for kept in &held.events {
            stitches.entry(kept.belongs).or_default().push(kept);
        }
        let open = |members: Vec<&'a Kept>| {
            // Events are by time.
            let first = members.first().map_or(0, |kept| kept.place.time_ms);
            let has_row = |source: u16| held.own.as_ref().is_some_and(|own| own.row(source).is_some());
            let is_there =
                |source: u16| has_row(source) || members.iter().any(|kept| kept.place.source == source);
            let need = self.rules.stitch.need.iter().copied();
            let missing = need.filter(|source| !is_there(*source)).collect();
            Open { missing, ..self.open((first, first.saturating_add(within)), Vec::new(), members) }
        };
        let mut open: Vec<_> = stitches.into_values().map(open).collect();
        open.sort_by_key(|open| open.bounds);
        open
    }

    fn open<'a>(&self, bounds: (i64, i64), cells: Vec<Cell>, members: Vec<&'a Kept>) -> Open<'a> {
        let mut by_source = BTreeMap::new();
        for kept in &members {
            *by_source.entry(kept.place.source).or_default() += 1;
        }
        Open {
            bounds,
            closes_at_ms: Some(self.rules.deadline(bounds.1)).filter(|deadline| *deadline != NEVER),
            events: members.len() as u64,
            takes: None,
            by_source,
            missing: Vec::new(),
            members,
            cells,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{AggregateOp, AggregateSpec, Fire, StitchSpec, WindowKind, WindowSpec};
    use crate::window::{Arrival, Damaged, FORGOTTEN, Field, Number, Place, Verdict};

    const SECOND: Duration = Duration::from_secs(1);

    fn windows(kind: WindowKind, fire: Fire, sums: bool) -> Windows {
        let sum = AggregateSpec { op: AggregateOp::Sum, field: Some(String::new()) };
        let need = if matches!(kind, WindowKind::Stitch { .. }) { vec![0, 1] } else { Vec::new() };
        let spec = WindowSpec {
            kind,
            fire,
            aggregates: sums.then(|| ("sum".to_owned(), sum)).into_iter().collect(),
            sources: Vec::new(),
            stitch: StitchSpec { need, ..StitchSpec::default() },
            grace: SECOND,
            idle: SECOND,
            max_skew: SECOND,
            late_topic: None,
            max_drift: SECOND,
            state: None,
            tables: Vec::new(),
        };
        Windows::new(&spec, i64::MIN)
    }

    fn add(windows: &mut Windows, key: &str, (source, time_ms, offset): (u16, i64, i64)) {
        let place = Place { time_ms, source, partition: 0, offset };
        let fields = [Some(Field::Number(Number::of(&offset.into()).unwrap()))];
        let fields = &fields[..windows.rules.ops.len()];
        let arrival = Arrival { key: key.as_bytes(), place, fields, body: b"body", watermark_ms: i64::MIN };
        windows.add(&arrival, &mut |_, _| Verdict::Done);
        windows.moved(place);
    }

    #[test]
    fn at_the_last_deadline_everything_that_is_open_closes() {
        let kinds = [
            (WindowKind::Tumbling { size: SECOND }, true, 2),
            (WindowKind::Hopping { size: SECOND * 3, advance: SECOND }, true, 4),
            (WindowKind::Session { gap: SECOND }, true, 1),
            (WindowKind::Sliding { size: SECOND }, true, 3),
            (WindowKind::Stitch { within: SECOND }, false, 2),
        ];
        for (kind, sums, expected) in kinds {
            let mut windows = windows(kind, Fire::Close, sums);
            // Of one source: two stitches that lack the other.
            for event in [(0, 5100, 1), (0, 5900, 2), (0, 6500, 3)].into_iter().take(if sums { 3 } else { 2 })
            {
                add(&mut windows, "ada", event);
            }
            let mut results = 0;
            windows.advance_to(windows.last_deadline_ms().expect("something is open"));
            while windows.close_next(&mut |_, _| {
                results += 1;
                Verdict::Done
            }) {}
            assert_eq!(results, expected, "{kind:?}");
            assert!(windows.open_of(b"ada").is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn a_window_says_when_it_closes_and_what_came() {
        let mut windows = windows(WindowKind::Tumbling { size: SECOND }, Fire::Close, true);
        for event in [(0, 100, 1), (0, 900, 2), (0, 1500, 3)] {
            add(&mut windows, "ada", event);
        }
        let open = windows.open_of(b"ada");
        assert_eq!(open.iter().map(|open| open.bounds).collect::<Vec<_>>(), [(0, 1000), (1000, 2000)]);
        assert_eq!((open[0].events, open[0].closes_at_ms), (2, Some(2000)), "the end and the grace");
        assert!(open[0].by_source.is_empty() && open[0].members.is_empty(), "it keeps a number");
        assert_eq!(open[0].aggregates(["sum"].into_iter()).unwrap(), br#"{"sum":3}"#);
        assert!(windows.open_of(b"bob").is_empty());
    }

    #[test]
    fn a_stitch_says_what_it_lacks_and_is_gone_once_it_is_whole() {
        let kind = WindowKind::Stitch { within: SECOND };
        let mut windows = windows(kind, Fire::Complete, false);
        add(&mut windows, "ride", (0, 500, 1));
        add(&mut windows, "ride", (0, 700, 2));
        let open = windows.open_of(b"ride");
        assert_eq!(open.len(), 2, "a second ride opens the next");
        assert_eq!((open[0].bounds, &open[0].missing), ((500, 1500), &vec![1]));
        assert_eq!(open[0].by_source, BTreeMap::from([(0, 1)]));
        assert_eq!(open[0].closes_at_ms, Some(2501), "its end is in it");
        assert_eq!((open[0].members[0].place().offset, open[0].members[0].body()), (1, &b"body"[..]));
        assert_eq!(open[0].aggregates([].into_iter()), None);
        add(&mut windows, "ride", (1, 600, 1));
        let open = windows.open_of(b"ride");
        assert_eq!(open.iter().map(|open| open.bounds.0).collect::<Vec<_>>(), [700]);
    }

    #[test]
    fn what_was_given_up_is_not_restored_whatever_it_was_of() {
        let tumbling = |seconds| WindowKind::Tumbling { size: SECOND * seconds };
        let mut written = windows(tumbling(1), Fire::Close, true);
        add(&mut written, "ada", (0, 100, 1));
        let mut entries = Vec::new();
        written.changes(|key, value| entries.push((key.to_vec(), value.map(<[u8]>::to_vec))));
        let restored = |seconds, entries: &[(Vec<u8>, Option<Vec<u8>>)]| {
            let mut windows = windows(tumbling(seconds), Fire::Close, true);
            entries.iter().for_each(|(key, value)| windows.restore(key, value.as_deref()));
            windows.restored().map(|()| windows.open_of(b"ada").len())
        };
        assert_eq!(restored(1, &entries), Ok(1));
        assert!(matches!(restored(2, &entries), Err(Damaged::Other { .. })));
        entries.push((b"?".to_vec(), Some(Vec::new())));
        assert!(matches!(restored(1, &entries), Err(Damaged::Broken(_))));
        entries.push((FORGOTTEN.to_vec(), None));
        assert_eq!((restored(1, &entries), restored(2, &entries)), (Ok(0), Ok(0)));
        add(&mut written, "ada", (0, 200, 2));
        written.changes(|key, value| entries.push((key.to_vec(), value.map(<[u8]>::to_vec))));
        assert_eq!(restored(1, &entries), Ok(1), "what comes after it counts");
    }

    #[test]
    fn sliding_and_counted_windows_are_seen_as_what_they_would_give() {
        let mut sliding = windows(WindowKind::Sliding { size: SECOND }, Fire::Close, true);
        for event in [(0, 1000, 1), (0, 1500, 2), (0, 1500, 4)] {
            add(&mut sliding, "ada", event);
        }
        let open = sliding.open_of(b"ada");
        let seen = open.iter().map(|open| (open.bounds, open.events, open.aggregates(["sum"].into_iter())));
        let sum = |sum: &str| Some(format!("{{\"sum\":{sum}}}").into_bytes());
        assert_eq!(seen.collect::<Vec<_>>(), [((0, 1000), 1, sum("1")), ((500, 1500), 3, sum("7"))]);

        let mut counted = windows(WindowKind::Count { size: 3 }, Fire::Close, true);
        add(&mut counted, "ada", (0, 1000, 1));
        add(&mut counted, "ada", (0, 500, 1));
        let open = counted.open_of(b"ada");
        assert_eq!((open[0].events, open[0].takes, open[0].closes_at_ms), (2, Some(3), None));
        add(&mut counted, "ada", (0, 700, 1));
        assert!(counted.open_of(b"ada").is_empty());
    }
}
