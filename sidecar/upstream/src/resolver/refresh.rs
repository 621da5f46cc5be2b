//! One cluster's names, asked again and again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use weft_model::{
    ClusterHandle, DnsHost, DnsSettings, Endpoint, EndpointAddress, EndpointSet, Priority,
};

use super::names::{Answer, Names};

/// The shortest time between two questions, whatever a TTL says.
const MIN_REFRESH: Duration = Duration::from_secs(1);
/// What is added at random to each wait, at most (`dns_jitter`); a tenth of the wait if that is less.
const MAX_JITTER: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Refresh {
    cluster: Arc<ClusterHandle>,
    settings: DnsSettings,
    logical: bool,
    names: Arc<Names>,
    /// For each name what it stood for last; kept when asking fails.
    answers: Vec<Answer>,
}

impl Refresh {
    pub(super) fn new(
        cluster: Arc<ClusterHandle>,
        settings: DnsSettings,
        logical: bool,
        names: Arc<Names>,
    ) -> Self {
        let endpoints = cluster.endpoints();
        let answers = settings.hosts.iter().map(|host| remembered(host, &endpoints)).collect();
        drop(endpoints);
        Self { cluster, settings, logical, names, answers }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wait = self.ask().await;
            let Some(wait) = wait else { return };
            let jitter = MAX_JITTER.min(wait / 10);
            tokio::time::sleep(wait + jitter.mul_f64(fastrand::f64())).await;
        }
    }

    /// Asks for all names and publishes what has changed; returns when to ask again, `None` if
    /// there is nothing that could change.
    async fn ask(&mut self) -> Option<Duration> {
        let questions = self.settings.hosts.iter();
        let questions =
            questions.map(|host| self.names.addresses(&host.name, self.settings.family));
        let answers = join_all(questions).await;
        let mut ttls = Vec::new();
        let mut failed = false;
        for (at, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => {
                    ttls.extend(answer.ttl);
                    self.answers[at] = self.choose(answer, &self.answers[at]);
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(
                        cluster = %self.cluster.name(),
                        name = self.settings.hosts[at].name,
                        %error,
                        "name resolution failed; the addresses known before stay in use"
                    );
                }
            }
        }
        if !failed {
            self.cluster.stats().update_success.inc();
        }
        self.publish();
        let shortest = ttls.iter().min().copied();
        match shortest {
            None if !failed => None,
            Some(ttl) if self.settings.respect_ttl && !failed => Some(ttl.max(MIN_REFRESH)),
            _ => Some(self.settings.refresh.max(Duration::from_millis(1))),
        }
    }

    /// LOGICAL_DNS uses one address, and stays with it as long as it is among the answers.
    fn choose(&self, answer: Answer, before: &Answer) -> Answer {
        if !self.logical {
            return answer;
        }
        let known = before.addresses.first().filter(|known| answer.addresses.contains(known));
        let chosen = known.or(answer.addresses.first()).copied();
        Answer { addresses: chosen.into_iter().collect(), ttl: answer.ttl }
    }

    fn publish(&self) {
        let before = Arc::clone(&self.cluster.endpoints());
        let next = self.endpoints(&before);
        let same = before.priorities.len() == next.priorities.len()
            && before.iter().eq(next.iter())
            && before.overprovisioning_factor == next.overprovisioning_factor;
        if same {
            return;
        }
        // Made now, so that this counts as a change.
        self.cluster.stats();
        self.cluster.set_endpoints(Arc::new(next));
    }

    /// All addresses of all names, each once; endpoints that were there before are kept.
    fn endpoints(&self, before: &EndpointSet) -> EndpointSet {
        let mut seen = BTreeSet::new();
        let mut priorities: Vec<Priority> = Vec::new();
        for (host, answer) in self.settings.hosts.iter().zip(&self.answers) {
            let priority = host.priority as usize;
            if priorities.len() <= priority {
                priorities.resize_with(priority + 1, Priority::default);
            }
            for address in &answer.addresses {
                let address = SocketAddr::new(*address, host.port);
                if seen.insert(address) {
                    let endpoint = endpoint(host, address);
                    let known = before.iter().find(|known| ***known == endpoint);
                    let endpoint = known.map_or_else(|| Arc::new(endpoint), Arc::clone);
                    priorities[priority].endpoints.push(endpoint);
                }
            }
        }
        EndpointSet {
            priorities,
            overprovisioning_factor: before.overprovisioning_factor,
            drop: before.drop,
        }
    }
}

/// What a name stood for under earlier settings, in case that it can't be resolved now.
fn remembered(host: &DnsHost, endpoints: &EndpointSet) -> Answer {
    let hostname = hostname(host);
    let of_host = endpoints.iter().filter_map(|known| match known.address {
        EndpointAddress::Socket(address)
            if hostname.is_some() && known.hostname == hostname && address.port() == host.port =>
        {
            Some(address.ip())
        }
        _ => None,
    });
    Answer { addresses: of_host.collect(), ttl: None }
}

fn hostname(host: &DnsHost) -> Option<Arc<str>> {
    let named = host.name.parse::<IpAddr>().is_err().then(|| Arc::from(host.name.as_str()));
    host.like.hostname.clone().or(named)
}

fn endpoint(host: &DnsHost, address: SocketAddr) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(address),
        hostname: hostname(host),
        ..(*host.like).clone()
    }
}
