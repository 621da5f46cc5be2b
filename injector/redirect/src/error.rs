//! What can go wrong while rules are compared, changed and removed.

use std::io;

use crate::rule::Family;

/// A failed reading or change of the kernel's rules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("`{program}` is not installed. Install the package {package}")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The capability to change network settings is missing.
    #[error(
        "changing interception rules needs the capability NET_ADMIN in this network namespace. \
         Run as root, or give the container `capabilities: {{add: [NET_ADMIN, NET_RAW]}}`"
    )]
    Privilege,
    /// A program could not be started or talked to.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why it did not run.
        source: io::Error,
    },
    /// A program said no. Nothing was changed by it.
    #[error("`{command}` failed ({status}): {stderr}{}", rule.as_ref().map(|rule| format!("; the rule is `{rule}`")).unwrap_or_default())]
    Failed {
        /// The command line.
        command: String,
        /// The exit status in words.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
        /// The line of its input that it refused, if it named one.
        rule: Option<String>,
    },
    /// The kernel can't redirect this IP version.
    #[error(
        "this kernel has no {family} nat table, so {family} traffic would pass by the proxy: {reason}. \
         Load the module ({module}), or leave {family} alone with --ipv6 off"
    )]
    NoNat {
        /// The IP version.
        family: Family,
        /// The kernel module that is missing.
        module: &'static str,
        /// What the program said.
        reason: String,
    },
    /// What the kernel holds after a change is not what was asked for.
    #[error(
        "the {family} rules in the kernel are not what was applied; the first difference is `{difference}`. \
         Another program may be changing them: run `weft-init --cleanup`, then `weft-init`"
    )]
    Differs {
        /// The IP version.
        family: Family,
        /// The first missing or surplus rule.
        difference: String,
    },
    /// A change failed and undoing the part already made failed too.
    #[error("{cause}; and undoing the {family} rules failed: {undo}. Run `weft-init --cleanup`")]
    Undo {
        /// The IP version whose rules remain.
        family: Family,
        /// What made undoing necessary.
        cause: Box<Error>,
        /// Why it failed.
        undo: Box<Error>,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file's path.
        path: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}
