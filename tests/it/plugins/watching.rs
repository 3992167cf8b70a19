//! Plugins that are loaded anew because their files or their configuration have changed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use voice_room::{
    config::{BreakerConfig, PluginConfig},
    plugin::{PluginStatus, Watching},
};

use super::rig::{self, LIMIT, Rig, component, fixture};

const FIXTURE: &str = "plugins-test/fixture-plugin.wasm";

/// The fixture with a custom section that changes nothing but its content.
fn variant(number: u8) -> Vec<u8> {
    let mut bytes = fs::read(component(FIXTURE)).unwrap();
    bytes.extend([0, 3, 1, b'v', number]);
    bytes
}

struct Installed {
    rig: Rig,
    config: PluginConfig,
    dir: TempDir,
    _watching: Watching,
}

impl Installed {
    /// The fixture in a folder of its own, which is watched.
    async fn new(change: impl FnOnce(&mut PluginConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugins/fixture.wasm");
        let manifest = path.with_extension("toml");
        let mut config = PluginConfig {
            path,
            manifest,
            ..fixture(&json!({}))
        };
        change(&mut config);
        install_all(&config, 0);
        let rig = Rig::new(std::slice::from_ref(&config)).await;
        let watching = rig.host.watch();
        Self {
            rig,
            config,
            dir,
            _watching: watching,
        }
    }

    fn status(&self) -> PluginStatus {
        self.rig.host.status().remove(0)
    }

    /// The first status of which this holds.
    async fn when(&self, holds: impl Fn(&PluginStatus) -> bool) -> PluginStatus {
        let reached = async {
            loop {
                let status = self.status();
                if holds(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(LIMIT, reached).await;
        reached.unwrap_or_else(|_| panic!("not reached: {:?}", self.status()))
    }

    async fn swapped(&self, times: u64) -> PluginStatus {
        self.when(|status| status.swaps == times).await
    }

    /// As `make plugins` does.
    fn replace(&self, bytes: &[u8]) {
        let aside = self.config.path.with_extension("new");
        fs::write(&aside, bytes).unwrap();
        fs::rename(&aside, &self.config.path).unwrap();
    }
}

/// Component and manifest of the fixture where the configuration says they are.
fn install_all(config: &PluginConfig, number: u8) {
    for path in [&config.path, &config.manifest] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    fs::copy(beside(&component(FIXTURE)), &config.manifest).unwrap();
    fs::write(&config.path, variant(number)).unwrap();
}

fn beside(component: &Path) -> PathBuf {
    component.with_extension("toml")
}

#[tokio::test]
async fn another_component_takes_over_however_it_comes() {
    let installed = Installed::new(|_| {}).await;
    let first = installed.status();
    installed.replace(&variant(1));
    let second = installed.swapped(1).await;
    assert_ne!(second.component, first.component);

    fs::remove_file(&installed.config.path).unwrap();
    fs::write(&installed.config.path, variant(2)).unwrap();
    installed.swapped(2).await;

    fs::remove_dir_all(installed.config.path.parent().unwrap()).unwrap();
    assert_eq!(
        installed.rig.host.before_join(rig::join("a", 1)).await,
        Ok(())
    );
    install_all(&installed.config, 3);
    installed.swapped(3).await;

    let mut manifest = fs::read_to_string(&installed.config.manifest).unwrap();
    manifest.push_str("\n# a comment\n");
    fs::write(&installed.config.manifest, manifest).unwrap();
    let last = installed.swapped(4).await;
    assert_eq!((last.rollbacks, last.last_refused.is_none()), (0, true));
}

#[tokio::test]
async fn a_broken_file_is_refused_and_what_runs_goes_on_until_a_good_one_comes() {
    let installed = Installed::new(|_| {}).await;
    let running = installed.status().component;
    let half = variant(1)[..1000].to_vec();
    installed.replace(&half);
    let refused = |status: &PluginStatus| status.last_refused.is_some();
    let status = installed.when(refused).await;
    assert_eq!((status.component, status.swaps), (running, 0));
    let problem = status.last_refused.unwrap().problem;
    assert!(problem.starts_with("does not compile"), "{problem}");
    assert_eq!(
        installed.rig.host.before_join(rig::join("a", 1)).await,
        Ok(())
    );

    installed.replace(&variant(1));
    let status = installed.swapped(1).await;
    assert!(status.last_refused.is_none(), "that is over");
}

#[tokio::test]
async fn many_changes_at_once_end_with_the_last_one() {
    let installed = Installed::new(|_| {}).await;
    for number in 1..=50 {
        installed.replace(&variant(number));
        fs::write(installed.dir.path().join(format!("plugins/{number}~")), "x").unwrap();
    }
    let last = async {
        while !installed.rig.host.is_current(&installed.config).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, last)
        .await
        .expect("the last one");
    assert!(installed.status().swaps < 5, "and not each of them");
}

#[tokio::test]
async fn a_plugin_that_is_not_watched_stays_as_it_is() {
    let installed = Installed::new(|config| config.watch = false).await;
    installed.replace(&variant(1));
    let watched = PluginConfig {
        watch: true,
        ..installed.config.clone()
    };
    assert!(!installed.rig.host.is_current(&installed.config).await);
    // To be watched is a change of its own, and brings the new component.
    installed.rig.host.reconfigure(&watched).await.unwrap();
    assert_eq!(installed.status().swaps, 1);
    installed.replace(&variant(2));
    installed.swapped(2).await;
}

#[tokio::test]
async fn another_path_is_watched_after_a_reconfiguration() {
    let installed = Installed::new(|_| {}).await;
    let moved = PluginConfig {
        path: installed.dir.path().join("elsewhere/next.wasm"),
        manifest: installed.dir.path().join("elsewhere/next.toml"),
        ..installed.config.clone()
    };
    let missing = installed.rig.host.reconfigure(&moved).await.unwrap_err();
    assert!(missing.to_string().contains("elsewhere/next"), "{missing}");
    install_all(&moved, 1);
    installed.rig.host.reconfigure(&moved).await.unwrap();
    assert_eq!(installed.rig.host.config_of("fixture"), Some(moved.clone()));
    fs::write(&moved.path, variant(2)).unwrap();
    installed.swapped(2).await;
}

#[tokio::test]
async fn what_was_taken_back_is_not_loaded_again_until_it_changes() {
    let installed = Installed::new(|config| {
        config.breaker = BreakerConfig {
            failures: 2,
            ..BreakerConfig::default()
        };
    })
    .await;
    let bad = PluginConfig {
        settings: json!({ "hooks": { "before-join": "trap" } }),
        ..installed.config.clone()
    };
    fs::write(&bad.path, variant(1)).unwrap();
    installed.rig.host.reconfigure(&bad).await.unwrap();
    for _ in 0..2 {
        installed
            .rig
            .host
            .before_join(rig::join("a", 1))
            .await
            .unwrap_err();
    }
    let status = installed.when(|status| status.rollbacks == 1).await;
    let failure = status.last_failure.expect("a failure");
    assert!(failure.failure.contains("trapped"), "{failure:?}");
    assert_eq!(failure.hook.name(), "before-join");
    assert!(
        installed.rig.host.is_current(&installed.config).await,
        "although its file differs"
    );
    installed.replace(&variant(2));
    let status = installed
        .when(|status| status.swaps == status.rollbacks + 2)
        .await;
    assert_eq!(status.rollbacks, 1);
}

#[tokio::test]
async fn memory_is_counted_while_instances_live() {
    let installed = Installed::new(|config| config.instances = 3).await;
    let with_three = installed.status().memory_bytes;
    assert!(with_three >= 3 * 64 * 1024, "{with_three}");
    installed.replace(&variant(1));
    let status = installed.swapped(1).await;
    assert_eq!(status.memory_bytes, with_three, "the old ones are gone");
}
