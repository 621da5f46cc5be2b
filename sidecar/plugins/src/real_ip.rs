//! `real-ip`: the client's address, as a proxy in front of this one tells it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::ip_restriction::{contains, network};
use crate::plugin::{Plugin, Step};

pub(crate) const DEFINITION: Definition = Definition::new(
    "real-ip",
    23000,
    r#"{
        "type": "object",
        "properties": {
            "trusted_addresses": {
                "type": "array", "items": {"type": "string"}, "minItems": 1
            },
            "source": {"type": "string", "minLength": 1},
            "recursive": {"type": "boolean", "default": false}
        },
        "required": ["source"]
    }"#,
    compile,
);

#[derive(Debug)]
struct RealIp {
    trusted: Option<Vec<IpNet>>,
    source: String,
    recursive: bool,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        trusted_addresses: Option<Vec<String>>,
        source: String,
        recursive: bool,
    }
    let raw: Raw = decode(settings)?;
    let networks = |list: Vec<String>| list.iter().map(|text| network(text)).collect();
    let trusted = raw.trusted_addresses.map(networks).transpose()?;
    Ok(Arc::new(RealIp { trusted, source: raw.source, recursive: raw.recursive }))
}

impl Plugin for RealIp {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let peer = exchange.cx.connection.remote.ip();
        if self.trusted.as_ref().is_some_and(|trusted| !contains(trusted, peer)) {
            return Step::Continue;
        }
        if let Some((address, port)) = self.told(exchange).as_deref().and_then(parse) {
            let port = port.unwrap_or_else(|| exchange.cx.remote.port());
            exchange.cx.remote = SocketAddr::new(address, port);
        }
        Step::Continue
    }
}

impl RealIp {
    fn told(&self, exchange: &Exchange<'_>) -> Option<String> {
        if self.source != "http_x_forwarded_for" {
            return exchange.variable(&self.source);
        }
        let last = exchange.head.headers.get_all("x-forwarded-for").iter().next_back()?;
        let mut hops: Vec<_> = last.to_str().ok()?.split(',').map(str::trim).collect();
        // The connection manager added whom it sees; that is no news.
        let peer = exchange.cx.connection.remote.ip().to_string();
        if hops.len() > 1 && hops.last() == Some(&peer.as_str()) {
            hops.pop();
        }
        let trusted = self.trusted.as_deref().filter(|_| self.recursive).unwrap_or_default();
        let is_trusted =
            |hop: &str| hop.parse().is_ok_and(|address: IpAddr| contains(trusted, address));
        let told = hops.iter().rev().find(|hop| !is_trusted(hop)).or(hops.first());
        told.map(|hop| (*hop).to_owned())
    }
}

/// An address, with or without a port.
fn parse(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() > 0).then_some((address.ip(), Some(address.port())));
    }
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    plain.parse().ok().map(|address| (address, None))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn the_address_is_taken_from_where_the_settings_say() {
        let forwarded = "http_x_forwarded_for";
        for (settings, header, expected) in [
            (json!({"source": "arg_ip"}), "", "10.9.9.9:40000"),
            (json!({"source": forwarded}), "1.1.1.1, 2.2.2.2", "2.2.2.2:40000"),
            (json!({"source": forwarded}), "1.1.1.1, 192.0.2.1", "1.1.1.1:40000"),
            (
                json!({"source": forwarded, "trusted_addresses": ["10.0.0.0/8"]}),
                "1.1.1.1",
                "192.0.2.1:40000",
            ),
            (
                json!({"source": forwarded, "trusted_addresses": ["192.0.2.0/24", "2.2.2.0/24"], "recursive": true}),
                "1.1.1.1, 3.3.3.3:80, 2.2.2.2",
                "3.3.3.3:80",
            ),
            (json!({"source": "http_x_forwarded_for"}), "[::1]", "[::1]:40000"),
            (json!({"source": "http_x_forwarded_for"}), "nonsense", "192.0.2.1:40000"),
        ] {
            let case = Case::new("real-ip", settings.clone()).get("/?ip=10.9.9.9");
            let outcome = case.header("x-forwarded-for", header).run();
            outcome.passes();
            assert_eq!(outcome.cx().remote.to_string(), expected, "{settings}");
        }
    }
}
