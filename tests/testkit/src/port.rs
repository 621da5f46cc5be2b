//! Ports that are free.

use std::net::{Ipv4Addr, TcpListener};

/// A loopback port that was free a moment ago, for a program that must be told
/// its port. Prefer port 0 wherever the program can say what it got.
///
/// # Panics
///
/// When the machine has no free port.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("the address of a bound socket").port()
}
