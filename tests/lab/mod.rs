//! The lab network (`tests/lab/network`) for tests: a client behind an IPv4-only NAT gateway and a
//! server beyond it, gone when the [`Lab`] is dropped or its process ends, however it ends.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// One of the lab's hosts.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    Client,
    Gateway,
    Server,
}

/// A running lab.
pub struct Lab {
    network: Child,
    lines: Vec<(String, String)>,
}

impl Lab {
    /// Starts a lab, with options of `tests/lab/network`.
    pub fn start(options: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/network");
        let network = Command::new(script)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/lab/network starts");
        let mut lab = Self { network, lines: Vec::new() };
        let output = lab.network.stdout.take().expect("its output is a pipe");
        for line in BufReader::new(output).lines() {
            let line = line.expect("its output can be read");
            if line == "ready" {
                return lab;
            }
            let (key, value) = line.split_once(' ').expect("its lines are KEY VALUE");
            lab.lines.push((key.to_owned(), value.to_owned()));
        }
        panic!("tests/lab/network ended before it was ready (its words are on standard error)");
    }

    fn value(&self, key: &str) -> &str {
        let line = self.lines.iter().find(|(name, _)| name == key);
        &line.unwrap_or_else(|| panic!("tests/lab/network prints a line {key}")).1
    }

    /// A file of the lab: `queries`, `requests`, `hosts` or `resolv`.
    pub fn file(&self, key: &str) -> PathBuf {
        self.value(key).into()
    }

    /// What the resolvers were asked while `f` ran: lines of dnsmasq's log like `query[A] NAME`.
    pub fn questions<T>(&self, f: impl FnOnce() -> T) -> (T, Vec<String>) {
        let count = || {
            let log = fs::read(self.file("queries")).expect("the query log can be read");
            let log = String::from_utf8_lossy(&log).into_owned();
            let of_line = |line: &str| {
                let question = &line[line.find("query[")?..];
                Some(question.split(" from ").next().unwrap_or(question).to_owned())
            };
            log.lines().filter_map(of_line).collect::<Vec<_>>()
        };
        let before = count().len();
        let value = f();
        (value, count().split_off(before))
    }

    /// Makes a command run on a host of the lab, in its network and mount namespaces. The command
    /// is started there directly, so its environment is for the program alone.
    pub fn on<'a>(&self, host: Host, command: &'a mut Command) -> &'a mut Command {
        let key = match host {
            Host::Client => "client",
            Host::Gateway => "gateway",
            Host::Server => "server",
        };
        let holder = format!("/proc/{}/ns", self.value(key));
        let open = |name| File::open(format!("{holder}/{name}")).expect("the holder lives");
        let (network, mounts) = (open("net"), open("mnt"));
        let enter = move || {
            use std::os::fd::AsRawFd;
            for namespace in [&network, &mounts] {
                // SAFETY: setns(2) with a descriptor that this closure owns.
                if unsafe { libc::setns(namespace.as_raw_fd(), 0) } != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: the closure makes two system calls and nothing else after the fork.
        unsafe { command.pre_exec(enter) }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.network.stdin.take());
        let _ = self.network.wait();
    }
}
