//! Chance that can be had again: `TIDEMILL_TEST_SEED=…` rolls the same dice.

use std::fmt;

use tidemill::model::{Clock as _, SystemClock};

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Dice with the seed of the environment, or one that no other run has.
    pub fn new() -> Self {
        let seed = number("TIDEMILL_TEST_SEED").unwrap_or(SystemClock::start().now().wall_ms as u64);
        Self::seeded(seed)
    }

    /// Dice with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// 0 up to and without `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// How to have them again.
impl fmt::Display for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TIDEMILL_TEST_SEED={}", self.seed)
    }
}

/// The number in an environment variable.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
