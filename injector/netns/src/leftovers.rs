//! Removing namespaces: one's own at the end, and those of dead runs at the start.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Error;
use crate::host::{configuration_path, ignore_missing, namespace_path};
use crate::ip::ip;

/// The full name of a namespace: whose it is stands in it, so that the
/// namespaces of a run that died can be told from those of one that lives.
pub(crate) fn namespace_name(prefix: &str, process: u32, serial: u32, name: &str) -> String {
    format!("{prefix}-{process}.{serial}-{name}")
}

/// Removes the namespaces of this prefix whose process is gone.
pub(crate) fn remove_dead(prefix: &str) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(prefix, &name).is_some_and(|process| !is_alive(process)) {
            remove(&name)?;
        }
    }
    Ok(())
}

/// Ends what still runs inside, then removes the namespace and its files.
pub(crate) fn remove(namespace: &str) -> Result<(), Error> {
    for process in processes_inside(namespace) {
        // It may have ended by itself meanwhile.
        let _ = kill(process, Signal::SIGKILL);
    }
    if namespace_path(namespace).exists() {
        ip(&["netns", "del", namespace])?;
    }
    let folder = configuration_path(namespace);
    ignore_missing(fs::remove_dir_all(&folder))
        .map_err(|error| Error::file("remove", &folder, error))
}

fn owner(prefix: &str, namespace: &str) -> Option<u32> {
    let rest = namespace.strip_prefix(prefix)?.strip_prefix('-')?;
    let (process, rest) = rest.split_once('.')?;
    let (serial, _) = rest.split_once('-')?;
    serial.parse::<u32>().ok()?;
    process.parse().ok()
}

/// One that has ended but was not yet waited for is dead.
fn is_alive(process: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return false;
    };
    // The name before the state is in parentheses, and may contain some.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state != Some('Z')
}

/// The processes whose main thread is in the namespace, this one excepted.
fn processes_inside(namespace: &str) -> Vec<Pid> {
    let Ok(wanted) = fs::metadata(namespace_path(namespace)) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let this = i32::try_from(std::process::id()).unwrap_or_default();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&process| process != this)
        .filter(|process| {
            fs::metadata(format!("/proc/{process}/ns/net"))
                .is_ok_and(|seen| seen.ino() == wanted.ino() && seen.dev() == wanted.dev())
        })
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_back_from_the_name() {
        let name = namespace_name("weft", 4711, 3, "client-a");
        assert_eq!(name, "weft-4711.3-client-a");
        assert_eq!(owner("weft", &name), Some(4711));
    }

    #[test]
    fn a_process_that_ended_is_dead_also_before_it_was_waited_for() {
        assert!(is_alive(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while is_alive(child.id()) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
    }

    #[test]
    fn names_of_others_have_no_owner() {
        for name in ["weft", "weft-x", "weft-12-client", "other-12.0-client", "weft-a.0-b"] {
            assert_eq!(owner("weft", name), None, "{name}");
        }
    }
}
