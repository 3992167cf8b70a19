//! A limit on how often something is done, shared by many threads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// Allows at most `per_second` passes in each second since it was made.
pub(super) struct Throttle {
    began: Instant,
    per_second: u32,
    /// The second in the upper half, passes in it in the lower.
    state: AtomicU64,
}

impl Throttle {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            began: Instant::now(),
            per_second,
            state: AtomicU64::new(0),
        }
    }

    /// Whether it may be done now.
    pub(super) fn allow(&self) -> bool {
        self.allow_at(self.began.elapsed().as_secs())
    }

    fn allow_at(&self, second: u64) -> bool {
        let second = (second & u64::from(u32::MAX)) << 32;
        self.state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                if state & !u64::from(u32::MAX) != second {
                    return Some(second | 1);
                }
                let passes = state & u64::from(u32::MAX);
                (passes < u64::from(self.per_second)).then_some(state + 1)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_passes_and_the_next_has_them_anew() {
        let throttle = Throttle::new(2);
        let passes: Vec<bool> = [0, 0, 0, 1, 1, 1, 5].map(|at| throttle.allow_at(at)).into();
        assert_eq!(passes, [true, true, false, true, true, false, true]);
    }
}
