//! The ports for stream routes, in APISIX's words (`apisix.stream_proxy` of its `config.yaml`).

use serde::{Deserialize, Deserializer, de};
use weft_translate::StreamPort;

/// The ports on which edges serve stream routes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamProxyConfig {
    /// `tcp`: numbers, `"9100-9110"`, or `{addr: 9100, tls: true}`.
    #[serde(deserialize_with = "ports")]
    pub tcp: Vec<StreamPort>,
    /// `udp`: none may be named, since UDP is not forwarded yet.
    #[serde(deserialize_with = "no_ports")]
    pub udp: (),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Listen {
    Number(u16),
    Text(String),
    Full {
        addr: Box<Listen>,
        #[serde(default)]
        tls: bool,
    },
}

fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<StreamPort>, D::Error> {
    let listed = Vec::<Listen>::deserialize(deserializer)?;
    let ports = listed.into_iter().map(|listen| listen.ports(false));
    Ok(ports.collect::<Result<Vec<_>, _>>().map_err(de::Error::custom)?.concat())
}

fn no_ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let listed = Vec::<de::IgnoredAny>::deserialize(deserializer)?;
    let reason = "stream_proxy.udp: UDP is not forwarded yet";
    if listed.is_empty() { Ok(()) } else { Err(de::Error::custom(reason)) }
}

impl Listen {
    fn ports(self, tls: bool) -> Result<Vec<StreamPort>, String> {
        match self {
            Self::Full { addr, tls } => addr.ports(tls),
            Self::Number(0) => Err("stream_proxy.tcp: 0 is no port".to_owned()),
            Self::Number(port) => Ok(vec![StreamPort { port, tls }]),
            Self::Text(text) => {
                let wrong = || format!("stream_proxy.tcp: {text:?} is neither port nor range");
                let number = |text: &str| text.trim().parse().ok().filter(|&port: &u16| port > 0);
                let (first, last) = text.split_once('-').unwrap_or((&text, &text));
                let bounds = number(first).zip(number(last)).filter(|(first, last)| first <= last);
                let (first, last) = bounds.ok_or_else(wrong)?;
                Ok((first..=last).map(|port| StreamPort { port, tls }).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<StreamProxyConfig, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_are_numbers_ranges_and_such_with_tls() {
        let ports = config("tcp: [9100, '9200-9201', {addr: 9300, tls: true}]").expect("valid").tcp;
        let ports: Vec<_> = ports.into_iter().map(|one| (one.port, one.tls)).collect();
        assert_eq!(ports, [(9100, false), (9200, false), (9201, false), (9300, true)]);
        assert!(config("udp: []").is_ok());
    }

    #[test]
    fn what_is_no_port_or_not_forwarded_is_named() {
        for (text, named) in [
            ("tcp: ['9-1']", "9-1"),
            ("tcp: [0]", "0 is no port"),
            ("udp: [9100]", "UDP is not forwarded yet"),
        ] {
            let error = config(text).expect_err(text);
            assert!(error.contains(named), "{error}");
        }
    }
}
