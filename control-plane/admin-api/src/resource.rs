//! Reading and writing resources of one kind.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::RwLockReadGuard;
use weft_control_model::{Change, ResourceId, ResourceKey, ResourceKind};
use weft_store::{Entry, Expect, Put};

use crate::check;
use crate::error::AdminError;
use crate::reply::{Reply, envelope};
use crate::request::Request;
use crate::state::AdminState;
use crate::{list, merge};

/// One kind of resources in the store.
pub(crate) struct Resource<'a> {
    state: &'a AdminState,
    kind: ResourceKind,
    /// What stands between the kind's prefix and the own id: the consumer of
    /// a credential, the manager of a secret.
    parent: String,
}

/// What a body must and may say besides its own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Put,
    Post,
    Patch,
}

impl<'a> Resource<'a> {
    /// Those that the segments of a path name; afterwards the own id, if
    /// there is one, is the second segment.
    pub(crate) fn new(
        state: &'a AdminState,
        kind: ResourceKind,
        segments: &mut Vec<String>,
    ) -> Self {
        let below = segments.get(2).map(String::as_str);
        let (kind, parent) = match (kind, segments.get(1)) {
            (ResourceKind::Consumer, Some(consumer)) if below == Some("credentials") => {
                let parent = format!("{consumer}/credentials/");
                segments.drain(..2);
                (ResourceKind::Credential, parent)
            }
            (ResourceKind::Secret, Some(manager)) => {
                let parent = format!("{manager}/");
                segments.remove(1);
                (kind, parent)
            }
            _ => (kind, String::new()),
        };
        Self { state, kind, parent }
    }

    /// Serves a request whose first segment names this kind.
    pub(crate) async fn serve(&self, request: Request) -> Result<Reply, AdminError> {
        if !allows(self.kind, &request.method) {
            let (method, kind) = (&request.method, self.kind.singular());
            return Err(AdminError::Method(format!("not supported `{method}` method for {kind}")));
        }
        self.parent_exists().await?;
        match request.method {
            Method::GET => self.read(&request).await,
            Method::PUT => self.put(request).await,
            Method::POST => self.post(request).await,
            Method::PATCH => self.patch(request).await,
            Method::DELETE => self.delete(&request).await,
            _ => Err(AdminError::NoHandler),
        }
    }

    async fn read(&self, request: &Request) -> Result<Reply, AdminError> {
        if let Some(id) = request.segments.get(1) {
            let entry = self.stored(id).await?.ok_or(AdminError::KeyNotFound)?;
            let value = self.shown(decode(&entry)?);
            return Ok(Reply::ok(envelope(&entry, &value)));
        }
        let listing = self.state.store.list(&self.key("")).await?;
        // Credentials stand among the consumers.
        let of_kind =
            |entry: &Entry| ResourceKey::parse(&entry.key).is_some_and(|key| key.kind == self.kind);
        let items = listing.entries.into_iter().filter(of_kind).map(|entry| {
            let value = self.shown(decode(&entry)?);
            Ok((entry, value))
        });
        list::reply(self.kind, &request.query, items.collect::<Result<_, AdminError>>()?)
    }

    async fn put(&self, request: Request) -> Result<Reply, AdminError> {
        let ttl = request.query.ttl()?;
        let url_id = request.segments.get(1).cloned();
        let _writing = self.writing().await;
        let (id, mut conf) = self.checked(url_id, request.body, Write::Put).await?;
        let before = self.stored(&id).await?;
        let created = before.as_ref().map(decode).transpose()?;
        let created = created.as_ref().and_then(|value| value.get("create_time")).cloned();
        if self.kind != ResourceKind::PluginMetadata {
            let now = now();
            conf.insert("create_time".to_owned(), created.unwrap_or_else(|| now.into()));
            conf.insert("update_time".to_owned(), now.into());
        }
        self.attempt(&id, &conf)?;
        let put = Put { ttl, ..Put::new(self.key(&id), json!(conf).to_string()) };
        let written = self.state.store.put(put).await?;
        let created = written.created == written.revision;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.written(status, &id, conf))
    }

    async fn post(&self, request: Request) -> Result<Reply, AdminError> {
        let ttl = request.query.ttl()?;
        let url_id = request.segments.get(1).cloned();
        let _writing = self.writing().await;
        let (_, mut conf) = self.checked(url_id, request.body, Write::Post).await?;
        let id = self.state.store.new_id().await?;
        let now = now();
        conf.insert("id".to_owned(), json!(id));
        conf.insert("create_time".to_owned(), now.into());
        conf.insert("update_time".to_owned(), now.into());
        self.attempt(&id, &conf)?;
        let put = Put { ttl, ..Put::new(self.key(&id), json!(conf).to_string()) };
        self.state.store.put(put).await?;
        Ok(self.written(StatusCode::CREATED, &id, conf))
    }

    async fn patch(&self, mut request: Request) -> Result<Reply, AdminError> {
        let ttl = request.query.ttl()?;
        let id = request.segments.get(1).cloned().ok_or_else(|| self.missing_id())?;
        let patch = request.body.take();
        let patch = patch.ok_or_else(|| AdminError::invalid("missing new configuration"))?;
        let path = request.segments.split_off(2);
        if path.is_empty() && !(patch.is_object() || patch.is_array()) {
            return Err(AdminError::invalid("invalid configuration"));
        }
        let _writing = self.writing().await;
        let entry = self.stored(&id).await?.ok_or(AdminError::KeyNotFound)?;
        let value = patched(decode(&entry)?, &path, patch)?;
        let (_, conf) = self.checked(Some(id.clone()), Some(value), Write::Patch).await?;
        self.attempt(&id, &conf)?;
        let expect = Expect::Unchanged(entry.modified);
        let put = Put { ttl, expect, ..Put::new(self.key(&id), json!(conf).to_string()) };
        self.state.store.put(put).await?;
        Ok(self.written(StatusCode::OK, &id, conf))
    }

    async fn delete(&self, request: &Request) -> Result<Reply, AdminError> {
        let id = request.segments.get(1).ok_or_else(|| self.missing_id())?;
        let _alone = self.state.writes.write().await;
        if request.query.get("force") != Some("true") {
            check::unreferenced(&*self.state.store, self.kind, id).await?;
        }
        let key = self.key(id);
        let deleted = match self.own_key(id) {
            Some(_) => self.state.store.delete(&key, Expect::Anything).await?,
            None => None,
        };
        deleted.ok_or(AdminError::KeyNotFound)?;
        if self.kind == ResourceKind::Consumer {
            for entry in self.state.store.list(&format!("{key}/credentials/")).await?.entries {
                self.state.store.delete(&entry.key, Expect::Anything).await?;
            }
        }
        Ok(Reply::ok(json!({"key": key, "deleted": "1"})))
    }

    /// Checks a body against everything; its id and what is to be stored.
    async fn checked(
        &self,
        url_id: Option<String>,
        body: Option<Value>,
        write: Write,
    ) -> Result<(String, Map<String, Value>), AdminError> {
        let body = body.ok_or_else(|| AdminError::invalid("missing configurations"))?;
        let mut conf = fields(body)?;
        let id = self.reconcile_id(url_id, &mut conf, write)?;
        if write != Write::Patch {
            forbid_times(&conf)?;
        }
        let key = self.own_key(&id);
        let of_new = || ResourceKey::new(self.kind, ResourceId::unnamed());
        let checked = key.clone().unwrap_or_else(of_new);
        check::resource(&*self.state.store, &checked, &conf).await?;
        if key.is_none() && write != Write::Post {
            return Err(AdminError::invalid(format!("wrong {} id", self.kind.singular())));
        }
        Ok((id, conf))
    }

    /// Tries out whether what is to be stored can be served.
    fn attempt(&self, id: &str, conf: &Map<String, Value>) -> Result<(), AdminError> {
        let (Some(trial), Some(key)) = (&self.state.trial, self.own_key(id)) else {
            return Ok(());
        };
        if !self.kind.has_effect() {
            return Ok(());
        }
        let value = Some(Value::Object(conf.clone()));
        let change = Change { key, value, created: u64::MAX, modified: u64::MAX };
        trial.attempt(&change).map_err(AdminError::configuration)
    }

    /// The id of URL and body, which is put into the body; empty for POST.
    fn reconcile_id(
        &self,
        url_id: Option<String>,
        conf: &mut Map<String, Value>,
        write: Write,
    ) -> Result<String, AdminError> {
        let kind = self.kind.singular();
        match self.kind {
            ResourceKind::Consumer => return username(url_id, conf),
            ResourceKind::PluginMetadata if url_id.is_none() => {
                return Err(AdminError::invalid("missing plugin name"));
            }
            _ => {}
        }
        // A secret's own id names its manager too.
        let before = if self.kind == ResourceKind::Secret { self.parent.as_str() } else { "" };
        let body_id = conf.get("id").map(plain);
        let body_id = body_id.map(|id| id.strip_prefix(before).unwrap_or(&id).to_owned());
        if write == Write::Post {
            return match url_id.or(body_id) {
                None => Ok(String::new()),
                Some(_) => Err(AdminError::invalid(format!("wrong {kind} id, do not need it"))),
            };
        }
        match (url_id, body_id) {
            (None, None) => Err(self.missing_id()),
            (None, Some(id)) => Ok(id),
            (Some(url), Some(body)) if url != body => {
                Err(AdminError::invalid(format!("wrong {kind} id")))
            }
            (Some(url), _) => {
                conf.insert("id".to_owned(), json!(format!("{before}{url}")));
                Ok(url)
            }
        }
    }

    async fn stored(&self, id: &str) -> Result<Option<Entry>, AdminError> {
        // What is no id can't be stored, and its key could be another's.
        if self.own_key(id).is_none() {
            return Ok(None);
        }
        Ok(self.state.store.get(&self.key(id)).await?)
    }

    async fn writing(&self) -> RwLockReadGuard<'a, ()> {
        self.state.writes.read().await
    }

    fn key(&self, id: &str) -> String {
        format!("{}{}{id}", self.kind.prefix(), self.parent)
    }

    fn own_key(&self, id: &str) -> Option<ResourceKey> {
        let id = self.kind.id(&format!("{}{id}", self.parent))?;
        Some(ResourceKey::new(self.kind, id))
    }

    /// A credential needs its consumer.
    async fn parent_exists(&self) -> Result<(), AdminError> {
        let Some(consumer) = self.parent.strip_suffix("/credentials/") else {
            return Ok(());
        };
        let known = match ResourceKind::Consumer.id(consumer) {
            Some(id) => {
                let key = ResourceKey::new(ResourceKind::Consumer, id).to_string();
                self.state.store.get(&key).await?.is_some()
            }
            None => false,
        };
        if known { Ok(()) } else { Err(AdminError::Unknown("consumer not found".to_owned())) }
    }

    fn missing_id(&self) -> AdminError {
        AdminError::invalid(format!("missing {} id", self.kind.singular()))
    }

    fn written(&self, status: StatusCode, id: &str, conf: Map<String, Value>) -> Reply {
        let warning = self.warning(&conf);
        let reply = Reply::written(status, &self.key(id), &self.shown(Value::Object(conf)));
        Reply { warning, ..reply }
    }

    /// What of it has no effect on traffic.
    fn warning(&self, conf: &Map<String, Value>) -> Option<String> {
        if !self.kind.has_effect() {
            let kind = self.kind.directory();
            return Some(format!("{kind} are stored and have no effect on traffic yet"));
        }
        if self.kind == ResourceKind::PluginMetadata {
            let name = conf.get("id").and_then(Value::as_str).unwrap_or_default();
            let used =
                weft_plugins::definition(name).is_some_and(|plugin| plugin.metadata.is_some());
            return (!used).then(|| format!("metadata of {name} has no effect on traffic"));
        }
        // What Envoy does instead of a plugin belongs to routes.
        if !matches!(
            self.kind,
            ResourceKind::Consumer
                | ResourceKind::Credential
                | ResourceKind::ConsumerGroup
                | ResourceKind::GlobalRule
        ) {
            return None;
        }
        let plugins = conf.get("plugins").and_then(Value::as_object)?;
        let idle = plugins.keys().filter(|name| weft_plugins::definition(name).is_none());
        let idle: Vec<_> = idle.map(String::as_str).collect();
        let (kind, names) = (self.kind.directory(), idle.join(", "));
        (!idle.is_empty()).then(|| format!("{names} in {kind} has no effect on traffic yet"))
    }

    /// The value without its private keys.
    fn shown(&self, mut value: Value) -> Value {
        if let (ResourceKind::Ssl, Some(fields)) = (self.kind, value.as_object_mut()) {
            fields.remove("key");
            fields.remove("keys");
        }
        for path in ["/tls", "/upstream/tls"] {
            if let Some(Value::Object(tls)) = value.pointer_mut(path) {
                tls.remove("client_key");
            }
        }
        value
    }
}

/// APISIX's methods of a kind.
fn allows(kind: ResourceKind, method: &Method) -> bool {
    let without: &[Method] = match kind {
        ResourceKind::Consumer | ResourceKind::Credential | ResourceKind::PluginMetadata => {
            &[Method::POST, Method::PATCH]
        }
        ResourceKind::ConsumerGroup
        | ResourceKind::PluginConfig
        | ResourceKind::GlobalRule
        | ResourceKind::Secret => &[Method::POST],
        ResourceKind::Proto | ResourceKind::StreamRoute => &[Method::PATCH],
        _ => &[],
    };
    !without.contains(method)
}

/// The name of a consumer, which is its id; the schema says if it is missing.
fn username(url: Option<String>, conf: &Map<String, Value>) -> Result<String, AdminError> {
    let name = conf.get("username").map(plain).unwrap_or_default();
    match url {
        Some(url) if url != name && !name.is_empty() => Err(AdminError::invalid("wrong username")),
        _ => Ok(name),
    }
}

/// The stored value after a PATCH.
fn patched(mut value: Value, path: &[String], patch: Value) -> Result<Value, AdminError> {
    let time_given =
        path.is_empty() && patch.get("update_time").is_some_and(|time| !time.is_null());
    match patch {
        patch if !path.is_empty() => merge::replace_at(&mut value, path, patch)?,
        Value::Object(patch) => {
            let fields = value.as_object_mut();
            merge::merge(
                fields.ok_or_else(|| AdminError::invalid("invalid configuration"))?,
                patch,
            );
        }
        _ => return Err(AdminError::invalid("invalid configuration")),
    }
    if !time_given && let Some(fields) = value.as_object_mut() {
        fields.insert("update_time".to_owned(), now().into());
    }
    Ok(value)
}

/// `create_time` and `update_time` are the store's, also in nested objects.
fn forbid_times(conf: &Map<String, Value>) -> Result<(), AdminError> {
    let nested = |name| conf.get(name).and_then(Value::as_object);
    let places =
        [("", Some(conf)), ("upstream.", nested("upstream")), ("plugins.", nested("plugins"))];
    for (place, fields) in places {
        let found = fields.and_then(|fields| {
            ["create_time", "update_time"].into_iter().find(|name| fields.contains_key(*name))
        });
        if let Some(name) = found {
            let message = format!("the property is forbidden:  {place}{name}");
            return Err(AdminError::invalid(message));
        }
    }
    Ok(())
}

fn fields(body: Value) -> Result<Map<String, Value>, AdminError> {
    match body {
        Value::Object(fields) => Ok(fields),
        Value::Array(items) if items.is_empty() => Ok(Map::new()),
        other => Err(AdminError::configuration(crate::schema::wrong_type("object", &other))),
    }
}

fn decode(entry: &Entry) -> Result<Value, AdminError> {
    let value = serde_json::from_slice(&entry.value);
    value.map_err(|error| {
        AdminError::Store(weft_store::StoreError::Engine(format!("{}: {error}", entry.key)))
    })
}

/// A string as it is, anything else as its JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
