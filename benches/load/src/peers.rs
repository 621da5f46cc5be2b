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

/// What goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 on both sides.
    Http2,
    /// Bytes.
    Tcp,
}

/// On which side a proxy speaks mTLS.
#[derive(Clone, Copy)]
pub(crate) enum Tls<'a> {
    None,
    /// With its clients.
    Downstream(&'a Certificates),
    /// With the backend.
    Upstream(&'a Certificates),
}

/// Where a proxy runs, and with how many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// One worker on the proxies' core.
    OneCore,
    /// Two workers on two cores.
    TwoCores,
    /// As it chooses itself.
    Default,
}

/// What a proxy is configured for.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) tls: Tls<'a>,
    pub(crate) listen: SocketAddr,
    pub(crate) backend: SocketAddr,
    /// Routes for the prefixes `/route-0/`, `/route-1/` and so on (Envoy and Weft); one for
    /// everything if zero.
    pub(crate) routes: usize,
    pub(crate) placement: Placement,
}

impl Setup<'_> {
    /// In the clear, one route, on the proxies' core.
    pub(crate) fn new(protocol: Protocol, listen: SocketAddr, backend: SocketAddr) -> Self {
        let placement = Placement::OneCore;
        Self { protocol, tls: Tls::None, listen, backend, routes: 0, placement }
    }
}

impl Placement {
    /// Workers that are asked for.
    fn workers(self) -> Option<usize> {
        match self {
            Self::OneCore => Some(1),
            Self::TwoCores => Some(2),
            Self::Default => None,
        }
    }

    /// The cores, as taskset wants them.
    fn cores(self) -> &'static str {
        if self == Self::OneCore { "0" } else { "0,1" }
    }
}

/// A proxy found on this machine.
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    pub(crate) version: String,
    program: PathBuf,
}

impl ProxyKind {
    pub(crate) const ALL: [Self; 4] = [Self::Weft, Self::Envoy, Self::Haproxy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weft => "Weft",
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }
}

/// A program of Weft's that was built with this one.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let program = folder()?.join(name);
    ensure!(
        program.exists(),
        "{} is missing: cargo build --release --bin {name}",
        program.display()
    );
    Ok(program)
}

fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("this program has no folder")?.to_owned())
}

/// Finds weft-sidecar and every other proxy; `only` names those that are wanted.
pub(crate) fn find(sidecar: Option<&Path>, only: &[String]) -> Result<Vec<Proxy>> {
    let sidecar = sidecar.map_or_else(|| built("weft-sidecar"), |path| Ok(path.to_owned()))?;
    ensure!(sidecar.exists(), "{} is missing", sidecar.display());
    let beside = folder()?;
    let envoy_package = beside.parent().unwrap_or(&beside).join("envoy/bin/envoy");
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
    /// The file that is run.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts the proxy and waits until it listens.
    pub(crate) fn start(&self, setup: &Setup<'_>, folder: &Path) -> Result<Running> {
        let name = format!("{}-{}", self.kind.name(), setup.listen.port());
        let (extension, text) = match self.kind {
            ProxyKind::Weft | ProxyKind::Envoy => ("yaml", envoy::bootstrap(setup, free_port()?)),
            ProxyKind::Haproxy => ("conf", haproxy::config(setup)),
            ProxyKind::Nginx => ("conf", nginx::config(setup, folder)),
        };
        let file = folder.join(format!("{name}.{extension}"));
        std::fs::write(&file, text)?;
        let arguments = self.arguments(&file, folder, setup.placement);
        let log = folder.join(format!("{name}.log"));
        let mut running = Running::start(&self.program, &arguments, setup.placement.cores(), &log)?;
        running.wait_for(setup.listen)?;
        Ok(running)
    }

    /// Starts Envoy or Weft with a bootstrap, on the proxies' core, and does not wait.
    pub(crate) fn start_with(&self, bootstrap: &str, folder: &Path) -> Result<Running> {
        let name = format!("{}-bootstrap", self.kind.name());
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, bootstrap)?;
        let placement = Placement::OneCore;
        let arguments = self.arguments(&file, folder, placement);
        let log = folder.join(format!("{name}.log"));
        Running::start(&self.program, &arguments, placement.cores(), &log)
    }

    fn arguments(&self, file: &Path, folder: &Path, placement: Placement) -> Vec<String> {
        let file = file.display().to_string();
        let owned = |arguments: &[&str]| arguments.iter().map(|&text| text.to_owned()).collect();
        match self.kind {
            ProxyKind::Weft | ProxyKind::Envoy => {
                let mut arguments: Vec<String> = owned(&["-c", &file]);
                if let Some(workers) = placement.workers() {
                    arguments.extend(["--concurrency".to_owned(), workers.to_string()]);
                }
                if self.kind == ProxyKind::Envoy {
                    arguments.extend(["--disable-hot-restart", "-l", "error"].map(str::to_owned));
                }
                arguments
            }
            ProxyKind::Haproxy => owned(&["-db", "-f", &file]),
            ProxyKind::Nginx => owned(&["-p", &folder.display().to_string(), "-c", &file]),
        }
    }
}
