//! The formats that the database has had, and the way from each to the present one.
//!
//! | format | what came |
//! |---|---|
//! | 1 | keys, published events on their way into their file |
//! | 2 | expiries, timers, dead letters |
//! | 3 | the ledger and its sinks, in the place of events on their way |
//! | 4 | what plugins are owed, and what is open |

use std::path::Path;

use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    disk::{DEAD_LETTERS, EXPIRIES, KEYS, TIMERS, database_error, file_error},
    journal,
    ledger::{Draft, Extent, Said},
    lines::Lines,
    sinks::{self, LETTERS, POSITIONS, Position},
};
use crate::{
    config::{PUBLISHED_FILE, PUBLISHED_SINK},
    model::UnixMs,
};

/// Facts about the database itself.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const FORMAT_KEY: &str = "format";
pub(super) const FORMAT: u64 = 4;
const OLDEST_FORMAT: u64 = 1;
/// From which on there is a ledger.
const LEDGER_FORMAT: u64 = 3;

/// Until format 3, published events that may not have been in their file yet.
const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");

/// A published event as its line was until format 3.
#[derive(Deserialize)]
struct Published {
    at: UnixMs,
    id: Uuid,
    plugin: String,
    room: String,
    topic: String,
    payload: Value,
}

/// Makes the tables of a new database, and brings one of an earlier format to the present.
pub(super) fn bring(access: &Access, data_dir: &Path) -> Result<(), StoreError> {
    let path = access.path();
    let failed = |error| database_error(path, error);
    let found = access.read(|transaction| match transaction.open_table(META) {
        Ok(meta) => Ok(meta.get(FORMAT_KEY)?.map(|value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    });
    let found = found.map_err(failed)?;
    match found {
        Some(FORMAT) => return Ok(()),
        Some(found) if !(OLDEST_FORMAT..FORMAT).contains(&found) => {
            return Err(StoreError::Format {
                path: path.to_owned(),
                found,
                known: FORMAT,
            });
        }
        Some(_) | None => {}
    }
    let lines = left_in_outbox(access).map_err(failed)?;
    // As the format of these lines promises: each once, and before anything else. Should this
    // end here, the next start finds them in the file.
    if !lines.is_empty() {
        let file = data_dir.join(PUBLISHED_FILE);
        append(&file, &lines).map_err(|source| file_error(&file, source))?;
    }
    let upgraded = access.write(|database| {
        let transaction = database.begin_write()?;
        create(&transaction)?;
        if found.is_none_or(|found| found < LEDGER_FORMAT) {
            begin_ledger(&transaction, &lines)?;
        }
        transaction.commit()?;
        Ok(())
    });
    upgraded.map_err(failed)?;
    if let Some(found) = found {
        tracing::info!(
            file = %path.display(),
            from = found,
            to = FORMAT,
            "the database was brought to the present format"
        );
    }
    Ok(())
}

fn left_in_outbox(access: &Access) -> Result<Vec<Box<[u8]>>, redb::Error> {
    access.read(|transaction| {
        let table = match transaction.open_table(OUTBOX) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let rows = table.iter()?;
        rows.map(|row| Ok(row?.1.value().into())).collect()
    })
}

fn append(path: &Path, lines: &[Box<[u8]>]) -> std::io::Result<()> {
    let mut file = Lines::open(path.to_owned())?;
    let missing = file.without_present(lines.iter().collect())?;
    file.append(missing.into_iter().map(|line| &**line))
}

/// Makes the tables that are not there, and says that the format is the present one.
fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(EXPIRIES)?;
    transaction.open_table(TIMERS)?;
    transaction.open_table(DEAD_LETTERS)?;
    transaction.open_table(POSITIONS)?;
    transaction.open_table(LETTERS)?;
    Extent::create(transaction)?;
    journal::create(transaction)
}

/// The lines are in their file. They begin the ledger, so that its readers get them too.
fn begin_ledger(transaction: &WriteTransaction, lines: &[Box<[u8]>]) -> Result<(), redb::Error> {
    let drafts = lines.iter().filter_map(|line| {
        let read = serde_json::from_slice::<Published>(line);
        let event = read
            .inspect_err(|error| {
                tracing::error!(
                    %error,
                    line = %String::from_utf8_lossy(line),
                    "a published event cannot be read: it is in its file, not in the ledger"
                );
            })
            .ok()?;
        Some(Draft::new(&Said {
            at: event.at,
            id: event.id,
            plugin: Some(&event.plugin),
            room: &event.room,
            user: None,
            producer: None,
            topic: &event.topic,
            payload: &event.payload,
        }))
    });
    let drafts: Vec<_> = drafts.collect();
    let extent = Extent::EMPTY.append(transaction, &drafts)?;
    let position = Position {
        cursor: extent.head.seq,
        ahead: Vec::new(),
    };
    sinks::save_position(transaction, PUBLISHED_SINK, &position)?;
    transaction.delete_table(OUTBOX)?;
    Ok(())
}
