//! A configuration, a registry and nodes to translate for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use weft_control_model::{
    Change, Discover, DiscoverError, Discovery, Endpoint, EndpointIdentity, Endpoints, ResourceKey,
    Resources, Role, Scheme, Workload, WorkloadAddress, WorkloadPort,
};
use weft_translate::{
    Inputs, NodeProfile, ServiceDiscovery, Settings, Translator, VirtualAddresses,
};
use weft_xds_ads::NodeResources;

/// A control plane without I/O.
pub(crate) struct World {
    pub(crate) resources: Resources,
    registry: Registry,
    pub(crate) translator: Translator,
    settings: Settings,
}

/// Endpoints by service name and the value of the label `version`.
#[derive(Default)]
struct Registry(RefCell<BTreeMap<(String, String), Endpoints>>);

impl Discover for Registry {
    fn endpoints(&self, service: &Discovery, _: Scheme) -> Result<Endpoints, DiscoverError> {
        if service.registry != "mesh" {
            return Err(DiscoverError::UnknownRegistry(service.registry.clone()));
        }
        let version = service.args.get("labels").and_then(|labels| labels["version"].as_str());
        let key = (service.service_name.clone(), version.unwrap_or_default().to_owned());
        let mut known = self.0.borrow_mut();
        Ok(known.entry(key).or_insert_with(|| Endpoints::from([])).clone())
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self {
            resources: Resources::default(),
            registry: Registry::default(),
            translator: Translator::new(settings.clone()),
            settings,
        }
    }

    /// The same for a translator that has seen nothing yet; [`Self::take_back`] undoes it.
    pub(crate) fn begun_anew(&mut self) -> Self {
        Self {
            resources: self.resources.clone(),
            registry: std::mem::take(&mut self.registry),
            translator: Translator::new(self.settings.clone()),
            settings: self.settings.clone(),
        }
    }

    pub(crate) fn take_back(&mut self, other: Self) {
        self.registry = other.registry;
    }

    /// Stores a resource: `put("routes/1", …)`, or `/weft/…` in full.
    #[expect(clippy::needless_pass_by_value, reason = "shorter calls")]
    pub(crate) fn put(&mut self, key: &str, value: Value) -> &mut Self {
        self.change(key, Some(value.clone()));
        self
    }

    pub(crate) fn delete(&mut self, key: &str) -> &mut Self {
        self.change(key, None);
        self
    }

    fn change(&mut self, key: &str, value: Option<Value>) {
        let key = if key.starts_with('/') { key.to_owned() } else { format!("/apisix/{key}") };
        let key = ResourceKey::parse(&key).expect("a key");
        let modified = self.resources.revision + 1;
        let change = Change { key, value, created: modified, modified };
        self.resources.apply(&change).expect("a valid resource");
    }

    /// Says where a service runs: addresses that end in these numbers.
    pub(crate) fn runs(&mut self, service: &str, version: &str, hosts: &[u8], port: u16) {
        let identity = EndpointIdentity {
            namespace: "demo".to_owned(),
            service_account: "greeter".to_owned(),
            labels: [("app".to_owned(), "greeter".to_owned())].into(),
        };
        let endpoints = hosts.iter().map(|&host| Endpoint {
            address: IpAddr::from([10, 0, 0, host]),
            port,
            weight: 1,
            identity: Some(identity.clone()),
            locality: None,
        });
        let key = (service.to_owned(), version.to_owned());
        self.registry.0.borrow_mut().insert(key, endpoints.collect());
    }

    pub(crate) fn update(&mut self) {
        self.translator.read(&self.resources);
        let hosts = self.translator.hosts();
        let addresses: VirtualAddresses = hosts
            .into_keys()
            .zip(1_u32..)
            .map(|(host, n)| (host, [240, 240, (n >> 8) as u8, n as u8].into()))
            .collect();
        self.translator.update(Inputs {
            resources: &self.resources,
            registry: &self.registry,
            addresses: &addresses.into(),
        });
    }

    pub(crate) fn sidecar(&mut self, ports: &[(u16, &str)]) -> NodeResources {
        self.node(&workload(Role::Sidecar, &["10.0.0.2"], ports))
    }

    pub(crate) fn edge(&mut self) -> NodeResources {
        self.node(&workload(Role::Edge, &["10.0.0.3"], &[]))
    }

    pub(crate) fn node(&mut self, workload: &Workload) -> NodeResources {
        self.update();
        self.translator.node(&NodeProfile::new(workload, workload.role == Role::Edge))
    }

    /// A sidecar that asks for services when they are called, these hosts aside.
    pub(crate) fn lean(&mut self, ports: &[(u16, &str)], hosts: &[&str]) -> NodeResources {
        self.update();
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let workload = workload(Role::Sidecar, &["10.0.0.2"], ports);
        let profile = NodeProfile::new(&workload, false);
        self.translator.node(&profile.discovering(ServiceDiscovery::OnDemand(hosts)))
    }

    /// The problems, as `key field: reason`.
    pub(crate) fn problems(&mut self) -> Vec<String> {
        self.update();
        let problems = self.translator.problems().iter();
        problems.map(|one| format!("{} {}: {}", one.key, one.field, one.reason)).collect()
    }
}

pub(crate) fn workload(role: Role, addresses: &[&str], ports: &[(u16, &str)]) -> Workload {
    let address = |text: &&str| WorkloadAddress(text.parse().expect("an address"));
    Workload {
        id: "node".to_owned(),
        namespace: "demo".to_owned(),
        service_account: "greeter".to_owned(),
        labels: [("app".to_owned(), "greeter".to_owned())].into(),
        addresses: addresses.iter().map(address).collect(),
        ports: ports
            .iter()
            .map(|&(port, protocol)| WorkloadPort {
                port,
                target_port: port,
                protocol: protocol.to_owned(),
            })
            .collect(),
        role,
        connected_since: 0,
        version: String::new(),
    }
}
