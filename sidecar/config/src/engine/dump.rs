//! The engine's state in the shape of Envoy's `/config_dump`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value as Json, json};
use weft_telemetry::rfc3339;
use weft_xds_client::ResourceType;
use weft_xds_proto::json::to_json_with;
use weft_xds_proto::{Any, Sensitive, any_to_json};

use super::Engine;
use super::entry::{Entry, Origin, Refused, Version};

fn dump(name: &str) -> Map<String, Json> {
    let mut dump = Map::new();
    dump.insert("@type".to_owned(), format!("type.googleapis.com/envoy.admin.v3.{name}").into());
    dump
}

fn shown(any: &Any) -> Json {
    any_to_json(any, Sensitive::Redact)
}

/// A version under the key that Envoy gives resources of its type.
fn state(key: &str, raw: &Any, version: &str, at: SystemTime) -> Json {
    let mut state = Map::new();
    if !version.is_empty() {
        state.insert("version_info".to_owned(), version.into());
    }
    state.insert(key.to_owned(), shown(raw));
    state.insert("last_updated".to_owned(), rfc3339(at).into());
    Json::Object(state)
}

fn version_state<T>(key: &str, version: &Version<T>) -> Json {
    state(key, &version.raw, &version.version, version.updated)
}

fn error_state(refused: &Refused) -> Json {
    json!({
        "failed_configuration": shown(&refused.raw),
        "version_info": refused.version,
        "last_update_attempt": rfc3339(refused.at),
        "details": refused.error.to_string(),
    })
}

/// Entries in the order of their names.
fn sorted<T>(entries: &HashMap<Arc<str>, Entry<T>>) -> Vec<(&str, &Entry<T>)> {
    let mut sorted: Vec<_> = entries.iter().map(|(name, entry)| (&**name, entry)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    sorted
}

impl Engine {
    /// The whole configuration, as `/config_dump` shows it; private keys are redacted.
    #[must_use]
    pub fn dump(&self) -> Json {
        json!({ "configs": [
            self.dump_bootstrap(),
            self.dump_clusters(),
            self.dump_listeners(),
            self.dump_routes(),
            self.dump_secrets(),
            self.dump_endpoints(),
            self.dump_extensions(),
        ]})
    }

    fn version_of(&self, kind: ResourceType) -> Json {
        self.versions.get(&kind).cloned().unwrap_or_default().into()
    }

    fn dump_bootstrap(&self) -> Json {
        let mut out = dump("BootstrapConfigDump");
        let bootstrap = to_json_with(&self.bootstrap.message, Sensitive::Redact);
        out.insert("bootstrap".to_owned(), bootstrap);
        Json::Object(out)
    }

    fn dump_clusters(&self) -> Json {
        let (mut fixed, mut active, mut warming) = (Vec::new(), Vec::new(), Vec::new());
        for (_, entry) in sorted(&self.clusters) {
            let refused = entry.refused.as_ref().map(error_state);
            if let Some(version) = &entry.active {
                let mut shown = version_state("cluster", version);
                if let (Some(refused), Some(shown)) = (&refused, shown.as_object_mut()) {
                    shown.insert("error_state".to_owned(), refused.clone());
                }
                if entry.origin == Origin::Static { &mut fixed } else { &mut active }.push(shown);
            } else if let Some(refused) = refused {
                warming.push(json!({ "error_state": refused }));
            }
            warming.extend(entry.warming.as_ref().map(|v| version_state("cluster", v)));
        }
        let mut out = dump("ClustersConfigDump");
        out.insert("version_info".to_owned(), self.version_of(ResourceType::Cluster));
        out.insert("static_clusters".to_owned(), fixed.into());
        out.insert("dynamic_active_clusters".to_owned(), active.into());
        out.insert("dynamic_warming_clusters".to_owned(), warming.into());
        Json::Object(out)
    }

    fn dump_listeners(&self) -> Json {
        let (mut fixed, mut dynamic) = (Vec::new(), Vec::new());
        for (name, entry) in sorted(&self.listeners) {
            if entry.origin == Origin::Static {
                fixed.extend(entry.live().map(|version| version_state("listener", version)));
                continue;
            }
            let mut shown = Map::new();
            shown.insert("name".to_owned(), name.into());
            let states = [("active_state", &entry.active), ("warming_state", &entry.warming)];
            for (key, version) in states {
                if let Some(version) = version {
                    shown.insert(key.to_owned(), version_state("listener", version));
                }
            }
            if let Some(refused) = &entry.refused {
                shown.insert("error_state".to_owned(), error_state(refused));
            }
            dynamic.push(Json::Object(shown));
        }
        let mut out = dump("ListenersConfigDump");
        out.insert("version_info".to_owned(), self.version_of(ResourceType::Listener));
        out.insert("static_listeners".to_owned(), fixed.into());
        out.insert("dynamic_listeners".to_owned(), dynamic.into());
        Json::Object(out)
    }

    fn dump_routes(&self) -> Json {
        let mut tables: Vec<_> = self.tables.iter().collect();
        tables.sort_by_key(|(name, _)| *name);
        let dynamic: Vec<_> = tables
            .iter()
            .filter_map(|(_, table)| {
                let active = table.active.as_ref()?;
                let raw = table.vhds.as_ref().and_then(|vhds| vhds.merged(&active.raw));
                let raw = raw.as_ref().unwrap_or(&active.raw);
                Some(state("route_config", raw, &active.version, active.updated))
            })
            .collect();
        let mut out = dump("RoutesConfigDump");
        out.insert("dynamic_route_configs".to_owned(), dynamic.into());
        Json::Object(out)
    }

    fn dump_endpoints(&self) -> Json {
        let mut held: Vec<_> = self.assignments.iter().collect();
        held.sort_by_key(|(name, _)| *name);
        let dynamic: Vec<_> = held
            .iter()
            .map(|(_, held)| state("endpoint_config", &held.raw, &held.version, held.updated))
            .collect();
        let mut out = dump("EndpointsConfigDump");
        out.insert("dynamic_endpoint_configs".to_owned(), dynamic.into());
        Json::Object(out)
    }

    fn dump_extensions(&self) -> Json {
        let mut held: Vec<_> = self.extensions.iter().collect();
        held.sort_by_key(|(name, _)| *name);
        let filters: Vec<_> = held
            .iter()
            .map(|(_, held)| state("ecds_filter", &held.raw, &held.version, held.updated))
            .collect();
        let mut out = dump("EcdsConfigDump");
        out.insert("ecds_filters".to_owned(), filters.into());
        Json::Object(out)
    }

    fn dump_secrets(&self) -> Json {
        let named = |name: &str, mut shown: Json| {
            if let Some(object) = shown.as_object_mut() {
                object.insert("name".to_owned(), name.into());
            }
            shown
        };
        let fixed = self.secrets.fixed.iter();
        let fixed: Vec<_> =
            fixed.map(|(name, raw)| named(name, json!({ "secret": shown(raw) }))).collect();
        let received = self.secrets.received.iter();
        let mut active: Vec<_> = received
            .map(|(key, one)| {
                named(key.name(), state("secret", &one.raw, &one.version, one.updated))
            })
            .collect();
        active.extend(self.agent_secrets());
        let warming = self.secrets.awaited().into_iter();
        let warming: Vec<_> = warming.map(|key| json!({ "name": key.name() })).collect();
        let mut out = dump("SecretsConfigDump");
        out.insert("static_secrets".to_owned(), fixed.into());
        out.insert("dynamic_active_secrets".to_owned(), active.into());
        out.insert("dynamic_warming_secrets".to_owned(), warming.into());
        Json::Object(out)
    }

    /// What the certificate agent gave, in the form that istioctl reads.
    fn agent_secrets(&self) -> Vec<Json> {
        let Some((at, certificates)) = &self.secrets.agent else { return Vec::new() };
        let secret = |name: &str, content: (&str, Json)| {
            let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
            let mut secret = Map::new();
            secret.insert("@type".to_owned(), kind.into());
            secret.insert("name".to_owned(), name.into());
            secret.insert(content.0.to_owned(), content.1);
            json!({ "name": name, "last_updated": rfc3339(*at), "secret": secret })
        };
        let chain = pem(certificates.chain.certificates().iter().map(AsRef::as_ref));
        let roots = pem(certificates.roots.certificates().iter().map(AsRef::as_ref));
        let certificate = json!({
            "certificate_chain": { "inline_bytes": chain },
            "private_key": { "inline_string": "[redacted]" },
        });
        let validation = json!({ "trusted_ca": { "inline_bytes": roots } });
        vec![
            secret("default", ("tls_certificate", certificate)),
            secret("ROOTCA", ("validation_context", validation)),
        ]
    }
}

/// Certificates as PEM, and that as base64: the JSON form of protobuf's bytes.
fn pem<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> String {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = BASE64_STANDARD.encode(der);
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    BASE64_STANDARD.encode(text)
}
