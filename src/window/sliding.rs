//! Sliding windows: for each event those of its key in the last `size`, `[t - size, t]`, both in. Events of one time share
//! the window that ends with them. What is kept are the events; a window is made of them when it gives its result.

use super::{Arrival, Kept, Kind, Members, Place, Placed, Rules, Taken, Window, Windows};
use crate::model::{AfterFire, Fire};
use crate::window::Why;
use thin_vec::ThinVec;

impl Windows {
    pub(super) fn add_sliding(
        &mut self,
        arrival: &Arrival<'_>,
        size: i64,
        results: &mut Taken<'_>,
    ) -> Placed {
        let time = arrival.place.time_ms;
        let closed = self.closed_ms(arrival);
        let is_closed = |end: i64| self.rules.deadline(end) <= closed;
        // The last window that it could be in ends `size` after it.
        if is_closed(time.saturating_add(size)) {
            return Placed::Late;
        }
        let has_missed = is_closed(time);
        let place = self.keys.touch(arrival.key);
        let (_, held) = self.keys.held_mut(place);
        let belongs = self.rules.first_open(time, closed);
        let kept = held.keep(arrival);
        (kept.is_done, kept.belongs) = (has_missed || self.rules.fire != Fire::Close, belongs);
        let events = &mut held.events;
        match self.rules.fire {
            Fire::Close | Fire::Complete => {}
            Fire::Update => {
                for end in ends(events, time, time + size) {
                    if self.rules.deadline(end) > closed {
                        fire(arrival.key, events, (end, Why::Update), &self.rules, results);
                    }
                }
            }
            Fire::Count { every, then } => {
                for end in ends(events, time, time + size) {
                    let count = events.iter().filter(|kept| is_within(kept, end, size)).count() as u64;
                    if self.rules.deadline(end) <= closed || count == 0 || !count.is_multiple_of(every) {
                        continue;
                    }
                    fire(arrival.key, events, (end, Why::Count), &self.rules, results);
                    if then == AfterFire::Reset {
                        events.retain(|kept| !is_within(kept, end, size));
                    }
                }
            }
        }
        self.look_again(place);
        Placed::In { missed: u32::from(has_missed) }
    }
}

fn is_within(kept: &Kept, end: i64, size: i64) -> bool {
    (end - size..=end).contains(&kept.place.time_ms) && kept.came_in_time_for(end)
}

/// Where windows end between two times, both in.
fn ends(events: &[Kept], from: i64, to: i64) -> Vec<i64> {
    // One that came too late for its own window makes none.
    let times = events.iter().filter(|kept| kept.belongs == 0).map(|kept| kept.place.time_ms);
    let mut ends: Vec<i64> = times.filter(|time| (from..=to).contains(time)).collect();
    ends.dedup();
    ends
}

/// Gives the result of the window that ends at `end`.
fn fire(key: &[u8], events: &[Kept], (end, why): (i64, Why), rules: &Rules, results: &mut Taken<'_>) {
    let Kind::Sliding { size } = rules.kind else { return };
    let mut window = Window::new(end - size, end, rules);
    for kept in events.iter().filter(|kept| is_within(kept, end, size)) {
        window.fold(kept.place, &kept.fields);
    }
    let members = Members { events, span: rules.span(&window) };
    results(&window.fired(key, why, end, members));
}

/// The last window that an event is in closes here, and then it is not needed any more.
fn expires(place: Place, rules: &Rules) -> i64 {
    let Kind::Sliding { size } = rules.kind else { return super::NEVER };
    rules.deadline(place.time_ms.saturating_add(size))
}

/// The watermark at which the first window closes or the first event is not needed any more.
pub(super) fn next_look(events: &[Kept], rules: &Rules) -> Option<i64> {
    let closes = events.iter().find(|kept| !kept.is_done).map(|kept| rules.deadline(kept.place.time_ms));
    let expires = events.first().map(|kept| expires(kept.place, rules));
    closes.into_iter().chain(expires).min()
}

/// Closes the windows whose deadline has come, in order.
pub(super) fn close(
    key: &[u8],
    events: &mut ThinVec<Kept>,
    deadline: i64,
    rules: &Rules,
    results: &mut Taken<'_>,
) {
    while let Some(first) = events.iter().position(|kept| !kept.is_done) {
        let end = events[first].place.time_ms;
        if rules.deadline(end) > deadline {
            break;
        }
        fire(key, events, (end, Why::Close), rules, results);
        events.iter_mut().filter(|kept| kept.place.time_ms == end).for_each(|kept| kept.is_done = true);
    }
    events.retain(|kept| expires(kept.place, rules) > deadline);
}
