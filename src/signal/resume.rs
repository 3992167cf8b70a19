//! Coming back: whoever asks for it on entering a room gets a token. When the
//! connection is lost the participant stays for a grace, with its media and its
//! events, and another connection of the same user takes it over by the token:
//! others see nothing of it.
//!
//! A place has one owner at any time, a task: that of its connection, or, while
//! there is none, that of [`park`]. To take it over is to ask the owner for it, so
//! it does not matter whether the loss was noticed, and of those who ask at the
//! same time one gets it.

mod tape;

use std::{
    collections::{HashMap, hash_map::Entry},
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{debug, error};

pub(super) use self::tape::{Reach, Tape};
use super::{Stopping, auth::Identity, denial::Denial};
use crate::{
    config::SessionsConfig,
    model::{RoomId, UserId},
    room::{Departure, Membership, Reason},
    telemetry::{self, Counted},
};

/// How long the owner of a place may take to hand it over: it finishes the request
/// that it is doing.
const CLAIM_LIMIT: Duration = Duration::from_secs(10);
/// Who may wait for the same place.
const WAITING_CLAIMS: usize = 4;
/// Lost connections of one user that are waited for: a client has one, a user a few.
const MAX_PARKED_OF_USER: usize = 8;
const TOKEN_BYTES: usize = 32;

/// What a token is known by: its hash, so that a lookup says nothing about it.
type Key = [u8; 32];

/// The places that can be taken over.
pub(super) struct Resumes {
    grace: Duration,
    max_events: usize,
    open: Mutex<HashMap<Key, Open>>,
    /// How many connections are waited for, by user.
    parked: Mutex<HashMap<UserId, usize>>,
}

/// How to ask for a place.
struct Open {
    user: UserId,
    room: RoomId,
    claims: mpsc::Sender<Claim>,
    /// Set for the token before the current one, which its client knows if the
    /// answer with the current one was lost: good only while nobody is connected.
    only_parked: Option<Arc<AtomicBool>>,
}

/// Somebody with the token wants the place.
pub(super) struct Claim {
    last_seq: u64,
    answer: oneshot::Sender<Result<Held, Denial>>,
}

/// A place in a room that can be taken over, with the events on their way to it.
pub(super) struct Held {
    pub(super) ticket: Ticket,
    pub(super) membership: Membership,
    pub(super) tape: Tape,
}

/// The right to take a place over, as its owner holds it. Dropping it ends the right.
pub(super) struct Ticket {
    resumes: Arc<Resumes>,
    user: UserId,
    token: String,
    keys: Vec<Key>,
    claims: mpsc::Receiver<Claim>,
    parked: Arc<AtomicBool>,
}

impl Resumes {
    /// No places yet.
    pub(super) fn new(limits: &SessionsConfig) -> Arc<Self> {
        Arc::new(Self {
            grace: limits.resume_grace,
            max_events: limits.outbox_capacity,
            open: Mutex::default(),
            parked: Mutex::default(),
        })
    }

    /// A token for a user's place in a room; `before` is the one with which the
    /// place was taken over. `None` if the configuration does not want it.
    pub(super) fn issue(
        self: &Arc<Self>,
        user: UserId,
        room: &RoomId,
        before: Option<&str>,
    ) -> Option<Ticket> {
        if self.grace.is_zero() {
            return None;
        }
        let mut secret = [0; TOKEN_BYTES];
        if let Err(error) = getrandom::fill(&mut secret) {
            error!(%error, "no random numbers for a token to resume with");
            return None;
        }
        let token = BASE64_URL_SAFE_NO_PAD.encode(secret);
        let (claims, claimed) = mpsc::channel(WAITING_CLAIMS);
        let parked = Arc::new(AtomicBool::new(false));
        let entry = |only_parked| Open {
            user,
            room: room.clone(),
            claims: claims.clone(),
            only_parked,
        };
        let mut keys = vec![key(&token)];
        let mut open = self.open.lock();
        open.insert(key(&token), entry(None));
        if let Some(before) = before.map(key) {
            open.insert(before, entry(Some(Arc::clone(&parked))));
            keys.push(before);
        }
        drop(open);
        Some(Ticket {
            resumes: Arc::clone(self),
            user,
            token,
            keys,
            claims: claimed,
            parked,
        })
    }

    /// Takes a place over. Nothing has changed if that is refused.
    pub(super) async fn claim(
        &self,
        who: &Identity,
        token: &str,
        last_seq: u64,
    ) -> Result<Held, Denial> {
        let claims = self.find(who, token)?;
        let (answer, answered) = oneshot::channel();
        let claim = Claim { last_seq, answer };
        // Whoever finds so many others waiting comes too late.
        claims.try_send(claim).map_err(|_| Denial::ResumeExpired)?;
        match timeout(CLAIM_LIMIT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Denial::ResumeExpired),
            Err(_) => {
                debug!("a place was not handed over in time");
                Err(Denial::ResumeExpired)
            }
        }
    }

    fn find(&self, who: &Identity, token: &str) -> Result<mpsc::Sender<Claim>, Denial> {
        let open = self.open.lock();
        // Another user's token is one that does not exist.
        let entry = open.get(&key(token)).filter(|entry| {
            let parked = entry.only_parked.as_ref();
            entry.user == who.user.id && parked.is_none_or(|one| one.load(Ordering::Acquire))
        });
        let entry = entry.ok_or(Denial::ResumeExpired)?;
        if !who.may_enter(&entry.room) {
            return Err(Reason::RoomNotAllowed.into());
        }
        Ok(entry.claims.clone())
    }
}

fn key(token: &str) -> Key {
    Sha256::digest(token).into()
}

impl Held {
    /// Hands the place over; it stays if the claim is not good, or if whoever
    /// claimed has gone.
    pub(super) fn give(self, claim: Claim) -> Option<Self> {
        let Claim { last_seq, answer } = claim;
        let reach = self.tape.reach();
        let refused = if matches!(self.tape.end(), Some(Departure::TooSlow)) {
            Some(Denial::ResumeExpired)
        } else if last_seq < reach.lowest || last_seq > reach.highest {
            Some(Denial::ResumeGap(reach))
        } else {
            None
        };
        match refused {
            Some(denial) => {
                // Whoever has stopped waiting needs no answer.
                answer.send(Err(denial)).ok();
                Some(self)
            }
            None => answer.send(Ok(self)).err().and_then(Result::ok),
        }
    }
}

impl Ticket {
    /// What the client gets: `{token, graceMs}`.
    pub(super) fn describe(&self) -> Value {
        let grace = u64::try_from(self.resumes.grace.as_millis()).unwrap_or(u64::MAX);
        json!({ "token": self.token, "graceMs": grace })
    }

    /// Whether this is the token itself.
    pub(super) fn is(&self, token: &str) -> bool {
        self.keys.contains(&key(token))
    }

    /// How many events that went out are kept.
    pub(super) fn max_events(&self) -> usize {
        self.resumes.max_events
    }

    /// The next one who wants the place.
    async fn claimed(&mut self) -> Claim {
        match self.claims.recv().await {
            Some(claim) => claim,
            // The registry keeps a sender for as long as the ticket lives.
            None => future::pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.resumes.open.lock();
        for key in &self.keys {
            open.remove(key);
        }
    }
}

/// The next one who wants a place; nobody ever wants one without a ticket.
/// Nothing is lost if this is cancelled.
pub(super) async fn claimed(ticket: &mut Option<Ticket>) -> Claim {
    match ticket {
        Some(ticket) => ticket.claimed().await,
        None => future::pending().await,
    }
}

/// One of a user's connections that are waited for.
struct Parking {
    resumes: Arc<Resumes>,
    user: UserId,
    _counted: Counted,
}

impl Parking {
    /// `None` if there are too many of this user already.
    fn take(resumes: &Arc<Resumes>, user: UserId) -> Option<Self> {
        let mut parked = resumes.parked.lock();
        let count = parked.entry(user).or_default();
        if *count == MAX_PARKED_OF_USER {
            return None;
        }
        *count += 1;
        Some(Self {
            resumes: Arc::clone(resumes),
            user,
            _counted: Counted::one(telemetry::PARKED_SESSIONS),
        })
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        let mut parked = self.resumes.parked.lock();
        if let Entry::Occupied(mut count) = parked.entry(self.user) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Keeps a place whose connection was lost until somebody takes it over. After the
/// grace, or when the server stops, the participant leaves as one that has
/// disconnected.
pub(super) async fn park(mut held: Held, mut stopping: Stopping) {
    let Some(_parking) = Parking::take(&held.ticket.resumes, held.ticket.user) else {
        debug!(user = %held.ticket.user, "too many lost connections of one user: not kept");
        return;
    };
    debug!(room = %held.membership.room(), "a connection was lost: its place is kept");
    held.ticket.parked.store(true, Ordering::Release);
    let grace = sleep(held.ticket.resumes.grace);
    tokio::pin!(grace);
    loop {
        tokio::select! {
            () = &mut grace => return,
            () = stopping.wait() => return,
            claim = held.ticket.claimed() => match held.give(claim) {
                Some(kept) => held = kept,
                None => return,
            },
        }
    }
}
