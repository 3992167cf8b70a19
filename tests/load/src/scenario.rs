//! Scenarios: who does what, and what is measured meanwhile.

pub mod media;
pub mod signalling;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};

use crate::{
    error::{LoadError, StepError},
    participant::Stage,
    plan::{Joining, Plan},
    process::{self, Usage},
    voice::random_u32,
};

/// What a process has used since a moment.
struct Since {
    started: Instant,
    server: Option<Usage>,
    own: Usage,
}

/// What was used in a period.
struct Used {
    seconds: f64,
    server_cpu: Option<Duration>,
    own_cpu: Duration,
}

impl Since {
    fn now(plan: &Plan) -> Result<Self, LoadError> {
        Ok(Self {
            started: Instant::now(),
            server: server_usage(plan)?,
            own: process::own(),
        })
    }

    fn used(&self, plan: &Plan) -> Result<Used, LoadError> {
        let now = Self::now(plan)?;
        let cpu = |after: Usage, before: Usage| after.cpu.saturating_sub(before.cpu);
        Ok(Used {
            seconds: now.started.duration_since(self.started).as_secs_f64(),
            server_cpu: now
                .server
                .zip(self.server)
                .map(|(after, before)| cpu(after, before)),
            own_cpu: cpu(now.own, self.own),
        })
    }
}

impl Used {
    fn own_cores(&self) -> f64 {
        ratio(self.own_cpu.as_secs_f64(), self.seconds)
    }
}

/// What the server uses; none if its process is not to be measured.
fn server_usage(plan: &Plan) -> Result<Option<Usage>, LoadError> {
    let usage = plan.server.map(process::usage).transpose();
    usage.map_err(|why| LoadError::Usage(format!("--pid: {why}")))
}

fn server_memory(plan: &Plan) -> Result<u64, LoadError> {
    Ok(server_usage(plan)?.map_or(0, |usage| usage.resident_bytes))
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Names that no other run uses.
fn room_names(rooms: usize) -> Vec<String> {
    let run = random_u32();
    (0..rooms)
        .map(|room| format!("load-{run:08x}-{room}"))
        .collect()
}

/// The first user's id; the others follow.
fn first_user() -> u64 {
    u64::from(random_u32()) * 100_000
}

/// Lets participants take their steps, so many at a time, within the plan's limit. What
/// fails is counted by message; what is late ends.
async fn all<T, S: Future<Output = Result<T, StepError>>>(
    plan: &Plan,
    stage: &Arc<Stage>,
    steps: impl Iterator<Item = S>,
) -> (Vec<Option<T>>, Joining) {
    let started = Instant::now();
    let deadline = tokio::time::Instant::now() + plan.join_limit;
    let steps = steps.map(async |steps| {
        let event = "joining";
        let limit = plan.join_limit;
        let done = tokio::time::timeout_at(deadline, steps).await;
        let done = done.unwrap_or(Err(StepError::TimedOut { event, limit }));
        done.inspect_err(|why| stage.meter.fail(why)).ok()
    });
    let done: Vec<Option<T>> = stream::iter(steps)
        .buffer_unordered(plan.concurrency.max(1))
        .collect()
        .await;
    let seconds = started.elapsed().as_secs_f64();
    let joining = Joining {
        participants: done.len() as u64,
        failed: done.iter().filter(|one| one.is_none()).count() as u64,
        seconds,
        per_second: ratio(done.len() as f64, seconds),
    };
    (done, joining)
}
