//! Chance that can be run again: SplitMix64 with a printed seed.

/// The seed of this test run: `ESTOPPEL_SEED`, or a fixed one so that runs are equal by default.
#[must_use]
pub fn seed() -> u64 {
    const DEFAULT: u64 = 0x0E57_0BBE_1000_0001;
    std::env::var("ESTOPPEL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT)
}

/// A small generator for tests (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0. The bias is below 2^-32 for the sizes tests use.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end as u64; // usize is at most 64 bits on every target we build for.
        let scaled = (u128::from(self.word()) * u128::from(end)) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word().to_le_bytes()[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_words() {
        let (mut left, mut right) = (Seeded::new(7), Seeded::new(7));
        assert_eq!(left.bytes(100), right.bytes(100));
        assert_ne!(Seeded::new(7).word(), Seeded::new(8).word());
    }

    #[test]
    fn matches_the_published_splitmix64_sequence() {
        let mut words = Seeded::new(1_234_567);
        assert_eq!(words.word(), 6_457_827_717_110_365_317);
        assert_eq!(words.word(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below() {
        let mut words = Seeded::new(1);
        assert!((0..1000).all(|_| words.below(3) < 3));
        assert_eq!(words.below(0), 0);
    }
}
