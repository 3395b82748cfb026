//! How long something takes, as far as this process was there to see it.

use std::time::Duration;

/// Of the time between two looks no more than this counts: in a process that was stopped, or on a machine that slept,
/// nothing could go on.
const MOST: Duration = Duration::from_secs(1);

/// Looks at something again and again.
#[derive(Debug, Default)]
pub struct Watch {
    since: Option<Duration>,
    looked_at: Duration,
    seen: Duration,
}

impl Watch {
    /// Looks: `since` is when what is under way began, `None` when nothing is. Returns how long it was seen under way;
    /// both are on the clock's monotonic time.
    pub fn look(&mut self, since: Option<Duration>, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.looked_at).min(MOST);
        self.looked_at = now;
        if since.is_none() || since != self.since {
            self.since = since;
            self.seen = since.map_or(Duration::ZERO, |since| now.saturating_sub(since).min(MOST));
        } else {
            self.seen += passed;
        }
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn time_is_seen_look_by_look() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(None, MS * 100), Duration::ZERO);
        assert_eq!(watch.look(Some(MS * 150), MS * 200), MS * 50);
        assert_eq!(watch.look(Some(MS * 150), MS * 700), MS * 550);
        assert_eq!(watch.look(Some(MS * 690), MS * 1000), MS * 310, "the next one");
        assert_eq!(watch.look(None, MS * 1100), Duration::ZERO);
    }

    #[test]
    fn a_standstill_counts_for_little() {
        let mut watch = Watch::default();
        watch.look(Some(MS), MS * 2);
        assert_eq!(watch.look(Some(MS), MS * 60_000), MS * 1001);
        assert_eq!(watch.look(Some(MS), MS * 60_500), MS * 1501);
        assert_eq!(watch.look(Some(MS * 61_000), MS * 120_000), MS * 1000, "begun before nobody looked");
    }
}
