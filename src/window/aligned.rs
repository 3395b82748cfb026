//! Tumbling and hopping windows: `[start, end)`, starts at multiples of the advance, before the epoch too.

use super::{Arrival, Held, Placed, Taken, Window, Windows};

/// First and last start of the windows that hold `time`, of the given size and advance.
fn starts(time: i64, (size, advance): (i64, i64)) -> (i64, i64) {
    let last = time.div_euclid(advance).saturating_mul(advance);
    let earlier = (size - 1 - time.rem_euclid(advance)).max(0) / advance;
    (last - earlier * advance, last)
}

impl Windows {
    pub(super) fn add_aligned(
        &mut self,
        arrival: &Arrival<'_>,
        (size, advance): (i64, i64),
        results: &mut Taken<'_>,
    ) -> Placed {
        let (first, last) = starts(arrival.place.time_ms, (size, advance));
        let closed = self.closed_ms(arrival);
        let is_closed = |start: i64| self.rules.deadline(start + size) <= closed;
        let mut missed = 0;
        let mut start = first;
        while start <= last && is_closed(start) {
            missed += 1;
            start += advance;
        }
        if start > last {
            return Placed::Late;
        }
        let place = self.keys.touch(arrival.key);
        let (_, held) = self.keys.held_mut(place);
        if self.rules.keeps {
            let belongs = self.rules.first_open(arrival.place.time_ms, closed);
            held.keep(arrival).belongs = belongs;
        }
        let Held { windows, events, .. } = held;
        let mut is_new = false;
        while start <= last {
            let at = windows.partition_point(|window| window.start < start);
            if windows.get(at).is_none_or(|window| window.start != start) {
                windows.reserve_exact(1);
                windows.insert(at, Window::new(start, start + size, &self.rules));
                is_new = true;
            }
            windows[at].fold(arrival.place, arrival.fields);
            if self.rules.fire_early(arrival.key, &mut windows[at], events, results) {
                windows.remove(at);
            }
            start += advance;
        }
        if is_new {
            self.look_again(place);
        }
        Placed::In { missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_in_every_window_that_spans_it() {
        for (time, size, advance, expected) in [
            (0, 10, 10, (0, 0)),
            (9, 10, 10, (0, 0)),
            (10, 10, 10, (10, 10)),
            (-1, 10, 10, (-10, -10)),
            (0, 10, 5, (-5, 0)),
            (4, 10, 5, (-5, 0)),
            (5, 10, 5, (0, 5)),
            (12, 10, 4, (4, 12)),
            (13, 10, 4, (4, 12)),
            (14, 10, 4, (8, 12)),
            (7, 3, 1, (5, 7)),
        ] {
            assert_eq!(starts(time, (size, advance)), expected, "{time} in {size} every {advance}");
            let slow: Vec<i64> = (-100..=time)
                .filter(|start| start % advance == 0 && *start <= time && time < start + size)
                .collect();
            assert_eq!((slow.first(), slow.last()), (Some(&expected.0), Some(&expected.1)));
        }
    }
}
