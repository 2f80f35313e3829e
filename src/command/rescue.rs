//! `--rescue`: connections of a running process that hang get their answer or their end, without a restart.
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
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use egress_shim_core::settings::{Keepalive, Timings};
use libc::{IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET};
use rustix::io::Errno;

use crate::duplicates::{ESTABLISHED, Figures, Process, SYN_SENT, Socket};
use crate::output::{Failure, print, status};
use crate::refusal;
use crate::sock_destroy::destroy;

/// An answer to the first probe is waited for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a connection keeps that did not answer: it ends in some 16 s, and a short outage does not end it.
const LAST_PROBES: Timings = Timings { idle: 0, interval: 2, count: 8 };
/// After so many SYN segments without an answer a connect hangs.
const SYNS: u8 = 3;
/// `TCP_SYNCNT` counts the SYN segments sent again; the kernel adds `net.ipv4.tcp_syn_linear_timeouts`, 4 since
/// Linux 6.5, which go out a second apart.
const LINEAR_TIMEOUTS: u8 = 4;

/// What became of a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It answered the probe after so long; keepalive is on.
    Answers { after: Duration, was_silent: Duration },
    /// Something is under way, so that no probe is needed; keepalive is on.
    Active,
    /// No answer: the kernel ends it in so long.
    Forgotten { was_silent: Duration, ends_in: Duration },
    /// It ended when the probe went out, mostly by a reset: the program has its error.
    Over { was_silent: Duration },
    /// The connect is ended.
    Ended,
    /// The connect ends in so long.
    Ending { within: Duration },
    /// The program or the peer closed it meanwhile.
    Closed,
    /// The program's own keepalive is short enough.
    Kept { timings: Timings },
    /// The program's own keepalive is longer than the settings'.
    Longer { timings: Timings },
    /// What was written is sent again and again.
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
    /// What would be done, by `--dry-run`.
    Would(Remedy),
    /// The kernel refused an option.
    Refused { error: String },
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remedy {
    /// Keepalive on, and a probe now.
    Probe { silent: Duration },
    /// Keepalive on.
    SwitchOn,
    /// The connect is to end.
    End { syns: u8 },
}

/// How an outcome counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It still hangs, or may: the exit status is 1.
    Left,
    /// It was in trouble and is not any more.
    Rescued,
    /// Nothing was wrong with it.
    Fine,
}

/// The judgement of a connection.
enum Judgement {
    Leave(Outcome),
    Act(Remedy),
    /// Too early to judge: look again.
    Wait(Outcome),
}

/// Judges a connection; `None` for one that is closing.
fn judge(figures: &Figures, listening: &HashSet<u16>, settings: &Keepalive) -> Option<Judgement> {
    use Judgement::{Act, Leave, Wait};
    let syns = figures.retransmits.saturating_add(1);
    let timings = figures.timings;
    Some(match figures.state {
        _ if figures.peer.ip().is_loopback() => Leave(Outcome::Loopback),
        _ if figures.is_multipath && figures.has_keepalive => Leave(Outcome::Kept { timings }),
        _ if figures.is_multipath => Leave(Outcome::Multipath),
        SYN_SENT if syns < SYNS => Wait(Outcome::Young { syns }),
        SYN_SENT if figures.peer.is_ipv6() => Act(Remedy::End { syns }),
        SYN_SENT => Leave(Outcome::NoAnswer { syns }),
        ESTABLISHED if listening.contains(&figures.local.port()) => Leave(Outcome::Accepted),
        ESTABLISHED if figures.has_keepalive && !settings.enforce => {
            let is_longer = timings.idle > settings.timings.idle;
            Leave(if is_longer { Outcome::Longer { timings } } else { Outcome::Kept { timings } })
        }
        ESTABLISHED if figures.has_keepalive && wanted(figures, settings) == timings => {
            Leave(Outcome::Kept { timings })
        }
        ESTABLISHED if figures.has_unacknowledged && figures.retransmits > 0 => {
            Leave(Outcome::Unacknowledged { silent: figures.silence })
        }
        // No probe goes out while data is in flight, nor is one needed.
        ESTABLISHED if figures.has_unacknowledged || figures.silence < Duration::from_secs(1) => {
            Act(Remedy::SwitchOn)
        }
        ESTABLISHED => Act(Remedy::Probe { silent: figures.silence }),
        _ => return None,
    })
}

/// The timings that a connection is to have: its own where they are in use and shorter.
fn wanted(figures: &Figures, settings: &Keepalive) -> Timings {
    let Timings { idle, interval, count } = settings.timings;
    if !figures.has_keepalive {
        return settings.timings;
    }
    let own = figures.timings;
    Timings {
        idle: own.idle.min(idle),
        interval: own.interval.min(interval),
        count: own.count.min(count),
    }
}

// --------------------------------------------------------------------------------------- on a duplicate

/// Switches keepalive on. With an idle time that is over already, the kernel sends a probe at once: so it goes
/// last, when all else is as it is to be. (The other order would start a whole idle time now.)
fn switch_on(socket: &Socket, timings: Timings) -> io::Result<()> {
    socket.set(SOL_SOCKET, SO_KEEPALIVE, 1)?;
    socket.set(IPPROTO_TCP, libc::TCP_KEEPINTVL, timings.interval)?;
    socket.set(IPPROTO_TCP, libc::TCP_KEEPCNT, timings.count)?;
    socket.set(IPPROTO_TCP, libc::TCP_KEEPIDLE, timings.idle)
}

/// Switches keepalive on for a connection that is known to work, as the settings have it.
fn keep_up(socket: &Socket, figures: &Figures, settings: &Keepalive) -> io::Result<()> {
    if let (None, Some(seconds)) = (figures.user_timeout, settings.user_timeout) {
        socket.set(IPPROTO_TCP, libc::TCP_USER_TIMEOUT, seconds * 1000)?;
    }
    switch_on(socket, wanted(figures, settings))
}

/// The timings with which the probe goes out. Should this command be killed now, they are as good as the settings':
/// a shorter idle time, and a count that the further probes of [`PATIENCE`] do not exhaust.
fn probing(figures: &Figures, settings: &Keepalive) -> Timings {
    let wanted = wanted(figures, settings);
    Timings {
        idle: wanted.idle.min(whole_seconds(figures.silence)).max(1),
        count: wanted.count.max(LAST_PROBES.count),
        ..wanted
    }
}

/// Lets the kernel end a connection that has not answered, and says in how long it does.
fn give_up(socket: &Socket, figures: &Figures, settings: &Keepalive) -> io::Result<Duration> {
    let Timings { interval, count, .. } = LAST_PROBES;
    switch_on(socket, Timings { idle: probing(figures, settings).idle, interval, count })?;
    let probes = Duration::from_secs((interval * count).unsigned_abs().into());
    // With a user timeout the count of probes does not matter: tcp_keepalive_timer() in net/ipv4/tcp_timer.c.
    let step = Duration::from_secs(interval.unsigned_abs().into());
    Ok(figures.user_timeout.map_or(probes, |all| all.saturating_sub(figures.silence) + step))
}

/// Ends a connect that nobody answers. `TCP_SYNCNT` ends it when the next SYN would go out, and means nothing to an
/// established connection; where it is allowed, `SOCK_DESTROY` ends it now.
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
    let linear = (LINEAR_TIMEOUTS + 1).saturating_sub(figures.retransmits);
    Ok(Outcome::Ending { within: figures.retransmission + Duration::from_secs(linear.into()) })
}

/// `SOCK_DESTROY` asks for no state, so an answer that comes after the last look would have an established connection
/// destroyed. A filter holds answers off from before that look until after the end.
fn destroy_unanswered(process: &Process, socket: &Socket, figures: &Figures) -> io::Result<bool> {
    if socket.has_filter() || socket.drop_all().is_err() {
        return Ok(false);
    }
    let is_unanswered = socket.figures().is_some_and(|now| now.state == SYN_SENT);
    let is_destroyed = is_unanswered && destroy(process.id, figures).is_ok();
    socket.detach_filter()?;
    Ok(is_destroyed)
}

// ------------------------------------------------------------------------------------------ the whole way

/// A connection, and how far it has come.
pub struct Connection {
    /// The process in whose descriptors it was found first.
    process: usize,
    descriptor: RawFd,
    /// As they were at first.
    figures: Figures,
    stage: Stage,
}

enum Stage {
    Done(Outcome),
    /// Nobody has answered a connect, but it is young.
    Waiting(Outcome),
    /// So many probes are out, the first since then.
    Probing {
        since: Instant,
        probes: u64,
    },
}

struct Rescue<'a> {
    processes: Vec<Process>,
    /// The network namespace of each process.
    networks: Vec<PathBuf>,
    /// The ports on which somebody listens in each.
    listening: HashMap<PathBuf, HashSet<u16>>,
    settings: &'a Keepalive,
    is_dry: bool,
}

impl Rescue<'_> {
    /// Looks at each TCP socket of a process that was not seen yet, and begins what is to be done about it.
    fn begin(&self, index: usize, seen: &mut HashSet<u64>) -> Result<Vec<Connection>, io::Error> {
        let process = &self.processes[index];
        let mut connections = Vec::new();
        for (descriptor, inode) in process.sockets()? {
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
        Some(match judge(figures, &self.listening[&self.networks[index]], self.settings)? {
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

    /// Looks again at what is not done, by a fresh duplicate.
    fn look_again(&self, connection: &mut Connection, is_last: bool) {
        let Connection { process, descriptor, figures, stage } = connection;
        if matches!(stage, Stage::Done(_)) {
            return;
        }
        let socket = self.processes[*process].duplicate(*descriptor);
        let now = socket.as_ref().ok().and_then(Socket::figures);
        // By now the number may be another socket's.
        let now = now.filter(|now| now.cookie == figures.cookie);
        let was_silent = figures.silence;
        let next = match (&socket, now, &*stage) {
            (Ok(socket), Some(now), Stage::Waiting(_)) => {
                match self.first(*process, socket, &now) {
                    // The last outcome says how often it has been tried by now.
                    Some(Stage::Waiting(outcome)) if is_last => Ok(Stage::Done(outcome)),
                    Some(next) => Ok(next),
                    None => Ok(Stage::Done(Outcome::Closed)),
                }
            }
            (Ok(socket), Some(now), &Stage::Probing { since, probes })
                if now.state == ESTABLISHED =>
            {
                self.answer(socket, figures, &now, (since, probes), is_last)
            }
            (_, _, Stage::Probing { .. }) => Ok(Stage::Done(Outcome::Over { was_silent })),
            _ => Ok(Stage::Done(Outcome::Closed)),
        };
        *stage =
            next.unwrap_or_else(|error| Stage::Done(Outcome::Refused { error: error.to_string() }));
    }

    /// What has become of a probe.
    fn answer(
        &self,
        socket: &Socket,
        then: &Figures,
        now: &Figures,
        (since, probes): (Instant, u64),
        is_last: bool,
    ) -> io::Result<Stage> {
        let (was_silent, elapsed) = (then.silence, since.elapsed());
        if now.silence < was_silent {
            keep_up(socket, then, self.settings)?;
            let after = elapsed.saturating_sub(now.silence);
            return Ok(Stage::Done(Outcome::Answers { after, was_silent }));
        }
        if now.has_unacknowledged {
            // The program has written meanwhile: the kernel sends that instead of a probe.
            keep_up(socket, then, self.settings)?;
            return Ok(Stage::Done(Outcome::Unacknowledged { silent: now.silence }));
        }
        if is_last {
            let ends_in = give_up(socket, then, self.settings)?;
            return Ok(Stage::Done(Outcome::Forgotten { was_silent, ends_in }));
        }
        // One lost packet is no verdict. A user timeout, though, ends the connection at the second probe.
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
/// It cannot be done, and what it takes.
pub fn rescue(process: &OsStr, settings: &Keepalive, is_dry: bool) -> Result<c_int, Failure> {
    let id = process.to_str().and_then(|text| text.parse::<i32>().ok()).filter(|&id| id > 0);
    let Some(id) = id else {
        let message = format!("--rescue {}: PID must be a number", process.display());
        return Err(Failure::new(status::FAILED, message));
    };
    let first = Process::open(id).map_err(|error| refusal::cannot_open(id, error))?;
    refusal::of_any_process()?;
    let processes = family(first);
    let mut listening = HashMap::new();
    let mut networks = Vec::new();
    for Process { id, .. } in &processes {
        let network = fs::read_link(format!("/proc/{id}/ns/net")).unwrap_or_default();
        listening.entry(network.clone()).or_insert_with(|| listening_ports(*id));
        networks.push(network);
    }
    let rescue = Rescue { processes, networks, listening, settings, is_dry };
    let mut connections = Vec::new();
    let mut refused = Vec::new();
    let mut seen = HashSet::new();
    for (index, process) in rescue.processes.iter().enumerate() {
        match rescue.begin(index, &mut seen) {
            Ok(found) => connections.extend(found),
            Err(error) => refused.push(refusal::of_process(process.id, &error)),
        }
    }
    if refused.len() == rescue.processes.len() {
        return Err(refused.swap_remove(0));
    }
    rescue.wait(&mut connections);
    report(&rescue, connections, &refused)
}

/// A process and its descendants. Each is opened first and then asked for its parent, so that a PID that is used
/// anew does not bring in a stranger.
fn family(first: Process) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<_> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut family = vec![first];
    let mut next = 0;
    while let Some(id) = family.get(next).map(|process| process.id) {
        let children = parents.iter().filter(|(_, parent)| *parent == id);
        let children = children.filter_map(|&(child, _)| Process::open(child).ok());
        family.extend(children.filter(|child| parent(child.id) == Some(id)).collect::<Vec<_>>());
        next += 1;
    }
    family
}

/// The fourth word of /proc/PID/stat. The second is the program's name, in brackets, and may hold anything.
fn parent(id: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{id}/stat")).ok()?;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    str::from_utf8(&stat[end + 1..]).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The TCP ports on which somebody listens in the network namespace of a process. A connection with such a port here
/// was accepted.
fn listening_ports(id: i32) -> HashSet<u16> {
    const LISTEN: &str = "0A";
    let tables = ["tcp", "tcp6"].map(|table| {
        // Without IPv6 there is no tcp6.
        fs::read_to_string(format!("/proc/{id}/net/{table}")).unwrap_or_default()
    });
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (_, port) = words.next()?.split_once(':')?;
        let is_listening = words.nth(1)? == LISTEN;
        u16::from_str_radix(port, 16).ok().filter(|_| is_listening)
    };
    tables.iter().flat_map(|table| table.lines()).filter_map(port).collect()
}

impl Outcome {
    /// How it counts.
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
                "was silent for {} s; it ended when the probe went out: the program has its error",
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
                "left alone: what the program wrote is not acknowledged, silent for {} s; no probe can be sent, and \
                 the kernel gives up after some 15 minutes",
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
            Self::Would(Remedy::SwitchOn) => "no keepalive: would be switched on".to_owned(),
            Self::Would(Remedy::End { syns }) => {
                format!("no answer over IPv6, asked {syns} times: would be ended")
            }
            Self::Refused { error } => format!("left alone: the kernel refuses an option: {error}"),
        }
    }
}

fn report(
    rescue: &Rescue<'_>,
    mut connections: Vec<Connection>,
    refused: &[Failure],
) -> Result<c_int, Failure> {
    let outcome = |connection: &Connection| match &connection.stage {
        Stage::Done(outcome) | Stage::Waiting(outcome) => outcome.clone(),
        Stage::Probing { .. } => Outcome::Closed,
    };
    connections.sort_by_key(|connection| outcome(connection).standing());
    let mut text = String::new();
    for connection in &connections {
        let state = if connection.figures.state == SYN_SENT { "SYN-SENT" } else { "ESTABLISHED" };
        let sentence = outcome(connection).sentence(rescue.settings);
        let _ = writeln!(text, "{state:<11} {}: {sentence}", connection.figures.peer);
    }
    for failure in refused {
        let _ = writeln!(text, "{}", failure.message);
    }
    let count = |standing| {
        connections.iter().filter(|connection| outcome(connection).standing() == standing).count()
    };
    let (left, rescued) = (count(Standing::Left) + refused.len(), count(Standing::Rescued));
    let plural = |number| if number == 1 { "connection" } else { "connections" };
    let id = rescue.processes[0].id;
    let _ = match (rescued, left) {
        (0, 0) => writeln!(text, "nothing to rescue"),
        (_, 0) => writeln!(
            text,
            "{rescued} {} rescued; later ones are not: egress-shim --inspect {id} says how to start the program so \
             that they need no rescue",
            plural(rescued)
        ),
        _ => writeln!(text, "{rescued} {} rescued, {left} left, see above", plural(rescued)),
    };
    print(&text)?;
    Ok(c_int::from(left > 0))
}
