//! The proxies found on this machine, and their configurations for each kind of work.

mod envoy;
mod haproxy;
mod nginx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::certificates::Certificates;
use crate::process::{Running, free_port};

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProxyKind {
    Weft,
    Envoy,
    Haproxy,
    Nginx,
}

/// What a proxy is configured for.
#[derive(Clone, Copy)]
pub(crate) enum Side<'a> {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 on both sides.
    Http2,
    /// Bytes.
    Tcp,
    /// HTTP/1.1 in the clear to HTTP/1.1 over mTLS.
    MtlsClient(&'a Certificates),
    /// And back.
    MtlsServer(&'a Certificates),
}

/// A proxy found on this machine.
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    pub(crate) version: String,
    program: PathBuf,
}

impl ProxyKind {
    const ALL: [Self; 4] = [Self::Weft, Self::Envoy, Self::Haproxy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weft => "Weft",
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }
}

/// Finds weft-sidecar and every other proxy; `only` names those that are wanted.
pub(crate) fn find(sidecar: Option<&Path>, only: &[String]) -> Result<Vec<Proxy>> {
    let beside = std::env::current_exe()?;
    let beside = beside.parent().context("this program has no folder")?;
    let sidecar = sidecar.map_or_else(|| beside.join("weft-sidecar"), Path::to_owned);
    ensure!(
        sidecar.exists(),
        "{} is missing: cargo build --release --bin weft-sidecar",
        sidecar.display()
    );
    let envoy_package = beside.parent().unwrap_or(beside).join("envoy/bin/envoy");
    let mut found = Vec::new();
    for kind in ProxyKind::ALL {
        let wanted =
            only.is_empty() || only.iter().any(|name| name.eq_ignore_ascii_case(kind.name()));
        let program = match kind {
            ProxyKind::Weft => Some(sidecar.clone()),
            ProxyKind::Envoy if envoy_package.exists() => Some(envoy_package.clone()),
            ProxyKind::Envoy => in_path("envoy"),
            ProxyKind::Haproxy => in_path("haproxy"),
            ProxyKind::Nginx => in_path("nginx"),
        };
        let Some(program) = program.filter(|_| wanted || kind == ProxyKind::Weft) else { continue };
        let version = format!("{} {}", kind.name(), version(&program, kind));
        found.push(Proxy { kind, version, program });
    }
    Ok(found)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.exists())
}

/// The version as the program prints it: the first word that begins with a digit and has a dot.
fn version(program: &Path, kind: ProxyKind) -> String {
    let flag = if kind == ProxyKind::Weft || kind == ProxyKind::Envoy { "--version" } else { "-v" };
    let Ok(output) = Command::new(program).arg(flag).output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let words = text.split([' ', '/', '\n', '-']);
    let version = words
        .into_iter()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    version.unwrap_or("unknown").to_owned()
}

impl Proxy {
    /// Starts the proxy at `listen` in front of `backend`.
    pub(crate) fn start(
        &self,
        side: Side<'_>,
        listen: SocketAddr,
        backend: SocketAddr,
        folder: &Path,
    ) -> Result<Running> {
        let name = format!("{}-{}", self.kind.name(), listen.port());
        let file = folder.join(format!("{name}.conf"));
        let path = file.display().to_string();
        let (text, arguments) = match self.kind {
            ProxyKind::Weft | ProxyKind::Envoy => {
                let file = file.with_extension("yaml").display().to_string();
                let mut arguments =
                    vec!["-c".to_owned(), file, "--concurrency".to_owned(), "1".to_owned()];
                if self.kind == ProxyKind::Envoy {
                    arguments.extend(["--disable-hot-restart", "-l", "error"].map(str::to_owned));
                }
                (envoy::bootstrap(side, listen, backend, free_port()?), arguments)
            }
            ProxyKind::Haproxy => (
                haproxy::config(side, listen, backend),
                vec!["-db".to_owned(), "-f".to_owned(), path],
            ),
            ProxyKind::Nginx => {
                let prefix = folder.display().to_string();
                (
                    nginx::config(side, listen, backend, folder),
                    ["-p", &prefix, "-c", &path].map(str::to_owned).to_vec(),
                )
            }
        };
        let is_envoy = matches!(self.kind, ProxyKind::Weft | ProxyKind::Envoy);
        let file = if is_envoy { file.with_extension("yaml") } else { file };
        std::fs::write(&file, text)?;
        Running::start(&self.program, &arguments, &folder.join(format!("{name}.log")), listen)
    }
}
