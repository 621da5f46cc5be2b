//! What can go wrong while namespaces are made, entered and removed.

use std::io;

/// A failed step of building, entering or removing a network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started at all.
    #[error("cannot start `{command}`: {source} (is the package with this program installed?)")]
    Start {
        /// The command line.
        command: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// The program ran and said no.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line, with its standard input if it had one.
        command: String,
        /// The exit status in words.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// A system call on behalf of a namespace failed.
    #[error("{action} (namespace {namespace}): {source}")]
    Namespace {
        /// Name of the namespace as `ip netns` shows it.
        namespace: String,
        /// What was attempted.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file could not be read, written or removed.
    #[error("{action} {path}: {source}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file's path.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A name that can't be used for a namespace.
    #[error(
        "`{name}` can't name a network or host: use 1 to 40 characters of a-z, 0-9 and -, starting with a letter"
    )]
    Name {
        /// The refused name.
        name: String,
    },
    /// A second host of the same name.
    #[error("this network already has a host `{name}`")]
    Duplicate {
        /// The refused name.
        name: String,
    },
    /// All addresses of the subnet are taken.
    #[error("the network {subnet} is full: it holds 250 hosts")]
    Full {
        /// The subnet in CIDR form.
        subnet: String,
    },
    /// The machine lacks what namespaces need.
    #[error("this needs {missing}. {cure}")]
    Privilege {
        /// What is missing.
        missing: String,
        /// What to do about it.
        cure: String,
    },
}

impl Error {
    pub(crate) fn namespace(
        namespace: &str,
        action: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Namespace { namespace: namespace.to_owned(), action, source: source.into() }
    }

    pub(crate) fn file(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::File { action, path: path.display().to_string(), source }
    }
}
