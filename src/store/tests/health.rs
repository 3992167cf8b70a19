use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use redb::StorageBackend;

use super::*;

/// A file on a disk that can be full.
#[derive(Debug)]
struct FillingDisk {
    file: redb::backends::FileBackend,
    full: Arc<AtomicBool>,
}

impl FillingDisk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for FillingDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

pub(super) fn open_on_filling_disk() -> (TempDir, Store, Arc<AtomicBool>) {
    open_keeping(&LedgerConfig::default())
}

fn open_keeping(keep: &LedgerConfig) -> (TempDir, Store, Arc<AtomicBool>) {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let opener = {
        let full = Arc::clone(&full);
        Box::new(move |path: &Path| {
            let mut options = fs::OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let file = options.open(path)?;
            let file = redb::backends::FileBackend::new(file)?;
            let full = Arc::clone(&full);
            redb::Builder::new().create_with_backend(FillingDisk { file, full })
        })
    };
    let sinks = [SinkConfig::published()];
    let store = Store::open_on(dir.path(), opener, keep, &sinks).unwrap();
    (dir, store, full)
}

pub(super) async fn until(store: &Store, wanted: impl Fn(&Health) -> bool) {
    let seen = async {
        while !wanted(&store.health()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, seen).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_said_loses_nothing_and_gives_no_number_twice() {
    let (dir, store, full) = open_on_filling_disk();
    let space = store.space("billing");
    publish(&space, "1");
    store.flush(LIMIT).await.unwrap();
    assert_eq!(store.health(), Health::Durable);

    full.store(true, Ordering::SeqCst);
    publish(&space, "2");
    let saved = set(&space, &[("a", "1")]).unwrap();
    until(&store, |health| !health.is_durable()).await;
    let Health::Failing { problem, .. } = store.health() else {
        panic!("{:?}", store.health());
    };
    assert!(problem.contains("plugins.redb"), "{problem}");
    assert_eq!(saved.wait(Duration::from_millis(100)).await, Err(NotSaved));
    assert_eq!(get(&space, "a").as_deref(), Some("1"), "calls go on");
    publish(&space, "3");

    full.store(false, Ordering::SeqCst);
    until(&store, Health::is_durable).await;
    store.flush(LIMIT).await.unwrap();
    drop((space, store));
    assert_eq!(payloads(&dir), [1, 2, 3]);
    let numbers = published(&dir)
        .iter()
        .map(|line| line["seq"].clone())
        .collect::<Vec<_>>();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(crate::store::ledger::verify(dir.path()).unwrap().entries, 3);
}

#[tokio::test]
async fn a_crash_while_the_disk_is_full_loses_what_was_not_confirmed_and_nothing_else() {
    let (dir, store, full) = open_on_filling_disk();
    let space = store.space("billing");
    publish(&space, "1");
    store.flush(LIMIT).await.unwrap();
    full.store(true, Ordering::SeqCst);
    publish(&space, "2");
    until(&store, |health| !health.is_durable()).await;
    drop((space, store));
    full.store(false, Ordering::SeqCst);
    let store = Store::open(dir.path()).unwrap();
    publish(&store.space("billing"), "3");
    drop(store);
    assert_eq!(payloads(&dir), [1, 3]);
    assert_eq!(
        crate::store::ledger::verify(dir.path()).unwrap().head.seq,
        2
    );
}

#[tokio::test]
async fn a_store_that_cannot_cut_its_ledger_says_so_though_nobody_writes() {
    let keep = LedgerConfig {
        age: Duration::from_secs(1),
        ..LedgerConfig::default()
    };
    let (_dir, store, full) = open_keeping(&keep);
    let space = store.space("billing");
    loop {
        publish(&space, "1");
        store.flush(LIMIT).await.unwrap();
        full.store(true, Ordering::SeqCst);
        let is_cut = || store.ledger().extent().entries() == 0;
        until(&store, |health| !health.is_durable() || is_cut()).await;
        if !is_cut() {
            break;
        }
        // That was before the disk was full.
        full.store(false, Ordering::SeqCst);
    }
    let health = store.health();
    assert!(matches!(health, Health::Failing { .. }), "{health:?}");
    full.store(false, Ordering::SeqCst);
    until(&store, Health::is_durable).await;
    assert_eq!(store.ledger().extent().entries(), 0);
}
