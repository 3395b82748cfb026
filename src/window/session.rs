//! Sessions: events of a key no further apart than the gap. One that comes between two joins them.

use super::{Arrival, Held, Placed, Taken, Window, Windows};

impl Windows {
    pub(super) fn add_to_session(
        &mut self,
        arrival: &Arrival<'_>,
        gap: i64,
        results: &mut Taken<'_>,
    ) -> Placed {
        let time = arrival.place.time_ms;
        let (rules, closed) = (&self.rules, self.closed_ms(arrival));
        let is_open = |end: i64| rules.deadline(end) > closed;
        let lane_ms = self.watermark_ms;
        let is_near = |window: &Window| {
            let is_in_reach = window.start.saturating_sub(gap) <= time && time <= window.end + gap;
            is_in_reach && rules.deadline(window.end) > lane_ms
        };
        let found = self.keys.get(arrival.key);
        let has_open = |held: &Held| held.windows.iter().any(|window| is_near(window) && is_open(window.end));
        // What is joined to an open session is as young as that.
        if !found.is_some_and(has_open) && !is_open(time) {
            return Placed::Late;
        }
        // It joins those too that only its own source partition is beyond: sessions of a key have no time in common.
        let place = self.keys.touch(arrival.key);
        let (_, held) = self.keys.held_mut(place);
        if rules.keeps {
            held.keep(arrival);
        }
        let Held { windows, events, .. } = held;
        let mut joined: Option<Window> = None;
        while let Some(at) = windows.iter().position(is_near) {
            let window = windows.remove(at);
            match &mut joined {
                None => joined = Some(window),
                Some(earlier) => earlier.join(window),
            }
        }
        let mut session = joined.unwrap_or_else(|| Window::new(time, time, rules));
        (session.start, session.end) = (session.start.min(time), session.end.max(time));
        session.fold(arrival.place, arrival.fields);
        if !rules.fire_early(arrival.key, &mut session, events, results) {
            let at = windows.partition_point(|window| window.start < session.start);
            windows.reserve_exact(1);
            windows.insert(at, session);
        }
        self.look_again(place);
        Placed::In { missed: 0 }
    }
}

impl Window {
    fn join(&mut self, other: Self) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.newest = self.newest.max(other.newest);
        self.events += other.events;
        for (cell, more) in self.cells.iter_mut().zip(other.cells) {
            cell.merge(more);
        }
    }
}
