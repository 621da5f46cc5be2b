//! The one task through which every change passes to the nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_control_model::{MeshService, Resources, Role};
use weft_discovery::{AddressBook, Saved};
use weft_store::{Follower, StoreError};
use weft_translate::{Inputs, NodeProfile, Problem, Settings, Translator};
use weft_xds_server::NodeResources;

use crate::cluster::Registries;
use crate::nodes::Nodes;

/// A node that waits for its resources.
pub(crate) struct Arrival {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) profile: NodeProfile,
    /// The number of the stream, and what it is served.
    pub(crate) reply: oneshot::Sender<(u64, watch::Receiver<Arc<NodeResources>>)>,
}

/// Somebody wants to know the services of the mesh.
pub(crate) type Question = oneshot::Sender<Vec<MeshService>>;

/// Owns the translation.
pub(crate) struct Engine {
    pub(crate) follower: Follower,
    pub(crate) registries: Registries,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) saved: Saved,
    pub(crate) addresses: AddressBook,
    pub(crate) settings: Settings,
    pub(crate) questions: mpsc::Receiver<Question>,
    /// What changes are tried against.
    pub(crate) published: Arc<RwLock<Resources>>,
    pub(crate) stop: CancellationToken,
}

/// The most nodes that are taken in at once.
const ARRIVALS: usize = 256;

impl Engine {
    /// Works until it is stopped.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut translator = Translator::new(self.settings.clone());
        let mut resources = self.follower.resources();
        let mut problems = Vec::new();
        let mut waiting = Vec::new();
        loop {
            let departure = self.registries.mesh.expire();
            self.give_addresses(translator.read(&resources)).await;
            translator.update(Inputs {
                resources: &resources,
                registry: &self.registries,
                addresses: self.addresses.addresses(),
            });
            tell(translator.problems(), &mut problems);
            for arrival in waiting.drain(..) {
                self.admit(arrival, &mut translator);
            }
            let (moved, hosts) = (translator.moved(), translator.hosts_by_name());
            self.nodes.publish(&moved, &hosts, |profile| translator.node(profile));
            self.published.write().clone_from(&resources);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                changed = self.follower.changed() => {
                    changed?;
                    resources = self.follower.resources();
                }
                taken = self.arrivals.recv_many(&mut waiting, ARRIVALS) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
                Some(question) = self.questions.recv() => {
                    // Who asked may have gone.
                    let _ = question.send(self.services(&translator));
                }
                () = self.registries.changed() => {}
                () = until(departure) => {}
            }
        }
    }

    fn admit(&self, arrival: Arrival, translator: &mut Translator) {
        let resources = translator.node(&arrival.profile);
        let (number, receiver) =
            self.nodes.add(arrival.id, arrival.role, arrival.profile, resources);
        if arrival.reply.send((number, receiver)).is_err() {
            self.nodes.remove(number);
        }
    }

    /// Every host of the mesh has an address before it is published.
    async fn give_addresses(&mut self, hosts: BTreeSet<String>) {
        let mut others = Vec::new();
        for host in hosts {
            match self.addresses.assign(&host) {
                Ok((_, false)) => {}
                Ok((address, true)) => match self.saved.settle_address(&host, address).await {
                    Ok(settled) if settled == address => {}
                    Ok(settled) => others.push((host.clone(), settled)),
                    Err(error) => {
                        tracing::error!(%host, %address, %error, "can't save the virtual address");
                    }
                },
                Err(error) => tracing::error!(%error, "no virtual address"),
            }
        }
        // Another control plane of the same store was faster.
        for (host, address) in others {
            self.addresses.adopt(&host, address);
        }
    }

    fn services(&self, translator: &Translator) -> Vec<MeshService> {
        let addresses = self.addresses.addresses();
        let hosts = translator.hosts().into_iter();
        let services = hosts.map(|(host, known)| MeshService {
            virtual_address: addresses.get(&host).copied(),
            ports: known.ports.iter().copied().collect(),
            workloads: translator.endpoints_behind(&host),
            host,
        });
        services.collect()
    }
}

/// Logs what is new among the problems.
fn tell(problems: &[Problem], known: &mut Vec<Problem>) {
    if problems == known.as_slice() {
        return;
    }
    for Problem { key, field, reason, served, .. } in
        problems.iter().filter(|one| !known.contains(one))
    {
        if *served {
            tracing::warn!(%key, %field, %reason, "a part of the resource has no effect");
        } else {
            tracing::warn!(%key, %field, %reason, "the resource isn't served");
        }
    }
    *known = problems.to_vec();
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
