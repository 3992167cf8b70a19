//! Streams from their first packet to their end, and what the server tells of them.

use std::collections::BTreeMap;

use super::Stage;
use crate::{
    Actions, Failure, FirstPacket, Media, OnFirstRtp, OnProducerClosed, OnProducerPaused,
    OnProducerResumed, OnRoomClosed, Outcome, Plugin, Producer, Room, UnixMs,
    testing::told::Joined,
};

/// Of an Opus packet, as browsers send them.
const PACKET_MS: u64 = 20;
const PACKET_BYTES: u64 = 100;

/// A stream whose first packet has arrived.
#[derive(Debug)]
pub(super) struct Stream {
    who: Joined,
    producer: Producer,
    began: UnixMs,
    /// Since when packets come, if they do.
    flows: Option<UnixMs>,
    /// For how long they came before.
    flowed: u64,
    /// When the last of those came.
    last: UnixMs,
    /// Why they do not come, or last did not.
    cause: String,
    pauses: u32,
}

impl Stream {
    fn new(who: &Joined, producer: &Producer, began: UnixMs) -> Self {
        Self {
            who: who.clone(),
            producer: producer.clone(),
            began,
            flows: Some(began),
            flowed: 0,
            last: began,
            cause: String::new(),
            pauses: 0,
        }
    }

    fn media(&self, now: UnixMs) -> Media {
        let running = self.flows.map_or(0, |since| now.saturating_sub(since));
        let packets = self.flowed.saturating_add(running) / PACKET_MS + 1;
        Media {
            packets,
            bytes: packets.saturating_mul(PACKET_BYTES),
            last_rtp_at: Some(self.flows.map_or(self.last, |_| now)),
        }
    }

    /// From now on no packets come, unless they do not already.
    fn stop(&mut self, cause: &str, at: UnixMs) -> bool {
        let Some(since) = self.flows.take() else {
            return false;
        };
        self.flowed = self.flowed.saturating_add(at.saturating_sub(since));
        self.last = at;
        self.pauses = self.pauses.saturating_add(1);
        cause.clone_into(&mut self.cause);
        true
    }
}

/// What a server that was killed has yet to tell.
#[derive(Debug, Default)]
pub(super) struct LeftOpen {
    streams: Vec<Stream>,
    rooms: Vec<String>,
    at: UnixMs,
}

/// Streams. Facts of the server have UUIDs as ids; those of a stage say what they are, such as
/// `paused/1 of producer-3`.
impl<P: Plugin> Stage<P> {
    /// The first packet of a producer arrives: `on_first_rtp`. From now on a packet comes every
    /// 20 ms, for [`Media`] to count. Told again, it is the same fact with the same id.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn first_rtp(&mut self, who: &Joined, producer: &Producer) -> Outcome {
        let at = self.now();
        let began = self
            .streams
            .entry(producer.id.clone())
            .or_insert_with(|| Stream::new(who, producer, at))
            .began;
        let call = OnFirstRtp {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            packet: FirstPacket {
                ssrc: 1,
                timestamp: Some(0),
                payload_type: 111,
                after_ms: 0,
            },
            fact_id: format!("first-rtp of {}", producer.id),
            at: began,
        };
        self.inform(&who.room_id, "on-first-rtp", |plugin| {
            plugin.on_first_rtp(&call)
        })
    }

    /// A producer stops to flow, from now on: `on_producer_paused`. For a cause see
    /// [`OnProducerPaused::cause`]. Not told where the server does not tell it: before the first
    /// packet, and while it is paused already.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn pause(&mut self, who: &Joined, producer: &Producer, cause: &str) -> Outcome {
        self.pause_at(who, producer, cause, self.now())
    }

    /// No packet of a producer has come since a time that has passed: [`Stage::pause`] for
    /// `silence`, which the server notices afterwards.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn silence(&mut self, who: &Joined, producer: &Producer, since: UnixMs) -> Outcome {
        self.pause_at(who, producer, "silence", since.min(self.now()))
    }

    fn pause_at(&mut self, who: &Joined, producer: &Producer, cause: &str, at: UnixMs) -> Outcome {
        let stream = self.streams.get_mut(&producer.id);
        let Some(stream) = stream.and_then(|stream| stream.stop(cause, at).then_some(stream))
        else {
            return Ok(Actions::new());
        };
        let (media, fact_id) = (
            stream.media(at),
            format!("paused/{} of {}", stream.pauses, producer.id),
        );
        let call = OnProducerPaused {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            cause: cause.to_owned(),
            media,
            fact_id,
            at,
        };
        self.inform(&who.room_id, "on-producer-paused", |plugin| {
            plugin.on_producer_paused(&call)
        })
    }

    /// A producer flows again, from now on: `on_producer_resumed`. Not told of one that is not
    /// paused.
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn resume(&mut self, who: &Joined, producer: &Producer) -> Outcome {
        let at = self.now();
        let paused = self.streams.get_mut(&producer.id);
        let Some(stream) = paused.filter(|stream| stream.flows.is_none()) else {
            return Ok(Actions::new());
        };
        stream.flows = Some(at);
        let (cause, media, fact_id) = (
            stream.cause.clone(),
            stream.media(at),
            format!("resumed/{} of {}", stream.pauses, producer.id),
        );
        let call = OnProducerResumed {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            cause,
            media,
            fact_id,
            at,
        };
        self.inform(&who.room_id, "on-producer-resumed", |plugin| {
            plugin.on_producer_resumed(&call)
        })
    }

    /// A producer ends: `on_producer_closed`. For a reason see [`OnProducerClosed::reason`].
    ///
    /// # Errors
    ///
    /// What the plugin's hook says.
    pub fn close(&mut self, who: &Joined, producer: &Producer, reason: &str) -> Outcome {
        if let Some(sending) = self.sending.get_mut(&who.participant.id) {
            sending.retain(|_, one| one.id != producer.id);
        }
        let (at, stream) = (self.now(), self.streams.remove(&producer.id));
        self.tell_closed(who, producer, stream.as_ref(), reason, at)
    }

    fn tell_closed(
        &mut self,
        who: &Joined,
        producer: &Producer,
        stream: Option<&Stream>,
        reason: &str,
        at: UnixMs,
    ) -> Outcome {
        let call = OnProducerClosed {
            room: self.room(&who.room_id),
            participant: self.current(who),
            producer: producer.clone(),
            reason: reason.to_owned(),
            first_rtp_at: stream.map(|stream| stream.began),
            media: stream.map_or_else(Media::default, |stream| stream.media(at)),
            fact_id: format!("closed of {}", producer.id),
            at,
        };
        self.inform(&who.room_id, "on-producer-closed", |plugin| {
            plugin.on_producer_closed(&call)
        })
    }

    /// Forgets everybody, as a server does that is killed, and keeps what it has yet to tell.
    pub(super) fn forget_everybody(&mut self) {
        let at = self.now();
        self.left_open.at = at;
        let streams = std::mem::take(&mut self.streams);
        self.left_open.streams.extend(streams.into_values());
        let rooms = std::mem::take(&mut self.rooms);
        self.left_open.rooms.extend(rooms.into_keys());
        self.sending = BTreeMap::new();
    }

    /// What a server that was killed ([`Stage::restart_server`]) tells before all else when it
    /// runs again: `on_producer_closed` for each stream that had begun, `on_room_closed` for each
    /// room, with the reason `recovered`, as of the moment at which it was killed.
    ///
    /// # Errors
    ///
    /// What the first of the plugin's hooks that fails says. The others have been called.
    pub fn recover(&mut self) -> Outcome {
        let LeftOpen { streams, rooms, at } = std::mem::take(&mut self.left_open);
        let mut told: Outcome = Ok(Actions::new());
        for stream in streams {
            let (who, producer) = (&stream.who, &stream.producer);
            let closed = self.tell_closed(who, producer, Some(&stream), "recovered", at);
            told = both(told, closed);
        }
        for room_id in rooms {
            let room = self.room(&room_id);
            let closed = self.tell_room_closed(room, "recovered", at);
            told = both(told, closed.map(|()| Actions::new()));
        }
        told
    }

    pub(super) fn tell_room_closed(
        &mut self,
        room: Room,
        reason: &str,
        at: UnixMs,
    ) -> Result<(), Failure> {
        let fact_id = self.fresh_id("closed of room");
        let call = OnRoomClosed {
            room,
            reason: reason.to_owned(),
            fact_id,
            at,
        };
        self.inform(&call.room.id, "on-room-closed", |plugin| {
            plugin.on_room_closed(&call)
        })
    }
}

/// What two hooks say, the second of which is called whatever the first one says.
pub(super) fn both(first: Outcome, second: Outcome) -> Outcome {
    Ok(first?.then(second?))
}
