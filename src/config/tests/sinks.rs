//! Sinks: what they may be, where their keys come from, and that these stay secret.

use super::{
    sources::{Case, SECRET, loaded, mistakes},
    *,
};

const WEBHOOK: &str = "[[sinks]]\nname = 'hook'\ntype = 'webhook'\n\
    url = 'https://hooks.example.com/x?y=1'\nkeys = { a = 'env:KEY_A' }\n";

fn case(file: &str) -> Case<'_> {
    Case {
        environment: &[
            ("KEY_A", SECRET),
            ("KEY_B", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n"),
            ("SHORT", "whsec_MDEyMzQ1Njc4OWFi"),
        ],
        ..dev(file)
    }
}

fn webhook(file: &str) -> WebhookConfig {
    let mut config = loaded(&case(file));
    match config.sinks.pop().map(|sink| sink.kind) {
        Some(SinkKind::Webhook(webhook)) => webhook,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_sinks_events_go_to_published_jsonl() {
    assert_eq!(loaded(&dev("")).sinks, [SinkConfig::published()]);
    assert_eq!(loaded(&dev("sinks = []")).sinks, []);
    assert_eq!(loaded(&dev("")).ledger, LedgerConfig::default());
}

#[test]
fn a_webhook_has_defaults_and_keys_from_environment_and_files() {
    let webhook = webhook(WEBHOOK);
    assert_eq!(webhook.keys[0].bytes(), SECRET.as_bytes());
    let default = WebhookConfig::new(webhook.url.clone(), webhook.keys.clone());
    assert_eq!(webhook, default);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    let both = format!(
        "keys = {{ new = 'env:KEY_B', old = 'file:{}' }}",
        path.display()
    );
    let both = self::webhook(&WEBHOOK.replace("keys = { a = 'env:KEY_A' }", &both));
    let bytes: Vec<_> = both
        .keys
        .iter()
        .map(|key| (&*key.id, key.bytes()))
        .collect();
    let decoded = b"0123456789abcdef01234567".to_vec();
    assert_eq!(bytes, [("new", decoded), ("old", SECRET.into())]);
}

#[test]
fn a_webhook_may_trust_authorities_of_its_own() {
    let trusting = webhook(&format!("{WEBHOOK}ca_file = 'private/ca.pem'\n"));
    assert_eq!(trusting.ca_file, Some(PathBuf::from("private/ca.pem")));
    assert_eq!(webhook(WEBHOOK).ca_file, None);
}

#[test]
fn keys_are_shown_nowhere() {
    let resolved = case(WEBHOOK).resolve().unwrap();
    let shown = format!("{:?}\n{}", resolved.config, resolved.effective);
    assert!(
        shown.contains("env:KEY_A") && !shown.contains(SECRET),
        "{shown}"
    );
}

#[test]
fn an_unencrypted_receiver_elsewhere_is_warned_of() {
    let warnings = |url: &str| {
        let file = WEBHOOK.replace("https://hooks.example.com/x?y=1", url);
        loaded(&case(&file)).warnings().join("\n")
    };
    assert!(
        warnings("http://10.0.0.1/x").contains("sink `hook`: events go to 10.0.0.1 unencrypted")
    );
    for url in [
        "https://10.0.0.1/x",
        "http://127.0.0.1:9/x",
        "http://[::1]/",
        "http://localhost/",
    ] {
        assert!(!warnings(url).contains("unencrypted"), "{url}");
    }
}

#[test]
fn all_mistakes_of_sinks_are_told_at_once() {
    let found = mistakes(&case(
        "[[sinks]]\nname = 'A'\ntype = 'file'\nfile = '../x.jsonl'\n\
         [[sinks]]\nname = 'f'\ntype = 'file'\nfile = 'dead-letters.jsonl'\ntopics = ['X']\n\
         [[sinks]]\nname = 'g'\ntype = 'ftp'\nserver = 'x'\n\
         [[sinks]]\nname = 'h'\ntype = 'webhook'\nurl = 'https://u:p@x'\nkeys = { a = 'env:NONE', b = 'env:SHORT' }\ntries = 0\n\
         [[sinks]]\nname = 'i'\ntype = 'webhook'\nurl = 'https://x'\nkeys = { a = 'hunter2' }\n\
         first_wait_ms = 50\nlongest_wait_ms = 20\nfile = 'x.jsonl'\n\
         [[sinks]]\nname = 'j'\ntype = 'file'\nfile = 'j.jsonl'\n\
         [[sinks]]\nname = 'j'\ntype = 'file'\nfile = 'j.jsonl'\n",
    ));
    let told = found.join("\n");
    for expected in [
        "sinks[0].name = \"A\"",
        "sinks[0].file = \"../x.jsonl\"",
        "sinks[1].file = \"dead-letters.jsonl\"",
        "sinks[1].topics = [\"X\"]",
        "sinks[2].type = \"ftp\" (in voice-room.toml): must be \"file\" or \"webhook\"",
        "sinks[3].url (in voice-room.toml): must be an address such as",
        "sinks[3].keys: the variable NONE is not set",
        "sinks[3].keys: the key b must have at least 24 bytes",
        "sinks[3].tries = 0",
        "sinks[4].keys (in voice-room.toml): must be one key or two",
        "sinks[4].longest_wait_ms: must not be less than first_wait_ms",
        "sinks[4].file (in voice-room.toml): unknown key",
        "sinks[6].name = \"j\": another sink has this name",
        "sinks[6].file = \"j.jsonl\": another sink has this file",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    assert_eq!(found.len(), 14, "{told}");
    assert!(!told.contains("hunter2") && !told.contains("u:p"), "{told}");
}
