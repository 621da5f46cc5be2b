//! What is intercepted.

use ipnet::IpNet;

use super::Refusal;
use crate::annotations::{self, Annotations, Found, Name};
use crate::settings::{PortDefaults, Settings};

/// The pod's words before the mesh's, all validated.
pub(super) fn read(all: Annotations<'_>, settings: &Settings) -> Result<PortDefaults, Refusal> {
    let mesh = &settings.capture;
    Ok(PortDefaults {
        include_outbound_ip_ranges: list(
            all,
            annotations::INCLUDE_OUTBOUND_RANGES,
            &mesh.include_outbound_ip_ranges,
            ranges_or_all,
        )?,
        exclude_outbound_ip_ranges: list(
            all,
            annotations::EXCLUDE_OUTBOUND_RANGES,
            &mesh.exclude_outbound_ip_ranges,
            ranges,
        )?,
        include_outbound_ports: list(
            all,
            annotations::INCLUDE_OUTBOUND_PORTS,
            &mesh.include_outbound_ports,
            ports,
        )?,
        exclude_outbound_ports: list(
            all,
            annotations::EXCLUDE_OUTBOUND_PORTS,
            &mesh.exclude_outbound_ports,
            ports,
        )?,
        include_inbound_ports: list(
            all,
            annotations::INCLUDE_INBOUND_PORTS,
            &mesh.include_inbound_ports,
            ports_or_all,
        )?,
        exclude_inbound_ports: list(
            all,
            annotations::EXCLUDE_INBOUND_PORTS,
            &mesh.exclude_inbound_ports,
            ports,
        )?,
    })
}

/// Whether traffic is intercepted at all.
pub(super) fn intercepts(all: Annotations<'_>, config: Option<&str>) -> Result<bool, Refusal> {
    let config = config.map(|value| Found { name: annotations::PROXY_CONFIG.istio, value });
    let Some(found) = all.find(annotations::INTERCEPTION_MODE).or(config) else { return Ok(true) };
    match found.value {
        "REDIRECT" => Ok(true),
        "NONE" => Ok(false),
        "TPROXY" => Err(Refusal::of(found.name, "TPROXY is not supported yet: use REDIRECT")),
        other => Err(Refusal::of(found.name, format!("{other:?} is none of REDIRECT and NONE"))),
    }
}

/// The newer of the two names wins.
pub(super) fn virtual_interfaces(all: Annotations<'_>) -> String {
    let found = all
        .find(annotations::REROUTE_INTERFACES)
        .or_else(|| all.find(annotations::KUBEVIRT_INTERFACES));
    found.map_or_else(String::new, |found| found.value.to_owned())
}

fn list(
    all: Annotations<'_>,
    name: Name,
    default: &str,
    check: fn(&str) -> Result<(), String>,
) -> Result<String, Refusal> {
    let found = all.find(name).unwrap_or(Found { name: name.weft, value: default });
    check(found.value).map_err(|reason| Refusal::of(found.name, reason))?;
    let items = found.value.split(',').map(str::trim).filter(|item| !item.is_empty());
    Ok(items.collect::<Vec<_>>().join(","))
}

fn ranges_or_all(text: &str) -> Result<(), String> {
    if text.trim() == "*" { Ok(()) } else { ranges(text) }
}

fn ports_or_all(text: &str) -> Result<(), String> {
    if text.trim() == "*" { Ok(()) } else { ports(text) }
}

fn ranges(text: &str) -> Result<(), String> {
    each(text, |item| item.parse::<IpNet>().is_ok(), "range such as 10.0.0.0/8")
}

fn ports(text: &str) -> Result<(), String> {
    each(text, |item| matches!(item.parse::<u16>(), Ok(1..)), "port")
}

fn each(text: &str, fits: impl Fn(&str) -> bool, what: &str) -> Result<(), String> {
    let mut items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    match items.find(|item| !fits(item)) {
        Some(item) => Err(format!("{item:?} is no {what}")),
        None => Ok(()),
    }
}
