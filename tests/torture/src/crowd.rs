//! The people of one life of the server.

mod listener;
mod talker;

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use serde::Deserialize;
use tokio::{sync::watch, task::JoinSet};
use voice_room_load::{
    Access, Meter, Server, Speaker, Stage, Target,
    media::{Engine, Options as MediaOptions},
    socketio::OnEvent,
};

use crate::{
    TortureError,
    random::Chance,
    server::SECRET,
    witness::{Nanos, Witness},
};

/// In each room.
const TALKERS: u64 = 3;
const LISTENERS: u64 = 2;

/// How long an answer may take. A server that was killed answers never.
const LIMIT: Duration = Duration::from_secs(10);

/// How long it takes until what a killed server has sent has been read.
const STRAGGLERS: Duration = Duration::from_millis(60);

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// People come and go.
    Going,
    /// The server was killed: nobody moves, until all that was heard has been noted.
    Killed,
    /// Everybody goes, and what is left is dropped.
    Over,
}

/// What all people of a life share.
struct Scene {
    stage: Arc<Stage>,
    witness: Arc<Witness>,
    life: u32,
}

/// A room and who can be heard in it.
struct Room {
    name: String,
    speakers: watch::Sender<Vec<Speaker>>,
}

/// Everybody in all rooms.
pub(crate) struct Crowd {
    scene: Arc<Scene>,
    phase: watch::Sender<Phase>,
    people: JoinSet<()>,
}

/// Who does the same thing again and again.
trait Person: Send + 'static {
    fn live(&mut self) -> impl Future<Output = ()> + Send;

    /// Goes, with a server that goes on.
    fn go(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

impl Crowd {
    /// Lets everybody begin, on a server that is ready.
    pub(crate) async fn gather(
        url: &str,
        rooms: usize,
        (seed, life): (u64, u32),
        witness: &Arc<Witness>,
        (client, token): (Client, String),
    ) -> Result<Self, TortureError> {
        let access = Access::Secret(SECRET.to_owned());
        let stage = Stage {
            target: Target::Server(Server::resolve(url, access, false).await?),
            engine: Engine::start(MediaOptions {
                threads: 1,
                verify: 1,
            })?,
            meter: Meter::default(),
            limit: LIMIT,
            media_limit: LIMIT,
            allow_remote: false,
            take_seats: true,
        };
        let scene = Arc::new(Scene {
            stage: Arc::new(stage),
            witness: Arc::clone(witness),
            life,
        });
        let phase = watch::Sender::new(Phase::Going);
        let mut people = JoinSet::new();
        let mut parts = (0..).map(|part| Chance::of(seed, u64::from(life) << 16 | part));
        let mut chance = || parts.next().unwrap_or_else(|| Chance::of(seed, 0));
        for number in 0..rooms as u64 {
            let room = Arc::new(Room {
                name: format!("torture-{number}"),
                speakers: watch::Sender::new(Vec::new()),
            });
            for seat in 0..TALKERS {
                let user = 1_000 * (number + 1) + seat;
                let one = talker::Talker::new(&scene, &room, user, seat as usize, chance());
                people.spawn(attend(one, phase.subscribe()));
            }
            for nth in 0..LISTENERS {
                let user = 1_000 * (number + 1) + 500 + nth;
                let one = listener::Listener::new(&scene, &room, user, chance());
                people.spawn(attend(one, phase.subscribe()));
            }
        }
        let operator = Operator {
            chance: chance(),
            client,
            token,
            url: url.to_owned(),
            witness: Arc::clone(witness),
        };
        people.spawn(attend(operator, phase.subscribe()));
        Ok(Self {
            scene,
            phase,
            people,
        })
    }

    /// Waits until somebody is heard for the first time, at most so long.
    pub(crate) async fn first_heard(&self, limit: Duration) {
        let mut heard = self.scene.stage.engine.heard();
        heard.mark_unchanged();
        // Nobody may begin to speak.
        drop(tokio::time::timeout(limit, heard.changed()).await);
    }

    /// The server was killed at this time: notes what was heard of it, and ends.
    pub(crate) async fn mourn(mut self, at: Nanos) {
        self.phase.send_replace(Phase::Killed);
        self.scene.witness.killed(self.scene.life, at);
        tokio::time::sleep(STRAGGLERS).await;
        self.scene.harvest().await;
        self.phase.send_replace(Phase::Over);
        while self.people.join_next().await.is_some() {}
    }

    /// Everybody goes.
    pub(crate) async fn leave(mut self) {
        self.phase.send_replace(Phase::Over);
        while self.people.join_next().await.is_some() {}
    }
}

impl Scene {
    /// Notes what has been heard so far.
    async fn harvest(&self) {
        match self.stage.engine.report().await {
            Ok(report) => self.witness.heard(&report),
            Err(why) => self.witness.failed(&why),
        }
    }

    /// Notes when clients are told of first packets.
    fn ear(&self) -> OnEvent {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct FirstRtp {
            producer_id: String,
        }
        let witness = Arc::clone(&self.witness);
        Arc::new(move |name, argument, _| {
            if name != "audio:firstRtp" {
                return;
            }
            match serde_json::from_str::<FirstRtp>(argument) {
                Ok(first) => witness.announced(&first.producer_id),
                Err(why) => witness.failed(&format!("audio:firstRtp: {why}")),
            }
        })
    }
}

async fn attend(mut person: impl Person, mut phase: watch::Receiver<Phase>) {
    let over = async {
        let now = phase.wait_for(|phase| *phase != Phase::Going).await;
        now.map_or(Phase::Over, |phase| *phase)
    };
    let now = tokio::select! {
        biased;
        now = over => now,
        () = person.live() => return,
    };
    if now == Phase::Over {
        person.go().await;
    }
    // Media is kept until it has been noted; whoever gathered them may be gone.
    drop(phase.wait_for(|phase| *phase == Phase::Over).await);
}

/// Reloads the plugin that bills, while it does.
struct Operator {
    chance: Chance,
    client: Client,
    token: String,
    url: String,
    witness: Arc<Witness>,
}

impl Person for Operator {
    async fn live(&mut self) {
        loop {
            self.chance.rest(500..4_000).await;
            let url = format!("{}/admin/plugins/billing/reload", self.url);
            let asked = self
                .client
                .post(url)
                .bearer_auth(&self.token)
                .timeout(LIMIT);
            if let Err(why) = asked.send().await.and_then(|done| done.error_for_status()) {
                let why = why
                    .status()
                    .map_or("no answer".to_owned(), |one| one.to_string());
                self.witness.failed(&format!("reloading billing: {why}"));
            }
        }
    }
}
