//! The options that a listener's configuration sets on its sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{c_int, c_void, setsockopt, socklen_t};
use weft_model::{SocketMoment, SocketOption};

/// Sets the options whose moment has come.
///
/// # Errors
/// The kernel refuses one; the error names it.
pub(crate) fn apply(
    socket: BorrowedFd<'_>,
    options: &[SocketOption],
    moment: SocketMoment,
    is_ipv4: bool,
) -> io::Result<()> {
    for option in options {
        let meant = option.ipv4.is_none_or(|ipv4| ipv4 == is_ipv4);
        if option.moment == moment && meant {
            set(socket, option).map_err(|error| refused(option, &error))?;
        }
    }
    Ok(())
}

#[allow(unsafe_code)]
fn set(socket: BorrowedFd<'_>, option: &SocketOption) -> io::Result<()> {
    let length = socklen_t::try_from(option.value.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (level, name): (c_int, c_int) = (option.level, option.name);
    let value: *const c_void = option.value.as_ptr().cast();
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads `length`
    // bytes of the value, which outlives the call.
    let result = unsafe { setsockopt(socket.as_raw_fd(), level, name, value, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn refused(option: &SocketOption, error: &io::Error) -> io::Error {
    let SocketOption { description, level, name, .. } = option;
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied => "; it needs a capability such as NET_ADMIN",
        _ => "; leave it out of socket_options, or give a value that this kernel takes",
    };
    let text =
        format!("socket_options {description:?} (level {level}, name {name}): {error}{cure}");
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::libc::{IPPROTO_TCP, SO_REUSEPORT, SOL_SOCKET, TCP_DEFER_ACCEPT};
    use socket2::{Domain, Socket, Type};

    use super::*;

    fn option(level: c_int, name: c_int, value: i32) -> SocketOption {
        SocketOption {
            description: "an option".to_owned(),
            level,
            name,
            value: value.to_ne_bytes().to_vec(),
            moment: SocketMoment::Prebind,
            ipv4: None,
        }
    }

    #[test]
    fn options_are_set_at_their_moment_and_on_their_family() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let reuse = option(SOL_SOCKET, SO_REUSEPORT, 1);
        let six = SocketOption { ipv4: Some(false), ..reuse.clone() };
        apply(socket.as_fd(), &[six], SocketMoment::Prebind, true).unwrap();
        apply(socket.as_fd(), std::slice::from_ref(&reuse), SocketMoment::Bound, true).unwrap();
        assert!(!socket.reuse_port().unwrap());
        apply(socket.as_fd(), &[reuse], SocketMoment::Prebind, true).unwrap();
        assert!(socket.reuse_port().unwrap());
    }

    #[test]
    fn what_the_kernel_refuses_is_named_with_a_cure() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let short = SocketOption { value: vec![1], ..option(IPPROTO_TCP, TCP_DEFER_ACCEPT, 1) };
        let error = apply(socket.as_fd(), &[short], SocketMoment::Prebind, true).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("socket_options \"an option\" (level 6, name 9): "), "{text}");
        assert!(text.contains("leave it out"), "{text}");
    }
}
