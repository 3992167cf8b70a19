//! What a crash would leave open, as the store keeps it.

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::{
    model::{FactId, MediaCount, ProducerId, RoomId, UnixMs},
    plugin::call::{Fact, ParticipantView, ProducerView, RoomView},
};

/// A change of what a crash would leave open.
pub(super) type Row = (String, Option<Box<[u8]>>);

/// What a stream is, for whoever has to end it after a crash.
#[derive(Serialize, Deserialize)]
pub(super) struct OpenStream {
    pub(super) room: RoomView,
    pub(super) participant: ParticipantView,
    pub(super) producer: ProducerView,
    pub(super) first_rtp_at: UnixMs,
}

/// What a room is, for whoever has to end it after a crash.
#[derive(Serialize, Deserialize)]
pub(super) struct OpenRoom {
    pub(super) room: RoomId,
    pub(super) fact: FactId,
    /// The last moment that was noted of it. Earlier versions only noted when it opened.
    #[serde(alias = "since")]
    pub(super) seen: UnixMs,
}

fn stream_key(producer: ProducerId) -> String {
    format!("stream/{producer}")
}

fn progress_key(producer: ProducerId) -> String {
    format!("progress/{producer}")
}

fn room_key(closing: FactId) -> String {
    format!("room/{}", closing.0)
}

/// How far a stream has come. `None` if that cannot be written.
pub(super) fn progress(producer: ProducerId, progress: &Progress) -> Option<(String, Box<[u8]>)> {
    Some((progress_key(producer), bytes(progress)?))
}

/// That the room was open then, if it is known what will end it.
fn room(room: &RoomView, closing: FactId, at: UnixMs) -> Option<Row> {
    let open = OpenRoom {
        room: room.id.clone(),
        fact: closing,
        seen: at,
    };
    (!closing.is_nil()).then(|| (room_key(closing), bytes(&open)))
}

/// What a fact changes of what is open, in a room that this fact will end. If that is nil, the
/// room's row is left alone.
pub(super) fn rows(fact: &Fact, closing: FactId) -> Vec<Row> {
    let mut rows = of_stream(fact);
    match fact {
        Fact::RoomOpened { room, at }
        | Fact::FirstRtp { room, at, .. }
        | Fact::ProducerClosed { room, at, .. } => rows.extend(self::room(room, closing, *at)),
        Fact::RoomClosed { .. } => rows.push((room_key(closing), None)),
        _ => {}
    }
    rows
}

fn of_stream(fact: &Fact) -> Vec<Row> {
    match fact {
        Fact::FirstRtp {
            room,
            participant,
            producer,
            at,
            ..
        } => {
            let stream = OpenStream {
                room: room.clone(),
                participant: participant.clone(),
                producer: producer.clone(),
                first_rtp_at: *at,
            };
            let progress = Progress {
                media: MediaCount::default(),
                at: *at,
            };
            vec![
                (stream_key(producer.id), bytes(&stream)),
                (progress_key(producer.id), bytes(&progress)),
            ]
        }
        Fact::ProducerPaused {
            producer,
            media,
            at,
            ..
        }
        | Fact::ProducerResumed {
            producer,
            media,
            at,
            ..
        } => {
            let progress = Progress {
                media: *media,
                at: *at,
            };
            vec![(progress_key(producer.id), bytes(&progress))]
        }
        Fact::ProducerClosed { producer, .. } => {
            let id = producer.id;
            vec![(stream_key(id), None), (progress_key(id), None)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn bytes<T: Serialize>(value: &T) -> Option<Box<[u8]>> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => {
            tracing::error!(%error, "a fact cannot be written down");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_an_earlier_version_has_left_open_is_read() {
        let row = r#"{"room":"a","fact":"00000000-0000-4000-8000-000000000001","since":7}"#;
        let open: OpenRoom = serde_json::from_str(row).unwrap();
        assert_eq!((open.room.as_str(), open.seen), ("a", UnixMs(7)));
    }
}
