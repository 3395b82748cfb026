//! Chance: for jitter, for sampling, for ids.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded; those seeded alike roll alike.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Seeded by the system, so that no two roll alike.
    pub fn random() -> Self {
        Self::new(RandomState::new().hash_one(0u8))
    }

    /// Uniform in 0..1.
    pub fn roll(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 64 bits of chance.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_fall_between_nought_and_one() {
        let mut dice = Dice::new(7);
        let rolls: Vec<f64> = (0..1000).map(|_| dice.roll()).collect();
        assert!(rolls.iter().all(|roll| (0.0..1.0).contains(roll)));
        let mean = rolls.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }

    #[test]
    fn dice_of_the_system_do_not_roll_alike() {
        assert_ne!(Dice::random().bits(), Dice::random().bits());
    }
}
