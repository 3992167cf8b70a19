use std::fs;

use tempfile::TempDir;

use super::*;

/// A plugin `name` whose files are in `dir`, which need not be there.
fn plugin(name: &str, dir: &Path) -> PluginConfig {
    PluginConfig::new(name, dir.join(format!("{name}.wasm")))
}

struct Watched {
    eyes: Eyes,
    look: Arc<Notify>,
    plugins: Vec<PluginConfig>,
    dir: TempDir,
}

impl Watched {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let look = Arc::new(Notify::new());
        Self {
            eyes: Eyes::new(Arc::clone(&look)),
            look,
            plugins: names.iter().map(|name| plugin(name, dir.path())).collect(),
            dir,
        }
    }

    fn look(&mut self) -> Seen {
        self.eyes.look(&self.plugins)
    }

    /// Looks until nothing moves: which plugins have changed.
    fn changes(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let seen = self.look();
            names.extend(seen.changes.into_iter().map(|change| change.name));
            if !seen.restless {
                return names;
            }
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join(file), text).unwrap();
    }

    /// As `make plugins` and editors do.
    fn replace(&self, file: &str, text: &str) {
        let temporary = self.dir.path().join("file.new");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, self.dir.path().join(file)).unwrap();
    }

    async fn told(&self) {
        let told = self.look.notified();
        tokio::time::timeout(Duration::from_secs(20), told)
            .await
            .expect("the system tells");
    }
}

#[test]
fn a_change_counts_once_when_two_looks_find_the_same() {
    let mut watched = Watched::new(&["one", "two"]);
    watched.write("one.wasm", "1");
    watched.write("two.wasm", "1");
    assert_eq!(watched.changes(), ["one", "two"], "seen for the first time");
    assert_eq!(watched.look(), Seen::default());
    watched.write("two.wasm", "half");
    assert!(watched.look().restless);
    watched.write("two.wasm", "half and the rest");
    let seen = watched.look();
    assert!(seen.restless && seen.changes.is_empty(), "{seen:?}");
    let seen = watched.look();
    assert_eq!(seen.changes.len(), 1, "{seen:?}");
    let contents = seen.changes[0].contents.clone().unwrap();
    assert_eq!(
        contents.component,
        super::super::files::digest(b"half and the rest")
    );
    assert_eq!(watched.look(), Seen::default());
}

#[test]
fn replaced_rewritten_removed_and_other_files() {
    let mut watched = Watched::new(&["one"]);
    watched.write("one.wasm", "1");
    watched.changes();
    watched.replace("one.wasm", "2");
    assert_eq!(watched.changes(), ["one"]);
    watched.replace("one.toml", "name = \"one\"");
    assert_eq!(watched.changes(), ["one"], "a manifest");
    for name in [".one.wasm.swp", "one.wasm~", "4913", "other.wasm"] {
        watched.write(name, "of an editor");
    }
    assert_eq!(watched.changes(), [""; 0]);
    fs::remove_file(watched.dir.path().join("one.wasm")).unwrap();
    assert_eq!(watched.changes(), [""; 0], "it may come again");
    watched.write("one.wasm", "2");
    assert_eq!(watched.changes(), ["one"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_change_too() {
    let mut watched = Watched::new(&["one"]);
    fs::create_dir(watched.dir.path().join("one.wasm")).unwrap();
    watched.look();
    let changes = watched.look().changes;
    let name = "one".to_owned();
    assert_eq!(
        changes,
        [Change {
            name,
            contents: None
        }]
    );
}

#[tokio::test]
async fn directories_may_come_go_and_come_again() {
    let mut watched = Watched::new(&[]);
    let deep = watched.dir.path().join("a/b");
    watched.plugins = vec![plugin("one", &deep)];
    assert_eq!(watched.changes(), [""; 0]);
    for round in 0..3 {
        fs::create_dir_all(&deep).unwrap();
        watched.told().await;
        watched.changes();
        fs::write(deep.join("one.wasm"), format!("{round}")).unwrap();
        watched.told().await;
        assert_eq!(watched.changes(), ["one"], "{round}");
        fs::remove_dir_all(watched.dir.path().join("a")).unwrap();
        watched.told().await;
        assert_eq!(watched.changes(), [""; 0], "{round}");
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_a_change() {
    let mut watched = Watched::new(&[]);
    let dir = watched.dir.path().to_owned();
    for version in ["v1", "v2"] {
        fs::create_dir(dir.join(version)).unwrap();
        watched.write(&format!("{version}/one.wasm"), version);
    }
    watched.plugins = vec![plugin("one", &dir.join("current"))];
    std::os::unix::fs::symlink("v1", dir.join("current")).unwrap();
    assert_eq!(watched.changes(), ["one"]);
    while let Ok(()) = tokio::time::timeout(Duration::from_millis(1), watched.look.notified()).await
    {
    }
    std::os::unix::fs::symlink("v2", dir.join("next")).unwrap();
    fs::rename(dir.join("next"), dir.join("current")).unwrap();
    watched.told().await;
    assert_eq!(watched.changes(), ["one"]);
}

#[test]
fn reading_a_file_is_no_change_of_it() {
    let access = |kind| is_change(EventKind::Access(kind));
    assert!(!access(AccessKind::Open(AccessMode::Any)));
    assert!(!access(AccessKind::Close(AccessMode::Read)));
    assert!(access(AccessKind::Close(AccessMode::Write)));
}

#[test]
fn a_file_that_is_nowhere_shows_where_it_would_come_to_be() {
    let of = |file: &str| directories_of(Path::new(file)).collect::<Vec<_>>();
    assert_eq!(of("a.wasm"), [PathBuf::from(".")]);
    assert_eq!(of("no/such/a.wasm"), [PathBuf::from(".")]);
    assert_eq!(of("/no/such"), [PathBuf::from("/")]);
}
