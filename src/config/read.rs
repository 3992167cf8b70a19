//! Every key: its name, what it may be and its default.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use toml::{Table, Value};
use tracing_subscriber::EnvFilter;

use super::{
    AllowedOrigins, AuthConfig, Config, Effective, IceServer, Keys, Loaded, LogConfig, LogFormat,
    MediaConfig, Mistakes, Origin, RoomsConfig, Secret, ServerConfig, SessionsConfig, Sources,
    WhenNotDurable, first_rtp,
    kind::{self, Choice, Kind},
    mistake::Mistake,
    plugin,
    reader::{Overrides, Report, Section},
    sink,
};
use crate::model::ConnectedWhen;

const MIB: usize = 1024 * 1024;

/// Reads, checks and accounts for all keys.
pub(super) fn read(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut report = Report::default();
    let mut overrides = Overrides::from_environment(&sources.environment, &mut report);
    let flags = &sources.flags;
    overrides.flag("server.listen", "--listen", flags.listen.as_ref());
    overrides.flag("server.data_dir", "--data-dir", flags.data_dir.as_ref());
    let file = Origin::File(flags.file.clone().unwrap_or_default());
    let table = parse_file(
        sources.file_text.as_deref().unwrap_or(""),
        &file,
        &mut report,
    );

    let dev = flags.dev;
    let mut root = Section::root(table, file, overrides, &mut report);
    let plugins_dir = root.value("plugins_dir", &kind::path(), sources.plugins_dir.clone());
    let config = Config {
        dev,
        server: server(&mut root, dev),
        log: log(&mut root),
        auth: auth(&mut root, dev),
        media: media(&mut root, dev, sources.cores),
        sessions: sessions(&mut root),
        rooms: rooms(&mut root),
        plugins: plugin::plugins(&mut root, dev, &plugins_dir),
        recording: plugin::recording(&mut root),
        ledger: sink::ledger(&mut root),
        sinks: sink::sinks(&mut root, &sources.environment),
    };
    root.finish();
    check(&config, &mut report);

    let Report {
        mistakes, lines, ..
    } = report;
    match Mistakes::new(mistakes) {
        Some(mistakes) => Err(mistakes),
        None => Ok(Loaded {
            config,
            effective: Effective { dev, lines },
        }),
    }
}

fn parse_file(text: &str, origin: &Origin, report: &mut Report) -> Table {
    text.parse().unwrap_or_else(|error: toml::de::Error| {
        // The error's own text quotes the line, which may hold a secret.
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.unwrap_or_default().matches('\n').count() + 1;
        report.mistakes.push(Mistake {
            key: format!("line {line}"),
            value: None,
            origin: origin.clone(),
            problem: format!("not TOML: {}", error.message()),
        });
        Table::new()
    })
}

fn server(root: &mut Section<'_>, dev: bool) -> ServerConfig {
    let address = Kind::text(
        "an IP address and a port, for example 127.0.0.1:3000",
        |text| text.parse().ok(),
        |address: &SocketAddr| Value::from(address.to_string()),
    );
    let origins = kind::texts(
        "a list of web origins, each as browsers send it: https://app.example.com \
         (lower case, no path, no default port)",
        move |text| is_origin(text) || (dev && text == "*"),
    );
    let default_origins = if dev {
        vec!["*".to_owned()]
    } else {
        Vec::new()
    };
    ServerConfig {
        listen: root.value(
            "server.listen",
            &address,
            SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
        ),
        data_dir: root.value("server.data_dir", &kind::path(), PathBuf::from("data")),
        allowed_origins: {
            let listed = root.value("server.allowed_origins", &origins, default_origins);
            if listed.iter().any(|origin| origin == "*") {
                AllowedOrigins::Any
            } else {
                AllowedOrigins::Listed(listed)
            }
        },
        shutdown_limit: root.value(
            "server.shutdown_limit_ms",
            &kind::millis(100..=600_000),
            Duration::from_secs(10),
        ),
    }
}

/// Whether a browser would send this text in the `Origin` header.
fn is_origin(text: &str) -> bool {
    let default_port = [("https://", ":443"), ("http://", ":80")];
    default_port.iter().any(|(scheme, port)| {
        text.strip_prefix(scheme).is_some_and(|host| {
            let allowed = |c: char| {
                c.is_ascii_lowercase()
                    || c.is_ascii_digit()
                    || matches!(c, '.' | '-' | ':' | '[' | ']')
            };
            !host.is_empty() && host.chars().all(allowed) && !host.ends_with(port)
        })
    })
}

fn log(root: &mut Section<'_>) -> LogConfig {
    let filter = Kind::text(
        "directives such as info or info,voice_room::media=debug",
        |text| EnvFilter::try_new(text).is_ok().then(|| text.to_owned()),
        |text: &String| Value::from(text.as_str()),
    );
    LogConfig {
        format: root.value("log.format", &kind::choice(), LogFormat::Text),
        filter: root.value("log.filter", &filter, "info".to_owned()),
    }
}

fn auth(root: &mut Section<'_>, dev: bool) -> AuthConfig {
    let hint = "make one with: openssl rand -base64 48";
    let shortest = if dev { 1 } else { AuthConfig::MIN_SECRET_BYTES };
    let secret = Kind::text(
        format!("a text of at least {shortest} bytes ({hint})"),
        move |text| (text.len() >= shortest).then(|| Secret::new(text.to_owned())),
        |_| Value::from(""),
    )
    .secret();
    let secret = if dev {
        root.optional("auth.secret", &secret)
    } else {
        root.required("auth.secret", &secret)
    };
    AuthConfig {
        keys: secret.map_or(Keys::Ephemeral, Keys::Secret),
        issuer: root.optional("auth.issuer", &kind::non_empty()),
        audience: root.optional("auth.audience", &kind::non_empty()),
        leeway: root.value(
            "auth.leeway_seconds",
            &kind::seconds(0..=3600),
            Duration::from_secs(30),
        ),
        anonymous: root.value("auth.anonymous", &kind::boolean(), false),
    }
}

fn media(root: &mut Section<'_>, dev: bool, cores: usize) -> MediaConfig {
    let ip = Kind::text(
        "an IP address",
        |text| text.parse().ok(),
        |ip: &IpAddr| Value::from(ip.to_string()),
    );
    let announced = Kind::text(
        "the IP address or host name at which clients reach the media ports, \
         without scheme and port",
        |text| is_reachable(text).then(|| text.to_owned()),
        |text: &String| Value::from(text.as_str()),
    );
    let (listen_ip, port_base) = if dev {
        (Ipv4Addr::LOCALHOST, 0)
    } else {
        (Ipv4Addr::UNSPECIFIED, 20_000)
    };
    MediaConfig {
        workers: root.value("media.workers", &kind::whole(1..=256), cores.clamp(1, 256)),
        listen_ip: root.value("media.listen_ip", &ip, listen_ip.into()),
        announced_address: root.optional("media.announced_address", &announced),
        port_base: root.value("media.port_base", &kind::whole(0..=u16::MAX), port_base),
        opus_fec: root.value("media.opus_fec", &kind::boolean(), true),
        opus_dtx: root.value("media.opus_dtx", &kind::boolean(), true),
        request_timeout: root.value(
            "media.request_timeout_ms",
            &kind::millis(100..=60_000),
            Duration::from_secs(5),
        ),
        initial_outgoing_bitrate: root.optional(
            "media.initial_outgoing_bitrate",
            &kind::whole(10_000..=1_000_000_000),
        ),
        ice_servers: root.tables("media.ice_servers", Vec::new(), ice_server),
    }
}

fn is_reachable(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    match text.parse::<IpAddr>() {
        Ok(ip) => !ip.is_unspecified(),
        // A name ends in letters: 1.2.3 is a mistyped address.
        Err(_) => {
            text.len() <= 253
                && text.split('.').all(label)
                && text
                    .chars()
                    .next_back()
                    .is_some_and(|c| c.is_ascii_alphabetic())
        }
    }
}

fn ice_server(section: &mut Section<'_>) -> IceServer {
    let urls = kind::texts(
        "a list of addresses such as stun:stun.example.com:3478 or turn:turn.example.com:3478",
        |url| {
            ["stun:", "stuns:", "turn:", "turns:"].iter().any(|scheme| {
                url.strip_prefix(scheme)
                    .is_some_and(|rest| !rest.is_empty())
            })
        },
    );
    let credential = Kind::text(
        "a text that is not empty",
        |text| (!text.is_empty()).then(|| Secret::new(text.to_owned())),
        |_| Value::from(""),
    );
    let server = IceServer {
        urls: section.required("urls", &urls).unwrap_or_default(),
        username: section.optional("username", &kind::non_empty()),
        credential: section.optional("credential", &credential.secret()),
    };
    let is_turn = server.urls.iter().any(|url| url.starts_with("turn"));
    if is_turn && (server.username.is_none() || server.credential.is_none()) {
        section.mistake(
            "urls",
            None,
            Origin::Default,
            "a TURN server needs username and credential: browsers refuse it without".to_owned(),
        );
    }
    server
}

fn sessions(root: &mut Section<'_>) -> SessionsConfig {
    let mut budget = |key, default| {
        let value = root.value(key, &kind::whole(1..=1_000_000), default);
        NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
    };
    SessionsConfig {
        event_budget_capacity: budget("sessions.event_budget_capacity", 200),
        event_budget_refill_per_second: budget("sessions.event_budget_refill_per_second", 40),
        max_frame_bytes: root.value(
            "sessions.max_frame_bytes",
            &kind::whole(16 * 1024..=16 * MIB),
            64 * 1024,
        ),
        outbox_capacity: root.value("sessions.outbox_capacity", &kind::whole(16..=65_536), 1024),
        ping_interval: root.value(
            "sessions.ping_interval_ms",
            &kind::millis(100..=600_000),
            Duration::from_secs(25),
        ),
        ping_timeout: root.value(
            "sessions.ping_timeout_ms",
            &kind::millis(100..=600_000),
            Duration::from_secs(20),
        ),
        rest_idle: root.value(
            "sessions.rest_idle_ms",
            &kind::millis(100..=86_400_000),
            Duration::from_secs(60),
        ),
        resume_grace: root.value(
            "sessions.resume_grace_ms",
            &kind::millis(0..=600_000),
            Duration::from_secs(15),
        ),
    }
}

fn rooms(root: &mut Section<'_>) -> RoomsConfig {
    let first_rtp = first_rtp::general(root);
    RoomsConfig {
        max_participants: root.value("rooms.max_participants", &kind::whole(1..=100_000), 1000),
        max_consumers: root.value("rooms.max_consumers", &kind::whole(1..=100_000), 512),
        max_consumers_per_router: root.value(
            "rooms.max_consumers_per_router",
            &kind::whole(1..=100_000),
            500,
        ),
        max_active_speakers: root.value("rooms.max_active_speakers", &kind::whole(0..=1000), 16),
        active_speaker_hold: root.value(
            "rooms.active_speaker_hold_ms",
            &kind::millis(1000..=600_000),
            Duration::from_secs(10),
        ),
        speaker_threshold_dbov: root.value(
            "rooms.speaker_threshold_dbov",
            &kind::whole(-127..=0),
            -60,
        ),
        speaker_interval: root.value(
            "rooms.speaker_interval_ms",
            &kind::millis(250..=5000),
            Duration::from_millis(250),
        ),
        speaker_hold: root.value(
            "rooms.speaker_hold_ms",
            &kind::millis(0..=60_000),
            Duration::from_secs(1),
        ),
        speaker_max_entries: root.value("rooms.speaker_max_entries", &kind::whole(1..=1000), 16),
        call_connected_when: root.value(
            "rooms.call_connected_when",
            &kind::choice(),
            ConnectedWhen::First,
        ),
        when_not_durable: root.value(
            "rooms.when_not_durable",
            &kind::choice(),
            WhenNotDurable::Refuse,
        ),
        heartbeat: root.value(
            "rooms.heartbeat_ms",
            &kind::millis(100..=600_000),
            Duration::from_secs(5),
        ),
        silence: root.value(
            "rooms.silence_ms",
            &kind::millis(1000..=3_600_000),
            Duration::from_secs(15),
        ),
        first_rtp,
        first_rtp_by_room: first_rtp::by_room(root, first_rtp),
    }
}

/// What no key can know alone.
fn check(config: &Config, report: &mut Report) {
    let media = &config.media;
    if media.listen_ip.is_unspecified() && media.announced_address.is_none() {
        report.conflict(
            &["media.announced_address", "media.listen_ip"],
            format!(
                "must be set, because media.listen_ip is the wildcard {}, which no client can \
                 connect to: name the public IP address or host name of this machine, or set \
                 media.listen_ip to one address",
                media.listen_ip
            ),
        );
    }
    if media.port_base == 0 {
        return;
    }
    let first = usize::from(media.port_base);
    let ports = first..first + media.workers;
    if ports.end > usize::from(u16::MAX) + 1 {
        report.conflict(
            &["media.port_base", "media.workers"],
            format!(
                "too high: {} workers need the ports {first} to {}",
                media.workers,
                ports.end - 1
            ),
        );
    }
    if ports.contains(&usize::from(config.server.listen.port())) {
        report.conflict(
            &["media.port_base", "media.workers", "server.listen"],
            format!(
                "the media ports {first} to {} include the port of server.listen ({})",
                ports.end - 1,
                config.server.listen.port()
            ),
        );
    }
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for WhenNotDurable {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("allow", Self::Allow)];
}

impl Choice for ConnectedWhen {
    const WORDS: &'static [(&'static str, Self)] = &[("first", Self::First), ("both", Self::Both)];
}
