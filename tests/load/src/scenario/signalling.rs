//! Operations without media: nobody is behind the transports.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Since, all, first_user, ratio, room_names, server_memory};
use crate::{
    error::{LoadError, StepError},
    media::Direction,
    participant::{Participant, Stage},
    plan::{Client, Memory, Operations, Outcome, Plan},
    socketio::OnEvent,
    voice::Voice,
    wire::{NewProducer, TransportOffer},
};

const SETUP: [&str; 5] = [
    "connect",
    "room:join",
    "transport:create",
    "transport:connect",
    "audio:produce",
];
const CONSUME: [&str; 2] = ["audio:consume", "consumer:resume"];

/// How long announcements that are under way are waited for.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Who consumes whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Consume {
    /// Nobody consumes.
    None,
    /// Those who do not speak consume those who do.
    Listeners,
    /// Everybody consumes everybody else of the room.
    All,
}

/// A participant with both transports.
struct Member {
    participant: Participant,
    room: usize,
    receive: TransportOffer,
    producer: Option<String>,
}

/// A producer that was announced to somebody, and when.
type Arrivals = Arc<Mutex<Vec<(String, Instant)>>>;

/// What producers' announcements are compared with.
#[derive(Default)]
struct Announced {
    arrivals: Arrivals,
    /// When each producer was asked for.
    asked: Mutex<HashMap<String, Instant>>,
    expected: AtomicU64,
}

/// Runs the scenario: everybody sets up, listeners first; then they consume.
///
/// # Errors
/// If the server's process is gone. What fails for a participant is in the outcome.
pub async fn run(
    stage: &Arc<Stage>,
    plan: &Plan,
    consume: Consume,
    target: String,
) -> Result<Outcome, LoadError> {
    let mut memory = Memory {
        before: server_memory(plan)?,
        ..Memory::default()
    };
    let announced = Announced::default();
    let started = Since::now(plan)?;
    let (members, joining) = set_up(stage, plan, &announced).await;
    let setup = started.used(plan)?;
    let operations = |events: &[&str]| -> f64 {
        let count: u64 = events.iter().map(|event| stage.meter.count(event)).sum();
        count as f64
    };
    let setup_operations = operations(&SETUP);
    tokio::time::sleep(STRAGGLERS).await;
    memory.with_speakers = server_memory(plan)?;

    let started = Since::now(plan)?;
    let consumed = consume != Consume::None;
    if consumed {
        consume_all(stage, plan, consume, &members).await;
    }
    let consuming = started.used(plan)?;
    memory.full = server_memory(plan)?;

    let count = members.len() as u64;
    drop(members);
    tokio::time::sleep(plan.settle).await;
    memory.after = server_memory(plan)?;
    let grown = memory.full.saturating_sub(memory.before);
    memory.per_participant = grown.checked_div(count).unwrap_or_default();

    let announcements = announced.compare(stage);
    let server_cpu = setup.server_cpu.zip(consuming.server_cpu);
    // The listener's transport is connected while consuming, as clients do it.
    let consume_operations = operations(&SETUP) + operations(&CONSUME) - setup_operations;
    Ok(Outcome {
        scenario: "signalling",
        target,
        rooms: plan.rooms,
        speakers: plan.speakers,
        listeners: plan.listeners,
        concurrency: plan.concurrency,
        joining,
        listeners_joining: None,
        hearing: None,
        operations: Some(Operations {
            setup_per_second: ratio(setup_operations, setup.seconds),
            consume_per_second: consumed.then(|| ratio(consume_operations, consuming.seconds)),
            server_cpu_seconds: server_cpu.map(|(one, other)| (one + other).as_secs_f64()),
            announcements_expected: announced.expected.load(Ordering::Relaxed),
            announcements,
        }),
        forwarding: None,
        memory: plan.server.map(|_| memory),
        events_ms: stage.meter.events(),
        client: Client {
            joining_cpu_seconds: (setup.own_cpu + consuming.own_cpu).as_secs_f64(),
            joining_cores: ratio(
                (setup.own_cpu + consuming.own_cpu).as_secs_f64(),
                setup.seconds + consuming.seconds,
            ),
            ..Client::default()
        },
        errors: stage.meter.errors(),
    })
}

/// Everybody joins and creates both transports; who speaks produces. Listeners come first,
/// so that a new producer has an audience.
async fn set_up(
    stage: &Arc<Stage>,
    plan: &Plan,
    announced: &Announced,
) -> (Vec<Member>, crate::plan::Joining) {
    let names = room_names(plan.rooms);
    let present: Vec<AtomicU64> = names.iter().map(|_| AtomicU64::new(0)).collect();
    let each = plan.listeners + plan.speakers;
    let rooms = names.iter().zip(&present).enumerate();
    let places = (0..each).flat_map(|nth| rooms.clone().map(move |room| (nth, room)));
    let steps = places.zip(first_user()..).map(
        async |((nth, (room, (name, present))), user)| -> Result<Member, StepError> {
            let participant = Participant::enter(stage, name, user, announced.listener()).await?;
            present.fetch_add(1, Ordering::Relaxed);
            let send = participant.create_transport(Direction::Send).await?;
            let receive = participant.create_transport(Direction::Receive).await?;
            participant.connect_nobody(&send).await?;
            let mut producer = None;
            if let Some(seat) = nth.checked_sub(plan.listeners) {
                let audience = present.load(Ordering::Relaxed).saturating_sub(1);
                producer = Some(produce(stage, &participant, &send, announced, seat).await?);
                announced.expected.fetch_add(audience, Ordering::Relaxed);
            }
            Ok(Member {
                participant,
                room,
                receive,
                producer,
            })
        },
    );
    let (done, joining) = all(plan, stage, steps).await;
    (done.into_iter().flatten().collect(), joining)
}

async fn produce(
    stage: &Stage,
    participant: &Participant,
    transport: &TransportOffer,
    announced: &Announced,
    seat: usize,
) -> Result<String, StepError> {
    if stage.take_seats {
        let payload = serde_json::json!({ "seatIndex": seat });
        participant.tell("seat:take", payload).await?;
    }
    let asked = Instant::now();
    let speaker = participant.produce(transport, Voice::new()).await?;
    let producer = speaker.producer;
    announced.asked.lock().insert(producer.clone(), asked);
    Ok(producer)
}

async fn consume_all(stage: &Arc<Stage>, plan: &Plan, consume: Consume, members: &[Member]) {
    let eaters = members
        .iter()
        .filter(|one| consume == Consume::All || one.producer.is_none());
    let steps = eaters.map(async |member| {
        let producers = members
            .iter()
            .filter(|one| one.room == member.room)
            .filter_map(|one| one.producer.as_ref())
            .filter(|producer| member.producer.as_ref() != Some(*producer));
        for (nth, producer) in producers.enumerate() {
            let consumed = member
                .participant
                .consume(&member.receive, producer)
                .await?;
            if nth == 0 {
                member.participant.connect_nobody(&member.receive).await?;
            }
            member.participant.resume(&consumed).await?;
        }
        Ok(())
    });
    all(plan, stage, steps).await;
}

impl Announced {
    fn listener(&self) -> OnEvent {
        let arrivals = Arc::clone(&self.arrivals);
        Arc::new(move |name, argument, at| {
            if name != "audio:newProducer" {
                return;
            }
            if let Ok(NewProducer { producer_id }) = serde_json::from_str(argument) {
                arrivals.lock().push((producer_id, at));
            }
        })
    }

    /// How long each announcement took; how many came. Who joined between two of them may
    /// have got more than was expected.
    fn compare(&self, stage: &Stage) -> u64 {
        let asked = self.asked.lock();
        let arrivals = self.arrivals.lock();
        let mut count = 0;
        for (producer, at) in arrivals.iter() {
            if let Some(asked) = asked.get(producer) {
                stage
                    .meter
                    .record("new producer", at.duration_since(*asked));
                count += 1;
            }
        }
        let missing = self.expected.load(Ordering::Relaxed).saturating_sub(count);
        if missing > 0 {
            let message = "audio:newProducer: did not arrive";
            stage.meter.fail_times(&message, missing);
        }
        count
    }
}
