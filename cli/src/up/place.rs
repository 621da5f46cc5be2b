//! The folder of one run: programs, configuration, state and logs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The programs that a mesh is made of; they stand beside this one.
const PROGRAMS: [&str; 3] = ["weft-control-plane", "weft-sidecar", "weft-init"];

/// The folder of one run. A temporary one goes with it, unless it is kept.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    /// Makes the folder and copies the programs into it, where every user can
    /// run them: the folder they were built in may be closed to others.
    pub(crate) fn create(folder: Option<&Path>) -> Result<Self> {
        let (folder, temporary) = match folder {
            Some(folder) => {
                fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
                (folder.canonicalize()?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("weft-up-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let place = Self { folder, temporary };
        open_to_all(&place.folder)?;
        for name in ["bin", "log"] {
            place.folder_for(name, None)?;
        }
        let this = std::env::current_exe().context("cannot find this program")?;
        copy_program(&this, &place.program("weft"))?;
        for name in PROGRAMS {
            let source = this.with_file_name(name);
            copy_program(&source, &place.program(name))
                .with_context(|| format!("build {name} first (make demo does)"))?;
        }
        Ok(place)
    }

    /// Where a program is.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Where a process writes what it says.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.folder.join("log").join(format!("{process}.log"))
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a folder in the folder, owned by `owner` and closed to others if there is one.
    pub(crate) fn folder_for(&self, name: &str, owner: Option<u32>) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match owner {
            Some(owner) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
                give(&path, owner)?;
            }
            None => open_to_all(&path)?,
        }
        Ok(path)
    }

    /// Writes a file for `owner`, closed to others.
    pub(crate) fn file_for(&self, name: &str, owner: u32, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        give(&path, owner)?;
        Ok(path)
    }

    /// Leaves the folder in place, and says where it is.
    pub(crate) fn keep(&mut self) -> &Path {
        if let Some(temporary) = self.temporary.take() {
            self.folder = temporary.keep();
        }
        &self.folder
    }
}

fn open_to_all(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {} to other users", path.display()))
}

fn give(path: &Path, owner: u32) -> Result<()> {
    chown(path, Some(owner), Some(owner))
        .with_context(|| format!("cannot give {} to user {owner}", path.display()))
}

fn copy_program(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    open_to_all(to)
}
