//! The name behind an address: which host a process means by a peer that does not answer.
//!
//! An address alone does not tell its name, but the names that a process is likely to use are few: those in its
//! command line, its environment, its list, and in /etc/hosts.

use std::net::IpAddr;

use crate::environment::Environment;
use crate::process::Process;

/// Names of hosts that occur in a process's command line, environment and list.
pub fn candidates(
    _id: u32,
    _words: &[Vec<u8>],
    _environ: &[u8],
    _environment: &Environment,
) -> Vec<String> {
    Vec::new()
}

/// The names of the peers of a process that do not answer over IPv6.
pub fn of_silent_peers(process: &Process) -> Vec<(IpAddr, String)> {
    process.hosts.iter().filter_map(|name| Some((name.parse().ok()?, name.clone()))).collect()
}
