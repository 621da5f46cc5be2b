//! `weft-init`: installs, shows and removes the interception rules of the
//! network namespace it runs in.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use weft_redirect::{Change, Firewall, LocalNetwork, Options};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(message) => {
            say(&mut std::io::stdout(), message);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut std::io::stderr(), format_args!("weft-init: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<String, Box<dyn std::error::Error>> {
    let environment = |name: &str| std::env::var(name).ok();
    if options.cleanup {
        return Ok(match Firewall::cleanup(options.routes(&environment)?)? {
            Change::None => "no interception rules were there".to_owned(),
            _ => "interception rules removed".to_owned(),
        });
    }
    let interception = options.interception(&environment)?;
    let firewall = Firewall::new(options.ipv6(&environment)?, &LocalNetwork::read());
    if options.is_dry_run(&environment) {
        let text = firewall
            .wanted(&interception)
            .into_iter()
            .map(|rules| format!("# {}\n{}", rules.family(), rules.restore_input()));
        return Ok(text.collect::<String>().trim_end().to_owned());
    }
    let families = firewall.wanted(&interception);
    let families: Vec<_> = families.iter().map(|rules| rules.family().to_string()).collect();
    let done = match firewall.apply(&interception)? {
        Change::None => "already in place",
        Change::Installed => "installed",
        Change::Replaced | Change::Removed => "replaced",
    };
    Ok(format!("interception rules for {} {done}", families.join(" and ")))
}

fn say(stream: &mut dyn Write, message: impl Display) {
    // Nobody can be told that nobody can be told.
    let _ = writeln!(stream, "{message}");
}
