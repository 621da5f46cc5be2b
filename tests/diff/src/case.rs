//! What a topic's file says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A configuration and what is tried with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// What it is about, for who reads the file.
    pub about: String,
    /// Fields of the connection manager that are not the default's.
    #[serde(default)]
    pub manager: Map<String, Value>,
    /// The route configuration, instead of one route for everything.
    #[serde(default)]
    pub routes: Option<Value>,
    /// HTTP filters before the router.
    #[serde(default)]
    pub filters: Vec<Value>,
    /// Network filters, instead of the connection manager.
    #[serde(default)]
    pub network_filters: Option<Vec<Value>>,
    /// Fields of the listener.
    #[serde(default)]
    pub listener: Map<String, Value>,
    /// Fields of the cluster `upstream`.
    #[serde(default)]
    pub cluster: Map<String, Value>,
    /// More clusters.
    #[serde(default)]
    pub clusters: Vec<Value>,
    /// Whether the upstream speaks HTTP/2.
    #[serde(default)]
    pub upstream_http2: bool,
    /// What is tried, in this order, with one proxy.
    pub cases: Vec<Case>,
}

/// One exchange, or several on one connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// A request: method and path.
    #[serde(default)]
    pub request: Option<String>,
    /// Its headers, one `name: value` each, besides `host`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Its host; empty: no such header.
    #[serde(default = "default_host")]
    pub host: String,
    /// Its body, sent with a `content-length`.
    #[serde(default)]
    pub body: Option<String>,
    /// Trailers of an HTTP/2 request.
    #[serde(default)]
    pub trailers: Vec<String>,
    /// `:protocol` of a CONNECT request over HTTP/2.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The request is sent over HTTP/2.
    #[serde(default)]
    pub http2: bool,
    /// Bytes as they are sent, in place of a request; a response is read after each.
    #[serde(default)]
    pub raw: Vec<String>,
    /// Whether the client ends its side once all is sent.
    #[serde(default)]
    pub half_close: bool,
    /// What the upstream answers, one after the other; `<close>`, `<reset>` and `<silence>` at the
    /// end say what happens to its connection.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// Counters whose growth is compared.
    #[serde(default)]
    pub counters: Vec<String>,
    /// Why Weft answers otherwise than Envoy.
    #[serde(default)]
    pub differs: Option<String>,
}

fn default_host() -> String {
    "diff.test".to_owned()
}

impl Topic {
    /// Reads `cases/<name>.yaml`.
    ///
    /// # Errors
    /// There is no such file, or a field in it is wrong.
    pub fn load(name: &str) -> Result<Self> {
        let path = folder("cases").join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The names of all topics, sorted.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn names() -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder("cases"))? {
            let path = entry?.path();
            names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }
}

/// A folder of this crate.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
