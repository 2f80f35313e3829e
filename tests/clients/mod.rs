//! Real programs under the library, a row of one table each. For each row, from the kernel's word,
//! the server's and the resolver's:
//!
//! - a listed host, whose IPv6 is a black hole, is reached over IPv4 and no IPv6 packet is tried;
//! - the connection has the keepalive timings of the settings where the program sets none itself;
//! - a reply that takes longer than the NAT's memory arrives, and is lost without the library, or what the
//!   program sends by then is answered by a reset;
//! - an unlisted host is asked for, and reached, as without the library;
//! - exit status and output are those of a bare run against a host that has only IPv4.
//!
//! What the row says of the bare program is its control. A program that this machine does not have
//! is left out with a line that says so.

mod bed;
mod made;
mod rescue;
mod run;
mod table;

use std::fmt::{self, Debug, Write as _};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::harness::lab::Host;
use crate::harness::{Environment, skip};
use bed::{Bed, DARK, LISTED, black_hole};
use made::{lacks, made, make_clients};
use run::{Run, Timings, words};
use table::clients;

// --- A row of the table ---------------------------------------------------------------------------

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
    /// The libc that it runs on, and the library for that.
    environment: fn() -> Environment,
    server: Server,
    /// The host that is listed, where it matters which.
    host: Option<&'static str>,
    /// What it does about keepalive by itself.
    keepalive: Keepalive,
    /// Whether the settings are enforced against that.
    enforce: bool,
    /// What becomes of a reply when the NAT has forgotten the connection.
    forgotten: &'static str,
    /// What it does by itself when a host's IPv6 is a black hole.
    at_black_hole: AtBlackHole,
    /// The types of the questions for a listed host.
    questions: &'static str,
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

    fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    fn environment(self, environment: fn() -> Environment) -> Self {
        Self { environment, ..self }
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

    fn at_black_hole(self, at_black_hole: AtBlackHole) -> Self {
        Self { at_black_hole, ..self }
    }

    fn enforced(self) -> Self {
        Self { enforce: true, ..self }
    }

    /// It sends into the connection that the NAT has forgotten, as one does that was idle in a pool.
    fn pooled(self) -> Self {
        Self { forgotten: RESET, ..self }
    }

    /// It has a resolver of its own: it asks for IPv6 addresses, and gets none.
    fn asks(self, questions: &'static str) -> Self {
        Self { questions, ..self }
    }
}

impl Client {
    /// What is to become of a reply that takes longer than the NAT remembers.
    fn reply(&self, keepalive: Option<Timings>) -> &'static str {
        let is_kept = keepalive.is_some_and(|timings| timings.idle < IDLE_TIMEOUT);
        if is_kept { ARRIVED } else { self.forgotten }
    }

    /// The listed host that it asks.
    fn listed(&self, number: usize) -> String {
        self.host.map_or_else(|| host(number, "listed"), str::to_owned)
    }
}

/// A host of a client's own.
fn host(number: usize, domain: &str) -> String {
    format!("client{number}.{domain}.example.com")
}

/// The host, a black hole, that it asks without the library.
fn dark(number: usize) -> String {
    host(number, "dark")
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
    Postgresql,
    /// One of servers.py.
    Other,
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
    const CHROMIUM: Self = Self { count: None, ..Self::set(45, 45, 0) };
    /// It also sets a count of 9, the kernel's default: that cannot be told from none.
    const PYMONGO: Self = Self { count: None, ..Self::set(120, 10, 0) };
    /// It sets idle after connect.
    const RUST_POSTGRES: Self = Self { on: true, idle: Some(7200), ..Self::NONE };

    /// What a socket has where this program's own wishes come before these defaults.
    fn over(self, defaults: Timings) -> Timings {
        Timings {
            idle: self.idle.unwrap_or(defaults.idle),
            interval: self.interval.unwrap_or(defaults.interval),
            count: self.count.unwrap_or(defaults.count),
        }
    }

    /// What it has where these timings are enforced.
    fn under(self, most: Timings) -> Timings {
        let Timings { idle, interval, count } = self.over(most);
        Timings {
            idle: idle.min(most.idle),
            interval: interval.min(most.interval),
            count: count.min(most.count),
        }
    }
}

/// What a bare program does with a host whose IPv6 is a black hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtBlackHole {
    /// It tries IPv6 and waits.
    Hangs,
    /// It tries IPv6, and IPv4 when that takes long.
    FallsBack,
    /// It begins with any of the addresses, and tries another when that takes long.
    TakesAny,
    /// It never tries IPv6.
    TakesIpv4,
}

impl fmt::Display for AtBlackHole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangs => "hangs",
            Self::FallsBack => "falls back",
            Self::TakesAny => "takes any",
            Self::TakesIpv4 => "takes IPv4",
        })
    }
}

/// A row to begin with: libc's resolver, no wish for keepalive, no way round a black hole.
const CLIENT: Client = Client {
    name: "",
    program: "",
    from: "",
    arguments: |_, _| {},
    environment: Environment::here,
    server: Server::Http,
    host: None,
    keepalive: Keepalive::NONE,
    enforce: false,
    forgotten: LOST,
    at_black_hole: AtBlackHole::Hangs,
    questions: "A",
};

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
const ENFORCED: [(&str, &str); 2] =
    [("KEEPALIVE", "idle=2,interval=3,count=4,enforce"), SETTINGS[1]];
const OURS: Timings = Timings { idle: 2, interval: 3, count: 4 };
/// So long a program may take for what needs no waiting, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn real_programs_are_cured_and_otherwise_as_they_were() {
    let mut clients = clients();
    clients.retain(|client| (client.environment)().is_chosen());
    if clients.is_empty() {
        return;
    }
    let unmade = make_clients(&clients);
    let bed = Bed::new(&clients, &unmade, IDLE_TIMEOUT);
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
        let [v4only, free_bare, free_shimmed] =
            ["v4only", "bare.free", "shimmed.free"].map(|domain| host(*number, domain));

        // The program's own wishes come before the settings and the kernel's defaults.
        let own = client.keepalive;
        let bare_timings = own.on.then(|| own.over(Timings::KERNEL));
        let timings = Some(if client.enforce { own.under(OURS) } else { own.over(OURS) });
        let [due, bare_due] = [timings, bare_timings].map(|timings| client.reply(timings));

        // What waits goes first, and the rest while it waits.
        let (slow, bare_slow, dark_run, mut quick) = thread::scope(|scope| {
            let mut slow = self.start(true, &listed, SLOW, "slow");
            let slow = scope.spawn(move || (slow.keepalive(), slow.reply(due), slow.family()));
            let mut bare_slow = self.start(false, &v4only, SLOW, "bare-slow");
            let bare_slow = scope.spawn(move || {
                (bare_slow.keepalive(), bare_slow.reply(bare_due), bare_slow.family())
            });
            let mut dark_run = self.start(false, &dark(*number), 0, "dark");
            let dark_run = scope.spawn(move || dark_run.at_black_hole(client.at_black_hole));
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
                dark_run.join().expect(expect),
                quick,
            )
        });
        let [bare, shimmed, unlisted_bare, unlisted] = &mut quick;
        let tried = bed.ipv6_attempts();
        let tried = |hole| tried.contains(&black_hole(hole, *number));

        verdict.cell("keepalive, bare", &words(bare_timings), &bare_slow.0);
        verdict.cell("keepalive with the shim", &words(timings), &slow.0);

        // The reply after the NAT's memory: it arrives where probes came before.
        verdict.cell("slow reply, bare", bare_due, &bare_slow.1);
        verdict.cell("slow reply with the shim", due, &slow.1);

        // The black hole.
        let (family, delay) = dark_run;
        let seen = match (tried(DARK), family) {
            (_, IPV4) if client.at_black_hole == AtBlackHole::TakesAny => {
                client.at_black_hole.to_string()
            }
            (true, NOBODY) => AtBlackHole::Hangs.to_string(),
            (true, IPV4) => AtBlackHole::FallsBack.to_string(),
            (false, IPV4) => AtBlackHole::TakesIpv4.to_string(),
            (tried, family) => format!("{family} came, IPv6 tried: {tried}"),
        };
        verdict.cell("black hole, bare", &client.at_black_hole.to_string(), &seen);
        verdict.cells.last_mut().expect("just pushed").push_str(&delay);
        let mut asked = bed.questions(&listed);
        asked.dedup();
        verdict.check(
            "questions for the listed host",
            &client.questions,
            &asked.join(" ").as_str(),
        );
        verdict.check("the slow request to it came by", &IPV4, &slow.2);
        verdict.check("the slow request, bare, came by", &IPV4, &bare_slow.2);
        let tried = if tried(LISTED) { ", IPv6 tried" } else { "" };
        verdict.cell(
            "the listed host is reached by",
            IPV4,
            &format!("{}{tried}", shimmed.family()),
        );

        // The rest is as it was.
        verdict.check("the bare run succeeds", &Some(0), &bare.status());
        verdict.check("exit status and output", &bare.output, &shimmed.output);
        if client.at_black_hole == AtBlackHole::TakesAny {
            verdict.cells.push("either".to_owned());
        } else {
            let ipv6 = if client.at_black_hole == AtBlackHole::TakesIpv4 { IPV4 } else { IPV6 };
            verdict.check("an unlisted host is reached, bare, by", &ipv6, &unlisted_bare.family());
            verdict.cell(
                "an unlisted host is reached by",
                unlisted_bare.family(),
                unlisted.family(),
            );
            verdict.check("output for an unlisted host", &unlisted_bare.output, &unlisted.output);
        }
        let of_bare = bed.questions(&free_bare);
        verdict.check("questions for an unlisted host", &of_bare, &bed.questions(&free_shimmed));
        verdict
    }

    /// Starts the client and waits until its request has arrived, or it has asked for the address
    /// of a host that is a black hole.
    fn start(&self, shim: bool, host: &str, wait: u64, what: &str) -> Run<'_> {
        let Self { client, number, bed } = self;
        let (environment, program) = ((client.environment)(), made(client.program));
        let mut command = if shim {
            let settings = if client.enforce { ENFORCED } else { SETTINGS };
            environment.shimmed(program, &settings)
        } else {
            environment.bare(program)
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
        let mut run = Run::start(bed, host, mark, &mut command);
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

const ARRIVED: &str = "arrives";
const LOST: &str = "lost";
const RESET: &str = "reset";
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

/// The table of results. What was not run is a line of its own.
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
            skip(verdict.name, reason);
        }
    }
    let (all, tried) = (verdicts.len(), tried().count());
    let _ = writeln!(table, "{tried} clients tried, {} not run.", all - tried);
    let _ = writeln!(table, "keepalive: idle/interval/count, the program's own or the shim's");
    let _ = writeln!(table, "late reply: after {SLOW} s; the NAT forgets after {IDLE_TIMEOUT} s");
    let _ = writeln!(table, "black hole: what it does where IPv6 packets vanish");
    let _ = writeln!(table, "unlisted: the family that it takes, with the shim as without");
    table
}
