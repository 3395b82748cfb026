//! How long what failed is waited with before it is tried again: a process that died, a server that does not answer.

use std::time::Duration;

/// After the first death, and at most.
const WAIT: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];

/// Who lived so long has not died in a row.
const LIVED: Duration = Duration::from_secs(60);

/// Deaths in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BackOff {
    deaths: u32,
    until: Duration,
}

impl BackOff {
    /// It died at `at`, having been there since `since`. Says how long it is waited.
    pub fn died(&mut self, since: Duration, at: Duration) -> Duration {
        if at.saturating_sub(since) >= LIVED {
            self.deaths = 0;
        }
        let [first, most] = WAIT;
        let wait = first.saturating_mul(1 << self.deaths.min(16)).min(most);
        self.deaths = self.deaths.saturating_add(1);
        self.until = at + wait;
        wait
    }

    /// It may be started.
    pub fn is_over(&self, at: Duration) -> bool {
        at >= self.until
    }

    /// How often it died in a row.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_death_in_a_row_is_waited_with_for_twice_as_long() {
        let (mut back_off, s) = (BackOff::default(), Duration::from_secs);
        let waits: Vec<f64> = (0..9).map(|_| back_off.died(s(0), s(1)).as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert!(!back_off.is_over(s(60)) && back_off.is_over(s(61)));
        assert_eq!(back_off.died(s(100), s(160)), Duration::from_millis(500), "it lived a minute");
    }
}
