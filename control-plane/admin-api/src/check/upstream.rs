//! Upstreams: nodes, hashing, certificates, references.

use serde_json::Value;
use weft_store::Store;

use super::{Checked, certificate, reference};
use crate::error::AdminError;
use crate::schema;

/// IPv6 addresses of array nodes stand in brackets.
pub(super) fn nodes(upstream: &Value) -> Checked {
    let nodes = upstream.get("nodes").and_then(Value::as_array).into_iter().flatten();
    let mut hosts = nodes.filter_map(|node| node.get("host")?.as_str());
    if hosts.any(|host| host.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Err(AdminError::configuration("IPv6 address must be enclosed with '[' and ']'"));
    }
    Ok(())
}

/// Checks an upstream that the schema found valid, with its defaults.
pub(super) async fn check(store: &dyn Store, upstream: &Value) -> Checked {
    ports(upstream)?;
    client_certificate(store, upstream).await?;
    let text = |name| upstream.get(name).and_then(Value::as_str);
    let host = text("upstream_host").unwrap_or_default();
    if text("pass_host") == Some("rewrite") && host.is_empty() {
        let message = "`upstream_host` can't be empty when `pass_host` is `rewrite`";
        return Err(AdminError::invalid(message));
    }
    let tls = upstream.get("tls");
    let inline = |name| tls.and_then(|tls| tls.get(name)?.as_str());
    if let (Some(cert), Some(key)) = (inline("client_cert"), inline("client_key")) {
        certificate::pair(cert, key).map_err(AdminError::Invalid)?;
    }
    hash_key(upstream)
}

/// Map nodes: a port is 1 to 65535.
fn ports(upstream: &Value) -> Checked {
    let nodes = upstream.get("nodes").and_then(Value::as_object);
    for address in nodes.into_iter().flat_map(|nodes| nodes.keys()) {
        let port = address.rsplit_once(':').map(|(_, port)| port);
        let digits = port.filter(|port| !port.is_empty() && !port.contains(']'));
        let Some(port) = digits.filter(|port| port.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
            return Err(AdminError::invalid(format!("invalid port {port}")));
        }
    }
    Ok(())
}

async fn client_certificate(store: &dyn Store, upstream: &Value) -> Checked {
    let Some(id) = upstream.pointer("/tls/client_cert_id").map(reference::plain) else {
        return Ok(());
    };
    let fetched = format!("failed to fetch ssl info by ssl id [{id}], ");
    let Some(ssl) = reference::fetch(store, "/apisix/ssls/", &id).await? else {
        return Err(AdminError::invalid(fetched + "response code: 404"));
    };
    if ssl.get("type").and_then(Value::as_str) != Some("client") {
        return Err(AdminError::invalid(fetched + "wrong ssl type"));
    }
    Ok(())
}

fn hash_key(upstream: &Value) -> Checked {
    let text = |name| upstream.get(name).and_then(Value::as_str);
    let hash_on = text("hash_on").unwrap_or("vars");
    if text("type") != Some("chash") || hash_on == "consumer" {
        return Ok(());
    }
    let key = upstream.get("key").ok_or_else(|| AdminError::invalid("missing key"))?;
    schema::check_hash_key(hash_on, &mut key.clone()).map_err(AdminError::configuration)
}
