use rstest::rstest;

use super::*;

const WHOLE: &str = r#"
    name = "seats"
    version = "0.2.0-beta.1"
    description = "Seats on a stage"
    hooks = ["before-join", "on-command"]
    commands = ["seat:take"]
    topics = ["billing.*", "seats"]
    capabilities = ["key-value", "publish", "emit"]
"#;

fn mistakes(text: &str) -> Vec<String> {
    Manifest::parse(text).unwrap_err()
}

#[test]
fn a_manifest_says_who_a_plugin_is_and_what_it_asks_for() {
    let manifest = Manifest::parse(WHOLE).unwrap();
    assert_eq!(manifest.name, "seats");
    assert_eq!(manifest.version, "0.2.0-beta.1");
    assert_eq!(manifest.description.as_deref(), Some("Seats on a stage"));
    assert_eq!(manifest.hooks, [Hook::BeforeJoin, Hook::OnCommand].into());
    assert_eq!(manifest.commands, ["seat:take".to_owned()].into());
    assert_eq!(manifest.topics.len(), 2);
    assert_eq!(
        manifest.capabilities,
        [Capability::KeyValue, Capability::Publish, Capability::Emit].into()
    );
}

#[test]
fn a_plugin_may_ask_for_nothing() {
    let manifest = Manifest::parse("name = \"a\"\nversion = \"1.0.0\"\nhooks = []").unwrap();
    assert!(manifest.hooks.is_empty() && manifest.capabilities.is_empty());
    assert_eq!(manifest.description, None);
}

#[rstest]
#[case::no_toml("name = ", "line 1 is no TOML")]
#[case::an_unknown_key("hook = []", "`hook` is no key of a manifest: write `hooks`")]
#[case::a_strange_key("colour = 1", "the keys of a manifest are name, version")]
#[case::no_name("", "`name` is missing: write for example name = \"seats\"")]
#[case::a_bad_name("name = \"Seats!\"", "`name` must have 1 to 64 characters")]
#[case::an_empty_name("name = \"\"", "`name` must have 1 to 64 characters")]
#[case::an_empty_version("version = \"\"", "`version` is no semantic version")]
#[case::no_version("", "`version` is missing")]
#[case::a_bad_version("version = \"2\"", "`version` is no semantic version")]
#[case::a_number("version = 0.2", "`version` is no text but float: write it in quotes")]
#[case::a_long_description("description = \"a\\nb\"", "`description` must be one line")]
#[case::no_hooks("", "`hooks` is missing")]
#[case::a_misspelt_hook(
    "hooks = [\"on-jion\"]",
    "`hooks[0]` is \"on-jion\": write \"on-join\""
)]
#[case::a_key_for_a_hook("hooks = [\"before_join\"]", "write \"before-join\"")]
#[case::init("hooks = [\"init\"]", "write one of before-join, on-room-opened")]
#[case::hooks_that_are_no_list("hooks = \"on-join\"", "`hooks` must be a list")]
#[case::a_hook_that_is_no_text("hooks = [1]", "`hooks[0]` must be a text in quotes")]
#[case::a_command_of_the_server("commands = [\"room:join\"]", "`commands[0]` is \"room:join\"")]
#[case::commands_without_answer("commands = [\"a:b\"]", "`hooks` lacks \"on-command\"")]
#[case::a_bad_topic("topics = [\"a*b\"]", "`topics[0]` is \"a*b\": write 1 to 128")]
#[case::topics_without_publish("topics = [\"a\"]", "`capabilities` lacks \"publish\"")]
#[case::an_unknown_capability("capabilities = [\"network\"]", "write one of key-value, timers")]
#[case::an_interface("capabilities = [\"events\"]", "write \"publish\"")]
#[case::what_all_have("capabilities = [\"log\"]", "every plugin has it")]
#[case::a_nearby_capability("capabilities = [\"timer\"]", "write \"timers\"")]
fn each_mistake_says_what_to_write(#[case] text: &str, #[case] expected: &str) {
    let mistakes = mistakes(text);
    let found = mistakes.iter().any(|mistake| mistake.contains(expected));
    assert!(found, "{mistakes:?}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mistakes = mistakes("hooks = [\"x\", \"y\"]\ntopics = 7\nnames = []");
    assert_eq!(mistakes.len(), 6, "{mistakes:?}");
}

#[test]
fn lists_are_limited() {
    let many = vec!["\"a:b\""; limits::COMMANDS + 1].join(",");
    let mistakes = mistakes(&format!("commands = [{many}]"));
    let expected = format!("{} are the limit", limits::COMMANDS);
    assert!(
        mistakes.iter().any(|it| it.contains(&expected)),
        "{mistakes:?}"
    );
}

#[test]
fn a_manifest_that_is_not_there_or_too_large_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (file, component) = (dir.path().join("a.toml"), dir.path().join("a.wasm"));
    let missing = Manifest::read(&file, &component).unwrap_err().to_string();
    assert!(missing.contains("a.toml is missing"), "{missing}");
    assert!(missing.contains("voice-room plugin check"), "{missing}");
    std::fs::write(&file, " ".repeat(100_000)).unwrap();
    let large = Manifest::read(&file, &component).unwrap_err().to_string();
    assert!(large.contains("it is larger than 65536 bytes"), "{large}");
    std::fs::write(&file, "name = \"a\"").unwrap();
    let mistaken = Manifest::read(&file, &component).unwrap_err().to_string();
    assert!(
        mistaken.contains("a.toml: `version` is missing"),
        "{mistaken}"
    );
    std::fs::write(&file, WHOLE).unwrap();
    assert!(Manifest::read(&file, &component).is_ok());
}

#[test]
fn a_plugin_has_what_it_asks_for_and_is_granted() {
    let manifest = || Manifest::parse(WHOLE).unwrap();
    let all = Granted::new(manifest(), &Grants::AllAsked);
    assert!(all.has(Capability::Emit) && !all.has(Capability::Kick));
    assert_eq!(all.withheld().count(), 0);
    let listed = Grants::Listed([Capability::Emit, Capability::Kick].into());
    let some = Granted::new(manifest(), &listed);
    assert!(some.has(Capability::Emit), "asked for and granted");
    assert!(!some.has(Capability::Kick), "granted but not asked for");
    assert!(!some.has(Capability::KeyValue), "asked for but not granted");
    assert_eq!(
        some.withheld().collect::<Vec<_>>(),
        [Capability::KeyValue, Capability::Publish]
    );
    assert_eq!(
        some.denial(Capability::KeyValue),
        "`key-value` is not granted: the configuration of the plugin needs \
         `grants = [\"key-value\", \"emit\"]`"
    );
    assert!(some.denial(Capability::Mute).contains("its manifest"));
}

#[rstest]
#[case("billing.heard", true)]
#[case("billing.", true)]
#[case("billing", false)]
#[case("seats", true)]
#[case("seats.taken", false)]
#[case("other", false)]
fn topics_are_granted_by_name_or_beginning(#[case] topic: &str, #[case] granted: bool) {
    let manifest = || Manifest::parse(WHOLE).unwrap();
    let all = Granted::new(manifest(), &Grants::AllAsked);
    assert_eq!(all.has_topic(topic), granted);
    let none = Granted::new(manifest(), &Grants::Listed(BTreeSet::new()));
    assert!(!none.has_topic(topic));
}

#[test]
fn what_is_suggested_is_a_manifest() {
    let hooks = [Hook::BeforeJoin, Hook::OnCommand].into();
    let imported = [Capability::KeyValue, Capability::Publish].into();
    let text = Manifest::suggested("my-rule", &hooks, &imported);
    let manifest = Manifest::parse(&text).unwrap_or_else(|why| panic!("{why:?} in {text}"));
    assert_eq!((manifest.hooks, manifest.capabilities), (hooks, imported));
}
