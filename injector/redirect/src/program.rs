//! Calls of the programs that read and change the kernel's rules.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use crate::error::Error;
use crate::rule::{Family, Table};

/// Seconds to wait for another program that holds the lock on the tables.
const LOCK_WAIT: &str = "10";

/// Everything that `iptables-save` prints.
pub(crate) fn save(family: Family) -> Result<String, Error> {
    let output = run(save_program(family), "iptables", &[], None)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the family's nat table can be used at all.
pub(crate) fn probe_nat(family: Family) -> Result<(), Error> {
    let table = Table::Nat.to_string();
    match run(save_program(family), "iptables", &["-t", &table], None) {
        Ok(_) => Ok(()),
        Err(Error::Failed { stderr, .. }) => Err(Error::NoNat {
            family,
            module: match family {
                Family::V4 => "iptable_nat",
                Family::V6 => "ip6table_nat",
            },
            reason: stderr,
        }),
        Err(error) => Err(error),
    }
}

/// Changes tables, each in one step: a failure leaves the failed table as it was.
pub(crate) fn restore(family: Family, input: &str) -> Result<(), Error> {
    let program = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    run(program, "iptables", &["--noflush", "-w", LOCK_WAIT], Some(input)).map(drop)
}

/// Runs `ip` with these arguments.
pub(crate) fn ip(arguments: &[&str]) -> Result<(), Error> {
    ip_output(arguments).map(drop)
}

/// Runs `ip` with these arguments and gives what it prints.
pub(crate) fn ip_output(arguments: &[&str]) -> Result<String, Error> {
    let output = run("ip", "iproute2", arguments, None)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn save_program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    }
}

fn run(
    program: &'static str,
    package: &'static str,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<Output, Error> {
    let command = [&[program], arguments].concat().join(" ");
    let start = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => Error::Missing { program, package },
        _ => Error::Start { command: command.clone(), source },
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ended early says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed {
        rule: input.and_then(|input| refused_line(input, &stderr)),
        command: command.clone(),
        status: output.status.to_string(),
        stderr,
    })
}

/// The line of the input whose number the complaint names ("line 7", "line: 7").
fn refused_line(input: &str, complaint: &str) -> Option<String> {
    let after = complaint.split("line").nth(1)?;
    let digits: String =
        after.trim_start_matches([':', ' ']).chars().take_while(char::is_ascii_digit).collect();
    let number: usize = digits.parse().ok()?;
    input.lines().nth(number.checked_sub(1)?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_rule_is_found_by_its_line_number() {
        let input = "*nat\n-A X\n-A Y\nCOMMIT\n";
        for complaint in ["iptables-restore: line 3 failed", "Error occurred at line: 3"] {
            assert_eq!(refused_line(input, complaint).as_deref(), Some("-A Y"));
        }
        assert_eq!(refused_line(input, "no number here"), None);
        assert_eq!(refused_line(input, "line 9"), None);
    }
}
