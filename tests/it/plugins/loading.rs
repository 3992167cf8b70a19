//! What keeps a plugin from loading, and that it is said in words.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;
use voice_room::config::{HookPolicies, PluginConfig};

use super::rig::{self, Rig, fixture, standard};

/// The fixture's component with a text in it replaced by one of the same length.
fn patched(dir: &TempDir, from: &str, to: &str) -> PathBuf {
    rig::patched(dir, "plugins-test/fixture-plugin.wasm", from, to)
}

async fn problem(plugin: PluginConfig) -> String {
    let file = plugin.path.clone();
    let Err(error) = Rig::load(&[plugin]).await else {
        panic!("it loads")
    };
    let [problem] = &error.problems[..] else {
        panic!("one problem: {error}")
    };
    assert_eq!((&*problem.plugin, &problem.file), ("fixture", &file));
    assert!(
        error.to_string().starts_with("plugin `fixture` ("),
        "{error}"
    );
    problem.problem.clone()
}

async fn problem_of_file(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.wasm");
    std::fs::write(&path, bytes).unwrap();
    problem(PluginConfig {
        path,
        ..fixture(&json!({}))
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_not_there() {
    let plugin = PluginConfig {
        path: "/no/such/file".into(),
        ..fixture(&json!({}))
    };
    assert!(problem(plugin).await.starts_with("cannot be read: "));
}

#[rstest]
#[case::a_text(b"(component)".as_slice(), "is not a WebAssembly component")]
#[case::an_empty_file(b"".as_slice(), "is not a WebAssembly component")]
#[case::a_core_module(b"\0asm\x01\0\0\0".as_slice(), "build it for wasm32-wasip2")]
#[case::an_empty_component(b"\0asm\x0d\0\x01\0".as_slice(), "as every plugin must")]
#[case::a_broken_component(b"\0asm\x0d\0\x01\0\xff\xff".as_slice(), "does not compile: ")]
#[case::an_elf_file(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".as_slice(), "is not a WebAssembly component")]
#[tokio::test]
async fn a_file_that_is_no_component(#[case] bytes: &[u8], #[case] expected: &str) {
    let problem = problem_of_file(bytes).await;
    assert!(problem.contains(expected), "{problem}");
}

#[tokio::test]
async fn a_component_that_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.wasm");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(200 << 20)
        .unwrap();
    let problem = problem(PluginConfig {
        path,
        ..fixture(&json!({}))
    })
    .await;
    assert!(problem.starts_with("is larger than"), "{problem}");
}

#[tokio::test]
async fn a_component_that_takes_hours_to_compile() {
    let body = "(block (br_if 0 (local.get 0)))".repeat(200_000);
    let text = format!("(component (core module (func (local i32) {body})))");
    let problem = problem_of_file(&wat::parse_str(text).unwrap()).await;
    assert!(problem.starts_with("has a function of"), "{problem}");
}

#[tokio::test]
async fn another_version_of_the_contract_is_named_with_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = patched(&dir, "@0.3.0", "@0.7.0");
    let problem = problem(PluginConfig {
        path,
        ..fixture(&json!({}))
    })
    .await;
    assert!(problem.contains("voice-room:plugin@0.7.0"), "{problem}");
    assert!(problem.contains("voice-room:plugin@0.3.0"), "{problem}");
}

#[tokio::test]
async fn a_patch_version_of_the_contract_loads() {
    let dir = tempfile::tempdir().unwrap();
    let path = patched(&dir, "@0.3.0", "@0.3.9");
    let rig = Rig::new(&[PluginConfig {
        path,
        ..fixture(&json!({}))
    }])
    .await;
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
}

#[rstest]
#[case::an_import_that_nobody_provides("plugin/metrics@", "plugin/network@", "network")]
#[case::an_export_that_nobody_calls("plugin/lifecycle@", "plugin/lifecyclo@", "lifecyclo")]
#[tokio::test]
async fn a_name_that_the_server_does_not_know(
    #[case] from: &str,
    #[case] to: &str,
    #[case] named: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = patched(&dir, from, to);
    let problem = problem(PluginConfig {
        path,
        ..fixture(&json!({}))
    })
    .await;
    assert!(problem.contains(named), "{problem}");
}

#[rstest]
#[case::refuses("deny", "Denied by the fixture")]
#[case::traps("trap", "it trapped")]
#[case::panics("panic", "the fixture panics")]
#[case::never_returns("loop", "over its time budget")]
#[case::takes_all_memory("exhaust-memory", "over its memory limit")]
#[tokio::test]
async fn an_init_that_fails(#[case] behaviour: &str, #[case] expected: &str) {
    let plugin = fixture(&json!({ "hooks": { "init": behaviour } }));
    let time_budget = Duration::from_secs(if behaviour == "loop" { 0 } else { 20 });
    let problem = problem(PluginConfig {
        hooks: HookPolicies::default().time_budget(time_budget),
        ..plugin
    })
    .await;
    assert!(problem.starts_with("does not start: "), "{problem}");
    assert!(problem.contains(expected), "{problem}");
}

#[tokio::test]
async fn settings_that_the_plugin_cannot_read() {
    let problem = problem(fixture(&json!({ "hooks": 7 }))).await;
    assert!(problem.contains("settings"), "{problem}");
}

#[tokio::test]
async fn too_little_memory_to_start() {
    let plugin = PluginConfig {
        memory_limit: 64 << 10,
        ..fixture(&json!({}))
    };
    let problem = problem(plugin).await;
    assert!(problem.contains("memory"), "{problem}");
}

#[tokio::test]
async fn all_problems_of_all_plugins_are_reported_at_once() {
    let plugins = [
        PluginConfig {
            name: "one".to_owned(),
            path: "/no/such".into(),
            ..fixture(&json!({}))
        },
        fixture(&json!({})),
        PluginConfig {
            name: "two".to_owned(),
            ..fixture(&json!({ "hooks": { "init": "trap" } }))
        },
        fixture(&json!({})),
    ];
    let Err(error) = Rig::load(&plugins).await else {
        panic!("it loads")
    };
    let problems: Vec<_> = error
        .problems
        .iter()
        .map(|it| format!("{} {}", it.plugin, it.problem))
        .collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[0].starts_with("one cannot be read"),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("two does not start"),
        "{problems:?}"
    );
    assert_eq!(problems[2], "fixture has the name of another plugin");
    assert_eq!(error.to_string().lines().count(), 3);
}

#[tokio::test]
async fn two_plugins_that_answer_the_same_command() {
    let other = PluginConfig {
        name: "other".to_owned(),
        ..fixture(&json!({}))
    };
    let Err(error) = Rig::load(&[fixture(&json!({})), other]).await else {
        panic!("it loads")
    };
    let text = error.to_string();
    assert!(
        text.contains("registers `fixture:run`, as `fixture` does"),
        "{text}"
    );
}

#[tokio::test]
async fn a_command_of_the_servers_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = patched(&dir, "fixture:kv-get", "room:leave-get");
    let problem = problem(PluginConfig {
        path,
        ..fixture(&json!({}))
    })
    .await;
    assert!(problem.contains("registers `room:leave-get`"), "{problem}");
}

#[tokio::test]
async fn compiled_code_is_kept_for_the_next_start() {
    let plugins = [standard("seats", json!({}))];
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cache")).unwrap();
    let rig = Rig::load_in(dir, &plugins).await.unwrap();
    let written = newest(&rig.store.cache_dir());
    let rig = rig.restart(&plugins).await;
    assert_eq!(
        newest(&rig.store.cache_dir()),
        written,
        "nothing was compiled again"
    );
    assert_eq!(rig.host.before_join(rig::join("a", 1)).await, Ok(()));
}

/// When the newest file of compiled code was written.
fn newest(dir: &Path) -> SystemTime {
    let code = walk(dir)
        .into_iter()
        .filter(|path| path.extension().is_none());
    code.map(|path| path.metadata().unwrap().modified().unwrap())
        .max()
        .expect("compiled code")
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
