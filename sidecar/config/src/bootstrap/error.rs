//! What is wrong with a bootstrap file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use weft_filters::config::FieldError;

/// A bootstrap file that can't be used: the file, the field and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub struct BootstrapError {
    /// The file; empty for text that came from elsewhere.
    pub file: PathBuf,
    /// The field's path; empty for the file as a whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BootstrapError {
    pub(crate) fn new(file: &Path, error: FieldError) -> Self {
        Self { file: file.to_owned(), field: error.field, reason: error.reason }
    }

    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self::new(file, FieldError::new(format!("the file can't be read: {error}")))
    }

    fn text(&self) -> String {
        let file = self.file.display().to_string();
        let parts = [file.as_str(), &self.field, &self.reason];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    }
}
