//! Chance, from a seed.

use std::{ops::Range, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What one part of the run draws from. Parts have streams of their own, so that what one
/// of them does when does not change what the others draw.
pub(crate) struct Chance(StdRng);

impl Chance {
    /// The stream of a part.
    pub(crate) fn of(seed: u64, part: u64) -> Self {
        let mixed = seed ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(StdRng::seed_from_u64(mixed))
    }

    /// So many of a hundred times.
    pub(crate) fn percent(&mut self, of_hundred: u32) -> bool {
        self.0.random_range(0..100) < of_hundred
    }

    /// A number of 0 to 99, for a choice among several.
    pub(crate) fn roll(&mut self) -> u32 {
        self.0.random_range(0..100)
    }

    /// Milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.0.random_range(range))
    }

    /// Waits for a random time.
    pub(crate) async fn rest(&mut self, millis: Range<u64>) {
        tokio::time::sleep(self.millis(millis)).await;
    }
}
