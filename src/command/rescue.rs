//! `--rescue`: connections of a running process that hang get their answer, or are ended, without a restart.
//!
//! Silent connections get keepalive, and one probe at once tells those that still work from those that a NAT has
//! forgotten. The kernel then keeps up the first and ends the second, and the program's own error handling goes on.
//! A connect over IPv6 that nobody answers is ended, and the program goes on with its next address.
//!
//! Never here: shutdown(2), which lets a program take half an answer for the whole; connect(2) with `AF_UNSPEC`;
//! `SOCK_DESTROY` of an established connection; signals; ptrace(2). Each step leaves a state that the connection
//! can stay in, for this command may be killed after any of them.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, c_int};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use egress_shim_core::kernel::{self, ESTABLISHED, SYN_SENT};
use egress_shim_core::settings::{Keepalive, Timings};
use libc::{IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET};
use rustix::io::Errno;
use serde_json::json;

use crate::duplicates::{Figures, Process, Socket};
use crate::finding::{Finding, Severity};
use crate::inspect::own_command;
use crate::output::{Failure, status};
use crate::process;
use crate::refusal;
use crate::report::{Format, Report};
use crate::sock_destroy::destroy;
use crate::sockets::{self, Descriptors, Table};

/// At most this many descriptors of a process are looked at.
const MOST_DESCRIPTORS: usize = 300_000;
/// The time that an answer to the first probe may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The timings that are left on a connection that did not answer: it ends in some 16 s, and a short outage does not
/// end it.
const LAST_PROBES: Timings = Timings { idle: 0, interval: 2, count: 8 };
/// A connect hangs once it has sent this many SYN segments without an answer.
const SYNS: u8 = 3;
/// `TCP_SYNCNT` counts the SYN segments sent again; the kernel adds `net.ipv4.tcp_syn_linear_timeouts`, 4 since
/// Linux 6.5, which go out a second apart.
const LINEAR_TIMEOUTS: u8 = 4;

/// The outcome for a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It answered the probe after this time; keepalive is on.
    Answers { after: Duration, was_silent: Duration },
    /// Something is under way, so that no probe is needed; keepalive is on.
    Active,
    /// No answer: the kernel ends it within this time.
    Forgotten { was_silent: Duration, ends_in: Duration },
    /// It ended when the probe went out, mostly by a reset: the program has got an error.
    Over { was_silent: Duration },
    /// The connect is ended.
    Ended,
    /// The connect ends within this time.
    Ending { within: Duration },
    /// The program or the peer closed it meanwhile.
    Closed,
    /// The program's own keepalive is short enough.
    Kept { timings: Timings },
    /// The program's own keepalive is longer than the settings'.
    Longer { timings: Timings },
    /// Its data is retransmitted again and again.
    Unacknowledged { silent: Duration },
    /// A connect over IPv4 that nobody answers.
    NoAnswer { syns: u8 },
    /// A connect that is not old enough to judge.
    Young { syns: u8 },
    /// A Multipath TCP socket without keepalive.
    Multipath,
    /// The process accepted it.
    Accepted,
    /// It does not leave this machine.
    Loopback,
    /// The remedy that `--dry-run` did not apply.
    Would(Remedy),
    /// The kernel refused an option.
    Refused { error: String },
}

/// The remedy for a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remedy {
    /// Keepalive on, and a probe now.
    Probe { silent: Duration },
    /// Keepalive on.
    SwitchOn,
    /// The connect is to end.
    End { syns: u8 },
}

/// The standing of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It still hangs, or may: the exit status is 1.
    Left,
    /// It had a problem, which is solved.
    Rescued,
    /// Nothing was wrong with it.
    Fine,
}

impl Standing {
    const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Rescued => "rescued",
            Self::Fine => "fine",
        }
    }
}

/// The judgement of a connection.
enum Judgement {
    Leave(Outcome),
    Act(Remedy),
    /// Too early to judge: look again.
    Wait(Outcome),
}

/// Judges a connection; `None` for one that is closing.
fn judge(figures: &Figures, table: &Table, settings: &Keepalive) -> Option<Judgement> {
    use Judgement::{Act, Leave, Wait};
    let syns = figures.info.retransmits.saturating_add(1);
    let timings = figures.timings;
    // As in the library, a timing that is the system's default counts as not set: a program that only switches
    // keepalive on gets timings that help.
    let has_own_idle = timings.idle != Timings::KERNEL.idle;
    Some(match figures.info.state {
        _ if figures.peer.ip().is_loopback() => Leave(Outcome::Loopback),
        _ if figures.is_multipath && figures.has_keepalive => Leave(Outcome::Kept { timings }),
        _ if figures.is_multipath => Leave(Outcome::Multipath),
        SYN_SENT if syns < SYNS => Wait(Outcome::Young { syns }),
        SYN_SENT if figures.peer.is_ipv6() => Act(Remedy::End { syns }),
        SYN_SENT => Leave(Outcome::NoAnswer { syns }),
        ESTABLISHED if table.has_listener(figures.local.port()) => Leave(Outcome::Accepted),
        ESTABLISHED if figures.has_keepalive && !settings.enforce && has_own_idle => {
            let is_longer = timings.idle > settings.timings.idle;
            Leave(if is_longer { Outcome::Longer { timings } } else { Outcome::Kept { timings } })
        }
        ESTABLISHED if figures.has_keepalive && wanted(figures, settings) == timings => {
            Leave(Outcome::Kept { timings })
        }
        ESTABLISHED if figures.info.has_unacknowledged && figures.info.retransmits > 0 => {
            Leave(Outcome::Unacknowledged { silent: figures.info.silence() })
        }
        // No probe goes out while data is in flight, nor is one needed.
        ESTABLISHED
            if figures.info.has_unacknowledged
                || figures.info.silence() < Duration::from_secs(1) =>
        {
            Act(Remedy::SwitchOn)
        }
        ESTABLISHED => Act(Remedy::Probe { silent: figures.info.silence() }),
        _ => return None,
    })
}

/// The timings that a connection should have: the program's own if it has set them, limited by the settings with
/// `enforce`.
fn wanted(figures: &Figures, settings: &Keepalive) -> Timings {
    let (own, ours, kernel) = (figures.timings, settings.timings, Timings::KERNEL);
    let choose = |own: c_int, ours: c_int, kernel: c_int| match own {
        _ if !figures.has_keepalive || own == kernel => ours,
        _ if settings.enforce => own.min(ours),
        _ => own,
    };
    Timings {
        idle: choose(own.idle, ours.idle, kernel.idle),
        interval: choose(own.interval, ours.interval, kernel.interval),
        count: choose(own.count, ours.count, kernel.count),
    }
}

// --------------------------------------------------------------------------------------- one socket

/// Switches keepalive on. If the idle time is already over, setting it makes the kernel send a probe at once. So it is
/// set last, after all other options. (The other order would start a whole idle time now.)
fn switch_on(socket: &Socket, timings: Timings) -> io::Result<()> {
    socket.set(SOL_SOCKET, SO_KEEPALIVE, 1)?;
    socket.set(IPPROTO_TCP, libc::TCP_KEEPINTVL, timings.interval)?;
    socket.set(IPPROTO_TCP, libc::TCP_KEEPCNT, timings.count)?;
    socket.set(IPPROTO_TCP, libc::TCP_KEEPIDLE, timings.idle)
}

/// Switches keepalive on, with the settings' timings, for a connection that is known to work.
fn keep_up(socket: &Socket, figures: &Figures, settings: &Keepalive) -> io::Result<()> {
    if let (None, Some(seconds)) = (figures.user_timeout, settings.user_timeout) {
        socket.set(IPPROTO_TCP, libc::TCP_USER_TIMEOUT, seconds * 1000)?;
    }
    switch_on(socket, wanted(figures, settings))
}

/// The timings with which the probe goes out. If this command is killed now, the connection can keep them: the idle time
/// is shorter than in the settings, and the further probes of [`PATIENCE`] do not exhaust the count.
fn probing(figures: &Figures, settings: &Keepalive) -> Timings {
    let wanted = wanted(figures, settings);
    Timings {
        idle: wanted.idle.min(whole_seconds(figures.info.silence())).max(1),
        count: wanted.count.max(LAST_PROBES.count),
        ..wanted
    }
}

/// Lets the kernel end a connection that has not answered. Returns the time that this takes.
fn give_up(socket: &Socket, figures: &Figures, settings: &Keepalive) -> io::Result<Duration> {
    let Timings { interval, count, .. } = LAST_PROBES;
    switch_on(socket, Timings { idle: probing(figures, settings).idle, interval, count })?;
    let probes = Duration::from_secs((interval * count).unsigned_abs().into());
    // With a user timeout the count of probes does not matter: tcp_keepalive_timer() in net/ipv4/tcp_timer.c.
    let step = Duration::from_secs(interval.unsigned_abs().into());
    Ok(figures.user_timeout.map_or(probes, |all| all.saturating_sub(figures.info.silence()) + step))
}

/// Ends a connect that nobody answers. `TCP_SYNCNT` ends it when the next SYN would go out, and has no effect on an
/// established connection. If it is allowed, `SOCK_DESTROY` ends the connect now.
fn end(process: &Process, socket: &Socket, figures: &Figures) -> io::Result<Outcome> {
    let own = socket.number(IPPROTO_TCP, libc::TCP_SYNCNT);
    socket.set(IPPROTO_TCP, libc::TCP_SYNCNT, 1)?;
    if destroy_unanswered(process, socket, figures)? {
        // A program that connects the same socket again gets its own number of SYN segments.
        if let Some(own) = own {
            let _ = socket.set(IPPROTO_TCP, libc::TCP_SYNCNT, own);
        }
        return Ok(Outcome::Ended);
    }
    let linear = (LINEAR_TIMEOUTS + 1).saturating_sub(figures.info.retransmits);
    Ok(Outcome::Ending { within: figures.info.timeout + Duration::from_secs(linear.into()) })
}

/// `SOCK_DESTROY` takes a socket in any state, so it would destroy a connection that an answer has established since the
/// last look. A filter keeps answers out from before that look until after the end.
fn destroy_unanswered(process: &Process, socket: &Socket, figures: &Figures) -> io::Result<bool> {
    if socket.has_filter() || socket.drop_all().is_err() {
        return Ok(false);
    }
    let is_unanswered = socket.figures().is_some_and(|now| now.info.state == SYN_SENT);
    let is_destroyed = is_unanswered && destroy(process.id, figures).is_ok();
    socket.detach_filter()?;
    Ok(is_destroyed)
}

// ------------------------------------------------------------------------------------------ the course of a rescue

/// A connection and its stage.
pub struct Connection {
    /// The process in whose descriptors it was found first.
    process: usize,
    descriptor: u32,
    /// The figures at the first look.
    figures: Figures,
    stage: Stage,
}

enum Stage {
    Done(Outcome),
    /// Nobody has answered a connect, but it is too young to judge.
    Waiting(Outcome),
    /// Probes have been sent: how many, and when the first was sent.
    Probing {
        since: Instant,
        probes: u64,
    },
}

struct Rescue<'a> {
    processes: Vec<Process>,
    /// The number of each process's network namespace.
    networks: Vec<u64>,
    /// The sockets of each network namespace; only those that listen matter here.
    tables: HashMap<u64, Table>,
    settings: &'a Keepalive,
    is_dry: bool,
}

impl Rescue<'_> {
    /// Looks at each TCP socket of a process that was not seen before, and begins its rescue.
    fn begin(&self, index: usize, seen: &mut HashSet<u64>) -> Result<Vec<Connection>, io::Error> {
        let process = &self.processes[index];
        let mut connections = Vec::new();
        process.may_duplicate()?;
        // A process that has ended has no such file, and neither has a kernel thread.
        fs::read_link(format!("/proc/{}/exe", process.id))?;
        let mut budget = MOST_DESCRIPTORS;
        let descriptors = Descriptors::of(process.id, &mut budget)?;
        for (inode, descriptor) in descriptors.iter() {
            // Processes may share a socket.
            if !seen.insert(inode) {
                continue;
            }
            let socket = match process.duplicate(descriptor) {
                Ok(socket) => socket,
                Err(Errno::BADF | Errno::SRCH) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(figures) = socket.figures() else { continue };
            if let Some(stage) = self.first(index, &socket, &figures) {
                connections.push(Connection { process: index, descriptor, figures, stage });
            }
        }
        Ok(connections)
    }

    fn first(&self, index: usize, socket: &Socket, figures: &Figures) -> Option<Stage> {
        Some(match judge(figures, &self.tables[&self.networks[index]], self.settings)? {
            Judgement::Leave(outcome) => Stage::Done(outcome),
            Judgement::Wait(outcome) if self.is_dry => Stage::Done(outcome),
            Judgement::Wait(outcome) => Stage::Waiting(outcome),
            Judgement::Act(remedy) if self.is_dry => Stage::Done(Outcome::Would(remedy)),
            Judgement::Act(remedy) => self
                .act(index, socket, figures, remedy)
                .unwrap_or_else(|error| Stage::Done(Outcome::Refused { error: error.to_string() })),
        })
    }

    fn act(
        &self,
        index: usize,
        socket: &Socket,
        figures: &Figures,
        remedy: Remedy,
    ) -> io::Result<Stage> {
        Ok(match remedy {
            Remedy::SwitchOn => {
                keep_up(socket, figures, self.settings)?;
                Stage::Done(Outcome::Active)
            }
            Remedy::Probe { .. } => {
                switch_on(socket, probing(figures, self.settings))?;
                Stage::Probing { since: Instant::now(), probes: 1 }
            }
            Remedy::End { .. } => Stage::Done(end(&self.processes[index], socket, figures)?),
        })
    }

    /// Looks again, by a fresh duplicate, at a connection that is not done.
    fn look_again(&self, connection: &mut Connection, is_last: bool) {
        let Connection { process, descriptor, figures, stage } = connection;
        if matches!(stage, Stage::Done(_)) {
            return;
        }
        let socket = self.processes[*process].duplicate(*descriptor);
        let now = socket.as_ref().ok().and_then(Socket::figures);
        // By now the descriptor may be another socket.
        let now = now.filter(|now| now.cookie == figures.cookie);
        let was_silent = figures.info.silence();
        let next = match (&socket, now, &*stage) {
            (Ok(socket), Some(now), Stage::Waiting(_)) => {
                match self.first(*process, socket, &now) {
                    // The new outcome has the number of attempts up to now.
                    Some(Stage::Waiting(outcome)) if is_last => Ok(Stage::Done(outcome)),
                    Some(next) => Ok(next),
                    None => Ok(Stage::Done(Outcome::Closed)),
                }
            }
            (Ok(socket), Some(now), &Stage::Probing { since, probes })
                if now.info.state == ESTABLISHED =>
            {
                self.answer(socket, figures, &now, (since, probes), is_last)
            }
            (_, _, Stage::Probing { .. }) => Ok(Stage::Done(Outcome::Over { was_silent })),
            _ => Ok(Stage::Done(Outcome::Closed)),
        };
        *stage =
            next.unwrap_or_else(|error| Stage::Done(Outcome::Refused { error: error.to_string() }));
    }

    /// The outcome of a probe.
    fn answer(
        &self,
        socket: &Socket,
        then: &Figures,
        now: &Figures,
        (since, probes): (Instant, u64),
        is_last: bool,
    ) -> io::Result<Stage> {
        let (was_silent, elapsed) = (then.info.silence(), since.elapsed());
        if now.info.silence() < was_silent {
            keep_up(socket, then, self.settings)?;
            let after = elapsed.saturating_sub(now.info.silence());
            return Ok(Stage::Done(Outcome::Answers { after, was_silent }));
        }
        if now.info.has_unacknowledged {
            // The program has written meanwhile: the kernel sends that instead of a probe.
            keep_up(socket, then, self.settings)?;
            return Ok(Stage::Done(Outcome::Unacknowledged { silent: now.info.silence() }));
        }
        if is_last {
            let ends_in = give_up(socket, then, self.settings)?;
            return Ok(Stage::Done(Outcome::Forgotten { was_silent, ends_in }));
        }
        // One lost packet proves nothing, so more probes follow. With a user timeout the second probe would end the
        // connection.
        if elapsed.as_secs() >= probes && then.user_timeout.is_none() {
            switch_on(socket, probing(then, self.settings))?;
            return Ok(Stage::Probing { since, probes: probes + 1 });
        }
        Ok(Stage::Probing { since, probes })
    }

    fn wait(&self, connections: &mut [Connection]) {
        let start = Instant::now();
        let mut pause = Duration::from_millis(2);
        loop {
            let is_last = start.elapsed() >= PATIENCE;
            for connection in &mut *connections {
                self.look_again(connection, is_last);
            }
            let is_done = |connection: &Connection| matches!(connection.stage, Stage::Done(_));
            if is_last || connections.iter().all(is_done) {
                return;
            }
            std::thread::sleep(pause.min(PATIENCE.saturating_sub(start.elapsed())));
            pause = (2 * pause).min(Duration::from_millis(250));
        }
    }
}

fn whole_seconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_secs()).unwrap_or(c_int::MAX)
}

// ----------------------------------------------------------------------------------------------- the report

/// Rescues the connections of a process and its descendants.
///
/// # Errors
/// The reason why it cannot be done, with the privilege or kernel that it needs.
pub fn rescue(
    process: &OsStr,
    settings: &Keepalive,
    is_dry: bool,
    format: Format,
) -> Result<c_int, Failure> {
    let Some(id) = process.to_str().and_then(|text| text.parse::<u32>().ok()) else {
        let message = format!("--rescue {}: PID must be a number", process.display());
        return Err(Failure::new(status::FAILED, message));
    };
    let first = Process::open(id).map_err(|error| refusal::cannot_open(id, error))?;
    refusal::of_any_process()?;
    let processes = family(first);
    let mut tables = HashMap::new();
    let mut networks = Vec::new();
    for &Process { id, .. } in &processes {
        let network = sockets::network_of(id).unwrap_or_default();
        tables.entry(network).or_insert_with(|| Table::of(id, &HashSet::new()));
        networks.push(network);
    }
    let rescue = Rescue { processes, networks, tables, settings, is_dry };
    let mut connections = Vec::new();
    let mut refused: Vec<Failure> = Vec::new();
    let mut seen = HashSet::new();
    for (index, process) in rescue.processes.iter().enumerate() {
        match rescue.begin(index, &mut seen) {
            Ok(found) => connections.extend(found),
            // A child has ended meanwhile.
            Err(error) if index > 0 && has_ended(&error) => {}
            Err(error) => refused.push(refusal::of_process(process.id, &error)),
        }
    }
    if connections.is_empty() && !refused.is_empty() {
        return Err(refused.swap_remove(0));
    }
    rescue.wait(&mut connections);
    report(&rescue, &connections, &refused, &Report::new("rescue", format))
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// A process and its descendants. Each is opened before its parent is read, so that a PID that the kernel has given to
/// another process brings in no stranger.
fn family(first: Process) -> Vec<Process> {
    let ids = process::family(Some(&[first.id])).unwrap_or_default();
    let mut family = vec![first];
    for id in ids {
        let Ok(process) = Process::open(id) else { continue };
        let parent =
            fs::read(format!("/proc/{id}/stat")).ok().and_then(|stat| kernel::parent(&stat));
        if family.iter().any(|known| Some(known.id) == parent) {
            family.push(process);
        }
    }
    family
}

impl Outcome {
    /// Its standing.
    fn standing(&self) -> Standing {
        match self {
            Self::Answers { .. }
            | Self::Active
            | Self::Forgotten { .. }
            | Self::Over { .. }
            | Self::Ended
            | Self::Ending { .. } => Standing::Rescued,
            Self::Longer { .. }
            | Self::Unacknowledged { .. }
            | Self::NoAnswer { .. }
            | Self::Young { .. }
            | Self::Multipath
            | Self::Would(_)
            | Self::Refused { .. } => Standing::Left,
            Self::Closed | Self::Kept { .. } | Self::Accepted | Self::Loopback => Standing::Fine,
        }
    }

    /// A stable name for scripts.
    fn code(&self) -> &'static str {
        match self {
            Self::Answers { .. } => "answers",
            Self::Active => "active",
            Self::Forgotten { .. } => "forgotten",
            Self::Over { .. } => "over",
            Self::Ended => "ended",
            Self::Ending { .. } => "ending",
            Self::Closed => "closed",
            Self::Kept { .. } => "own-keepalive",
            Self::Longer { .. } => "own-keepalive-too-long",
            Self::Unacknowledged { .. } => "unacknowledged",
            Self::NoAnswer { .. } => "no-answer-ipv4",
            Self::Young { .. } => "young",
            Self::Multipath => "multipath",
            Self::Accepted => "accepted",
            Self::Loopback => "loopback",
            Self::Would(Remedy::Probe { .. }) => "would-probe",
            Self::Would(Remedy::SwitchOn) => "would-switch-on",
            Self::Would(Remedy::End { .. }) => "would-end",
            Self::Refused { .. } => "refused",
        }
    }

    /// The sentence for people.
    fn sentence(&self, settings: &Keepalive) -> String {
        let on = format!("keepalive is on now ({})", settings.timings);
        let seconds = |duration: &Duration| duration.as_secs_f64().ceil();
        match self {
            Self::Answers { after, was_silent } => {
                let (after, silent) = (after.as_millis().max(1), was_silent.as_secs());
                format!("answers ({after} ms), was silent for {silent} s: {on}")
            }
            Self::Active => format!("active: {on}"),
            Self::Forgotten { was_silent, ends_in } => format!(
                "no answer, silent for {} s: the network has forgotten it; the program gets \"Connection timed out\" \
                 within {} s",
                was_silent.as_secs(),
                seconds(ends_in)
            ),
            Self::Over { was_silent } => format!(
                "was silent for {} s; it ended when the probe went out: the program has got an error",
                was_silent.as_secs()
            ),
            Self::Ended => {
                "ended: the program goes on with its next address, if it has one".to_owned()
            }
            Self::Ending { within } => format!(
                "ends with \"Connection timed out\" within {} s: the program then goes on with its next address, if it \
                 has one",
                seconds(within)
            ),
            Self::Closed => "closed meanwhile".to_owned(),
            Self::Kept { timings } => format!("keepalive was on before ({timings})"),
            Self::Longer { timings } => format!(
                "left alone: keepalive is the program's own ({timings}); --keepalive enforce shortens it"
            ),
            Self::Unacknowledged { silent } => format!(
                "left alone: data that the program wrote is not acknowledged, and the peer has been silent for {} s; no \
                 probe can be sent, and the kernel gives up after some 15 minutes",
                silent.as_secs()
            ),
            Self::NoAnswer { syns } => {
                format!("left alone: no answer over IPv4, asked {syns} times")
            }
            Self::Young { syns } => {
                let times = if *syns == 1 { "time" } else { "times" };
                format!("left alone: no answer yet, asked {syns} {times}; too early to tell")
            }
            Self::Multipath => "left alone: a Multipath TCP socket without keepalive".to_owned(),
            Self::Accepted => "left alone: the program accepted it".to_owned(),
            Self::Loopback => "left alone: it does not leave this machine".to_owned(),
            Self::Would(Remedy::Probe { silent }) => format!(
                "no keepalive, silent for {} s: would be probed, and get keepalive if it answers",
                silent.as_secs()
            ),
            Self::Would(Remedy::SwitchOn) => "no keepalive: it would be switched on".to_owned(),
            Self::Would(Remedy::End { syns }) => {
                format!("no answer over IPv6, asked {syns} times: would be ended")
            }
            Self::Refused { error } => format!("left alone: the kernel refuses an option: {error}"),
        }
    }
}

/// At most this many connections with the same outcome are shown one by one.
const MOST_SHOWN: usize = 20;

fn report(
    rescue: &Rescue<'_>,
    connections: &[Connection],
    refused: &[Failure],
    report: &Report,
) -> Result<c_int, Failure> {
    let mut results: Vec<_> = connections
        .iter()
        .filter_map(|connection| match &connection.stage {
            Stage::Done(outcome) => Some((connection, outcome)),
            _ => None,
        })
        .collect();
    results.sort_by_key(|(_, outcome)| (outcome.standing(), outcome.code()));
    let state = |connection: &Connection| {
        if connection.figures.info.state == SYN_SENT { "SYN-SENT" } else { "ESTABLISHED" }
    };
    let sentence = |(connection, outcome): &(&Connection, &Outcome)| {
        format!("{}: {}", connection.figures.peer, outcome.sentence(rescue.settings))
    };
    for alike in results.chunk_by(|(_, one), (_, other)| one.code() == other.code()) {
        for result in alike.iter().take(MOST_SHOWN) {
            report.line(state(result.0), sentence(result))?;
        }
        if let Some(more @ 1..) = alike.len().checked_sub(MOST_SHOWN) {
            report.line("", format_args!("... and {more} more like these"))?;
        }
    }
    for failure in refused {
        report.line("refused", &failure.message)?;
    }
    let count =
        |standing| results.iter().filter(|(_, outcome)| outcome.standing() == standing).count();
    let (left, rescued) = (count(Standing::Left) + refused.len(), count(Standing::Rescued));
    let connections = results.iter().map(|(connection, outcome)| {
        json!({
            "pid": rescue.processes[connection.process].id,
            "local": connection.figures.local.to_string(),
            "peer": connection.figures.peer.to_string(),
            "state": state(connection),
            "silent_seconds": connection.figures.info.silence().as_secs(),
            "outcome": outcome.code(),
            "standing": outcome.standing().name(),
            "sentence": outcome.sentence(rescue.settings),
        })
    });
    let facts = json!({
        "processes": rescue.processes.iter().map(|process| process.id).collect::<Vec<_>>(),
        "dry_run": rescue.is_dry,
        "rescued": rescued,
        "left": left,
        "connections": connections.collect::<Vec<_>>(),
    });
    let id = rescue.processes.first().map_or(0, |process| process.id);
    let findings = match (left, rescue.is_dry) {
        (0, _) => Vec::new(),
        (_, is_dry) => {
            let first = results.first().map(sentence).filter(|_| left > refused.len());
            let first =
                first.or_else(|| Some(refused.first()?.message.clone())).unwrap_or_default();
            let would = |outcome: &&Outcome| matches!(outcome, Outcome::Would(_));
            let would = results.iter().map(|(_, outcome)| *outcome).filter(would).count();
            let sentence = if is_dry {
                let rest = left - would;
                format!(
                    "nothing was changed (--dry-run): {would} would be rescued, {rest} left; the first: {first}"
                )
            } else {
                format!("{rescued} rescued, {left} left; the first left: {first}")
            };
            let code = if is_dry { "dry-run" } else { "left" };
            let (subject, action) = (String::new(), String::new());
            vec![Finding { code, severity: Severity::Error, subject, sentence, action }]
        }
    };
    let nothing = match rescued {
        0 => "nothing is wrong: no connection needs a rescue".to_owned(),
        _ => format!(
            "{rescued} rescued; this does not cover later connections: {} --inspect {id} shows how to start the program \
             with the library",
            own_command()
        ),
    };
    report.end(findings, &nothing, facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egress_shim_core::kernel::Info;

    /// Should the command be killed after the probe, the further probes may stay without an answer.
    #[test]
    fn the_first_probe_goes_out_with_a_count_that_a_few_more_do_not_exhaust() {
        let figures = Figures {
            cookie: 1,
            local: "192.0.2.1:1".parse().unwrap(),
            peer: "192.0.2.2:2".parse().unwrap(),
            is_multipath: false,
            // `struct tcp_info`, in which the peer was last heard 40 s ago.
            info: Info::of(&silent_for(40_000)).unwrap(),
            has_keepalive: false,
            timings: Timings::KERNEL,
            user_timeout: None,
        };
        let timings = Timings { idle: 60, interval: 1, count: 1 };
        let settings = Keepalive { timings, ..Keepalive::DEFAULT };
        assert_eq!(probing(&figures, &settings), Timings { idle: 40, interval: 1, count: 8 });
    }

    fn silent_for(milliseconds: u32) -> [u8; 192] {
        let mut info = [0; 192];
        for at in [52, 56] {
            info[at..at + 4].copy_from_slice(&milliseconds.to_ne_bytes());
        }
        info
    }
}
