//! What the connection to etcd is told.

use std::path::PathBuf;
use std::time::Duration;

/// What APISIX seals with unless its configuration says otherwise. It protects nothing.
const PUBLIC_KEYRING: [&str; 2] = ["qeddd145sfvddff3", "edd1c9f0985e76a2"];

/// How etcd is reached (APISIX's `deployment.etcd`).
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members: `http://127.0.0.1:2379`; with `https`, [`EtcdTls`] holds.
    pub endpoints: Vec<String>,
    /// Where APISIX's resources are kept: `/apisix`. Weft's own are in `weft` beside it.
    pub prefix: String,
    /// How long one answer of one member may take.
    pub timeout: Duration,
    /// The user, if etcd asks for one.
    pub user: Option<EtcdUser>,
    /// TLS toward the members.
    pub tls: EtcdTls,
    /// Keys with which APISIX may have sealed private keys (its `data_encryption.keyring`), each
    /// 16 or 32 bytes long.
    pub keyring: Vec<String>,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The secret.
    pub password: String,
}

/// TLS toward the members of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authorities that may have issued the members' certificates, PEM; absent: the system's.
    pub ca: Option<PathBuf>,
    /// The own certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the members' certificates are verified.
    pub verify: bool,
    /// The name that is asked for and must be in the certificate; absent: the endpoint's.
    pub sni: Option<String>,
}

impl std::fmt::Debug for EtcdConfig {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EtcdUser {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            prefix: "/apisix".to_owned(),
            timeout: Duration::from_secs(30),
            user: None,
            tls: EtcdTls::default(),
            keyring: PUBLIC_KEYRING.map(str::to_owned).to_vec(),
        }
    }
}

impl Default for EtcdTls {
    fn default() -> Self {
        Self { ca: None, identity: None, verify: true, sni: None }
    }
}

/// Where this crate's keys are in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// The own folder of a key and the one in etcd, both with the slash.
    folders: [(&'static str, String); 2],
}

impl Layout {
    /// The layout below APISIX's `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        let beside = prefix.rsplit_once('/').map_or("", |(beside, _)| beside);
        Self {
            folders: [("/apisix/", format!("{prefix}/")), ("/weft/", format!("{beside}/weft/"))],
        }
    }

    /// Both folders in etcd.
    pub(super) fn folders(&self) -> [&str; 2] {
        [&self.folders[0].1, &self.folders[1].1]
    }

    /// Whether the two folders are apart.
    pub(super) fn is_sound(&self) -> bool {
        let [a, b] = self.folders();
        a.starts_with('/') && !a.starts_with(b) && !b.starts_with(a)
    }

    /// The key in etcd; `None` for keys outside both folders.
    pub(super) fn outside(&self, key: &str) -> Option<String> {
        self.folders.iter().find_map(|(own, etcd)| Some(etcd.clone() + key.strip_prefix(own)?))
    }

    /// The own key of one in etcd.
    pub(super) fn inside(&self, key: &str) -> Option<String> {
        let folders = self.folders.iter();
        folders
            .into_iter()
            .find_map(|(own, etcd)| Some((*own).to_owned() + key.strip_prefix(etcd.as_str())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weft_s_keys_stand_beside_apisix_s() {
        for (prefix, route, mesh) in [
            ("/apisix", "/apisix/routes/1", "/weft/mesh/default"),
            ("/a/b/", "/a/b/routes/1", "/a/weft/mesh/default"),
        ] {
            let layout = Layout::new(prefix);
            assert!(layout.is_sound());
            for (own, etcd) in [("/apisix/routes/1", route), ("/weft/mesh/default", mesh)] {
                assert_eq!(layout.outside(own).as_deref(), Some(etcd));
                assert_eq!(layout.inside(etcd).as_deref(), Some(own));
            }
            assert_eq!(layout.outside("/other/1"), None);
        }
        for prefix in ["/weft", "/weft/apisix/weft", "", "apisix"] {
            assert!(!Layout::new(prefix).is_sound(), "{prefix}");
        }
    }
}
