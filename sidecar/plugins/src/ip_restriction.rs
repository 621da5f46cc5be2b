//! `ip-restriction`: lists of addresses that may, or may not, ask.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "ip-restriction",
    3000,
    r#"{
        "type": "object",
        "properties": {
            "message": {
                "type": "string", "minLength": 1, "maxLength": 1024,
                "default": "Your IP address is not allowed"
            },
            "response_code": {"type": "integer", "minimum": 403, "maximum": 404, "default": 403},
            "whitelist": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "blacklist": {"type": "array", "items": {"type": "string"}, "minItems": 1}
        },
        "oneOf": [{"required": ["whitelist"]}, {"required": ["blacklist"]}]
    }"#,
    compile,
);

#[derive(Debug)]
struct IpRestriction {
    networks: Vec<IpNet>,
    /// Whether the networks are those that may ask.
    allows: bool,
    status: u16,
    message: String,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        message: String,
        response_code: u16,
        whitelist: Option<Vec<String>>,
        blacklist: Option<Vec<String>>,
    }
    let raw: Raw = decode(settings)?;
    let allows = raw.whitelist.is_some();
    let list = raw.whitelist.or(raw.blacklist).unwrap_or_default();
    let networks = list.iter().map(|text| network(text)).collect::<Result<_, _>>()?;
    Ok(Arc::new(IpRestriction {
        networks,
        allows,
        status: raw.response_code,
        message: raw.message,
    }))
}

/// An address or a network.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| format!("invalid ip address: {text}"))
}

/// Whether an address is in one of the networks; IPv4 written as IPv6 counts as IPv4.
pub(crate) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

impl Plugin for IpRestriction {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        if contains(&self.networks, exchange.cx.remote.ip()) == self.allows {
            return Step::Continue;
        }
        Reply::message(self.status, &self.message).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Case, refused};

    #[test]
    fn only_the_listed_may_or_may_not_ask() {
        for (settings, passes) in [
            (json!({"whitelist": ["192.0.2.0/24"]}), true),
            (json!({"whitelist": ["10.0.0.1", "::1"]}), false),
            (json!({"blacklist": ["192.0.2.1"]}), false),
            (json!({"blacklist": ["192.0.3.0/24"]}), true),
        ] {
            let outcome = Case::new("ip-restriction", settings.clone()).get("/").run();
            assert_eq!(outcome.passed(), passes, "{settings}");
        }
    }

    #[test]
    fn the_refusal_is_as_configured() {
        let settings = json!({"blacklist": ["192.0.2.1"], "message": "no", "response_code": 404});
        let reply = Case::new("ip-restriction", settings).get("/").run().replies(404);
        assert_eq!(reply.text(), "{\"message\":\"no\"}\n");
    }

    #[test]
    fn wrong_settings_are_refused() {
        let one = "value should match only one schema, but matches";
        for (settings, error) in [
            (json!({}), format!("{one} none")),
            (
                json!({"whitelist": ["::1"], "blacklist": ["::1"]}),
                format!("{one} both schemas 1 and 2"),
            ),
            (json!({"whitelist": ["300.1.1.1"]}), "invalid ip address: 300.1.1.1".to_owned()),
        ] {
            assert_eq!(refused("ip-restriction", settings), error);
        }
    }
}
