//! Changes of endpoints since the cache was written, in a file beside it.
//!
//! Endpoints change often, and each change is small beside everything that is held: it is
//! appended here, and the cache is written anew when this file has grown as large as the cache.
//! A record is `length, checksum, content`; its checksum begins with that of the cache that it
//! continues. So a file left by an older cache, or a record cut off by a crash, means nothing,
//! and whatever the moment of a crash, what is read is a state that was held.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;
use weft_xds_ads::{Holdings, Resource, ResourceType};
use weft_xds_proto::Any;
use xxhash_rust::xxh64::xxh64;

use crate::CachedState;

/// Length and checksum of a record.
const HEAD: usize = 4 + 8;

/// A cache that was written, and what was appended to it.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The checksum of the cache.
    base: u64,
    /// Bytes of the cache.
    size: u64,
    /// Bytes appended.
    appended: u64,
    /// Whether it has endpoints, which changes could be of.
    has_endpoints: bool,
}

impl Journal {
    /// Begins anew behind a cache that was just written with this state.
    pub(crate) fn begin(cache: &Path, state: &CachedState) -> io::Result<Self> {
        match fs::remove_file(beside(cache)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (base, size) = identity(cache)?;
        let has_endpoints = state.types.contains_key(&ResourceType::Endpoint);
        Ok(Self { base, size, appended: 0, has_endpoints })
    }

    /// The record of what is held by these names now; nothing when it would be better to write
    /// the cache anew.
    pub(crate) fn record(&self, names: &BTreeSet<String>, holdings: &Holdings) -> Option<Vec<u8>> {
        if !self.has_endpoints {
            return None;
        }
        let held = holdings.of(ResourceType::Endpoint);
        let change = |name: &String| {
            let resource = held.and_then(|held| held.resources.get(name));
            Change {
                name: name.clone(),
                version: resource.map(|one| one.version.clone()).unwrap_or_default(),
                body: resource.map(|one| Any::clone(&one.body)),
            }
        };
        let version = held.map(|held| held.version.clone()).unwrap_or_default();
        let content = Content { version, changes: names.iter().map(change).collect() };
        let content = content.encode_to_vec();
        let mut record = Vec::with_capacity(HEAD + content.len());
        record.extend_from_slice(&u32::try_from(content.len()).ok()?.to_le_bytes());
        record.extend_from_slice(&xxh64(&content, self.base).to_le_bytes());
        record.extend_from_slice(&content);
        let room = self.size.saturating_sub(self.appended);
        (record.len() as u64 <= room).then_some(record)
    }

    /// Appends a record. After an error the cache has to be written anew.
    pub(crate) fn append(mut self, cache: &Path, record: &[u8]) -> io::Result<Self> {
        let mut file =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(beside(cache))?;
        file.write_all(record)?;
        file.sync_data()?;
        self.appended += record.len() as u64;
        Ok(self)
    }
}

/// Takes what was appended into a state that was read from `cache`.
pub(crate) fn replay(cache: &Path, state: &mut CachedState) -> io::Result<()> {
    let bytes = match fs::read(beside(cache)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (base, _) = identity(cache)?;
    let Some(cached) = state.types.get_mut(&ResourceType::Endpoint) else { return Ok(()) };
    let mut resources: HashMap<String, Resource> =
        cached.resources.drain(..).map(|one| (one.name.clone(), one)).collect();
    let mut rest = bytes.as_slice();
    while let Some(content) = next(&mut rest, base) {
        cached.version = content.version;
        for Change { name, version, body } in content.changes {
            match body {
                Some(body) => {
                    let body = Arc::new(body);
                    resources.insert(name.clone(), Resource { name, version, body });
                }
                None => drop(resources.remove(&name)),
            }
        }
    }
    cached.resources = resources.into_values().collect();
    cached.resources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// The next record, unless it is cut off, damaged or of another cache.
fn next(rest: &mut &[u8], base: u64) -> Option<Content> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (checksum, after) = after.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (content, after) = after.split_at_checked(length)?;
    if xxh64(content, base) != u64::from_le_bytes(*checksum) {
        return None;
    }
    *rest = after;
    Content::decode(content).ok()
}

/// The checksum that a cache ends with, and its size.
fn identity(cache: &Path) -> io::Result<(u64, u64)> {
    let mut file = fs::File::open(cache)?;
    let size = file.seek(SeekFrom::End(-8))? + 8;
    let mut checksum = [0; 8];
    file.read_exact(&mut checksum)?;
    Ok((u64::from_le_bytes(checksum), size))
}

fn beside(cache: &Path) -> PathBuf {
    let mut path = OsString::from(cache);
    path.push(".changes");
    path.into()
}

#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<Change>,
}

/// A resource; without a body it is gone.
#[derive(Clone, PartialEq, Message)]
struct Change {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(message, optional, tag = "3")]
    body: Option<Any>,
}

#[cfg(test)]
mod tests;
