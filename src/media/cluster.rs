//! One room's routers. Producers live on the *source* router. Listeners are put
//! there too, until it is full; then on *branches*, routers on other workers to
//! which every producer is piped before anybody hears of it. A branch is made
//! once, however many wait for it, and goes with its last listener.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    num::NonZeroU16,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future;
use mediasoup::{
    prelude::{
        AudioLevelObserver, AudioLevelObserverOptions, DirectTransport, DirectTransportOptions,
        RtpCapabilities, RtpParameters,
    },
    types::rtp_parameters::RtpCodecCapabilityFinalized,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OnceCell, mpsc, watch};
use tracing::{debug, info, warn};

use super::{
    Level, Media, MediaError, MediaEvent, Probe, Producer, Transport, WorkerKey, bounded, codec,
    lenient,
    pipe::Link,
    placement::{Placement, RouterKey},
    probe::{self, Packet},
    producer::ProducerInner,
    router::Router,
    seat::Seat,
};
use crate::{config::RoomsConfig, model::ProducerId};

/// Tries at a stream that does not get through to a router, and the pause between.
const PIPE_TRIES: usize = 3;
const PIPE_PAUSE: Duration = Duration::from_millis(20);

/// Rounds of piping what came up while the last round ran.
const PIPE_ROUNDS: usize = 64;

/// Routers that are tried for one listener, of which each may go in the meantime.
const PLACE_TRIES: usize = 3;

/// A room's media: its routers and level observer. Dropping it closes everything
/// that was made from it.
pub struct Cluster {
    source: Router,
    observer: AudioLevelObserver,
    levels: watch::Receiver<Vec<Level>>,
    capabilities: Arc<Value>,
    /// For what comes out of the room to ourselves; made when first needed.
    direct: OnceCell<DirectTransport>,
    threshold: i8,
    media: Media,
    limit: Duration,
    members: Mutex<Members>,
}

/// What the cluster consists of at the moment. The lock is never held over an await.
struct Members {
    placement: Placement,
    /// Branches that are there or being made.
    branches: HashMap<RouterKey, Arc<OnceCell<Arc<Branch>>>>,
    /// Those to which every published producer is piped.
    ready: HashMap<RouterKey, Arc<Branch>>,
    /// What every branch must have.
    published: Vec<Weak<ProducerInner>>,
}

/// A distribution router.
struct Branch {
    key: RouterKey,
    link: Link,
    router: Router,
}

impl Cluster {
    /// Opens the source router on the least loaded worker.
    pub(super) async fn open(media: &Media, rooms: &RoomsConfig) -> Result<Self, MediaError> {
        let config = media.config();
        let limit = config.request_timeout;
        let source = Router::open(media.berth(None)?, config).await?;
        let (observer, levels) = observe(&source, rooms, limit).await?;
        let capabilities = Arc::new(source.rtp_capabilities());
        let placement = Placement::new(source.worker(), rooms.max_consumers_per_router);
        Ok(Self {
            source,
            observer,
            levels,
            capabilities,
            direct: OnceCell::new(),
            threshold: rooms.speaker_threshold_dbov,
            media: media.clone(),
            limit,
            members: Mutex::new(Members {
                placement,
                branches: HashMap::new(),
                ready: HashMap::new(),
                published: Vec::new(),
            }),
        })
    }

    /// The worker that carries the source router: without it there is no room.
    #[must_use]
    pub fn worker(&self) -> WorkerKey {
        self.source.worker()
    }

    /// How many routers the room has now, those that are being made included.
    #[must_use]
    pub fn routers(&self) -> usize {
        self.members.lock().branches.len() + 1
    }

    /// What the routers can receive and send, in mediasoup's JSON shape.
    #[must_use]
    pub fn rtp_capabilities(&self) -> &Value {
        &self.capabilities
    }

    /// The latest levels, loudest first; empty when the room is silent. Older
    /// reports that nobody read are overwritten.
    #[must_use]
    pub fn levels(&self) -> watch::Receiver<Vec<Level>> {
        self.levels.clone()
    }

    /// Creates a transport to send over. Its end is reported to `events`.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn create_send_transport(
        &self,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Transport, MediaError> {
        self.transport_on(&self.source, None, events).await
    }

    /// Creates a transport for a listener who is expected to receive so many
    /// streams, on the router where there is room. Its end is reported to `events`.
    ///
    /// # Errors
    /// If the worker fails the request, or no branch can be made.
    pub async fn create_receive_transport(
        self: &Arc<Self>,
        expected: usize,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Transport, MediaError> {
        let mut tries = PLACE_TRIES;
        loop {
            tries -= 1;
            let seat = self.sit(expected);
            let branched = seat.router() != RouterKey::SOURCE;
            match self.transport_at(Arc::new(seat), events.clone()).await {
                Err(error) if branched && tries > 0 => {
                    debug!(%error, "a router went away under a listener: another is tried");
                }
                result => return result,
            }
        }
    }

    /// Creates a transport for a participant who sends and receives so many streams
    /// over it: on the source router, where producers live. Its end is reported to
    /// `events`.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn create_two_way_transport(
        self: &Arc<Self>,
        expected: usize,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Transport, MediaError> {
        let key = self.placement(|one| one.sit_at(RouterKey::SOURCE, expected));
        let seat = Seat::new(Arc::downgrade(self), key, RouterKey::SOURCE);
        self.transport_on(&self.source, Some(Arc::new(seat)), events)
            .await
    }

    fn sit(self: &Arc<Self>, expected: usize) -> Seat {
        // Before the lock: the pool has one of its own.
        let workers = self.media.by_load();
        let mut members = self.members.lock();
        let (key, router) = members.placement.sit(expected, workers);
        if router != RouterKey::SOURCE {
            members.branches.entry(router).or_default();
        }
        Seat::new(Arc::downgrade(self), key, router)
    }

    /// Reads or changes who is placed where.
    pub(super) fn placement<T>(&self, change: impl FnOnce(&mut Placement) -> T) -> T {
        change(&mut self.members.lock().placement)
    }

    async fn transport_at(
        &self,
        seat: Arc<Seat>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Transport, MediaError> {
        if seat.router() == RouterKey::SOURCE {
            return self.transport_on(&self.source, Some(seat), events).await;
        }
        let branch = self.branch(seat.router()).await?;
        match self.transport_on(&branch.router, Some(seat), events).await {
            Ok(made) if !made.is_there() => Err(MediaError::NoWorker),
            Err(error) if branch.router.is_closed() => {
                self.lose(branch.key);
                Err(error)
            }
            made => made,
        }
    }

    async fn transport_on(
        &self,
        router: &Router,
        seat: Option<Arc<Seat>>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Transport, MediaError> {
        let load = router.load();
        let transport = router.create_transport().await?;
        let place = super::participant::Place {
            worker: router.worker(),
            seat,
            _load: load,
        };
        Ok(Transport::new(
            transport,
            self.observer.clone(),
            events,
            place,
            self.limit,
        ))
    }

    /// The branch, made by the first who asks.
    async fn branch(&self, key: RouterKey) -> Result<Arc<Branch>, MediaError> {
        let cell = self.members.lock().branches.get(&key).cloned();
        let cell = cell.ok_or(MediaError::NoWorker)?;
        let branch = cell.get_or_try_init(|| self.open_branch(key)).await;
        if branch.is_err() {
            // Whoever waits for it finds it gone and looks for another place.
            self.lose(key);
        }
        branch.cloned()
    }

    async fn open_branch(&self, key: RouterKey) -> Result<Arc<Branch>, MediaError> {
        let worker = self.members.lock().placement.worker(key);
        let berth = self
            .media
            .berth(Some(worker.ok_or(MediaError::NoWorker)?))?;
        let router = Router::open(berth, self.media.config()).await?;
        let link = Link::open(&self.source, &router, self.limit).await?;
        let branch = Arc::new(Branch { key, link, router });
        for _ in 0..PIPE_ROUNDS {
            let Some(missing) = self.ready_unless_missing(&branch)? else {
                info!(routers = self.routers(), "a room was given another router");
                return Ok(branch);
            };
            let pipes = missing.iter().map(|one| self.pipe(one, &branch));
            all_of(pipes).await?;
        }
        Err(MediaError::TimedOut("pipe every producer"))
    }

    /// Marks a branch as ready if it has every published producer, in one step.
    fn ready_unless_missing(
        &self,
        branch: &Arc<Branch>,
    ) -> Result<Option<Vec<Producer>>, MediaError> {
        let mut members = self.members.lock();
        if !members.branches.contains_key(&branch.key) {
            return Err(MediaError::NoWorker);
        }
        let missing: Vec<Producer> = members
            .published
            .iter()
            .filter_map(|one| one.upgrade())
            .map(|inner| Producer { inner })
            .filter(|one| !one.is_on(branch.key))
            .collect();
        if !missing.is_empty() {
            return Ok(Some(missing));
        }
        members.ready.insert(branch.key, Arc::clone(branch));
        Ok(None)
    }

    /// Makes a new producer available on every router: once this returns, whoever
    /// hears of it can receive it. If it cannot be had everywhere it is nowhere.
    ///
    /// # Errors
    /// If a router that lives does not take it: the producer is to be dropped.
    pub async fn publish(&self, producer: &Producer) -> Result<(), MediaError> {
        for _ in 0..PIPE_ROUNDS {
            let Some(missing) = self.publish_unless_missing(producer) else {
                return Ok(());
            };
            let pipes = missing.iter().map(|branch| self.pipe(producer, branch));
            all_of(pipes).await?;
        }
        Err(MediaError::TimedOut("pipe to every router"))
    }

    /// Registers a producer if every ready branch has it, in one step.
    fn publish_unless_missing(&self, producer: &Producer) -> Option<Vec<Arc<Branch>>> {
        // Declared before the lock, so that it drops after the lock's release.
        let _stale;
        let mut members = self.members.lock();
        let missing: Vec<Arc<Branch>> = members
            .ready
            .values()
            .filter(|branch| !producer.is_on(branch.key))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Some(missing);
        }
        _stale = producer.keep_pipes(|key| members.branches.contains_key(&key));
        members.published.retain(|one| one.strong_count() > 0);
        members.published.push(Arc::downgrade(&producer.inner));
        None
    }

    /// Pipes one producer to one branch. A branch that is gone is no failure: its
    /// listeners are gone with it.
    async fn pipe(&self, producer: &Producer, branch: &Branch) -> Result<(), MediaError> {
        let mut tries = PIPE_TRIES;
        loop {
            tries -= 1;
            match branch.link.pipe(&producer.inner.producer).await {
                Ok(pipe) => {
                    let members = self.members.lock();
                    if members.branches.contains_key(&branch.key) {
                        producer.add_pipe(branch.key, pipe);
                    }
                    return Ok(());
                }
                Err(error) if self.is_gone(branch) => {
                    debug!(%error, "a router went before a producer reached it");
                    return Ok(());
                }
                Err(error) if tries > 0 => {
                    warn!(producer = %producer.id(), %error, "producer not piped yet");
                    tokio::time::sleep(PIPE_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a branch is of no more use, because its worker died or its last
    /// listener left.
    fn is_gone(&self, branch: &Branch) -> bool {
        if branch.router.is_closed() {
            self.lose(branch.key);
        }
        !self.members.lock().branches.contains_key(&branch.key)
    }

    /// A worker has died. If it carried a branch, the transports on that are of no
    /// more use, and the next listener finds another router.
    pub fn lose_worker(&self, worker: WorkerKey) {
        let branch = self.members.lock().placement.branch_on(worker);
        if let Some(key) = branch {
            self.lose(key);
        }
    }

    fn lose(&self, key: RouterKey) {
        self.let_go(key, |placement| placement.lose(key));
    }

    /// Lets a branch go with every pipe that leads there.
    pub(super) fn let_go(&self, key: RouterKey, change: impl FnOnce(&mut Placement)) {
        // Dropped after the lock's release.
        let (producers, _branch);
        {
            let mut members = self.members.lock();
            change(&mut members.placement);
            _branch = (members.branches.remove(&key), members.ready.remove(&key));
            producers = members
                .published
                .iter()
                .filter_map(Weak::upgrade)
                .collect::<Vec<_>>();
        }
        for inner in producers {
            drop(Producer { inner }.keep_pipes(|one| one != key));
        }
    }

    /// Whether an endpoint with these capabilities can receive the producer.
    #[must_use]
    pub fn can_consume(&self, producer: &Producer, capabilities: &RtpCapabilities) -> bool {
        self.source
            .router
            .can_consume(&producer.inner.producer.id(), capabilities)
    }

    /// Whether the routers can take a stream with these parameters.
    #[must_use]
    pub fn supports(&self, parameters: &RtpParameters) -> bool {
        let wanted = codec(parameters);
        let capabilities = self.source.router.rtp_capabilities();
        capabilities.codecs.iter().any(|one| match one {
            RtpCodecCapabilityFinalized::Audio {
                mime_type,
                clock_rate,
                channels,
                ..
            } => {
                mime_type.as_str() == wanted.mime_type
                    && clock_rate.get() == wanted.clock_rate
                    && channels.get() == wanted.channels
            }
            RtpCodecCapabilityFinalized::Video { .. } => false,
        })
    }

    /// Listens to a producer's packets until the probe is dropped: while it is loud,
    /// `onsets` has its id ten times a second, as far as there is room.
    ///
    /// # Errors
    /// If the worker fails the request.
    pub async fn probe(
        &self,
        producer: &Producer,
        onsets: mpsc::Sender<ProducerId>,
    ) -> Result<Probe, MediaError> {
        let onsets = probe::onsets(producer.id(), self.threshold, onsets);
        self.listen(producer, onsets).await
    }

    /// Hands a producer's packets to `hear`, on the media thread, until the probe is
    /// dropped.
    pub(super) async fn listen(
        &self,
        producer: &Producer,
        hear: impl Fn(&Packet<'_>) + Send + Sync + 'static,
    ) -> Result<Probe, MediaError> {
        let direct = self
            .direct
            .get_or_try_init(|| {
                let options = DirectTransportOptions::default();
                let creation = self.source.router.create_direct_transport(options);
                bounded(self.limit, "create direct transport", creation)
            })
            .await?;
        let capabilities =
            lenient::rtp_capabilities(&self.capabilities).unwrap_or_else(|_| Default::default());
        Probe::open(direct, producer, capabilities, self.limit, hear).await
    }
}

/// Waits for all, also where one fails: a request that is given up half-way leaves
/// something on the worker that nobody holds.
async fn all_of(
    pipes: impl Iterator<Item = impl Future<Output = Result<(), MediaError>>>,
) -> Result<(), MediaError> {
    future::join_all(pipes).await.into_iter().collect()
}

/// The observer that measures levels, and where its latest report is to be had.
async fn observe(
    source: &Router,
    rooms: &RoomsConfig,
    limit: Duration,
) -> Result<(AudioLevelObserver, watch::Receiver<Vec<Level>>), MediaError> {
    let mut options = AudioLevelObserverOptions::default();
    // Whoever is active must be seen to speak, told of or not.
    let entries = rooms
        .max_active_speakers
        .max(usize::from(rooms.speaker_max_entries));
    let entries = u16::try_from(entries).unwrap_or(u16::MAX);
    options.max_entries = NonZeroU16::new(entries).unwrap_or(NonZeroU16::MIN);
    options.threshold = rooms.speaker_threshold_dbov;
    options.interval = u16::try_from(rooms.speaker_interval.as_millis()).unwrap_or(u16::MAX);
    let creation = source.router.create_audio_level_observer(options);
    let observer = bounded(limit, "create level observer", creation).await?;
    let (report, levels) = watch::channel(Vec::new());
    let report = Arc::new(report);
    observer
        .on_volumes({
            let report = Arc::clone(&report);
            move |volumes| {
                let levels = volumes
                    .iter()
                    .map(|entry| Level {
                        producer: ProducerId(entry.producer.id().into()),
                        volume: entry.volume,
                    })
                    .collect();
                report.send_replace(levels);
            }
        })
        .detach();
    observer
        .on_silence(move || drop(report.send_replace(Vec::new())))
        .detach();
    Ok((observer, levels))
}
