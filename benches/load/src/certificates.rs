//! One authority and one certificate for both sides of an mTLS pair.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// The identity in the certificate.
pub(crate) const IDENTITY: &str = "spiffe://weft.bench/ns/default/sa/bench";

/// Paths of PEM files.
pub(crate) struct Certificates {
    pub(crate) root: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Chain and key in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

impl Certificates {
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let root_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "bench root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&root_key)?;
        let issuer = Issuer::new(params, root_key);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["bench".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "bench");
        params.subject_alt_names.push(SanType::URI(IDENTITY.try_into()?));
        let leaf = params.signed_by(&key, &issuer)?;
        let files = Self {
            root: folder.join("root.pem"),
            chain: folder.join("chain.pem"),
            key: folder.join("key.pem"),
            both: folder.join("both.pem"),
        };
        fs::write(&files.root, root.pem())?;
        fs::write(&files.chain, leaf.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        fs::write(&files.both, format!("{}{}", leaf.pem(), key.serialize_pem()))?;
        Ok(files)
    }
}
