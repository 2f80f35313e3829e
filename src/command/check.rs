//! `--check`: whether hosts are reachable with these settings, and if not, what to do. This module gathers the facts,
//! [`verdict`] judges them, and the last line is the conclusion.

use std::ffi::{CString, OsStr, OsString, c_int};
use std::fmt::{self, Display};
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::attempts::{self, Attempt, Outcome, Waiting};
use crate::configuration::{Configuration, settings_of};
use crate::environment::Environment;
use crate::finding::{Finding, Severity};
use crate::library::{self, Library};
use crate::nameservers::{self, NameServer};
use crate::options::Options;
use crate::output::{Failure, reason, status};
use crate::program::{self, Program};
use crate::report::{Report, escape, escape_short};
use crate::target::Target;
use crate::trial::{Answer, Answers, Lookup, NoAnswer, Trial};
use crate::verdict::{self, SLOW, Seen, Service, Standing};
use crate::{mistakes, process, run};
use egress_shim_core::settings::{self, PROGRAMS, TABLE};

/// With the attempts, this makes less than ten seconds. glibc turns to a second name server after five.
const LOOKUP_LIMIT: Duration = Duration::from_secs(6);
/// Each is looked up in two processes, and each of its addresses is tried, all at the same time.
const MOST_HOSTS: usize = 16;
/// A path or a value that is longer is shown in part.
const LONGEST_SHOWN: usize = 4096;

/// Checks hosts.
///
/// # Errors
/// The reason why the check cannot be made.
pub fn check(
    hosts: &[OsString],
    command: &[OsString],
    options: &Options,
    configuration: &Configuration,
    environment: &Environment,
) -> Result<c_int, Failure> {
    let targets = targets(hosts)?;
    let path = run::path(environment);
    let file = command.first().map(|name| find_program(name, &path, options)).transpose()?;
    let file = match file {
        Some(file) => {
            let program = program::examine(&file, &path)?;
            Some((file, program))
        }
        None => None,
    };
    let report = Report::new("check", options.format);
    report.line("egress-shim", env!("CARGO_PKG_VERSION"))?;
    for (index, setting) in settings_of(environment).into_iter().enumerate() {
        report.line(if index == 0 { "settings" } else { "" }, escape(setting.as_bytes()))?;
    }
    for problem in &configuration.problems {
        report.line("invalid", problem)?;
    }
    if !configuration.problems.is_empty() && !options.lenient {
        let invalid = general(
            "invalid-setting",
            Severity::Error,
            "a setting is invalid, see above".to_owned(),
            "correct it: egress-shim does not run COMMAND with an invalid setting",
        );
        let facts =
            json!({ "settings": settings_json(environment), "invalid": configuration.problems });
        return report.end_with(Some(status::SETTING), vec![invalid], "", facts);
    }
    let mut library = library::find(options.library.as_deref())?;
    if let Some((_, program)) = &file {
        library = library.for_program(program);
    }
    report.line("library", shown(Path::new(&library.entry)))?;
    if configuration.is_off {
        let sentence = "EGRESS_SHIM=off: the library does nothing".to_owned();
        let off = general("switched-off", Severity::Error, sentence, "unset it");
        return report.end(vec![off], "", json!({ "settings": settings_json(environment) }));
    }
    let check = Check { configuration, library: &library, path: &path, report: &report };
    let tried = check.ask(&targets, file.as_ref(), environment)?;
    check.finish(&targets, file.as_ref(), environment, tried)
}

fn targets(hosts: &[OsString]) -> Result<Vec<Target>, Failure> {
    if hosts.len() > MOST_HOSTS {
        let message = format!("--check: at most {MOST_HOSTS} hosts at a time");
        return Err(Failure::new(status::FAILED, message));
    }
    hosts.iter().map(|host| Target::parse(host)).collect()
}

/// The file of COMMAND.
fn find_program(name: &OsStr, path: &OsStr, options: &Options) -> Result<PathBuf, Failure> {
    program::find(name, path).map_err(|failure| Failure {
        message: failure.message + &mistakes::not_found(options, path),
        ..failure
    })
}

/// The facts that a check needs.
struct Check<'a> {
    configuration: &'a Configuration,
    library: &'a Library,
    path: &'a OsStr,
    report: &'a Report,
}

/// The outcome of trying the library.
#[derive(Default)]
struct Tried {
    /// The program in which the library was tried.
    program: Option<PathBuf>,
    /// Why it is not loaded, or why that is not known.
    not_loaded: Option<String>,
    /// Whether no program could be asked.
    is_unknown: bool,
    /// The way to let COMMAND load it.
    fix: Option<&'static str>,
    /// The findings about COMMAND; those about a host are elsewhere.
    findings: Vec<Finding>,
    /// The answers for each host.
    answers: Vec<[Answer; 2]>,
}

type File = (PathBuf, Program);

impl Check<'_> {
    /// Asks the library in COMMAND, or in another program if COMMAND cannot load it or is not given.
    fn ask(
        &self,
        targets: &[Target],
        command: Option<&File>,
        environment: &Environment,
    ) -> Result<Tried, Failure> {
        let mut tried = Tried::default();
        if let Some((_, program)) = command {
            program.refuse_foreign(self.library)?;
            tried.program = Some(program.file.clone());
            if let Some(obstacle) = program.obstacle(self.library) {
                if !obstacle.loads {
                    tried.not_loaded = Some(obstacle.why.clone());
                }
                let code = if obstacle.loads { "go-program" } else { "not-loaded" };
                let is_fine = obstacle.loads && looks_up_by_libc(environment);
                let severity = if is_fine { Severity::Note } else { Severity::Warning };
                tried.fix = obstacle.fix;
                tried.findings.push(general(code, severity, obstacle.why, &obstacle.instead));
            }
        }
        let mut unasked = None;
        if let Some((file, program)) = command.filter(|_| tried.not_loaded.is_none()) {
            let asked = self.ask_in(file, program, false, environment, targets)?;
            match self.take(asked, program, targets, &mut tried)? {
                None => return Ok(tried),
                Some(error) => unasked = Some(not_asked(program, &error)),
            }
        }
        if let Some((file, program)) = any_dynamic_program(self.path, self.library) {
            let asked = self.ask_in(&file, &program, true, environment, targets)?;
            match self.take(asked, &program, targets, &mut tried)? {
                None => {
                    tried.findings.extend(unasked);
                    return Ok(tried);
                }
                Some(error) => unasked = unasked.or_else(|| Some(not_asked(&program, &error))),
            }
        }
        if tried.not_loaded.is_none() {
            tried.is_unknown = unasked.is_some();
            let why = unasked.unwrap_or_else(|| no_program(targets));
            tried.not_loaded = Some(why.sentence.clone());
            tried.findings.push(why);
        }
        tried.answers = Self::look_up(targets);
        Ok(tried)
    }

    /// Takes the answers of a program; gives the error if it cannot be stopped before it runs.
    fn take(
        &self,
        asked: Vec<Answers>,
        program: &Program,
        targets: &[Target],
        tried: &mut Tried,
    ) -> Result<Option<io::Error>, Failure> {
        for pair in asked {
            match pair {
                [Ok(without), Ok(with)] => {
                    // A program that does not load it gets libc's own answer.
                    let with = if tried.not_loaded.is_some() { without.clone() } else { with };
                    tried.answers.push([without, with]);
                }
                [Err(NoAnswer::CannotStop(error)), _] | [_, Err(NoAnswer::CannotStop(error))] => {
                    tried.answers.clear();
                    return Ok(Some(error));
                }
                [Err(NoAnswer::NotLoaded(said)), _] | [_, Err(NoAnswer::NotLoaded(said))] => {
                    for line in said.lines().take(20) {
                        self.report.line("said", escape_short(line.as_bytes(), LONGEST_SHOWN))?;
                    }
                    let file = shown(&program.file);
                    let why = format!("the loader of {file} does not load the library");
                    tried.not_loaded = Some(why.clone());
                    let action = "egress-shim has no effect in it";
                    tried.findings.push(general("not-loaded", Severity::Error, why, action));
                    tried.answers = Self::look_up(targets);
                    return Ok(None);
                }
            }
        }
        if tried.not_loaded.is_none() {
            tried.program = Some(program.file.clone());
        }
        Ok(None)
    }

    fn ask_in(
        &self,
        file: &Path,
        program: &Program,
        is_other: bool,
        environment: &Environment,
        targets: &[Target],
    ) -> Result<Vec<Answers>, Failure> {
        let library = self.library.file_in(program);
        if !library::knows_questions(&library) {
            let library = shown(&library);
            let message = format!(
                "{library} and this command have different versions, so --check cannot ask the library; use both from one release"
            );
            return Err(Failure::new(status::FAILED, message));
        }
        let mut environment = environment.clone();
        self.configuration.hand_on(&mut environment);
        run::preload(&mut environment, self.library);
        if is_other {
            // The settings may leave out the program that stands in for COMMAND.
            environment.remove(PROGRAMS.variable);
        }
        let is_harmless = |name: &OsStr| HARMLESS.iter().any(|harmless| name == *harmless);
        let trial = Trial {
            file: if program.is_text { Path::new("/bin/sh") } else { file },
            program,
            environment: &environment,
            limit: LOOKUP_LIMIT,
            is_harmless: is_other && file.file_name().is_some_and(is_harmless),
        };
        let mut waiting = Waiting::new("the resolver", LOOKUP_LIMIT);
        trial.ask(targets, || waiting.tick())
    }

    /// Looks hosts up without any program: this command is static, and its libc asks the same name servers.
    fn look_up(targets: &[Target]) -> Vec<[Answer; 2]> {
        let start = Instant::now();
        let lookups = targets.iter().map(|target| {
            let (done, result) = mpsc::channel();
            let host = target.host.clone();
            thread::spawn(move || {
                // A static glibc asks /etc/hosts for one family at a time.
                let mut found = resolve(&host, libc::AF_INET6);
                found.extend(resolve(&host, libc::AF_INET));
                let _ = done.send((found, start.elapsed()));
            });
            result
        });
        let lookups: Vec<_> = lookups.collect();
        let mut waiting = Waiting::new("the resolver", LOOKUP_LIMIT);
        let mut answers = Vec::new();
        for result in lookups {
            let mut answer = Answer { lookup: Lookup::Silent, time: LOOKUP_LIMIT, keepalive: None };
            while start.elapsed() < LOOKUP_LIMIT {
                match result.recv_timeout(Duration::from_millis(100)) {
                    Ok((found, time)) => {
                        answer.time = time;
                        answer.lookup = if found.is_empty() {
                            Lookup::Error(libc::EAI_NONAME, 0)
                        } else {
                            Lookup::Addresses(found)
                        };
                        break;
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => waiting.tick(),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
            answers.push([answer.clone(), answer]);
        }
        answers
    }

    /// Tries the addresses, judges, and reports.
    fn finish(
        &self,
        targets: &[Target],
        command: Option<&File>,
        environment: &Environment,
        tried: Tried,
    ) -> Result<c_int, Failure> {
        let Tried { program, not_loaded, is_unknown, fix, mut findings, answers } = tried;
        let by = program.as_deref().map(shown).unwrap_or_default();
        match &not_loaded {
            None => self.report.line("loaded", format_args!("yes, by {by}"))?,
            Some(_) if is_unknown => self.report.line("loaded", "not known")?,
            Some(_) if by.is_empty() => {
                self.report.line("loaded", "no, not by any program here")?;
            }
            Some(_) => self.report.line("loaded", format_args!("no, not by {by}"))?,
        }
        let standing = Standing { way_in: self.way_in(command), not_loaded, fix };
        if standing.way_in.is_some() {
            let line =
                "EGRESS_SHIM_PROGRAMS leaves this program out: the library does nothing in it";
            self.report.line("programs", line)?;
        }
        for finding in proxies(environment, targets) {
            self.report.line("proxy", &finding.sentence)?;
            findings.push(finding);
        }
        findings.extend(command.and_then(|(file, program)| of_script(file, program)));
        let service = service();
        let hosts = self.gather(targets, answers, service.as_ref());
        let mut of_hosts = Vec::new();
        let mut reached = Vec::new();
        for (seen, left_out) in &hosts {
            if hosts.len() > 1 {
                self.report.gap()?;
                let Target { host, port } = &seen.target;
                self.report.line("host", format_args!("{host} port {port}"))?;
            }
            self.report_host(seen, *left_out)?;
            reached.extend(verdict::reached(seen));
            of_hosts.extend(verdict::findings(seen, &standing));
        }
        if hosts.len() > 1 {
            self.report.gap()?;
        }
        if let Some(line) = Self::about_service(service.as_ref()) {
            self.report.line("service", line)?;
        }
        // Of two equally serious findings, the one about a host comes first: it tells more.
        of_hosts.append(&mut findings);
        let facts = json!({
            "settings": settings_json(environment),
            "library": shown(Path::new(&self.library.entry)),
            "program": (!by.is_empty()).then_some(by),
            "loaded": (!is_unknown).then_some(standing.not_loaded.is_none()),
            "hosts": hosts.iter().map(|(seen, _)| host_json(seen)).collect::<Vec<_>>(),
        });
        self.report.end(of_hosts, &reached.join(", "), facts)
    }

    /// The option that makes the library act in COMMAND if the settings leave it out.
    fn way_in(&self, command: Option<&File>) -> Option<String> {
        let (file, program) = command?;
        let name = |path: &Path| path.file_name().unwrap_or_default().as_bytes().to_vec();
        let (file, program) = (name(file), name(&program.file));
        let programs = &self.configuration.programs;
        if settings::is_program_selected(programs, [&file, &program]) {
            return None;
        }
        let with_name = [programs.as_slice(), b",", &file].concat();
        Some(if settings::is_program_selected(&with_name, [&file, &program]) {
            format!("add --program {}", escape(&file))
        } else {
            "take !NAME of this program out of EGRESS_SHIM_PROGRAMS".to_owned()
        })
    }

    /// Tries the addresses of all hosts at the same time, and asks the name servers if a lookup has failed or
    /// was slow. Returns with each host the number of addresses of each family that were not tried.
    fn gather(
        &self,
        targets: &[Target],
        answers: Vec<[Answer; 2]>,
        service: Option<&RunningService>,
    ) -> Vec<(Seen, [usize; 2])> {
        let asks = targets.iter().zip(&answers).map(|(target, [without, with])| {
            let is_fine = |answer: &Answer| {
                matches!(answer.lookup, Lookup::Addresses(_)) && answer.time < SLOW
            };
            let is_wanted = !(target.is_numeric() || (is_fine(without) && is_fine(with)));
            let host = target.host.clone();
            is_wanted.then(|| thread::spawn(move || nameservers::ask(&host)))
        });
        let asks: Vec<_> = asks.collect();
        let mut places = Vec::new();
        let chosen: Vec<_> = targets
            .iter()
            .zip(&answers)
            .map(|(target, [without, with])| {
                let addresses = [with, without].into_iter().filter_map(addresses_of).flatten();
                let (chosen, left_out) = attempts::choose(addresses);
                let start = places.len();
                places.extend(chosen.into_iter().map(|address| (address, target.port)));
                (start..places.len(), left_out)
            })
            .collect();
        let tried = attempts::try_all(places);
        let list = self.configuration.allowlist();
        let mut seen = Vec::new();
        for (((target, [without, with]), (range, left_out)), ask) in
            targets.iter().zip(answers).zip(chosen).zip(asks)
        {
            let host = target.host.as_bytes();
            let rule = list.as_ref().and_then(|list| Some(list.deciding(host)?.to_string()));
            seen.push((
                Seen {
                    target: target.clone(),
                    is_listed: list.as_ref().is_some_and(|list| list.contains(host)),
                    rule,
                    without,
                    with,
                    tried: tried[range].to_vec(),
                    servers: ask.and_then(|ask| ask.join().ok()).unwrap_or_default(),
                    service: service.and_then(|service| Some((service.id, service.about(host)?))),
                },
                left_out,
            ));
        }
        seen
    }

    fn report_host(&self, seen: &Seen, left_out: [usize; 2]) -> Result<(), Failure> {
        let report = self.report;
        if seen.target.is_numeric() {
            report.line("listed", "no: an address is never looked up, so no pattern matches it")?;
        } else {
            match (&seen.rule, seen.is_listed) {
                (Some(rule), true) => report.line("listed", format_args!("yes, by {rule}"))?,
                (Some(rule), false) => {
                    report.line("listed", format_args!("no, exempt by {rule}"))?;
                }
                (None, _) => report.line("listed", "no")?,
            }
            report.line("without", &seen.without)?;
            report.line("with", &seen.with)?;
        }
        for NameServer { address, reply } in &seen.servers {
            let server = NameServer { address: *address, reply: reply.clone() };
            report.line("name server", server)?;
        }
        for attempt in &seen.tried {
            report.line(attempt.family(), attempt)?;
        }
        for (family, count) in ["IPv4", "IPv6"].into_iter().zip(left_out).filter(|(_, n)| *n > 0) {
            report.line(family, format_args!("{count} more, not tried"))?;
        }
        match (&seen.with.keepalive, self.configuration.keepalive) {
            (Some(read), _) => {
                report.line("keepalive", format_args!("{read} (read from a connection)"))
            }
            (None, Some(set)) => report.line(
                "keepalive",
                format_args!("{set} (from the settings: no connection was made)"),
            ),
            (None, None) => report.line("keepalive", "off"),
        }
    }

    /// The settings of a container's first process, which may differ from those of its shell.
    fn about_service(service: Option<&RunningService>) -> Option<String> {
        let service = service?;
        let id = service.id;
        let Some(settings) = &service.configuration else {
            return Some(format!(
                "PID {id} cannot be seen; these settings are this shell's: see egress-shim --inspect {id}"
            ));
        };
        let loaded =
            if service.has_library { "has the library" } else { "runs without the library" };
        let list = settings.allowlist().filter(|_| service.has_library);
        let lists = if list.is_some() { ", with its own settings" } else { "" };
        Some(format!(
            "PID {id} {loaded}{lists}; the settings above are this shell's: see egress-shim --inspect {id}"
        ))
    }
}

/// The addresses of a host of one family, each once; none if the lookup fails.
fn resolve(host: &str, family: c_int) -> Vec<IpAddr> {
    let Ok(host) = CString::new(host) else { return Vec::new() };
    let mut found: Vec<IpAddr> = Vec::new();
    // SAFETY: getaddrinfo(3) takes a C string, hints of which all zeros are valid, and a local for the list, which is
    // read and freed only if it succeeds. Its addresses are as long as their family says.
    unsafe {
        let mut hints: libc::addrinfo = std::mem::zeroed();
        hints.ai_family = family;
        hints.ai_socktype = libc::SOCK_STREAM;
        let mut list = std::ptr::null_mut();
        if libc::getaddrinfo(host.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list) != 0
        {
            return found;
        }
        let mut next: *const libc::addrinfo = list;
        while let Some(node) = next.as_ref() {
            next = node.ai_next;
            let address: IpAddr = if node.ai_family == libc::AF_INET {
                let address = node.ai_addr.cast::<libc::sockaddr_in>().read_unaligned();
                Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into()
            } else {
                let address = node.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                IpAddr::from(address.sin6_addr.s6_addr).to_canonical()
            };
            if !found.contains(&address) {
                found.push(address);
            }
        }
        libc::freeaddrinfo(list);
    }
    found
}

fn addresses_of(answer: &Answer) -> Option<&Vec<IpAddr>> {
    match &answer.lookup {
        Lookup::Addresses(addresses) => Some(addresses),
        _ => None,
    }
}

fn general(code: &'static str, severity: Severity, sentence: String, action: &str) -> Finding {
    Finding { code, severity, subject: String::new(), sentence, action: action.to_owned() }
}

/// The finding about a program that cannot be stopped before it runs.
fn not_asked(program: &Program, error: &io::Error) -> Finding {
    let file = shown(&program.file);
    let sentence = format!(
        "it is not known whether {file} loads the library: the program cannot be stopped before it runs here ({}; that needs \
         ptrace(2) and /proc)",
        reason(error)
    );
    general(
        "not-asked",
        Severity::Warning,
        sentence,
        "when it runs, use: egress-shim --inspect PID",
    )
}

/// The finding about a place without a program to try the library in.
fn no_program(targets: &[Target]) -> Finding {
    let why = "there is no dynamically linked program here to try the library in";
    let host = targets.first().map_or("HOST", |target| &target.host);
    let action = format!("name yours: egress-shim --check {host} -- COMMAND");
    general("no-program", Severity::Warning, why.to_owned(), &action)
}

fn shown(path: &Path) -> String {
    escape_short(path.as_os_str().as_bytes(), LONGEST_SHOWN)
}

// ------------------------------------------------------------------------------------------ the surroundings

/// Whether Go's lookups go through libc: `GODEBUG=netdns=cgo`.
fn looks_up_by_libc(environment: &Environment) -> bool {
    let value = environment.get("GODEBUG").unwrap_or_default();
    value.split(|&byte| byte == b',').any(|part| part.starts_with(b"netdns=cgo"))
}

/// The proxies that the environment names. A program that uses a proxy connects to the proxy, not to the host.
fn proxies(environment: &Environment, targets: &[Target]) -> Vec<Finding> {
    const NAMES: [&str; 6] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let mut proxies: Vec<Finding> = Vec::new();
    for name in NAMES {
        let Some(value) = environment.get(name).filter(|value| !value.trim_ascii().is_empty())
        else {
            continue;
        };
        let value = String::from_utf8_lossy(value);
        // Without user and password.
        let (scheme, rest) = value.split_once("://").unwrap_or(("", &value));
        let place = rest.split('/').next().unwrap_or_default();
        let place = place.rsplit('@').next().unwrap_or_default();
        if targets.iter().any(|target| place.split(':').next() == Some(&target.host)) {
            continue;
        }
        let default = if place.rsplit(']').next().is_some_and(|end| end.contains(':')) {
            ""
        } else if scheme == "https" {
            ":443"
        } else {
            ":80"
        };
        let place = escape_short(place.as_bytes(), 300);
        let sentence = format!(
            "{name} names {place}: a program that uses it connects to that, not to the host"
        );
        let action = format!("check it too: egress-shim --check {place}{default}");
        if proxies.iter().all(|known| known.action != action) {
            proxies.push(general("proxy", Severity::Note, sentence, &action));
        }
    }
    proxies
}

/// A shell script: the shell has the library, but the programs that it starts may have lost it.
fn of_script(file: &Path, program: &Program) -> Option<Finding> {
    const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "busybox", "ksh", "mksh", "zsh"];
    const LONGEST: u64 = 64 << 10;
    let is_script = program.is_text || program.file != file;
    let real = fs::canonicalize(&program.file).unwrap_or_else(|_| program.file.clone());
    let is_shell = [&program.file, &real]
        .iter()
        .any(|file| file.file_name().is_some_and(|name| SHELLS.iter().any(|shell| name == *shell)));
    if !is_script || !(is_shell || program.is_text) {
        return None;
    }
    let mut text = Vec::new();
    let _ = fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    let file = shown(file);
    Some(match line_that_replaces_preload(&text) {
        Some(line) => general(
            "script-sets-preload",
            Severity::Warning,
            format!(
                "line {line} of {file} sets LD_PRELOAD, so programs that it starts after that run without the library"
            ),
            "write LD_PRELOAD=...:$LD_PRELOAD there, or end the script with: exec egress-shim -- \"$@\"",
        ),
        None => general(
            "script",
            Severity::Note,
            format!("{file} is a script, and the programs that it starts cannot be known"),
            "when it runs, use: egress-shim --inspect PID",
        ),
    })
}

/// The number of the line that gives `LD_PRELOAD` a new value and drops the old one.
fn line_that_replaces_preload(text: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"LD_PRELOAD=";
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().zip(1..);
    let found = lines.find(|(line, _)| {
        let line = line.trim_start();
        let sets = line.as_bytes().windows(NAME.len()).any(|part| part == NAME);
        let unsets = line.starts_with("unset ") && line.contains("LD_PRELOAD");
        let keeps = line.contains("$LD_PRELOAD") || line.contains("${LD_PRELOAD");
        !line.starts_with('#') && (sets || unsets) && !keeps
    });
    found.map(|(_, number)| number)
}

/// Programs that may be run without arguments, though they should not get that far.
const HARMLESS: [&str; 4] = ["true", "false", "env", "ls"];

/// Any program that the library can be tried in. This command is static, so it will not do.
fn any_dynamic_program(path: &OsStr, library: &Library) -> Option<File> {
    let usual = HARMLESS.iter().filter_map(|name| program::find(OsStr::new(name), path).ok());
    let directories = path.as_bytes().split(|&byte| byte == b':').map(OsStr::from_bytes);
    let others = directories
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    // In an image without any other program, the service itself.
    let first = PathBuf::from("/proc/1/exe");
    usual
        .chain(others)
        .chain([fs::read_link(&first).unwrap_or(first)])
        .filter_map(|file| program::examine(&file, path).ok().map(|program| (file, program)))
        .find(|(_, program)| program.interpreter().is_some() && program.obstacle(library).is_none())
}

/// A container's service: its first process, or the first that has the library.
struct RunningService {
    id: u32,
    has_library: bool,
    /// Its settings; `None` if they cannot be seen.
    configuration: Option<Configuration>,
}

impl RunningService {
    /// Its relation to a host.
    fn about(&self, host: &[u8]) -> Option<Service> {
        let configuration = self.configuration.as_ref()?;
        if !self.has_library || configuration.is_off {
            return Some(Service::HasNoLibrary);
        }
        let list = configuration.allowlist()?;
        Some(if list.contains(host) { Service::Lists } else { Service::DoesNotList })
    }
}

/// The service, if this command runs in a PID namespace of its own, as in a container, and is not its first process.
fn service() -> Option<RunningService> {
    /// `PROC_PID_INIT_INO` in the kernel's `include/linux/proc_ns.h`.
    const OF_THE_HOST: u64 = 0xefff_fffc;
    /// At most this many processes are looked at.
    const MOST: usize = 256;
    let namespace = fs::metadata("/proc/self/ns/pid").ok()?;
    if std::process::id() == 1 || namespace.ino() == OF_THE_HOST {
        return None;
    }
    let ids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut ids: Vec<u32> = ids.filter(|id| *id != std::process::id()).take(MOST).collect();
    ids.sort_unstable();
    let id = ids.iter().copied().find(|id| process::library_in(*id).is_some());
    let has_library = id.is_some();
    let id = id.unwrap_or(1);
    let configuration = environment_of(id).map(|environment| {
        Configuration::of_running(&environment, Path::new(&format!("/proc/{id}/root")))
    });
    Some(RunningService { id, has_library, configuration })
}

fn environment_of(id: u32) -> Option<Environment> {
    const LONGEST: u64 = 6 << 20;
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{id}/environ")).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(Environment::of_bytes(&bytes))
}

// --------------------------------------------------------------------------------------------- the report

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lookup {
            Lookup::Addresses(addresses) => {
                for address in addresses {
                    write!(f, "{address} ")?;
                }
            }
            Lookup::Silent => return write!(f, "no answer in {} s", LOOKUP_LIMIT.as_secs()),
            Lookup::Error(libc::EAI_NONAME | libc::EAI_NODATA, _) => {
                f.write_str("does not resolve ")?;
            }
            Lookup::Error(libc::EAI_SYSTEM, errno) => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "the resolver fails: {} ", reason(&error))?;
            }
            Lookup::Error(libc::EAI_AGAIN, _) => f.write_str("the resolver does not answer ")?,
            Lookup::Error(code, _) => write!(f, "the resolver fails (getaddrinfo: {code}) ")?,
        }
        write!(f, "({} ms)", self.time.as_millis())
    }
}

fn settings_json(environment: &Environment) -> Value {
    let set = TABLE.iter().filter_map(|row| {
        Some((row.variable.to_owned(), Value::from(escape(environment.get(row.variable)?))))
    });
    Value::Object(set.collect::<Map<_, _>>())
}

fn host_json(seen: &Seen) -> Value {
    let lookup = |answer: &Answer| {
        let addresses = addresses_of(answer).into_iter().flatten().map(ToString::to_string);
        json!({
            "addresses": addresses.collect::<Vec<_>>(),
            "error": match answer.lookup {
                Lookup::Addresses(_) => Value::Null,
                Lookup::Error(code, _) => code.into(),
                Lookup::Silent => "silent".into(),
            },
            "milliseconds": milliseconds(answer.time),
        })
    };
    let attempt = |attempt: &Attempt| {
        json!({
            "address": attempt.address.to_string(),
            "family": attempt.family(),
            "outcome": attempt.outcome.name(),
            "milliseconds": match attempt.outcome {
                Outcome::Connected(time) => milliseconds(time).into(),
                _ => Value::Null,
            },
        })
    };
    let server = |server: &NameServer| json!({ "address": server.address.to_string(), "outcome": server.reply.name() });
    json!({
        "host": seen.target.host,
        "port": seen.target.port,
        "listed": seen.is_listed,
        "rule": seen.rule,
        "without": lookup(&seen.without),
        "with": lookup(&seen.with),
        "attempts": seen.tried.iter().map(attempt).collect::<Vec<_>>(),
        "name_servers": seen.servers.iter().map(server).collect::<Vec<_>>(),
        "keepalive": seen.with.keepalive.as_ref().map(|keepalive| json!({
            "on": keepalive.is_on,
            "idle": keepalive.idle,
            "interval": keepalive.interval,
            "count": keepalive.count,
            "user_timeout": keepalive.milliseconds / 1000,
        })),
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_replaces_ld_preload_is_told_from_one_that_keeps_it() {
        for (text, line) in [
            ("#!/bin/sh\nexec \"$@\"\n", None),
            ("#!/bin/bash\nexport LD_PRELOAD=libjemalloc.so.2\nexec \"$@\"\n", Some(2)),
            ("#!/bin/sh\nLD_PRELOAD=x:$LD_PRELOAD app\n", None),
            ("#!/bin/sh\nexport LD_PRELOAD=\"${LD_PRELOAD}:x\"\n", None),
            ("#!/bin/sh\n# LD_PRELOAD=x\n", None),
            ("#!/bin/sh\n\nunset LD_PRELOAD\n", Some(3)),
        ] {
            assert_eq!(line_that_replaces_preload(text.as_bytes()), line, "{text}");
        }
    }

    #[test]
    fn a_proxy_is_named_once_and_without_its_password() {
        let entries =
            b"HTTPS_PROXY=http://me:secret@proxy.test:3128/\0https_proxy=http://proxy.test:3128\0\
                        ALL_PROXY=socks.test\0http_proxy=\0";
        let environment = Environment::of_bytes(entries);
        let target = Target { host: "a.test".to_owned(), port: 443 };
        let actions: Vec<_> =
            proxies(&environment, &[target]).into_iter().map(|found| found.action).collect();
        let wanted = ["proxy.test:3128", "socks.test:80"]
            .map(|place| format!("check it too: egress-shim --check {place}"));
        assert_eq!(actions, wanted);
        let itself = Target { host: "proxy.test".to_owned(), port: 3128 };
        assert_eq!(proxies(&environment, &[itself]).len(), 1, "it is checked already");
    }

    #[test]
    fn go_looks_up_by_libc_where_it_is_told_to() {
        let by_libc = |entry: &[u8]| looks_up_by_libc(&Environment::of_bytes(entry));
        assert!(by_libc(b"GODEBUG=x=1,netdns=cgo+1"));
        assert!(!by_libc(b"GODEBUG=netdns=go"));
        assert!(!by_libc(b""));
    }
}
