//! etcd as the store, in APISIX's own layout, so that an existing APISIX etcd
//! can be pointed at and several control planes share one.
//!
//! Reads and writes ask etcd; while no member answers, reads are answered
//! from what was known last, and writes fail. Changes come from one stream of
//! watches for the whole process (see `mirror`).

mod api;
mod cluster;
mod config;
mod mirror;
mod sealed;
mod transport;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use api::{
    Compare, CompareTarget, CompareValue, DeleteRangeRequest, KeyValue, LeaseGrantRequest,
    LeaseGrantResponse, PutRequest, RangeRequest, RangeResponse, Request, Response, TxnRequest,
    TxnResponse,
};
use cluster::{Cluster, Repeat};
use config::Layout;
pub use config::{EtcdConfig, EtcdTls, EtcdUser};
use mirror::Mirror;
use sealed::Keyring;

use crate::history::History;
use crate::{
    Entry, Expect, Listing, OpenError, Put, Revision, Store, StoreError, Watch, WatchError, Written,
};

/// How often etcd is asked at the start before that fails (APISIX's `startup_retry`).
const START_ATTEMPTS: u32 = 3;
/// The pause between these.
const START_PAUSE: Duration = Duration::from_secs(1);

/// A store in etcd.
pub struct EtcdStore {
    etcd: Arc<Etcd>,
    history: Arc<History>,
    following: JoinHandle<()>,
}

/// What reads, writes and the watch have in common.
struct Etcd {
    cluster: Cluster,
    layout: Layout,
    keyring: Keyring,
    mirror: Mirror,
}

impl EtcdStore {
    /// Reads what etcd holds and follows it.
    ///
    /// # Errors
    /// [`OpenError::Etcd`]: the configuration is wrong, or no member answers.
    pub async fn open(config: &EtcdConfig) -> Result<Self, OpenError> {
        let layout = Layout::new(&config.prefix);
        if !layout.is_sound() {
            let reason =
                format!("the prefix {:?} is no path of its own, like /apisix", config.prefix);
            return Err(OpenError::Etcd(reason));
        }
        let keyring = Keyring::new(&config.keyring).map_err(OpenError::Etcd)?;
        let etcd =
            Etcd { keyring, cluster: Cluster::new(config)?, layout, mirror: Mirror::default() };
        let listing = etcd.read_at_start().await?;
        let history = Arc::new(History::new(listing.revision));
        etcd.mirror.replace(listing);
        let etcd = Arc::new(etcd);
        let following = mirror::follow(Arc::clone(&etcd), Arc::clone(&history));
        Ok(Self { etcd, history, following: tokio::spawn(following) })
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Store for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move {
            match self.etcd.get(key).await {
                Err(StoreError::Unavailable(_)) => Ok(self.etcd.mirror.get(key)),
                result => result,
            }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, StoreError>> {
        Box::pin(async move {
            match self.etcd.list(prefix).await {
                Err(StoreError::Unavailable(_)) => Ok(self.etcd.mirror.list(prefix)),
                result => result,
            }
        })
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(self.etcd.put(put))
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Option<Revision>, StoreError>> {
        Box::pin(self.etcd.delete(key, expect))
    }

    fn watch(&self, prefix: &str, revision: Revision) -> Result<Watch, WatchError> {
        self.history.watch(prefix, revision)
    }
}

impl Etcd {
    async fn read_at_start(&self) -> Result<Listing, OpenError> {
        let mut attempt = 1;
        loop {
            match self.read_all().await {
                Ok(listing) => return Ok(listing),
                Err(StoreError::Unavailable(reason)) if attempt < START_ATTEMPTS => {
                    tracing::warn!(%reason, attempt, "etcd doesn't answer");
                    tokio::time::sleep(START_PAUSE).await;
                    attempt += 1;
                }
                Err(error) => return Err(OpenError::Etcd(error.to_string())),
            }
        }
    }

    /// Both folders at one revision.
    async fn read_all(&self) -> Result<Listing, StoreError> {
        let ranges = self.layout.folders().map(RangeRequest::prefix);
        let success = ranges.map(|range| Request::Range(range).into()).to_vec();
        let request = TxnRequest { compare: Vec::new(), success };
        let answer: TxnResponse = self.cluster.call(api::TXN, &request, Repeat::Freely).await?;
        let revision = api::revision(answer.header.as_ref());
        let ranges = answer.responses.into_iter().filter_map(|one| match one.response {
            Some(Response::Range(range)) => Some(range.kvs),
            _ => None,
        });
        Ok(self.listing(revision, ranges.flatten()))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let Some(key) = self.layout.outside(key) else { return Ok(None) };
        let request = RangeRequest { key: key.into(), range_end: Vec::new() };
        let answer: RangeResponse = self.cluster.call(api::RANGE, &request, Repeat::Freely).await?;
        Ok(answer.kvs.into_iter().find_map(|kv| self.entry(kv)))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let Some(prefix) = self.layout.outside(prefix) else {
            let mut all = self.read_all().await?;
            all.entries.retain(|entry| entry.key.starts_with(prefix));
            return Ok(all);
        };
        let request = RangeRequest::prefix(&prefix);
        let answer: RangeResponse = self.cluster.call(api::RANGE, &request, Repeat::Freely).await?;
        Ok(self.listing(api::revision(answer.header.as_ref()), answer.kvs))
    }

    fn listing(&self, revision: Revision, kvs: impl IntoIterator<Item = KeyValue>) -> Listing {
        let mut entries: Vec<_> = kvs.into_iter().filter_map(|kv| self.entry(kv)).collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Listing { revision, entries }
    }

    async fn put(&self, put: Put) -> Result<Written, StoreError> {
        let key = self.writable(&put.key)?;
        let lease = match put.ttl {
            Some(ttl) => self.lease(ttl).await?,
            None => 0,
        };
        let compare = conditions(&key, put.expect);
        let put = PutRequest { key: key.into(), value: put.value, lease, prev_kv: true };
        let answer = self.write(compare, Request::Put(put)).await?;
        let revision = api::revision(answer.header.as_ref());
        let before = answer.responses.into_iter().find_map(|one| match one.response {
            Some(Response::Put(put)) => put.prev_kv,
            _ => None,
        });
        let created = before.map_or(revision, |before| api::number(before.create_revision));
        Ok(Written { revision, created })
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Option<Revision>, StoreError> {
        let key = self.writable(key)?;
        let compare = conditions(&key, expect);
        let delete = Request::DeleteRange(DeleteRangeRequest { key: key.into() });
        let answer = self.write(compare, delete).await?;
        let deleted = answer.responses.iter().any(|one| match &one.response {
            Some(Response::DeleteRange(range)) => range.deleted > 0,
            _ => false,
        });
        Ok(deleted.then(|| api::revision(answer.header.as_ref())))
    }

    fn writable(&self, key: &str) -> Result<String, StoreError> {
        let outside = self.layout.outside(key);
        outside.ok_or_else(|| StoreError::Engine(format!("{key} is no key of this store")))
    }

    async fn write(
        &self,
        compare: Vec<Compare>,
        request: Request,
    ) -> Result<TxnResponse, StoreError> {
        let request = TxnRequest { compare, success: vec![request.into()] };
        let answer: TxnResponse = self.cluster.call(api::TXN, &request, Repeat::IfUnsent).await?;
        if answer.succeeded { Ok(answer) } else { Err(StoreError::Conflict) }
    }

    /// A lease that ends by itself; etcd counts whole seconds.
    async fn lease(&self, ttl: Duration) -> Result<i64, StoreError> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = LeaseGrantRequest { ttl: api::signed(seconds.max(1)) };
        let answer: LeaseGrantResponse =
            self.cluster.call(api::LEASE_GRANT, &request, Repeat::Freely).await?;
        Ok(answer.id)
    }
}

fn conditions(key: &str, expect: Expect) -> Vec<Compare> {
    let (target, value) = match expect {
        Expect::Anything => return Vec::new(),
        Expect::Absent => (CompareTarget::Create, CompareValue::CreateRevision(0)),
        Expect::Unchanged(revision) => {
            (CompareTarget::Mod, CompareValue::ModRevision(api::signed(revision)))
        }
    };
    vec![Compare { target: target.into(), key: key.into(), value: Some(value) }]
}

/// The keys of folders, which APISIX makes with `init_dir` or `init_etcd` as value.
fn placeholder(key: &str) -> bool {
    key.ends_with('/')
}
