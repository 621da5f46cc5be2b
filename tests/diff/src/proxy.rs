//! The proxy under test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use weft_testkit::{Process, free_port, get, program, until};

use crate::bootstrap::{Places, bootstrap};
use crate::case::Topic;

/// Which proxy.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Envoy, the program at this path.
    Envoy(PathBuf),
    /// `weft-sidecar`, as built.
    Weft,
}

/// A running proxy with a topic's configuration.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) listener: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dead: SocketAddr,
    sync: SocketAddr,
    log: PathBuf,
    /// How much of the log has been read, bytes.
    read: usize,
    syncs: u32,
    process: Process,
    _folder: tempfile::TempDir,
}

fn local() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port())
}

impl Proxy {
    pub(crate) async fn start(kind: &Kind, topic: &Topic, upstream: SocketAddr) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("access.log");
        let (listener, sync, admin, dead) = (local(), local(), local(), local());
        let places = Places { listener, sync, admin, upstream, dead, log: &log };
        let file = folder.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap(topic, &places))?;
        let mut command = match kind {
            Kind::Envoy(path) => {
                let mut command = Command::new(path);
                command.args(["--use-dynamic-base-id", "--log-level", "error"]);
                command
            }
            Kind::Weft => Command::new(program("weft-sidecar")),
        };
        command.arg("-c").arg(&file).args(["--concurrency", "1"]);
        command.args(["--file-flush-interval-msec", "10"]);
        let mut process = Process::start(command)?;
        process.ready(admin, "/ready").await?;
        let (read, syncs) = (0, 0);
        Ok(Self { listener, admin, dead, sync, log, read, syncs, process, _folder: folder })
    }

    /// The lines of the access log since the last call, once all of them are there.
    pub(crate) async fn log(&mut self) -> Result<Vec<String>> {
        self.syncs += 1;
        let mark = format!("/{}", self.syncs);
        get(self.sync, &mark).await.with_context(|| self.process.output())?;
        let end = format!("sync {mark}\n");
        let (log, read, end) = (&self.log, self.read, end.as_str());
        let text = until("the access log", || async move {
            let text = std::fs::read_to_string(log)?;
            let fresh = text.get(read..).unwrap_or_default();
            fresh.contains(end).then(|| fresh.to_owned()).context("the line of the end")
        });
        let text = text.await?;
        self.read += text.len();
        let lines = text.lines().filter(|line| !line.starts_with("sync "));
        Ok(lines.map(str::to_owned).collect())
    }

    /// A counter; zero where there is none yet.
    pub(crate) async fn counter(&self, name: &str) -> Result<u64> {
        let stats = get(self.admin, &format!("/stats?filter=^{name}$")).await?.text();
        let value = stats.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        Ok(value.map(str::parse).transpose()?.unwrap_or_default())
    }
}
