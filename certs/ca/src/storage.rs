//! Files that appear whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::AuthorityError;

/// Mode of a file that holds a private key.
pub(crate) const SECRET: u32 = 0o600;
/// Mode of a file that everybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// The file's text; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::Io { path: path.to_owned(), source }),
    }
}

/// Writes a file by way of a temporary one beside it.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let attempt = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        fs::File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| AuthorityError::Io { path: path.to_owned(), source })
}
