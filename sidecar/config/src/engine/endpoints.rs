//! Endpoints in the engine: a change is work for the clusters that use the assignment, no others.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use weft_filters::config::{FieldError, decode};
use weft_model::EndpointSet;
use weft_xds_client::Resource;
use weft_xds_proto::Any;
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::{Engine, stamp};
use crate::compile;

/// An assignment that some cluster uses.
#[derive(Debug)]
pub(super) struct Assignment {
    /// Its endpoints, not yet placed in a cluster.
    pub(super) set: Arc<EndpointSet>,
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) updated: SystemTime,
}

impl Engine {
    /// Compiles an assignment and swaps it into the clusters that use it. Publishes nothing.
    pub(super) fn add_assignment(
        &mut self,
        resource: &Resource,
        version: &str,
        now: Instant,
    ) -> Result<(), FieldError> {
        let name = resource.name.as_str();
        let Some((name, users)) = self.eds_users.get_key_value(name) else { return Ok(()) };
        let (name, users) = (Arc::clone(name), users.clone());
        if let Some(held) = self.assignments.get_mut(&name)
            && held.raw == resource.body
        {
            version.clone_into(&mut held.version);
            return Ok(());
        }
        let config: ClusterLoadAssignment = decode(&resource.body)?;
        let set = Arc::new(compile::assignment(&config)?);
        let held = Assignment {
            set: Arc::clone(&set),
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            updated: stamp(),
        };
        self.assignments.insert(Arc::clone(&name), held);
        for user in users {
            self.swap_endpoints(&user, &name, &set);
            self.try_cluster(&user, now);
        }
        Ok(())
    }

    /// Swaps endpoints into a cluster that serves, or is about to, and uses this assignment.
    fn swap_endpoints(&self, cluster: &Arc<str>, assignment: &Arc<str>, set: &EndpointSet) {
        let Some(entry) = self.clusters.get(cluster) else { return };
        let checking = self.checking.get(cluster).map(|checking| &checking.handle);
        let (version, handle) = match (self.handles.get(cluster), checking) {
            (Some(handle), _) => (entry.active.as_ref(), handle),
            (None, Some(handle)) => (entry.warming.as_ref(), handle),
            (None, None) => return,
        };
        if let Some(version) = version
            && version.value.assignment() == Some(assignment)
        {
            let before = Arc::clone(&handle.endpoints());
            handle.set_endpoints(Arc::new(compile::place(set, &version.value.cluster, &before)));
        }
    }
}
