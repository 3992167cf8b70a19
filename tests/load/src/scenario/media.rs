//! Speakers speak, listeners join and hear them; then forwarding is measured.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Since, all, first_user, ratio, room_names, server_memory};
use crate::{
    error::{LoadError, StepError},
    measure::Durations,
    media::{Reception, Report},
    participant::{Participant, Speaker, Stage},
    plan::{Client, Forwarding, Hearing, Memory, Outcome, Plan},
    socketio::OnEvent,
    voice::now_ns,
};

/// From the last measured packet that is sent until all have been counted: longer than
/// any delay that is worth having, and than two sweeps of the sockets.
const DRAIN: Duration = Duration::from_millis(500);

/// Who listens, and to how much.
struct Listener {
    _participant: Participant,
    endpoint: u64,
    started_ns: i64,
    deferred: u64,
}

/// A window in which forwarding was measured.
struct Window {
    seconds: f64,
    sent: u64,
    expected: u64,
    server_cpu: Option<Duration>,
}

/// Runs the scenario: a join storm, and forwarding for `plan.steady` if that is not zero.
///
/// # Errors
/// If the server's process or the media threads are gone. What fails for a participant is
/// in the outcome.
pub async fn run(
    stage: &Arc<Stage>,
    plan: &Plan,
    scenario: &'static str,
    target: String,
) -> Result<Outcome, LoadError> {
    let mut memory = Memory {
        before: server_memory(plan)?,
        ..Memory::default()
    };
    let started = Since::now(plan)?;
    let names = room_names(plan.rooms);
    let first = first_user();

    let (stages, joining) = speakers(stage, plan, &names, first).await;
    memory.with_speakers = server_memory(plan)?;

    let storm = (Instant::now(), now_ns());
    let first = first + (plan.rooms * plan.speakers) as u64;
    let (listeners, listeners_joining) = listeners(stage, plan, &names, first, &stages).await;
    let expected = streams(&stages, plan);
    await_heard(
        stage,
        expected,
        plan.join_limit.saturating_sub(storm.0.elapsed()),
    )
    .await;
    let joined = started.used(plan)?;
    memory.full = server_memory(plan)?;

    let steady = Since::now(plan)?;
    let busy = report(stage).await?.busy;
    let window = forward(plan, &stages).await?;
    let steady = steady.used(plan)?;
    let report = report(stage).await?;

    let mut client = Client {
        joining_cpu_seconds: joined.own_cpu.as_secs_f64(),
        joining_cores: joined.own_cores(),
        send_lateness_ms: report.lateness.quantiles(),
        ..Client::default()
    };
    if window.is_some() {
        let busy = report.busy.saturating_sub(busy);
        client.forwarding_cores = Some(steady.own_cores());
        client.media_threads_cores = Some(ratio(busy.as_secs_f64(), steady.seconds));
    }
    for failure in &report.failures {
        stage.meter.fail(&StepError::Media(failure.clone()));
    }
    let hearing = hearing(&report, &listeners, expected, storm.1);
    let forwarding = window.map(|window| forwarding(&window, &report));

    let (spoke, listened) = (stages.into_iter().flatten().count(), listeners.len());
    drop(listeners);
    tokio::time::sleep(plan.settle).await;
    memory.after = server_memory(plan)?;
    let each = |bytes: u64, of: usize| bytes.checked_div(of as u64).unwrap_or_default();
    memory.per_participant = each(memory.full.saturating_sub(memory.before), spoke + listened);
    memory.per_listener = each(memory.full.saturating_sub(memory.with_speakers), listened);

    Ok(Outcome {
        scenario,
        target,
        rooms: plan.rooms,
        speakers: plan.speakers,
        listeners: plan.listeners,
        concurrency: plan.concurrency,
        joining,
        listeners_joining: Some(listeners_joining),
        hearing: Some(hearing),
        operations: None,
        forwarding,
        memory: plan.server.map(|_| memory),
        events_ms: stage.meter.events(),
        client,
        errors: stage.meter.errors(),
    })
}

fn deaf() -> OnEvent {
    Arc::new(|_, _, _| {})
}

/// Each room's speakers, who speak when this returns.
async fn speakers(
    stage: &Arc<Stage>,
    plan: &Plan,
    names: &[String],
    first: u64,
) -> (Vec<Vec<(Participant, Speaker)>>, crate::plan::Joining) {
    let places = (0..plan.speakers).flat_map(|seat| (0..names.len()).map(move |room| (room, seat)));
    let steps = places.zip(first..).filter_map(|((room, seat), user)| {
        let name = names.get(room)?;
        Some(async move {
            let mut participant = Participant::enter(stage, name, user, deaf()).await?;
            let speaker = participant.speak(seat).await?;
            Ok((room, participant, speaker))
        })
    });
    let (done, joining) = all(plan, stage, steps).await;
    let mut stages: Vec<Vec<_>> = names.iter().map(|_| Vec::new()).collect();
    for (room, participant, speaker) in done.into_iter().flatten() {
        if let Some(stage) = stages.get_mut(room) {
            stage.push((participant, speaker));
        }
    }
    (stages, joining)
}

async fn listeners(
    stage: &Arc<Stage>,
    plan: &Plan,
    names: &[String],
    first: u64,
    stages: &[Vec<(Participant, Speaker)>],
) -> (Vec<Listener>, crate::plan::Joining) {
    let heard: Vec<Vec<Speaker>> = stages
        .iter()
        .map(|stage| stage.iter().map(|(_, speaker)| speaker.clone()).collect())
        .collect();
    let rooms = names.iter().zip(&heard);
    let places = (0..plan.listeners).flat_map(|_| rooms.clone());
    let steps = places.zip(first..).map(async |((name, speakers), user)| {
        let started_ns = now_ns();
        let mut participant = Participant::enter(stage, name, user, deaf()).await?;
        let (deferred, endpoint) = participant.listen(speakers).await?;
        Ok(Listener {
            _participant: participant,
            endpoint,
            started_ns,
            deferred,
        })
    });
    let (done, joining) = all(plan, stage, steps).await;
    (done.into_iter().flatten().collect(), joining)
}

/// Each listener's stream of each speaker of the room.
fn streams(stages: &[Vec<(Participant, Speaker)>], plan: &Plan) -> u64 {
    let speakers: usize = stages.iter().map(Vec::len).sum();
    (speakers * plan.listeners) as u64
}

/// Waits until so many streams are heard; what is still missing then shows in the outcome.
async fn await_heard(stage: &Stage, expected: u64, limit: Duration) {
    let mut heard = stage.engine.heard();
    let reached = heard.wait_for(|heard| *heard >= expected);
    // Those who joined in the last moment have a second at least.
    drop(tokio::time::timeout(limit.max(Duration::from_secs(1)), reached).await);
}

async fn report(stage: &Stage) -> Result<Report, LoadError> {
    let report = stage.engine.report().await;
    report.map_err(|why| LoadError::Start {
        what: "measuring",
        why: why.to_string(),
    })
}

async fn forward(
    plan: &Plan,
    stages: &[Vec<(Participant, Speaker)>],
) -> Result<Option<Window>, LoadError> {
    let voices = || stages.iter().flatten().map(|(_, speaker)| &speaker.voice);
    if plan.steady.is_zero() || voices().next().is_none() {
        return Ok(None);
    }
    let since = Since::now(plan)?;
    voices().for_each(|voice| voice.begin());
    tokio::time::sleep(plan.steady).await;
    let sent: u64 = voices().map(|voice| voice.end()).sum();
    let used = since.used(plan)?;
    tokio::time::sleep(DRAIN).await;
    Ok(Some(Window {
        seconds: used.seconds,
        sent,
        expected: sent * plan.listeners as u64,
        server_cpu: used.server_cpu,
    }))
}

fn hearing(report: &Report, listeners: &[Listener], expected: u64, storm_ns: i64) -> Hearing {
    let heard = report.receptions.iter().filter(|one| one.verified > 0);
    let mut last = HashMap::<u64, i64>::new();
    for Reception {
        endpoint,
        first_at_ns,
        ..
    } in heard.clone()
    {
        let latest = last.entry(*endpoint).or_default();
        *latest = (*latest).max(first_at_ns.unwrap_or_default());
    }
    let since = |from: i64, to: i64| Duration::from_nanos(u64::try_from(to - from).unwrap_or(0));
    let mut waits = Durations::new();
    for listener in listeners {
        if let Some(last) = last.get(&listener.endpoint) {
            waits.record(since(listener.started_ns, *last));
        }
    }
    let heard = heard.count() as u64;
    let everything = last.values().max().filter(|_| heard == expected);
    Hearing {
        expected,
        heard,
        seconds_until_all: everything.map(|last| since(storm_ns, *last).as_secs_f64()),
        per_listener_ms: waits.quantiles(),
        deferred: listeners.iter().map(|one| one.deferred).sum(),
    }
}

fn forwarding(window: &Window, report: &Report) -> Forwarding {
    let sum = |of: fn(&Reception) -> u64| report.receptions.iter().map(of).sum::<u64>();
    let received = sum(|one| one.measured);
    let packets = received as f64;
    let cpu = window.server_cpu.map(|cpu| cpu.as_secs_f64());
    let verified = sum(|one| one.verified);
    Forwarding {
        seconds: window.seconds,
        sent: window.sent,
        expected: window.expected,
        received,
        loss: 1.0 - ratio(packets, window.expected as f64),
        sequence_gaps: sum(|one| one.sequence_gaps),
        packets_per_second: ratio(packets, window.seconds),
        delay_ms: report.delays.quantiles(),
        verified,
        not_verified: sum(|one| one.examined).saturating_sub(verified),
        server_cpu_seconds: cpu,
        server_cpu_seconds_per_thousand: cpu.map(|cpu| ratio(cpu * 1_000.0, packets)),
        packets_per_core_second: cpu.map(|cpu| ratio(packets, cpu)),
    }
}
