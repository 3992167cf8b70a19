//! The server: its configuration, its lives and its deaths.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{Options, TortureError};

/// Of tokens. Nobody but this run knows the server.
pub(crate) const SECRET: &str = "the secret of a server that does not live long";

/// What requests to the receiver are signed with.
pub(crate) const SIGNING_KEY: &str = "the key of a receiver that cannot be relied on";

/// How often the server writes how far open sessions are.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a server may take to start: it recovers what its predecessor left, and shares
/// the machine with the participants of the one before.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to stop in order.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How the guest fails: any of the hooks that inform.
const WHIMS: [&str; 6] = [
    "on-room-opened",
    "on-join",
    "on-leave",
    "on-first-rtp",
    "on-producer-closed",
    "on-room-closed",
];

/// Where a run's server lives.
#[derive(Debug)]
pub(crate) struct Home {
    program: PathBuf,
    pub(crate) dir: PathBuf,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// From its start until it said that it is ready.
    pub(crate) start: Duration,
}

impl Home {
    /// Writes the configuration: nothing is kept of what else a server could have.
    pub(crate) fn make(
        options: &Options,
        dir: PathBuf,
        receiver: &str,
    ) -> Result<Self, TortureError> {
        let needed = [
            ("the server", &options.server),
            ("the folder of plugins", &options.plugins),
            ("the guest", &options.guest),
        ];
        for (what, path) in needed {
            if !path.exists() {
                let path = path.clone();
                return Err(TortureError::Missing { what, path });
            }
        }
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let config = configuration(
            &absolute(&options.plugins),
            &absolute(&options.guest),
            receiver,
        );
        fs::write(dir.join("voice-room.toml"), config)
            .map_err(TortureError::system("writing the configuration"))?;
        Ok(Self {
            program: absolute(&options.server),
            dir,
        })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("VOICE_ROOM_AUTH__SECRET", SECRET)
            .env("TORTURE_KEY", SIGNING_KEY)
            .env("RUST_BACKTRACE", "1")
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts a server on the data of the one before, and waits until it is ready.
    pub(crate) async fn start(&self) -> Result<Server, TortureError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(TortureError::system("opening the server's log"))?;
        let began = Instant::now();
        let mut child = self
            .command()
            .args(["serve", "--config", "voice-room.toml", "--data-dir", "data"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(TortureError::system("starting the server"))?;
        let stdout = child.stdout.take().ok_or_else(|| self.failed("is mute"))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = timeout(START_LIMIT, lines.next_line()).await;
        let ready = ready.map_err(|_| self.failed("does not become ready"))?;
        let line = ready.map_err(TortureError::system("reading what the server says"))?;
        let line = line.ok_or_else(|| self.failed("ended before it was ready"))?;
        let url = line.split_whitespace().last().unwrap_or_default();
        Ok(Server {
            child,
            url: url.to_owned(),
            start: began.elapsed(),
        })
    }

    /// What `voice-room ledger verify` says of the data, and whether it holds.
    pub(crate) async fn verify(&self) -> Result<(bool, String), TortureError> {
        let output = self
            .command()
            .args(["ledger", "verify", "--data-dir", "data", "--json"])
            .output()
            .await
            .map_err(TortureError::system("running ledger verify"))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).trim().to_owned(),
        ))
    }

    /// Lines of the log that tell of a panic.
    pub(crate) fn panics(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines = log.lines().filter(|line| line.contains("panicked at"));
        lines.map(ToOwned::to_owned).collect()
    }

    /// Facts that a plugin has not taken.
    pub(crate) fn dead_letters(&self) -> Vec<String> {
        let letters = fs::read_to_string(self.data().join("dead-letters.jsonl"));
        let letters = letters.unwrap_or_default();
        letters.lines().map(ToOwned::to_owned).collect()
    }

    fn failed(&self, what: &str) -> TortureError {
        TortureError::Server {
            what: what.to_owned(),
            log: self.log(),
        }
    }
}

impl Server {
    /// SIGKILL: nothing that the server has in memory is kept.
    pub(crate) fn kill(&mut self) -> Result<(), TortureError> {
        let killed = self.child.start_kill();
        killed.map_err(TortureError::system("killing the server"))
    }

    /// Waits until a killed server is gone.
    pub(crate) async fn gone(&mut self) -> Result<ExitStatus, TortureError> {
        let gone = self.child.wait().await;
        gone.map_err(TortureError::system("waiting for the server's end"))
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM, and waits until it has ended in order.
    pub(crate) async fn stop(&mut self, home: &Home) -> Result<(), TortureError> {
        let pid = self.child.id().map(|pid| pid.to_string());
        let sent = Command::new("kill").args(pid).status().await;
        sent.map_err(TortureError::system("telling the server to stop"))?;
        match timeout(STOP_LIMIT, self.gone()).await {
            Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(()),
            Ok(status) => Err(home.failed(&format!("stopped with {:?}", status?))),
            Err(_) => Err(home.failed("does not stop")),
        }
    }
}

/// A token of a user who may read the books.
pub(crate) fn admin_token() -> Result<String, TortureError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let expires = now.unwrap_or_default() + Duration::from_hours(24);
    let claims = json!({ "id": 1, "roles": ["admin"], "exp": expires.as_secs() });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key)
        .map_err(|why| TortureError::make("a token", &why))
}

/// Prepares the folder, in which no other run has left its books.
pub(crate) fn prepare(dir: &Path) -> Result<(), TortureError> {
    let data = dir.join("data");
    if data.exists() {
        return Err(TortureError::Used(dir.to_owned()));
    }
    fs::create_dir_all(data).map_err(TortureError::system("making the folder"))?;
    let log = File::create(dir.join("server.log"));
    log.map(drop)
        .map_err(TortureError::system("making the server's log"))
}

fn configuration(plugins: &Path, guest: &Path, receiver: &str) -> String {
    let hooks: Vec<String> = WHIMS
        .iter()
        .map(|hook| format!("\"{hook}\" = \"whim\""))
        .collect();
    format!(
        r#"plugins_dir = {plugins:?}

[server]
listen = "127.0.0.1:0"

[media]
listen_ip = "127.0.0.1"
port_base = 0
workers = 1

[rooms]
max_active_speakers = 0
heartbeat_ms = {}

[[sinks]]
name = "receiver"
type = "webhook"
topics = ["billing."]
url = "{receiver}"
keys = {{ torture = "env:TORTURE_KEY" }}
timeout_ms = 400
tries = 1000
first_wait_ms = 20
longest_wait_ms = 200

[[plugins]]
name = "moderation"

[[plugins]]
name = "seats"

[[plugins]]
name = "billing"

# Traps in one call of four, and is to be told until it does not.
[[plugins]]
name = "fixture"
path = {guest:?}
grants = ["*"]
breaker = {{ failures = 20, window_ms = 5000, probe_after_ms = 300 }}
settings = {{ publish = true, hooks = {{ {} }} }}
"#,
        HEARTBEAT.as_millis(),
        hooks.join(", ")
    )
}
