//! Facts that must not be lost are in the ledger before plugins are told of them.
//!
//! A [`Journal`] is a room's way there. Telling it a fact takes the fact's place in every lane
//! at once, so that the room's order holds; a task then has it complete, notes it together
//! with what each plugin is owed, and hands it out when the disk has it. Whatever a
//! plugin does about a fact is saved together with the note that it was told: so after a
//! crash it is told again, or has taken effect, but never both.
//!
//! What a crash would leave open, running streams and rooms, is noted as well, and ended by
//! [`PluginHost::connect`] with reason [`RECOVERED`].

mod open;
mod recovery;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::open::{Row, bytes};
pub(super) use self::recovery::recover;
use super::{
    PluginHost,
    call::{Fact, Input},
    lane::{Lane, Told},
    queue::{Receipt, Telling},
};
use crate::{
    config::OnFailure,
    model::{FactId, MediaCount, ProducerId, UnixMs},
    store::{Note, Saved, Store},
};

/// The reason of ends that a crash has kept from being told.
pub const RECOVERED: &str = "recovered";

/// Facts of one room that may be on their way into the store. More are only there if their
/// task has stopped.
const ON_THE_WAY: usize = 8_192;

/// The pause before a store that takes nothing is tried again.
const BEHIND: Duration = Duration::from_millis(20);

/// What completes a fact that says how much was received of a stream.
pub type Counting = Pin<Box<dyn Future<Output = MediaCount> + Send>>;

/// A room's way into the ledger. Facts of one journal are entries in the order in which it
/// was told them.
#[derive(Clone)]
pub struct Journal {
    host: PluginHost,
    jobs: mpsc::Sender<(Job, Option<Counting>)>,
    /// What the room is known by while it is open: the fact that will end it.
    closing: FactId,
}

/// How far a stream has come that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What has been received of it.
    pub media: MediaCount,
    /// The last moment at which it is known to have run.
    pub at: UnixMs,
}

/// Who writes, and since when.
pub(super) struct Scribe {
    store: Store,
    /// Of this run of the server.
    boot: Uuid,
    began: Instant,
    /// Facts that are not in the store yet.
    writing: watch::Sender<usize>,
}

/// A fact on its way.
struct Job {
    input: Arc<Input>,
    /// By the clock that nobody sets.
    monotonic_ms: u64,
    receipt: Receipt,
    waiting: Vec<Arc<Lane>>,
    owed: Vec<Arc<str>>,
    rows: Vec<Row>,
    /// Until it is in the store.
    writing: Option<Writing>,
    /// Who waits until it is on the disk: told by being dropped.
    noted: Option<oneshot::Sender<()>>,
}

/// Counts a fact among those that are not in the store yet. Who waits for facts holds nothing
/// of the store, so that it can be closed.
struct Writing(Arc<Scribe>);

impl Writing {
    fn begin(scribe: &Arc<Scribe>) -> Self {
        scribe.writing.send_modify(|count| *count += 1);
        Self(Arc::clone(scribe))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writing.send_modify(|count| *count -= 1);
    }
}

impl Scribe {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            boot: Uuid::new_v4(),
            began: Instant::now(),
            writing: watch::Sender::new(0),
        }
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until all facts that were told are in the store.
    pub(super) async fn written(&self) {
        let mut writing = self.writing.subscribe();
        // The sender is here.
        drop(writing.wait_for(|count| *count == 0).await);
    }

    /// Has the store take a fact, however long that takes; `None` of what is not recorded.
    async fn note(&self, job: &Job) -> Option<Saved> {
        let Input::Fact(fact) = &*job.input else {
            return None;
        };
        let (id, (topic, mut payload)) = (fact.id()?, entry(fact)?);
        if let Value::Object(payload) = &mut payload {
            payload.insert("node".to_owned(), json!(self.store.node()));
            payload.insert("boot".to_owned(), json!(self.boot));
            payload.insert("monotonicMs".to_owned(), json!(job.monotonic_ms));
        }
        let call = bytes(&*job.input).unwrap_or_default();
        let owed: Vec<_> = job
            .owed
            .iter()
            .map(|plugin| (Arc::clone(plugin), call.clone()))
            .collect();
        let note = Note {
            id: id.0,
            at: job.input.at(),
            topic,
            room: job.input.room().as_str(),
            user: job.input.user(),
            producer: job.input.producer(),
            payload: &payload,
            owed: &owed,
            open: &job.rows,
        };
        loop {
            match self.store.note(&note) {
                Ok(saved) => return Some(saved),
                Err(_) => tokio::time::sleep(BEHIND).await,
            }
        }
    }
}

/// What the ledger says of a fact, if it is one of those that are recorded: its topic, and
/// its payload but for who writes it.
fn entry(fact: &Fact) -> Option<(&'static str, Value)> {
    Some(match fact {
        Fact::FirstRtp {
            participant,
            producer,
            packet,
            ..
        } => (
            "media.first-rtp",
            json!({ "participant": participant.id, "source": producer.source, "packet": packet }),
        ),
        Fact::ProducerPaused {
            participant,
            producer,
            cause,
            media,
            ..
        }
        | Fact::ProducerResumed {
            participant,
            producer,
            cause,
            media,
            ..
        } => {
            let paused = matches!(fact, Fact::ProducerPaused { .. });
            let payload = json!({
                "participant": participant.id, "source": producer.source,
                "cause": cause, "media": media,
            });
            let topic = if paused {
                "media.paused"
            } else {
                "media.resumed"
            };
            (topic, payload)
        }
        Fact::ProducerClosed {
            participant,
            producer,
            reason,
            first_rtp_at,
            media,
            ..
        } => (
            "media.closed",
            json!({
                "participant": participant.id, "source": producer.source, "reason": reason,
                "firstRtpAt": first_rtp_at, "media": media,
            }),
        ),
        Fact::RoomClosed { reason, .. } => ("room.closed", json!({ "reason": reason })),
        _ => return None,
    })
}

impl Journal {
    pub(super) fn new(host: PluginHost) -> Self {
        let (jobs, queue) = mpsc::channel(ON_THE_WAY);
        tokio::spawn(write(queue));
        Self {
            host,
            jobs,
            closing: FactId::random(),
        }
    }

    /// The id of the fact that the room is closed: there is one, whoever tells it.
    #[must_use]
    pub fn closing(&self) -> FactId {
        self.closing
    }

    /// Tells every plugin, once the fact is in the ledger if it is one that is recorded, and
    /// does not wait. Each plugin learns of a room's facts in the order of these calls.
    pub fn tell(&self, fact: Fact) {
        if matches!(fact, Fact::RoomOpened { .. }) {
            self.keep(open::rows(&fact, self.closing));
        }
        match fact.id() {
            Some(_) => self.record(fact, None, None),
            None => self.host.notify(fact),
        }
    }

    /// As [`Self::tell`]; completes when the fact is on the disk, or will never be there.
    pub fn tell_noted(&self, fact: Fact) -> impl Future<Output = ()> + Send + use<> {
        let (noted, done) = oneshot::channel();
        match fact.id() {
            Some(_) => self.record(fact, None, Some(noted)),
            None => self.host.notify(fact),
        }
        async move { drop(done.await) }
    }

    /// As [`Self::tell`], for a pause, its end or the end of a stream of which is still to be
    /// counted what was received.
    pub fn tell_counted(&self, fact: Fact, counting: Counting) {
        match fact.id() {
            Some(_) => self.record(fact, Some(counting), None),
            None => self.host.notify(fact),
        }
    }

    /// Keeps how far streams have come, lest a crash takes that away.
    pub fn progress(&self, streams: impl IntoIterator<Item = (ProducerId, Progress)>) {
        let row = |(producer, progress)| open::progress(producer, &progress);
        let rows = streams.into_iter().filter_map(row).collect();
        // Of a stream that ends meanwhile, nothing is kept.
        if let Err(error) = self.host.shared.scribe.store.refresh_open(rows) {
            // The next one comes soon.
            tracing::warn!(%error, "how far streams have come is not kept");
        }
    }

    fn keep(&self, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.host.shared.scribe.store.keep_open(rows) {
            tracing::warn!(%error, "what a crash would leave open is not kept");
        }
    }

    fn record(&self, fact: Fact, counting: Option<Counting>, noted: Option<oneshot::Sender<()>>) {
        let rows = open::rows(&fact, self.closing);
        let job = Job {
            noted,
            ..self.job(fact, rows, Telling::recorded)
        };
        if let Err(refused) = self.jobs.try_send((job, counting)) {
            lost(&refused.into_inner().0);
        }
    }

    /// Takes the fact's place in the lanes.
    fn job(
        &self,
        fact: Fact,
        rows: Vec<Row>,
        telling: impl Fn(&Arc<Input>, &Receipt) -> Telling,
    ) -> Job {
        let shared = &self.host.shared;
        let input = Arc::new(Input::Fact(fact));
        let receipt = Receipt::default();
        let (mut begin, mut waiting, mut owed) = (Vec::new(), Vec::new(), Vec::new());
        for plugin in self.host.with_hook(input.hook()) {
            let Some(lane) = plugin.lane(input.room()) else {
                continue;
            };
            let told = lane.tell(&telling(&input, &receipt));
            if told == Told::Refused {
                continue;
            }
            if told == Told::Begins {
                begin.push(Arc::clone(lane));
            }
            if plugin.on_failure(input.hook()) == OnFailure::Retry {
                owed.push(Arc::clone(plugin.name()));
            }
            if told != Told::Stopped {
                waiting.push(Arc::clone(lane));
            }
        }
        Lane::begin_all(begin);
        Job {
            input,
            monotonic_ms: shared.scribe.monotonic_ms(),
            receipt,
            waiting,
            owed,
            rows,
            writing: Some(Writing::begin(&shared.scribe)),
            noted: None,
        }
    }
}

/// Writes a room's facts, one after the other, until nobody can tell any more.
async fn write(mut jobs: mpsc::Receiver<(Job, Option<Counting>)>) {
    while let Some((mut job, counting)) = jobs.recv().await {
        if let Some(counting) = counting {
            job.count(counting.await);
        }
        let Some(writing) = job.writing.take() else {
            continue;
        };
        let saved = writing.0.note(&job).await;
        drop(writing);
        if let Some(saved) = saved
            && (job.noted.is_some() || !job.waiting.is_empty())
        {
            tokio::spawn(hand_out(job, saved));
        }
    }
}

impl Job {
    fn count(&mut self, counted: MediaCount) {
        let Input::Fact(fact) = Arc::make_mut(&mut self.input) else {
            return;
        };
        match fact {
            Fact::ProducerClosed { media, .. } => *media = counted,
            Fact::ProducerPaused { media, .. } | Fact::ProducerResumed { media, .. } => {
                *media = counted;
                // How far the stream has come. The room has no part in it.
                self.rows = open::rows(fact, FactId::default());
            }
            _ => {}
        }
    }
}

/// Has the fact told when the disk has it. If the store stops before, what is owed is told
/// after the next start.
async fn hand_out(job: Job, saved: Saved) {
    if saved.eventually().await {
        tell(&job);
    }
}

fn tell(job: &Job) {
    // Nobody else sets it.
    drop(job.receipt.set(Arc::clone(&job.input)));
    for lane in &job.waiting {
        lane.recorded(job.input.room());
    }
}

/// The fact does not come into the ledger, and nobody is owed it.
fn lost(job: &Job) {
    let failure = "it is not in the ledger: too many facts wait for the disk";
    let letter = json!({ "at": UnixMs::now(), "failure": failure, "call": &*job.input });
    let store = job.writing.as_ref().map(|Writing(scribe)| &scribe.store);
    let error = store.and_then(|store| store.dead_letter(letter).err());
    let call = serde_json::to_string(&*job.input).unwrap_or_default();
    tracing::error!(
        call,
        error = error.map(tracing::field::display),
        "a fact is a dead letter: {failure}. Plugins are told of it all the same"
    );
    tell(job);
}
