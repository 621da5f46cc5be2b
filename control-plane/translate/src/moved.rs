//! Whom a change concerns.

use std::collections::BTreeSet;

/// For whom something changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Moved {
    /// Nobody.
    #[default]
    Nothing,
    /// Edges and those who are sent all tables perhaps, of the others those who asked for a host
    /// or an address among these. They have nothing new but virtual hosts.
    Hosts(BTreeSet<String>),
    /// Anybody.
    Everything,
}
