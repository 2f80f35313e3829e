//! `--inspect`: whether the library is in a running process, with which settings, and what becomes of its TCP
//! connections. The last line says what to do.

use std::ffi::{OsStr, c_int};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::configuration::{Configuration, settings_of};
use crate::environment::Environment;
use crate::library;
use crate::output::{Failure, print, status};
use crate::program::Elf;
use crate::sockets::{self, Connection, ESTABLISHED, SYN_SENT, Timer};

/// Looks at a process.
///
/// # Errors
/// Why it cannot be seen.
pub fn inspect(process: &OsStr) -> Result<c_int, Failure> {
    let Some(process) = process.to_str().filter(|text| text.parse::<u32>().is_ok()) else {
        let message = format!("--inspect {}: PID must be a number", process.display());
        return Err(Failure::new(status::FAILED, message));
    };
    let seen = Seen::of(process).map_err(|error| unseen(process, &error))?;
    let mut text = String::new();
    let (status, verdict) = seen.report(process, &mut text);
    print(&format!("{text}{verdict}\n"))?;
    Ok(status)
}

/// What is seen of a process.
struct Seen {
    /// The file that it runs.
    file: String,
    is_static: bool,
    library: Option<String>,
    environment: Environment,
    connections: Vec<Connection>,
}

impl Seen {
    fn of(process: &str) -> io::Result<Self> {
        let maps = fs::read(format!("/proc/{process}/maps"))?;
        let executable = format!("/proc/{process}/exe");
        let mut connections = sockets::of_process(process)?;
        connections.sort_by_key(|connection| {
            (!hangs_in_ipv6(connection), !lacks_keepalive(connection), connection.state)
        });
        Ok(Self {
            file: fs::read_link(&executable)?.display().to_string(),
            is_static: Elf::of_file(Path::new(&executable)).is_some_and(|elf| elf.is_static),
            library: library::mapped(&maps),
            environment: Environment::of_bytes(&fs::read(format!("/proc/{process}/environ"))?),
            connections,
        })
    }

    fn report(&self, process: &str, text: &mut String) -> (c_int, String) {
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "{label:<12}{value}");
        };
        line("process", &format!("{process}, {}", self.file));
        line("library", self.library.as_deref().unwrap_or("not loaded"));
        let configuration = Configuration::of_other(&self.environment);
        for (index, setting) in settings_of(&self.environment).iter().enumerate() {
            line(if index == 0 { "settings" } else { "" }, setting);
        }
        for problem in &configuration.problems {
            line("wrong", problem);
        }
        line("connections", &self.connections.len().to_string());
        for connection in &self.connections {
            line("", &describe(connection));
        }
        self.verdict(&configuration)
    }

    fn verdict(&self, configuration: &Configuration) -> (c_int, String) {
        let amiss = |line: String| (1, line);
        let preloaded = self.environment.last("LD_PRELOAD").unwrap_or_default();
        let names_it = library::entries(preloaded).any(library::is_ours);
        if self.library.is_none() {
            return amiss(if self.is_static {
                format!("{} is statically linked: nothing can be preloaded into it", self.file)
            } else if names_it {
                "LD_PRELOAD names the library, but the loader has not loaded it: is it there, readable, and \
                 for this architecture?"
                    .to_owned()
            } else {
                "the library is not loaded: start the program as egress-shim [OPTION]... -- COMMAND, or set \
                 LD_PRELOAD"
                    .to_owned()
            });
        }
        if configuration.is_off {
            return amiss(
                "EGRESS_SHIM=off: the library does nothing; unset it and start again".to_owned(),
            );
        }
        if let Some(connection) =
            self.connections.iter().find(|connection| hangs_in_ipv6(connection))
        {
            return amiss(format!(
                "IPv6 to {} does not answer: add the name of that host with --ipv4-only",
                connection.peer
            ));
        }
        let without =
            self.connections.iter().filter(|connection| lacks_keepalive(connection)).count();
        if without > 0 && configuration.keepalive.is_none() {
            return amiss(
                "EGRESS_SHIM_KEEPALIVE=off: a NAT may forget its connections; unset it".to_owned(),
            );
        }
        if without > 0 {
            let have = if without == 1 { "connection has" } else { "connections have" };
            return amiss(format!(
                "{without} {have} no keepalive: the program has switched it off, or does not connect by libc; \
                 --keepalive enforce keeps it on"
            ));
        }
        if !configuration.problems.is_empty() {
            return amiss("a setting is wrong, see above: correct it and start again".to_owned());
        }
        (0, "nothing is amiss".to_owned())
    }
}

fn hangs_in_ipv6(connection: &Connection) -> bool {
    connection.state == SYN_SENT && connection.peer.is_ipv6()
}

/// Whether a NAT may forget the connection. None is on the way to this machine itself.
fn lacks_keepalive(connection: &Connection) -> bool {
    connection.state == ESTABLISHED
        && connection.timer == Timer::None
        && !connection.is_accepted
        && !connection.peer.ip().is_loopback()
}

fn describe(connection: &Connection) -> String {
    const STATES: [&str; 13] = [
        "UNKNOWN",
        "ESTABLISHED",
        "SYN-SENT",
        "SYN-RECV",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "TIME-WAIT",
        "CLOSE",
        "CLOSE-WAIT",
        "LAST-ACK",
        "LISTEN",
        "CLOSING",
        "NEW-SYN-RECV",
    ];
    let state = STATES.get(usize::from(connection.state)).unwrap_or(&STATES[0]);
    let until = connection.until.as_secs();
    let timer = match connection.timer {
        Timer::None => "no keepalive".to_owned(),
        Timer::Keepalive => format!("next keepalive probe in {until} s"),
        Timer::Retransmission if connection.state == SYN_SENT => {
            let asked = connection.retries + 1;
            format!("no answer yet, asked {asked} time{}", if asked == 1 { "" } else { "s" })
        }
        Timer::Retransmission => "data not acknowledged yet".to_owned(),
        Timer::Other => "another timer".to_owned(),
    };
    let mut text = format!("{state:<11} {}: {timer}", connection.peer);
    if let Some(silence) = connection.silence.filter(|_| connection.state == ESTABLISHED) {
        let _ = write!(text, ", silent for {} s", silence.as_secs());
    }
    if connection.is_accepted {
        text.push_str(" (accepted)");
    }
    text
}

/// Why a process cannot be seen.
fn unseen(process: &str, error: &io::Error) -> Failure {
    let directory = fs::metadata(format!("/proc/{process}"));
    // SAFETY: geteuid(2) always succeeds.
    let own_user = unsafe { libc::geteuid() };
    let message = match (error.kind(), directory) {
        (io::ErrorKind::PermissionDenied, Ok(directory)) if directory.uid() == own_user => format!(
            "process {process} cannot be seen without the privilege CAP_SYS_PTRACE, as in: \
             docker exec --privileged"
        ),
        (io::ErrorKind::PermissionDenied, Ok(directory)) => {
            let user = directory.uid();
            format!(
                "process {process} belongs to user {user}: look as that user, or with the privilege \
                 CAP_SYS_PTRACE, as in: docker exec --user {user} or --privileged"
            )
        }
        (_, Err(_)) if !Path::new("/proc/self").exists() => {
            "there is no /proc here to look into".to_owned()
        }
        (_, Err(_)) => format!("there is no process {process} here"),
        (io::ErrorKind::NotFound, Ok(_)) => {
            format!("process {process} runs no program: it has ended, or is a thread of the kernel")
        }
        (_, Ok(_)) => format!("process {process} cannot be seen: {error}"),
    };
    Failure::new(status::FAILED, message)
}
