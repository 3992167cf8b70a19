//! What a plugin may do is what its manifest asks for and the configuration grants.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use voice_room::{
    config::{Capability, Grants, PluginConfig},
    model::{ProducerId, UserId},
    plugin::{Action, Amendments, Target},
};

use super::rig::{self, Rig, bad, fixture};

fn all_but(capability: Capability) -> BTreeSet<Capability> {
    let others = Capability::ALL.into_iter();
    others.filter(|one| *one != capability).collect()
}

/// The plugin, not granted one thing that its manifest asks for.
fn not_granted(plugin: PluginConfig, capability: Capability) -> PluginConfig {
    PluginConfig {
        grants: Grants::Listed(all_but(capability)),
        ..plugin
    }
}

/// The plugin, with a key of its manifest replaced.
fn with_manifest(dir: &TempDir, plugin: PluginConfig, key: &str, value: &Value) -> PluginConfig {
    let text = std::fs::read_to_string(&plugin.manifest).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    table.insert(key.to_owned(), toml::Value::try_from(value).unwrap());
    let manifest = dir.path().join("manifest.toml");
    std::fs::write(&manifest, table.to_string()).unwrap();
    PluginConfig { manifest, ..plugin }
}

/// The plugin, whose manifest does not ask for one thing.
fn not_asked(dir: &TempDir, plugin: PluginConfig, capability: Capability) -> PluginConfig {
    let mut plugin = plugin;
    if capability == Capability::Publish {
        plugin = with_manifest(dir, plugin, "topics", &json!([]));
    }
    let others = json!(all_but(capability));
    with_manifest(dir, plugin, "capabilities", &others)
}

async fn problem(plugin: PluginConfig) -> String {
    let Err(error) = Rig::load(&[plugin]).await else {
        panic!("it loads")
    };
    assert_eq!(error.problems.len(), 1, "{error}");
    error.problems[0].problem.clone()
}

#[rstest]
#[case(Capability::KeyValue, "key-value")]
#[case(Capability::Timers, "timers")]
#[case(Capability::Publish, "events")]
#[case(Capability::Metrics, "metrics")]
#[tokio::test]
async fn an_import_must_be_asked_for_and_granted(
    #[case] capability: Capability,
    #[case] interface: &str,
) {
    let name = capability.name();
    let import = format!("imports `voice-room:plugin/{interface}@0.3.0`");
    let dir = tempfile::tempdir().unwrap();
    let unasked = problem(not_asked(&dir, fixture(&json!({})), capability)).await;
    assert!(unasked.starts_with(&import), "{unasked}");
    let instead = format!("add \"{name}\" to `capabilities`");
    assert!(unasked.ends_with(&instead), "{unasked}");
    let denied = problem(not_granted(fixture(&json!({})), capability)).await;
    assert!(denied.starts_with(&import), "{denied}");
    assert!(
        denied.contains(&format!("is not granted `{name}`")),
        "{denied}"
    );
    let line = r#"`grants = ["key-value", "timers", "publish", "metrics", "emit", "mute", "close", "kick", "pin-speaker", "amend"]`"#;
    assert!(denied.contains(line), "{denied}");
}

#[tokio::test]
async fn a_plugin_without_grants_is_told_the_line_to_add() {
    let problem = problem(PluginConfig {
        grants: Grants::Listed(BTreeSet::new()),
        ..fixture(&json!({}))
    })
    .await;
    let line = r#"write `grants = ["key-value", "timers", "publish", "metrics"]`"#;
    assert!(problem.contains(line), "{problem}");
    let others = "(it also asks for `emit`, `mute`, `close`, `kick`, `pin-speaker`, `amend`)";
    assert!(problem.ends_with(others), "{problem}");
}

const PRODUCER: &str = "00000000-0000-4000-8000-000000000001";

#[rstest]
#[case::emit_to_user(Capability::Emit,
    json!({ "emitToUser": { "userId": 7, "event": "fixture:x", "payload": {} } }))]
#[case::emit_to_room(Capability::Emit,
    json!({ "emitToRoom": { "event": "fixture:x", "payload": {} } }))]
#[case::mute(Capability::Mute, json!({ "mute": { "user": 7 } }))]
#[case::mute_one(Capability::Mute, json!({ "mute": { "producer": PRODUCER } }))]
#[case::unmute(Capability::Mute, json!({ "unmute": { "user": 7 } }))]
#[case::close(Capability::Close, json!({ "close": { "user": 7 } }))]
#[case::kick(Capability::Kick, json!({ "kick": { "userId": 7, "reason": "out" } }))]
#[case::pin(Capability::PinSpeaker, json!({ "pinSpeaker": { "userId": 7, "pin": "in" } }))]
#[tokio::test]
async fn an_action_that_is_not_granted_is_not_done(
    #[case] capability: Capability,
    #[case] action: Value,
) {
    // Two more, of which at least one is granted: it is done all the same.
    let actions = json!({ "actions": [
        { "close": { "producer": PRODUCER } },
        action,
        { "mute": { "user": 8 } },
    ]});
    let producer = Target::Producer(ProducerId(PRODUCER.parse().unwrap()));
    let mut others = vec![
        Action::Close(producer),
        Action::Mute(Target::User(UserId(8))),
    ];
    others.retain(|other| match other {
        Action::Close(_) => capability != Capability::Close,
        _ => capability != Capability::Mute,
    });
    let dir = tempfile::tempdir().unwrap();
    for plugin in [
        not_granted(fixture(&json!({})), capability),
        not_asked(&dir, fixture(&json!({})), capability),
    ] {
        let rig = Rig::new(&[plugin]).await;
        rig.data("a", "fixture:do", actions.clone()).await;
        assert_eq!(rig.take_actions(), others, "without {}", capability.name());
    }
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    rig.data("a", "fixture:do", actions).await;
    assert_eq!(rig.take_actions().len(), 3, "with all grants");
}

#[tokio::test]
async fn an_amendment_that_is_not_granted_does_not_count() {
    let amending = || bad("before-produce", "amend-muted");
    let dir = tempfile::tempdir().unwrap();
    for plugin in [
        not_granted(amending(), Capability::Amend),
        not_asked(&dir, amending(), Capability::Amend),
    ] {
        let rig = Rig::new(&[plugin]).await;
        let amended = rig.host.before_produce(rig::produce("bad", 1)).await;
        assert_eq!(amended, Ok(Amendments::default()));
    }
    let rig = Rig::new(&[amending()]).await;
    let amended = rig.host.before_produce(rig::produce("bad", 1)).await;
    assert_eq!(amended.unwrap().muted_by.len(), 1, "with all grants");
}

#[tokio::test]
async fn a_topic_that_is_not_granted_is_not_published_to() {
    let dir = tempfile::tempdir().unwrap();
    let topics = json!(["billing.*", "seats"]);
    let plugin = with_manifest(&dir, fixture(&json!({})), "topics", &topics);
    let rig = Rig::new(&[plugin]).await;
    for (topic, expected) in [
        ("billing.heard", None),
        ("seats", None),
        ("seats.taken", Some("not-granted")),
        ("billing", Some("not-granted")),
        ("Billing.heard", Some("invalid-topic")),
        ("", Some("invalid-topic")),
    ] {
        let event = json!({ "topic": topic, "payload": "{}" });
        let reply = rig.command("a", "fixture:publish", event).await;
        let error = reply.err().map(|refusal| refusal.message);
        assert_eq!(error.as_deref(), expected, "{topic}");
    }
    let published = rig.published().await;
    let topics: Vec<_> = published.iter().map(|line| line["topic"].clone()).collect();
    assert_eq!(topics, ["billing.heard", "seats"]);
}

#[rstest]
#[case("hooks", json!(["on-command"]), "exports `on-join`, which its manifest does not list")]
#[case("commands", json!(["fixture:run"]), "registers `fixture:history`, which its manifest does not list")]
#[case("hooks", json!("before-join"), "`hooks` must be a list")]
#[case("version", json!("two"), "`version` is no semantic version")]
#[case("capabilites", json!([]), "write `capabilities`")]
#[tokio::test]
async fn a_component_must_be_as_its_manifest_says(
    #[case] key: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let problem = problem(with_manifest(&dir, fixture(&json!({})), key, &value)).await;
    assert!(problem.contains(expected), "{problem}");
}

#[tokio::test]
async fn a_component_without_a_manifest_does_not_load() {
    let plugin = PluginConfig {
        manifest: "/no/such/fixture.toml".into(),
        ..fixture(&json!({}))
    };
    let problem = problem(plugin).await;
    assert!(
        problem.contains("/no/such/fixture.toml is missing"),
        "{problem}"
    );
    assert!(problem.contains("`voice-room plugin check "), "{problem}");
}

#[tokio::test]
async fn a_swap_goes_by_the_new_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&[fixture(&json!({}))]).await;
    let kick = json!({ "actions": [{ "kick": { "userId": 7, "reason": "out" } }] });
    rig.data("a", "fixture:do", kick.clone()).await;
    assert_eq!(rig.take_actions().len(), 1);
    let narrower = not_asked(&dir, fixture(&json!({})), Capability::Kick);
    rig.host.reconfigure(&narrower).await.unwrap();
    rig.data("a", "fixture:do", kick.clone()).await;
    assert_eq!(rig.take_actions(), []);
    let unusable = not_asked(&dir, fixture(&json!({})), Capability::Timers);
    let error = rig.host.reconfigure(&unusable).await.unwrap_err();
    assert!(error.to_string().contains("timers"), "{error}");
    rig.data("a", "fixture:do", kick).await;
    assert_eq!(rig.take_actions(), [], "what ran goes on");
}
