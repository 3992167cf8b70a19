//! A plugin host with what it needs, and calls to make.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use voice_room::{
    config::{HookPolicies, PluginConfig},
    model::{Codec, ParticipantId, ProducerId, Refusal, RoomId, Source, UnixMs, User, UserId},
    plugin::{
        Action, CommandCall, Fact, JoinCall, Line, LoadError, ParticipantView, PluginHost,
        ProduceCall, ProducerView, RoomView,
    },
    store::Store,
};

use super::watch;

/// One generous limit for everything that is awaited.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A component that `make plugins` has built.
pub(super) fn component(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(path);
    assert!(
        path.exists(),
        "{} is missing: run `make plugins` first",
        path.display()
    );
    path
}

/// The fixture guest with these settings, and nothing that is slow.
pub(super) fn fixture(settings: &Value) -> PluginConfig {
    PluginConfig {
        instances: 1,
        memory_limit: 16 << 20,
        settings: settings.clone(),
        ..PluginConfig::new("fixture", component("plugins-test/fixture-plugin.wasm"))
    }
}

/// The fixture guest, of which `hook` behaves so in rooms that begin with `bad`.
/// A busy machine may take its time over those that do not behave so.
pub(super) fn bad(hook: &str, behaviour: &str) -> PluginConfig {
    PluginConfig {
        hooks: HookPolicies::default().time_budget(Duration::from_millis(300)),
        ..fixture(&json!({ "hooks": { hook: behaviour }, "when": "bad" }))
    }
}

/// One of the product's plugins.
pub(super) fn standard(name: &str, settings: Value) -> PluginConfig {
    PluginConfig {
        instances: 1,
        memory_limit: 16 << 20,
        settings,
        ..PluginConfig::new(name, component(&format!("plugins/{name}.wasm")))
    }
}

/// A component with a text in it replaced by one of the same length.
pub(super) fn patched(dir: &TempDir, of: &str, from: &str, to: &str) -> PathBuf {
    assert_eq!(from.len(), to.len(), "lengths are part of the format");
    let mut bytes = std::fs::read(component(of)).unwrap();
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(place, window)| (window == from.as_bytes()).then_some(place))
        .collect();
    assert!(!places.is_empty(), "`{from}` is in the component");
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    let path = dir.path().join("patched.wasm");
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(super) type Carried = Arc<Mutex<Vec<(String, String, Action)>>>;

/// A host on a data directory of its own, which remembers all actions.
pub(super) struct Rig {
    pub(super) host: PluginHost,
    pub(super) store: Store,
    pub(super) carried: Carried,
    pub(super) dir: TempDir,
}

impl Rig {
    pub(super) async fn new(plugins: &[PluginConfig]) -> Self {
        Self::load(plugins)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) async fn load(plugins: &[PluginConfig]) -> Result<Self, LoadError> {
        Self::load_in(tempfile::tempdir().unwrap(), plugins).await
    }

    pub(super) async fn load_in(dir: TempDir, plugins: &[PluginConfig]) -> Result<Self, LoadError> {
        keep_compiled_code(&dir);
        watch::count();
        let store = Store::open(dir.path()).unwrap();
        let host = PluginHost::load(plugins, &store).await?;
        let carried = Carried::default();
        let all = Arc::clone(&carried);
        let connected = host.connect(
            move |room, plugin, actions| {
                let mut carried = all.lock();
                for action in actions {
                    carried.push((room.to_string(), plugin.to_string(), action));
                }
            },
            |_| 0,
        );
        connected.await;
        Ok(Self {
            host,
            store,
            carried,
            dir,
        })
    }

    /// Closes everything and opens it again, as a restart does.
    pub(super) async fn restart(self, plugins: &[PluginConfig]) -> Self {
        let Self {
            host, store, dir, ..
        } = self;
        host.shutdown(LIMIT).await;
        drop((host, store));
        Self::load_in(dir, plugins)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Has the fixture answer a command in a room.
    pub(super) async fn command(
        &self,
        room: &str,
        name: &str,
        payload: Value,
    ) -> Result<Option<Value>, Refusal> {
        let call = self.host.command(command(room, 1, name, &payload));
        let reply = tokio::time::timeout(LIMIT, call)
            .await
            .expect("an answer within the limit");
        reply.unwrap_or_else(|| panic!("no plugin answers `{name}`"))
    }

    /// A command's data, where it succeeds.
    pub(super) async fn data(&self, room: &str, name: &str, payload: Value) -> Value {
        match self.command(room, name, payload).await {
            Ok(data) => data.unwrap_or_default(),
            Err(refusal) => panic!("{name}: {refusal:?}"),
        }
    }

    /// What the fixture was told of a room, in order.
    pub(super) async fn history(&self, room: &str) -> Vec<String> {
        let data = self.data(room, "fixture:history", json!({})).await;
        serde_json::from_value(data["history"].clone()).unwrap()
    }

    /// What has been recorded.
    pub(super) async fn recorded(&self) -> Vec<Line> {
        self.host.shutdown(LIMIT).await;
        let file = self.dir.path().join("recordings/calls.jsonl");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
            .collect()
    }

    /// The lines of published events.
    pub(super) async fn published(&self) -> Vec<Value> {
        self.store.flush(LIMIT).await.unwrap();
        let text = std::fs::read_to_string(self.dir.path().join("published.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Takes the actions so far.
    pub(super) fn take_actions(&self) -> Vec<Action> {
        self.carried
            .lock()
            .drain(..)
            .map(|(_, _, action)| action)
            .collect()
    }
}

/// Compiling the same component for every test would take most of their time.
fn keep_compiled_code(dir: &TempDir) {
    drop(std::os::unix::fs::symlink(
        compiled(),
        dir.path().join("cache"),
    ));
}

/// Where compiled code is kept from test to test.
pub(super) fn compiled() -> PathBuf {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins-test/cache");
    std::fs::create_dir_all(&shared).unwrap();
    shared
}

pub(super) fn room(id: &str) -> RoomView {
    RoomView {
        id: RoomId::new(id).unwrap(),
        participants: 1,
    }
}

pub(super) fn participant(user: u64) -> ParticipantView {
    let user = User {
        id: UserId(user),
        name: Some("Ada".to_owned()),
        avatar: None,
        roles: vec!["speaker".to_owned()],
        claims: "{\"plan\":\"pro\"}".to_owned(),
    };
    ParticipantView {
        id: ParticipantId::random(),
        user: Arc::new(user),
        connections: 1,
    }
}

pub(super) fn opus() -> Codec {
    Codec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
    }
}

pub(super) fn join(room: &str, user: u64) -> JoinCall {
    JoinCall {
        room: self::room(room),
        participant: participant(user),
        at: UnixMs::now(),
    }
}

pub(super) fn produce(room: &str, user: u64) -> ProduceCall {
    ProduceCall {
        room: self::room(room),
        participant: participant(user),
        source: Source::Mic,
        codec: opus(),
        at: UnixMs::now(),
    }
}

pub(super) fn command(room: &str, user: u64, name: &str, payload: &Value) -> CommandCall {
    CommandCall {
        room: self::room(room),
        participant: participant(user),
        command: name.to_owned(),
        payload: payload.to_string(),
        target: None,
        at: UnixMs::now(),
    }
}

pub(super) fn producer() -> ProducerView {
    ProducerView {
        id: ProducerId(uuid::Uuid::new_v4()),
        source: Source::Mic,
        codec: opus(),
    }
}

pub(super) fn left(room: &str, user: u64) -> Fact {
    let (room, participant) = (self::room(room), participant(user));
    Fact::Left {
        room,
        participant,
        reason: "left".to_owned(),
        at: UnixMs::now(),
    }
}

pub(super) fn opened(room: &str, at: UnixMs) -> Fact {
    Fact::RoomOpened {
        room: self::room(room),
        at,
    }
}
