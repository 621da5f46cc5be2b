//! Key sets that are fetched from their issuer (`remote_jwks`).
//!
//! The first request that needs a set fetches it and waits; all workers share what was fetched.
//! Once it is old it is fetched again in the background while the old one serves on, so that an
//! issuer's outage is not noticed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{HeaderValue, Request};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use weft_filter_api::{CalloutOptions, Callouts};
use weft_telemetry::Counter;

use super::keys::KeySet;
use crate::config::HttpTarget;

/// The longest set that is read, bytes.
const LONGEST: usize = 1 << 20;

/// `RemoteJwks`, compiled, and what was fetched.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) target: HttpTarget,
    /// `cache_duration`
    pub(super) lifetime: Duration,
    /// `async_fetch.failed_refetch_duration`: the time between fetches that fail.
    pub(super) pause: Duration,
    pub(super) fetched: Counter,
    pub(super) failed: Counter,
    pub(super) state: Mutex<State>,
    pub(super) done: Notify,
}

/// What was fetched, and when.
#[derive(Debug, Default)]
pub(super) struct State {
    keys: Option<Arc<KeySet>>,
    /// When the keys are to be fetched anew.
    due: Option<Instant>,
    fetching: bool,
}

impl Remote {
    /// The keys, as they were fetched last.
    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        self.state.lock().keys.clone()
    }

    /// Whether nothing has to be fetched.
    pub(super) fn is_fresh(&self) -> bool {
        let state = self.state.lock();
        state.keys.is_some() && state.due.is_some_and(|due| Instant::now() < due)
    }

    /// Has the keys fetched if they are old or not there, and waits if they are not there.
    pub(super) async fn refresh(self: &Arc<Self>, callouts: std::rc::Rc<dyn Callouts>) {
        let done = self.done.notified();
        let mut done = std::pin::pin!(done);
        done.as_mut().enable();
        let absent = {
            let mut state = self.state.lock();
            let absent = state.keys.is_none();
            // Without keys each request may try: none can pass.
            let due = absent || state.due.is_none_or(|due| Instant::now() >= due);
            if due && !state.fetching {
                state.fetching = true;
                tokio::task::spawn_local(Arc::clone(self).fetch(callouts));
            }
            absent
        };
        if absent {
            done.await;
        }
    }

    async fn fetch(self: Arc<Self>, callouts: std::rc::Rc<dyn Callouts>) {
        // Also if the worker ends meanwhile: others wait.
        let ending = Ending(&self);
        match self.ask(&*callouts).await {
            Ok(keys) => {
                self.fetched.inc();
                let mut state = self.state.lock();
                state.keys = Some(Arc::new(keys));
                state.due = Instant::now().checked_add(self.lifetime);
            }
            Err(reason) => {
                self.failed.inc();
                tracing::warn!(uri = %self.target.uri, reason, "no key set");
                self.state.lock().due = Instant::now().checked_add(self.pause);
            }
        }
        drop(ending);
    }

    async fn ask(&self, callouts: &dyn Callouts) -> Result<KeySet, String> {
        let uri = &self.target.uri;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri.clone();
        let host = uri.authority().map_or("", |authority| authority.as_str());
        if let Ok(host) = HeaderValue::from_str(host) {
            request.headers_mut().insert(HOST, host);
        }
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let options = CalloutOptions { timeout: self.target.timeout, limit: LONGEST };
        let answer = callouts.send(&self.target.cluster, request, options).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("the issuer answered {}", answer.status()));
        }
        KeySet::read(answer.body())
    }
}

/// The end of a fetch, whatever came of it.
struct Ending<'a>(&'a Remote);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.state.lock().fetching = false;
        self.0.done.notify_waiters();
    }
}
