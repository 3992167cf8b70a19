//! What each hook is told.

use serde::de::DeserializeOwned;

use crate::{
    fields,
    nouns::{
        Codec, FirstPacket, Media, Participant, Producer, Room, Source, Speaker, UnixMs, UserId,
    },
    outcome::Refusal,
};

/// A user asks to enter a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeforeJoin {
    /// Not counting the newcomer.
    pub room: Room,
    /// The newcomer.
    pub participant: Participant,
    /// Now.
    pub at: UnixMs,
}

/// The first participant has entered a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnRoomOpened {
    /// Counting the first participant.
    pub room: Room,
    /// Now.
    pub at: UnixMs,
}

/// A room has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnRoomClosed {
    /// Which had this id; nobody is in it.
    pub room: Room,
    /// `empty`, `shutdown`, `worker_died`, …; `recovered`: the server was killed, and tells
    /// it when it runs again.
    pub reason: String,
    /// Which fact this is: the same each time that it is told. See the crate's
    /// [section on facts](crate#facts-that-money-may-hang-on).
    pub fact_id: String,
    /// Now.
    pub at: UnixMs,
}

/// A timer of the plugin is due; see [`timers`](crate::timers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnTimer {
    /// To which the timer belongs. `participants` is 0 where the room is not open.
    pub room: Room,
    /// Under which it was set.
    pub key: String,
    /// When it was due. After a restart of the server that may be long ago; a repeating
    /// timer is then called once for all the times that were missed.
    pub due: UnixMs,
    /// Now.
    pub at: UnixMs,
}

/// A participant has entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnJoin {
    /// Counting the newcomer.
    pub room: Room,
    /// The newcomer.
    pub participant: Participant,
    /// Now.
    pub at: UnixMs,
}

/// A newcomer is about to be shown the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeRoom {
    /// Counting the newcomer.
    pub room: Room,
    /// The newcomer, to whom the description is shown.
    pub participant: Participant,
    /// Now.
    pub at: UnixMs,
}

/// A participant is gone: the last call about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnLeave {
    /// Counting those who remain.
    pub room: Room,
    /// Who is gone.
    pub participant: Participant,
    /// `left`, `disconnected`, `too_slow`, a plugin's reason to kick, …
    pub reason: String,
    /// Now.
    pub at: UnixMs,
}

/// A participant asks to send audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeforeProduce {
    /// Where.
    pub room: Room,
    /// Who.
    pub participant: Participant,
    /// What it would carry.
    pub source: Source,
    /// How it would be encoded.
    pub codec: Codec,
    /// Now.
    pub at: UnixMs,
}

/// A participant asks to receive a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeforeConsume {
    /// Where.
    pub room: Room,
    /// Who asks.
    pub participant: Participant,
    /// What they would hear.
    pub producer: Producer,
    /// Who sends it.
    pub owner: UserId,
    /// Now.
    pub at: UnixMs,
}

/// A producer exists and the room has been told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnNewProducer {
    /// Where.
    pub room: Room,
    /// Who.
    pub participant: Participant,
    /// What.
    pub producer: Producer,
    /// Now.
    pub at: UnixMs,
}

/// The first RTP packet of a producer has arrived. Once per producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnFirstRtp {
    /// Where.
    pub room: Room,
    /// Who.
    pub participant: Participant,
    /// What.
    pub producer: Producer,
    /// With which packet.
    pub packet: FirstPacket,
    /// Which fact this is: the same each time that it is told. See the crate's
    /// [section on facts](crate#facts-that-money-may-hang-on).
    pub fact_id: String,
    /// When the packet arrived.
    pub at: UnixMs,
}

/// A producer whose first RTP was told has stopped to flow: somebody pauses it, or no packet
/// comes. A further cause while it is paused is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnProducerPaused {
    /// Where.
    pub room: Room,
    /// Who.
    pub participant: Participant,
    /// What.
    pub producer: Producer,
    /// `user`, `plugin`, or `silence`: no packet has come for the configured time, although
    /// nobody paused it.
    pub cause: String,
    /// What has been received of it so far.
    pub media: Media,
    /// Which fact this is: the same each time that it is told. See the crate's
    /// [section on facts](crate#facts-that-money-may-hang-on).
    pub fact_id: String,
    /// Now; at `silence` the time of the last packet.
    pub at: UnixMs,
}

/// A producer flows again. Comes after [`OnProducerPaused`] only, in turn with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnProducerResumed {
    /// Where.
    pub room: Room,
    /// Who.
    pub participant: Participant,
    /// What.
    pub producer: Producer,
    /// Why it had stopped, as [`OnProducerPaused::cause`] told it.
    pub cause: String,
    /// What has been received of it so far.
    pub media: Media,
    /// Which fact this is: the same each time that it is told. See the crate's
    /// [section on facts](crate#facts-that-money-may-hang-on).
    pub fact_id: String,
    /// Now.
    pub at: UnixMs,
}

/// A producer has ended, whatever the cause. Once per producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnProducerClosed {
    /// Where.
    pub room: Room,
    /// Who.
    pub participant: Participant,
    /// What.
    pub producer: Producer,
    /// `closed`, `replaced`, `left`, `disconnected`, `plugin`, …; `recovered`: the server was
    /// killed, and tells it when it runs again.
    pub reason: String,
    /// When its first RTP packet arrived, if one did.
    pub first_rtp_at: Option<UnixMs>,
    /// What was received of it in all.
    pub media: Media,
    /// Which fact this is: the same each time that it is told. See the crate's
    /// [section on facts](crate#facts-that-money-may-hang-on).
    pub fact_id: String,
    /// Now; at `recovered` the last moment at which it is known to have run.
    pub at: UnixMs,
}

/// The dominant speaker or the set of speakers has changed. While anybody speaks it is
/// also repeated, unchanged, at least once a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerChanged {
    /// Where.
    pub room: Room,
    /// Loudest first; empty when the room has fallen silent.
    pub speakers: Vec<Speaker>,
    /// Now.
    pub at: UnixMs,
}

/// A client event that the plugin registered with [`Plugin::commands`](crate::Plugin::commands).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnCommand {
    /// Where.
    pub room: Room,
    /// Who sent it.
    pub participant: Participant,
    /// The event's name, for example `seat:take`.
    pub command: String,
    /// What the client sent: a JSON object as text, already known to name this room. See
    /// [`OnCommand::payload`].
    pub payload_json: String,
    /// Whom the payload's `userId` names, if they are in the room.
    pub target: Option<Participant>,
    /// Now.
    pub at: UnixMs,
}

impl OnCommand {
    /// The payload as a type of the plugin's own. Unknown fields are ignored, unless `T`
    /// says otherwise.
    ///
    /// # Errors
    ///
    /// With the refusal `INVALID_PAYLOAD` if the payload does not have the shape of `T`;
    /// `details.field` names the field at fault and `details.problem` says what is wrong
    /// with it.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        fields::from_json(&self.payload_json).map_err(|fault| {
            Refusal::new("INVALID_PAYLOAD", "INVALID_PAYLOAD").details(fault.to_json())
        })
    }
}
