//! The names that the proxy answers DNS queries for (NDS): one table, or a resource for each name.

use std::collections::BTreeMap;

use weft_filters::config::{FieldError, decode};
use weft_model::{NameTable, NamedHost, Slot};
use weft_xds_client::Resource;
use weft_xds_proto::names::{NameInfo, NameTable as PbNameTable};
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::struct_to_json;

use super::Engine;

/// What of a node's metadata says that it answers DNS queries, as Istio's agents name it.
const CAPTURE: &str = "DNS_CAPTURE";

/// The names, by the resources that brought them.
#[derive(Debug)]
pub(super) struct Names {
    /// Whether they are asked for.
    pub(super) wanted: bool,
    /// The node's namespace, in which Services need no more than their name.
    namespace: String,
    by_resource: BTreeMap<String, Vec<(String, NamedHost)>>,
    table: Slot<NameTable>,
}

impl Names {
    pub(super) fn of(node: &Node) -> Self {
        let metadata = node.metadata.as_ref().map(struct_to_json).unwrap_or_default();
        let text = |key: &str| metadata.get(key).and_then(serde_json::Value::as_str);
        Self {
            wanted: text(CAPTURE) == Some("true"),
            namespace: text("NAMESPACE").unwrap_or_default().to_owned(),
            by_resource: BTreeMap::new(),
            table: Slot::empty(),
        }
    }

    fn publish(&self) {
        let all = self.by_resource.values().flatten().cloned();
        self.table.set(std::sync::Arc::new(NameTable::new(all)));
    }
}

impl Engine {
    /// Where the table of names is, once the control plane has sent one.
    #[must_use]
    pub fn names(&self) -> Slot<NameTable> {
        self.dns_names.table.clone()
    }

    /// Takes a table, or the one name that the resource is called by. Publishes nothing.
    pub(super) fn add_names(&mut self, resource: &Resource) -> Result<(), FieldError> {
        let table: PbNameTable = decode(&resource.body)?;
        let mut hosts = Vec::with_capacity(table.table.len());
        for (name, info) in &table.table {
            let host = host(info).map_err(|e| e.within(&format!("table[{name:?}]")))?;
            hosts.extend(self.dns_names.spellings(name, info).map(|name| (name, host.clone())));
        }
        if let Some(info) = &table.name_info {
            hosts.push((resource.name.clone(), host(info).map_err(|e| e.within("name_info"))?));
        }
        self.dns_names.by_resource.insert(resource.name.clone(), hosts);
        Ok(())
    }

    pub(super) fn remove_names(&mut self, name: &str) {
        self.dns_names.by_resource.remove(name);
    }

    pub(super) fn publish_names(&self) {
        self.dns_names.publish();
    }
}

impl Names {
    /// The names by which a host is asked for: its own, and those that a Service of Kubernetes has
    /// besides.
    fn spellings<'a>(
        &'a self,
        name: &'a str,
        info: &'a NameInfo,
    ) -> impl Iterator<Item = String> + 'a {
        let NameInfo { shortname, namespace, .. } = info;
        let service = !shortname.is_empty() && !namespace.is_empty();
        let short = [
            (service && *namespace == self.namespace).then(|| shortname.clone()),
            service.then(|| format!("{shortname}.{namespace}")),
            service.then(|| format!("{shortname}.{namespace}.svc")),
        ];
        short.into_iter().flatten().chain([name.to_owned()])
    }
}

fn host(info: &NameInfo) -> Result<NamedHost, FieldError> {
    let address = |text: &String| {
        let bad = |_| FieldError::at("ips", format!("{text:?} is no IP address"));
        text.parse().map_err(bad)
    };
    let ports = info.ports.iter().filter_map(|one| {
        let port = u16::try_from(one.port).ok()?;
        Some((one.service.to_ascii_lowercase(), port))
    });
    Ok(NamedHost {
        addresses: info.ips.iter().map(address).collect::<Result<_, _>>()?,
        ports: ports.collect(),
    })
}
