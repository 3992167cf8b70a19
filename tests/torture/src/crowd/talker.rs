//! Who speaks, and ends it in every way that there is.

use std::sync::Arc;

use serde_json::json;
use voice_room_load::{
    LOUD, Participant, Speaker, StepError, TransportOffer, Voice,
    media::{Direction, Endpoint},
};

use super::{Person, Room, Scene};
use crate::{
    random::Chance,
    witness::{How, Take, Witness},
};

/// Silence before a producer is closed, after which all that was sent has arrived.
const QUIET: std::ops::Range<u64> = 400..500;

pub(super) struct Talker {
    scene: Arc<Scene>,
    room: Arc<Room>,
    user: u64,
    seat: usize,
    chance: Chance,
    place: Option<Place>,
    /// What is produced now.
    current: Option<Speaker>,
}

/// A presence in the room, from which one can send.
struct Place {
    participant: Participant,
    transport: TransportOffer,
    endpoint: Endpoint,
}

/// What comes after a take.
#[derive(PartialEq, Eq)]
enum Next {
    Another,
    Nothing,
}

impl Talker {
    pub(super) fn new(
        scene: &Arc<Scene>,
        room: &Arc<Room>,
        user: u64,
        seat: usize,
        chance: Chance,
    ) -> Self {
        Self {
            scene: Arc::clone(scene),
            room: Arc::clone(room),
            user,
            seat,
            chance,
            place: None,
            current: None,
        }
    }

    async fn visit(&mut self) -> Result<(), StepError> {
        let (scene, name) = (&self.scene, &self.room.name);
        let participant = Participant::enter(&scene.stage, name, self.user, scene.ear()).await?;
        let seat = json!({ "seatIndex": self.seat });
        participant.tell("seat:take", seat).await?;
        let transport = participant.create_transport(Direction::Send).await?;
        let mut endpoint = participant.connect(Direction::Send, &transport).await?;
        endpoint.connected(scene.stage.limit).await?;
        self.place = Some(Place {
            participant,
            transport,
            endpoint,
        });
        while self.take().await? == Next::Another {}
        Ok(())
    }

    /// One producer, from its beginning to its end or to that of the visit.
    async fn take(&mut self) -> Result<Next, StepError> {
        self.produce().await?;
        self.chance.rest(0..250).await;
        let is_muted = self.chance.percent(12);
        if is_muted {
            self.ask("audio:selfMute").await?;
            self.note(Witness::muted);
        }
        self.send()?;
        self.chance.rest(60..2_000).await;
        if is_muted {
            self.note(Witness::unmutes);
            self.ask("audio:selfUnmute").await?;
            self.chance.rest(60..500).await;
        } else if self.chance.percent(35) {
            self.ask("audio:selfMute").await?;
            self.note(Witness::falls_silent);
            self.chance.rest(50..600).await;
            // Some end while they are muted.
            if self.chance.percent(75) {
                self.note(Witness::goes_on);
                self.ask("audio:selfUnmute").await?;
                self.chance.rest(50..500).await;
            }
        }
        match self.chance.roll() {
            0..30 => self.close(How::Quiet).await,
            30..55 => self.close(How::Sending).await,
            // The next one displaces it.
            55..70 => Ok(Next::Another),
            70..85 => {
                self.ends(How::Sending);
                if let Some(place) = &self.place {
                    place.participant.tell("room:leave", json!({})).await?;
                }
                Ok(Next::Nothing)
            }
            _ => Ok(Next::Nothing),
        }
    }

    /// Makes a producer, which displaces the one before if it has not ended.
    async fn produce(&mut self) -> Result<(), StepError> {
        self.ends(How::Sending);
        let Some(place) = &self.place else {
            return Ok(());
        };
        let voice = Voice::new();
        let speaker = place.participant.produce(&place.transport, voice).await?;
        place.endpoint.hush()?;
        let Scene { witness, life, .. } = &*self.scene;
        let take = Take::new(&speaker.producer, self.user, &self.room.name, *life);
        witness.produced(take, &speaker.voice);
        self.room
            .speakers
            .send_modify(|all| all.push(speaker.clone()));
        self.current = Some(speaker);
        Ok(())
    }

    /// Notes something of what is produced now.
    fn note(&self, of: fn(&Witness, &str)) {
        if let Some(speaker) = &self.current {
            of(&self.scene.witness, &speaker.producer);
        }
    }

    fn send(&self) -> Result<(), StepError> {
        if let Some((place, speaker)) = self.place.as_ref().zip(self.current.as_ref()) {
            self.scene.witness.sends(&speaker.producer);
            place.endpoint.speak(&speaker.voice, LOUD)?;
        }
        Ok(())
    }

    async fn ask(&self, event: &'static str) -> Result<(), StepError> {
        if let Some((place, speaker)) = self.place.as_ref().zip(self.current.as_ref()) {
            let payload = json!({ "producerId": speaker.producer });
            place.participant.tell(event, payload).await?;
        }
        Ok(())
    }

    async fn close(&mut self, how: How) -> Result<Next, StepError> {
        if how == How::Quiet {
            self.hush()?;
            self.chance.rest(QUIET).await;
        }
        let closing = self.current.clone();
        self.ends(how);
        if let Some((place, speaker)) = self.place.as_ref().zip(closing) {
            let payload = json!({ "producerId": speaker.producer });
            place.participant.tell("producer:close", payload).await?;
        }
        self.hush()?;
        self.chance.rest(0..300).await;
        Ok(Next::Another)
    }

    fn hush(&self) -> Result<(), StepError> {
        self.place
            .as_ref()
            .map_or(Ok(()), |place| place.endpoint.hush())
    }

    /// Notes that what is produced now, if anything, is about to end.
    fn ends(&mut self, how: How) {
        if let Some(speaker) = self.current.take() {
            self.scene.witness.ends(&speaker.producer, how);
            let speakers = &self.room.speakers;
            speakers.send_modify(|all| all.retain(|one| one.producer != speaker.producer));
        }
    }

    fn vanish(&mut self) {
        self.ends(How::Sending);
        self.place = None;
    }
}

impl Person for Talker {
    async fn live(&mut self) {
        loop {
            self.chance.rest(0..600).await;
            if let Err(why) = self.visit().await {
                self.scene.witness.failed(&why);
            }
            self.vanish();
        }
    }

    async fn go(&mut self) {
        self.vanish();
    }
}
