//! The lab network (`tests/lab/network`) for tests: a client behind an IPv4-only NAT gateway and a
//! server beyond it, gone when the [`Lab`] is dropped or its process ends, however it ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use super::ROOT;
use super::run::{expect_says, inside, with};

/// A network in which dual.example.com, other.example.com and, in /etc/hosts, many.example.com have
/// addresses of both families. It goes when the process of the tests ends.
pub static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(&[]);
    let hosts =
        "127.0.0.1 localhost\n198.51.100.2 many.example.com\n2001:db8:2::2 many.example.com\n";
    lab.write("hosts", hosts);
    lab
});

/// A network whose resolver never answers; /etc/hosts knows known.example.com and
/// static.example.com.
pub static SILENT: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(&[]);
    let names = "known.example.com static.example.com\n";
    let hosts = format!("127.0.0.1 localhost\n198.51.100.2 {names}2001:db8:2::2 {names}");
    lab.write("hosts", &hosts);
    // The gateway drops what is for this address.
    lab.write("resolv", "nameserver 2001:db8:2::53\n");
    lab
});

/// One of the lab's hosts.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    Client,
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
        let script = Path::new(ROOT).join("tests/lab/network");
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

    /// Writes a file of the lab anew.
    pub fn write(&self, key: &str, text: &str) {
        fs::write(self.file(key), text).expect("a file of the lab can be written");
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
    /// is started there directly, so its environment is only for the program.
    pub fn on<'a>(&self, host: Host, command: &'a mut Command) -> &'a mut Command {
        let key = match host {
            Host::Client => "client",
            Host::Server => "server",
        };
        let holder = format!("/proc/{}/ns", self.value(key));
        let open = |name| File::open(format!("{holder}/{name}")).expect("the holder lives");
        inside(command, ["net", "mnt"].map(open).into())
    }

    /// Has the NAT say nothing to packets of a connection that it has forgotten, as some do. (The lab's
    /// own sends a reset.)
    pub fn drop_what_is_forgotten(&self) {
        self.drop_on_the_way("iifname client ct state invalid");
    }

    /// Has the gateway drop what these words of nft(8) match, without an answer.
    pub fn drop_on_the_way(&self, what: &str) {
        let rule = format!("insert rule ip filter forward {what} drop");
        let words = ["-t", self.value("gateway"), "-n", "nft", &rule];
        expect_says(with(Command::new("nsenter"), words), "");
    }

    /// Has the gateway forward IPv6 from now on.
    pub fn let_ipv6_through(&self) {
        let forward = "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
        let words = ["-t", self.value("gateway"), "-n", "sh", "-euc", forward];
        expect_says(with(Command::new("nsenter"), words), "");
    }

    /// A command on the client.
    pub fn client(&self, mut command: Command) -> Command {
        self.on(Host::Client, &mut command);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.network.stdin.take());
        let _ = self.network.wait();
    }
}
