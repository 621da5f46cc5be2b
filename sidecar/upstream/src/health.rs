//! What watches the hosts of clusters: one task on the background runtime that follows the
//! snapshot, and below it the health checks and the outlier detector of each cluster that has them.

use std::collections::HashMap;
use std::sync::Arc;

use weft_model::{HealthCheck, OutlierDetection, Snapshot, SnapshotWatch};

use crate::check::Checker;
use crate::outlier::Detector;
use crate::task::Task;

/// The watch at work; dropped, it stops.
#[derive(Debug)]
pub struct HealthHandle(#[expect(dead_code, reason = "stops the task when dropped")] Task);

/// Watches the hosts of all clusters of the snapshot that ask for it. To be called on the
/// background runtime.
#[must_use]
pub fn spawn_health(snapshot: SnapshotWatch) -> HealthHandle {
    HealthHandle(Task::spawn(follow(snapshot)))
}

async fn follow(mut snapshot: SnapshotWatch) {
    let mut jobs = HashMap::new();
    loop {
        let current = Arc::clone(&snapshot.borrow_and_update());
        assign(&mut jobs, &current);
        drop(current);
        if snapshot.changed().await.is_err() {
            // Nobody publishes any more, but what is served goes on being served.
            std::future::pending::<()>().await;
        }
    }
}

/// What is done for one cluster.
#[derive(Debug, Default)]
struct Jobs {
    check: Option<Job<HealthCheck>>,
    outlier: Option<Job<OutlierDetection>>,
}

/// A task and the settings that it was started with.
#[derive(Debug)]
struct Job<T> {
    settings: Arc<T>,
    _task: Task,
}

/// Starts, restarts and ends jobs, so that each cluster has those that it is configured to have.
fn assign(jobs: &mut HashMap<u32, Jobs>, snapshot: &Snapshot) {
    let mut before = std::mem::take(jobs);
    for cluster in snapshot.watched_clusters() {
        let config = cluster.config();
        if config.outlier.is_none() && config.health_check.is_none() {
            continue;
        }
        let mut known = before.remove(&cluster.id()).unwrap_or_default();
        known.check = keep(known.check, config.health_check.as_ref(), |check| {
            Task::spawn(Checker::new(Arc::clone(cluster), check).run())
        });
        known.outlier = keep(known.outlier, config.outlier.as_ref(), |outlier| {
            Task::spawn(Detector::new(Arc::clone(cluster), outlier).run())
        });
        jobs.insert(cluster.id(), known);
    }
}

/// The job with these settings: the one that is there, or a new one.
fn keep<T: PartialEq>(
    known: Option<Job<T>>,
    wanted: Option<&Arc<T>>,
    start: impl FnOnce(Arc<T>) -> Task,
) -> Option<Job<T>> {
    let wanted = wanted?;
    if let Some(known) = known
        && known.settings == *wanted
    {
        return Some(known);
    }
    Some(Job { settings: Arc::clone(wanted), _task: start(Arc::clone(wanted)) })
}
