//! Certificate and key on disk, so that a restart without an authority still serves.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use weft_spiffe::SpiffeId;

use crate::certificates::WorkloadCertificates;
use crate::error::CacheError;

#[derive(Serialize, Deserialize)]
struct Entry {
    identity: String,
    chain: String,
    key: String,
    roots: String,
    /// Seconds since the epoch.
    obtained_at: u64,
}

/// What is cached for `identity`; `None` when there is no file.
///
/// # Errors
/// [`CacheError`] when the file is broken, another's, or its certificate has expired.
pub(crate) fn load(
    path: &Path,
    identity: &SpiffeId,
    now: SystemTime,
) -> Result<Option<WorkloadCertificates>, CacheError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let entry: Entry = serde_json::from_slice(&text)?;
    if entry.identity != identity.as_str() {
        return Err(CacheError::Identity(entry.identity));
    }
    let obtained_at = UNIX_EPOCH + Duration::from_secs(entry.obtained_at);
    let certificates =
        WorkloadCertificates::from_pem(entry.chain, entry.key, entry.roots, obtained_at)?;
    if certificates.spiffe_id().as_ref() != Some(identity) {
        return Err(CacheError::Identity(format!("{:?}", certificates.credential())));
    }
    if certificates.not_after() <= now {
        return Err(CacheError::Expired);
    }
    Ok(Some(certificates))
}

/// Replaces the file, which only its owner may read; it is whole at any moment.
pub(crate) fn store(
    path: &Path,
    identity: &SpiffeId,
    certificates: &WorkloadCertificates,
) -> Result<(), CacheError> {
    let obtained_at = certificates.obtained_at().duration_since(UNIX_EPOCH);
    let entry = Entry {
        identity: identity.to_string(),
        chain: certificates.chain_pem().to_owned(),
        key: certificates.key_pem().to_owned(),
        roots: certificates.roots_pem().to_owned(),
        obtained_at: obtained_at.unwrap_or_default().as_secs(),
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Temporary files have mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(&entry)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}
