//! Dead letters that somebody wants delivered again.
//!
//! A letter is changed by the task that tries it and by operators, each from what they have
//! read: one after the other.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};

use super::{
    SAVE_LIMIT,
    courier::{Courier, READ_AGAIN, blocking},
    receiver::Outcome,
};
use crate::store::{DeadLetter, ledger::LedgerError};

/// Tries at each; then it is as dead as before.
const TRIES: u32 = 3;

/// Letters that are read at once.
const PAGE: usize = 100;

impl Courier {
    /// Tries what is marked, one after the other, at the start and whenever it is woken, until
    /// it is told to stop.
    pub(super) async fn deliver_again(
        self: Arc<Self>,
        woken: Arc<Notify>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let work = async {
            loop {
                if let Err(error) = self.deliver_marked().await {
                    tracing::error!(sink = %self.state.name(), %error, "dead letters wait");
                    tokio::time::sleep(READ_AGAIN).await;
                    continue;
                }
                woken.notified().await;
            }
        };
        tokio::select! {
            () = work => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    async fn deliver_marked(&self) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            let state = self.state.clone();
            let page = blocking(move || state.letters(after, PAGE)).await?;
            for (seq, letter) in page.letters {
                if letter.retry {
                    self.deliver_letter(seq, letter).await?;
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn deliver_letter(&self, seq: u64, mut letter: DeadLetter) -> Result<(), LedgerError> {
        let outline: Option<Named> = serde_json::from_str(&letter.entry).ok();
        let id = outline.map(|outline| outline.id).unwrap_or_default();
        let mut wait = self.receiver.config().first_wait;
        for left in (0..TRIES).rev() {
            letter.tries = letter.tries.saturating_add(1);
            match self.try_once(&id, letter.entry.clone()).await {
                Outcome::Taken => {
                    tracing::info!(sink = %self.state.name(), seq, "a dead letter is delivered");
                    let _alone = self.changing.lock().await;
                    self.put_letter(seq, None).await;
                    return Ok(());
                }
                Outcome::Later { problem, .. } if left > 0 => {
                    letter.problem = problem;
                    tokio::time::sleep(wait).await;
                    wait = wait.saturating_mul(2).min(LONGEST);
                }
                Outcome::Later { problem, .. } | Outcome::Never { problem } => {
                    letter.problem = problem;
                    break;
                }
            }
        }
        letter.retry = false;
        let _alone = self.changing.lock().await;
        let state = self.state.clone();
        // Unless it was dropped in the meantime.
        if blocking(move || state.letter(seq)).await?.is_some() {
            self.put_letter(seq, Some(letter)).await;
        }
        Ok(())
    }

    /// Whoever reads the letter next finds this. What a bad disk does not take in time is on
    /// its way there all the same.
    async fn put_letter(&self, seq: u64, letter: Option<DeadLetter>) {
        let saved = self.state.put_letters([(seq, letter)]);
        if let Err(error) = saved.wait(SAVE_LIMIT).await {
            tracing::error!(sink = %self.state.name(), seq, %error, "a dead letter's change");
        }
    }
}

/// The longest wait between two tries at one letter: others wait behind it.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(serde::Deserialize)]
struct Named {
    id: String,
}
