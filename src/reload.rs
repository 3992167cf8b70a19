//! A configuration that is read again while the server runs: what of it can change, and
//! what needs a restart.

use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{error, info, warn};

use crate::{
    config::{Config, PluginConfig},
    plugin::PluginHost,
};

/// Configurations are followed for as long as this lives.
#[derive(Debug)]
#[must_use = "nothing is followed without it"]
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Has the plugins go over to each configuration that comes, as far as they can. Must be
/// called within the runtime.
pub fn follow(
    mut configs: mpsc::Receiver<Config>,
    started_with: Config,
    plugins: PluginHost,
) -> Following {
    Following(tokio::spawn(async move {
        while let Some(config) = configs.recv().await {
            go_over(&started_with, &config, &plugins).await;
        }
    }))
}

async fn go_over(started_with: &Config, config: &Config, plugins: &PluginHost) {
    let later = needs_restart(started_with, config);
    if !later.is_empty() {
        warn!(
            restart_for = later.join(", "),
            "parts of the configuration have changed that a running server cannot change"
        );
    }
    let (mut changed, mut failed) = (0, 0);
    for plugin in &config.plugins {
        let runs = plugins.config_of(&plugin.name).is_some();
        if !runs || plugins.is_current(plugin).await {
            continue;
        }
        match plugins.reconfigure(plugin).await {
            Ok(_) => changed += 1,
            Err(problem) => {
                failed += 1;
                error!(%problem, "the new configuration of a plugin is not used; what runs goes on");
            }
        }
    }
    info!(changed, failed, "the configuration was read again");
}

/// What differs and cannot change while the server runs, in the words of the configuration.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    // All fields by name, so that no new one is forgotten here.
    let Config {
        dev,
        server,
        log,
        auth,
        media,
        sessions,
        rooms,
        plugins,
        recording,
        ledger,
        sinks,
    } = new;
    let sections = [
        ("--dev", *dev == old.dev),
        ("[server]", *server == old.server),
        ("[log]", *log == old.log),
        ("[auth]", *auth == old.auth),
        ("[media]", *media == old.media),
        ("[sessions]", *sessions == old.sessions),
        ("[rooms]", *rooms == old.rooms),
        ("[recording]", *recording == old.recording),
        ("[ledger]", *ledger == old.ledger),
        ("[[sinks]]", *sinks == old.sinks),
    ];
    let differing = sections.into_iter().filter(|(_, same)| !same);
    let mut parts: Vec<_> = differing.map(|(name, _)| name.to_owned()).collect();
    parts.extend(plugin_changes(&old.plugins, plugins));
    parts
}

fn plugin_changes(old: &[PluginConfig], new: &[PluginConfig]) -> Vec<String> {
    let of = |all: &'_ [PluginConfig], name: &str| all.iter().position(|one| one.name == name);
    let mut parts = Vec::new();
    for plugin in old {
        if of(new, &plugin.name).is_none() {
            parts.push(format!("plugin `{}` removed", plugin.name));
        }
    }
    let mut places = Vec::new();
    for plugin in new {
        let Some(place) = of(old, &plugin.name) else {
            parts.push(format!("plugin `{}` added", plugin.name));
            continue;
        };
        places.push(place);
        let was = old.get(place).map_or(0, |one| one.instances);
        if was != plugin.instances {
            let (name, now) = (&plugin.name, plugin.instances);
            parts.push(format!("`instances` of plugin `{name}` ({was}, now {now})"));
        }
    }
    if !places.is_sorted() {
        parts.push("the order of plugins".to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::{Flags, Sources, resolve};

    use super::*;

    fn config(text: &str) -> Config {
        let sources = Sources {
            flags: Flags {
                dev: true,
                ..Flags::default()
            },
            file_text: Some(text.to_owned()),
            environment: Vec::new(),
            cores: 1,
            plugins_dir: PathBuf::from("plugins"),
        };
        resolve(&sources).unwrap().config
    }

    fn parts(old: &str, new: &str) -> Vec<String> {
        needs_restart(&config(old), &config(new))
    }

    #[test]
    fn what_plugins_are_given_can_change_and_nothing_else() {
        let old = "[[plugins]]\nname = \"a\"\n";
        assert_eq!(parts(old, old), [""; 0]);
        let new = "[[plugins]]\nname = \"a\"\npath = \"b.wasm\"\ngrants = [\"emit\"]\n\
                   time_budget_ms = 7\nsettings = { x = 1 }\n";
        assert_eq!(parts(old, new), [""; 0]);
        let new = format!(
            "{old}[server]\nshutdown_limit_ms = 200\n[auth]\nsecret = \"x\"\n[log]\nfilter = \"debug\"\n\
             [media]\nworkers = 3\n[sessions]\noutbox_capacity = 99\n[rooms]\nmax_consumers = 9\n\
             [recording]\nfiles = 9\n[ledger]\nkeep_days = 9\n[[sinks]]\nname = \"x\"\n\
             type = \"file\"\nfile = \"x.jsonl\"\n"
        );
        let all = [
            "[server]",
            "[log]",
            "[auth]",
            "[media]",
            "[sessions]",
            "[rooms]",
            "[recording]",
            "[ledger]",
            "[[sinks]]",
        ];
        assert_eq!(parts(old, &new), all);
    }

    #[test]
    fn plugins_that_come_go_or_change_places_are_named() {
        let plugin = |name: &str| format!("[[plugins]]\nname = \"{name}\"\n");
        let of = |names: &[&str]| names.iter().map(|name| plugin(name)).collect::<String>();
        assert_eq!(
            parts(&of(&["a", "b"]), &of(&["b", "c"])),
            ["plugin `a` removed", "plugin `c` added"]
        );
        assert_eq!(
            parts(&of(&["a", "b"]), &of(&["b", "a"])),
            ["the order of plugins"]
        );
        assert_eq!(
            parts(&of(&["a"]), &format!("{}instances = 2\n", of(&["a"]))),
            ["`instances` of plugin `a` (4, now 2)"]
        );
    }
}
