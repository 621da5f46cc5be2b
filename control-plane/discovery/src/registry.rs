//! The workloads of the mesh, who register by connecting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use weft_control_model::{
    Discover, DiscoverError, Discovery, Endpoint, EndpointIdentity, Endpoints, Labels, Lookups,
    MeshName, Role, Scheme, Workload,
};

/// The labels that name a workload's service, the first one winning.
const NAME_LABELS: [&str; 3] = ["service.istio.io/canonical-name", "app", "app.kubernetes.io/name"];

/// The workloads of the mesh.
///
/// A workload whose node left stays for a while, so that a restart of the node, or of the control
/// plane, takes no endpoint away.
pub struct MeshRegistry {
    state: Mutex<State>,
    changed: Notify,
    unsaved: Notify,
    grace: Duration,
}

#[derive(Default)]
struct State {
    workloads: BTreeMap<String, Entry>,
    /// What was asked for, with the answer as long as it holds.
    lookups: Lookups<Lookup>,
    /// Ids of workloads that are not saved as they are.
    unsaved: BTreeSet<String>,
}

struct Entry {
    workload: Arc<Workload>,
    /// The streams of its node.
    connections: usize,
    /// When it is forgotten, without a connection.
    until: Option<Instant>,
    /// The control plane that has taken it in, if another has done so last.
    owner: Option<String>,
}

/// A service and the labels that its workloads must have.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Lookup {
    name: MeshName,
    labels: Labels,
}

impl MeshRegistry {
    /// An empty registry that keeps a workload for `grace` after its node left.
    pub fn new(grace: Duration) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), unsaved: Notify::new(), grace }
    }

    /// Takes up workloads that were known before; each has `grace` to connect.
    pub fn restore(&self, workloads: Vec<Workload>, grace: Duration) {
        let until = Some(Instant::now() + grace);
        let mut state = self.state.lock();
        for workload in workloads {
            let id = workload.id.clone();
            let entry = Entry { workload: Arc::new(workload), connections: 0, until, owner: None };
            state.workloads.entry(id).or_insert(entry);
        }
        state.refresh();
        self.changed.notify_one();
    }

    /// A node of the workload connected.
    pub fn connected(&self, workload: Workload) {
        let mut state = self.state.lock();
        let id = workload.id.clone();
        let known = state.workloads.get_mut(&id);
        // The record says who has it.
        let same = known.as_ref().is_some_and(|entry| {
            entry.owner.is_none() && describes_the_same(&entry.workload, &workload)
        });
        match known {
            Some(entry) => {
                entry.connections += 1;
                entry.until = None;
                entry.owner = None;
                entry.workload = Arc::new(workload);
            }
            None => {
                let workload = Arc::new(workload);
                let entry = Entry { workload, connections: 1, until: None, owner: None };
                state.workloads.insert(id.clone(), entry);
            }
        }
        if !same {
            state.unsaved.insert(id);
            self.unsaved.notify_one();
            state.refresh();
            self.changed.notify_one();
        }
    }

    /// A stream of the workload's node ended.
    pub fn disconnected(&self, id: &str) {
        let mut state = self.state.lock();
        if let Some(entry) = state.workloads.get_mut(id) {
            entry.connections = entry.connections.saturating_sub(1);
            // One that has gone over to another control plane is that one's.
            if entry.connections == 0 && entry.owner.is_none() {
                entry.until = Some(Instant::now() + self.grace);
                // Who waits for the next departure has to look again.
                self.changed.notify_one();
            }
        }
    }

    /// Forgets the workloads whose time is over, and says when to look again.
    pub fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let gone: Vec<_> = state
            .workloads
            .iter()
            .filter(|(_, entry)| entry.until.is_some_and(|until| until <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            tracing::info!(workload = %id, "workload left the mesh");
            state.workloads.remove(id);
            state.unsaved.insert(id.clone());
        }
        if !gone.is_empty() {
            self.unsaved.notify_one();
            state.refresh();
        }
        state.workloads.values().filter_map(|entry| entry.until).min()
    }

    /// Waits until endpoints, or the time of [`MeshRegistry::expire`], may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The workloads that are connected, or expected back.
    pub fn workloads(&self) -> Vec<Workload> {
        let state = self.state.lock();
        state.workloads.values().map(|entry| Workload::clone(&entry.workload)).collect()
    }

    /// Waits until there is something to save, and takes it: each id with its workload, or
    /// without one when it is gone.
    pub(crate) async fn unsaved(&self) -> Vec<(String, Option<Arc<Workload>>)> {
        loop {
            let taken = self.take_unsaved();
            if !taken.is_empty() {
                return taken;
            }
            self.unsaved.notified().await;
        }
    }

    fn take_unsaved(&self) -> Vec<(String, Option<Arc<Workload>>)> {
        let mut state = self.state.lock();
        let ids = std::mem::take(&mut state.unsaved);
        ids.into_iter()
            .map(|id| {
                let workload = state.workloads.get(&id).map(|entry| Arc::clone(&entry.workload));
                (id, workload)
            })
            .collect()
    }

    /// Marks workloads that could not be saved.
    pub(crate) fn still_unsaved(&self, ids: impl Iterator<Item = String>) {
        self.state.lock().unsaved.extend(ids);
    }
}

impl Discover for MeshRegistry {
    fn endpoints(&self, service: &Discovery, _: Scheme) -> Result<Endpoints, DiscoverError> {
        if service.registry != "mesh" {
            return Err(DiscoverError::UnknownRegistry(service.registry.clone()));
        }
        let lookup = Lookup {
            name: MeshName::parse(&service.service_name)?,
            labels: service.wanted_labels("the mesh")?,
        };
        let mut state = self.state.lock();
        let mut lookups = std::mem::take(&mut state.lookups);
        let found = lookups.answer(lookup, |lookup| state.find(lookup));
        state.lookups = lookups;
        Ok(found)
    }
}

impl State {
    fn refresh(&mut self) {
        let mut lookups = std::mem::take(&mut self.lookups);
        lookups.refresh(|lookup| self.find(lookup));
        self.lookups = lookups;
    }

    fn find(&self, lookup: &Lookup) -> Vec<Endpoint> {
        let workloads = self.workloads.values().map(|entry| &entry.workload);
        workloads
            .filter(|workload| lookup.chooses(workload))
            .filter_map(|one| endpoint(one, lookup))
            .collect()
    }
}

impl Lookup {
    fn chooses(&self, workload: &Workload) -> bool {
        let name = NAME_LABELS.iter().find_map(|label| workload.labels.get(*label));
        workload.role == Role::Sidecar
            && workload.namespace == self.name.namespace
            && name == Some(&self.name.name)
            && self.labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
    }
}

/// Where the workload is reached. A port that it doesn't tell may still be one of its own.
fn endpoint(workload: &Workload, lookup: &Lookup) -> Option<Endpoint> {
    let address = workload.addresses.first()?.0;
    let port = match lookup.name.port {
        None => workload.ports.first()?.target_port,
        Some(wanted) => {
            let told = workload.ports.iter().find(|port| port.port == wanted);
            told.map_or(wanted, |port| port.target_port)
        }
    };
    let identity = EndpointIdentity {
        namespace: workload.namespace.clone(),
        service_account: workload.service_account.clone(),
        labels: workload.labels.clone(),
    };
    Some(Endpoint { address, port, weight: 1, identity: Some(identity), locality: None })
}

/// Whether nothing differs but the time of the connection.
fn describes_the_same(known: &Workload, new: &Workload) -> bool {
    let dated = Workload { connected_since: known.connected_since, ..new.clone() };
    *known == dated
}

mod shared;
#[cfg(test)]
mod tests;
