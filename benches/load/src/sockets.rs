//! Which worker of a process has which connections.
//!
//! A worker waits for its connections with an epoll instance of its own, and the kernel tells what
//! each instance watches (`/proc/PID/fdinfo`); so no statistic of the proxy is needed.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

/// How many connections accepted at `listen` each epoll instance of the process watches; instances
/// without any are left out.
pub(crate) fn per_poller(pid: u32, listen: SocketAddr) -> Result<Vec<usize>> {
    let accepted = accepted(&fs::read_to_string("/proc/net/tcp")?, listen.port());
    let folder = Path::new("/proc").join(pid.to_string());
    let mut pollers = BTreeSet::new();
    for entry in fs::read_dir(folder.join("fd"))? {
        let entry = entry?;
        // A descriptor may be gone by now.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if target.as_os_str() != "anon_inode:[eventpoll]" {
            continue;
        }
        let watched = fs::read_to_string(folder.join("fdinfo").join(entry.file_name()))?;
        let inodes: BTreeSet<u64> = targets(&watched)
            .filter_map(|descriptor| inode(&folder, descriptor))
            .filter(|inode| accepted.contains(inode))
            .collect();
        // Descriptors that share an instance show the same; it counts once.
        pollers.insert(inodes);
    }
    Ok(pollers.iter().map(BTreeSet::len).filter(|count| *count > 0).collect())
}

/// Inodes of the established connections with this local port, of all processes.
fn accepted(table: &str, port: u16) -> BTreeSet<u64> {
    let local = format!(":{port:04X}");
    let established = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, address, _, "01", ..] = fields.as_slice() else { return None };
        if !address.ends_with(&local) {
            return None;
        }
        fields.get(9)?.parse().ok()
    });
    established.collect()
}

/// Descriptors that an epoll instance watches (`tfd:` lines of its fdinfo).
fn targets(fdinfo: &str) -> impl Iterator<Item = &str> {
    let lines = fdinfo.lines().filter_map(|line| line.strip_prefix("tfd:"));
    lines.filter_map(|rest| rest.split_whitespace().next())
}

fn inode(folder: &Path, descriptor: &str) -> Option<u64> {
    let target = fs::read_link(folder.join("fd").join(descriptor)).ok()?;
    let name = target.to_str()?;
    name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Lets this process, and those that it starts, have as many descriptors as the system permits.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of descriptors")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_counted_for_each_poller() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (one, two) = (runtime(), runtime());
        let adopt = |runtime: &tokio::runtime::Runtime, stream: TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let _entered = runtime.enter();
            tokio::net::TcpStream::from_std(stream).unwrap()
        };
        let held = [
            adopt(&one, accepted.pop().unwrap()),
            adopt(&one, accepted.pop().unwrap()),
            adopt(&two, accepted.pop().unwrap()),
        ];
        let mut counts = per_poller(std::process::id(), address).unwrap();
        counts.sort_unstable();
        assert_eq!(counts, [1, 2]);
        drop((held, clients));
    }

    #[test]
    fn only_established_connections_of_the_port_count() {
        let line = |port: &str, state: &str, inode: &str| {
            format!("   0: 0100007F:{port} 0100007F:C350 {state} 0:0 00:0 0 0 0 {inode} 1 0\n")
        };
        let table = format!(
            "head\n{}{}{}",
            line("1F90", "01", "11"),
            line("1F90", "0A", "12"),
            line("1F91", "01", "13")
        );
        assert_eq!(accepted(&table, 8080), BTreeSet::from([11]));
    }
}
