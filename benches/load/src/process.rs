//! Processes pinned to a core, and what they cost.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The core of the load and the backend; the proxies have the first one.
const LOAD_CORE: usize = 1;
/// How long a proxy has to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// A proxy that runs; ended with all its children when dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// CPU seconds and memory of a process with its children.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU seconds in user space.
    pub(crate) user: f64,
    /// CPU seconds in the kernel.
    pub(crate) system: f64,
    /// Resident memory, bytes.
    pub(crate) resident: u64,
}

impl Usage {
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }

    /// What was used between two moments, with the memory of the later one.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system, ..self }
    }
}

/// Pins the calling thread to the core of the load.
pub(crate) fn pin_load() -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("pinning the load")
}

/// A free port on loopback.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Running {
    /// Starts a program on the given cores.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        cores: &str,
        log: &Path,
    ) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let output = fs::File::create(log)?;
        let child = Command::new("taskset")
            .args(["-c", cores])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process that was started, of which the others of its group are children.
    pub(crate) fn leader(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program listens.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it ended with {status}:\n{}", tail(&log));
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it does not listen at {address}:\n{}", tail(&log));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What the process and its children used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let mut usage = Usage::default();
        for pid in group(self.child.id())? {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            let seconds =
                |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
            usage.user += seconds(11).unwrap_or(0.0) / ticks;
            usage.system += seconds(12).unwrap_or(0.0) / ticks;
            usage.resident += resident(pid);
        }
        Ok(usage)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32);
        // A program that ends by itself can write down what it counted. The second signal keeps it
        // from waiting for connections.
        for _ in 0..2 {
            let _ = killpg(group, Signal::SIGTERM);
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = killpg(group, Signal::SIGKILL);
        drop(self.child.wait());
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// All processes of a process group.
fn group(leader: u32) -> Result<Vec<u32>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        if fields.split(' ').nth(2).and_then(|field| field.parse::<u32>().ok()) == Some(leader) {
            members.push(pid);
        }
    }
    Ok(members)
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
