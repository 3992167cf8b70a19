//! Who is in which call over REST and `/ws/call`: one participant for each user
//! and call, kept by a task of its own that answers the member's requests one
//! after the other and passes the call's events on to the user's sockets.

mod member;
mod sockets;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use governor::{DefaultKeyedRateLimiter, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub(super) use self::sockets::Listening;
use self::{member::Member, sockets::Sockets};
use super::{
    SharedFaces,
    auth::Identity,
    denial::Denial,
    gate::{self, Turned},
    request::Request,
    session::Reply,
};
use crate::{
    config::SessionsConfig,
    model::{RoomId, UserId},
    room::Reason,
};

/// Calls that one user may be in at once over REST.
const MAX_CALLS: usize = 16;
/// Requests of one member that may wait.
const WAITING_REQUESTS: usize = 256;
/// How often a request that met its member's end finds another.
const TRIES: usize = 3;
/// So many budgets are looked through for those that are full again.
const BUDGETS_BEFORE_LOOKING: usize = 1024;

/// May a request make its user a member?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Yes, and open the call if it is not there.
    Open,
    /// Yes, of a call that is there.
    Join,
    /// No.
    Never,
}

/// A request on its way to a member.
pub(super) struct Ask {
    request: Request,
    /// For the metrics.
    label: &'static str,
    /// A socket's wish to be there; else a request of REST.
    from_socket: bool,
    /// The member goes with the answer.
    leaves: bool,
    answer: oneshot::Sender<Result<Reply, Denial>>,
}

/// How a request is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// For the metrics.
    pub(super) label: &'static str,
    pub(super) entry: Entry,
    /// Whether it came over a socket, which keeps its user's places by itself.
    pub(super) from_socket: bool,
    /// Whether the member leaves with the answer.
    pub(super) leaves: bool,
}

impl Manner {
    /// A request over REST.
    pub(super) fn rest(label: &'static str, entry: Entry) -> Self {
        Self {
            label,
            entry,
            from_socket: false,
            leaves: false,
        }
    }
}

/// All members of all calls.
pub(super) struct Calls {
    parties: Arc<Mutex<HashMap<UserId, Party>>>,
    budgets: DefaultKeyedRateLimiter<UserId>,
    next: AtomicU64,
}

/// One user's calls and sockets.
#[derive(Default)]
struct Party {
    places: HashMap<RoomId, Place>,
    sockets: Arc<Sockets>,
}

/// How to reach a member.
#[derive(Clone)]
struct Place {
    /// Tells it from a later one of the same user and call.
    id: u64,
    asks: mpsc::Sender<Ask>,
}

impl Calls {
    pub(super) fn new(limits: &SessionsConfig) -> Self {
        Self {
            parties: Arc::default(),
            budgets: RateLimiter::keyed(gate::quota(limits)),
            next: AtomicU64::new(0),
        }
    }

    /// Takes a request from its user's budget.
    pub(super) fn spend(&self, user: UserId) -> Result<(), Turned> {
        if self.budgets.len() >= BUDGETS_BEFORE_LOOKING {
            // A full budget is as good as none.
            self.budgets.retain_recent();
            self.budgets.shrink_to_fit();
        }
        self.budgets
            .check_key(&user)
            .map_err(|_| gate::over_budget())
    }

    /// Has a request answered by its user's member of a call.
    pub(super) async fn ask(
        &self,
        faces: &SharedFaces,
        identity: &Identity,
        room: &RoomId,
        manner: Manner,
        request: impl Fn() -> Request,
    ) -> Result<Reply, Denial> {
        if !identity.may_enter(room) {
            return Err(Reason::RoomNotAllowed.into());
        }
        for _ in 0..TRIES {
            let place = self.place(faces, identity, room, manner.entry)?;
            if let Some(answer) = put(&place, manner, request()).await {
                return answer;
            }
            // The member ended before it came to the request.
        }
        Err(Reason::RoomNotFound.into())
    }

    /// Has a request answered by whichever of a user's members it concerns:
    /// the answer is `unknown` if it concerns none.
    pub(super) async fn ask_any(
        &self,
        user: UserId,
        label: &'static str,
        unknown: Reason,
        request: impl Fn() -> Request,
    ) -> Result<Reply, Denial> {
        let places: Vec<Place> = {
            let parties = self.parties.lock();
            let party = parties.get(&user);
            party.map_or_else(Vec::new, |party| party.places.values().cloned().collect())
        };
        let manner = Manner::rest(label, Entry::Never);
        for place in places {
            let answer = put(&place, manner, request()).await;
            match answer {
                None => {}
                Some(Err(Denial::Failed(crate::room::Failure::Room(
                    Reason::TransportNotFound
                    | Reason::ConsumerNotFound
                    | Reason::NotInRoom
                    | Reason::RoomNotFound,
                )))) => {}
                Some(answer) => return answer,
            }
        }
        Err(unknown.into())
    }

    /// Whether a user is a member of a call.
    pub(super) fn has(&self, user: UserId, room: &RoomId) -> bool {
        let parties = self.parties.lock();
        let party = parties.get(&user);
        party.is_some_and(|party| party.places.contains_key(room))
    }

    /// A socket of a user, which hears of all its calls; `None`: it has too many.
    pub(super) fn listen(&self, user: UserId, capacity: usize) -> Option<Listening> {
        let mut parties = self.parties.lock();
        let sockets = Arc::clone(&parties.entry(user).or_default().sockets);
        let parties = Arc::downgrade(&self.parties);
        sockets.add(capacity, move || forget_if_empty(&parties, user))
    }

    /// The user's place in a call, taken now if it has none.
    fn place(
        &self,
        faces: &SharedFaces,
        identity: &Identity,
        room: &RoomId,
        entry: Entry,
    ) -> Result<Place, Denial> {
        let user = identity.user.id;
        let is_open = entry == Entry::Open || faces.rooms.participants(room) > 0;
        let mut parties = self.parties.lock();
        let known = parties.get(&user);
        if let Some(place) = known.and_then(|party| party.places.get(room)) {
            return Ok(place.clone());
        }
        if !is_open || entry == Entry::Never {
            return Err(Reason::RoomNotFound.into());
        }
        let party = parties.entry(user).or_default();
        if party.places.len() >= MAX_CALLS {
            return Err(Denial::TooManyCalls);
        }
        let (asks, waiting) = mpsc::channel(WAITING_REQUESTS);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Place { id, asks };
        party.places.insert(room.clone(), place.clone());
        let parties = Arc::downgrade(&self.parties);
        let left = {
            let room = room.clone();
            move || {
                if let Some(parties) = parties.upgrade() {
                    leave(&mut parties.lock(), user, &room, id);
                }
            }
        };
        let sockets = Arc::clone(&party.sockets);
        let member = Member::new(faces, identity.clone(), room.clone(), sockets, left);
        tokio::spawn(member.run(waiting));
        Ok(place)
    }
}

/// Hands a request over; `None` if the member has ended.
async fn put(place: &Place, manner: Manner, request: Request) -> Option<Result<Reply, Denial>> {
    let (answer, answered) = oneshot::channel();
    let ask = Ask {
        request,
        label: manner.label,
        from_socket: manner.from_socket,
        leaves: manner.leaves,
        answer,
    };
    match place.asks.try_send(ask) {
        Ok(()) => answered.await.ok(),
        Err(mpsc::error::TrySendError::Full(_)) => Some(Err(gate::over_budget().into())),
        Err(mpsc::error::TrySendError::Closed(_)) => None,
    }
}

type Parties = HashMap<UserId, Party>;

/// Takes a member out that has ended.
fn leave(parties: &mut Parties, user: UserId, room: &RoomId, id: u64) {
    let Some(party) = parties.get_mut(&user) else {
        return;
    };
    if party.places.get(room).is_some_and(|place| place.id == id) {
        party.places.remove(room);
    }
    if party.is_empty() {
        parties.remove(&user);
    }
}

fn forget_if_empty(parties: &std::sync::Weak<Mutex<Parties>>, user: UserId) {
    let Some(parties) = parties.upgrade() else {
        return;
    };
    let mut parties = parties.lock();
    if parties.get(&user).is_some_and(Party::is_empty) {
        parties.remove(&user);
    }
}

impl Party {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.sockets.count() == 0
    }
}
