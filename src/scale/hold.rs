//! How long a lower need has held: the greatest of a window decides, as in the stabilisation window of Kubernetes' horizontal
//! autoscaler, and how long nothing greater was needed tells what going down would save.

use std::collections::VecDeque;
use std::time::Duration;

/// Needs of the past: each value that nothing after it exceeded, with when it was last needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// Falling values at rising times.
    needs: VecDeque<(Duration, u32)>,
    since: Option<Duration>,
}

impl Held {
    /// So many workers are needed at `at`.
    pub fn note(&mut self, at: Duration, need: u32) {
        self.since.get_or_insert(at);
        while self.needs.back().is_some_and(|(_, before)| *before <= need) {
            self.needs.pop_back();
        }
        self.needs.push_back((at, need));
    }

    /// The most that was needed in the last `window`, and for how long no more was; `None`: there is not that much past yet.
    pub fn most(&self, at: Duration, window: Duration) -> Option<(u32, Duration)> {
        let from = at.checked_sub(window).filter(|from| self.since.is_some_and(|since| since <= *from))?;
        let place = self.needs.iter().position(|(then, _)| *then > from)?;
        let (_, most) = self.needs.get(place)?;
        let greater = place.checked_sub(1).and_then(|place| self.needs.get(place));
        let since = greater.map(|(then, _)| *then).or(self.since)?;
        Some((*most, at.saturating_sub(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_greatest_of_a_window_counts_and_how_long_none_was_greater() {
        let mut held = Held::default();
        for (at, need) in [(0, 5), (10, 2), (20, 3), (30, 1), (40, 1), (50, 1), (90, 1)] {
            held.note(s(at), need);
            if at < 30 {
                assert_eq!(held.most(s(at), s(30)), None, "{at}");
            }
        }
        // At the moment of asking, the window, the most of it and for how long.
        for (at, window, most) in [
            (90, 30, Some((1, s(70)))),
            (90, 75, Some((3, s(90)))),
            (90, 90, Some((3, s(90)))),
            (90, 95, None),
        ] {
            assert_eq!(held.most(s(at), s(window)), most, "{at} {window}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_the_greatest_as_counted(needs in proptest::collection::vec(0u32..9, 1..80), window in 1u64..40) {
            let mut held = Held::default();
            for (at, need) in needs.iter().enumerate() {
                held.note(s(at as u64), *need);
            }
            let now = needs.len() as u64 - 1;
            let found = held.most(s(now), s(window)).map(|(most, _)| most);
            let counted = now.checked_sub(window).map(|from| needs[from as usize + 1..].iter().max().copied());
            proptest::prop_assert_eq!(found, counted.flatten());
        }
    }
}
