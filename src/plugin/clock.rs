//! The engine's clock. It ticks while guests run, and rests when none does: a thousand ticks
//! a second would be most of what an idle server does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// A guest that runs longer than this lets others run.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest before the clock rests. To wake it costs as much as a short call,
/// and calls come in bursts.
const QUIET_TICKS: u32 = 100;

/// Dropping it ends its thread.
pub(super) struct Clock {
    guests: Arc<Guests>,
    wake: mpsc::Sender<()>,
}

#[derive(Default)]
struct Guests {
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// The clock waits to be woken.
    rests: AtomicBool,
}

/// A guest that runs: the clock ticks for as long as this is kept.
pub(super) struct Running<'a>(&'a Guests);

impl Clock {
    /// Starts a clock that calls `tick`.
    pub(super) fn start(tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let guests = Arc::<Guests>::default();
        let (wake, wakes) = mpsc::channel();
        thread::Builder::new()
            .name("plugin-ticker".to_owned())
            .spawn({
                let guests = Arc::clone(&guests);
                move || run(&guests, &wakes, tick)
            })?;
        Ok(Self { guests, wake })
    }

    /// A guest begins to run.
    pub(super) fn running(&self) -> Running<'_> {
        self.guests.begun.fetch_add(1, SeqCst);
        if self.guests.rests.load(SeqCst) && self.guests.rests.swap(false, SeqCst) {
            // Fails only where the thread has ended, which it does after this clock.
            self.wake.send(()).ok();
        }
        Running(&self.guests)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

impl Guests {
    /// How many have begun so far, if none of them runs now.
    fn quiet(&self) -> Option<usize> {
        // In this order: if the second number is no higher than the first, all had ended.
        let ended = self.ended.load(SeqCst);
        (self.begun.load(SeqCst) == ended).then_some(ended)
    }
}

/// Ticks once for each [`TICK`]. Late ticks are not made up for: two at once would halve some
/// guest's time.
fn run(guests: &Guests, wakes: &mpsc::Receiver<()>, tick: impl Fn()) {
    let mut next = Instant::now() + TICK;
    let mut quiet_ticks = 0;
    let mut before = None;
    loop {
        let wait = next.saturating_duration_since(Instant::now());
        match wakes.recv_timeout(wait) {
            Err(mpsc::RecvTimeoutError::Timeout) => tick(),
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        next = Instant::now().max(next) + TICK;
        let now = guests.quiet();
        let is_quiet = now.is_some() && now == before;
        before = now;
        quiet_ticks = if is_quiet { quiet_ticks + 1 } else { 0 };
        if quiet_ticks < QUIET_TICKS {
            continue;
        }
        guests.rests.store(true, SeqCst);
        // Whoever begins from here on sees that; whoever began before is seen here.
        if guests.quiet() == now {
            if wakes.recv().is_err() {
                return;
            }
            next = Instant::now() + TICK;
        } else {
            guests.rests.store(false, SeqCst);
        }
        quiet_ticks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn clock() -> (Clock, mpsc::Receiver<()>) {
        let (ticks, ticked) = mpsc::channel();
        let clock = Clock::start(move || ticks.send(()).unwrap()).unwrap();
        (clock, ticked)
    }

    fn rests(clock: &Clock) {
        let begun = Instant::now();
        while !clock.guests.rests.load(SeqCst) {
            assert!(begun.elapsed() < LIMIT, "it does not rest");
            thread::yield_now();
        }
    }

    #[test]
    fn it_ticks_for_every_guest_also_after_a_rest() {
        let (clock, ticked) = clock();
        for _ in 0..3 {
            rests(&clock);
            ticked.try_iter().for_each(drop);
            let guest = clock.running();
            for _ in 0..2 * QUIET_TICKS {
                ticked.recv_timeout(LIMIT).unwrap();
            }
            assert!(!clock.guests.rests.load(SeqCst));
            drop(guest);
        }
    }

    #[test]
    fn its_thread_ends_with_it() {
        for rested in [false, true] {
            let (clock, ticked) = clock();
            if rested {
                rests(&clock);
            }
            drop(clock);
            let end = loop {
                if let Err(end) = ticked.recv_timeout(LIMIT) {
                    break end;
                }
            };
            assert_eq!(end, mpsc::RecvTimeoutError::Disconnected);
        }
    }
}
