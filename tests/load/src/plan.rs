//! What is to be done, and what came of it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::measure::Quantiles;

/// Who joins, how quickly, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rooms.
    pub rooms: usize,
    /// Speakers in each room.
    pub speakers: usize,
    /// Listeners in each room.
    pub listeners: usize,
    /// Participants that join at the same time.
    pub concurrency: usize,
    /// How long all of them may take to join and to be heard, per phase.
    pub join_limit: Duration,
    /// How long forwarding is measured; zero is not at all.
    pub steady: Duration,
    /// How long the server is given after everybody has left, before its memory is read.
    pub settle: Duration,
    /// The server's process, if its usage is to be measured.
    pub server: Option<u32>,
}

/// Memory of the server, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Before anybody came.
    pub before: u64,
    /// With all speakers there.
    pub with_speakers: u64,
    /// With everybody there.
    pub full: u64,
    /// After everybody has left.
    pub after: u64,
    /// What each participant takes.
    pub per_participant: u64,
    /// What each listener takes.
    pub per_listener: u64,
}

/// Who joined, and how quickly.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joining {
    /// Participants that should have joined.
    pub participants: u64,
    /// Participants of which a step failed.
    pub failed: u64,
    /// From the first one's first packet until the last one has taken its last step.
    pub seconds: f64,
    /// Participants a second.
    pub per_second: f64,
}

/// How long it took until everybody heard everybody.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hearing {
    /// Streams that should be heard: each listener's of each speaker.
    pub expected: u64,
    /// Streams that are heard.
    pub heard: u64,
    /// From the first listener's first packet to the last stream's first packet.
    pub seconds_until_all: Option<f64>,
    /// The same for each listener, from its own first packet, in milliseconds.
    pub per_listener_ms: Option<Quantiles>,
    /// Consumers that were resumed only once their producer spoke.
    pub deferred: u64,
}

/// What was forwarded while it was measured.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// How long it was measured.
    pub seconds: f64,
    /// Packets that the speakers sent.
    pub sent: u64,
    /// Packets that should have arrived at listeners.
    pub expected: u64,
    /// Packets that did.
    pub received: u64,
    /// The part that did not, from speaker to listener: 0 is none, 1 all.
    pub loss: f64,
    /// Packets that the server numbered and that did not arrive, since the beginning.
    pub sequence_gaps: u64,
    /// Packets a second that arrived.
    pub packets_per_second: f64,
    /// From the speaker's socket to the listener's, in milliseconds.
    pub delay_ms: Option<Quantiles>,
    /// Packets that were authenticated and decrypted, since the beginning, and were as sent.
    pub verified: u64,
    /// Packets that could not be, or were not as sent.
    pub not_verified: u64,
    /// The server's processor time.
    pub server_cpu_seconds: Option<f64>,
    /// The same for a thousand packets that arrived.
    pub server_cpu_seconds_per_thousand: Option<f64>,
    /// Packets for each second of the server's processor time: what one core forwards.
    pub packets_per_core_second: Option<f64>,
}

/// What the load itself cost: a client that is busy all the time measures itself.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Its processor time while joining.
    pub joining_cpu_seconds: f64,
    /// Cores that it used while joining.
    pub joining_cores: f64,
    /// Cores that it used while forwarding was measured.
    pub forwarding_cores: Option<f64>,
    /// The part of them that its media threads used.
    pub media_threads_cores: Option<f64>,
    /// How much later than due speakers' packets were sent, in milliseconds.
    pub send_lateness_ms: Option<Quantiles>,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What was done.
    pub scenario: &'static str,
    /// To what.
    pub target: String,
    /// Rooms.
    pub rooms: usize,
    /// Speakers in each room.
    pub speakers: usize,
    /// Listeners in each room.
    pub listeners: usize,
    /// Participants that joined at the same time.
    pub concurrency: usize,
    /// The speakers' joining; in signalling, everybody's.
    pub joining: Joining,
    /// The listeners' joining, while speakers speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners_joining: Option<Joining>,
    /// Until everybody hears everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hearing: Option<Hearing>,
    /// Signalling operations a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Operations>,
    /// Forwarding, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
    /// The server's memory, if its process is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Latencies of requests by event, in milliseconds, from request to answer; and
    /// `new producer`, from the request to the arrival of the announcement.
    pub events_ms: BTreeMap<&'static str, Quantiles>,
    /// The client's own cost.
    pub client: Client,
    /// How often each error happened.
    pub errors: BTreeMap<String, u64>,
}

/// Throughput of signalling.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operations {
    /// Connecting, joining, transports and producing, per second.
    pub setup_per_second: f64,
    /// Consuming and resuming, per second, if anything was consumed.
    pub consume_per_second: Option<f64>,
    /// The server's processor time for both.
    pub server_cpu_seconds: Option<f64>,
    /// Announcements of new producers that should have arrived.
    pub announcements_expected: u64,
    /// Announcements that did.
    pub announcements: u64,
}

impl Outcome {
    /// Whether everybody joined and heard everybody, nothing failed, and no more was lost
    /// than this part.
    #[must_use]
    pub fn is_fine(&self, max_loss: f64) -> bool {
        let hears = self
            .hearing
            .as_ref()
            .is_none_or(|hearing| hearing.heard == hearing.expected);
        let carries = self.forwarding.as_ref().is_none_or(|forwarding| {
            forwarding.loss <= max_loss && forwarding.not_verified == 0 && forwarding.received > 0
        });
        hears && carries && self.errors.is_empty()
    }
}
