//! Every setting of the server: its default, its meaning and where it may come
//! from. No other module reads the environment.
//!
//! A value is taken from the first of these that has it:
//!
//! 1. a command-line flag: `--listen`, `--data-dir`;
//! 2. the environment: the key in upper case behind `VOICE_ROOM_`, with two
//!    underscores for each dot. `media.port_base` is
//!    `VOICE_ROOM_MEDIA__PORT_BASE`. Text and paths are taken as they are,
//!    lists of text may be separated by commas, everything else is a TOML value;
//! 3. the TOML file that `--config` names;
//! 4. the default.
//!
//! [`load`] reports every mistake in all of them at once. A key or a
//! `VOICE_ROOM_…` variable that does not exist is a mistake too.
//! `config.example.toml` lists all keys. Relative paths start at the working
//! directory.

mod effective;
mod first_rtp;
mod kind;
mod mistake;
mod plugin;
mod read;
mod reader;
mod sink;
#[cfg(test)]
mod tests;

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Serialize, Serializer};
use url::{Host, Url};

use crate::model::ConnectedWhen;

pub use self::{
    effective::Effective,
    first_rtp::{FirstRtpByRoom, FirstRtpConfig},
    mistake::{Mistake, Mistakes, Origin},
    plugin::{
        BreakerConfig, Capability, Grants, HookPolicies, HookPolicy, Isolation, OnFailure,
        PluginConfig, RecordingConfig, is_plugin_name,
    },
    sink::{
        LedgerConfig, PUBLISHED_FILE, PUBLISHED_SINK, SigningKey, SinkConfig, SinkKind,
        WebhookConfig,
    },
};

/// Everything that a server can be told, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Development mode (`--dev`): random secret, `POST /dev/token`, loopback,
    /// ephemeral media ports. Deliberately no key: a file or an environment
    /// that is copied to production cannot switch it on.
    pub dev: bool,
    /// `[server]`
    pub server: ServerConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[auth]`
    pub auth: AuthConfig,
    /// `[media]`
    pub media: MediaConfig,
    /// `[sessions]`
    pub sessions: SessionsConfig,
    /// `[rooms]`
    pub rooms: RoomsConfig,
    /// `[[plugins]]`, in the order in which they are asked. Without any in the
    /// configuration: moderation, seats, billing. `plugins = []` is none.
    pub plugins: Vec<PluginConfig>,
    /// `[recording]`
    pub recording: RecordingConfig,
    /// `[ledger]`
    pub ledger: LedgerConfig,
    /// `[[sinks]]`. Without any in the configuration: `published.jsonl`. `sinks = []` is none.
    pub sinks: Vec<SinkConfig>,
}

/// The process and its HTTP listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where HTTP, Socket.IO and WebSocket listen. Default `127.0.0.1:3000`,
    /// in production too: usually a TLS proxy stands in front. Port 0 takes any
    /// free port.
    pub listen: SocketAddr,
    /// Directory for what must survive a restart. Default `data`.
    pub data_dir: PathBuf,
    /// Web origins whose pages may connect, besides the server's own. Default
    /// none; in development any.
    pub allowed_origins: AllowedOrigins,
    /// How long a stop may take, from signal to exit. Default 10 s.
    pub shutdown_limit: Duration,
}

/// Web origins from which browsers may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// `["*"]`, only in development.
    Any,
    /// These, as browsers send them (`https://app.example.com`), and the
    /// server's own.
    Listed(Vec<String>),
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Default text.
    pub format: LogFormat,
    /// Directives as `tracing-subscriber` takes them, for example
    /// `info,voice_room::media=debug`. Default `info`.
    pub filter: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How tokens are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// What signatures are verified with.
    pub keys: Keys,
    /// The `iss` that a token must have. Default: not checked.
    pub issuer: Option<String>,
    /// An `aud` that a token must have. Default: not checked.
    pub audience: Option<String>,
    /// Tolerated difference of clocks for `exp` and `nbf`. Default 30 s.
    pub leeway: Duration,
    /// Whether raw WebSocket clients may come without a token, as users of whom
    /// nothing is known. Default off.
    pub anonymous: bool,
}

/// What a token's signature is verified with. Public keys from files or a JWKS
/// address are further variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// HS256 with `auth.secret`: outside development at least
    /// [`AuthConfig::MIN_SECRET_BYTES`] bytes.
    Secret(Secret),
    /// HS256 with a secret that the server makes when it starts and tells
    /// nobody. Only in development.
    Ephemeral,
}

impl AuthConfig {
    /// The shortest secret that production accepts: as long as the hash of HS256.
    pub const MIN_SECRET_BYTES: usize = 32;
}

/// Text that never appears in logs, errors or `voice-room config`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// mediasoup and its sockets.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaConfig {
    /// Worker threads of the media core. Default: one per processor core.
    pub workers: usize,
    /// Address on which the workers receive media. Default `0.0.0.0`, in
    /// development `127.0.0.1`.
    pub listen_ip: IpAddr,
    /// Address or host name that clients are told instead of `listen_ip`.
    /// Required where `listen_ip` is a wildcard.
    pub announced_address: Option<String>,
    /// UDP and TCP port of the first worker; each further one takes the next.
    /// 0 lets the system choose. Default 20000 (below the range from which
    /// Linux serves outgoing connections), in development 0.
    pub port_base: u16,
    /// STUN and TURN servers that clients are told. Default none.
    pub ice_servers: Vec<IceServer>,
    /// In-band forward error correction of Opus. Default on.
    pub opus_fec: bool,
    /// Discontinuous transmission of Opus (silence is not sent). Default on.
    pub opus_dtx: bool,
    /// How long a worker may take to answer. Default 5 s.
    pub request_timeout: Duration,
    /// First estimate of what a listener can receive, in bit/s. Default: the
    /// media core's own.
    pub initial_outgoing_bitrate: Option<u32>,
}

impl MediaConfig {
    /// UDP and TCP port of the worker with this index, counted from 0; 0 where
    /// the system chooses.
    #[must_use]
    pub fn port(&self, worker: usize) -> u16 {
        match self.port_base {
            0 => 0,
            base => u16::try_from(worker).map_or(0, |worker| base.saturating_add(worker)),
        }
    }
}

/// A STUN or TURN server; serialises as a browser's `RTCIceServer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// For example `stun:stun.example.com:3478`.
    pub urls: Vec<String>,
    /// Required for TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Required for TURN. Clients get it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub credential: Option<Secret>,
}

#[allow(clippy::ref_option, reason = "serde hands the field over by reference")]
fn exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

/// Limits of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsConfig {
    /// Larger frames end the connection. Default 64 KiB.
    pub max_frame_bytes: usize,
    /// Events that a client may send at once. Default 200.
    pub event_budget_capacity: NonZeroU32,
    /// Events that a client regains in a second. Default 40.
    pub event_budget_refill_per_second: NonZeroU32,
    /// Events that may wait for a slow client before it is disconnected.
    /// Default 1024.
    pub outbox_capacity: usize,
    /// How often a connection is pinged. Default 25 s.
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping before it counts as gone.
    /// Default 20 s.
    pub ping_timeout: Duration,
    /// How long a member of a call who uses REST alone stays without a request
    /// and without ICE. Default 60 s.
    pub rest_idle: Duration,
    /// How long a participant whose connection was lost stays, if its client asked
    /// to be able to come back. Default 15 s; zero: none can.
    pub resume_grace: Duration,
}

/// Limits and behaviour of rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomsConfig {
    /// Participants in one room. Default 1000.
    pub max_participants: usize,
    /// Consumers of one participant. Default 512.
    pub max_consumers: usize,
    /// Consumers on one of a room's routers: from there on, listeners are put on
    /// a router of another worker. Default 500.
    pub max_consumers_per_router: usize,
    /// Producers of one room that are forwarded at once, those who spoke last; 0
    /// forwards all. Default 16.
    pub max_active_speakers: usize,
    /// How long a silent producer stays among them. Default 10 s.
    pub active_speaker_hold: Duration,
    /// Average level from which someone counts as speaking, in dBov (0 is the
    /// loudest, -127 silence). Default -60.
    pub speaker_threshold_dbov: i8,
    /// How often levels are measured; the media core allows no less than 250 ms,
    /// which is the default.
    pub speaker_interval: Duration,
    /// How long someone stays a speaker after their last loud interval.
    /// Default 1 s.
    pub speaker_hold: Duration,
    /// Speakers that are reported at once. Default 16.
    pub speaker_max_entries: u16,
    /// When a call counts as connected, where nobody in it says otherwise.
    /// Default: at the first packet.
    pub call_connected_when: ConnectedWhen,
    /// How often it is looked how far streams have come (`heartbeat_ms`). Default 5 s.
    pub heartbeat: Duration,
    /// How long a stream that is not paused may send nothing until it counts as
    /// stopped (`silence_ms`). Default 15 s.
    pub silence: Duration,
    /// What counts as the start of a stream.
    pub first_rtp: FirstRtpConfig,
    /// The same for rooms that begin so; of several that fit, the longest prefix.
    pub first_rtp_by_room: Vec<FirstRtpByRoom>,
    /// What becomes of a stream that somebody wants to begin to send while the store is not
    /// durable and a plugin counts on learning of it. Default: it is refused.
    pub when_not_durable: WhenNotDurable,
}

impl RoomsConfig {
    /// What counts as the start of a stream in this room.
    #[must_use]
    pub fn first_rtp_in(&self, room: &str) -> FirstRtpConfig {
        let fit = self.first_rtp_by_room.iter();
        let fit = fit.filter(|one| room.starts_with(&one.prefix));
        fit.max_by_key(|one| one.prefix.len())
            .map_or(self.first_rtp, |one| one.rule)
    }
}

/// What becomes of a stream that somebody wants to begin to send, while a crash would lose
/// what plugins have to be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenNotDurable {
    /// It is refused. What was begun before goes on.
    #[default]
    Refuse,
    /// It is allowed: what it costs may be lost.
    Allow,
}

impl Config {
    /// What is legal but should not go unnoticed; for the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.dev {
            let listen = self.server.listen;
            let who = if listen.ip().is_loopback() {
                "everyone on this machine".to_owned()
            } else {
                format!("EVERYONE WHO REACHES {listen}")
            };
            warnings.push(format!(
                "development mode: {who} can make tokens for any user; never in production"
            ));
        }
        if let Keys::Secret(secret) = &self.auth.keys
            && secret.expose().len() < AuthConfig::MIN_SECRET_BYTES
        {
            warnings.push(format!(
                "auth.secret is shorter than {} bytes: production will not start with it",
                AuthConfig::MIN_SECRET_BYTES
            ));
        }
        for sink in &self.sinks {
            if let SinkKind::Webhook(webhook) = &sink.kind
                && webhook.url.scheme() == "http"
                && !is_loopback(&webhook.url)
            {
                warnings.push(format!(
                    "sink `{}`: events go to {} unencrypted: use https",
                    sink.name,
                    webhook.url.host_str().unwrap_or_default()
                ));
            }
        }
        warnings
    }
}

/// Whether the address is on this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--dev`
    pub dev: bool,
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// `--listen ADDR`, in place of `server.listen`.
    pub listen: Option<String>,
    /// `--data-dir DIR`, in place of `server.data_dir`.
    pub data_dir: Option<String>,
}

/// All that a configuration is made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The command line.
    pub flags: Flags,
    /// Text of the file that [`Flags::file`] names.
    pub file_text: Option<String>,
    /// Environment variables; those that do not start with `VOICE_ROOM_` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Processor cores of the machine.
    pub cores: usize,
    /// Default of `plugins_dir`.
    pub plugins_dir: PathBuf,
}

impl Sources {
    /// Reads file, environment and machine.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn gather(flags: Flags) -> Result<Self, Mistakes> {
        let file_text = flags.file.as_deref().map(read_file).transpose()?;
        Ok(Self {
            file_text,
            environment: env::vars_os().collect(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            plugins_dir: env::current_exe()
                .ok()
                .as_deref()
                .and_then(Path::parent)
                .map_or_else(|| PathBuf::from("plugins"), plugins_dir_near),
            flags,
        })
    }
}

fn read_file(path: &Path) -> Result<String, Mistakes> {
    fs::read_to_string(path).map_err(|error| {
        Mistakes::from(Mistake {
            key: "--config".to_owned(),
            value: Some(path.display().to_string()),
            origin: Origin::Flag("--config"),
            problem: format!("cannot be read: {error}"),
        })
    })
}

/// `plugins` beside the program, else beside its directory: `make build` leaves
/// `target/release/voice-room` and `target/plugins`.
fn plugins_dir_near(program_dir: &Path) -> PathBuf {
    let beside = program_dir.join("plugins");
    program_dir
        .parent()
        .map(|parent| parent.join("plugins"))
        .filter(|above| !beside.is_dir() && above.is_dir())
        .unwrap_or(beside)
}

/// A checked configuration and the account of where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the server runs with.
    pub config: Config,
    /// What `voice-room config` prints.
    pub effective: Effective,
}

/// Reads the configuration from the file, the environment and the flags.
///
/// # Errors
///
/// All mistakes in all sources.
pub fn load(flags: Flags) -> Result<Loaded, Mistakes> {
    resolve(&Sources::gather(flags)?)
}

/// As [`load`], from sources in hand.
///
/// # Errors
///
/// All mistakes in all sources.
pub fn resolve(sources: &Sources) -> Result<Loaded, Mistakes> {
    read::read(sources)
}
