//! Webhooks, with real receivers that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod delivering;
mod letters;
pub(crate) mod receiver;
mod tls;

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use voice_room::{
    config::{LedgerConfig, SigningKey, SinkConfig, SinkKind, WebhookConfig},
    sinks::{SinkStatus, Sinks},
    store::{Limits, Staged, Store},
};

/// One generous limit for everything that is awaited.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";

pub(crate) const LIMITS: Limits = Limits {
    key: 64,
    value: 1024,
    keys: 1000,
    total: 1 << 20,
    timers: 1000,
    changes: 1000,
    changed: 1 << 20,
    listed: 1000,
    events: 1000,
    payload: 1 << 16,
    topic: 128,
};

/// A webhook that is quick to try again.
pub(crate) fn webhook(name: &str, url: &str) -> SinkConfig {
    let key = SigningKey::new("a", SECRET).unwrap();
    let mut webhook = WebhookConfig::new(url.parse().unwrap(), vec![key]);
    webhook.first_wait = Duration::from_millis(10);
    webhook.longest_wait = Duration::from_millis(50);
    webhook.timeout = Duration::from_millis(500);
    SinkConfig {
        name: name.to_owned(),
        topics: Vec::new(),
        kind: SinkKind::Webhook(webhook),
    }
}

fn with(sink: SinkConfig, change: impl FnOnce(&mut WebhookConfig)) -> SinkConfig {
    let SinkConfig { name, topics, kind } = sink;
    let SinkKind::Webhook(mut webhook) = kind else {
        panic!("a webhook")
    };
    change(&mut webhook);
    SinkConfig {
        name,
        topics,
        kind: SinkKind::Webhook(webhook),
    }
}

/// A store with sinks that run.
struct House {
    dir: TempDir,
    store: Store,
    sinks: Sinks,
}

impl House {
    fn open(sinks: &[SinkConfig]) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), sinks)
    }

    fn open_in(dir: TempDir, configs: &[SinkConfig]) -> Self {
        let store = Store::open_with(dir.path(), &LedgerConfig::default(), configs).unwrap();
        let sinks = Sinks::start(configs, &store).unwrap();
        Self { dir, store, sinks }
    }

    /// As a stop of the server does it.
    async fn close(self) -> TempDir {
        self.sinks.stop(LIMIT).await;
        self.store.flush(LIMIT).await.unwrap();
        self.dir
    }

    fn publish(&self, room: &str, topic: &str, n: u64) {
        let space = self.store.space("billing");
        let mut staged = Staged::default();
        let payload = n.to_string();
        staged
            .publish(&space, &LIMITS, room, topic, &payload)
            .unwrap();
        space.apply(staged).unwrap();
    }

    fn status(&self, sink: &str) -> SinkStatus {
        let mut all = self.sinks.status().into_iter();
        all.find(|status| status.name == sink).unwrap()
    }

    /// Waits until all that was published is in the ledger, and a sink's status is as wanted.
    async fn until(&self, sink: &str, what: &str, wanted: impl Fn(&SinkStatus) -> bool) {
        self.store.flush(LIMIT).await.unwrap();
        let seen = async {
            while !wanted(&self.status(sink)) {
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(LIMIT, seen).await;
        assert!(seen.is_ok(), "{what}: {:?}", self.status(sink));
    }
}

fn number(entry: &Value) -> u64 {
    entry["payload"].as_u64().unwrap()
}
