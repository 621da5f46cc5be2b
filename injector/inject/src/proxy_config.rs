//! `proxy.istio.io/config`: Istio's ProxyConfig, as far as it means something here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::annotations::Found;
use crate::options::Refusal;

/// What a pod's ProxyConfig says; what is `None` is left to the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProxyConfig {
    pub(crate) concurrency: Option<u32>,
    pub(crate) hold_application: Option<bool>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) discovery_address: Option<String>,
    pub(crate) drain_seconds: Option<u32>,
    pub(crate) status_port: Option<u16>,
    pub(crate) interception_mode: Option<String>,
    /// Fields that change nothing here.
    pub(crate) without_effect: Vec<String>,
}

impl ProxyConfig {
    pub(crate) fn read(found: Found<'_>) -> Result<Self, Refusal> {
        let refuse = |reason: String| Refusal::of(found.name, reason);
        let value: Value =
            serde_saphyr::from_str(found.value).map_err(|error| refuse(error.to_string()))?;
        let Value::Object(fields) = value else {
            return Err(refuse("is no YAML object".to_owned()));
        };
        let mut config = Self::default();
        for (field, value) in &fields {
            config.take(field, value).map_err(|reason| refuse(format!("{field}: {reason}")))?;
        }
        Ok(config)
    }

    fn take(&mut self, field: &str, value: &Value) -> Result<(), String> {
        match field {
            "concurrency" => self.concurrency = Some(number(value)?),
            "holdApplicationUntilProxyStarts" => self.hold_application = Some(boolean(value)?),
            "proxyMetadata" => self.environment = texts(value)?,
            "discoveryAddress" => self.discovery_address = Some(text(value)?),
            "terminationDrainDuration" => self.drain_seconds = Some(seconds(&text(value)?)?),
            "statusPort" => {
                self.status_port = Some(u16::try_from(number(value)?).map_err(|_| "is no port")?);
            }
            "interceptionMode" => self.interception_mode = Some(text(value)?),
            other => self.without_effect.push(other.to_owned()),
        }
        Ok(())
    }
}

fn number(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no number from 0 on"))
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no text"))
}

fn texts(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let all: &Map<String, Value> = value.as_object().ok_or("is no object of texts")?;
    all.iter()
        .map(|(key, value)| match value {
            Value::String(value) => Ok((key.clone(), value.clone())),
            Value::Bool(_) | Value::Number(_) => Ok((key.clone(), value.to_string())),
            _ => Err(format!("{key} is no text")),
        })
        .collect()
}

/// Whole seconds of a duration as Go writes it: `5s`, `1m30s`.
fn seconds(text: &str) -> Result<u32, String> {
    let bad = || format!("{text:?} is no duration such as 5s or 1m30s");
    let (mut total, mut rest) = (0_u32, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u32 = rest[..end].parse().map_err(|_| bad())?;
        let unit_end =
            rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| end + at);
        let factor = match &rest[end..unit_end] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "ms" => 0,
            _ => return Err(bad()),
        };
        total =
            number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<ProxyConfig, Refusal> {
        ProxyConfig::read(Found { name: "proxy.istio.io/config", value })
    }

    #[test]
    fn what_means_something_is_taken_and_the_rest_is_named() {
        let config = read(
            "concurrency: 4\nproxyMetadata:\n  ISTIO_META_DNS_CAPTURE: true\n\
             terminationDrainDuration: 1m5s\nimage: {imageType: distroless}\n",
        )
        .unwrap();
        assert_eq!(config.concurrency, Some(4));
        assert_eq!(config.environment["ISTIO_META_DNS_CAPTURE"], "true");
        assert_eq!(config.drain_seconds, Some(65));
        assert_eq!(config.without_effect, ["image"]);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_field() {
        for (value, word) in
            [("[1]", "object"), ("concurrency: x", "concurrency"), ("a: {", "proxy.istio.io")]
        {
            let error = read(value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(seconds("5").is_err() && seconds("").is_err() && seconds("5d").is_err());
    }
}
