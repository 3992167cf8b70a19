//! Composition: media, plugins, store, rooms and faces become one server, and
//! come to rest in reverse order.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{Router, serve::ListenerExt};
use socket2::SockRef;
use tokio::{net::TcpListener, sync::mpsc};
use tower::Layer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{error, info, warn};

use crate::{
    config::{AllowedOrigins, Config},
    media::{Media, MediaError},
    model::UnixMs,
    plugin::{LoadError, PluginHost},
    reload,
    room::{RoomEnd, Rooms},
    signal::{
        Faces, SharedFaces,
        auth::{AuthConfigError, Authenticator},
        http::{self, HttpState},
        ledger::Records,
        socketio,
    },
    sinks::{SinkError, Sinks},
    store::{Store, StoreError},
    telemetry::Metrics,
};

/// Why the server did not start or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sink cannot be started.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A plugin cannot be loaded.
    #[error(transparent)]
    Plugin(#[from] LoadError),
    /// The media workers cannot be started.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// Tokens cannot be verified with this configuration.
    #[error(transparent)]
    Auth(#[from] AuthConfigError),
    /// The listener failed.
    #[error("cannot serve: {0}")]
    Serve(#[from] std::io::Error),
}

/// What a running server is told from outside.
pub struct Signals<S> {
    /// Completes when the server is to stop.
    pub stop: S,
    /// Configurations that are to replace the one that runs, as far as they can.
    pub configs: mpsc::Receiver<Config>,
}

/// Serves until `signals.stop` completes, then stops gracefully within the
/// configured limit. `ready` is called once, when clients can connect.
///
/// # Errors
/// If a part cannot be started. Everything that was started is stopped again.
pub async fn run(
    config: Config,
    listener: TcpListener,
    metrics: Metrics,
    ready: impl FnOnce(),
    signals: Signals<impl Future<Output = ()> + Send + 'static>,
) -> Result<(), ServerError> {
    let auth = Authenticator::new(&config.auth)?;
    let store = Store::open_with(&config.server.data_dir, &config.ledger, &config.sinks)?;
    let sinks = Sinks::start(&config.sinks, &store)?;
    let plugins = PluginHost::load_recording(&config.plugins, &store, config.recording).await?;
    let (media, mut deaths) = Media::start(config.media.clone()).await?;
    let outbox = config.sessions.outbox_capacity;
    let rooms = Rooms::new(config.rooms.clone(), outbox, media.clone(), plugins.clone());
    // The rooms hold the plugins and the media, so these hold the rooms weakly.
    let carrier = rooms.downgrade();
    let counter = rooms.downgrade();
    let connected = plugins.connect(
        move |room, plugin, actions| {
            if let Some(rooms) = carrier.upgrade() {
                rooms.carry_out(room, plugin, actions);
            }
        },
        move |room| {
            counter
                .upgrade()
                .map_or(0, |rooms| rooms.participants(room))
        },
    );
    // Before there is anything new to tell.
    connected.await;
    let mourner = rooms.downgrade();
    tokio::spawn(async move {
        while let Some(worker) = deaths.recv().await {
            if let Some(rooms) = mourner.upgrade() {
                rooms.worker_died(worker);
            }
        }
    });

    let watching = plugins.watch();
    let following = reload::follow(signals.configs, config.clone(), plugins.clone());
    let limit = config.server.shutdown_limit;
    let cors = cors(&config.server.allowed_origins);
    let ice_servers = serde_json::to_value(&config.media.ice_servers).unwrap_or_default();
    let faces = Arc::new(Faces::new(config, auth, rooms.clone(), ice_servers));
    let (socketio, io) = socketio::layer(&faces);
    let state = HttpState {
        faces: Arc::clone(&faces),
        media: media.clone(),
        plugins: plugins.clone(),
        records: Records::new(&store, &sinks),
        metrics: Arc::new(metrics),
    };
    // Around the whole router: a layer on its routes would be one Socket.IO
    // server a route, with sessions of its own.
    let app = Router::new()
        .fallback_service(socketio.layer(http::routes(state)))
        .layer(cors);
    // Small packets must not wait for the acknowledgement of others.
    let listener = listener.tap_io(|stream| {
        let socket = SockRef::from(&*stream);
        let set = socket
            .set_tcp_nodelay(true)
            // A client that takes nothing for so long is gone.
            .and_then(|()| socket.set_tcp_user_timeout(Some(TAKE_LIMIT)));
        if let Err(error) = set {
            warn!(%error, "socket options not set");
        }
    });

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(
        axum::serve(listener, app)
            .with_graceful_shutdown(async move { drop(stopped.await) })
            .into_future(),
    );
    ready();
    signals.stop.await;

    info!("stopping");
    drop((watching, following));
    let deadline = UnixMs(UnixMs::now().0 + u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    let stop = stop_in_order(
        Parts {
            rooms,
            plugins,
            store,
            sinks,
            media,
            faces,
            io,
            stop,
        },
        deadline,
        limit,
    );
    if tokio::time::timeout(limit, stop).await.is_err() {
        error!("not everything came to rest within the limit");
    }
    serving.abort();
    Ok(())
}

struct Parts {
    rooms: Rooms,
    plugins: PluginHost,
    store: Store,
    sinks: Sinks,
    media: Media,
    faces: SharedFaces,
    io: socketioxide::SocketIo,
    stop: tokio::sync::oneshot::Sender<()>,
}

/// Clients first, then the rules, then what they wrote, then the media.
async fn stop_in_order(parts: Parts, deadline: UnixMs, limit: Duration) {
    let Parts {
        rooms,
        plugins,
        store,
        sinks,
        media,
        faces,
        io,
        stop,
    } = parts;
    rooms.drain();
    socketio::announce_drain(&io, deadline).await;
    rooms.end_all(RoomEnd::Shutdown);
    // A moment for the last events to leave the queues.
    tokio::time::sleep(FAREWELL.min(limit / 4)).await;
    faces.stop();
    drop(faces);
    if tokio::time::timeout(limit / 8, io.close()).await.is_err() {
        warn!("some clients do not take their end: left to themselves");
    }
    drop(stop);
    plugins.shutdown(limit / 2).await;
    // What is published last is delivered after the next start.
    sinks.stop(limit / 8).await;
    if let Err(error) = store.flush(limit / 4).await {
        error!(%error, "not everything was written");
    }
    drop(rooms);
    // The last handles join threads: the store's writer and the media's.
    let ended = tokio::task::spawn_blocking(move || {
        drop((plugins, sinks, store));
        media.shut_down();
    });
    if ended.await.is_err() {
        error!("the media threads did not end in order");
    }
}

/// How long a client's machine may leave what was sent to it unacknowledged.
const TAKE_LIMIT: Duration = Duration::from_secs(30);

/// How long clients have to take their last events.
const FAREWELL: Duration = Duration::from_millis(100);

fn cors(allowed: &AllowedOrigins) -> CorsLayer {
    use axum::http::{HeaderValue, Method, header};
    let origins = match allowed {
        AllowedOrigins::Any => AllowOrigin::mirror_request(),
        AllowedOrigins::Listed(list) => AllowOrigin::list(
            list.iter()
                .filter_map(|one| HeaderValue::from_str(one).ok()),
        ),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
}
