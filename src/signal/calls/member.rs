//! One member of a call: its place in the room for as long as it has a socket,
//! asks for something or is reached by ICE.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Ask, Sockets};
use crate::{
    model::{RoomId, UnixMs, UserId},
    room::{Departure, Event, Inbox},
    signal::{SharedFaces, auth::Identity, denial::Denial, iso, session::Session},
};

/// How many times within the limit a member without requests is looked at.
const LOOKS: u32 = 4;

/// A member that has not entered yet.
pub(super) struct Member<F: FnOnce()> {
    session: Session,
    room: RoomId,
    sockets: Arc<Sockets>,
    idle_limit: Duration,
    gone: Gone<F>,
}

/// Takes the member out of the registry, however its task ends.
struct Gone<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Gone<F> {
    fn drop(&mut self) {
        if let Some(gone) = self.0.take() {
            gone();
        }
    }
}

impl<F: FnOnce() + Send> Member<F> {
    pub(super) fn new(
        faces: &SharedFaces,
        identity: Identity,
        room: RoomId,
        sockets: Arc<Sockets>,
        gone: F,
    ) -> Self {
        Self {
            session: Session::new(faces, identity),
            room,
            sockets,
            idle_limit: faces.config.sessions.rest_idle,
            gone: Gone(Some(gone)),
        }
    }

    /// Enters the call and stays until something ends it. Whoever asked first is
    /// told why, if the member cannot enter.
    pub(super) async fn run(self, mut asks: mpsc::Receiver<Ask>) {
        let Self {
            mut session,
            room,
            sockets,
            idle_limit,
            gone,
        } = self;
        let Some(first) = asks.recv().await else {
            return;
        };
        let started = std::time::Instant::now();
        let joined = session.join(&room).await.map_err(Denial::from);
        session.record("call:join", started, &joined);
        let inbox = match joined {
            Ok(welcome) => welcome.inbox,
            Err(denial) => {
                // A member that enters later is another one.
                drop(gone);
                first.answer.send(Err(denial)).ok();
                return;
            }
        };
        let connected = session
            .membership()
            .and_then(|place| place.call().connected);
        // What is asked for in the meantime waits until the registry has forgotten the member,
        // and then finds another one: `asks` goes last.
        let mut present = Present {
            session,
            room,
            watched: sockets.watch(),
            sockets,
            idle_limit,
            alive_at: Instant::now(),
            used_rest: false,
            connected,
            connected_told: false,
        };
        present.stay(first, &mut asks, inbox).await;
        drop(present);
        drop(gone);
    }
}

/// A member in its call.
struct Present {
    session: Session,
    room: RoomId,
    sockets: Arc<Sockets>,
    watched: watch::Receiver<usize>,
    idle_limit: Duration,
    /// When the member was last known to be there.
    alive_at: Instant,
    /// Whether it stays without a socket.
    used_rest: bool,
    connected: Option<(UserId, UnixMs)>,
    connected_told: bool,
}

impl Present {
    async fn stay(&mut self, first: Ask, asks: &mut mpsc::Receiver<Ask>, mut inbox: Inbox) {
        self.tell_connected();
        if !self.answer(first).await {
            return;
        }
        loop {
            let look_at = self.look_at();
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => if !self.answer(ask).await { return },
                    None => return,
                },
                event = inbox.next() => match event {
                    Some(event) => self.pass_on(&event),
                    None => return self.removed(&inbox),
                },
                changed = self.watched.changed() => {
                    if changed.is_err() || !self.count_sockets() {
                        return;
                    }
                }
                () = sleep_until(look_at) => if !self.is_there() { return },
            }
        }
    }

    /// Answers a request; `false` if the member has left with it.
    async fn answer(&mut self, ask: Ask) -> bool {
        let started = std::time::Instant::now();
        let result = self.session.serve(&self.room, ask.request).await;
        self.session.record(ask.label, started, &result);
        // What another call of the user was meant with is no sign of life here.
        if !ask.from_socket && result.is_ok() {
            self.used_rest = true;
            self.alive_at = Instant::now();
        }
        let left = ask.leaves && result.is_ok() && self.leave();
        ask.answer.send(result).ok();
        !left
    }

    /// Leaves the call; if it was the last to do so, its sockets hear of the end.
    /// `false` if the call was over before: then the room says how.
    fn leave(&mut self) -> bool {
        let place = self.session.membership();
        let connected = place.and_then(|place| place.call().connected);
        let left = self.session.leave(&self.room).is_ok();
        if left && self.session.faces().rooms.participants(&self.room) == 0 {
            self.tell_end("empty", connected);
        }
        left
    }

    fn pass_on(&mut self, event: &Event) {
        let event = match event {
            Event::NewProducer { producer, user, .. } => told(
                "new_producer",
                json!({ "callId": self.room, "producerId": producer, "userId": user }),
            ),
            Event::ProducerClosed {
                producer,
                user,
                reason,
                ..
            } => told(
                "producer_closed",
                json!({
                    "callId": self.room,
                    "producerId": producer,
                    "userId": user,
                    "reason": reason.as_str(),
                }),
            ),
            Event::TransportClosed { transport } => told(
                "transport_closed",
                json!({
                    "callId": self.room,
                    "transportId": transport,
                    "reason": "worker_died",
                }),
            ),
            Event::Connected { user, at } => {
                self.connected = Some((*user, *at));
                return self.tell_connected();
            }
            Event::RoomClosed { reason, .. } => {
                return self.tell_end(reason.as_str(), self.connected);
            }
            Event::Plugin { name, payload } => {
                json!({ "type": &**name, "callId": self.room, "payload": payload })
            }
            Event::ProducerPaused { .. }
            | Event::FirstRtp { .. }
            | Event::Speaking { .. }
            | Event::UserJoined(_)
            | Event::UserLeft { .. }
            | Event::Broadcast { .. } => return,
        };
        self.sockets.tell(&event);
    }

    /// Tells that the call is connected, once, as soon as somebody listens.
    fn tell_connected(&mut self) {
        let Some((user, at)) = self.connected else {
            return;
        };
        if self.connected_told || self.sockets.count() == 0 {
            return;
        }
        self.connected_told = true;
        let payload = json!({
            "callId": self.room,
            "userId": user,
            "connectedAt": iso::time(at),
            "method": "sfu_rtp_detected",
        });
        self.sockets.tell(&told("call_connected", payload));
    }

    fn tell_end(&self, reason: &str, connected: Option<(UserId, UnixMs)>) {
        let at = UnixMs::now();
        let lasted = connected.map_or(0, |(_, since)| at.0.saturating_sub(since.0) / 1000);
        let payload = json!({
            "callId": self.room,
            "endedAt": iso::time(at),
            "reason": reason,
            "durationSeconds": lasted,
        });
        self.sockets.tell(&told("call_end", payload));
    }

    /// The room has let go of the member.
    fn removed(&self, inbox: &Inbox) {
        // At the room's own end it was told before.
        if let Some(departure @ (Departure::Kicked(_) | Departure::TooSlow)) = inbox.end() {
            self.tell_end(&departure.reason(), self.connected);
        }
    }

    /// The number of sockets has changed; `false` if that was all that kept the
    /// member.
    fn count_sockets(&mut self) -> bool {
        if *self.watched.borrow_and_update() > 0 {
            self.tell_connected();
            return true;
        }
        self.alive_at = Instant::now();
        self.used_rest
    }

    fn look_at(&self) -> Instant {
        let pause = self.idle_limit / LOOKS;
        (self.alive_at + self.idle_limit).min(Instant::now() + pause)
    }

    /// Whether the member still has a socket, ICE, or asked for something lately.
    fn is_there(&mut self) -> bool {
        let place = self.session.membership();
        let reached = place.is_some_and(|place| place.is_reachable());
        if reached || self.sockets.count() > 0 {
            self.alive_at = Instant::now();
        }
        self.alive_at.elapsed() < self.idle_limit
    }
}

/// An event of the call as the sockets hear it.
fn told(kind: &str, payload: Value) -> Value {
    let fields = [("type", json!(kind)), ("payload", payload)];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}
