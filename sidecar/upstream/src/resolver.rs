//! Name resolution for DNS clusters: one task on the background runtime that follows the
//! snapshot, and below it one task for each cluster that keeps its endpoints current, or answers
//! what its requests ask for.

mod brought;
mod names;
mod refresh;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::{ClusterHandle, Discovery, Snapshot, SnapshotWatch};

use crate::task::Task;
use names::Names;

/// Who is asked for addresses.
#[derive(Clone, Debug, Default)]
pub enum NameServers {
    /// Those of `/etc/resolv.conf`, after `/etc/hosts`.
    #[default]
    System,
    /// These, without search domains.
    Fixed(Vec<SocketAddr>),
}

/// The resolver at work; dropped, it stops.
#[derive(Debug)]
pub struct ResolverHandle(#[expect(dead_code, reason = "stops the task when dropped")] Task);

/// Keeps the endpoints of all STRICT_DNS and LOGICAL_DNS clusters of the snapshot current. To be
/// called on the background runtime. What was resolved last stays when a name server fails.
#[must_use]
pub fn spawn_resolver(snapshot: SnapshotWatch) -> ResolverHandle {
    spawn_resolver_with(snapshot, NameServers::System)
}

/// As [`spawn_resolver`], asking these name servers.
#[must_use]
pub fn spawn_resolver_with(snapshot: SnapshotWatch, servers: NameServers) -> ResolverHandle {
    ResolverHandle(Task::spawn(follow(snapshot, Names::new(servers))))
}

async fn follow(mut snapshot: SnapshotWatch, names: Names) {
    let names = Arc::new(names);
    let mut jobs = HashMap::new();
    loop {
        let current = Arc::clone(&snapshot.borrow_and_update());
        assign(&mut jobs, &current, &names);
        drop(current);
        if snapshot.changed().await.is_err() {
            // Nobody publishes any more, but what is served goes on being served.
            std::future::pending::<()>().await;
        }
    }
}

struct Job {
    discovery: Discovery,
    _task: Task,
}

/// Starts, restarts and ends jobs, so that each DNS cluster has one with its present settings.
fn assign(jobs: &mut HashMap<u32, Job>, snapshot: &Snapshot, names: &Arc<Names>) {
    let mut before = std::mem::take(jobs);
    for cluster in snapshot.watched_clusters() {
        let config = cluster.config();
        let known = before.remove(&cluster.id());
        let known = known.filter(|job| job.discovery == config.discovery);
        let job = known.or_else(|| start(cluster, &config.discovery, names));
        if let Some(job) = job {
            jobs.insert(cluster.id(), job);
        }
    }
}

/// The task that keeps a cluster's names resolved; none, where there are no names.
fn start(cluster: &Arc<ClusterHandle>, discovery: &Discovery, names: &Arc<Names>) -> Option<Job> {
    let (cluster, names) = (Arc::clone(cluster), Arc::clone(names));
    let refresh = |settings: &weft_model::DnsSettings, logical| {
        let (cluster, names) = (Arc::clone(&cluster), Arc::clone(&names));
        Task::spawn(refresh::Refresh::new(cluster, settings.clone(), logical, names).run())
    };
    let task = match discovery {
        Discovery::StrictDns(settings) => refresh(settings, false),
        Discovery::LogicalDns(settings) => refresh(settings, true),
        Discovery::Named(settings) => {
            Task::spawn(brought::answer(cluster, settings.clone(), names))
        }
        Discovery::Static
        | Discovery::Eds(_)
        | Discovery::Aggregate(_)
        | Discovery::OriginalDst { .. } => return None,
    };
    Some(Job { discovery: discovery.clone(), _task: task })
}
