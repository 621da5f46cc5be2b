//! The mesh's hosts as names for DNS (`istio.networking.nds.v1.NameTable`).

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_xds_ads::TypeResources;
use weft_xds_proto::names::{NameInfo, NamePort, NameTable};

use crate::layer::{LayerBuilder, replace};
use crate::served::MeshHost;
use crate::settings::VirtualAddresses;

/// The name of the one resource.
const TABLE: &str = "mesh";

/// The table of names, made when somebody is sent it.
#[derive(Default)]
pub(crate) struct Names {
    generation: u64,
    set: Arc<TypeResources>,
}

impl Names {
    /// The table of a generation of the hosts.
    pub(crate) fn table(
        &mut self,
        generation: u64,
        hosts: impl FnOnce() -> BTreeMap<String, MeshHost>,
        addresses: &VirtualAddresses,
    ) -> Arc<TypeResources> {
        if self.generation != generation {
            self.generation = generation;
            let mut builder = LayerBuilder::over(&self.set);
            builder.add(TABLE, &table(hosts(), addresses));
            let table = builder.finish();
            replace(&mut self.set, table);
        }
        Arc::clone(&self.set)
    }
}

/// Each host with its virtual address, and for SRV its ports.
fn table(hosts: BTreeMap<String, MeshHost>, addresses: &VirtualAddresses) -> NameTable {
    let named = hosts.into_iter().filter_map(|(name, host)| {
        let address = addresses.get(&name)?;
        let info = NameInfo {
            ips: vec![address.to_string()],
            registry: "External".to_owned(),
            ports: ports(&host),
            ..NameInfo::default()
        };
        Some((name, info))
    });
    NameTable { table: named.collect(), name_info: None }
}

fn ports(host: &MeshHost) -> Vec<NamePort> {
    let port = |port: &u16| {
        let service = if host.tcp.contains(port) { "tcp" } else { "http" };
        NamePort { service: service.to_owned(), port: u32::from(*port) }
    };
    host.ports.iter().map(port).collect()
}
