//! `--inspect`: the problems of running processes and their connections, and what to do. The gathered facts are
//! plain data ([`crate::process`]). The judge is the table [`RULES`], which is pure. The report is text or JSON.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString, c_int};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use egress_shim_core::kernel::{ESTABLISHED, SYN_SENT, Timer};
use egress_shim_core::settings::{self, PROGRAMS, SWITCH, TABLE, ValueKind};
use serde_json::{Value, json};

use crate::configuration::{Configuration, settings_of};
use crate::finding::{Finding, Severity};
use crate::library::{self, Library};
use crate::names::Answers;
use crate::output::{Failure, say, status};
use crate::process::{self, Gathered, Process, Unseen};
use crate::program::{self, differ_in_word_size};
use crate::report::{Format, Report, escape, escape_short, is_printable};
use crate::sockets::{Connection, family};

/// The seconds of silence after which many NATs forget a connection: 350 on AWS, 240 on Azure.
const MEMORY_OF_A_NAT: u64 = 350;
/// At most this many connections of a process are shown one by one.
const MOST_SHOWN: usize = 20;
/// A value or a path that is longer is shown in part.
const LONGEST_SHOWN: usize = 4096;
/// A command line that is longer is not repeated.
const LONGEST_COMMAND: usize = 2048;

/// Looks at processes: those with these PIDs, each with its descendants, or all of them.
///
/// # Errors
/// No process can be seen.
pub fn inspect(words: &[OsString], format: Format) -> Result<c_int, Failure> {
    let ids = words.iter().map(|word| id(word)).collect::<Result<Vec<_>, _>>()?;
    let asked = (!ids.is_empty()).then_some(ids.as_slice());
    give_up_in_time();
    let fails = |error| Failure::new(status::FAILED, why_no_proc(&error));
    let gathered = process::gather(asked).map_err(fails)?;
    let unseen: Vec<_> = gathered.unseen.iter().filter(|unseen| ids.contains(&unseen.id)).collect();
    if let Some(first) = unseen.first()
        && gathered.processes.is_empty()
    {
        return Err(Failure::new(status::FAILED, process::why_unseen(first)));
    }
    let here = Here::look();
    Inspection::of(&gathered, &ids, &here).report(&Report::new("inspect", format))
}

/// Ends this command if a file of a process does not answer, because it is on a network or FUSE file system that hangs.
fn give_up_in_time() {
    const LIMIT: Duration = Duration::from_secs(20);
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        say(
            "--inspect: a file of a process has not answered for 20 s: does a network or FUSE file system hang?",
        );
        // SAFETY: _exit(2) takes a number. This process has nothing to clean up.
        unsafe { libc::_exit(status::FAILED) }
    });
}

fn id(word: &OsStr) -> Result<u32, Failure> {
    let fails = |message| Err(Failure::new(status::FAILED, message));
    let shown = escape_short(word.as_bytes(), 64);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().or_else(|_| fails(format!("there is no process {shown} here")))
        }
        _ => fails(format!("--inspect {shown}: PID must be a number; pidof {shown} prints it")),
    }
}

fn why_no_proc(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "--inspect needs /proc, which is not mounted here".to_owned();
    }
    format!("/proc cannot be read: {error}")
}

/// The facts about this command that the advice refers to.
struct Here {
    /// The command line that starts this command.
    command: String,
    /// The library that it would preload.
    library: Option<Library>,
}

impl Here {
    fn look() -> Self {
        Self { command: own_command(), library: library::find(None).ok() }
    }
}

/// The name of this command if a shell finds it by that name, otherwise its path.
pub fn own_command() -> String {
    const NAME: &str = "egress-shim";
    let Ok(own) = std::env::current_exe() else { return NAME.to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    match program::find(OsStr::new(NAME), &path).map(|found| found.canonicalize()) {
        Ok(Ok(found)) if found == own => NAME.to_owned(),
        _ => quote(own.as_os_str().as_bytes()).unwrap_or_else(|| NAME.to_owned()),
    }
}

// -------------------------------------------------------------------------------------------------- judge

/// A process, and the facts that the judge has derived from it.
struct Case<'a> {
    process: &'a Process,
    configuration: Configuration,
    here: &'a Here,
    /// Whether its PID was given.
    is_named: bool,
    state: State,
}

/// The state of the library in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It acts.
    Acts,
    /// It is loaded, and `EGRESS_SHIM=off`.
    Off,
    /// It is loaded, and `EGRESS_SHIM_PROGRAMS` leaves the program out.
    LeftOut,
    /// It is loaded, but Go makes its system calls without libc.
    PastLibc,
    /// It is not loaded, and cannot be.
    Impossible(Obstacle),
    /// `LD_PRELOAD` names it, but it is not loaded.
    NotFound,
    /// There are settings, but `LD_PRELOAD` does not name the library (any more).
    Replaced,
    /// Nothing was done to load it.
    NotAsked,
}

/// Why nothing can be preloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Static,
    StaticGo,
    Privilege,
    Architecture,
    WordSize,
}

impl Obstacle {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Static => "the program is statically linked, so nothing can be preloaded into it",
            Self::StaticGo => {
                "the program is written in Go and statically linked, so nothing can be preloaded into it"
            }
            Self::Privilege => {
                "the program gains privileges from its file (set-user-ID and the like), so its loader ignores LD_PRELOAD"
            }
            Self::Architecture => {
                "the program is built for another architecture, so the library cannot be loaded into it"
            }
            Self::WordSize => {
                "the program is a 32-bit program, and only the 64-bit library is installed here"
            }
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Static => {
                "use its own settings for IPv4 and keepalive (docs/RUNTIMES.md lists them), or a build of it that is linked dynamically"
            }
            Self::StaticGo => {
                "use its own settings for IPv4 and keepalive; if it is built with cgo, GODEBUG=netdns=cgo sends its lookups through libc"
            }
            Self::Privilege => {
                "give it the privileges in another way (setpriv --ambient-caps, AmbientCapabilities= in systemd), or name the library in /etc/ld.so.preload"
            }
            Self::Architecture => {
                "use the library from a release for that architecture, if there is one"
            }
            Self::WordSize => {
                "install the 32-bit library (docs/MULTILIB.md), and start the program again"
            }
        }
    }
}

impl<'a> Case<'a> {
    fn of(process: &'a Process, here: &'a Here, is_named: bool) -> Self {
        let configuration = Configuration::of_other(&process.environment);
        let state = state(process, &configuration, here);
        Self { process, configuration, here, is_named, state }
    }

    fn is_loaded(&self) -> bool {
        self.process.library.is_some()
    }

    /// Whether somebody wanted the library in this process.
    fn is_meant(&self) -> bool {
        self.is_named
            || !matches!(self.state, State::NotAsked | State::Impossible(_))
            || self.has_settings()
    }

    fn has_settings(&self) -> bool {
        TABLE.iter().any(|row| self.process.environment.get(row.variable).is_some())
    }

    fn connections(&self, is_wanted: impl Fn(&Connection) -> bool) -> Vec<&'a Connection> {
        self.process.connections.iter().filter(|connection| is_wanted(connection)).collect()
    }

    /// The connections that hang, over one family.
    fn silent(&self, is_ipv6: bool) -> Vec<&'a Connection> {
        self.connections(|connection| {
            connection.is_connecting()
                && connection.socket.retries > 0
                && connection.socket.peer.is_ipv6() == is_ipv6
        })
    }

    fn subject(&self) -> String {
        format!("{} ({})", self.process.id, escape_short(self.process.name(), 64))
    }
}

fn state(process: &Process, configuration: &Configuration, here: &Here) -> State {
    if process.library.is_some() {
        let name = process.name();
        let called = process.words.first().map(|word| word.rsplit(|&byte| byte == b'/').next());
        let called = called.flatten().unwrap_or(name);
        return if configuration.is_off {
            State::Off
        } else if !settings::is_program_selected(&configuration.programs, [called, name]) {
            State::LeftOut
        } else if process.elf.as_ref().is_some_and(|elf| elf.is_go) {
            State::PastLibc
        } else {
            State::Acts
        };
    }
    if let Some(elf) = &process.elf {
        match (elf.is_static, elf.is_go) {
            (true, true) => return State::Impossible(Obstacle::StaticGo),
            (true, false) => return State::Impossible(Obstacle::Static),
            (false, _) => {}
        }
        if let Some(Library { files, .. }) = &here.library
            && files.iter().all(|(ours, _)| *ours != elf.architecture)
        {
            let is_narrow =
                files.iter().any(|(ours, _)| differ_in_word_size(elf.architecture, *ours));
            return State::Impossible(if is_narrow {
                Obstacle::WordSize
            } else {
                Obstacle::Architecture
            });
        }
    }
    if process.is_secure {
        return State::Impossible(Obstacle::Privilege);
    }
    if process.named.is_some() {
        State::NotFound
    } else if TABLE.iter().any(|row| process.environment.get(row.variable).is_some()) {
        State::Replaced
    } else {
        State::NotAsked
    }
}

/// A row of the judge's table: finds one kind of problem in a process, and gives the sentence and what to do.
struct Rule {
    code: &'static str,
    severity: Severity,
    find: fn(&Case<'_>) -> Option<(String, String)>,
}

/// The table, most serious first.
const RULES: [Rule; 22] = {
    use Severity::{Error, Note, Warning};
    const fn rule(
        code: &'static str,
        severity: Severity,
        find: fn(&Case<'_>) -> Option<(String, String)>,
    ) -> Rule {
        Rule { code, severity, find }
    }
    [
        rule("ipv6-silent", Error, ipv6_silent),
        rule("name-server-silent", Error, name_server_silent),
        rule("unacknowledged", Error, unacknowledged),
        rule("ipv4-silent", Error, ipv4_silent),
        rule("switched-off", Warning, switched_off),
        rule("preload-replaced", Warning, preload_replaced),
        rule("library-not-found", Warning, library_not_found),
        rule("static-program", Warning, |case| obstacle(case, Obstacle::Static)),
        rule("go-program", Warning, |case| obstacle(case, Obstacle::StaticGo)),
        rule("privileged-program", Warning, |case| obstacle(case, Obstacle::Privilege)),
        rule("other-architecture", Warning, |case| obstacle(case, Obstacle::Architecture)),
        rule("other-word-size", Warning, |case| obstacle(case, Obstacle::WordSize)),
        rule("invalid-setting", Warning, invalid_setting),
        rule("keepalive-off", Warning, keepalive_off),
        rule("no-keepalive", Warning, no_keepalive),
        rule("late-keepalive", Warning, late_keepalive),
        rule("not-loaded", Warning, not_loaded),
        rule("other-version", Warning, other_version),
        rule("library-deleted", Warning, library_deleted),
        rule("environment-overwritten", Warning, environment_overwritten),
        rule("program-left-out", Note, program_left_out),
        rule("cut", Note, cut),
    ]
};

fn judge(case: &Case<'_>) -> Vec<Finding> {
    let findings = RULES.iter().filter_map(|rule| {
        let (sentence, action) = (rule.find)(case)?;
        let Rule { code, severity, .. } = *rule;
        Some(Finding { code, severity, subject: case.subject(), sentence, action })
    });
    findings.collect()
}

fn ipv6_silent(case: &Case<'_>) -> Option<(String, String)> {
    let silent = case.silent(true);
    let asked = silent.iter().map(|connection| asked(connection)).max()?;
    let sentence = format!("{} over IPv6 (asked {asked} times)", do_not_answer(&silent));
    let peers = silent.iter().map(|connection| connection.socket.peer.ip());
    let mut names: Vec<&str> = Vec::new();
    for peer in peers {
        let of_peer = case.process.names.iter().filter(|(address, _)| *address == peer);
        for (_, name) in of_peer.map(|(address, name)| (address, name.as_str())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let list = case.configuration.allowlist();
    let is_listed = |name: &str| list.as_ref().is_some_and(|list| list.contains(name.as_bytes()));
    let now =
        rescue(case, "ends these attempts now, and the program goes on with its next address");
    let remedy = match &case.state {
        State::Impossible(obstacle) => format!("{}: {}", obstacle.sentence(), obstacle.action()),
        State::PastLibc => format!(
            "Go looks names up without libc; {}",
            start(case, &names, &["env", "GODEBUG=netdns=cgo"])
        ),
        State::Acts if !names.is_empty() && names.iter().all(|name| is_listed(name)) => format!(
            "{} is listed, but the program found this address without libc's lookup functions (its own resolver, over TCP or \
             HTTPS): switch that off in the program (docs/RUNTIMES.md says how), or give it an IPv4 address",
            names.join(", ")
        ),
        State::LeftOut if is_barred(case) => format!(
            "{} leaves this program out: take !{} out of {}, and list {}",
            PROGRAMS.variable,
            escape(case.process.name()),
            PROGRAMS.variable,
            if names.is_empty() { "the host".to_owned() } else { names.join(", ") }
        ),
        State::LeftOut => format!(
            "{} leaves this program out, so listing alone does not help; {}",
            PROGRAMS.variable,
            start(case, &names, &[])
        ),
        State::Replaced => format!("{}; {}", replaced(case), start(case, &names, &[])),
        State::NotFound => {
            format!("{}; {}", NOT_FOUND, start(case, &names, &[]))
        }
        State::Off => {
            let line = start(case, &names, &["env", "-u", SWITCH.variable]);
            format!("{}=off; {line}", SWITCH.variable)
        }
        State::Acts | State::NotAsked => start(case, &names, &[]),
    };
    Some((sentence, format!("{now}{remedy}")))
}

/// Whether the program is left out by `!NAME`, which no option can undo.
fn is_barred(case: &Case<'_>) -> bool {
    let with_name = [&case.configuration.programs, &b","[..], case.process.name()].concat();
    !settings::is_program_selected(&with_name, [case.process.name(); 2])
}

fn ipv4_silent(case: &Case<'_>) -> Option<(String, String)> {
    let silent = case.silent(false);
    let asked = silent.iter().map(|connection| asked(connection)).max()?;
    let first = silent.first()?.socket.peer;
    let sentence = format!("{} over IPv4 (asked {asked} times)", do_not_answer(&silent));
    let action = format!(
        "egress-shim cannot fix this: look for a firewall in between, a wrong address, or a missing route back; \
         to try it from the program's network: nsenter -t {} -n {} --check {first}",
        case.process.id, case.here.command
    );
    Some((sentence, action))
}

fn unacknowledged(case: &Case<'_>) -> Option<(String, String)> {
    let lost = case.connections(Connection::is_unacknowledged);
    let worst = lost.iter().max_by_key(|connection| connection.socket.retries)?.socket;
    let since = unacknowledged_since(&worst);
    let mut sentence = format!(
        "{} does not acknowledge {} bytes, sent again {} time{}",
        others(&worst.peer.to_string(), lost.len()),
        worst.unacknowledged,
        worst.retries,
        plural(worst.retries.into()),
    );
    if let Some(since) = since {
        let _ = write!(sentence, " in {since} s");
    }
    if let Some(info) = worst.info {
        let _ = write!(sentence, "; it has been silent for {} s", info.silence().as_secs());
    }
    let action = format!(
        "a NAT in between has forgotten the connection, or the peer is gone: this connection cannot be saved, and a restart \
         ends it; keepalive prevents this, and user-timeout ends such a connection sooner; {}",
        start_with(case, &[], &[], Some("user-timeout=360"))
    );
    Some((sentence, action))
}

/// The number of seconds for which data has not been acknowledged. It follows from the number of retransmissions: the
/// kernel doubles the timeout each time, up to 120 s.
fn unacknowledged_since(socket: &egress_shim_core::kernel::Socket) -> Option<u64> {
    const LONGEST: u64 = 120_000;
    let info = socket.info?;
    let timeout = u64::try_from(info.timeout.as_millis()).ok()?;
    let first = if timeout >= LONGEST { 200 } else { timeout >> info.backoff.min(63) };
    let waited: u64 = (0..socket.retries.min(64))
        .map(|time| first.saturating_mul(1 << time.min(32)).min(LONGEST))
        .sum();
    Some((waited + u64::try_from(info.last_sent.as_millis()).ok()?) / 1000)
}

fn name_server_silent(case: &Case<'_>) -> Option<(String, String)> {
    let questions = &case.process.questions;
    let first = questions.first()?;
    let server = others(&first.server.ip().to_string(), questions.len());
    let mut sentence = format!(
        "the name server {server} has not answered for more than a second (descriptor {})",
        first.descriptor
    );
    let action = match case.process.server {
        Some(Answers { ipv4: true, ipv6: false }) => {
            sentence.push_str(": it answers questions for IPv4 addresses, but none for IPv6");
            let host = case.process.hosts.first().map(String::as_str);
            start(case, host.as_slice(), &[])
        }
        Some(Answers { ipv4: true, ipv6: true }) => {
            "it answers now: inspect again to see whether this goes on; a lost question is asked again after 5 s".to_owned()
        }
        _ => "egress-shim cannot fix this: check that the server is up and can be reached from there, or name another \
              one in the program's /etc/resolv.conf".to_owned(),
    };
    Some((sentence, action))
}

fn switched_off(case: &Case<'_>) -> Option<(String, String)> {
    let sentence = format!("{}=off: the library does nothing", SWITCH.variable);
    (case.state == State::Off)
        .then(|| (sentence, "unset it and start the program again".to_owned()))
}

/// How `LD_PRELOAD` was lost.
fn replaced(case: &Case<'_>) -> String {
    match case.process.environment.last("LD_PRELOAD") {
        Some(value) => format!(
            "LD_PRELOAD has been replaced on the way to this program, by {}",
            escape_short(value, 256)
        ),
        None => {
            "LD_PRELOAD has been removed on the way to this program, or was never set".to_owned()
        }
    }
}

fn preload_replaced(case: &Case<'_>) -> Option<(String, String)> {
    let action = "change the entrypoint or script that sets it so that it keeps the old value, or start egress-shim after \
                  that script, directly in front of the program";
    (case.state == State::Replaced)
        .then(|| (format!("{}, so the library is not loaded", replaced(case)), action.to_owned()))
}

const NOT_FOUND: &str = "LD_PRELOAD names the library, but the loader has not loaded it";

fn library_not_found(case: &Case<'_>) -> Option<(String, String)> {
    let named = case.process.named.as_ref().filter(|_| case.state == State::NotFound)?;
    let path = escape_short(&named.path, LONGEST_SHOWN);
    let own = case.process.elf.as_ref().map(|elf| elf.architecture);
    Some(match (named.architecture, own) {
        (Some(found), Some(own)) if found != own => (
            format!("LD_PRELOAD names {path}, which is {found}, but the program is {own}"),
            start(case, &[], &[]),
        ),
        _ => (
            NOT_FOUND.to_owned(),
            format!(
                "check that {path} exists where the program runs, and that the program's user can read it"
            ),
        ),
    })
}

fn obstacle(case: &Case<'_>, obstacle: Obstacle) -> Option<(String, String)> {
    let is_it = case.state == State::Impossible(obstacle) && case.is_meant();
    is_it.then(|| (obstacle.sentence().to_owned(), obstacle.action().to_owned()))
}

fn not_loaded(case: &Case<'_>) -> Option<(String, String)> {
    (case.is_named && case.state == State::NotAsked)
        .then(|| ("the library is not loaded".to_owned(), start(case, &[], &[])))
}

fn invalid_setting(case: &Case<'_>) -> Option<(String, String)> {
    let problem = case.configuration.problems.first().filter(|_| case.is_loaded())?;
    let sentence = format!("invalid setting: {}", escape_short(problem.as_bytes(), LONGEST_SHOWN));
    Some((sentence, "correct it and start the program again".to_owned()))
}

fn other_version(case: &Case<'_>) -> Option<(String, String)> {
    let version = &case.process.library.as_ref()?.version;
    let sentence = format!(
        "the library in it has version {version}, and this command has version {}",
        env!("CARGO_PKG_VERSION")
    );
    (!version.is_this())
        .then(|| (sentence, "use both from one release, and start the program again".to_owned()))
}

fn library_deleted(case: &Case<'_>) -> Option<(String, String)> {
    let library = case.process.library.as_ref().filter(|library| library.is_deleted)?;
    let sentence = format!(
        "the library's file {} is gone: this program still has the library, but programs that it starts do not get it",
        escape_short(&library.path, LONGEST_SHOWN)
    );
    Some((sentence, "put the library back there, and start the program again".to_owned()))
}

fn environment_overwritten(case: &Case<'_>) -> Option<(String, String)> {
    let is_it = case.process.is_overwritten && (case.is_loaded() || case.is_named);
    let action =
        "look at the environment of the process that starts it, or at the service's configuration";
    is_it.then(|| {
        let sentence = "it has written its title over its environment, as nginx and postgres do: its settings cannot be seen";
        (sentence.to_owned(), action.to_owned())
    })
}

fn keepalive_off(case: &Case<'_>) -> Option<(String, String)> {
    let without = case.connections(Connection::lacks_keepalive);
    let is_off = case.state == State::Acts && case.configuration.keepalive.is_none();
    (is_off && !without.is_empty() && !case.process.is_overwritten).then(|| {
        let sentence = format!("EGRESS_SHIM_KEEPALIVE=off: a NAT may forget {}", some(&without));
        (sentence, "unset it and start the program again".to_owned())
    })
}

fn no_keepalive(case: &Case<'_>) -> Option<(String, String)> {
    let without = case.connections(Connection::lacks_keepalive);
    let is_ours = case.state == State::Acts && case.configuration.keepalive.is_some();
    if without.is_empty() || (case.state == State::Acts && !is_ours && !case.process.is_overwritten)
    {
        return None;
    }
    let mut sentence = format!("no keepalive on {}", some(&without));
    let longest =
        without.iter().filter_map(|connection| Some(connection.socket.info?.silence())).max();
    if let Some(longest) = longest {
        let _ = write!(sentence, ", silent for {} s", longest.as_secs());
        if longest.as_secs() > MEMORY_OF_A_NAT {
            sentence.push_str(": a NAT may have forgotten it already");
        }
    }
    let now = rescue(case, "switches it on now");
    let remedy = match &case.state {
        State::Impossible(obstacle) => format!("{}: {}", obstacle.sentence(), obstacle.action()),
        State::PastLibc => "Go connects without libc: use the program's own keepalive".to_owned(),
        State::Acts => format!(
            "the program has switched it off, or does not connect through libc{}; {}",
            if case.process.is_overwritten {
                ", or the settings, which cannot be seen, switch it off"
            } else {
                ""
            },
            start_with(case, &[], &[], Some("enforce"))
        ),
        _ => start(case, &[], &[]),
    };
    Some((sentence, format!("{now}{remedy}")))
}

fn late_keepalive(case: &Case<'_>) -> Option<(String, String)> {
    let late = case.connections(|connection| {
        connection.least_idle().is_some_and(|idle| idle > MEMORY_OF_A_NAT)
    });
    let idle = late.iter().filter_map(|connection| connection.least_idle()).max()?;
    let of_settings = case
        .configuration
        .keepalive
        .and_then(|keepalive| u64::try_from(keepalive.timings.idle).ok());
    let sentence = format!(
        "the first keepalive probe comes only after {idle} s or more on {}; a NAT may forget a connection after \
         {MEMORY_OF_A_NAT} s",
        some(&late)
    );
    let now = rescue(case, "shortens it now");
    let remedy = match &case.state {
        State::Acts if of_settings.is_some_and(|of_settings| of_settings >= idle) => {
            format!("that time comes from {}: set idle=60", settings::KEEPALIVE.variable)
        }
        State::Acts => {
            let or_not =
                if case.process.is_overwritten { " or comes from the settings" } else { "" };
            let line = start_with(case, &[], &[], Some("enforce"));
            format!("that time is the program's own{or_not}; {line}")
        }
        State::Impossible(obstacle) => format!(
            "that time is the program's own or the system's; {}: {}",
            obstacle.sentence(),
            obstacle.action()
        ),
        State::PastLibc => "Go connects without libc: use the program's own keepalive".to_owned(),
        _ => format!(
            "that time is the program's own or the system's; {}",
            start_with(case, &[], &[], Some("enforce"))
        ),
    };
    Some((sentence, format!("{now}{remedy}")))
}

fn program_left_out(case: &Case<'_>) -> Option<(String, String)> {
    let sentence =
        format!("{} leaves this program out: the library does nothing in it", PROGRAMS.variable);
    (case.state == State::LeftOut).then(|| (sentence, String::new()))
}

fn cut(case: &Case<'_>) -> Option<(String, String)> {
    let what = case.process.cut.join(", ");
    (!what.is_empty()).then(|| (format!("too large to be read in full: {what}"), String::new()))
}

// -------------------------------------------------------------------------------------------------- words

fn asked(connection: &Connection) -> u32 {
    connection.socket.retries.saturating_add(1)
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn others(first: &str, count: usize) -> String {
    match count {
        0 | 1 => first.to_owned(),
        2 => format!("{first} (and 1 more)"),
        _ => format!("{first} (and {} more)", count - 1),
    }
}

fn do_not_answer(connections: &[&Connection]) -> String {
    let first = connections.first().map(|connection| connection.socket.peer.to_string());
    format!("{} does not answer", others(&first.unwrap_or_default(), connections.len()))
}

fn some(connections: &[&Connection]) -> String {
    let first = connections.first().map(|connection| connection.socket.peer.to_string());
    let first = first.unwrap_or_default();
    match connections.len() {
        1 => format!("the connection to {first}"),
        count => format!("{count} connections, such as that to {first}"),
    }
}

/// The command line of `--rescue` and its effect, as the beginning of an action.
fn rescue(case: &Case<'_>, what: &str) -> String {
    format!("{} --rescue {} {what}; ", case.here.command, case.process.id)
}

fn start(case: &Case<'_>, hosts: &[&str], before: &[&str]) -> String {
    start_with(case, hosts, before, None)
}

/// The whole command line, or the variables, with which the program is to be started.
fn start_with(case: &Case<'_>, hosts: &[&str], before: &[&str], keepalive: Option<&str>) -> String {
    let process = case.process;
    let mut settings: Vec<(&settings::Row, String)> = Vec::new();
    for row in &TABLE {
        let Some(value) = process.environment.get(row.variable) else { continue };
        let is_replaced = row.variable == settings::KEEPALIVE.variable && keepalive.is_some();
        if !row.option.is_empty() && !value.is_empty() && !is_replaced {
            settings.push((row, String::from_utf8_lossy(value).into_owned()));
        }
    }
    let needs_list =
        keepalive.is_none() && !case.silent(true).is_empty() || !case.process.questions.is_empty();
    let every = ["*"];
    let hosts = if hosts.is_empty() && needs_list { &every[..] } else { hosts };
    if !hosts.is_empty() {
        settings.push((&settings::IPV4_ONLY, hosts.join(",")));
    }
    if case.state == State::LeftOut {
        settings.push((&PROGRAMS, escape(process.name())));
    }
    if let Some(keepalive) = keepalive {
        let before = process.environment.get(settings::KEEPALIVE.variable).unwrap_or_default();
        settings.push((&settings::KEEPALIVE, with_key(before, keepalive)));
    }
    let whole_list = if hosts == ["*"] {
        " (* lists every host; to list fewer, --log debug logs each name that the program looks up)"
    } else {
        ""
    };
    if let Some(words) = command_of(process).filter(|_| !process.is_elsewhere) {
        let mut before: Vec<String> = before.iter().map(|&word| word.to_owned()).collect();
        let mut options = String::new();
        for (row, value) in &settings {
            let value = quote(value.as_bytes()).unwrap_or_default();
            // An option adds to its variable, and each key may occur only once. The variable may be set in the shell where
            // the line is typed, so the line sets it.
            if row.kind == ValueKind::Keys && process.environment.get(row.variable).is_some() {
                before.push(format!("{}={value}", row.variable));
            } else {
                let _ = write!(options, " {} {value}", row.option);
            }
        }
        before.push(case.here.command.clone());
        return format!("start it{whole_list} as: {}{options} -- {words}", before.join(" "));
    }
    let mut variables: Vec<String> =
        before.iter().filter(|word| word.contains('=')).map(|&word| word.to_owned()).collect();
    let mut of_row: HashMap<&str, String> = HashMap::new();
    for (row, value) in &settings {
        let all = of_row.entry(row.variable).or_default();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(value);
    }
    for row in &TABLE {
        let value = of_row.get(row.variable).and_then(|value| quote(value.as_bytes()));
        variables.extend(value.map(|value| format!("{}={value}", row.variable)));
    }
    let ours = case.here.library.as_ref();
    let of_shell = |path: &OsStr| quote(path.as_bytes()).unwrap_or_default();
    if process.is_elsewhere {
        let (directory, below) = match ours {
            Some(library) => library.for_container(process.elf.as_ref()),
            None => ("/usr/local/lib".into(), library::NAME.into()),
        };
        let preload = of_shell(Path::new("/shim").join(below).as_os_str());
        let options = variables.iter().map(|variable| format!(" -e {variable}"));
        let mount = format!("type=bind,src={},dst=/shim,readonly", directory.display());
        return format!(
            "start its container{whole_list} with: --mount {} -e LD_PRELOAD={preload}{}",
            of_shell(mount.as_ref()),
            options.collect::<String>()
        );
    }
    let preload = ours.map_or(OsStr::new("/usr/local/lib/libegress_shim.so"), |ours| &ours.entry);
    format!(
        "start it{whole_list} with these variables: LD_PRELOAD={} {}",
        of_shell(preload),
        variables.join(" ")
    )
}

/// A value of `EGRESS_SHIM_KEEPALIVE` with another part added.
fn with_key(value: &[u8], part: &str) -> String {
    let value = String::from_utf8_lossy(value);
    let value = value.trim();
    let key = part.split('=').next().unwrap_or(part);
    if matches!(value, "" | "on" | "off") {
        part.to_owned()
    } else if value.split(',').any(|part| part.split('=').next() == Some(key)) {
        value.to_owned()
    } else {
        format!("{value},{part}")
    }
}

/// The command line of a process, for a shell; `None` if it cannot be typed again.
fn command_of(process: &Process) -> Option<String> {
    if process.is_overwritten {
        return None;
    }
    let mut words = process.words.iter().enumerate().map(|(index, word)| {
        // A login shell's own name begins with `-`.
        let is_odd = index == 0 && word.first() == Some(&b'-');
        quote(if is_odd { &process.file } else { word })
    });
    let line = words.by_ref().collect::<Option<Vec<_>>>()?.join(" ");
    (!line.is_empty() && line.len() <= LONGEST_COMMAND).then_some(line)
}

/// A word for a shell; `None` if it has characters that cannot be printed.
fn quote(word: &[u8]) -> Option<String> {
    let text = str::from_utf8(word).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Some(text.to_owned());
    }
    text.chars().all(is_printable).then(|| format!("'{}'", text.replace('\'', "'\\''")))
}

// ------------------------------------------------------------------------------------------------- report

/// The content of the report.
struct Inspection<'a> {
    /// The processes that are shown, the worst first, each with its findings.
    shown: Vec<(Case<'a>, Vec<Finding>)>,
    /// The number of processes that are not shown.
    others: usize,
    /// The findings about processes that could not be seen.
    unseen: Vec<Finding>,
    /// The number of processes that could not be seen because a privilege is missing. Others have ended, or are kernel
    /// threads.
    unseen_count: usize,
}

impl<'a> Inspection<'a> {
    fn of(gathered: &'a Gathered, ids: &[u32], here: &'a Here) -> Self {
        let mut shown = Vec::new();
        let mut others = 0;
        for process in &gathered.processes {
            let is_named = ids.contains(&process.id);
            let case = Case::of(process, here, is_named);
            let findings = judge(&case);
            let is_shown = is_named
                || case.is_loaded()
                || findings.iter().any(Finding::is_wrong)
                || (!ids.is_empty() && !process.connections.is_empty());
            if is_shown {
                shown.push((case, findings));
            } else {
                others += 1;
            }
        }
        let worst = |findings: &[Finding]| findings.iter().map(|finding| finding.severity).max();
        shown.sort_by_key(|(_, findings)| std::cmp::Reverse(worst(findings)));
        let unseen = unseen(&gathered.unseen, ids);
        let is_denied = |unseen: &&Unseen| unseen.error.kind() == io::ErrorKind::PermissionDenied;
        let unseen_count = gathered.unseen.iter().filter(is_denied).count();
        Self { shown, others, unseen, unseen_count }
    }

    fn report(self, report: &Report) -> Result<c_int, Failure> {
        for (case, _) in &self.shown {
            case.print(report)?;
        }
        if self.others > 0 {
            let more = if self.others == 1 { "process" } else { "processes" };
            report.line(
                "others",
                format_args!("{} {more} without the library and without a problem", self.others),
            )?;
        }
        let processes: Vec<_> =
            self.shown.iter().map(|(case, findings)| case.json(findings)).collect();
        let facts = json!({
            "processes": processes,
            "other_processes": self.others,
            "unseen_processes": self.unseen_count,
        });
        let findings = self.shown.into_iter().flat_map(|(_, findings)| findings);
        report.end(findings.chain(self.unseen).collect(), "nothing is wrong", facts)
    }
}

/// The findings about processes that could not be seen. Those whose PID was not given are only counted.
fn unseen(unseen: &[Unseen], ids: &[u32]) -> Vec<Finding> {
    let finding = |severity, sentence: String| Finding {
        code: "unseen",
        severity,
        subject: String::new(),
        sentence,
        action: String::new(),
    };
    let named = unseen.iter().filter(|unseen| ids.contains(&unseen.id));
    let mut findings: Vec<_> =
        named.map(|unseen| finding(Severity::Warning, process::why_unseen(unseen))).collect();
    let denied = unseen.iter().filter(|unseen| {
        !ids.contains(&unseen.id) && unseen.error.kind() == io::ErrorKind::PermissionDenied
    });
    let count = denied.count();
    if count > 0 {
        findings.push(finding(
            Severity::Note,
            format!(
                "{count} process{} cannot be seen: run this as root, or with the privilege CAP_SYS_PTRACE",
                if count == 1 { "" } else { "es" }
            ),
        ));
    }
    findings
}

impl Case<'_> {
    fn print(&self, report: &Report) -> Result<(), Failure> {
        let process = self.process;
        let file = escape_short(&process.file, LONGEST_SHOWN);
        report.line("process", format_args!("{}, {file}", process.id))?;
        report.line("library", self.library())?;
        for (index, setting) in self.settings().iter().enumerate() {
            report.line(if index == 0 { "settings" } else { "" }, setting)?;
        }
        for problem in &self.configuration.problems {
            report.line("invalid", escape_short(problem.as_bytes(), LONGEST_SHOWN))?;
        }
        report.line("connections", process.connections.len())?;
        let mut connections: Vec<_> = process.connections.iter().collect();
        connections.sort_by_key(|connection| rank(connection));
        for connection in connections.iter().take(MOST_SHOWN) {
            report.line("", describe(connection))?;
        }
        if connections.len() > MOST_SHOWN {
            let rest = &connections[MOST_SHOWN..];
            report.line("", summary(rest))?;
        }
        report.gap()
    }

    fn library(&self) -> String {
        match &self.process.library {
            Some(library) => {
                let path = escape_short(&library.path, LONGEST_SHOWN);
                let gone = if library.is_deleted { ", deleted" } else { "" };
                format!("{path} ({}{gone})", library.version)
            }
            None => "not loaded".to_owned(),
        }
    }

    fn settings(&self) -> Vec<String> {
        if self.process.is_overwritten {
            return vec!["cannot be seen: the program has overwritten its environment".to_owned()];
        }
        let settings = settings_of(&self.process.environment);
        settings.iter().map(|setting| escape_short(setting.as_bytes(), LONGEST_SHOWN)).collect()
    }

    fn json(&self, findings: &[Finding]) -> Value {
        let process = self.process;
        let settings: serde_json::Map<String, Value> = TABLE
            .iter()
            .filter_map(|row| {
                let value = process.environment.get(row.variable)?;
                Some((row.variable.to_owned(), escape_short(value, LONGEST_SHOWN).into()))
            })
            .collect();
        let library = process.library.as_ref().map(|library| {
            json!({
                "path": escape_short(&library.path, LONGEST_SHOWN),
                "version": library.version.to_string(),
                "deleted": library.is_deleted,
            })
        });
        let mut worst: Vec<_> = process.connections.iter().collect();
        worst.sort_by_key(|connection| rank(connection));
        let connections: Vec<_> =
            worst.iter().take(MOST_SHOWN).map(|connection| json_of(connection)).collect();
        json!({
            "pid": process.id,
            "executable": escape_short(&process.file, LONGEST_SHOWN),
            "library": library,
            "settings": if process.is_overwritten { Value::Null } else { settings.into() },
            "invalid_settings": self.configuration.problems.iter()
                .map(|problem| escape_short(problem.as_bytes(), LONGEST_SHOWN)).collect::<Vec<_>>(),
            "connection_count": process.connections.len(),
            "connections": connections,
            "findings": findings.iter().map(|finding| finding.code).collect::<Vec<_>>(),
        })
    }
}

/// The place of a connection in the report: problems first.
fn rank(connection: &Connection) -> (u8, u8, u64) {
    let trouble = if connection.is_connecting() {
        u8::from(connection.socket.peer.is_ipv4())
    } else if connection.is_unacknowledged() {
        2
    } else if connection.lacks_keepalive() {
        3
    } else if connection.is_outbound() {
        4
    } else {
        5
    };
    let silence = connection.socket.info.map_or(0, |info| info.silence().as_secs());
    (trouble, connection.socket.state, u64::MAX - silence)
}

fn describe(connection: &Connection) -> String {
    let socket = &connection.socket;
    let until = socket.until.as_secs();
    let timer = match socket.timer {
        Timer::None => "no keepalive".to_owned(),
        Timer::Keepalive if socket.retries > 0 => {
            format!(
                "{} keepalive probe{} not answered",
                socket.retries,
                plural(socket.retries.into())
            )
        }
        Timer::Keepalive => format!("next keepalive probe in {until} s"),
        Timer::Retransmission if socket.state == SYN_SENT => {
            let asked = asked(connection);
            format!("no answer yet, asked {asked} time{}", plural(asked.into()))
        }
        Timer::Retransmission => format!(
            "{} bytes not acknowledged, sent again {} time{}",
            socket.unacknowledged,
            socket.retries,
            plural(socket.retries.into())
        ),
        Timer::ZeroWindow => "the peer does not read".to_owned(),
        Timer::Other => "another timer".to_owned(),
    };
    let mut text = format!("{:<11} {}: {timer}", socket.state_name(), socket.peer);
    if let Some(info) = socket.info.filter(|_| socket.state == ESTABLISHED) {
        let _ = write!(text, ", silent for {} s", info.silence().as_secs());
    }
    if connection.is_accepted {
        text.push_str(", accepted");
    }
    let _ =
        write!(text, " (from port {}, descriptor {})", socket.local.port(), connection.descriptor);
    text
}

/// The connections that are not shown one by one.
fn summary(rest: &[&Connection]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for connection in rest {
        let name = connection.socket.state_name();
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!("and {} more: {}", rest.len(), counts.join(", "))
}

fn json_of(connection: &Connection) -> Value {
    let socket = &connection.socket;
    let milliseconds =
        |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let end = |address: std::net::SocketAddr| json!({"address": address.ip().to_string(), "port": address.port()});
    json!({
        "state": socket.state_name(),
        "local": end(socket.local),
        "peer": end(socket.peer),
        "family": family(peer_ip(connection)),
        "descriptor": connection.descriptor,
        "inode": socket.inode,
        "uid": socket.user,
        "accepted": connection.is_accepted,
        "timer": match socket.timer {
            Timer::None => "none",
            Timer::Retransmission => "retransmission",
            Timer::Keepalive => "keepalive",
            Timer::ZeroWindow => "zero-window",
            Timer::Other => "other",
        },
        "timer_ms": milliseconds(socket.until),
        "retransmits": socket.retries,
        "unacknowledged_bytes": socket.unacknowledged,
        "unread_bytes": socket.unread,
        "last_sent_ms": socket.info.map(|info| milliseconds(info.last_sent)),
        "last_received_ms": socket.info.map(|info| milliseconds(info.last_received)),
        "last_acknowledged_ms": socket.info.map(|info| milliseconds(info.last_acknowledged)),
    })
}

fn peer_ip(connection: &Connection) -> IpAddr {
    connection.socket.peer.ip()
}

#[cfg(test)]
mod tests {
    use egress_shim_core::elf::{Architecture, Elf};
    use egress_shim_core::kernel::{Info, Socket};

    use super::*;
    use crate::environment::Environment;
    use crate::library::Version;
    use crate::names::Answers;
    use crate::process::{Library, Named};
    use crate::sockets::Question;

    const PEER6: &str = "[2001:db8:2::2]:443";
    const PEER4: &str = "198.51.100.2:443";

    fn here() -> Here {
        Here {
            command: "egress-shim".to_owned(),
            library: Some(library::Library {
                entry: "/lib/libegress_shim.so".into(),
                files: vec![(X86_64, "/lib/libegress_shim.so".into())],
            }),
        }
    }

    const X86_64: Architecture =
        Architecture { is_wide: true, is_little_endian: true, machine: 62 };

    const X86: Architecture = Architecture { is_wide: false, machine: 3, ..X86_64 };

    /// `app --x` with the library and these variables, or bare.
    fn process(environment: &[&str], is_loaded: bool) -> Process {
        let mut entries: Vec<_> = environment.to_vec();
        let preload = entries.iter().find_map(|entry| entry.strip_prefix("LD_PRELOAD="));
        let named = preload.filter(|path| library::is_ours(path.as_bytes()));
        let named = named.map(|path| Named { path: path.into(), architecture: None });
        if is_loaded {
            entries.push("LD_PRELOAD=/lib/libegress_shim.so");
        }
        Process {
            id: 7,
            file: b"/usr/bin/app".to_vec(),
            words: vec![b"app".to_vec(), b"--x".to_vec()],
            elf: Some(Elf {
                architecture: X86_64,
                interpreter: Some(b"/lib/ld.so".to_vec()),
                is_static: false,
                is_go: false,
                version: None,
            }),
            is_secure: false,
            library: is_loaded.then(|| Library {
                path: b"/lib/libegress_shim.so".to_vec(),
                version: Version::this(),
                is_deleted: false,
            }),
            named,
            environment: Environment::of_bytes(entries.join("\0").as_bytes()),
            is_overwritten: false,
            hosts: Vec::new(),
            is_elsewhere: false,
            connections: Vec::new(),
            questions: Vec::new(),
            server: None,
            names: Vec::new(),
            cut: Vec::new(),
        }
    }

    fn socket(peer: &str) -> Socket {
        let peer: std::net::SocketAddr = peer.parse().expect("it is an address");
        let local = if peer.is_ipv4() { "192.0.2.2:40000" } else { "[2001:db8:1::2]:40000" };
        Socket {
            local: local.parse().expect("it is an address"),
            peer,
            state: ESTABLISHED,
            timer: Timer::Keepalive,
            until: Duration::from_secs(30),
            retries: 0,
            unacknowledged: 0,
            unread: 0,
            user: 0,
            inode: 1,
            info: Some(Info {
                state: ESTABLISHED,
                retransmits: 0,
                has_unacknowledged: false,
                backoff: 0,
                timeout: Duration::from_millis(200),
                last_sent: Duration::from_secs(6),
                last_received: Duration::from_secs(41),
                last_acknowledged: Duration::from_secs(40),
            }),
        }
    }

    fn connection(socket: Socket) -> Connection {
        Connection { socket, descriptor: 3, is_accepted: false }
    }

    /// A connect that was sent `retries` times again.
    fn connecting(peer: &str, retries: u32) -> Connection {
        let timer = Timer::Retransmission;
        connection(Socket { state: SYN_SENT, timer, retries, info: None, ..socket(peer) })
    }

    fn without_keepalive() -> Connection {
        connection(Socket { timer: Timer::None, ..socket(PEER4) })
    }

    fn judged(process: &Process, is_named: bool) -> Vec<Finding> {
        let mut findings = judge(&Case::of(process, &here(), is_named));
        crate::finding::sort(&mut findings);
        findings
    }

    /// The most serious finding.
    #[track_caller]
    fn first(process: &Process, code: &str) -> String {
        let findings = judged(process, false);
        let first = findings.first().expect("there is a finding");
        assert_eq!(first.code, code, "{findings:?}");
        assert_eq!(first.subject, "7 (app)");
        first.diagnosis()
    }

    #[track_caller]
    fn says(line: &str, words: &[&str]) {
        for words in words {
            assert!(line.contains(words), "{words:?} in {line:?}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_process_that_is_well() {
        let mut fine = process(&["EGRESS_SHIM_IPV4_ONLY=a.test"], true);
        fine.connections = vec![connection(socket(PEER4)), connection(socket(PEER6))];
        assert_eq!(judged(&fine, true), []);
        assert_eq!(judged(&process(&[], false), false), [], "one that nobody asked about");
    }

    #[test]
    fn a_silent_ipv6_peer_is_listed_by_name_with_the_whole_command_line() {
        let mut stuck = process(&["EGRESS_SHIM_KEEPALIVE=idle=45"], false);
        stuck.connections = vec![connecting(PEER6, 4)];
        stuck.names = vec![("2001:db8:2::2".parse().expect("it is one"), "api.test".to_owned())];
        let line = first(&stuck, "ipv6-silent");
        says(
            &line,
            &[
                "[2001:db8:2::2]:443 does not answer over IPv6 (asked 5 times); egress-shim --rescue 7 ends",
                "LD_PRELOAD has been removed on the way",
            ],
        );
        let wanted = "start it as: EGRESS_SHIM_KEEPALIVE=idle=45 egress-shim --ipv4-only api.test -- app --x";
        assert!(line.ends_with(wanted), "{line}");

        stuck.names.clear();
        says(&first(&stuck, "ipv6-silent"), &["* lists every host", "--ipv4-only '*' -- app --x"]);
        stuck.is_elsewhere = true;
        let line = first(&stuck, "ipv6-silent");
        says(
            &line,
            &[
                "--mount type=bind,src=/lib,dst=/shim,readonly -e LD_PRELOAD=/shim/libegress_shim.so -e EGRESS_SHIM_IPV4_ONLY='*'",
            ],
        );
    }

    #[test]
    fn a_container_of_32_bit_programs_gets_the_path_that_leads_to_its_library() {
        let mut both = here();
        let narrow = "/lib/egress-shim/lib32/libegress_shim.so";
        both.library.as_mut().expect("it is there").files.push((X86, narrow.into()));
        let mut stuck = process(&[], false);
        stuck.is_elsewhere = true;
        let mut line = |architecture, loader: &str| {
            let elf = stuck.elf.as_mut().expect("it has one");
            elf.architecture = architecture;
            elf.interpreter = Some(loader.into());
            start(&Case::of(&stuck, &both, true), &[], &[])
        };
        let mount = "start its container with: --mount type=bind,src=/lib,dst=/shim,readonly -e LD_PRELOAD=";
        for (architecture, loader, path) in [
            (X86_64, "/lib64/ld-linux-x86-64.so.2", "/shim/libegress_shim.so"),
            (X86, "/lib/ld-linux.so.2", "'/shim/egress-shim/$LIB/libegress_shim.so'"),
            (X86, "/lib/ld-musl-i386.so.1", "/shim/egress-shim/lib32/libegress_shim.so"),
        ] {
            assert_eq!(line(architecture, loader), format!("{mount}{path}"));
        }
    }

    #[test]
    fn a_connect_that_has_just_begun_is_not_blamed() {
        let mut new = process(&[], true);
        new.connections = vec![connecting(PEER6, 0), connecting(PEER4, 0)];
        assert_eq!(judged(&new, true), []);
    }

    #[test]
    fn loopback_itself_and_accepted_connections_are_never_blamed() {
        let mut fine = process(&[], true);
        let of = |change: fn(&mut Connection)| {
            let mut changed = [connecting(PEER6, 5), connecting(PEER4, 5), without_keepalive()];
            changed.iter_mut().for_each(change);
            changed
        };
        fine.connections.extend(of(|connection| connection.is_accepted = true));
        fine.connections.extend(of(|connection| {
            let ip: IpAddr = if connection.socket.peer.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            connection.socket.peer.set_ip(ip);
        }));
        fine.connections.extend(of(|connection| {
            connection.socket.peer.set_ip(connection.socket.local.ip());
        }));
        assert_eq!(judged(&fine, true), []);
    }

    #[test]
    fn why_a_list_does_not_help_is_said() {
        let stuck = |environment: &[&str], is_loaded| {
            let mut process = process(environment, is_loaded);
            process.connections = vec![connecting(PEER6, 4)];
            let peer = "2001:db8:2::2".parse().expect("it is one");
            process.names = vec![(peer, "api.test".to_owned())];
            process
        };
        let listed = "EGRESS_SHIM_IPV4_ONLY=api.test";
        says(
            &first(&stuck(&[listed], true), "ipv6-silent"),
            &[
                "api.test is listed, but the program found this address without libc's lookup functions",
            ],
        );
        says(
            &first(&stuck(&[listed, "EGRESS_SHIM_PROGRAMS=other"], true), "ipv6-silent"),
            &[
                "EGRESS_SHIM_PROGRAMS leaves this program out",
                "--program other --ipv4-only api.test --program app -- app --x",
            ],
        );
        says(
            &first(&stuck(&["EGRESS_SHIM_PROGRAMS=!app"], true), "ipv6-silent"),
            &["take !app out of EGRESS_SHIM_PROGRAMS"],
        );
        says(
            &first(&stuck(&[listed, "EGRESS_SHIM=off"], true), "ipv6-silent"),
            &["EGRESS_SHIM=off; start it as: env -u EGRESS_SHIM egress-shim --ipv4-only api.test"],
        );
        says(
            &first(&stuck(&[listed, "LD_PRELOAD=/x/jemalloc.so"], false), "ipv6-silent"),
            &["LD_PRELOAD has been replaced on the way to this program, by /x/jemalloc.so"],
        );
        let named = "LD_PRELOAD=/gone/libegress_shim.so";
        says(&first(&stuck(&[named], false), "ipv6-silent"), &["the loader has not loaded it"]);
        for (change, words) in [
            ((|elf| elf.is_static = true) as fn(&mut Elf), "is statically linked, so"),
            (|elf| (elf.is_static, elf.is_go) = (true, true), "in Go and statically linked"),
            (|elf| elf.architecture.machine = 183, "for another architecture"),
        ] {
            let mut process = stuck(&[], false);
            change(process.elf.as_mut().expect("it has one"));
            says(&first(&process, "ipv6-silent"), &[words, "--rescue 7"]);
        }
        let mut go = stuck(&[], true);
        go.elf.as_mut().expect("it has one").is_go = true;
        says(
            &first(&go, "ipv6-silent"),
            &["env GODEBUG=netdns=cgo egress-shim --ipv4-only api.test"],
        );
        let mut secure = stuck(&[], false);
        secure.is_secure = true;
        says(&first(&secure, "ipv6-silent"), &["its loader ignores LD_PRELOAD"]);
    }

    #[test]
    fn a_silent_ipv4_peer_is_no_matter_of_lists() {
        let mut stuck = process(&[], true);
        stuck.connections = vec![connecting(PEER4, 6), connecting(PEER4, 2)];
        says(
            &first(&stuck, "ipv4-silent"),
            &[
                "198.51.100.2:443 (and 1 more) does not answer over IPv4 (asked 7 times)",
                "egress-shim cannot fix this",
                "nsenter -t 7 -n egress-shim --check 198.51.100.2:443",
            ],
        );
        stuck.connections.push(connecting(PEER6, 1));
        first(&stuck, "ipv6-silent");
    }

    #[test]
    fn data_that_nobody_acknowledges_is_an_error_with_the_peers_silence() {
        let lost = |retries, backoff, milliseconds| {
            let mut lost = socket(PEER4);
            (lost.timer, lost.retries, lost.unacknowledged) = (Timer::Retransmission, retries, 100);
            let info = lost.info.as_mut().expect("it has them");
            (info.backoff, info.timeout) = (backoff, Duration::from_millis(milliseconds));
            lost
        };
        let mut stuck = process(&[], true);
        stuck.connections = vec![connection(lost(7, 7, 200 << 7))];
        says(
            &first(&stuck, "unacknowledged"),
            &[
                "198.51.100.2:443 does not acknowledge 100 bytes, sent again 7 times in 31 s",
                "it has been silent for 40 s",
                "start it as: egress-shim --keepalive user-timeout=360 -- app --x",
            ],
        );
        stuck.connections = vec![connection(lost(0, 0, 200))];
        assert_eq!(judged(&stuck, true), [], "it was sent once");
        // After twelve retransmissions the timeout no longer grows.
        assert_eq!(unacknowledged_since(&lost(12, 12, 120_000)), Some(204 + 2 * 120 + 6));
    }

    #[test]
    fn a_name_server_that_does_not_answer_is_an_error() {
        let server = "192.0.2.53:53".parse().expect("it is an address");
        let mut stuck = process(&[], true);
        stuck.questions = vec![Question { server, inode: 1, descriptor: 5 }];
        stuck.hosts = vec!["api.test".to_owned()];
        says(
            &first(&stuck, "name-server-silent"),
            &["192.0.2.53 has not answered", "/etc/resolv.conf"],
        );
        stuck.server = Some(Answers { ipv4: true, ipv6: false });
        says(
            &first(&stuck, "name-server-silent"),
            &[
                "answers questions for IPv4 addresses, but none for IPv6",
                "start it as: egress-shim --ipv4-only api.test -- app --x",
            ],
        );
    }

    #[test]
    fn what_keeps_the_library_from_acting_is_a_warning() {
        let off = process(&["EGRESS_SHIM=off"], true);
        says(
            &first(&off, "switched-off"),
            &["EGRESS_SHIM=off: the library does nothing; unset it"],
        );
        let replaced = process(&["EGRESS_SHIM_IPV4_ONLY=a.test", "LD_PRELOAD=/x.so"], false);
        says(&first(&replaced, "preload-replaced"), &["by /x.so"]);
        let gone = process(&["LD_PRELOAD=/x/libegress_shim.so"], false);
        says(&first(&gone, "library-not-found"), &["check that /x/libegress_shim.so exists"]);
        let invalid = process(&["EGRESS_SHIM_KEEPALIVE=idle=0"], true);
        says(&first(&invalid, "invalid-setting"), &["EGRESS_SHIM_KEEPALIVE"]);

        let mut old = process(&[], true);
        old.library.as_mut().expect("it is loaded").version = Version::before_notes();
        says(&first(&old, "other-version"), &["0.2.0 or older"]);
        let mut deleted = process(&[], true);
        deleted.library.as_mut().expect("it is loaded").is_deleted = true;
        says(&first(&deleted, "library-deleted"), &["/lib/libegress_shim.so is gone"]);
        let mut overwritten = process(&[], true);
        overwritten.is_overwritten = true;
        says(&first(&overwritten, "environment-overwritten"), &["its settings cannot be seen"]);
    }

    #[test]
    fn a_program_that_cannot_have_the_library_is_said_if_it_is_meant() {
        for (code, change) in [
            ("static-program", (|elf| elf.is_static = true) as fn(&mut Elf)),
            ("go-program", |elf| (elf.is_static, elf.is_go) = (true, true)),
            ("other-architecture", |elf| elf.architecture.machine = 183),
            ("other-word-size", |elf| elf.architecture = X86),
        ] {
            let mut process = process(&[], false);
            change(process.elf.as_mut().expect("it has one"));
            assert_eq!(judged(&process, false), []);
            assert_eq!(judged(&process, true).first().map(|finding| finding.code), Some(code));
        }
        let mut secure = process(&["EGRESS_SHIM_IPV4_ONLY=a.test"], false);
        secure.is_secure = true;
        first(&secure, "privileged-program");
        let bare = process(&[], false);
        let findings = judged(&bare, true);
        assert_eq!(findings.first().map(|finding| finding.code), Some("not-loaded"));
    }

    #[test]
    fn a_connection_without_keepalive_says_whose_doing_that_is() {
        let with = |environment: &[&str], is_loaded| {
            let mut process = process(environment, is_loaded);
            process.connections = vec![without_keepalive(), connection(socket(PEER4))];
            process
        };
        says(
            &first(&with(&[], true), "no-keepalive"),
            &[
                "no keepalive on the connection to 198.51.100.2:443, silent for 40 s",
                "the program has switched it off, or does not connect through libc",
                "start it as: egress-shim --keepalive enforce -- app --x",
            ],
        );
        says(
            &first(&with(&["EGRESS_SHIM_KEEPALIVE=idle=45"], true), "no-keepalive"),
            &["as: EGRESS_SHIM_KEEPALIVE=idle=45,enforce egress-shim -- app"],
        );
        says(
            &first(&with(&[], false), "no-keepalive"),
            &["egress-shim --rescue 7 switches it on now", "start it as: egress-shim -- app --x"],
        );
        says(&first(&with(&["EGRESS_SHIM_KEEPALIVE=off"], true), "keepalive-off"), &["unset it"]);
        let mut forgotten = with(&[], false);
        let info = forgotten.connections[0].socket.info.as_mut().expect("it has them");
        (info.last_received, info.last_acknowledged) = (Duration::from_secs(351), Duration::MAX);
        says(&first(&forgotten, "no-keepalive"), &["a NAT may have forgotten it already"]);
    }

    #[test]
    fn a_late_keepalive_says_whose_it_is() {
        let with = |environment: &[&str], is_loaded, until| {
            let mut process = process(environment, is_loaded);
            let until = Duration::from_secs(until);
            process.connections = vec![connection(Socket { until, ..socket(PEER4) })];
            process
        };
        says(
            &first(&with(&[], true, 3560), "late-keepalive"),
            &[
                "only after 3600 s or more on the connection to 198.51.100.2:443",
                "that time is the program's own; start it as: egress-shim --keepalive enforce -- app --x",
            ],
        );
        says(
            &first(&with(&["EGRESS_SHIM_KEEPALIVE=idle=3600"], true, 3560), "late-keepalive"),
            &["that time comes from EGRESS_SHIM_KEEPALIVE"],
        );
        says(
            &first(&with(&[], false, 7100), "late-keepalive"),
            &["the program's own or the system's"],
        );
        assert_eq!(judged(&with(&[], true, 350 - 40), true), [], "just in time");
        first(&with(&[], true, 351 - 40), "late-keepalive");
    }

    #[test]
    fn what_is_no_trouble_is_a_note() {
        let mut left_out = process(&["EGRESS_SHIM_PROGRAMS=other"], true);
        left_out.cut = vec!["its environment"];
        let findings = judged(&left_out, true);
        let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["program-left-out", "cut"]);
        assert!(!findings.iter().any(Finding::is_wrong));
    }

    #[test]
    fn the_manual_page_has_each_code() {
        let manual = include_str!("manual.1").replace('\\', "");
        for Rule { code, .. } in &RULES {
            assert!(manual.contains(code), "{code} in manual.1");
        }
    }

    #[test]
    fn a_command_line_that_cannot_be_typed_is_not_repeated() {
        let mut process = process(&[], false);
        process.words = vec![b"app".to_vec(), b"it's $HOME".to_vec()];
        assert_eq!(command_of(&process).as_deref(), Some("app 'it'\\''s $HOME'"));
        process.words[0] = b"-app".to_vec();
        assert_eq!(command_of(&process).as_deref(), Some("/usr/bin/app 'it'\\''s $HOME'"));
        for word in [&b"a\nb"[..], b"\x1b[2J", b"\xff", &[b'x'; LONGEST_COMMAND]] {
            process.words[1] = word.to_vec();
            assert_eq!(command_of(&process), None);
        }
        let line = start(&Case::of(&process, &here(), true), &["a.test"], &[]);
        assert_eq!(
            line,
            "start it with these variables: LD_PRELOAD=/lib/libegress_shim.so EGRESS_SHIM_IPV4_ONLY=a.test"
        );
    }

    #[test]
    fn the_worst_connections_come_first_and_the_others_are_counted() {
        let accepted = Connection { is_accepted: true, ..connection(socket(PEER4)) };
        let worst = [
            connecting(PEER6, 1),
            connecting(PEER4, 1),
            without_keepalive(),
            connection(socket(PEER4)),
            accepted,
        ];
        assert!(worst.is_sorted_by_key(rank));
        let all: Vec<_> = worst.iter().collect();
        assert_eq!(summary(&all), "and 5 more: 2 SYN-SENT, 3 ESTABLISHED");
        assert_eq!(
            describe(&worst[0]),
            "SYN-SENT    [2001:db8:2::2]:443: no answer yet, asked 2 times (from port 40000, descriptor 3)"
        );
        assert_eq!(
            describe(&worst[3]),
            "ESTABLISHED 198.51.100.2:443: next keepalive probe in 30 s, silent for 40 s (from port 40000, descriptor 3)"
        );
    }
}
