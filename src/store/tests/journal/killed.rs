//! The server killed at each of its writes to the file.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// What was done to a file, in order, and how much of that was certain at the last sync.
#[derive(Debug, Default)]
struct Account {
    steps: Mutex<Vec<Step>>,
    synced: AtomicUsize,
    /// Each time that it was synced.
    syncs: Mutex<Vec<usize>>,
}

#[derive(Debug)]
struct Watched {
    file: redb::backends::FileBackend,
    account: Arc<Account>,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.account.steps.lock().push(Step::Length(len));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let steps = self.account.steps.lock().len();
        self.account.synced.store(steps, Ordering::SeqCst);
        self.account.syncs.lock().push(steps);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let step = Step::Write(offset, data.to_owned());
        self.account.steps.lock().push(step);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn open_watched() -> (TempDir, Store, Arc<Account>) {
    let dir = tempfile::tempdir().unwrap();
    let account = Arc::new(Account::default());
    let opener = {
        let account = Arc::clone(&account);
        Box::new(move |path: &Path| {
            let mut options = fs::OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let file = redb::backends::FileBackend::new(options.open(path)?)?;
            let account = Arc::clone(&account);
            redb::Builder::new().create_with_backend(Watched { file, account })
        })
    };
    let store = Store::open_on(dir.path(), opener, &LedgerConfig::default(), &[]).unwrap();
    (dir, store, account)
}

/// A data directory as these steps leave it.
fn as_left<'a>(steps: impl IntoIterator<Item = &'a Step>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("plugins.redb")).unwrap();
    for step in steps {
        match step {
            Step::Write(offset, data) => file.write_all_at(data, *offset).unwrap(),
            Step::Length(length) => file.set_len(*length).unwrap(),
        }
    }
    dir
}

const NOTES: u8 = 3;

/// One fact after the other is noted, and told to one of two owners, with effects.
async fn work(store: &Store) {
    let space = store.space("billing");
    for n in 0..NOTES {
        note(store, n, &["billing", "seats"])
            .wait(LIMIT)
            .await
            .unwrap();
        let mut staged = settling(n);
        staged
            .set(&space, &AMPLE, &n.to_string(), Some(b"told"))
            .unwrap();
        staged
            .publish(&space, &AMPLE, "r", "billing.started", &n.to_string())
            .unwrap();
        let saved = space.apply(staged).unwrap().unwrap();
        saved.wait(LIMIT).await.unwrap();
        let over = vec![change(&format!("p{n}"), None)];
        store.keep_open(over).unwrap();
        store.flush(LIMIT).await.unwrap();
    }
}

/// Each note is there as a whole or not at all, and so is each telling. How many there are of
/// both.
fn check(dir: &TempDir) -> (usize, usize) {
    let store = Store::open(dir.path()).unwrap();
    let entries = entries(&store);
    let numbers = |topic: &str| {
        let entries = entries.iter().filter(|entry| entry["topic"] == topic);
        let number = |entry: &Value| u8::try_from(entry["payload"].as_u64().unwrap()).unwrap();
        entries.map(number).collect::<Vec<_>>()
    };
    let (noted, told) = (numbers("media.first-rtp"), numbers("billing.started"));
    assert_eq!(owed(&store, "seats"), noted, "noted and owed are one");
    let untold: Vec<u8> = noted
        .iter()
        .copied()
        .filter(|n| !told.contains(n))
        .collect();
    assert_eq!(owed(&store, "billing"), untold, "told and settled are one");
    let space = store.space("billing");
    let keys = (0..NOTES).filter(|n| get(&space, &n.to_string()).is_some());
    assert_eq!(
        keys.collect::<Vec<_>>(),
        told,
        "effects and telling are one"
    );
    let open: BTreeSet<String> = store.open_rows().into_iter().map(|(key, _)| key).collect();
    for n in &untold {
        assert!(open.contains(&format!("p{n}")), "noted and open are one");
    }
    let all = noted.iter().map(|n| format!("p{n}"));
    assert!(open.is_subset(&all.collect()), "nothing is open unnoted");
    (noted.len(), told.len())
}

#[tokio::test]
async fn a_server_that_is_killed_at_any_write_finds_all_of_a_note_or_nothing() {
    let (_dir, store, account) = open_watched();
    let first = account.synced.load(Ordering::SeqCst);
    work(&store).await;
    let last = account.synced.load(Ordering::SeqCst);
    let steps = account.steps.lock().clone();
    let mut seen = BTreeSet::new();
    for killed in first..=last {
        seen.insert(check(&as_left(&steps[..killed])));
    }
    let expected = (0..usize::from(NOTES)).flat_map(|n| [(n, n), (n + 1, n)]);
    let all = usize::from(NOTES);
    assert_eq!(seen, expected.chain([(all, all)]).collect());
}

#[tokio::test]
async fn a_machine_that_loses_power_keeps_what_was_synced_and_whole_notes_only() {
    let (_dir, store, account) = open_watched();
    let first = account.synced.load(Ordering::SeqCst);
    work(&store).await;
    let steps = account.steps.lock().clone();
    let syncs = account.syncs.lock().clone();
    let periods = syncs.windows(2).map(|pair| (pair[0], pair[1]));
    let mut before = (0, 0);
    for (synced, next) in periods.filter(|(synced, next)| *synced >= first && synced < next) {
        let (certain, doubtful) = (&steps[..synced], &steps[synced..next]);
        // Of what was not synced, any part may have come to the disk.
        for kept in [1, 2] {
            let parts = doubtful.iter().skip(kept - 1).step_by(kept);
            let found = check(&as_left(certain.iter().chain(parts)));
            assert!(found >= before, "{found:?} after {before:?}");
        }
        before = check(&as_left(certain));
    }
    assert_eq!(before.0, usize::from(NOTES));
}
