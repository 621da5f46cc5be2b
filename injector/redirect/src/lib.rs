//! Traffic interception rules as data, and the program that applies them.
//!
//! An [`Interception`] says what a pod's traffic rules should achieve;
//! [`RuleSet::for_family`] turns it into rules without touching anything, and
//! [`Firewall`] compares them with what the kernel holds and changes that in
//! one atomic step for each table.

mod build;
mod config;
mod error;
mod firewall;
mod local;
mod options;
mod program;
mod routes;
mod rule;
mod state;

pub use config::{
    DnsCapture, GroupSelection, Interception, InterfaceName, Mode, PolicyRoutes, PortSelection,
    RangeSelection,
};
pub use error::Error;
pub use firewall::{Change, Firewall, Ipv6};
pub use local::{LocalNetwork, ensure_net_admin};
pub use options::{Options, OptionsError};
pub use rule::{Family, Match, Position, Protocol, Rule, RuleSet, Table, Target};
pub use state::Saved;
