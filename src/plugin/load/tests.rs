use rstest::rstest;

use super::*;
use crate::config::Grants;

fn granted(hooks: &str, capabilities: &str, grants: &Grants) -> Granted {
    let text = format!(
        "name = \"a\"\nversion = \"1.0.0\"\nhooks = [{hooks}]\ncapabilities = [{capabilities}]"
    );
    Granted::new(Manifest::parse(&text).unwrap(), grants)
}

/// A component with these interfaces of the contract beside what every one has.
fn surface(imports: &[&str], exports: &[&str]) -> Surface {
    let named = |names: &[&str]| {
        let full = |name: &&str| match name.contains(':') {
            true => (*name).to_owned(),
            false => format!("{PACKAGE}{name}@{}", WIT_VERSION),
        };
        names.iter().map(full).collect()
    };
    let mut exports: Vec<String> = named(exports);
    exports.push(format!("{PACKAGE}lifecycle@{}", WIT_VERSION));
    Surface {
        imports: named(imports),
        exports,
    }
}

#[test]
fn what_is_no_component_is_told_by_what_it_is() {
    assert!(check_kind(b"\0asm\x0d\0\x01\0").is_ok());
    assert!(
        check_kind(b"\0asm\x01\0\0\0")
            .unwrap_err()
            .contains("wasm32-wasip2")
    );
    assert_eq!(
        check_kind(b"MZ").unwrap_err(),
        "is not a WebAssembly component"
    );
    assert_eq!(
        check_kind(b"").unwrap_err(),
        "is not a WebAssembly component"
    );
}

#[test]
fn a_plugin_that_is_as_it_says_has_no_problems() {
    let imports = [
        "types",
        "log",
        "settings",
        "key-value",
        "wasi:cli/exit@0.2.6",
        "wasi:random/random@0.2.0",
    ];
    let surface = surface(&imports, &["on-join", "before-join"]);
    let granted = granted(
        "\"on-join\", \"before-join\"",
        "\"key-value\"",
        &Grants::AllAsked,
    );
    assert_eq!(surface.problems(&granted), Vec::<String>::new());
    assert_eq!(surface.contract(), Some(WIT_VERSION));
}

#[rstest]
#[case::a_hook_too_many(&[], &["on-join"], "", "",
    "exports `on-join`, which its manifest does not list: add it to `hooks`")]
#[case::a_hook_too_few(&[], &[], "\"on-join\"", "",
    "does not export `on-join`, which its manifest lists")]
#[case::a_capability_that_is_not_asked_for(&["events"], &[], "", "\"key-value\"",
    "imports `voice-room:plugin/events@0.3.0`, for which its manifest does not ask: \
     add \"publish\" to `capabilities`")]
#[case::an_unknown_import(&["network"], &[], "", "",
    "imports `voice-room:plugin/network@0.3.0`, which this server does not know")]
#[case::an_unknown_export(&[], &["on-tuesday"], "", "",
    "exports `voice-room:plugin/on-tuesday@0.3.0`, which this server does not know")]
#[case::the_network(&["wasi:sockets/tcp@0.2.6"], &[], "", "",
    "imports `wasi:sockets/tcp@0.2.6`: plugins have no network")]
#[case::the_web(&["wasi:http/outgoing-handler@0.2.0"], &[], "", "",
    "imports `wasi:http/outgoing-handler@0.2.0`: plugins have no network")]
#[case::another_wasi(&["wasi:cli/exit@0.3.0"], &[], "", "",
    "imports `wasi:cli/exit@0.3.0`: this server has WASI 0.2")]
#[case::anything_else(&["acme:gpu/compute@1.0.0"], &[], "", "",
    "imports `acme:gpu/compute@1.0.0`: nothing beyond the contract")]
#[case::a_later_version(&["voice-room:plugin/log@0.4.0"], &[], "", "",
    "was built against voice-room:plugin@0.4.0; this server speaks voice-room:plugin@0.3.0")]
#[case::another_version(&[], &["voice-room:plugin/on-join@9.1.0"], "", "",
    "was built against voice-room:plugin@9.1.0; this server speaks voice-room:plugin@0.3.0")]
fn what_keeps_a_plugin_from_loading_is_said(
    #[case] imports: &[&str],
    #[case] exports: &[&str],
    #[case] hooks: &str,
    #[case] capabilities: &str,
    #[case] expected: &str,
) {
    let granted = granted(hooks, capabilities, &Grants::AllAsked);
    let problems = surface(imports, exports).problems(&granted);
    let [problem] = &problems[..] else {
        panic!("one problem: {problems:?}")
    };
    assert!(problem.starts_with(expected), "{problem}");
}

#[test]
fn what_is_not_granted_is_told_with_the_line_that_grants_it() {
    let surface = surface(&["key-value", "events"], &[]);
    let asked = "\"key-value\", \"publish\", \"emit\", \"kick\"";
    let grants = Grants::Listed([Capability::Emit].into());
    assert_eq!(
        surface.problems(&granted("", asked, &grants)),
        ["imports `voice-room:plugin/key-value@0.3.0` and \
             `voice-room:plugin/events@0.3.0`, but is not granted `key-value` and \
             `publish`: write `grants = [\"key-value\", \"publish\", \"emit\"]` below its \
             `[[plugins]]` (it also asks for `kick`)"]
    );
}

#[test]
fn a_grant_does_not_stand_for_what_the_manifest_does_not_ask_for() {
    let grants = Grants::Listed(Capability::ALL.into());
    let problems = surface(&["timers"], &[]).problems(&granted("", "", &grants));
    assert!(
        problems[0].contains("its manifest does not ask"),
        "{problems:?}"
    );
}

#[test]
fn a_component_without_a_lifecycle_is_no_plugin() {
    let surface = Surface {
        imports: Vec::new(),
        exports: vec!["acme:thing/run@1.0.0".to_owned()],
    };
    let problems = surface.problems(&granted("", "", &Grants::AllAsked));
    assert!(problems[0].contains("as every plugin must"), "{problems:?}");
}

#[test]
fn all_problems_are_told_at_once() {
    let surface = surface(
        &["key-value", "timers", "wasi:sockets/udp@0.2.0"],
        &["on-join", "before-join"],
    );
    let grants = Grants::Listed(BTreeSet::new());
    let problems = surface.problems(&granted("\"on-leave\"", "\"timers\"", &grants));
    assert_eq!(problems.len(), 6, "{problems:?}");
}

#[test]
fn commands_are_limited_listed_and_have_names_of_their_own() {
    let text = "name = \"a\"\nversion = \"1.0.0\"\nhooks = [\"on-command\"]\n\
                commands = [\"seat:take\"]";
    let granted = Granted::new(Manifest::parse(text).unwrap(), &Grants::AllAsked);
    let check = |commands: &[String], answers| check_commands(commands, &granted, answers);
    let commands = |count: usize| vec!["seat:take".to_owned(); count];
    assert_eq!(check(&commands(0), false), Ok(()));
    assert_eq!(check(&commands(limits::COMMANDS), true), Ok(()));
    assert!(check(&commands(limits::COMMANDS + 1), true).is_err());
    let unanswered = check(&commands(1), false).unwrap_err();
    assert!(unanswered.contains("on-command"), "{unanswered}");
    assert!(check(&["room:join".to_owned()], true).is_err());
    let unlisted = check(&["seat:leave".to_owned()], true).unwrap_err();
    assert!(unlisted.contains("does not list"), "{unlisted}");
}

#[test]
fn interfaces_are_told_from_their_versions() {
    assert_eq!(
        interface_of("voice-room:plugin/on-join@0.1.0"),
        Some("on-join")
    );
    assert_eq!(version_of("voice-room:plugin/on-join@0.1.0"), Some("0.1.0"));
    assert_eq!(version_of("wasi:io/poll@0.2.0"), None);
}
