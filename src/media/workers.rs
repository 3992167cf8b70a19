//! The pool of mediasoup workers: one C++ media thread each, with one
//! `WebRtcServer` (one port, UDP and TCP) for all its transports.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mediasoup::{
    prelude::{
        ListenInfo, Protocol, WebRtcServer, WebRtcServerListenInfos, WebRtcServerOptions, Worker,
        WorkerManager, WorkerSettings,
    },
    worker::{WorkerLogLevel, WorkerLogTag},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OnceCell, mpsc};
use tracing::{error, info, warn};

use super::{Cluster, MediaError, bounded, router::Router};
use crate::{
    config::{MediaConfig, RoomsConfig},
    telemetry,
};

/// Names one worker thread for as long as it lives; a replacement has another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerKey(pub(super) u64);

/// How long to wait before another try to replace a worker that died.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A running worker.
struct Live {
    key: WorkerKey,
    worker: Worker,
    server: WebRtcServer,
    /// Routers and transports on this worker: what placement compares.
    load: Arc<AtomicUsize>,
}

/// The workers of this process. Cheap to clone.
#[derive(Clone)]
pub struct Media {
    inner: Arc<Inner>,
}

struct Inner {
    config: MediaConfig,
    /// Gone once shut down.
    manager: Mutex<Option<WorkerManager>>,
    live: Mutex<HashMap<usize, Live>>,
    next_key: AtomicU64,
    deaths: mpsc::Sender<(usize, WorkerKey)>,
    /// Of every router: they are all made alike.
    capabilities: OnceCell<Arc<Value>>,
}

impl Media {
    /// Starts the configured number of workers.
    ///
    /// The receiver yields the key of each worker that died, after its
    /// replacement has been ordered: whatever lived on it is gone.
    ///
    /// # Errors
    /// If a worker cannot be started, for instance because its port is taken.
    pub async fn start(
        config: MediaConfig,
    ) -> Result<(Self, mpsc::Receiver<WorkerKey>), MediaError> {
        let (deaths, died) = mpsc::channel(64);
        let (report, reports) = mpsc::channel(64);
        let media = Self {
            inner: Arc::new(Inner {
                manager: Mutex::new(Some(WorkerManager::new())),
                live: Mutex::default(),
                next_key: AtomicU64::new(1),
                deaths,
                config,
                capabilities: OnceCell::new(),
            }),
        };
        for index in 0..media.inner.config.workers {
            let live = media.inner.start_worker(index).await?;
            media.inner.live.lock().insert(index, live);
        }
        metrics::gauge!(telemetry::WORKERS).set(media.running() as f64);
        tokio::spawn(supervise(Arc::downgrade(&media.inner), died, report));
        Ok((media, reports))
    }

    /// How many workers are running now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.inner.live.lock().len()
    }

    /// Whether this worker is running now.
    #[must_use]
    pub fn runs(&self, worker: WorkerKey) -> bool {
        self.inner
            .live
            .lock()
            .values()
            .any(|live| live.key == worker)
    }

    /// How many workers there should be.
    #[must_use]
    pub fn configured(&self) -> usize {
        self.inner.config.workers
    }

    /// Opens a room's source router on the least loaded worker.
    ///
    /// # Errors
    /// If no worker is running or the worker fails the request.
    pub async fn open_room(&self, rooms: &RoomsConfig) -> Result<Cluster, MediaError> {
        Cluster::open(self, rooms).await
    }

    pub(super) fn config(&self) -> &MediaConfig {
        &self.inner.config
    }

    /// The running workers, the least loaded first.
    pub(super) fn by_load(&self) -> Vec<WorkerKey> {
        let live = self.inner.live.lock();
        let mut workers: Vec<(usize, WorkerKey)> = live
            .values()
            .map(|live| (live.load.load(Ordering::Relaxed), live.key))
            .collect();
        drop(live);
        workers.sort_by_key(|(load, key)| (*load, key.0));
        workers.into_iter().map(|(_, key)| key).collect()
    }

    /// A place for a router on this worker; on the least loaded if none is named.
    pub(super) fn berth(&self, worker: Option<WorkerKey>) -> Result<Berth, MediaError> {
        let live = self.inner.live.lock();
        let chosen = match worker {
            Some(key) => live.values().find(|live| live.key == key),
            None => live
                .values()
                .min_by_key(|live| (live.load.load(Ordering::Relaxed), live.key.0)),
        };
        let chosen = chosen.ok_or(MediaError::NoWorker)?;
        // Counted before the await, so that a burst of rooms spreads.
        chosen.load.fetch_add(1, Ordering::Relaxed);
        Ok(Berth {
            worker: chosen.worker.clone(),
            server: chosen.server.clone(),
            key: chosen.key,
            load: Load(Arc::clone(&chosen.load)),
        })
    }

    /// What every room's router can receive and send, in mediasoup's JSON shape.
    ///
    /// # Errors
    /// The first time, if no worker is running or the worker fails the request.
    pub async fn rtp_capabilities(&self) -> Result<Arc<Value>, MediaError> {
        let ask = || async {
            let router = Router::open(self.berth(None)?, &self.inner.config).await?;
            Ok(Arc::new(router.rtp_capabilities()))
        };
        self.inner.capabilities.get_or_try_init(ask).await.cloned()
    }

    /// Ends a worker and replaces it exactly as if its thread had died. The
    /// rooms it carried are reported through the receiver of [`Media::start`].
    /// `false` if no such worker is running.
    #[must_use]
    pub fn retire(&self, index: usize) -> bool {
        let key = self.inner.live.lock().get(&index).map(|live| live.key);
        key.is_some_and(|key| self.inner.deaths.try_send((index, key)).is_ok())
    }

    /// Ends all workers and waits until their threads are gone, if no room
    /// holds them any more. Blocks: the manager's end joins the media threads.
    pub fn shut_down(&self) {
        let live = std::mem::take(&mut *self.inner.live.lock());
        let manager = self.inner.manager.lock().take();
        drop(live);
        drop(manager);
    }
}

impl Inner {
    async fn start_worker(&self, index: usize) -> Result<Live, MediaError> {
        let start =
            |source: Box<dyn std::error::Error + Send + Sync>| MediaError::Start { index, source };
        let mut settings = WorkerSettings::default();
        settings.log_level = WorkerLogLevel::Warn;
        settings.log_tags = vec![WorkerLogTag::Ice, WorkerLogTag::Dtls, WorkerLogTag::Srtp];
        let manager = self.manager.lock().clone().ok_or(MediaError::NoWorker)?;
        let creation = manager.create_worker(settings);
        let worker = bounded(self.config.request_timeout, "create worker", creation)
            .await
            .map_err(|error| start(Box::new(error)))?;
        let key = WorkerKey(self.next_key.fetch_add(1, Ordering::Relaxed));
        let deaths = self.deaths.clone();
        worker
            .on_dead(move |_| {
                // The channel holds one entry per worker many times over.
                deaths.try_send((index, key)).ok();
            })
            .detach();
        let server = bounded(
            self.config.request_timeout,
            "create WebRTC server",
            worker.create_webrtc_server(WebRtcServerOptions::new(self.listen_infos(index))),
        )
        .await
        .map_err(|error| start(Box::new(error)))?;
        info!(worker = index, "media worker started");
        Ok(Live {
            key,
            worker,
            server,
            load: Arc::default(),
        })
    }

    fn listen_infos(&self, index: usize) -> WebRtcServerListenInfos {
        let port = Some(self.config.port(index)).filter(|port| *port != 0);
        let info = |protocol| ListenInfo {
            protocol,
            ip: self.config.listen_ip,
            announced_address: self.config.announced_address.clone(),
            expose_internal_ip: false,
            port,
            port_range: None,
            flags: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        };
        WebRtcServerListenInfos::new(info(Protocol::Udp)).insert(info(Protocol::Tcp))
    }
}

/// What a router is made with on its worker.
pub(super) struct Berth {
    pub(super) worker: Worker,
    pub(super) server: WebRtcServer,
    pub(super) key: WorkerKey,
    pub(super) load: Load,
}

/// Counts a router or transport towards its worker's load until dropped.
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(super) fn another(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Replaces workers that die, for as long as the pool lives.
async fn supervise(
    inner: std::sync::Weak<Inner>,
    mut died: mpsc::Receiver<(usize, WorkerKey)>,
    report: mpsc::Sender<WorkerKey>,
) {
    while let Some((index, key)) = died.recv().await {
        let Some(pool) = inner.upgrade() else { return };
        let dead = {
            let mut live = pool.live.lock();
            // Reported twice, or a retirement that met a death.
            if live.get(&index).is_none_or(|live| live.key != key) {
                continue;
            }
            live.remove(&index)
        };
        error!(
            worker = index,
            "media worker died; its rooms are closed and a new one is started"
        );
        metrics::counter!(telemetry::WORKER_DEATHS).increment(1);
        metrics::gauge!(telemetry::WORKERS).set(pool.live.lock().len() as f64);
        if report.send(key).await.is_err() {
            return;
        }
        drop(dead);
        drop(pool);
        tokio::spawn(replace(inner.clone(), index));
    }
}

async fn replace(inner: std::sync::Weak<Inner>, index: usize) {
    loop {
        let Some(pool) = inner.upgrade() else { return };
        match pool.start_worker(index).await {
            Ok(live) => {
                let mut workers = pool.live.lock();
                workers.insert(index, live);
                metrics::gauge!(telemetry::WORKERS).set(workers.len() as f64);
                return;
            }
            Err(error) => warn!(worker = index, %error, "media worker not replaced yet"),
        }
        drop(pool);
        // A fixed port stays taken until the dead worker's sockets are gone.
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}
