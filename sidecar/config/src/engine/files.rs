//! Clusters, listeners and secrets in files, read again when the files change.
//!
//! Files are looked at, not listened to: a look follows symbolic links, as a volume of Kubernetes
//! changes them, and works on every file system. What can't be read or accepted is tried again
//! when it changes, and changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use weft_filters::config::{FieldError, Within};
use weft_xds_client::{Rejection, Resource, ResourceType, ResourceUpdate};
use weft_xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;

use super::Engine;
use super::entry::{Entry, Origin};
use crate::bootstrap::{BootstrapConfig, BootstrapError};
use crate::compile::{FileSecret, SecretKey, SecretValue};

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Nothing for a file that is not there.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// A file as it was when it was read.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl Watched {
    /// To be made before the file is read: a change in between is then seen.
    fn new(path: PathBuf) -> Self {
        Self { seen: Stamp::of(&path), path }
    }

    /// Whether it differs from what was seen last; tells it once.
    fn take_changed(&mut self) -> bool {
        let now = Stamp::of(&self.path);
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// All files that resources come from.
#[derive(Debug, Default)]
pub(super) struct Files {
    resources: Vec<(ResourceType, Watched)>,
    pub(super) secrets: HashMap<SecretKey, Vec<Watched>>,
}

impl Files {
    /// The files that the bootstrap names; none of them counts as read.
    pub(super) fn new(bootstrap: &BootstrapConfig) -> Self {
        let clusters = bootstrap.cluster_file.clone().map(|path| (ResourceType::Cluster, path));
        let listeners = bootstrap.listener_file.clone().map(|path| (ResourceType::Listener, path));
        let unseen = |(kind, path)| (kind, Watched { path, seen: None });
        let resources = clusters.into_iter().chain(listeners).map(unseen).collect();
        Self { resources, secrets: HashMap::new() }
    }
}

impl Engine {
    /// Reads the bootstrap's files for the first time.
    pub(super) fn load_files(&mut self, now: Instant) -> Result<(), BootstrapError> {
        for (kind, watched) in &self.files.resources {
            if Stamp::of(&watched.path).is_none() {
                let field = match kind {
                    ResourceType::Cluster => "dynamic_resources.cds_config",
                    _ => "dynamic_resources.lds_config",
                };
                let reason = format!("{}: there is no such file", watched.path.display());
                let error = FieldError::at(field, reason);
                return Err(BootstrapError::new(&self.bootstrap.file, error));
            }
        }
        self.reload_files(now);
        Ok(())
    }

    /// Reads the files that have changed; what is wrong with them is logged.
    pub fn reload_files(&mut self, now: Instant) {
        let mut changed = Vec::new();
        for (kind, watched) in &mut self.files.resources {
            if watched.take_changed() {
                changed.push((*kind, watched.path.clone()));
            }
        }
        for (kind, path) in changed {
            let outcome = self.reload(kind, &path, now);
            let file = path.display();
            match outcome {
                Err(error) => tracing::warn!(%kind, %file, %error, "the file is not used"),
                Ok(rejections) => {
                    for one in rejections {
                        let Rejection { name, field, reason, .. } = one;
                        tracing::warn!(%kind, %file, name, field, reason, "rejected");
                    }
                }
            }
        }
        self.reload_secrets(now);
    }

    fn reload(
        &mut self,
        kind: ResourceType,
        path: &Path,
        now: Instant,
    ) -> Result<Vec<Rejection>, FieldError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| FieldError::new(error.to_string()))?;
        let response: DiscoveryResponse =
            weft_xds_proto::from_yaml(&text).map_err(|error| FieldError::new(error.to_string()))?;
        let mut added = Vec::with_capacity(response.resources.len());
        for (index, body) in response.resources.into_iter().enumerate() {
            let name = kind.name_of(&body).map_err(|error| FieldError::new(error.to_string()));
            let name = name.within_item("resources", index)?;
            added.push(Resource { name, version: String::new(), body: Arc::new(body) });
        }
        let named: BTreeSet<_> = added.iter().map(|resource| resource.name.as_str()).collect();
        let removed = match kind {
            ResourceType::Cluster => missing(&self.clusters, &named),
            _ => missing(&self.listeners, &named),
        };
        tracing::info!(%kind, file = %path.display(), resources = added.len(), "read");
        let version = response.version_info;
        let update = ResourceUpdate { resource_type: kind, version, added, removed, full: true };
        Ok(self.apply(update, now))
    }

    fn reload_secrets(&mut self, now: Instant) {
        let mut changed = Vec::new();
        self.files.secrets.retain(|key, files| {
            // All of them are looked at: each has to be seen as it is now.
            if files.iter_mut().map(Watched::take_changed).filter(|one| *one).count() > 0 {
                changed.push(key.clone());
            }
            let used = self.secrets.is_used(key);
            if !used {
                self.secrets.forget(key);
            }
            used
        });
        changed.retain(|key| self.secrets.is_used(key));
        for key in &changed {
            if let Err(error) = self.reload_secret(key) {
                tracing::warn!(secret = key.name(), %error, "the changed files are not used");
            }
        }
        if !changed.is_empty() {
            self.advance(now);
        }
    }

    fn reload_secret(&mut self, key: &SecretKey) -> Result<(), FieldError> {
        let SecretKey::File(secret) = key else { return Ok(()) };
        let (value, files) = load(secret)?;
        self.secrets.put(key.clone(), value)?;
        self.files.secrets.insert(key.clone(), files);
        tracing::info!(secret = key.name(), "read anew");
        Ok(())
    }

    /// Reads the secrets among `keys` that are in files and not read yet.
    pub(super) fn load_secrets<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a SecretKey>,
    ) -> Result<(), FieldError> {
        for key in keys {
            if let SecretKey::File(secret) = key
                && !self.files.secrets.contains_key(key)
            {
                let (value, files) = load(secret)?;
                self.secrets.put(key.clone(), value)?;
                self.files.secrets.insert(key.clone(), files);
            }
        }
        Ok(())
    }
}

/// Reads a secret, with its files as they were before. The value is taken of what was read last,
/// so that a change in between is read again.
fn load(secret: &FileSecret) -> Result<(SecretValue, Vec<Watched>), FieldError> {
    let (_, files) = secret.load()?;
    let watched = files.into_iter().map(Watched::new).collect();
    let (value, _) = secret.load()?;
    Ok((value, watched))
}

/// Names of what came from the file before and is not `named` any more.
fn missing<T>(entries: &HashMap<Arc<str>, Entry<T>>, named: &BTreeSet<&str>) -> Vec<String> {
    let held = entries.iter().filter(|(_, entry)| entry.origin == Origin::Dynamic);
    let gone = held.filter(|(name, _)| !named.contains(&***name));
    gone.map(|(name, _)| name.to_string()).collect()
}
