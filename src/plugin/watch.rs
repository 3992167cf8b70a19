//! Plugins whose files change are loaded anew.
//!
//! What the system tells of a directory only says when to look. A look compares what each
//! file is with what it was, so it does not matter how a change came about: a rename, a
//! rewrite, a new directory, another target of a link, or a hundred of these at once. Where
//! the system tells nothing, looking every now and then does as well.
//!
//! A change counts when two looks in a row, one [`SETTLE`] apart, find the same. Half a file
//! whose writer pauses for longer is refused as unusable, and looked at again when it goes on.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{sync::Notify, task::JoinHandle, time::MissedTickBehavior};

use super::{
    PluginHost, Shared,
    files::{Contents, Stamp},
};
use crate::config::PluginConfig;

/// How long files must lie still.
const SETTLE: Duration = Duration::from_millis(300);

/// Between looks where the system does not tell of changes.
const POLL: Duration = Duration::from_secs(2);

/// Between looks where it does: some file systems never say a word.
const SELDOM: Duration = Duration::from_secs(30);

/// How often a look goes after directories that come into being in the meantime.
const ATTEMPTS: usize = 4;

/// Files are watched for as long as this lives.
#[derive(Debug)]
#[must_use = "nothing is watched without it"]
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PluginHost {
    /// From now on plugins whose configuration says `watch` are loaded anew when their
    /// component or manifest changes. A version that cannot be used is logged, and what runs
    /// goes on. Must be called within the runtime.
    pub fn watch(&self) -> Watching {
        let (shared, look) = (Arc::downgrade(&self.shared), Arc::clone(&self.shared.look));
        Watching(tokio::spawn(watch(shared, look)))
    }

    fn watched(&self) -> Vec<PluginConfig> {
        let configs = self.shared.plugins.iter();
        configs
            .map(|place| place.version().config.clone())
            .filter(|config| config.watch)
            .collect()
    }

    async fn files_changed(&self, change: Change) {
        let Change { name, contents } = change;
        let Ok(place) = self.place(&name) else { return };
        if contents.is_some_and(|contents| place.knows(&contents)) {
            return;
        }
        if let Err(error) = self.reload(&name).await {
            tracing::error!(%error, "the changed files are not used; what runs goes on");
        }
    }
}

async fn watch(shared: Weak<Shared>, look: Arc<Notify>) {
    let mut eyes = Eyes::new(Arc::clone(&look));
    let mut ticks = tokio::time::interval(SETTLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(host) = shared.upgrade().map(|shared| PluginHost { shared }) else {
            return;
        };
        let watched = host.watched();
        let looked = tokio::task::spawn_blocking(move || {
            let seen = eyes.look(&watched);
            (eyes, seen)
        });
        let seen;
        (eyes, seen) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "plugins' files are not watched any more");
                return;
            }
        };
        for change in seen.changes {
            host.files_changed(change).await;
        }
        drop(host);
        if !seen.restless {
            let pace = if eyes.blind { POLL } else { SELDOM };
            // Either way it is looked.
            drop(tokio::time::timeout(pace, look.notified()).await);
        }
    }
}

/// Files that have changed and lie still again.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    name: String,
    /// `None` if they cannot be read.
    contents: Option<Contents>,
}

/// What one look has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    changes: Vec<Change>,
    /// Whether something moves.
    restless: bool,
}

/// Component and manifest.
type Stamps = (Stamp, Option<Stamp>);

/// What was seen of one plugin's files.
#[derive(Default)]
struct Sight {
    last: Option<Stamps>,
    handled: Option<Stamps>,
}

struct Eyes {
    look: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// The directories that the system tells of.
    watched: HashMap<PathBuf, Stamp>,
    sights: HashMap<String, Sight>,
    /// Whether one of them may have gone, even if one of that name and number is there: the
    /// system gives numbers of directories again.
    uprooted: Arc<AtomicBool>,
    /// Whether there is a directory that the system does not tell of.
    blind: bool,
}

impl Eyes {
    fn new(look: Arc<Notify>) -> Self {
        Self {
            look,
            watcher: None,
            watched: HashMap::new(),
            sights: HashMap::new(),
            uprooted: Arc::default(),
            blind: false,
        }
    }

    /// Blocks for as long as it takes to read what has changed.
    fn look(&mut self, plugins: &[PluginConfig]) -> Seen {
        // First, so that no change falls between the two. Once more after each change: a
        // directory may have come into being before the one above it was watched.
        for _ in 0..ATTEMPTS {
            if !self.watch_directories(plugins) {
                break;
            }
        }
        self.sights
            .retain(|name, _| plugins.iter().any(|plugin| plugin.name == *name));
        let mut seen = Seen::default();
        for plugin in plugins {
            let sight = self.sights.entry(plugin.name.clone()).or_default();
            let Some(component) = Stamp::of(&plugin.path) else {
                // Gone: whoever has taken it away may be about to bring another.
                sight.last = None;
                continue;
            };
            let now = Some((component, Stamp::of(&plugin.manifest)));
            if now == sight.handled {
                continue;
            }
            if now != sight.last {
                sight.last = now;
                seen.restless = true;
                continue;
            }
            sight.handled = now;
            seen.changes.push(Change {
                name: plugin.name.clone(),
                contents: Contents::read(plugin).ok(),
            });
        }
        seen
    }

    /// Whether there was anything to do.
    fn watch_directories(&mut self, plugins: &[PluginConfig]) -> bool {
        let files = plugins
            .iter()
            .flat_map(|plugin| [&plugin.path, &plugin.manifest]);
        let wanted: BTreeSet<PathBuf> = files.flat_map(|file| directories_of(file)).collect();
        let uprooted = self.uprooted.swap(false, Ordering::AcqRel);
        let stands = |path: &PathBuf, stamp: &Stamp| {
            let same = Stamp::of(path).is_some_and(|now| now.same_file(stamp));
            same && !uprooted && wanted.contains(path)
        };
        let watched = self.watched.iter();
        let gone = watched.filter(|(path, stamp)| !stands(path, stamp));
        let gone: Vec<_> = gone.map(|(path, _)| path.clone()).collect();
        for path in &gone {
            self.watched.remove(path);
            if let Some(watcher) = &mut self.watcher {
                // The system forgets a directory by itself when that goes.
                drop(watcher.unwatch(path));
            }
        }
        let mut new: Vec<_> = wanted.into_iter().collect();
        new.retain(|path| !self.watched.contains_key(path));
        let changed = !gone.is_empty() || !new.is_empty();
        let mut blind = None;
        for path in new {
            match self.watch(&path) {
                Ok(stamp) => drop(self.watched.insert(path, stamp)),
                Err(error) => blind = Some((path, error)),
            }
        }
        if let Some((path, error)) = &blind
            && !self.blind
        {
            tracing::warn!(
                directory = %path.display(), %error, every = ?POLL,
                "the system does not tell of changes in this directory: looking again and again"
            );
        }
        self.blind = blind.is_some();
        changed && !self.blind
    }

    fn watch(&mut self, path: &Path) -> notify::Result<Stamp> {
        let stamp = Stamp::of(path).ok_or_else(notify::Error::path_not_found)?;
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(watcher(&self.look, &self.uprooted)?),
        };
        watcher.watch(path, RecursiveMode::NonRecursive)?;
        Ok(stamp)
    }
}

fn watcher(look: &Arc<Notify>, uprooted: &Arc<AtomicBool>) -> notify::Result<RecommendedWatcher> {
    let (look, uprooted) = (Arc::clone(look), Arc::clone(uprooted));
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may mean that events were lost.
        let kind = event.map_or(EventKind::Other, |event| event.kind);
        if !is_change(kind) {
            return;
        }
        if !matches!(
            kind,
            EventKind::Access(_) | EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_))
        ) {
            uprooted.store(true, Ordering::Release);
        }
        look.notify_one();
    })
}

/// That somebody reads a file, as we do, is no change.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Where a change of the file shows: in its directory, or the nearest above it that there is,
/// and where a link on the way to it is.
fn directories_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let above = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let mut directories = file.ancestors().filter_map(above);
    let nearest = directories.find(|path| path.is_dir());
    let links = file.ancestors().skip(1).filter(|path| path.is_symlink());
    nearest.into_iter().chain(links.filter_map(above))
}

#[cfg(test)]
mod tests;
