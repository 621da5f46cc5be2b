//! Certificates in files that someone else renews.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::sleep;

use crate::agent::Reporter;
use crate::certificates::WorkloadCertificates;
use crate::config::FilesConfig;
use crate::error::FetchError;
use crate::fetch::read;

/// What tells one version of a file from another.
type Version = Option<(SystemTime, u64, u64)>;

/// Reads the files whenever one of them has changed. While they don't fit together, as in the
/// middle of a renewal, what was read before stays.
pub(crate) async fn follow(config: FilesConfig, reporter: Reporter) {
    let mut accepted = None;
    loop {
        let seen = versions(&config);
        if accepted != Some(seen) {
            match load(&config) {
                Ok(certificates) => {
                    accepted = Some(seen);
                    tracing::info!(certificate = ?certificates, "certificate read");
                    reporter.succeeded(Arc::new(certificates));
                }
                Err(error) => {
                    tracing::warn!(%error, "certificate files not used");
                    reporter.failed(error.to_string());
                }
            }
        }
        sleep(config.poll).await;
    }
}

fn load(config: &FilesConfig) -> Result<WorkloadCertificates, FetchError> {
    let (chain, key, roots) = (read(&config.chain)?, read(&config.key)?, read(&config.roots)?);
    let certificates = WorkloadCertificates::from_pem(chain, key, roots, SystemTime::now());
    certificates.map_err(|source| FetchError::Content { path: config.chain.clone(), source })
}

fn versions(config: &FilesConfig) -> [Version; 3] {
    [&config.chain, &config.key, &config.roots].map(|path| version(path))
}

fn version(path: &Path) -> Version {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
