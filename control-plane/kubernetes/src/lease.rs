//! One of several acts: who holds a Lease (coordination.k8s.io).

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed, or tried for.
const PERIOD: Duration = Duration::from_secs(5);

/// A lease that one program at a time holds.
#[derive(Clone)]
pub struct Lease {
    api: Api<LeaseObject>,
    name: String,
    holder: String,
}

/// What was seen of another's lease: it is over when it stays the same for its duration, whatever
/// the clocks of the two machines say.
#[derive(Default)]
struct Seen {
    record: Option<(String, Option<MicroTime>)>,
    since: Option<Instant>,
}

impl Lease {
    /// The lease `name` in `namespace`, held under the name of `holder`, which nobody else has.
    pub fn new(client: Client, namespace: &str, name: &str, holder: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), holder: holder.to_owned() }
    }

    /// Does `work` while the lease is held, for as long as it is polled. It is dropped when the
    /// lease can't be renewed in time, and begins anew when it is held again.
    pub async fn while_held<F: Future<Output = ()>>(&self, mut work: impl FnMut() -> F) {
        let mut seen = Seen::default();
        loop {
            match self.try_hold(&mut seen).await {
                Ok(true) => {
                    tracing::info!(lease = %self.name, "held");
                    tokio::select! {
                        () = work() => return,
                        () = self.until_lost(&mut seen) => {}
                    }
                    tracing::warn!(lease = %self.name, "lost");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = %self.name, %error, "can't be asked for"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn until_lost(&self, seen: &mut Seen) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(PERIOD).await;
            let left = (DURATION - PERIOD).saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left.max(Duration::from_millis(1)), self.try_hold(seen))
                .await
            {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = %self.name, %error, "can't be renewed"),
                Err(_) => {}
            }
            // Before others may take it for over.
            if renewed.elapsed() + PERIOD >= DURATION {
                return;
            }
        }
    }

    /// Takes or renews the lease; whether it is held now.
    async fn try_hold(&self, seen: &mut Seen) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = LeaseObject { metadata, spec: Some(self.spec(None)) };
            return granted(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder != self.holder && !holder.is_empty() && !seen.is_over(&holder, &spec) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(&spec)));
        // Its resourceVersion goes along: of two who try, one is refused.
        granted(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let own = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.holder));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: own.map_or(now.clone(), |spec| spec.acquire_time.clone()),
            renew_time: now,
            lease_transitions: Some(transitions + i32::from(before.is_some() && own.is_none())),
            ..LeaseSpec::default()
        }
    }
}

impl Seen {
    fn is_over(&mut self, holder: &str, spec: &LeaseSpec) -> bool {
        let record = Some((holder.to_owned(), spec.renew_time.clone()));
        if self.record != record {
            self.record = record;
            self.since = Some(Instant::now());
            return false;
        }
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        self.since.is_some_and(|since| since.elapsed() > duration)
    }
}

/// Somebody else was faster: that is no error.
fn granted(result: Result<LeaseObject, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
