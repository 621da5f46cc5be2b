//! Where endpoints come from: the mesh itself and DNS.
//!
//! Workloads register by connecting: [`MeshRegistry`] knows them, forgets them a while after they
//! left, and finds those behind a `service_name`. [`AddressBook`] gives each host of the mesh its
//! virtual address. Both are kept in the store, so that a restarted control plane knows what it
//! knew. DNS is resolved by the proxies themselves.

mod addresses;
mod registry;
mod saved;

pub use addresses::{AddressBook, AddressError};
pub use registry::MeshRegistry;
pub use saved::Saved;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
