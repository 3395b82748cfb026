//! Stitches: one event of each source that is needed, of one key, no further apart than `within`. A stitch reaches from
//! its first event to `within` after it, both in. What is kept are the events, each with the number of its stitch: a
//! stitch is what its events are. It may need a row of a table too, which is none of its events: it is there or not when
//! the stitch is looked at.

use super::{Arrival, Held, Kept, Members, Own, Place, Placed, Rules, Span, Taken, Windows};
use crate::model::{Fire, Repeat};
use crate::window::{Fired, Why};

/// One stitch, as its events say.
#[derive(Debug, Clone, Copy)]
struct Stitch {
    number: u64,
    first: i64,
    last: i64,
}

impl Windows {
    pub(super) fn add_to_stitch(
        &mut self,
        arrival: &Arrival<'_>,
        within: i64,
        results: &mut Taken<'_>,
    ) -> Placed {
        let Place { time_ms: time, source, .. } = arrival.place;
        let rules = &self.rules;
        let (closed, end) = (self.closed_ms(arrival), |first: i64| first.saturating_add(within));
        // One that it could join ends no later than one that it begins.
        if rules.deadline(end(time)) <= closed {
            return Placed::Late;
        }
        let at = self.keys.touch(arrival.key);
        let (key, held) = self.keys.held_mut(at);
        let events = &mut held.events;
        let stitches = stitches(events);
        let takes = |stitch: &&Stitch| {
            let (first, last) = (stitch.first.min(time), stitch.last.max(time));
            last - first <= within && rules.deadline(end(first)) > closed
        };
        let of_source = |stitch: &Stitch| position(events, stitch.number, source);
        let lacks = |stitch: &&Stitch| takes(stitch) && of_source(stitch).is_none();
        let oldest = stitches.iter().find(lacks).or_else(|| match rules.stitch.repeat {
            Repeat::Next => None,
            Repeat::Replace | Repeat::Collect => stitches.iter().find(takes),
        });
        let next = || stitches.iter().map(|stitch| stitch.number + 1).max().unwrap_or(0);
        let number = oldest.map_or_else(next, |stitch| stitch.number);
        if rules.stitch.repeat == Repeat::Replace
            && let Some(other) = oldest.and_then(of_source)
        {
            if arrival.place < events[other].place {
                return Placed::In { missed: 0 };
            }
            events.remove(other);
        }
        held.keep(arrival).belongs = number;
        if rules.fire == Fire::Complete {
            complete(key, held, (within, Some(number)), rules, results);
        }
        self.look_again(at);
        Placed::In { missed: 0 }
    }

    /// A row has come: stitches that lacked nothing else are complete.
    pub(super) fn complete_stitches(&mut self, key: &[u8], within: i64, results: &mut Taken<'_>) {
        let at = self.keys.touch(key);
        let (key, held) = self.keys.held_mut(at);
        complete(key, held, (within, None), &self.rules, results);
        self.look_again(at);
    }
}

/// Gives the results of stitches that have all that they need, the oldest first: of one, or of all.
fn complete(
    key: &[u8],
    held: &mut Held,
    (within, only): (i64, Option<u64>),
    rules: &Rules,
    results: &mut Taken<'_>,
) {
    let Held { events, own, .. } = held;
    for stitch in stitches(events).into_iter().filter(|stitch| only.is_none_or(|only| stitch.number == only))
    {
        let span = Span::Stitch(stitch.number);
        if missing((events, own.as_deref()), span, rules).is_empty() {
            let end = stitch.first.saturating_add(within);
            give(key, (events, own.as_deref()), (stitch, Why::Complete, end), rules, results);
            events.retain(|kept| !span.has(kept));
        }
    }
}

/// The stitches of a key, the oldest first.
fn stitches(events: &[Kept]) -> Vec<Stitch> {
    let mut stitches: Vec<Stitch> = Vec::new();
    for kept in events {
        let time = kept.place.time_ms;
        match stitches.iter_mut().find(|stitch| stitch.number == kept.belongs) {
            // Events are by time.
            Some(stitch) => stitch.last = time,
            None => stitches.push(Stitch { number: kept.belongs, first: time, last: time }),
        }
    }
    stitches.sort_by_key(|stitch| (stitch.first, stitch.number));
    stitches
}

/// The event of `source` in a stitch.
fn position(events: &[Kept], number: u64, source: u16) -> Option<usize> {
    events.iter().position(|kept| kept.belongs == number && kept.place.source == source)
}

/// What is needed and not there.
fn missing((events, own): (&[Kept], Option<&Own>), span: Span, rules: &Rules) -> Vec<u16> {
    let is_there = |source: u16| {
        events.iter().any(|kept| span.has(kept) && kept.place.source == source)
            || own.is_some_and(|own| own.row(source).is_some())
    };
    rules.stitch.need.iter().copied().filter(|source| !is_there(*source)).collect()
}

fn give(
    key: &[u8],
    (events, own): (&[Kept], Option<&Own>),
    (stitch, why, end): (Stitch, Why, i64),
    rules: &Rules,
    results: &mut Taken<'_>,
) {
    let span = Span::Stitch(stitch.number);
    results(&Fired {
        key,
        bounds: (stitch.first, end),
        why,
        time_ms: if why == Why::Complete { stitch.last } else { end },
        cells: &[],
        members: Members { events, span },
        missing: &missing((events, own), span, rules),
    });
}

/// The watermark at which the first stitch ends.
pub(super) fn next_look(events: &[Kept], within: i64, rules: &Rules) -> Option<i64> {
    // The first event of all is the first of its stitch.
    events.first().map(|kept| rules.deadline(kept.place.time_ms.saturating_add(within)))
}

/// Closes the stitches whose deadline has come, in order.
pub(super) fn close(
    key: &[u8],
    held: &mut Held,
    (within, deadline): (i64, i64),
    rules: &Rules,
    results: &mut Taken<'_>,
) {
    let Held { events, own, .. } = held;
    for stitch in stitches(events) {
        let end = stitch.first.saturating_add(within);
        if rules.deadline(end) > deadline {
            break;
        }
        let span = Span::Stitch(stitch.number);
        let is_whole = missing((events, own.as_deref()), span, rules).is_empty();
        let why = if is_whole { Why::Close } else { Why::Timeout };
        give(key, (events, own.as_deref()), (stitch, why, end), rules, results);
        events.retain(|kept| !span.has(kept));
    }
}
