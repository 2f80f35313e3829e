//! The test bed: the lab, and what this test needs beyond it.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::made::{Unmade, has_postgresql, made, source};
use super::{Client, IPV4, IPV6, dark, host};
use crate::harness::lab::{Host, Lab};
use crate::harness::run::stdout;

pub const LISTED: u8 = 1;
pub const DARK: u8 = 2;

/// The IPv6 address of a client's own listed host, or of its own host for the bare run: nobody is
/// there, and packets to it vanish at the gateway.
pub fn black_hole(which: u8, number: usize) -> String {
    format!("2001:db8:2::{which}:{number}")
}

/// The lab, with what this test needs beyond it: a resolver whose names have IPv6 addresses of their
/// own, so that the kernel can tell which client tried which; a second link, over which IPv6 works;
/// servers for TLS, `PostgreSQL` and what servers.py has.
pub struct Bed {
    pub lab: Lab,
    pub gate: Gate,
    /// The directory of the lab's files, as its hosts see it.
    state: PathBuf,
}

/// A request at a server, by the server's log.
pub struct Arrival {
    pub time: SystemTime,
    pub family: &'static str,
}

impl Bed {
    pub fn new(clients: &[Client], unmade: &Unmade, idle_timeout: i32) -> Self {
        let lab = Lab::start(&["--idle-timeout", &idle_timeout.to_string()]);
        // /proc/PID/root/DIRECTORY/requests
        let state = lab.file("requests").iter().skip(4).collect::<PathBuf>();
        let state = Path::new("/").join(state.parent().expect("a directory"));
        let bed = Self { lab, gate: Gate::default(), state };

        bed.shell("gateway", "ip address add 192.0.2.54/24 dev client");
        bed.shell("gateway", &bed.resolver(clients));
        fs::write(bed.lab.file("resolv"), "nameserver 192.0.2.54\n").expect("it can be written");

        let link = "ip link add name direct type veth peer name direct netns";
        bed.shell("client", &format!("{link} /proc/{}/ns/net", bed.process("server")));
        for (host, end) in [("client", 1), ("server", 2)] {
            let address = format!("ip address add 2001:db8:3::{end}/64 dev direct nodad");
            bed.shell(host, &format!("ip link set direct up\n{address}"));
        }
        bed.shell("client", NOTE_IPV6_ATTEMPTS);

        let log = bed.state.join("requests");
        let mut https = Command::new("/usr/bin/python3");
        https.arg("-I").arg(source("../lab/server.py")).arg("443").arg(&log).arg(made("lab.pem"));
        bed.serve(&https);
        if !unmade.contains_key("venv") {
            let mut others = Command::new(made("venv/bin/python3"));
            others.arg(source("servers.py")).arg(&log);
            bed.serve(&others);
        }
        if has_postgresql() {
            let (script, state) = (source("postgresql"), bed.state.display());
            let script = script.display();
            bed.shell("server", &format!("{script} {state}/postgresql {state}/statements"));
        }
        bed
    }

    /// The command that starts the resolver. It goes into the background once it can be asked.
    fn resolver(&self, clients: &[Client]) -> String {
        const SERVER: &str = "198.51.100.2";
        let mut command = format!(
            "exec dnsmasq --conf-file=/dev/null --pid-file= --user=root --group=root \
             --listen-address=192.0.2.54 --bind-interfaces --except-interface=lo \
             --no-resolv --no-hosts --no-poll --address=/#/ --log-queries --log-facility={}",
            self.state.join("questions").display()
        );
        for (client, number) in clients.iter().zip(1..) {
            let mut record = |name: String, ipv6: &str| {
                let _ = write!(command, " --host-record={name},{SERVER}{ipv6}");
            };
            record(host(number, "v4only"), "");
            for domain in ["bare.free", "shimmed.free"] {
                record(host(number, domain), ",2001:db8:3::2");
            }
            for (name, hole) in [(client.listed(number), LISTED), (dark(number), DARK)] {
                record(name, &format!(",{}", black_hole(hole, number)));
            }
        }
        command
    }

    /// The process that holds a host's namespaces.
    fn process(&self, host: &str) -> String {
        self.lab.file(host).display().to_string()
    }

    /// A file of ours in the lab, as it is called outside.
    fn file(&self, host: &str, name: &str) -> PathBuf {
        let file = self.state.join(name);
        Path::new("/proc")
            .join(self.process(host))
            .join("root")
            .join(file.strip_prefix("/").unwrap())
    }

    /// A command on a host and in the lab's process namespace: it ends with the lab at the latest.
    fn inside(&self, host: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.process(host), "-p", "-n", "-m", "--"]);
        command
    }

    fn shell(&self, host: &str, script: &str) {
        let mut command = self.inside(host);
        let status = command.args(["sh", "-euc", script]).stdin(Stdio::null()).status();
        assert!(status.expect("nsenter starts").success(), "on the {host}: {script}");
    }

    /// Starts a server, which says when it is listening.
    fn serve(&self, server: &Command) {
        let mut command = self.inside("server");
        command.arg(server.get_program()).args(server.get_args());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let stdout = child.expect("nsenter starts").stdout.expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line, "listening\n", "{server:?}");
    }

    /// What the servers' logs say of a request: time and client address begin a line.
    pub fn arrival(&self, mark: &str) -> Option<Arrival> {
        let line = self.lines(mark).into_iter().next()?;
        let (time, rest) = line.split_once(' ')?;
        let (address, _) = rest.split_once(' ')?;
        let time = UNIX_EPOCH + Duration::from_secs_f64(time.parse().ok()?);
        Some(Arrival { time, family: if address.contains(':') { IPV6 } else { IPV4 } })
    }

    /// How often a request has come.
    pub fn arrivals(&self, mark: &str) -> usize {
        self.lines(mark).len()
    }

    /// The lines of the servers' logs about a request.
    fn lines(&self, mark: &str) -> Vec<String> {
        let is_marked = |line: &&str| line.split([' ', '?', '=', '/']).any(|word| word == mark);
        let of_log = |log| {
            let log = fs::read_to_string(self.file("server", log)).unwrap_or_default();
            log.lines().filter(is_marked).map(str::to_owned).collect::<Vec<_>>()
        };
        ["requests", "statements"].into_iter().flat_map(of_log).collect()
    }

    /// The types of the questions for a name, sorted. Some resolvers ask in a mixture of cases.
    pub fn questions(&self, name: &str) -> Vec<String> {
        let log = fs::read_to_string(self.file("gateway", "questions")).unwrap_or_default();
        let type_of = |line: &str| {
            let (kind, rest) = line.split_once("query[")?.1.split_once("] ")?;
            rest.split(' ').next()?.eq_ignore_ascii_case(name).then(|| kind.to_owned())
        };
        let mut types: Vec<_> = log.lines().filter_map(type_of).collect();
        types.sort();
        types
    }

    /// The black holes that somebody has tried to connect to.
    pub fn ipv6_attempts(&self) -> Vec<String> {
        let mut nft = Command::new("nft");
        nft.args(["list", "set", "ip6", "attempts", "black_hole"]);
        let output = self.lab.on(Host::Client, &mut nft).output().expect("nft starts");
        assert!(output.status.success(), "{output:?}");
        let text = stdout(&output);
        text.split([' ', ',', '\n']).map(str::to_owned).collect()
    }
}

/// The kernel's own note of every black hole that a packet was made for.
const NOTE_IPV6_ATTEMPTS: &str = "nft -f - <<'END'
table ip6 attempts {
    set black_hole {
        type ipv6_addr
        flags dynamic
    }
    chain output {
        type filter hook output priority filter
        ip6 daddr 2001:db8:2::/64 meta l4proto tcp add @black_hole { ip6 daddr }
    }
}
END";

/// Lets a few programs start at a time: many at once on two cores would all be slow.
pub struct Gate {
    free: Mutex<u32>,
    freed: Condvar,
}

impl Default for Gate {
    fn default() -> Self {
        Self { free: Mutex::new(4), freed: Condvar::new() }
    }
}

pub struct Turn<'a>(&'a Gate);

impl Gate {
    pub fn enter(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap();
        *self.freed.wait_while(free, |free| *free == 0).unwrap() -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap() += 1;
        self.0.freed.notify_one();
    }
}
