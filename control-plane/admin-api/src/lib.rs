//! The Admin API: APISIX's resources under `/apisix/admin`, Weft's own under
//! `/weft/admin`, with one envelope, one key and one set of errors.
//!
//! A write is checked (schema, references, plugins, certificates), stored, and
//! answered after the store has acknowledged it. Defaults are never stored.

mod access;
mod check;
mod configs;
mod dispatch;
mod error;
mod list;
mod merge;
mod mesh;
mod reply;
mod request;
mod resource;
mod schema;
mod state;

pub use access::{Access, AdminKey, Role};
pub use dispatch::router;
/// A boxed, sendable future, as [`MeshView::services`] returns it.
pub use futures_util::future::BoxFuture;
pub use state::{AdminState, MeshView, Trial};
