//! Servers that plugins ask, and the clusters by which proxies reach them.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use weft_filter_api::{CalloutError, CalloutOptions};

use crate::exchange::Exchange;

/// A server that a plugin asks; the control plane makes a cluster of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalloutTarget {
    /// The cluster's name; the same for all who ask the same server in the same way.
    pub cluster: String,
    /// `http` or `https`.
    pub scheme: String,
    /// `host:port`
    pub node: String,
    /// Whether its certificate is verified.
    pub verify: bool,
}

/// Where a plugin's questions go.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) target: CalloutTarget,
    /// As `Host` has it.
    authority: String,
    /// The path with the query that was configured, without a final slash.
    pub(crate) path: String,
}

impl Server {
    /// The server of `http://host:port/path`.
    pub(crate) fn parse(uri: &str, verify: bool) -> Result<Self, String> {
        let wrong = || format!("{uri:?} is no address such as http://host:port");
        let parsed: Uri = uri.parse().map_err(|_| wrong())?;
        let scheme = parsed.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let (scheme, authority) = scheme.zip(parsed.authority()).ok_or_else(wrong)?;
        let usual = if scheme == "https" { 443 } else { 80 };
        let node = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(usual));
        let unverified = if scheme == "https" && !verify { "/unverified" } else { "" };
        let path = parsed.path_and_query().map_or("", |path| path.as_str());
        Ok(Self {
            target: CalloutTarget {
                cluster: format!("callout/{scheme}://{node}{unverified}"),
                scheme: scheme.to_owned(),
                node,
                verify,
            },
            authority: authority.as_str().to_owned(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// Asks; `path` follows the configured one.
    pub(crate) async fn ask(
        &self,
        exchange: &mut Exchange<'_>,
        mut request: http::request::Builder,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Response<Bytes>, CalloutError> {
        let path = format!("{}{path}", self.path);
        let path = if path.is_empty() { "/" } else { &path };
        request = request.uri(format!("http://{}{path}", self.authority));
        let failed = |error: http::Error| CalloutError::Failed(error.to_string().into());
        let request: Request<Bytes> = request.body(body).map_err(failed)?;
        let callouts = exchange.cx.io().callouts();
        callouts.send(&self.target.cluster, request, CalloutOptions::within(timeout)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_a_cluster_s_name_and_a_path() {
        let server = Server::parse("http://127.0.0.1:8181/", true).expect("valid");
        assert_eq!(server.target.cluster, "callout/http://127.0.0.1:8181");
        assert_eq!((server.target.node.as_str(), server.path.as_str()), ("127.0.0.1:8181", ""));
        let server = Server::parse("https://auth.example/check?a=1", false).expect("valid");
        assert_eq!(server.target.cluster, "callout/https://auth.example:443/unverified");
        assert_eq!(server.path, "/check?a=1");
        for wrong in ["auth.example", "ftp://auth.example", "/path"] {
            assert!(Server::parse(wrong, true).is_err(), "{wrong}");
        }
    }
}
