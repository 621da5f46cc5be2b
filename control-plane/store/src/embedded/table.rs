//! The layout of the file: one table of entries, one of numbers.

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};

use crate::{Entry, Listing, OpenError, Revision, StoreError};

/// Key to record.
pub(super) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// Name to number.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// The number of the last change.
pub(super) const REVISION: &str = "revision";
/// The number of this layout.
const LAYOUT: &str = "layout";
const LAYOUT_KNOWN: u64 = 1;
/// Created, modified and expiry before the value, eight bytes each.
const HEADER: usize = 24;

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) created: Revision,
    pub(super) modified: Revision,
    /// Unix milliseconds; 0 means that it stays.
    pub(super) expires: u64,
    pub(super) value: Bytes,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.value.len());
        for number in [self.created, self.modified, self.expires] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.value);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_be_bytes).ok_or_else(|| StoreError::engine("a record is cut off"))
        };
        let (created, modified, expires) = (number(0)?, number(8)?, number(16)?);
        let value = Bytes::copy_from_slice(&bytes[HEADER..]);
        Ok(Self { created, modified, expires, value })
    }

    pub(super) fn into_entry(self, key: &str) -> Entry {
        let (created, modified) = (self.created, self.modified);
        Entry { key: key.to_owned(), value: self.value, created, modified }
    }
}

/// The state of one moment.
pub(super) struct Snapshot {
    entries: ReadOnlyTable<&'static str, &'static [u8]>,
    numbers: ReadOnlyTable<&'static str, u64>,
}

impl Snapshot {
    pub(super) fn begin(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read().map_err(StoreError::engine)?;
        let entries = transaction.open_table(ENTRIES).map_err(StoreError::engine)?;
        let numbers = transaction.open_table(NUMBERS).map_err(StoreError::engine)?;
        Ok(Self { entries, numbers })
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let Some(bytes) = self.entries.get(key).map_err(StoreError::engine)? else {
            return Ok(None);
        };
        Ok(Some(Record::decode(bytes.value())?.into_entry(key)))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let mut entries = Vec::new();
        for item in self.entries.range(prefix..).map_err(StoreError::engine)? {
            let (key, bytes) = item.map_err(StoreError::engine)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            entries.push(Record::decode(bytes.value())?.into_entry(key.value()));
        }
        Ok(Listing { revision: self.revision()?, entries })
    }

    /// Every key that is to be deleted, with the time in Unix milliseconds.
    pub(super) fn expiries(&self) -> Result<Vec<(u64, String)>, StoreError> {
        let mut expiries = Vec::new();
        for item in self.entries.iter().map_err(StoreError::engine)? {
            let (key, bytes) = item.map_err(StoreError::engine)?;
            let record = Record::decode(bytes.value())?;
            if record.expires != 0 {
                expiries.push((record.expires, key.value().to_owned()));
            }
        }
        Ok(expiries)
    }

    pub(super) fn revision(&self) -> Result<Revision, StoreError> {
        let revision = self.numbers.get(REVISION).map_err(StoreError::engine)?;
        Ok(revision.map_or(0, |number| number.value()))
    }
}

/// Opens the file or makes it.
pub(super) fn open(path: &Path) -> Result<Database, OpenError> {
    let io =
        |error: std::io::Error| OpenError::Io { path: path.to_owned(), reason: error.to_string() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    // Private keys are in it: nobody else may read.
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(io)?;
    let backend = redb::backends::FileBackend::new(file);
    let created = backend.and_then(|backend| Database::builder().create_with_backend(backend));
    created.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked(path.to_owned())
        }
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != ErrorKind::InvalidData =>
        {
            io(error)
        }
        other => OpenError::Damaged { path: path.to_owned(), reason: other.to_string() },
    })
}

/// Makes the tables of a new file, checks the layout of an old one; the
/// revision that the file is at.
pub(super) fn initialize(database: &Database, path: &Path) -> Result<Revision, OpenError> {
    match tables(database) {
        Ok((LAYOUT_KNOWN, revision)) => Ok(revision),
        Ok((found, _)) => {
            Err(OpenError::Version { path: path.to_owned(), found, known: LAYOUT_KNOWN })
        }
        Err(error) => Err(OpenError::Damaged { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn tables(database: &Database) -> Result<(u64, Revision), redb::Error> {
    let transaction = database.begin_write()?;
    let found;
    let revision;
    {
        transaction.open_table(ENTRIES)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        let layout = numbers.get(LAYOUT)?.map(|number| number.value());
        found = layout.unwrap_or(LAYOUT_KNOWN);
        revision = numbers.get(REVISION)?.map_or(0, |number| number.value());
        if layout.is_none() {
            numbers.insert(LAYOUT, LAYOUT_KNOWN)?;
        }
    }
    transaction.commit()?;
    Ok((found, revision))
}
