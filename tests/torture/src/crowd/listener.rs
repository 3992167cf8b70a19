//! Who hears whoever speaks.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::Instant;
use voice_room_load::{Ear, Participant, StepError};

use super::{Person, Room, Scene};
use crate::random::Chance;

/// How long a visit lasts, in milliseconds.
const VISIT: std::ops::Range<u64> = 1_000..6_000;

pub(super) struct Listener {
    scene: Arc<Scene>,
    room: Arc<Room>,
    user: u64,
    chance: Chance,
    place: Option<(Participant, Ear)>,
}

impl Listener {
    pub(super) fn new(scene: &Arc<Scene>, room: &Arc<Room>, user: u64, chance: Chance) -> Self {
        Self {
            scene: Arc::clone(scene),
            room: Arc::clone(room),
            user,
            chance,
            place: None,
        }
    }

    async fn visit(&mut self) -> Result<(), StepError> {
        let (scene, name) = (&self.scene, &self.room.name);
        let participant = Participant::enter(&scene.stage, name, self.user, scene.ear()).await?;
        let ear = participant.ear().await?;
        let (participant, ear) = self.place.insert((participant, ear));
        ear.connected(scene.stage.limit).await?;
        let until = Instant::now() + self.chance.millis(VISIT);
        let mut speakers = self.room.speakers.subscribe();
        let mut heard: Vec<String> = Vec::new();
        loop {
            let all = speakers.borrow_and_update().clone();
            let new = all.iter().filter(|one| !heard.contains(&one.producer));
            for speaker in new {
                match participant.hear(ear, speaker).await {
                    // It may have ended in the meantime.
                    Ok(_) | Err(StepError::Refused { .. }) => {}
                    Err(why) => return Err(why),
                }
            }
            heard = all.into_iter().map(|one| one.producer).collect();
            let changed = tokio::time::timeout_at(until, speakers.changed()).await;
            if changed.is_err() {
                break;
            }
        }
        if self.chance.percent(30) {
            participant.tell("room:leave", json!({})).await?;
        }
        Ok(())
    }
}

impl Person for Listener {
    async fn live(&mut self) {
        loop {
            self.chance.rest(0..300).await;
            if let Err(why) = self.visit().await {
                self.scene.witness.failed(&why);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.scene.harvest().await;
            self.place = None;
        }
    }

    async fn go(&mut self) {
        self.scene.harvest().await;
        self.place = None;
    }
}
