//! Workloads whose nodes are connected to other control planes of the same store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_control_model::Workload;

use super::{Entry, MeshRegistry, State};

impl MeshRegistry {
    /// Another control plane has taken a workload in. What is connected here stays as it is until its
    /// node leaves.
    pub(crate) fn learned(&self, workload: Workload, owner: &str) {
        self.change(|state| {
            let id = workload.id.clone();
            let connections = state.workloads.get(&id).map_or(0, |entry| entry.connections);
            if let Some(entry) = state.workloads.get_mut(&id).filter(|_| connections > 0) {
                entry.owner = Some(owner.to_owned());
                return false;
            }
            let owner = Some(owner.to_owned());
            let entry = Entry { workload: Arc::new(workload), connections, until: None, owner };
            state.workloads.insert(id, entry);
            true
        });
    }

    /// The record of a workload is gone. That of one that is connected here is written again.
    pub(crate) fn forgotten(&self, id: &str) {
        self.change(|state| match state.workloads.get_mut(id) {
            Some(entry) if entry.connections > 0 => {
                entry.owner = None;
                state.unsaved.insert(id.to_owned());
                self.unsaved.notify_one();
                false
            }
            Some(entry) if entry.owner.is_some() => state.workloads.remove(id).is_some(),
            _ => false,
        });
    }

    /// The workloads that others have and that are not among these are gone.
    pub(crate) fn keep_others(&self, known: impl Fn(&str) -> bool) {
        self.change(|state| {
            let before = state.workloads.len();
            state
                .workloads
                .retain(|id, entry| entry.owner.is_none() || entry.connections > 0 || known(id));
            state.workloads.len() != before
        });
    }

    /// A control plane has ended: its workloads have `grace` to connect to another.
    pub(crate) fn owner_left(&self, owner: &str, grace: Duration) {
        let until = Some(Instant::now() + grace);
        self.of_owner(owner, until);
    }

    /// A control plane is there, or back.
    pub(crate) fn owner_is_there(&self, owner: &str) {
        self.of_owner(owner, None);
    }

    fn of_owner(&self, owner: &str, until: Option<Instant>) {
        let mut state = self.state.lock();
        let mut changed = false;
        for entry in state.workloads.values_mut() {
            let its = entry.connections == 0 && entry.owner.as_deref() == Some(owner);
            // Who is given time already is not given more.
            if its && until.is_some() != entry.until.is_some() {
                entry.until = until;
                changed = true;
            }
        }
        // Who waits for the next departure has to look again.
        if changed {
            self.changed.notify_one();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock();
        if change(&mut state) {
            state.refresh();
            self.changed.notify_one();
        }
    }
}
