//! A custom resource as an entry of the store.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};
use weft_control_model::{DecodeError, ResourceId, ResourceKey, ResourceKind};
use xxhash_rust::xxh64::xxh64;

/// The fields that a `spec` may have.
const PEER: [&str; 3] = ["selector", "mtls", "portLevelMtls"];
const AUTHORIZATION: [&str; 4] = ["selector", "action", "rules", "provider"];

/// A custom resource as an entry of the store.
pub(super) struct Stored {
    pub(super) key: ResourceKey,
    pub(super) value: Result<Value, DecodeError>,
}

/// The kind's name in Kubernetes.
pub(super) fn kind_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::PeerAuthentication => "PeerAuthentication",
        _ => "AuthorizationPolicy",
    }
}

impl Stored {
    pub(super) fn of(kind: ResourceKind, prefix: &str, object: &DynamicObject) -> Self {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let id = id(prefix, &namespace, &name);
        Self { key: ResourceKey::new(kind, id), value: value(kind, &namespace, &name, object) }
    }
}

/// `k8s.namespace.name`; a hash takes the place of what is too long. A namespace has no dots.
fn id(prefix: &str, namespace: &str, name: &str) -> ResourceId {
    let readable = format!("{prefix}{namespace}.{name}");
    readable.parse().unwrap_or_else(|_| {
        let hash = xxh64(readable.as_bytes(), 0);
        format!("{prefix}{hash:016x}").parse().unwrap_or_else(|_| ResourceId::unnamed())
    })
}

fn value(
    kind: ResourceKind,
    namespace: &str,
    name: &str,
    object: &DynamicObject,
) -> Result<Value, DecodeError> {
    let known: &[&str] = match kind {
        ResourceKind::PeerAuthentication => &PEER,
        _ => &AUTHORIZATION,
    };
    let spec = object.data["spec"].as_object().cloned().unwrap_or_default();
    // A field that narrows a policy must not be passed over.
    if let Some(unknown) = spec.keys().find(|field| !known.contains(&field.as_str())) {
        let reason = "is not supported".to_owned();
        return Err(DecodeError { path: format!("spec.{unknown}"), reason });
    }
    let mut fields = Map::from_iter([
        ("namespace".to_owned(), json!(namespace)),
        ("name".to_owned(), json!(name)),
        ("desc".to_owned(), json!(format!("{} {namespace}/{name}", kind_name(kind)))),
    ]);
    fields.extend(spec);
    Ok(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use kube::api::ApiResource;

    use super::*;

    fn object(name: &str, spec: &Value) -> DynamicObject {
        let resource = ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("g", "v1", "K"));
        let mut object = DynamicObject::new(name, &resource).within("shop");
        object.data = json!({ "spec": spec });
        object
    }

    #[test]
    fn ids_are_readable_or_hashes_and_always_fit() {
        let kind = ResourceKind::PeerAuthentication;
        let short = Stored::of(kind, "k8s.", &object("web.strict", &json!({})));
        assert_eq!(short.key.to_string(), "/weft/peer_authentications/k8s.shop.web.strict");
        let long = Stored::of(kind, "k8s.", &object(&"a".repeat(200), &json!({})));
        assert_eq!(long.key.id.as_str().len(), 20);
        let other = Stored::of(kind, "k8s.", &object(&"b".repeat(200), &json!({})));
        assert_ne!(long.key, other.key);
    }

    #[test]
    fn a_field_that_is_not_known_is_not_passed_over() {
        let spec = json!({"action": "DENY", "targetRefs": [{"kind": "Gateway"}]});
        let stored = Stored::of(ResourceKind::AuthorizationPolicy, "k8s.", &object("p", &spec));
        let error = stored.value.unwrap_err().to_string();
        assert!(error.starts_with("spec.targetRefs"), "{error}");
    }
}
