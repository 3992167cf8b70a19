//! What a test sees of a plugin from outside: its metrics, and what has become of facts.

use std::time::Duration;

use serde_json::Value;
use voice_room::{plugin::PluginStatus, telemetry::Metrics};

use super::rig::{LIMIT, Rig};

/// Counts for all tests of this binary: a test that looks gives its plugin a name of its own.
pub(super) fn count() -> Metrics {
    Metrics::install().expect("the only recorder")
}

/// How many calls of a plugin's hook have had this outcome.
pub(super) fn calls(plugin: &str, hook: &str, outcome: &str) -> u64 {
    let labels = [
        format!("plugin=\"{plugin}\""),
        format!("hook=\"{hook}\""),
        format!("outcome=\"{outcome}\""),
    ];
    let text = count().render();
    text.lines()
        .filter(|line| line.starts_with("voice_room_plugin_calls_total{"))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Waits for what nobody tells of.
pub(super) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

impl Rig {
    /// The status of the only plugin.
    pub(super) fn status(&self) -> PluginStatus {
        let [status] = &self.host.status()[..] else {
            panic!("one plugin")
        };
        status.clone()
    }

    /// What the fixture has published of facts that count, in order, with their rooms.
    pub(super) async fn told(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let published = self.published().await;
        let told = published
            .iter()
            .filter(|event| event["topic"] == "fixture.told");
        told.map(|event| (text(&event["room"]), text(&event["payload"])))
            .collect()
    }

    /// As [`Self::told`], of one room.
    pub(super) async fn told_of(&self, room: &str) -> Vec<String> {
        let told = self.told().await.into_iter();
        told.filter_map(|(of, entry)| (of == room).then_some(entry))
            .collect()
    }

    /// Facts that were written down instead of told.
    pub(super) async fn dead_letters(&self) -> Vec<Value> {
        self.store.flush(LIMIT).await.unwrap();
        let text = std::fs::read_to_string(self.dir.path().join("dead-letters.jsonl"));
        text.unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A key of the fixture's.
    pub(super) async fn key(&self, room: &str, key: &str) -> Value {
        let key = serde_json::json!({ "key": key });
        self.data(room, "fixture:kv-get", key).await["value"].clone()
    }

    /// Sets the key that keeps an unwell hook from trapping.
    pub(super) async fn heal(&self, room: &str) {
        let well = serde_json::json!({ "key": "well", "value": "yes" });
        self.data(room, "fixture:kv-set", well).await;
    }
}
