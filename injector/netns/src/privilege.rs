//! Becoming able to make namespaces, or saying what lacks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

use crate::Error;

/// Set for the copy of this program that runs inside a user namespace.
const INSIDE: &str = "WEFT_IN_USER_NAMESPACE";
/// Bits of the effective capabilities, capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Makes sure that this process can make namespaces.
///
/// As root it only checks. As another user it starts this program anew, with
/// the same arguments, as root of a user namespace with its own network and
/// mounts; it then returns in that copy and never in the first process. Call
/// it before any thread is started.
///
/// # Errors
///
/// [`Error::Privilege`] when a program, root or user namespaces are missing.
pub fn ensure_privileged() -> Result<(), Error> {
    for (program, package) in [
        ("ip", "iproute2"),
        ("iptables-restore", "iptables"),
        ("iptables-save", "iptables"),
        ("setpriv", "util-linux"),
    ] {
        if find(program).is_none() {
            return Err(lacks(
                &format!("the program `{program}`"),
                &format!("Install it: apt-get install {package}"),
            ));
        }
    }
    if std::env::var_os(INSIDE).is_some() {
        return prepare_mounts();
    }
    if geteuid().is_root() {
        return check_capabilities();
    }
    Err(enter_user_namespace())
}

fn check_capabilities() -> Result<(), Error> {
    let effective = effective_capabilities();
    for (bit, name) in [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")] {
        if effective & (1 << bit) == 0 {
            return Err(lacks(
                &format!("{name}, which this root does not have"),
                "In a container, start it with --privileged.",
            ));
        }
    }
    Ok(())
}

fn effective_capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or_default()
}

/// Replaces this process; returns only what prevented it.
fn enter_user_namespace() -> Error {
    const CURE: &str = "Run it as root (sudo), or let this user have user namespaces: \
        apt-get install uidmap, and a line for the user in /etc/subuid and /etc/subgid.";
    for (program, path) in [("unshare", find("unshare")), ("newuidmap", find("newuidmap"))] {
        if path.is_none() {
            return lacks(&format!("root, or the program `{program}`"), CURE);
        }
    }
    if !user_namespaces_work() {
        return lacks("root, or user namespaces with mapped users", CURE);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program.into_os_string(),
        Err(_) => return lacks("root, or /proc", CURE),
    };
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let source = user_namespace().arg(program).args(arguments).env(INSIDE, "1").exec();
    Error::Start { command: "unshare".to_owned(), source }
}

/// The sidecar's user 1337 must exist inside: one mapped user is not enough.
fn user_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--map-auto", "--net", "--mount", "--"]);
    command
}

fn user_namespaces_work() -> bool {
    user_namespace()
        .args(["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "true"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Gives the copy its own /run and a writable /etc/netns, invisible outside.
fn prepare_mounts() -> Result<(), Error> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*done {
        mount_private_folders()?;
        *done = true;
    }
    Ok(())
}

fn mount_private_folders() -> Result<(), Error> {
    let tmpfs = |target: &str| {
        mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .map_err(|error| Error::file("mount a tmpfs on", Path::new(target), error.into()))
    };
    tmpfs("/run")?;
    if Path::new("/etc/netns").is_dir() {
        return tmpfs("/etc/netns");
    }
    for folder in ["/run/etc/upper", "/run/etc/work"] {
        fs::create_dir_all(folder)
            .map_err(|error| Error::file("create", Path::new(folder), error))?;
    }
    mount(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some("lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"),
    )
    .map_err(|_| {
        lacks(
            "the folder /etc/netns, which this kernel can't overlay",
            "Make it once as root: mkdir /etc/netns",
        )
    })
}

fn lacks(missing: &str, cure: &str) -> Error {
    Error::Privilege { missing: missing.to_owned(), cure: cure.to_owned() }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
