//! One namespace: commands and closures that run inside it.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::Error;

/// A handle to a namespace of a [`crate::Network`], which owns and removes it.
#[derive(Debug, Clone)]
pub struct Host {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Host {
    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that `ip netns` knows it by.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its IPv4 address on the bridge.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// Its IPv6 address on the bridge; `None` if the kernel has no IPv6.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.ipv6
    }

    /// All of its addresses on the bridge, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ipv6 = self.ipv6.map(IpAddr::from);
        std::iter::once(self.ipv4.into()).chain(ipv6).collect()
    }

    /// A command that will run inside, seeing this host's `hosts` and `resolv.conf`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        command.arg(program.as_ref());
        command
    }

    /// As [`Host::command`], under another user and group without further groups.
    ///
    /// The switch of user happens inside the namespace, after entering it,
    /// which needs privilege. Uses `setpriv` of util-linux.
    #[must_use]
    pub fn command_as(&self, uid: u32, gid: u32, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("setpriv");
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(program.as_ref());
        command
    }

    /// Runs a closure inside, on a thread of its own.
    ///
    /// Sockets made by the closure stay in the namespace wherever they are used
    /// afterwards.
    ///
    /// # Errors
    ///
    /// When the namespace can't be entered. A panic of the closure is passed on.
    pub fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = namespace_path(&self.namespace);
        let file = File::open(&path).map_err(|error| Error::file("open", &path, error))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET)?;
                Ok(run())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
        .map_err(|error: nix::Error| Error::namespace(&self.namespace, "enter", error))
    }

    /// Listens inside the namespace; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the namespace can't be entered or the address can't be bound.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        self.enter(|| TcpListener::bind(address))?
            .map_err(|error| Error::namespace(&self.namespace, "listen", error))
    }

    /// Connects from inside the namespace, within `timeout`.
    ///
    /// # Errors
    ///
    /// When the namespace can't be entered or the connection fails.
    pub fn connect(&self, address: SocketAddr, timeout: Duration) -> Result<TcpStream, Error> {
        self.enter(|| TcpStream::connect_timeout(&address, timeout))?
            .map_err(|error| Error::namespace(&self.namespace, "connect", error))
    }

    /// Writes the `hosts` file that commands inside see: localhost, this host, and `entries`.
    ///
    /// # Errors
    ///
    /// When `/etc/netns` can't be written.
    pub fn write_hosts<'a>(
        &self,
        entries: impl IntoIterator<Item = (IpAddr, &'a str)>,
    ) -> Result<(), Error> {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
        text.push_str(&format!("{} {}\n", self.ipv4, self.name));
        for (address, name) in entries {
            text.push_str(&format!("{address} {name}\n"));
        }
        self.write_configuration("hosts", &text)
    }

    /// Writes the `resolv.conf` that commands inside see.
    ///
    /// # Errors
    ///
    /// When `/etc/netns` can't be written.
    pub fn write_resolv_conf(&self, text: &str) -> Result<(), Error> {
        self.write_configuration("resolv.conf", text)
    }

    fn write_configuration(&self, file: &str, text: &str) -> Result<(), Error> {
        let folder = configuration_path(&self.namespace);
        fs::create_dir_all(&folder).map_err(|error| Error::file("create", &folder, error))?;
        let path = folder.join(file);
        fs::write(&path, text).map_err(|error| Error::file("write", &path, error))
    }
}

/// Where `ip netns` keeps the handle of a namespace.
pub(crate) fn namespace_path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// Where `ip netns exec` looks for a namespace's own files of `/etc`.
pub(crate) fn configuration_path(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

/// Removes a file or folder that may be gone already.
pub(crate) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
