//! The last good snapshot on disk.
//!
//! The file is `magic, format version, node id, length, content, checksum`, the content a
//! protobuf message. It is not encrypted: whoever can read it can read the sidecar's memory, and
//! its mode is 0600. The checksum (XXH64) finds damage, not forgery: whoever can write the file
//! could also write the bootstrap. A file of another node, of another format, a truncated or a
//! damaged one is refused with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;
use weft_xds_ads::{Holdings, Resource, ResourceType, Subscription};
use weft_xds_proto::{Any, pb::envoy::config::core::v3::Node};
use xxhash_rust::xxh64::xxh64;

const MAGIC: &[u8; 8] = b"weft-xds";
const FORMAT: u32 = 1;
/// Magic, format, length of the node id, length of the content.
const FIXED: usize = 8 + 4 + 4 + 8;
const CHECKSUM: usize = 8;

/// Why a cache could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is some other file.
    #[error("{path}: is no xDS cache; remove it, or name another file")]
    NotACache {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a version of Weft that has another format.
    #[error("{path}: has format {found}, this version reads format {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// It belongs to another node.
    #[error("{path}: belongs to node {found:?}, this is {expected:?}")]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// The node that wrote it.
        found: String,
        /// The node that reads it.
        expected: String,
    },
    /// It ends too early.
    #[error("{path}: is truncated: {found} bytes of {expected}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes there.
        found: usize,
        /// Bytes that there should be.
        expected: usize,
    },
    /// Its content is not what was written.
    #[error("{path}: is damaged: its checksum does not fit")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// What a cache holds of one type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedType {
    /// Version of the last push that was accepted as a whole.
    pub version: String,
    /// The accepted resources.
    pub resources: Vec<Resource>,
    /// The names of those that were asked for one by one besides everything.
    pub named: Vec<String>,
}

/// What a cache holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedState {
    /// Accepted resources by type.
    pub types: BTreeMap<ResourceType, CachedType>,
    /// Whatever else the owner asked to keep, by name.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl CachedState {
    /// What was asked for by name: the resources of types that are had in no other way, and
    /// what was asked for besides everything.
    pub(crate) fn on_demand(&self) -> Vec<(ResourceType, Subscription)> {
        let by_name = |(kind, cached): (&ResourceType, &CachedType)| {
            let names = match kind {
                ResourceType::VirtualHost => {
                    Subscription::names(cached.resources.iter().map(|one| one.name.clone()))
                }
                _ if cached.named.is_empty() => return None,
                _ => Subscription::WildcardAnd(cached.named.iter().cloned().collect()),
            };
            Some((*kind, names))
        };
        self.types.iter().filter_map(by_name).collect()
    }

    pub(crate) fn of(
        holdings: &Holdings,
        wanted: &BTreeMap<ResourceType, Subscription>,
        blobs: BTreeMap<String, Vec<u8>>,
    ) -> Self {
        let cached = holdings.iter().map(|(kind, held)| {
            let resources: Vec<_> = held.resources.values().cloned().collect();
            let named = match wanted.get(&kind) {
                Some(Subscription::WildcardAnd(names)) => names.clone(),
                _ => BTreeSet::new(),
            };
            let held_ones = named.into_iter().filter(|name| held.resources.contains_key(name));
            let (version, named) = (held.version.clone(), held_ones.collect());
            (kind, CachedType { version, resources, named })
        });
        Self { types: cached.collect(), blobs }
    }
}

/// Reads and writes cache files.
#[derive(Debug)]
pub struct Cache;

impl Cache {
    /// Reads the file of `node`; nothing when there is none.
    ///
    /// # Errors
    /// [`CacheError`] saying why the file is not used.
    pub fn load(path: &Path, node: &Node) -> Result<Option<CachedState>, CacheError> {
        match fs::read(path) {
            Ok(bytes) => open(path, &bytes, &node.id).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CacheError::Io { path: path.to_owned(), source }),
        }
    }

    /// Writes the file of `node` in one step: a reader finds the old or the new one, also after a
    /// crash. Missing folders are made with mode 0700, the file has mode 0600.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn store(path: &Path, node: &Node, state: &CachedState) -> Result<(), CacheError> {
        replace(path, &seal(&node.id, state))
            .map_err(|source| CacheError::Io { path: path.to_owned(), source })
    }
}

fn seal(node: &str, state: &CachedState) -> Vec<u8> {
    let content = Content::from(state).encode_to_vec();
    let mut bytes = Vec::with_capacity(FIXED + node.len() + content.len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(node.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(node.as_bytes());
    bytes.extend_from_slice(&content);
    let checksum = xxh64(&bytes, 0);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn open(path: &Path, bytes: &[u8], node: &str) -> Result<CachedState, CacheError> {
    let path = || path.to_owned();
    if !bytes.starts_with(MAGIC) {
        return Err(CacheError::NotACache { path: path() });
    }
    let truncated = |expected| CacheError::Truncated { path: path(), found: bytes.len(), expected };
    let found = u32::from_le_bytes(number(bytes, 8).ok_or_else(|| truncated(FIXED))?);
    if found != FORMAT {
        return Err(CacheError::Format { path: path(), found });
    }
    let node_length = u32::from_le_bytes(number(bytes, 12).ok_or_else(|| truncated(FIXED))?);
    let length = u64::from_le_bytes(number(bytes, 16).ok_or_else(|| truncated(FIXED))?);
    let node_end = FIXED.saturating_add(node_length as usize);
    let end = node_end.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    let expected = end.saturating_add(CHECKSUM);
    if bytes.len() < expected {
        return Err(truncated(expected));
    }
    let checksum = number(bytes, end).map(u64::from_le_bytes);
    if bytes.len() > expected || checksum != Some(xxh64(&bytes[..end], 0)) {
        return Err(CacheError::Damaged { path: path() });
    }
    if &bytes[FIXED..node_end] != node.as_bytes() {
        let found = String::from_utf8_lossy(&bytes[FIXED..node_end]).into_owned();
        return Err(CacheError::OtherNode { path: path(), found, expected: node.to_owned() });
    }
    let content = Content::decode(&bytes[node_end..end]);
    content.map(CachedState::from).map_err(|_| CacheError::Damaged { path: path() })
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(name);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The failure that counts is the first one.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    fs::File::open(folder)?.sync_all()
}

#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(message, repeated, tag = "1")]
    types: Vec<ContentType>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    blobs: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ContentType {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(message, repeated, tag = "3")]
    resources: Vec<ContentResource>,
    #[prost(string, repeated, tag = "4")]
    named: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ContentResource {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(message, optional, tag = "3")]
    body: Option<Any>,
}

impl From<&CachedState> for Content {
    fn from(state: &CachedState) -> Self {
        let types = state.types.iter().map(|(kind, cached)| ContentType {
            type_url: kind.type_url().to_owned(),
            version: cached.version.clone(),
            resources: cached.resources.iter().map(ContentResource::from).collect(),
            named: cached.named.clone(),
        });
        Self { types: types.collect(), blobs: state.blobs.clone() }
    }
}

impl From<&Resource> for ContentResource {
    fn from(resource: &Resource) -> Self {
        Self {
            name: resource.name.clone(),
            version: resource.version.clone(),
            body: Some(Any::clone(&resource.body)),
        }
    }
}

impl From<Content> for CachedState {
    fn from(content: Content) -> Self {
        let resource = |one: ContentResource| Resource {
            name: one.name,
            version: one.version,
            body: Arc::new(one.body.unwrap_or_default()),
        };
        let types = content.types.into_iter().filter_map(|cached| {
            let kind = ResourceType::from_type_url(&cached.type_url)?;
            let resources = cached.resources.into_iter().map(resource).collect();
            let (version, named) = (cached.version, cached.named);
            Some((kind, CachedType { version, resources, named }))
        });
        Self { types: types.collect(), blobs: content.blobs }
    }
}

#[cfg(test)]
mod tests;
