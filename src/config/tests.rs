//! What a configuration gives, and how its mistakes read.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use self::sources::{Case, SECRET, loaded, mistakes};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::model::Hook;

mod documents;
mod first_rtp;
mod sinks;
mod sources;

fn dev(file: &str) -> Case<'_> {
    Case {
        dev: true,
        file,
        ..Case::default()
    }
}

#[test]
fn development_needs_no_configuration_and_stays_on_loopback() {
    let config = loaded(&dev(""));

    assert!(config.dev);
    assert!(config.server.listen.ip().is_loopback());
    assert!(config.media.listen_ip.is_loopback());
    assert_eq!(config.media.announced_address, None);
    assert_eq!(config.media.port_base, 0);
    assert_eq!(config.media.workers, 6);
    assert_eq!(config.auth.keys, Keys::Ephemeral);
    assert_eq!(config.server.allowed_origins, AllowedOrigins::Any);
    assert_eq!(
        config.warnings(),
        [
            "development mode: everyone on this machine can make tokens for any user; \
          never in production"
        ]
    );
}

#[test]
fn production_without_configuration_says_what_it_needs() {
    let found = mistakes(&Case::default());

    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(
        found[0],
        "auth.secret: must be set to a text of at least 32 bytes \
         (make one with: openssl rand -base64 48)"
    );
    assert!(found[1].starts_with(
        "media.announced_address: must be set, because media.listen_ip is the wildcard 0.0.0.0"
    ));
}

#[test]
fn production_starts_with_a_secret_and_an_announced_address() {
    let config = loaded(&Case {
        environment: &[
            ("VOICE_ROOM_AUTH__SECRET", SECRET),
            ("VOICE_ROOM_MEDIA__ANNOUNCED_ADDRESS", "voice.example.com"),
        ],
        ..Case::default()
    });

    assert_eq!(
        config.auth.keys,
        Keys::Secret(Secret::new(SECRET.to_owned()))
    );
    assert_eq!(config.media.port(1), 20_001);
    assert_eq!(
        config.server.allowed_origins,
        AllowedOrigins::Listed(Vec::new())
    );
    assert_eq!(config.auth.leeway, Duration::from_secs(30));
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn flags_go_before_the_environment_and_the_environment_before_the_file() {
    let config = loaded(&Case {
        dev: true,
        file: "[server]\nlisten = '127.0.0.1:1'\ndata_dir = 'file'\n\
               [media]\nworkers = 1\n[rooms]\nmax_participants = 7",
        environment: &[
            ("VOICE_ROOM_SERVER__LISTEN", "127.0.0.1:2"),
            ("VOICE_ROOM_SERVER__DATA_DIR", "environment"),
            ("VOICE_ROOM_MEDIA__WORKERS", "2"),
        ],
        listen: Some("127.0.0.1:3"),
        data_dir: None,
    });

    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.data_dir, PathBuf::from("environment"));
    assert_eq!(config.media.workers, 2);
    assert_eq!(config.rooms.max_participants, 7);
}

#[test]
fn all_mistakes_of_all_sources_are_told_at_once() {
    let found = mistakes(&Case {
        dev: true,
        file: "[media]\nworkers = 0\nlisten_ip = 'localhost'\nportbase = 3\n\
               [rooms]\nspeaker_interval_ms = 100\n[meida]\nworkers = 3",
        environment: &[
            ("VOICE_ROOM_MEDIA_WORKERS", "2"),
            ("VOICE_ROOM_MEDIA__OPUS_FEC", "maybe"),
        ],
        listen: Some("localhost"),
        data_dir: Some(""),
    });

    assert_eq!(
        found,
        [
            "server.listen = \"localhost\" (in --listen): \
             must be an IP address and a port, for example 127.0.0.1:3000",
            "server.data_dir = \"\" (in --data-dir): must be a path",
            "media.workers = 0 (in voice-room.toml): must be a whole number from 1 to 256",
            "media.listen_ip = \"localhost\" (in voice-room.toml): must be an IP address",
            "media.opus_fec = \"maybe\" (in VOICE_ROOM_MEDIA__OPUS_FEC): must be true or false",
            "rooms.speaker_interval_ms = 100 (in voice-room.toml): \
             must be a whole number from 250 to 5000",
            "media.portbase (in voice-room.toml): unknown key; did you mean media.port_base?",
            "meida (in voice-room.toml): unknown key; did you mean media?",
            "VOICE_ROOM_MEDIA_WORKERS: unknown variable; \
             did you mean VOICE_ROOM_MEDIA__WORKERS?",
        ]
    );
}

#[rstest]
#[case::section_is_no_table("media = 3", "media (in voice-room.toml): must be a table")]
#[case::key_of_another_section(
    "[server]\nworkers = 3",
    "server.workers (in voice-room.toml): unknown key; did you mean media.workers?"
)]
#[case::nothing_like_it("[media]\nzzz = 3", "media.zzz (in voice-room.toml): unknown key")]
#[case::syntax("[media]\nworkers = = 3", "line 2 (in voice-room.toml): not TOML: ")]
#[case::number_as_text("[media]\nworkers = '3'", "media.workers = \"3\" (in")]
#[case::wildcard_announced(
    "[media]\nannounced_address = '0.0.0.0'",
    "media.announced_address = \"0.0.0.0\" (in"
)]
#[case::announced_with_scheme(
    "[media]\nannounced_address = 'https://a.example'",
    "media.announced_address = \"https://a.example\" (in"
)]
#[case::wildcard_without_announced(
    "[media]\nlisten_ip = '::'",
    "media.announced_address: must be set, because media.listen_ip is the wildcard ::"
)]
#[case::ports_beyond_the_last(
    "[media]\nport_base = 65535\nworkers = 2",
    "media.port_base: too high: 2 workers need the ports 65535 to 65536"
)]
#[case::ports_over_the_listener(
    "[media]\nport_base = 2999\nworkers = 2",
    "media.port_base: the media ports 2999 to 3000 include the port of server.listen (3000)"
)]
#[case::origin_with_path(
    "[server]\nallowed_origins = ['https://a.example/x']",
    "server.allowed_origins = [\"https://a.example/x\"] (in"
)]
#[case::origin_with_default_port(
    "[server]\nallowed_origins = ['https://a.example:443']",
    "server.allowed_origins = [\"https://a.example:443\"] (in"
)]
#[case::log_filter(
    "[log]\nfilter = 'voice_room=loud'",
    "log.filter = \"voice_room=loud\" (in"
)]
#[case::log_format(
    "[log]\nformat = 'xml'",
    "log.format = \"xml\" (in voice-room.toml): must be \"text\" or \"json\""
)]
#[case::plugin_without_name("[[plugins]]\ninstances = 1", "plugins[0].name: must be set to ")]
#[case::plugin_name("plugins = [{name = '../x'}]", "plugins[0].name = \"../x\" (in")]
#[case::plugin_twice(
    "plugins = [{name = 'a'}, {name = 'a'}]",
    "plugins[1].name = \"a\": another plugin has this name"
)]
#[case::plugin_key(
    "plugins = [{name = 'a', instance = 3}]",
    "plugins[0].instance (in voice-room.toml): unknown key; did you mean plugins[0].instances?"
)]
#[case::plugin_policy(
    "plugins = [{name = 'a', on_failure = {before_join = 'retry'}}]",
    "plugins[0].on_failure.before_join = \"retry\" (in voice-room.toml): must be \"deny\" or \"allow\""
)]
#[case::plugin_settings(
    "plugins = [{name = 'a', settings = {x = nan}}]",
    "plugins[0].settings (in voice-room.toml): must have no number that is infinite"
)]
#[case::plugins_no_array(
    "plugins = 'seats'",
    "plugins (in voice-room.toml): must be an array of tables"
)]
#[case::ice_url(
    "[[media.ice_servers]]\nurls = ['http://x']",
    "media.ice_servers[0].urls = [\"http://x\"] (in"
)]
#[case::turn_without_credential(
    "[[media.ice_servers]]\nurls = ['turn:x']",
    "media.ice_servers[0].urls: a TURN server needs username and credential"
)]
fn a_mistake_is_told_with_key_place_and_remedy(#[case] file: &str, #[case] expected: &str) {
    let found = mistakes(&dev(file));

    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(expected), "{}", found[0]);
}

#[test]
fn any_origin_is_only_for_development() {
    let found = mistakes(&Case {
        file: "[server]\nallowed_origins = ['*']\n[media]\nlisten_ip = '192.0.2.1'",
        environment: &[("VOICE_ROOM_AUTH__SECRET", SECRET)],
        ..Case::default()
    });

    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("server.allowed_origins = [\"*\"]"),
        "{}",
        found[0]
    );
}

#[rstest]
#[case::short("[auth]\nsecret = 'hunter2'")]
#[case::wrong_type("[auth]\nsecret = ['hunter2']")]
#[case::misspelt("[auth]\nsecrett = 'hunter2'")]
#[case::syntax("[auth]\nsecret = 'hunter2")]
#[case::credential("[[media.ice_servers]]\nurls = ['turn:x']\ncredential = ['hunter2']")]
#[case::list_of_servers("[media]\nice_servers = 'hunter2'")]
fn a_secret_is_in_no_mistake(#[case] file: &str) {
    let found = mistakes(&Case {
        file,
        ..Case::default()
    })
    .join("\n");

    assert!(!found.contains("hunter2"), "{found}");
}

#[test]
fn a_secret_is_in_no_debug_output_but_clients_get_the_credential() {
    let config = loaded(&Case {
        file: "[[media.ice_servers]]\nurls = ['turn:x']\nusername = 'u'\ncredential = 'hunter2'",
        environment: &[("VOICE_ROOM_AUTH__SECRET", "hunter2")],
        dev: true,
        ..Case::default()
    });

    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(
        serde_json::to_value(&config.media.ice_servers).unwrap(),
        json!([{"urls": ["turn:x"], "username": "u", "credential": "hunter2"}])
    );
}

#[test]
fn short_secrets_and_open_listeners_of_development_are_warned_of() {
    let config = loaded(&Case {
        dev: true,
        listen: Some("0.0.0.0:3000"),
        environment: &[("VOICE_ROOM_AUTH__SECRET", "short")],
        ..Case::default()
    });

    let warnings = config.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("EVERYONE WHO REACHES 0.0.0.0:3000"));
    assert!(warnings[1].starts_with("auth.secret is shorter than 32 bytes"));
}

#[test]
fn lists_in_the_environment_are_separated_by_commas_or_toml() {
    let of = |value| {
        loaded(&Case {
            dev: true,
            environment: &[("VOICE_ROOM_SERVER__ALLOWED_ORIGINS", value)],
            ..Case::default()
        })
        .server
        .allowed_origins
    };
    let two = ["https://a.example", "http://localhost:8080"].map(str::to_owned);

    assert_eq!(
        of("https://a.example, http://localhost:8080"),
        AllowedOrigins::Listed(two.clone().into())
    );
    assert_eq!(
        of("['https://a.example', 'http://localhost:8080']"),
        AllowedOrigins::Listed(two.into())
    );
    assert_eq!(of(""), AllowedOrigins::Listed(Vec::new()));
}

#[test]
fn variables_of_kubernetes_services_and_of_the_build_are_no_mistakes() {
    let config = loaded(&Case {
        dev: true,
        environment: &[
            ("VOICE_ROOM_WORKER_DEPS", "system"),
            ("VOICE_ROOM_SERVICE_HOST", "10.0.0.1"),
            ("VOICE_ROOM_SERVICE_PORT", "3000"),
            ("VOICE_ROOM_SERVICE_PORT_HTTP", "3000"),
            ("VOICE_ROOM_PORT", "tcp://10.0.0.1:3000"),
            ("VOICE_ROOM_PORT_3000_TCP", "tcp://10.0.0.1:3000"),
            ("VOICE_ROOM_WEB_PORT_3000_TCP_ADDR", "10.0.0.1"),
        ],
        ..Case::default()
    });

    assert!(config.dev);
    let found = mistakes(&Case {
        dev: true,
        environment: &[("VOICE_ROOM_PORT", "3000")],
        ..Case::default()
    });
    assert_eq!(found, ["VOICE_ROOM_PORT: unknown variable"]);
}

#[test]
fn an_array_of_tables_has_one_variable_and_its_tables_keys_have_none() {
    let config = loaded(&Case {
        dev: true,
        environment: &[
            ("VOICE_ROOM_PLUGINS", "[{ name = 'seats', watch = false }]"),
            ("VOICE_ROOM_MEDIA__ICE_SERVERS", "[{ urls = ['stun:x'] }]"),
        ],
        ..Case::default()
    });
    assert_eq!(config.plugins.len(), 1);
    assert!(config.plugins[0].name == "seats" && !config.plugins[0].watch);
    assert_eq!(config.media.ice_servers.len(), 1);

    let found = mistakes(&Case {
        dev: true,
        environment: &[("VOICE_ROOM_PLUGINS_0__TIME_BUDGET_MS", "5")],
        ..Case::default()
    });
    assert_eq!(
        found,
        ["VOICE_ROOM_PLUGINS_0__TIME_BUDGET_MS: unknown variable"]
    );
}

#[test]
fn the_standard_plugins_run_where_the_configuration_names_none() {
    let config = loaded(&dev("plugins_dir = '/p'"));

    let names: Vec<_> = config.plugins.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["moderation", "seats", "billing"]);
    assert_eq!(
        config.plugins[2],
        PluginConfig::new("billing", PathBuf::from("/p/billing.wasm"))
    );
}

#[test]
fn what_is_installed_is_granted_nothing_until_the_configuration_says_so() {
    let grants = |grants: &str| {
        let file = format!("[[plugins]]\nname = 'tariff'\n{grants}");
        loaded(&dev(&file)).plugins.remove(0).grants
    };

    assert_eq!(grants(""), Grants::Listed(BTreeSet::new()));
    assert_eq!(grants("grants = ['*']"), Grants::AllAsked);
    let listed = BTreeSet::from([Capability::KeyValue, Capability::Kick]);
    assert_eq!(
        grants("grants = ['kick', 'key-value']"),
        Grants::Listed(listed)
    );
    assert!(mistakes(&dev("[[plugins]]\nname = 'a'\ngrants = ['root']"))[0].contains("key-value"));
}

#[test]
fn every_hook_has_a_budget_and_a_policy_of_its_own() {
    let config = loaded(&dev("[[plugins]]\nname = 'tariff'\ntime_budget_ms = 20\n\
         time_budgets_ms = { before_produce = 5 }\n\
         on_failure = { before_consume = 'allow', on_join = 'retry', on_timer = 'drop' }"));
    let of = |hook| config.plugins[0].hooks.of(hook);

    assert_eq!(
        of(Hook::BeforeProduce).time_budget,
        Duration::from_millis(5)
    );
    assert_eq!(of(Hook::OnJoin).time_budget, Duration::from_millis(20));
    assert_eq!(of(Hook::BeforeProduce).on_failure, OnFailure::Deny);
    assert_eq!(of(Hook::BeforeConsume).on_failure, OnFailure::Allow);
    assert_eq!(of(Hook::OnJoin).on_failure, OnFailure::Retry);
    assert_eq!(of(Hook::OnFirstRtp).on_failure, OnFailure::Retry);
    assert_eq!(of(Hook::OnTimer).on_failure, OnFailure::Drop);
    assert_eq!(of(Hook::SpeakerChanged).on_failure, OnFailure::Drop);
    for wrong in [
        "before_join = 'retry'",
        "on_join = 'deny'",
        "on_command = 'allow'",
    ] {
        let file = format!("[[plugins]]\nname = 'a'\non_failure = {{ {wrong} }}");
        assert_eq!(mistakes(&dev(&file)).len(), 1, "{wrong}");
    }
}

#[test]
fn an_empty_list_of_plugins_is_none() {
    assert_eq!(loaded(&dev("plugins = []")).plugins, []);
}

#[test]
fn a_plugin_gets_its_settings_as_json() {
    let config = loaded(&dev("[[plugins]]\nname = 'tariff'\npath = 'x.wasm'\n\
         on_failure = { before_produce = 'allow' }\n\
         [plugins.settings]\nrate = 0.5\ntags = ['a']\nsince = 2026-01-01\nnested.deep = true"));

    assert_eq!(config.plugins.len(), 1);
    let plugin = &config.plugins[0];
    assert_eq!(plugin.path, PathBuf::from("x.wasm"));
    let policy = |hook| plugin.hooks.of(hook).on_failure;
    assert_eq!(policy(Hook::BeforeJoin), OnFailure::Deny);
    assert_eq!(policy(Hook::BeforeProduce), OnFailure::Allow);
    assert_eq!(
        plugin.settings,
        json!({"rate": 0.5, "tags": ["a"], "since": "2026-01-01", "nested": {"deep": true}})
    );
}

#[rstest]
#[case::unconfigured(true, "", json!({"first_is_owner": true}))]
#[case::configured(
    true,
    "plugins = [{name = 'x'}, {name = 'seats', settings = {seat_count = 2}}]",
    json!({"seat_count": 2, "first_is_owner": true})
)]
#[case::overruled(
    true,
    "plugins = [{name = 'x'}, {name = 'seats', settings = {first_is_owner = false}}]",
    json!({"first_is_owner": false})
)]
#[case::production(false, "media.listen_ip = '192.0.2.1'", json!({}))]
fn whoever_comes_first_owns_the_room_in_development(
    #[case] dev: bool,
    #[case] file: &str,
    #[case] settings: serde_json::Value,
) {
    let config = loaded(&Case {
        dev,
        file,
        environment: &[("VOICE_ROOM_AUTH__SECRET", SECRET)],
        ..Case::default()
    });

    assert_eq!(config.plugins[1].name, "seats");
    assert_eq!(config.plugins[1].settings, settings);
}

#[test]
fn plugins_are_found_beside_the_program_or_beside_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let release = dir.path().join("release");
    fs::create_dir_all(&release).unwrap();
    assert_eq!(plugins_dir_near(&release), release.join("plugins"));

    let above = dir.path().join("plugins");
    fs::create_dir_all(&above).unwrap();
    assert_eq!(plugins_dir_near(&release), above);

    fs::create_dir_all(release.join("plugins")).unwrap();
    assert_eq!(plugins_dir_near(&release), release.join("plugins"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    let mistakes = load(Flags {
        dev: true,
        file: Some(missing.clone()),
        ..Flags::default()
    })
    .unwrap_err();

    let text = mistakes.to_string();
    let expected = format!("--config = {}: cannot be read: ", missing.display());
    assert!(text.contains(&expected), "{text}");
}
