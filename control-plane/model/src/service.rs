//! Services: what several routes share, and the names of the mesh.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{DecodeError, decode};
use crate::route::lower_case;
use crate::{Labels, Plugins, ResourceId, Upstream};

/// An APISIX service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Service {
    /// `name`, for people.
    pub name: Option<String>,
    /// `labels`.
    #[serde(default)]
    pub labels: Labels,
    /// `hosts` in lower case: for its routes without hosts, and the names
    /// under which the mesh reaches a service without routes.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// `plugins`, unchanged; a route's of the same name wins.
    #[serde(default)]
    pub plugins: Plugins,
    /// `upstream`, inline.
    pub upstream: Option<Arc<Upstream>>,
    /// `upstream_id`.
    pub upstream_id: Option<ResourceId>,
    /// `enable_websocket`.
    #[serde(default)]
    pub enable_websocket: bool,
}

impl Service {
    /// Decodes a stored service.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        let mut service: Self = decode(value)?;
        service.hosts = lower_case(service.hosts);
        Ok(service)
    }
}
