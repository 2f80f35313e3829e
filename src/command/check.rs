//! `--check`: whether a host is reached with these settings, and if not, what to do. The last line says it.

use std::ffi::{OsStr, OsString, c_int};
use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attempts::{self, Attempt, Family, Outcome, Waiting};
use crate::configuration::{Configuration, settings_of};
use crate::environment::Environment;
use crate::options::Options;
use crate::output::{Failure, print, status};
use crate::program::{self, Program};
use crate::trial::{Answer, Lookup, NoAnswer, Trial};
use crate::{library, mistakes, run};
use egress_shim_core::settings::{self, PROGRAMS};

/// Together less than ten seconds. glibc turns to a second name server after five.
const LOOKUP_LIMIT: Duration = Duration::from_secs(6);

/// The last line and the exit status.
struct Verdict(c_int, String);

const REACHED: c_int = 0;
const NOT_REACHED: c_int = 1;

/// Checks a host.
///
/// # Errors
/// What keeps the check itself from being made.
pub fn check(
    hosts: &[OsString],
    command: &[OsString],
    options: &Options,
    configuration: &Configuration,
    environment: &Environment,
) -> Result<c_int, Failure> {
    let targets: Vec<_> = hosts.iter().map(|host| Target::parse(host)).collect::<Result<_, _>>()?;
    if let Some(name) = command.first() {
        find_program(name, &run::path(environment), options)?;
    }
    let mut worst = REACHED;
    for target in &targets {
        worst = worst.max(check_one(target, command, options, configuration, environment.clone())?);
    }
    Ok(worst)
}

fn check_one(
    target: &Target,
    command: &[OsString],
    options: &Options,
    configuration: &Configuration,
    mut environment: Environment,
) -> Result<c_int, Failure> {
    tell("egress-shim", env!("CARGO_PKG_VERSION"))?;
    let Verdict(status, line) = verdict(target, command, options, configuration, &mut environment)?;
    print(&format!("{line}\n"))?;
    Ok(status)
}

fn verdict(
    target: &Target,
    command: &[OsString],
    options: &Options,
    configuration: &Configuration,
    environment: &mut Environment,
) -> Result<Verdict, Failure> {
    let host = &target.host;
    for (index, setting) in settings_of(environment).into_iter().enumerate() {
        tell(if index == 0 { "settings" } else { "" }, setting)?;
    }
    for problem in &configuration.problems {
        tell("wrong", problem)?;
    }
    if !configuration.problems.is_empty() && !options.lenient {
        let line = "a setting is wrong, see above: correct it, or COMMAND is not run";
        return Ok(Verdict(status::SETTING, line.to_owned()));
    }
    let library = library::find(options.library.as_deref())?;
    tell("library", library.display())?;
    if configuration.is_off {
        let line = "EGRESS_SHIM=off: the library does nothing; unset it";
        return Ok(Verdict(NOT_REACHED, line.to_owned()));
    }

    let path = run::path(environment);
    let (file, program) = program_to_try(command, &path, &library, host, options)?;
    if let Some(obstacle) = program.obstacle(&library) {
        if !obstacle.loads {
            tell("loaded", format_args!("no, not by {}", program.file.display()))?;
            return Ok(Verdict(NOT_REACHED, format!("{}; {}", obstacle.why, obstacle.instead)));
        }
        tell("warning", format_args!("{}; {}", obstacle.why, obstacle.instead))?;
    }

    if !library::knows_questions(&library) {
        let library = library.display();
        let message = format!(
            "{library} is of another version than this command, which cannot ask it; take both from one release"
        );
        return Err(Failure::new(status::FAILED, message));
    }
    configuration.hand_on(environment);
    run::preload(environment, &library);
    if command.is_empty() {
        // The program that is there is no program of the settings.
        environment.remove(PROGRAMS.variable);
    }
    let mut waiting = Waiting::new("the resolver", LOOKUP_LIMIT);
    let trial = Trial {
        file: if program.is_text { Path::new("/bin/sh") } else { &file },
        program: &program,
        environment,
        host,
        port: target.port,
        limit: LOOKUP_LIMIT,
        is_harmless: command.is_empty()
            && file
                .file_name()
                .is_some_and(|name| HARMLESS.iter().any(|harmless| name == *harmless)),
    };
    let [without, with] = trial.ask(|| waiting.tick())?;
    let (without, with) = match (without, with) {
        (Ok(without), Ok(with)) => (without, with),
        (Err(why), _) | (_, Err(why)) => return not_loaded(&program, why),
    };
    tell("loaded", format_args!("yes, by {}", program.file.display()))?;

    let name = |path: &Path| path.file_name().unwrap_or_default().as_bytes().to_vec();
    let names = [name(&file), name(&program.file)];
    let acts = command.is_empty()
        || settings::is_program_selected(&configuration.programs, [&names[0], &names[1]]);
    if !acts {
        let line = "EGRESS_SHIM_PROGRAMS leaves this program out: the library does nothing in it";
        tell("programs", line)?;
    }
    let list = configuration.allowlist();
    let with_name = [&configuration.programs, &b","[..], &names[0]].concat();
    let standing = Standing {
        way_in: if settings::is_program_selected(&with_name, [&names[0], &names[1]]) {
            format!("add --program {}", String::from_utf8_lossy(&names[0]))
        } else {
            "take !NAME of this program out of EGRESS_SHIM_PROGRAMS".to_owned()
        },
        acts,
        is_listed: list.as_ref().is_some_and(|list| list.contains(host.as_bytes())),
        rule: list.and_then(|list| Some(list.deciding(host.as_bytes())?.to_string())),
    };
    report_lookups(target, &standing, &without, &with)?;
    let addresses = [&with, &without].into_iter().filter_map(|answer| match &answer.lookup {
        Lookup::Addresses(addresses) => Some(addresses),
        _ => None,
    });
    let tried = attempts::try_all(addresses.flatten(), target.port);
    for attempt in &tried {
        tell(attempt.family(), attempt)?;
    }
    report_keepalive(&with, configuration)?;
    if is_other_pid_namespace() {
        let line = "these settings are this shell's; those of the container's service: egress-shim --inspect 1";
        tell("note", line)?;
    }
    Ok(judge(target, &standing, &without, &with, &tried))
}

fn report_lookups(
    target: &Target,
    standing: &Standing,
    without: &Answer,
    with: &Answer,
) -> Result<(), Failure> {
    if target.is_numeric() {
        return tell("listed", "no: an address is never looked up, so no pattern matches it");
    }
    match (&standing.rule, standing.is_listed) {
        (Some(rule), true) => tell("listed", format_args!("yes, by {rule}"))?,
        (Some(rule), false) => tell("listed", format_args!("no, exempt by {rule}"))?,
        (None, _) => tell("listed", "no")?,
    }
    tell("without", without)?;
    tell("with", with)
}

fn report_keepalive(with: &Answer, configuration: &Configuration) -> Result<(), Failure> {
    match (&with.keepalive, configuration.keepalive) {
        (Some(seen), _) => tell("keepalive", format_args!("{seen} (read from a connection)")),
        (None, Some(set)) => {
            tell("keepalive", format_args!("{set} (as set: there is nothing to connect to)"))
        }
        (None, None) => tell("keepalive", "off"),
    }
}

/// How the settings stand to the host and the program.
struct Standing {
    /// Whether the library acts in the program at all.
    acts: bool,
    is_listed: bool,
    /// The pattern that decided.
    rule: Option<String>,
    /// What makes the library act in a program that `EGRESS_SHIM_PROGRAMS` leaves out.
    way_in: String,
}

/// What the lookups and the attempts come to.
fn judge(
    target: &Target,
    standing: &Standing,
    without: &Answer,
    with: &Answer,
    tried: &[Attempt],
) -> Verdict {
    let (host, port) = (&target.host, target.port);
    let not_reached = |line: String| Verdict(NOT_REACHED, line);
    let [ipv4, ipv6] = [true, false].map(|is_ipv4| Family::of(tried, is_ipv4));
    let cure = match (&standing.rule, standing.is_listed) {
        (_, true) if !standing.acts => standing.way_in.clone(),
        _ if !standing.acts => format!("{}, and add --ipv4-only {host}", standing.way_in),
        (Some(rule), false) => format!("take {rule} out of the list, and add --ipv4-only {host}"),
        _ => format!("add --ipv4-only {host}"),
    };
    let addresses = match &with.lookup {
        Lookup::Addresses(addresses) => addresses,
        Lookup::Silent | Lookup::Error(libc::EAI_AGAIN | libc::EAI_FAIL | libc::EAI_SYSTEM, _) => {
            return not_reached(format!(
                "the resolver does not answer, so whether {host} exists is not known: see /etc/resolv.conf"
            ));
        }
        Lookup::Error(..) if matches!(without.lookup, Lookup::Addresses(_)) => {
            return not_reached(match ipv6 {
                Family::Connected => format!(
                    "{host} has no IPv4 address, but IPv6 reaches it: take it off the list, or add --ipv4-only '!{host}'"
                ),
                _ => format!("{host} has no IPv4 address, and IPv6 does not reach it from here"),
            });
        }
        Lookup::Error(libc::EAI_NODATA, _) => {
            return not_reached(format!(
                "{host} has no address, says the resolver: is the name right?"
            ));
        }
        Lookup::Error(..) => {
            return not_reached(format!(
                "{host} does not exist, says the resolver: is the name right?"
            ));
        }
    };
    let mut waited = None;
    for address in addresses {
        let Some(attempt) = tried.iter().find(|attempt| attempt.address == *address) else {
            continue;
        };
        match attempt.outcome {
            Outcome::Connected(_) if waited.is_none() => {
                let advice = match ipv6 {
                    Family::Silent if !standing.is_listed => {
                        format!("; for programs that try IPv6 first, which is a black hole: {cure}")
                    }
                    _ => String::new(),
                };
                return Verdict(
                    REACHED,
                    format!("{host} is reached over {}{advice}", attempt.family()),
                );
            }
            Outcome::Silent => waited = waited.or(Some(attempt)),
            Outcome::Connected(_) | Outcome::Refused | Outcome::Unreachable(_) => {}
        }
    }
    not_reached(match (ipv4, ipv6) {
        (Family::Connected, Family::Silent) => format!("IPv6 is a black hole: {cure}"),
        (Family::Connected, _) | (_, Family::Connected) if waited.is_some() => format!(
            "{host} is reached, but only after a wait: {} does not answer",
            waited.map(|attempt| attempt.address.to_string()).unwrap_or_default()
        ),
        (_, Family::Connected) => format!(
            "IPv4 does not reach {host} here, but IPv6 does: take it off the list, or add --ipv4-only '!{host}'"
        ),
        (Family::Refused, Family::Silent) => format!(
            "IPv6 is a black hole: {cure}; and {host} refuses port {port} over IPv4: is the port right?"
        ),
        (Family::Refused, _) | (_, Family::Refused) => {
            format!("{host} refuses connections to port {port}: is the port right?")
        }
        (Family::None, Family::Silent) if target.is_numeric() => format!(
            "{host} does not answer on port {port}: if IPv6 is a black hole here, use the host's name, and list that"
        ),
        (Family::Silent, _) | (_, Family::Silent) => {
            format!(
                "{host} does not answer on port {port}: is a firewall between, or no route back?"
            )
        }
        _ => format!("{host} cannot be reached: there is no route to it from here"),
    })
}

/// Whether nothing answered because nothing was loaded.
fn not_loaded(program: &Program, why: NoAnswer) -> Result<Verdict, Failure> {
    let file = program.file.display();
    match why {
        NoAnswer::NotLoaded(said) => {
            for line in said.lines() {
                tell("said", line)?;
            }
            tell("loaded", format_args!("no, not by {file}"))?;
            let line = format!(
                "the loader of {file} does not load the library: nothing of egress-shim works in it"
            );
            Ok(Verdict(NOT_REACHED, line))
        }
        NoAnswer::CannotStop(error) => Err(Failure::new(
            status::FAILED,
            format!(
                "cannot look into {file} without running it: {error}; --check needs ptrace(2) and /proc"
            ),
        )),
    }
}

// ------------------------------------------------------------------------------------------------ the host

struct Target {
    host: String,
    port: u16,
}

impl Target {
    fn parse(text: &OsStr) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::new(status::FAILED, message);
        let Some(text) = text.to_str() else {
            return Err(wrong(format!("--check {}: HOST must be a host name", text.display())));
        };
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let port = if scheme == "http" && !host.contains(':') { ":80" } else { "" };
            return Err(wrong(format!("{text} is a URL; give its host: --check {host}{port}")));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: address.to_canonical().to_string(), port: 443 });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) if port > 0 => (host, port),
                _ => {
                    return Err(wrong(format!(
                        "--check {text}: PORT must be a number from 1 to 65535"
                    )));
                }
            },
            None => (text, 443),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_address = host.parse::<IpAddr>().is_ok();
        if host.is_empty() || host.len() > 253 || !(is_address || host.bytes().all(is_name)) {
            return Err(wrong(format!(
                "--check {text}: HOST must be letters, digits, -, _ and dots, without scheme or path (other scripts as xn--...)"
            )));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    fn is_numeric(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

// --------------------------------------------------------------------------------------------- the report

/// Writes a line of the report.
fn tell(label: &str, text: impl Display) -> Result<(), Failure> {
    print(&format!("{label:<12}{text}\n"))
}

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lookup {
            Lookup::Addresses(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    let space = if index == 0 { "" } else { " " };
                    write!(f, "{space}{address}")?;
                }
                Ok(())
            }
            Lookup::Silent => write!(f, "no answer in {} s", LOOKUP_LIMIT.as_secs()),
            Lookup::Error(libc::EAI_NONAME | libc::EAI_NODATA, _) => {
                f.write_str("does not resolve")
            }
            Lookup::Error(libc::EAI_AGAIN, _) => f.write_str("the resolver does not answer"),
            Lookup::Error(libc::EAI_SYSTEM, errno) => {
                write!(f, "the resolver fails ({})", io::Error::from_raw_os_error(*errno))
            }
            Lookup::Error(code, _) => write!(f, "the resolver fails (getaddrinfo: {code})"),
        }
    }
}

// ---------------------------------------------------------------------------------------------- the place

/// COMMAND, or a program that is there: the file that is executed, and the program that it comes to.
fn program_to_try(
    command: &[OsString],
    path: &OsStr,
    library: &Path,
    host: &str,
    options: &Options,
) -> Result<(PathBuf, Program), Failure> {
    match command.first() {
        Some(name) => {
            let file = find_program(name, path, options)?;
            let program = program::examine(&file, path)?;
            Ok((file, program))
        }
        None => any_dynamic_program(path, library).ok_or_else(|| {
            let why =
                "there is no dynamically linked program here to try the library in; name yours";
            Failure::new(status::FAILED, format!("{why}: --check {host} -- COMMAND"))
        }),
    }
}

/// The file of COMMAND.
fn find_program(name: &OsStr, path: &OsStr, options: &Options) -> Result<PathBuf, Failure> {
    program::find(name, path).map_err(|failure| Failure {
        message: failure.message + &mistakes::not_found(options, path),
        ..failure
    })
}

/// Programs that may be run without arguments, though they should not get that far.
const HARMLESS: [&str; 4] = ["true", "false", "env", "ls"];

/// Any program that the library can be tried in.
fn any_dynamic_program(path: &OsStr, library: &Path) -> Option<(PathBuf, Program)> {
    let usual = HARMLESS.iter().filter_map(|name| program::find(OsStr::new(name), path).ok());
    let directories = path.as_bytes().split(|&byte| byte == b':').map(OsStr::from_bytes);
    let others = directories
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    // In an image without any other, the service itself.
    let first = PathBuf::from("/proc/1/exe");
    usual
        .chain(others)
        .chain([fs::read_link(&first).unwrap_or(first)])
        .filter_map(|file| program::examine(&file, path).ok().map(|program| (file, program)))
        .find(|(_, program)| program.elf.is_some() && program.obstacle(library).is_none())
}

/// Whether this is a container, as far as processes are concerned, and not its first process.
fn is_other_pid_namespace() -> bool {
    /// `PROC_PID_INIT_INO` in the kernel's `include/linux/proc_ns.h`.
    const OF_THE_HOST: u64 = 0xefff_fffc;
    std::process::id() != 1
        && fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != OF_THE_HOST)
}
