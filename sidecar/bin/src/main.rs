//! The data plane program.

mod arguments;
mod control_plane;
mod limits;
mod logging;
mod pod;
mod proxy;
mod readiness;
mod secrets;
mod shutdown;
mod sockets;
mod state;
mod tidy;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let logging = match logging::start(&arguments.log_level) {
        Ok(logging) => logging,
        Err(error) => return fail(&error),
    };
    match proxy::run(arguments, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One message, whole, with its causes.
#[allow(clippy::print_stderr, reason = "the last word of a program that can't start")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("weft-sidecar: {error:#}");
    ExitCode::FAILURE
}
