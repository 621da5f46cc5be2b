//! The system's name servers and search domains, resolv.conf(5).

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The port of name servers.
const PORT: u16 = 53;

/// The system's name servers and search domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// Domains that the system tries behind a name, in lower case, without dots at their ends.
    pub search: Vec<String>,
}

/// A file that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ResolvConfError {
    path: PathBuf,
    source: std::io::Error,
}

impl ResolvConf {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(path: &Path) -> Result<Self, ResolvConfError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ResolvConfError { path: path.to_owned(), source })?;
        Ok(Self::parse(&text))
    }

    /// What a text says; lines that say nothing to a name server are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    all.servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                // The last of several lines counts.
                Some("search" | "domain") => {
                    let plain = |word: &str| word.trim_matches('.').to_ascii_lowercase();
                    all.search = words.map(plain).filter(|word| !word.is_empty()).collect();
                }
                _ => {}
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_keep_their_order_and_the_last_search_counts() {
        let text = "# of the cluster\nnameserver 10.96.0.10\nsearch old\n\
                    search Demo.svc.cluster.local. svc.cluster.local .\n\
                    nameserver fd00::a\nnameserver here\noptions ndots:5\n";
        let read = ResolvConf::parse(text);
        assert_eq!(
            read.servers,
            ["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()]
        );
        assert_eq!(read.search, ["demo.svc.cluster.local", "svc.cluster.local"]);
    }
}
