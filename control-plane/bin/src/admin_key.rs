//! The Admin API's keys.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use uuid::Uuid;
use weft_admin_api::{Access, AdminKey, Role};

use crate::config::{AdminConfig, KeyRole};

/// The file of the key that is made at first start.
const FILE: &str = "admin-key";

/// Who is let in: those of the configuration, else who has the key in the data folder.
pub(crate) fn access(config: &AdminConfig, data_dir: &Path) -> io::Result<Access> {
    if !config.key_required {
        return Ok(Access::Open);
    }
    if config.keys.is_empty() {
        let name = "admin".to_owned();
        return Ok(Access::Keys(vec![AdminKey {
            name,
            key: own_key(data_dir)?,
            role: Role::Admin,
        }]));
    }
    let key = |key: &crate::config::KeyConfig| AdminKey {
        name: key.name.clone(),
        key: key.key.clone(),
        role: match key.role {
            KeyRole::Admin => Role::Admin,
            KeyRole::Viewer => Role::Viewer,
        },
    };
    Ok(Access::Keys(config.keys.iter().map(key).collect()))
}

/// The key in the data folder, made if there is none.
fn own_key(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => return Ok(key.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = Uuid::new_v4().simple().to_string();
    // A half-written key must never be read as a whole one.
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    tracing::info!(path = %path.display(), "made a key for the Admin API");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = own_key(folder.path()).expect("a key");
        assert_eq!(own_key(folder.path()).expect("a key"), first);
        let mode = std::fs::metadata(folder.path().join(FILE)).expect("a file").permissions();
        assert_eq!((mode.mode() & 0o777, first.len()), (0o600, 32));
    }
}
