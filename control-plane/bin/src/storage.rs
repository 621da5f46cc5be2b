//! Opening the store that the configuration names.

use std::sync::Arc;

use anyhow::{Context, Result};
use weft_store::{EmbeddedStore, EtcdStore, FileStore, Store};

use crate::config::Config;

/// The file of the embedded store within the data folder.
const EMBEDDED: &str = "weft.redb";
/// Where the last good state of a declarative file is remembered; never the
/// embedded store's own file, whose resources the declared ones would replace.
const MEMORY: &str = "declared.redb";

/// Opens it.
///
/// # Errors
/// The file, or etcd with the reason of each member.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>> {
    let data_dir = &config.data_dir;
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("can't make the data folder {}", data_dir.display()))?;
    if let Some(file) = config.deployment.role_data_plane.file() {
        return Ok(Arc::new(FileStore::open(&file, &data_dir.join(MEMORY)).await?));
    }
    if let Some(etcd) = &config.deployment.etcd {
        let etcd = etcd.compile().map_err(anyhow::Error::msg)?;
        return Ok(Arc::new(EtcdStore::open(&etcd).await?));
    }
    Ok(Arc::new(EmbeddedStore::open(&data_dir.join(EMBEDDED))?))
}
