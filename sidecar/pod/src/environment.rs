//! What the injector wrote into the container's environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::bootstrap::{Bootstrap, Role};
use crate::probe::Probe;
use crate::status::Scrape;

/// Prefixes of variables that become metadata of the node, Weft's before Istio's.
const METADATA: [&str; 2] = ["ISTIO_META_", "WEFT_META_"];
/// The same, with JSON as values.
const METADATA_JSON: [&str; 2] = ["ISTIO_METAJSON_", "WEFT_METAJSON_"];

/// A variable that is missing or can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct EnvironmentError {
    /// The variable.
    pub variable: String,
    /// What is wrong.
    pub reason: String,
}

/// What the injector wrote into the container's environment.
#[derive(Debug, Clone)]
pub struct PodEnvironment {
    /// What the bootstrap file is made of.
    pub bootstrap: Bootstrap,
    /// The port for probes, metrics and commands; 0 for none.
    pub status_port: u16,
    /// The application's probes by their paths.
    pub probes: BTreeMap<String, Probe>,
    /// Where the application has metrics of its own.
    pub scrape: Option<Scrape>,
    /// Whether the proxy answers the application's DNS queries.
    pub dns: bool,
}

impl PodEnvironment {
    /// Reads variables, and the pod's labels and annotations beneath `/etc/weft/pod`.
    ///
    /// # Errors
    /// The variable and what is wrong with it.
    pub fn read(
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, EnvironmentError> {
        let all = Variables(variables.filter(|(_, value)| !value.is_empty()).collect());
        let info = all.path("WEFT_POD_INFO", "/etc/weft/pod");
        let labels = pairs_of_file(&info.join("labels"));
        let mut metadata = all.metadata()?;
        let annotations = pairs_of_file(&info.join("annotations"));
        if !annotations.is_empty() {
            metadata.insert("ANNOTATIONS".to_owned(), serde_json::json!(annotations));
        }
        let (host, port) = all.control_plane()?;
        let bootstrap = Bootstrap {
            name: all.needed("POD_NAME")?.to_owned(),
            namespace: all.needed("POD_NAMESPACE")?.to_owned(),
            service_account: all.text("SERVICE_ACCOUNT").unwrap_or("default").to_owned(),
            addresses: all.addresses()?,
            locality: locality(&labels),
            labels,
            metadata,
            role: all.role()?,
            cluster_domain: all.text("WEFT_CLUSTER_DOMAIN").unwrap_or("cluster.local").to_owned(),
            server_name: all.text("WEFT_SERVER_NAME").unwrap_or(&host).to_owned(),
            control_plane: host,
            control_plane_port: port,
            trust_domain: all.text("WEFT_TRUST_DOMAIN").unwrap_or("cluster.local").to_owned(),
            root_cert: all.path("WEFT_ROOT_FILE", "/var/run/secrets/weft/root/root-cert.pem"),
            token: all.path("WEFT_TOKEN_FILE", "/var/run/secrets/weft/token/weft-token"),
            state_dir: all.path("WEFT_STATE_DIR", "/var/lib/weft"),
        };
        Ok(Self {
            bootstrap,
            status_port: all.parsed("WEFT_STATUS_PORT", "is no port")?.unwrap_or(15020),
            probes: all.json("WEFT_APP_PROBES")?.unwrap_or_default(),
            scrape: all.json("WEFT_METRICS_SCRAPE")?,
            dns: all.text("ISTIO_META_DNS_CAPTURE").is_some_and(|value| value == "true"),
        })
    }
}

struct Variables(BTreeMap<String, String>);

impl Variables {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn path(&self, name: &str, default: &str) -> PathBuf {
        self.text(name).unwrap_or(default).into()
    }

    fn needed(&self, name: &str) -> Result<&str, EnvironmentError> {
        self.text(name).ok_or_else(|| bad(name, "is missing; the injector sets it"))
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        reason: &str,
    ) -> Result<Option<T>, EnvironmentError> {
        self.text(name).map(|text| text.parse().map_err(|_| bad(name, reason))).transpose()
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, EnvironmentError> {
        let read = |text| serde_json::from_str(text).map_err(|error| bad(name, &error.to_string()));
        self.text(name).map(read).transpose()
    }

    fn control_plane(&self) -> Result<(String, u16), EnvironmentError> {
        const NAME: &str = "WEFT_CONTROL_PLANE";
        let text = self.needed(NAME)?;
        let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = split.ok_or_else(|| bad(NAME, "is no host:port"))?;
        Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
    }

    fn addresses(&self) -> Result<Vec<std::net::IpAddr>, EnvironmentError> {
        const NAME: &str = "INSTANCE_IPS";
        let texts = self.needed(NAME)?.split(',').map(str::trim);
        texts.map(|text| text.parse().map_err(|_| bad(NAME, "is no list of addresses"))).collect()
    }

    fn role(&self) -> Result<Role, EnvironmentError> {
        match self.text("WEFT_ROLE") {
            None | Some("sidecar") => Ok(Role::Sidecar),
            Some("edge") => Ok(Role::Edge),
            Some(_) => Err(bad("WEFT_ROLE", "is none of sidecar and edge")),
        }
    }

    fn metadata(&self) -> Result<Map<String, Value>, EnvironmentError> {
        let mut metadata = Map::new();
        if let Some(node) = self.text("NODE_NAME") {
            metadata.insert("NODE_NAME".to_owned(), node.into());
        }
        for (prefix, json) in
            METADATA.map(|one| (one, false)).into_iter().chain(METADATA_JSON.map(|one| (one, true)))
        {
            for (name, value) in &self.0 {
                let Some(key) = name.strip_prefix(prefix) else { continue };
                let value = match json {
                    false => Value::from(value.as_str()),
                    true => serde_json::from_str(value)
                        .map_err(|error| bad(name, &error.to_string()))?,
                };
                metadata.insert(key.to_owned(), value);
            }
        }
        Ok(metadata)
    }
}

fn bad(variable: &str, reason: &str) -> EnvironmentError {
    EnvironmentError { variable: variable.to_owned(), reason: reason.to_owned() }
}

/// Lines of `key="value"`, as the downward API writes them; none without the file.
fn pairs_of_file(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let (key, quoted) = line.split_once('=')?;
        let plain = || quoted.trim_matches('"').to_owned();
        Some((key.to_owned(), serde_json::from_str(quoted).unwrap_or_else(|_| plain())))
    };
    text.lines().filter_map(pair).collect()
}

/// As labels tell it: whole, or in parts.
fn locality(labels: &BTreeMap<String, String>) -> [String; 3] {
    let label = |name: &str| labels.get(name).map(String::as_str);
    if let Some(whole) = label("topology.istio.io/locality").or(label("istio-locality")) {
        let whole = if whole.contains('/') { whole.to_owned() } else { whole.replace('.', "/") };
        let mut parts = whole.split('/').map(str::to_owned);
        return std::array::from_fn(|_| parts.next().unwrap_or_default());
    }
    let part = |name| label(name).unwrap_or_default().to_owned();
    [
        part("topology.kubernetes.io/region"),
        part("topology.kubernetes.io/zone"),
        part("topology.istio.io/subzone"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(more: &[(&str, &str)]) -> Vec<(String, String)> {
        let always = [
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("INSTANCE_IPS", "10.0.0.2,fd00::2"),
            ("WEFT_CONTROL_PLANE", "weft-control-plane.weft-system.svc:15012"),
            ("SERVICE_ACCOUNT", "web"),
        ];
        let all = always.iter().chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_bootstrap_tells_what_the_pod_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("labels"),
            "app=\"web\"\ntopology.istio.io/locality=\"eu/eu-1\"\nodd=\"a\\\"b\"\n",
        )
        .unwrap();
        let environment = PodEnvironment::read(
            variables(&[
                ("WEFT_POD_INFO", folder.path().to_str().unwrap()),
                ("ISTIO_META_CLUSTER_ID", "one"),
                ("WEFT_META_CLUSTER_ID", "two"),
                ("WEFT_METAJSON_X", "{\"a\":1}"),
                ("WEFT_APP_PROBES", "{\"/app-health/a/readyz\":{\"tcpSocket\":{\"port\":80}}}"),
                ("WEFT_STATUS_PORT", "0"),
            ])
            .into_iter(),
        )
        .unwrap();
        let json = environment.bootstrap.to_json().unwrap();
        assert_eq!(json["node"]["id"], "sidecar~10.0.0.2~web-1.shop~shop.svc.cluster.local");
        assert_eq!(json["node"]["cluster"], "web.shop");
        assert_eq!(json["node"]["metadata"]["CLUSTER_ID"], "two");
        assert_eq!(json["node"]["metadata"]["X"]["a"], 1);
        assert_eq!(json["node"]["metadata"]["LABELS"]["odd"], "a\"b");
        assert_eq!(json["node"]["locality"]["zone"], "eu-1");
        assert_eq!(json["static_resources"]["clusters"][0]["type"], "STRICT_DNS");
        assert_eq!((environment.status_port, environment.probes.len()), (0, 1));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = PodEnvironment::read(std::iter::empty()).unwrap_err();
        assert_eq!(error.variable, "WEFT_CONTROL_PLANE");
        for (name, value) in [
            ("INSTANCE_IPS", "here"),
            ("WEFT_ROLE", "boss"),
            ("WEFT_STATUS_PORT", "x"),
            ("WEFT_APP_PROBES", "{"),
            ("WEFT_METAJSON_A", "{"),
            ("WEFT_CONTROL_PLANE", "host"),
        ] {
            let error = PodEnvironment::read(variables(&[(name, value)]).into_iter()).unwrap_err();
            assert_eq!(error.variable, name);
        }
    }
}
