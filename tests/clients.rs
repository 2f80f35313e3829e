//! Real programs under the library, a row of one table each. For each row, from the kernel's word,
//! the server's and the resolver's:
//!
//! - a listed host, whose IPv6 is a black hole, is reached over IPv4 and no IPv6 packet is tried;
//! - the connection has the keepalive timings of the settings where the program sets none itself;
//! - a reply that takes longer than the NAT's memory arrives, and is lost without the library;
//! - an unlisted host is asked for, and reached, as without the library;
//! - exit status and output are those of a bare run against a host that has only IPv4.
//!
//! What the row says of the bare program is its control. A program that this machine does not have
//! is skipped with a line that says so.

#[path = "clients/bed.rs"]
mod bed;
mod lab;
#[path = "clients/made.rs"]
mod made;
mod programs;
#[path = "clients/run.rs"]
mod run;

use std::fmt::{self, Debug, Write as _};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bed::{Bed, DARK, LISTED, black_hole};
use lab::Host;
use made::{lacks, made, make_clients, source};
use programs::stdout;
use run::{Run, Timings, words};

// --- The table ----------------------------------------------------------------------------------

/// A program that makes one request and prints the answer.
#[derive(Clone, Copy)]
struct Client {
    name: &'static str,
    /// The program: an absolute path, or one below `target/clients`.
    program: &'static str,
    /// Where it comes from: a Debian package, or what the test makes itself (`MAKERS`).
    from: &'static str,
    /// Its arguments and environment for a request.
    arguments: Arguments,
    server: Server,
    /// The host that is listed, where it matters which.
    host: Option<&'static str>,
    /// What it does about keepalive by itself.
    keepalive: Keepalive,
    /// What it does by itself when a host's IPv6 is a black hole.
    alone: Alone,
    resolver: Resolver,
}

type Arguments = fn(&mut Command, &Request);

/// One request: to a host, for an answer after so many seconds, with a mark to know it by.
struct Request<'a> {
    host: &'a str,
    wait: u64,
    mark: &'a str,
}

/// The parts of a row that most rows do not have.
impl Client {
    fn row(self, name: &'static str, arguments: Arguments) -> Self {
        Self { name, arguments, ..self }
    }

    fn server(self, server: Server) -> Self {
        Self { server, ..self }
    }

    fn host(self, host: &'static str) -> Self {
        Self { host: Some(host), ..self }
    }

    fn keepalive(self, keepalive: Keepalive) -> Self {
        Self { keepalive, ..self }
    }

    fn alone(self, alone: Alone) -> Self {
        Self { alone, ..self }
    }

    fn own_resolver(self) -> Self {
        Self { resolver: Resolver::Own, ..self }
    }
}

impl Client {
    /// The listed host that it asks.
    fn listed(&self, number: usize) -> String {
        self.host.map_or_else(|| format!("client{number}.listed.example.com"), str::to_owned)
    }
}

/// The host that it asks alone.
fn dark(number: usize) -> String {
    format!("client{number}.dark.example.com")
}

impl Request<'_> {
    fn path(&self) -> String {
        let Self { wait, mark, .. } = self;
        if *wait == 0 { format!("/now?{mark}") } else { format!("/after/{wait}?{mark}") }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}{}", self.host, self.path())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Http,
    Ssh,
    Postgresql,
}

/// What a program asks of the kernel itself; a timing that it does not set is none.
#[derive(Clone, Copy, Debug)]
struct Keepalive {
    on: bool,
    idle: Option<i32>,
    interval: Option<i32>,
    count: Option<i32>,
}

impl Keepalive {
    const fn set(idle: i32, interval: i32, count: i32) -> Self {
        Self { on: true, idle: Some(idle), interval: Some(interval), count: Some(count) }
    }

    /// It asks for none.
    const NONE: Self = Self { on: false, idle: None, interval: None, count: None };
    /// It switches keepalive on and leaves the timings to the system: two hours.
    const ON: Self = Self { on: true, ..Self::NONE };
    const CURL: Self = Self { count: None, ..Self::set(60, 60, 0) };

    /// What a socket has where this program's own wishes come before these defaults.
    fn over(self, defaults: Timings) -> Timings {
        Timings {
            idle: self.idle.unwrap_or(defaults.idle),
            interval: self.interval.unwrap_or(defaults.interval),
            count: self.count.unwrap_or(defaults.count),
        }
    }
}

/// What a bare program does with a host whose IPv6 is a black hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    /// It tries IPv6 and waits.
    Hangs,
    /// It tries IPv6, and IPv4 when that takes long.
    FallsBack,
    /// It never tries IPv6.
    TakesIpv4,
}

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangs => "hangs",
            Self::FallsBack => "falls back",
            Self::TakesIpv4 => "takes IPv4",
        })
    }
}

/// Who finds a program's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    /// libc's getaddrinfo, which the library interposes.
    Libc,
    /// A resolver of its own: the allowlist does not reach it.
    Own,
}

/// A row to begin with: libc's resolver, no wish for keepalive, no way round a black hole.
const CLIENT: Client = Client {
    name: "",
    program: "",
    from: "",
    arguments: |_, _| {},
    server: Server::Http,
    host: None,
    keepalive: Keepalive::NONE,
    alone: Alone::Hangs,
    resolver: Resolver::Libc,
};

/// The table. What it says of a program is true of Debian 12's, and of Node 20 where that is here.
fn clients() -> Vec<Client> {
    use Alone::{FallsBack, Hangs, TakesIpv4};
    let base = |program, from| Client { program, from, ..CLIENT };
    let curl_ = base("/usr/bin/curl", "curl").alone(FallsBack);
    let wget_ = base("/usr/bin/wget", "wget");
    let python3 = base("/usr/bin/python3", "python3");
    let venv = base("venv/bin/python3", "venv");
    let is_node_20 = node_version() >= 20;
    let node_ = base("/usr/bin/node", "nodejs").alone(if is_node_20 { FallsBack } else { Hangs });
    let on_node_20 = |keepalive| if is_node_20 { keepalive } else { Keepalive::NONE };
    let node_agent = on_node_20(Keepalive::set(1, 1, 10));
    let node_fetch = on_node_20(Keepalive::set(60, 1, 10));
    let java_ = base("/usr/bin/java", "java");
    let psql_ = base("/usr/bin/psql", "postgresql-client").server(Server::Postgresql);
    let ssh_ = base("/usr/bin/ssh", "openssh-client").server(Server::Ssh);
    vec![
        curl_.row("curl", |c, r| curl(c, &[], r)).keepalive(Keepalive::CURL),
        curl_.row("curl --no-keepalive", |c, r| curl(c, &["--no-keepalive"], r)),
        wget_.row("wget", wget),
        python3.row("Python urllib", |c, r| python(c, "urllib", r)),
        venv.row("Python requests", |c, r| python(c, "requests", r)),
        venv.row("Python httpx", |c, r| python(c, "httpx", r)),
        venv.row("Python httpx async", |c, r| python(c, "httpx-async", r)).alone(FallsBack),
        venv.row("Python aiohttp", |c, r| python(c, "aiohttp", r)).alone(FallsBack),
        venv.row("Python aiohttp, aiodns", |c, r| python(c, "aiohttp-aiodns", r))
            .alone(FallsBack)
            .own_resolver(),
        venv.row("openai SDK", |c, r| python(c, "openai", r))
            .host("api.openai.com")
            .alone(FallsBack),
        venv.row("openai SDK async", |c, r| python(c, "openai-async", r))
            .host("eu.api.openai.com")
            .alone(FallsBack),
        venv.row("anthropic SDK", |c, r| python(c, "anthropic", r))
            .host("api.anthropic.com")
            .keepalive(Keepalive::set(60, 60, 5))
            .alone(FallsBack),
        node_.row("Node http", |c, r| node(c, "http", r)).keepalive(node_agent),
        node_.row("Node https", |c, r| node(c, "https", r)),
        node_.row("Node fetch", |c, r| node(c, "fetch", r)).keepalive(node_fetch),
        node_
            .row("Node dns.lookup", |c, r| node(c, "lookup", r))
            .keepalive(node_agent)
            .alone(Hangs),
        java_
            .row("Java HttpURLConnection", |c, r| java(c, "HttpURLConnection", r))
            .alone(TakesIpv4),
        java_.row("Java HttpClient", |c, r| java(c, "HttpClient", r)).alone(TakesIpv4),
        java_.row("Java HttpClient, IPv6 first", |c, r| {
            java(c.arg("-Djava.net.preferIPv6Addresses=true"), "HttpClient", r);
        }),
        psql_.row("psql", |c, r| psql(c, "", r)).keepalive(Keepalive::ON),
        psql_
            .row("psql keepalives_idle=1 ...", |c, r| {
                psql(c, "keepalives_idle=1 keepalives_interval=2 keepalives_count=3", r);
            })
            .keepalive(Keepalive::set(1, 2, 3)),
        psql_.row("psql keepalives=0", |c, r| psql(c, "keepalives=0", r)),
        ssh_.row("ssh", |c, r| ssh(c, "TCPKeepAlive=yes", r)).keepalive(Keepalive::ON),
        ssh_.row("ssh TCPKeepAlive=no", |c, r| ssh(c, "TCPKeepAlive=no", r)),
        base("/usr/bin/perl", "perl").row("Perl HTTP::Tiny", perl).keepalive(Keepalive::ON),
        base("ureq/debug/ureq-client", "ureq").row("Rust ureq", ureq),
        base("asio", "asio").row("C++ Boost.Asio", asio),
    ]
}

fn curl(command: &mut Command, options: &[&str], request: &Request) {
    command.arg("-sS").args(options).arg(request.url("http"));
}

fn wget(command: &mut Command, request: &Request) {
    command.args(["-q", "-O", "-", &request.url("http")]);
}

fn python(command: &mut Command, client: &str, request: &Request) {
    command.arg(source("python.py")).args([client, &request.url("http")]);
    command.env("SSL_CERT_FILE", made("lab.pem"));
}

fn node(command: &mut Command, client: &str, request: &Request) {
    let scheme = if client == "https" { "https" } else { "http" };
    command.arg(source("node.mjs")).args([client, &request.url(scheme)]);
    command.env("NODE_EXTRA_CA_CERTS", made("lab.pem"));
}

/// The major version; 0 where there is no Node.
fn node_version() -> u32 {
    let output = Command::new("/usr/bin/node").arg("--version").output();
    let version = output.map(|output| stdout(&output)).unwrap_or_default();
    version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn java(command: &mut Command, client: &str, request: &Request) {
    command.arg("-cp").arg(made("java")).args(["Client", client, &request.url("http")]);
}

fn psql(command: &mut Command, settings: &str, request: &Request) {
    let Request { host, wait, mark } = request;
    let user = format!("host={host} user=postgres dbname=postgres application_name={mark}");
    command.args(["-X", "-A", "-t", "-d", &format!("{user} {settings}")]);
    command.args(["-c", &format!("select 42 from pg_sleep({wait})")]);
}

fn ssh(command: &mut Command, option: &str, request: &Request) {
    let unknown = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
    command.args(["-F", "none", "-o", option]);
    command.args(unknown.iter().flat_map(|option| ["-o", option]));
    command.args([request.host, &format!("{} {}", request.mark, request.wait)]);
}

fn perl(command: &mut Command, request: &Request) {
    command.arg(source("perl.pl")).arg(request.url("http"));
}

fn ureq(command: &mut Command, request: &Request) {
    command.arg(request.url("http"));
}

fn asio(command: &mut Command, request: &Request) {
    command.args([request.host, &request.path()]);
}

// --- The test -----------------------------------------------------------------------------------

/// The NAT forgets a connection after so many seconds of silence.
const IDLE_TIMEOUT: i32 = 4;
/// A reply that takes longer than that.
const SLOW: u64 = 7;
/// The settings of the runs with the library: no program chooses these timings itself.
const SETTINGS: [(&str, &str); 2] = [
    ("KEEPALIVE", "idle=2,interval=3,count=4"),
    ("IPV4_ONLY", "*.listed.example.com,.api.openai.com,api.anthropic.com"),
];
const OURS: Timings = Timings { idle: 2, interval: 3, count: 4 };
/// So long a program may take for what needs no waiting, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn real_programs_are_cured_and_otherwise_as_they_were() {
    let clients = clients();
    let unmade = make_clients();
    let bed = Bed::new(&clients, &unmade);
    let mut verdicts: Vec<_> = thread::scope(|scope| {
        let try_out = |(client, number)| {
            let bed = &bed;
            let lacks = lacks(client, &unmade);
            scope.spawn(move || match lacks {
                Some(reason) => Verdict { skipped: Some(reason), ..Verdict::new(client) },
                None => Row { client, number, bed }.run(),
            })
        };
        let rows: Vec<_> = clients.iter().zip(1..).map(try_out).collect();
        rows.into_iter().map(|row| row.join().expect("a row does not panic")).collect()
    });
    verdicts.sort_by_key(|verdict| verdict.skipped.is_some());
    // Not by `print!`, whose words are lost where a test passes.
    let _ = io::stderr().write_all(table(&verdicts).as_bytes());
    let problems: Vec<_> = verdicts.iter().flat_map(|verdict| &verdict.problems).collect();
    assert!(problems.is_empty(), "{} problems:\n{problems:#?}", problems.len());
    assert!(verdicts.iter().any(|verdict| verdict.skipped.is_none()), "no client is here");
}

/// A client on the test bed.
struct Row<'a> {
    client: &'a Client,
    number: usize,
    bed: &'a Bed,
}

impl Row<'_> {
    fn run(&self) -> Verdict {
        let Self { client, number, bed } = self;
        let mut verdict = Verdict::new(client);
        let listed = client.listed(*number);
        let host = |domain: &str| format!("client{number}.{domain}.example.com");
        let (v4only, free_bare, free_shimmed) =
            (host("v4only"), host("bare.free"), host("shimmed.free"));

        // The program's own wishes come before the settings and the kernel's defaults.
        let own = client.keepalive;
        let bare_timings = own.on.then(|| own.over(Timings::KERNEL));
        let timings = Some(own.over(OURS));

        // What waits goes first, and the rest while it waits.
        let (slow, bare_slow, alone, mut quick) = thread::scope(|scope| {
            let mut slow = self.start(true, &listed, SLOW, "slow");
            let slow = scope.spawn(move || (slow.keepalive(), slow.reply(timings), slow.family()));
            let mut bare_slow = self.start(false, &v4only, SLOW, "bare-slow");
            let bare_slow = scope.spawn(move || {
                (bare_slow.keepalive(), bare_slow.reply(bare_timings), bare_slow.family())
            });
            let mut alone = self.start(false, &dark(*number), 0, "alone");
            let alone = scope.spawn(move || alone.at_black_hole(client.alone));
            let quick = [
                self.to_its_end(false, &v4only, "bare"),
                self.to_its_end(true, &listed, "shimmed"),
                self.to_its_end(false, &free_bare, "unlisted-bare"),
                self.to_its_end(true, &free_shimmed, "unlisted-shimmed"),
            ];
            let expect = "a client is watched without a panic";
            (
                slow.join().expect(expect),
                bare_slow.join().expect(expect),
                alone.join().expect(expect),
                quick,
            )
        });
        let [bare, shimmed, unlisted_bare, unlisted] = &mut quick;
        let tried = bed.ipv6_attempts();
        let tried = |hole| tried.contains(&black_hole(hole, *number));

        verdict.cell("keepalive, bare", &words(bare_timings), &bare_slow.0);
        verdict.cell("keepalive with the shim", &words(timings), &slow.0);

        // The reply after the NAT's memory: it arrives where probes came before.
        verdict.cell("slow reply, bare", reply(bare_timings), &bare_slow.1);
        verdict.cell("slow reply with the shim", reply(timings), &slow.1);

        // The black hole.
        let (family, delay) = alone;
        let seen = match (tried(DARK), family) {
            (true, NOBODY) => Alone::Hangs.to_string(),
            (true, IPV4) => Alone::FallsBack.to_string(),
            (false, IPV4) => Alone::TakesIpv4.to_string(),
            (tried, family) => format!("{family} came, IPv6 tried: {tried}"),
        };
        verdict.cell("black hole, bare", &client.alone.to_string(), &seen);
        verdict.cells.last_mut().expect("just pushed").push_str(&delay);
        let (questions, by) = match client.resolver {
            Resolver::Libc => ("A", IPV4),
            Resolver::Own => ("A AAAA", "IPv4, IPv6 tried"),
        };
        let mut asked = bed.questions(&listed);
        asked.dedup();
        verdict.check("questions for the listed host", &questions, &asked.join(" ").as_str());
        verdict.check("the slow request to it came by", &IPV4, &slow.2);
        verdict.check("the slow request, bare, came by", &IPV4, &bare_slow.2);
        let tried = if tried(LISTED) { ", IPv6 tried" } else { "" };
        verdict.cell("the listed host is reached by", by, &format!("{}{tried}", shimmed.family()));

        // The rest is as it was.
        verdict.check("the bare run succeeds", &Some(0), &bare.status());
        verdict.check("exit status and output", &bare.output, &shimmed.output);
        let ipv6 = if client.alone == Alone::TakesIpv4 { IPV4 } else { IPV6 };
        verdict.check("an unlisted host is reached, bare, by", &ipv6, &unlisted_bare.family());
        verdict.cell("an unlisted host is reached by", unlisted_bare.family(), unlisted.family());
        verdict.check("output for an unlisted host", &unlisted_bare.output, &unlisted.output);
        let of_bare = bed.questions(&free_bare);
        verdict.check("questions for an unlisted host", &of_bare, &bed.questions(&free_shimmed));
        verdict
    }

    /// Starts the client and waits until its request has arrived, or it has asked for the address
    /// of a host that is a black hole.
    fn start(&self, shim: bool, host: &str, wait: u64, what: &str) -> Run<'_> {
        let Self { client, number, bed } = self;
        let program = made(client.program);
        let mut command = if shim {
            bed.environment.shimmed(program, &SETTINGS)
        } else {
            bed.environment.bare(program)
        };
        // What this machine's user wishes of curl, Python or Node is not for these runs. The names
        // below are the environment's own business.
        let is_kept =
            |name: &str| ["PATH", "LD_", "EGRESS_SHIM"].iter().any(|it| name.starts_with(it));
        for (name, _) in std::env::vars_os().filter(|(name, _)| !is_kept(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.env("HOME", "/nonexistent").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mark = format!("client{number}-{what}");
        (client.arguments)(&mut command, &Request { host, wait, mark: &mark });
        bed.lab.on(Host::Client, &mut command);

        let _turn = bed.gate.enter();
        let mut run = Run::start(bed, mark, &mut command);
        let start = Instant::now();
        while !run.has_arrived() && !run.has_ended() && start.elapsed() < PATIENCE {
            if host == dark(*number) && !bed.questions(host).is_empty() {
                run.start = SystemTime::now();
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        run
    }

    /// Runs the client for an answer at once, to its end.
    fn to_its_end(&self, shim: bool, host: &str, what: &str) -> Run<'_> {
        let mut run = self.start(shim, host, 0, what);
        run.end(PATIENCE);
        run
    }
}

/// What is to become of a reply that takes longer than the NAT remembers.
fn reply(keepalive: Option<Timings>) -> &'static str {
    if keepalive.is_some_and(|timings| timings.idle < IDLE_TIMEOUT) { ARRIVED } else { LOST }
}

const ARRIVED: &str = "arrives";
const LOST: &str = "lost";
const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";
const NOBODY: &str = "nobody";

// --- Verdicts -----------------------------------------------------------------------------------

/// The columns of the table of results; keepalive as idle/interval/count.
const HEADS: [&str; 8] = [
    "client",
    "keepalive",
    "with shim",
    "late reply",
    "with shim",
    "black hole",
    "with shim",
    "unlisted",
];

/// What became of a row.
struct Verdict {
    name: &'static str,
    skipped: Option<String>,
    cells: Vec<String>,
    problems: Vec<String>,
}

impl Verdict {
    fn new(client: &Client) -> Self {
        let name = client.name;
        Self { name, skipped: None, cells: vec![name.to_owned()], problems: Vec::new() }
    }

    fn check<T: PartialEq + Debug>(&mut self, what: &str, wanted: &T, seen: &T) {
        if wanted != seen {
            self.problems.push(format!("{}: {what}: wanted {wanted:?}, seen {seen:?}", self.name));
        }
    }

    /// A check whose outcome stands in the table.
    fn cell(&mut self, what: &str, wanted: &str, seen: &str) {
        self.check(what, &wanted, &seen);
        self.cells.push(if wanted == seen { seen.to_owned() } else { format!("{seen} (WRONG)") });
    }
}

/// The table of results, and what was skipped.
fn table(verdicts: &[Verdict]) -> String {
    let tried = || verdicts.iter().filter(|verdict| verdict.skipped.is_none());
    let heads = HEADS.map(str::to_owned).to_vec();
    let rows: Vec<_> = [heads].into_iter().chain(tried().map(|row| row.cells.clone())).collect();
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let mut table = String::from("\n");
    for row in &rows {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(at, cell)| format!("{cell:<0$}", width(at).unwrap_or_default()));
        table += cells.collect::<Vec<_>>().join("  ").trim_end();
        table += "\n";
    }
    for verdict in verdicts {
        if let Some(reason) = &verdict.skipped {
            let _ = writeln!(table, "SKIPPED {}: {reason}", verdict.name);
        }
    }
    let (all, tried) = (verdicts.len(), tried().count());
    let _ = writeln!(table, "{tried} clients tried, {} skipped.", all - tried);
    let _ = writeln!(table, "keepalive: idle/interval/count, the program's own or the shim's");
    let _ = writeln!(table, "late reply: after {SLOW} s; the NAT forgets after {IDLE_TIMEOUT} s");
    let _ = writeln!(table, "black hole: what it does where IPv6 packets vanish");
    let _ = writeln!(table, "unlisted: the family that it takes, with the shim as without");
    table
}
