//! What is fetched on demand: who asked for it, whether it came, when it is given up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::{Demand, DemandAnswer, Wanted};
use weft_xds_client::{ResourceType, Subscription};

use super::Engine;
use super::hosts::table_of;

/// The most virtual hosts, and the most clusters asked for by themselves; the one that was not
/// used for the longest time makes room.
const MOST: usize = 4096;
/// The most names that are remembered to be nothing.
const MOST_NOTHING: usize = 256;
/// How long a name that is nothing is remembered at most.
const NOTHING: Duration = Duration::from_secs(60);

/// Everything that is fetched on demand.
#[derive(Debug)]
pub(super) struct Demands {
    shared: Arc<Demand>,
    idle: Duration,
    /// Virtual hosts by `<table>/<host>`.
    hosts: HashMap<Arc<str>, Want>,
    /// Clusters that requests asked for.
    clusters: HashMap<Arc<str>, Want>,
    /// Clusters that fetched virtual hosts lead to.
    behind_hosts: HashMap<Arc<str>, Behind>,
    /// What somebody may wait for.
    open: Vec<Wanted>,
    swept: Instant,
}

/// Something that was asked for.
#[derive(Debug)]
struct Want {
    came: Came,
    used: Instant,
    /// Requests and connections of a cluster at the last look.
    activity: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    NotYet,
    There,
    Nothing,
}

/// A cluster behind virtual hosts.
#[derive(Debug)]
struct Behind {
    hosts: usize,
    /// Asked for by name: it is not among those that the control plane announces.
    asked: bool,
    nothing: bool,
}

impl Want {
    fn new(now: Instant) -> Self {
        Self { came: Came::NotYet, used: now, activity: 0 }
    }

    /// Whether it was not used for longer than it is kept.
    fn is_stale(&self, now: Instant, idle: Duration) -> bool {
        let kept = if self.came == Came::There { idle } else { idle.min(NOTHING) };
        now.saturating_duration_since(self.used) >= kept
    }
}

impl Demands {
    pub(super) fn new(idle: Duration, now: Instant) -> Self {
        Self {
            shared: Arc::default(),
            idle,
            hosts: HashMap::new(),
            clusters: HashMap::new(),
            behind_hosts: HashMap::new(),
            open: Vec::new(),
            swept: now,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Demand> {
        &self.shared
    }

    pub(super) fn host_names(&self) -> BTreeSet<String> {
        self.hosts.keys().map(|name| name.to_string()).collect()
    }

    pub(super) fn cluster_names(&self) -> BTreeSet<String> {
        let behind = self.behind_hosts.iter().filter(|(_, one)| one.asked).map(|(name, _)| name);
        self.clusters.keys().chain(behind).map(|name| name.to_string()).collect()
    }

    /// The key of a virtual host that was asked for.
    pub(super) fn host(&self, name: &str) -> Option<Arc<str>> {
        self.hosts.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    pub(super) fn host_is_there(&mut self, name: &str) {
        if let Some(want) = self.hosts.get_mut(name) {
            want.came = Came::There;
        }
    }

    pub(super) fn no_host(&mut self, name: &str) {
        nothing(&mut self.hosts, name);
    }

    pub(super) fn no_cluster(&mut self, name: &str) {
        nothing(&mut self.clusters, name);
        if let Some(behind) = self.behind_hosts.get_mut(name) {
            // One that was announced is asked for from now on: the hosts still lead there.
            behind.nothing = behind.asked;
            behind.asked = true;
        }
    }

    pub(super) fn cluster_came(&mut self, name: &str) {
        if let Some(want) = self.clusters.get_mut(name) {
            want.came = Came::There;
        }
        if let Some(behind) = self.behind_hosts.get_mut(name) {
            behind.nothing = false;
        }
    }

    /// A virtual host leads to these clusters; `known`: those that are there already.
    pub(super) fn need_clusters(
        &mut self,
        clusters: BTreeSet<Arc<str>>,
        known: impl Fn(&Arc<str>) -> bool,
    ) {
        for name in clusters {
            let asked = self.clusters.contains_key(&name) || !known(&name);
            let behind =
                self.behind_hosts.entry(name).or_insert(Behind { hosts: 0, asked, nothing: false });
            behind.hosts += 1;
        }
    }

    /// A virtual host leads there no longer; gives the clusters that nobody asks for anymore.
    pub(super) fn leave_clusters(&mut self, clusters: BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let mut left = Vec::new();
        for name in clusters {
            let Some(behind) = self.behind_hosts.get_mut(&name) else { continue };
            behind.hosts = behind.hosts.saturating_sub(1);
            if behind.hosts > 0 {
                continue;
            }
            let asked = behind.asked;
            self.behind_hosts.remove(&name);
            if asked && !self.clusters.contains_key(&name) {
                left.push(name);
            }
        }
        left
    }

    /// The table is gone, or has no `vhds` anymore.
    pub(super) fn leave_table(&mut self, table: &str) {
        for (name, _) in self.hosts.extract_if(|name, _| table_of(name) == table) {
            self.shared.answer(&Wanted::VirtualHost(name), DemandAnswer::Nothing);
        }
    }

    /// When [`Engine::sweep_demands`] has something to do at the earliest.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        let any = !(self.hosts.is_empty() && self.clusters.is_empty());
        any.then(|| self.swept + self.interval())
    }

    fn interval(&self) -> Duration {
        (self.idle.min(NOTHING) / 4).max(Duration::from_millis(50))
    }
}

fn nothing(wants: &mut HashMap<Arc<str>, Want>, name: &str) {
    if let Some(want) = wants.get_mut(name) {
        want.came = Came::Nothing;
    }
    if wants.values().filter(|want| want.came == Came::Nothing).count() > MOST_NOTHING {
        drop(remove_oldest(wants, |want| want.came == Came::Nothing));
    }
}

fn remove_oldest(
    wants: &mut HashMap<Arc<str>, Want>,
    among: impl Fn(&Want) -> bool,
) -> Option<Arc<str>> {
    let some = wants.iter().filter(|(_, want)| among(want));
    let (name, _) = some.min_by_key(|(_, want)| want.used)?;
    let name = Arc::clone(name);
    wants.remove(&name);
    Some(name)
}

impl Engine {
    /// Where requests wait for what is fetched on demand. Whoever is told there that something
    /// was asked for calls [`Self::take_demands`].
    #[must_use]
    pub fn demand(&self) -> Arc<Demand> {
        Arc::clone(self.demands.shared())
    }

    /// Takes up what requests asked for; the subscriptions change.
    pub fn take_demands(&mut self, now: Instant) {
        for wanted in self.demands.shared.take() {
            match &wanted {
                Wanted::VirtualHost(name) => self.want_host(name, now),
                Wanted::Cluster(name) => self.want_cluster(name, now),
            }
            self.demands.open.push(wanted);
        }
        self.answer_demands();
    }

    /// Takes up what was wanted in an earlier life, before its resources are applied.
    pub fn resume(&mut self, wanted: &[(ResourceType, Subscription)], now: Instant) {
        for (kind, subscription) in wanted {
            let names = subscription.named().into_iter().flatten();
            let wants = names.map(|name| (name.as_str().into(), Want::new(now)));
            match kind {
                ResourceType::VirtualHost => self.demands.hosts.extend(wants),
                ResourceType::Cluster => self.demands.clusters.extend(wants),
                _ => {}
            }
        }
    }

    fn want_host(&mut self, name: &Arc<str>, now: Instant) {
        if let Some(want) = self.demands.hosts.get_mut(name) {
            want.used = now;
            return;
        }
        let table = self.tables.get(table_of(name));
        if table.is_none_or(|table| table.vhds.is_none()) {
            return;
        }
        if self.demands.hosts.len() >= MOST
            && let Some(oldest) = remove_oldest(&mut self.demands.hosts, |_| true)
        {
            self.drop_host(&oldest);
        }
        self.demands.hosts.insert(Arc::clone(name), Want::new(now));
    }

    fn want_cluster(&mut self, name: &Arc<str>, now: Instant) {
        if let Some(want) = self.demands.clusters.get_mut(name) {
            want.used = now;
            return;
        }
        if self.handles.contains_key(name) || self.demands.behind_hosts.contains_key(name) {
            return;
        }
        if self.demands.clusters.len() >= MOST
            && let Some(oldest) = remove_oldest(&mut self.demands.clusters, |_| true)
        {
            self.give_up_cluster(&oldest);
        }
        self.demands.clusters.insert(Arc::clone(name), Want::new(now));
    }

    /// Removes a cluster that no request asks for anymore, unless virtual hosts lead to it.
    fn give_up_cluster(&mut self, name: &Arc<str>) {
        if !self.demands.behind_hosts.contains_key(name) {
            self.remove_cluster(name);
        }
    }

    /// A resource could not be accepted: who waits for its first version waits in vain.
    pub(super) fn demand_refused(&mut self, kind: ResourceType, name: &str) {
        let demands = &mut self.demands;
        match kind {
            ResourceType::VirtualHost
                if demands.hosts.get(name).is_some_and(|want| want.came == Came::NotYet) =>
            {
                demands.no_host(name);
            }
            ResourceType::Cluster if !self.handles.contains_key(name) => {
                nothing(&mut demands.clusters, name);
                if let Some(behind) = demands.behind_hosts.get_mut(name) {
                    behind.nothing = true;
                }
            }
            _ => {}
        }
    }

    /// Answers those whose waiting is over. To be called when everything is published.
    pub(super) fn answer_demands(&mut self) {
        let open = std::mem::take(&mut self.demands.open);
        for wanted in open {
            match self.answer(&wanted) {
                Some(answer) => self.demands.shared.answer(&wanted, answer),
                None => self.demands.open.push(wanted),
            }
        }
    }

    fn answer(&self, wanted: &Wanted) -> Option<DemandAnswer> {
        match wanted {
            Wanted::VirtualHost(name) => match self.demands.hosts.get(name).map(|want| want.came) {
                None | Some(Came::Nothing) => Some(DemandAnswer::Nothing),
                Some(Came::NotYet) => None,
                Some(Came::There) => self.has_clusters_of(name).then_some(DemandAnswer::There),
            },
            Wanted::Cluster(name) => {
                if self.handles.contains_key(name) {
                    return Some(DemandAnswer::There);
                }
                let came = self.demands.clusters.get(name).map(|want| want.came);
                let behind = self.demands.behind_hosts.get(name).map(|behind| behind.nothing);
                match (came, behind) {
                    (Some(Came::Nothing), _) | (None, None | Some(true)) => {
                        Some(DemandAnswer::Nothing)
                    }
                    _ => None,
                }
            }
        }
    }

    /// Whether the clusters of a fetched host are there, or known not to be.
    fn has_clusters_of(&self, name: &str) -> bool {
        let Some(table) = self.tables.get(table_of(name)) else { return true };
        let host = table.vhds.as_ref().and_then(|vhds| vhds.hosts.get(name));
        let Some(host) = host.filter(|_| table.odcds) else { return true };
        host.compiled.clusters().iter().all(|cluster| {
            let nothing = self.demands.behind_hosts.get(cluster).is_none_or(|one| one.nothing);
            nothing || self.handles.contains_key(cluster)
        })
    }

    /// Gives up what was not used for long enough. Nothing is given up without a control plane:
    /// it could not be fetched again.
    pub(super) fn sweep_demands(&mut self, now: Instant) {
        if now < self.demands.swept + self.demands.interval() {
            return;
        }
        self.demands.swept = now;
        self.note_use(now);
        if !self.accepted.connected {
            return;
        }
        let idle = self.demands.idle;
        let stale = |wants: &mut HashMap<Arc<str>, Want>| -> Vec<Arc<str>> {
            wants.extract_if(|_, want| want.is_stale(now, idle)).map(|(name, _)| name).collect()
        };
        let hosts = stale(&mut self.demands.hosts);
        let clusters = stale(&mut self.demands.clusters);
        if hosts.is_empty() && clusters.is_empty() {
            return;
        }
        for name in &hosts {
            self.drop_host(name);
        }
        for name in &clusters {
            self.give_up_cluster(name);
        }
        self.publish();
        self.demands.shared.poke();
    }

    fn note_use(&mut self, now: Instant) {
        for (name, table) in &self.tables {
            let hosts = table.vhds.iter().flat_map(|vhds| &vhds.hosts);
            for (host, fetched) in hosts.filter(|(host, _)| table_of(host) == &**name) {
                let used = &fetched.compiled.host.value().used;
                if used.as_ref().is_some_and(weft_model::UseMark::take)
                    && let Some(want) = self.demands.hosts.get_mut(host)
                {
                    want.used = now;
                }
            }
        }
        for (name, want) in &mut self.demands.clusters {
            let Some(handle) = self.handles.get(name) else { continue };
            let (activity, busy) = handle.activity();
            if busy || activity != want.activity {
                (want.used, want.activity) = (now, activity);
            }
        }
    }
}
