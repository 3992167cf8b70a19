//! What the server and its example file say of the configuration is true.

use super::{
    sources::{Case, SECRET, loaded},
    *,
};
use crate::config::effective::Line;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// Production with the keys that have no default set in the environment.
fn production(file: &str) -> Case<'_> {
    Case {
        file,
        environment: &[
            ("VOICE_ROOM_AUTH__SECRET", SECRET),
            ("VOICE_ROOM_MEDIA__ANNOUNCED_ADDRESS", "192.0.2.1"),
            ("BILLING_WEBHOOK_KEY", SECRET),
        ],
        ..Case::default()
    }
}

#[test]
fn the_example_file_says_what_the_defaults_are() {
    assert_eq!(loaded(&production(EXAMPLE)), loaded(&production("")));
}

#[test]
fn the_example_file_has_every_key() {
    // `#key` and `#[[table]]` are examples of what has no default, `# text` is prose.
    let is_example = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = EXAMPLE.lines().map(|line| {
        let bare = line.strip_prefix('#').filter(|bare| is_example(bare));
        bare.unwrap_or(line)
    });
    let everything = lines.collect::<Vec<_>>().join("\n");

    let loaded = production(&everything).resolve().unwrap();

    // Of several plugins, the first shows the keys of all.
    let again = |line: &Line| line.section.starts_with("plugins[") && line.section != "plugins[0]";
    let absent = |line: &&Line| line.origin == Origin::Default && !again(line);
    let absent: Vec<_> = loaded.effective.lines.iter().filter(absent).collect();
    assert!(absent.is_empty(), "{absent:?}");
}

#[test]
fn the_effective_configuration_read_again_is_the_same() {
    let case = dev("plugins_dir = '/p'\n\
         [log]\nfilter = 'info,[request{event=\"x\"}]=debug'\n\
         [[media.ice_servers]]\nurls = ['stun:a', 'stun:b']\n\
         [[media.ice_servers]]\nurls = ['stun:c']\nusername = 'u'\n\
         [[plugins]]\nname = 'seats'\nsettings = { nested = { 'a b' = [1, 2.5] }, text = \"x\\ny\" }\n\
         [[plugins]]\nname = 'other'\nmemory_limit_mib = 3\non_failure.before_join = 'allow'\n\
         [ledger]\nkeep_days = 1\n\
         [[sinks]]\nname = 'f'\ntype = 'file'\nfile = 'f.jsonl'\ntopics = ['a.']");
    let first = case.resolve().unwrap();

    let printed = first.effective.to_string();

    assert_eq!(loaded(&dev(&printed)), first.config, "{printed}");
}

#[test]
fn no_plugins_are_printed_as_no_plugins() {
    let printed = dev("plugins = []").resolve().unwrap().effective.to_string();

    assert_eq!(loaded(&dev(&printed)).plugins, [], "{printed}");
}

#[test]
fn the_effective_configuration_says_what_set_a_value_and_hides_secrets() {
    let printed = Case {
        file: "[media]\nworkers = 3\n\
               [[media.ice_servers]]\nurls = ['turn:x']\nusername = 'u'\ncredential = 'hunter2'\n\
               [[plugins]]\nname = 'a'\nsettings = { rate = 1, deep = [{ apiToken = 'hunter2' }] }",
        listen: Some("127.0.0.1:0"),
        ..production("")
    }
    .resolve()
    .unwrap()
    .effective
    .to_string();

    for expected in [
        "Development mode is off.",
        "\nplugins_dir = \"/opt/plugins\"\n",
        "\n[server]\nlisten = \"127.0.0.1:0\" # --listen\ndata_dir = \"data\"\n",
        "\nsecret = \"***\" # VOICE_ROOM_AUTH__SECRET\n# issuer is not set\n",
        "\nworkers = 3 # voice-room.toml\n",
        "\n[[media.ice_servers]]\nurls = [\"turn:x\"] # voice-room.toml\n",
        "\ncredential = \"***\" # voice-room.toml\n",
        "rate = 1",
        "apiToken = \"***\"",
    ] {
        assert!(
            printed.contains(expected),
            "{expected:?} is not in\n{printed}"
        );
    }
    assert!(
        !printed.contains("hunter2") && !printed.contains(SECRET),
        "{printed}"
    );
}
