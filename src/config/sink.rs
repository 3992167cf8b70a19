//! The ledger of published events, and where they are delivered.

use std::{collections::HashSet, ffi::OsString, fs, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use toml::{Table, Value};
use url::Url;

use super::{
    Origin, Secret, is_plugin_name,
    kind::{self, Choice, Kind},
    reader::Section,
};

const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The sink of a configuration that names none.
pub const PUBLISHED_SINK: &str = "published";
/// Its file, in the data directory.
pub const PUBLISHED_FILE: &str = "published.jsonl";

/// Who writes the ledger, and how much of it is kept for whoever reads it. What a sink has
/// not taken yet is kept besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// What this server is called in its entries. Default empty: by the machine's host name.
    pub node: String,
    /// Older entries may go. Default 30 days.
    pub age: Duration,
    /// Number of entries. Default 10,000,000.
    pub entries: u64,
    /// Bytes of all entries. Default 1 GiB.
    pub bytes: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            node: String::new(),
            age: DAY * 30,
            entries: 10_000_000,
            bytes: 1024 * MIB,
        }
    }
}

/// Where published events are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// Unique; what it has taken is remembered by it.
    pub name: String,
    /// What the topics that it wants begin with, those of facts that the server notes
    /// (`media.`, `room.`) included. Default none, which is all that plugins publish.
    pub topics: Vec<String>,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// A file of JSON lines.
    File {
        /// Its name, in the data directory.
        file: String,
    },
    /// An HTTP receiver.
    Webhook(WebhookConfig),
}

/// An HTTP receiver and how it is treated.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    /// Where events are posted.
    pub url: Url,
    /// What requests are signed with: one key, or two while keys are changed.
    pub keys: Vec<SigningKey>,
    /// A PEM file with certificates of authorities that are trusted for this receiver
    /// besides those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Requests at once; never two of one room. Default 8.
    pub concurrency: usize,
    /// How long the receiver may take to answer. Default 10 s.
    pub timeout: Duration,
    /// Tries at an event before it becomes a dead letter. Default 40, with the waits'
    /// defaults almost three hours.
    pub tries: u32,
    /// Wait after the first failure; each further one doubles it. Default 0.5 s.
    pub first_wait: Duration,
    /// The longest wait. Default 5 minutes.
    pub longest_wait: Duration,
}

/// A key that requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Tells the receiver which key it is.
    pub id: String,
    /// At least [`SigningKey::MIN_BYTES`] bytes.
    secret: Secret,
}

impl SigningKey {
    /// The shortest secret that is accepted.
    pub const MIN_BYTES: usize = 24;

    /// `None` if the secret is too short, or begins with `whsec_` and goes on in other than
    /// base64.
    #[must_use]
    pub fn new(id: &str, secret: &str) -> Option<Self> {
        let key = Self {
            id: id.to_owned(),
            secret: Secret::new(secret.to_owned()),
        };
        (key.bytes().len() >= Self::MIN_BYTES).then_some(key)
    }

    /// The secret's bytes: what follows `whsec_` in base64, or else the text itself.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let text = self.secret.expose();
        match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).unwrap_or_default(),
            None => text.as_bytes().to_owned(),
        }
    }
}

impl SinkConfig {
    /// `published.jsonl`, with all that plugins publish.
    #[must_use]
    pub fn published() -> Self {
        Self {
            name: PUBLISHED_SINK.to_owned(),
            topics: Vec::new(),
            kind: SinkKind::File {
                file: PUBLISHED_FILE.to_owned(),
            },
        }
    }
}

impl WebhookConfig {
    const CONCURRENCY: usize = 8;
    const TIMEOUT: Duration = Duration::from_secs(10);
    const TRIES: u32 = 40;
    const FIRST_WAIT: Duration = Duration::from_millis(500);
    const LONGEST_WAIT: Duration = Duration::from_secs(300);

    /// With the defaults.
    #[must_use]
    pub fn new(url: Url, keys: Vec<SigningKey>) -> Self {
        Self {
            url,
            keys,
            ca_file: None,
            concurrency: Self::CONCURRENCY,
            timeout: Self::TIMEOUT,
            tries: Self::TRIES,
            first_wait: Self::FIRST_WAIT,
            longest_wait: Self::LONGEST_WAIT,
        }
    }
}

pub(super) fn ledger(root: &mut Section<'_>) -> LedgerConfig {
    let node = Kind::text(
        "a text of at most 128 characters",
        |text| (text.chars().count() <= 128).then(|| text.to_owned()),
        |text| Value::from(text.as_str()),
    );
    LedgerConfig {
        node: root.value("ledger.node", &node, String::new()),
        age: DAY * root.value("ledger.keep_days", &kind::whole(1..=36_500), 30),
        entries: root.value(
            "ledger.keep_entries",
            &kind::whole(1..=1_000_000_000_000),
            10_000_000,
        ),
        bytes: root.value("ledger.keep_mib", &kind::whole(1..=16 * MIB), 1024) * MIB,
    }
}

/// The environment is for secrets.
pub(super) fn sinks(
    root: &mut Section<'_>,
    environment: &[(OsString, OsString)],
) -> Vec<SinkConfig> {
    let published = [
        ("name", PUBLISHED_SINK),
        ("type", "file"),
        ("file", PUBLISHED_FILE),
    ];
    let published = published.map(|(key, value)| (key.to_owned(), Value::from(value)));
    let (mut names, mut files) = (HashSet::new(), HashSet::new());
    let sinks = root.tables("sinks", vec![Table::from_iter(published)], |section| {
        let sink = sink(section, environment)?;
        let twice = |section: &mut Section<'_>, key: &str, value: &str| {
            let problem = format!("another sink has this {key}");
            section.mistake(key, Some(format!("{value:?}")), Origin::Default, problem);
        };
        if !names.insert(sink.name.clone()) {
            twice(section, "name", &sink.name);
        }
        if let SinkKind::File { file } = &sink.kind
            && !files.insert(file.clone())
        {
            twice(section, "file", file);
        }
        Some(sink)
    });
    sinks.into_iter().flatten().collect()
}

/// `None` if something that it needs is missing or wrong, which is noted.
fn sink(section: &mut Section<'_>, environment: &[(OsString, OsString)]) -> Option<SinkConfig> {
    let name = Kind::text(
        "1 to 64 characters of a-z, 0-9 and -, the first a letter",
        |text| is_plugin_name(text).then(|| text.to_owned()),
        |text: &String| Value::from(text.as_str()),
    );
    let topics = kind::texts(
        "a list of what topics begin with, each 1 to 128 characters of a-z 0-9 . _ -",
        |text| {
            let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
            (1..=128).contains(&text.len()) && text.bytes().all(allowed)
        },
    );
    let name = section.required("name", &name);
    let what = section.required("type", &kind::choice());
    let topics = section.value("topics", &topics, Vec::new());
    let kind = match what {
        Some(What::File) => file(section),
        Some(What::Webhook) => webhook(section, environment).map(SinkKind::Webhook),
        None => {
            // What else there may be is not known.
            section.leave_rest();
            None
        }
    };
    Some(SinkConfig {
        name: name?,
        topics,
        kind: kind?,
    })
}

fn file(section: &mut Section<'_>) -> Option<SinkKind> {
    let file = Kind::text(
        "the name of a file in data_dir, with the extension .jsonl: 1 to 64 characters of \
         a-z 0-9 - _ before it, and not dead-letters",
        |text| {
            let stem = text.strip_suffix(".jsonl")?;
            let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            let fine = (1..=64).contains(&stem.len()) && stem.bytes().all(allowed);
            (fine && stem != "dead-letters").then(|| text.to_owned())
        },
        |text: &String| Value::from(text.as_str()),
    );
    let file = section.required("file", &file)?;
    Some(SinkKind::File { file })
}

fn webhook(
    section: &mut Section<'_>,
    environment: &[(OsString, OsString)],
) -> Option<WebhookConfig> {
    let address = Kind::text(
        "an address such as https://billing.example.com/events, without user, password and \
         fragment",
        |text| text.parse().ok().filter(is_receiver),
        |url: &Url| Value::from(url.as_str()),
    );
    let url = section.required("url", &address.discreet());
    let sources = section.required("keys", &key_sources().discreet());
    let keys = sources.map(|sources| keys(section, &sources, environment));
    let ca_file = section.optional("ca_file", &kind::path());
    let concurrency = kind::whole(1..=256);
    let concurrency = section.value("concurrency", &concurrency, WebhookConfig::CONCURRENCY);
    let timeout = kind::millis(100..=300_000);
    let timeout = section.value("timeout_ms", &timeout, WebhookConfig::TIMEOUT);
    let tries = section.value("tries", &kind::whole(1..=10_000), WebhookConfig::TRIES);
    let wait = kind::millis(10..=86_400_000);
    let first_wait = section.value("first_wait_ms", &wait, WebhookConfig::FIRST_WAIT);
    let longest_wait = section.value("longest_wait_ms", &wait, WebhookConfig::LONGEST_WAIT);
    if longest_wait < first_wait {
        let problem = "must not be less than first_wait_ms".to_owned();
        section.mistake("longest_wait_ms", None, Origin::Default, problem);
    }
    Some(WebhookConfig {
        url: url?,
        keys: keys?,
        ca_file,
        concurrency,
        timeout,
        tries,
        first_wait,
        longest_wait,
    })
}

fn is_receiver(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

/// Where a key is found.
#[derive(Clone)]
enum Source {
    Environment(String),
    File(String),
}

/// One or two ids, each with where its key is found.
fn key_sources() -> Kind<Vec<(String, Source)>> {
    let is_id = |id: &str| {
        let allowed =
            |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        (1..=64).contains(&id.len()) && id.bytes().all(allowed)
    };
    kind::table(
        "one key or two, each as id = \"env:VARIABLE\" or id = \"file:PATH\" (variables whose \
         names begin with VOICE_ROOM_ are settings and hold no keys)",
        move |table| {
            let source = |(id, value): (&String, &Value)| {
                let text = value.as_str().filter(|_| is_id(id))?;
                let source = match text.split_once(':')? {
                    ("env", name) if !name.is_empty() && !name.starts_with("VOICE_ROOM_") => {
                        Source::Environment(name.to_owned())
                    }
                    ("file", path) if !path.is_empty() => Source::File(path.to_owned()),
                    _ => return None,
                };
                Some((id.clone(), source))
            };
            let sources: Option<Vec<_>> = table.iter().map(source).collect();
            sources.filter(|sources| (1..=2).contains(&sources.len()))
        },
        |sources| {
            let entry = |(id, source): &(String, Source)| {
                let text = match source {
                    Source::Environment(name) => format!("env:{name}"),
                    Source::File(path) => format!("file:{path}"),
                };
                (id.clone(), Value::from(text))
            };
            sources.iter().map(entry).collect()
        },
    )
}

fn keys(
    section: &mut Section<'_>,
    sources: &[(String, Source)],
    environment: &[(OsString, OsString)],
) -> Vec<SigningKey> {
    let mut keys = Vec::new();
    for (id, source) in sources {
        let found = match source {
            Source::Environment(name) => {
                let found = environment.iter().find(|(one, _)| one == name.as_str());
                found
                    .and_then(|(_, value)| value.to_str().map(str::to_owned))
                    .ok_or_else(|| format!("the variable {name} is not set"))
            }
            Source::File(path) => {
                fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))
            }
        };
        let key = found.and_then(|text| {
            SigningKey::new(id, text.trim()).ok_or_else(|| {
                format!(
                    "the key {id} must have at least {} bytes, in base64 after whsec_ or as \
                     it is (make one with: echo \"whsec_$(openssl rand -base64 32)\")",
                    SigningKey::MIN_BYTES
                )
            })
        });
        match key {
            Ok(key) => keys.push(key),
            Err(problem) => section.mistake("keys", None, Origin::Default, problem),
        }
    }
    keys
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    File,
    Webhook,
}

impl Choice for What {
    const WORDS: &'static [(&'static str, Self)] =
        &[("file", Self::File), ("webhook", Self::Webhook)];
}
