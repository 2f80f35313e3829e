//! The settings in force: made of options and environment, judged by the library's own parser before
//! anything starts, and handed on to COMMAND.
//!
//! `EGRESS_SHIM_STRICT` is not handed on: programs that COMMAND starts later, perhaps without its privileges, are
//! never ended for a setting.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::environment::Environment;
use crate::library;
use crate::options::Options;
use crate::output::{Failure, reason, status};
use egress_shim_core::allowlist::{self, Allowlist, Source};
use egress_shim_core::settings::{
    self, CHECK, Escaped, IPV4_ONLY, IPV4_ONLY_FILE, Keepalive, Kind, LARGEST_FILE, Problem,
    STRICT, Settings, ValueKind, Values,
};

/// The settings in force.
pub struct Configuration {
    /// `EGRESS_SHIM=off`: the library does nothing.
    pub is_off: bool,
    /// The keepalive of outbound TCP connections; `None` if it is off.
    pub keepalive: Option<Keepalive>,
    /// The value of `EGRESS_SHIM_PROGRAMS`; empty if there is none.
    pub programs: Vec<u8>,
    /// The patterns of the variable, unparsed.
    patterns: Vec<u8>,
    /// The file of patterns: its path and its text.
    file: Option<(Vec<u8>, Vec<u8>)>,
    /// The problems, one line each.
    pub problems: Vec<String>,
}

/// A longer list is handed on as the path of its file, because each program that COMMAND starts would have to
/// carry the list. The kernel's own limit is `MAX_ARG_STRLEN`, 128 KiB.
const LONGEST_LIST: usize = 64 << 10;

impl Configuration {
    /// Puts the values of the options into their variables.
    pub fn apply(options: &Options, environment: &mut Environment) {
        for (row, value) in &options.settings {
            let value = match row.kind {
                // Adds to the environment and to the option before it.
                ValueKind::List | ValueKind::Keys => {
                    let mut list = environment.get(row.variable).unwrap_or_default().to_vec();
                    if !list.trim_ascii().is_empty() {
                        list.push(b',');
                    }
                    list.extend_from_slice(value.as_bytes());
                    list
                }
                // The path is made absolute: programs that open the file may run in other directories.
                ValueKind::File => {
                    library::absolute(Path::new(value)).into_os_string().as_bytes().to_vec()
                }
                ValueKind::Switch | ValueKind::Filter => value.as_bytes().to_vec(),
            };
            environment.set(row.variable, &value);
        }
    }

    /// Reads the settings from an environment, to which the options have been added, and the files that they name. With
    /// `--lenient` COMMAND runs even if a setting is invalid.
    pub fn of(environment: &Environment, options: &Options) -> Self {
        let mut problems = Vec::new();
        let mut report = |problem: &Problem<'_>| {
            // The library reports a questionable setting, which is valid.
            if problem.kind == Kind::Questionable {
                return;
            }
            let refused =
                &format_args!("COMMAND is not run (with --lenient it runs, {})", problem.instead);
            let instead = if options.lenient { problem.instead } else { refused };
            problems.push(message(&Problem { instead, ..*problem }, options));
        };
        let (mut configuration, settings) = Self::parse(environment, &mut report);
        if let Some(path) = settings.ipv4_only_file {
            match read(path) {
                Ok(text) => configuration.file = Some((path.to_vec(), text)),
                Err(error) => {
                    settings::report_no_list(Some(path), &reason(&error), false, &mut report);
                }
            }
        }
        if let Some(path) = settings.log.and_then(|log| log.file)
            && let Err(error) = can_be_appended_to(path)
        {
            settings::report_no_log(path, &reason(&error), &mut report);
        }
        configuration.allowlist_reporting(&mut report);
        configuration.problems = problems;
        configuration
    }

    /// Reads the settings of another process. Their files are not read: they may be other files there.
    pub fn of_other(environment: &Environment) -> Self {
        let mut problems = Vec::new();
        let mut report = |problem: &Problem<'_>| {
            if problem.kind != Kind::Questionable {
                problems.push(problem.to_string());
            }
        };
        let (configuration, _) = Self::parse(environment, &mut report);
        Self { problems, ..configuration }
    }

    /// The keepalive that `--rescue` gives to connections.
    ///
    /// # Errors
    /// A setting is invalid, or keepalive is off.
    pub fn of_rescue(environment: &Environment) -> Result<Keepalive, Failure> {
        let configuration = Self::of_other(environment);
        configuration.refuse_problems()?;
        let off = "--rescue switches keepalive on, so --keepalive off has no place here; see egress-shim --help";
        configuration.keepalive.ok_or_else(|| Failure::new(status::FAILED, off))
    }

    /// Reads the settings of a running process, and its list file below the root directory of that process.
    pub fn of_running(environment: &Environment, root: &Path) -> Self {
        let (mut configuration, settings) = Self::parse(environment, &mut |_| {});
        if let Some(path) = settings.ipv4_only_file {
            let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
            let below = root.join(OsStr::from_bytes(&path[start..]));
            let text = read(below.as_os_str().as_bytes());
            configuration.file = text.ok().map(|text| (path.to_vec(), text));
        }
        configuration
    }

    fn parse<'a>(
        environment: &'a Environment,
        report: settings::Report<'_>,
    ) -> (Self, Settings<'a>) {
        let values = Values::of(environment.entries());
        if values.unknown > 0 && !values.is_off() {
            settings::report_unknown(environment.entries(), report);
        }
        let settings = values.parse(report);
        let configuration = Self {
            is_off: values.is_off(),
            keepalive: settings.keepalive,
            programs: values.programs().unwrap_or_default().to_vec(),
            patterns: settings.ipv4_only.to_vec(),
            file: None,
            problems: Vec::new(),
        };
        (configuration, settings)
    }

    /// The allowlist of these settings.
    pub fn allowlist(&self) -> Option<Allowlist> {
        self.allowlist_reporting(&mut |_| {})
    }

    fn allowlist_reporting(&self, report: settings::Report<'_>) -> Option<Allowlist> {
        let file = self.file.as_ref().map(|(path, text)| (path.as_slice(), text.as_slice()));
        let list = settings::load_allowlist(&self.patterns, file, report);
        list.inspect_err(|_| settings::report_no_memory(report)).ok()
    }

    /// Refuses invalid settings.
    ///
    /// # Errors
    /// The problems.
    pub fn refuse_problems(&self) -> Result<(), Failure> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let message = self.problems.join("\negress-shim: ");
        Err(Failure::new(status::SETTING, message))
    }

    /// Hands the settings on. A list file is passed as its path, so that a change takes effect. If not every user may read
    /// the file, its patterns are passed instead, if they fit into a variable.
    pub fn hand_on(&self, environment: &mut Environment) {
        environment.remove(STRICT.variable);
        environment.remove(CHECK);
        let Some((path, text)) = &self.file else { return };
        // If the file has problems, the library reports them with their lines.
        if !self.problems.is_empty() || is_readable_by_all(path) {
            return;
        }
        let list: Vec<_> =
            allowlist::patterns(text, Source::File).map(|(_, pattern)| pattern).collect();
        let list = [&[self.patterns.as_slice()], &list[..]].concat();
        let list: Vec<_> = list.into_iter().filter(|pattern| !pattern.is_empty()).collect();
        let list = list.join(&b","[..]);
        if list.len() <= LONGEST_LIST && environment.size() + list.len() <= room_for_strings() / 4 {
            environment.set(IPV4_ONLY.variable, &list);
            environment.remove(IPV4_ONLY_FILE.variable);
        }
    }
}

/// The message about a problem. It names the option in which the invalid part was typed, or the variable.
fn message(problem: &Problem<'_>, options: &Options) -> String {
    let has_part = |value: &[u8]| {
        let length = problem.part.len().max(1);
        problem.part.is_empty() || value.windows(length).any(|part| part == problem.part)
    };
    let of_variable = options
        .settings
        .iter()
        .rev()
        .filter(|(row, _)| row.variable.as_bytes() == problem.variable);
    // The path of a file was made absolute, so its part is not in the typed value; nor is a pattern in the file.
    let typed = of_variable
        .into_iter()
        .find(|(row, value)| row.kind == ValueKind::File || has_part(value.as_bytes()));
    let Some((row, value)) = typed else { return problem.to_string() };
    let Problem { part, must, instead, .. } = problem;
    let place = match problem.place {
        Some((_, line)) => format!("line {line}: "),
        None => String::new(),
    };
    let is_whole = problem.place.is_none()
        && (row.kind == ValueKind::File || value.as_bytes().trim_ascii() == *part);
    let part = if is_whole { String::new() } else { format!("\"{}\": ", Escaped(part)) };
    let value = Escaped(value.as_bytes());
    format!("{} {value}: {place}{part}{must}; {instead}", row.option)
}

/// The settings in force and `LD_PRELOAD`, one `NAME=VALUE` on each line, as files for `docker run --env-file`,
/// systemd's `EnvironmentFile=` and the like have them.
///
/// # Errors
/// A value that does not fit on a line.
pub fn lines(environment: &Environment) -> Result<String, Failure> {
    let mut text = String::new();
    let names = settings::TABLE.iter().map(|row| (row.variable, row.kind));
    for (name, kind) in names.chain([("LD_PRELOAD", ValueKind::File)]) {
        let Some(value) = environment.get(name) else { continue };
        let Ok(value) = str::from_utf8(value) else {
            let message = format!("{name}: a value that is not UTF-8 cannot be printed as a line");
            return Err(Failure::new(status::FAILED, message));
        };
        // White space separates patterns and names as commas do.
        let value = match kind {
            ValueKind::List => value.split_ascii_whitespace().collect::<Vec<_>>().join(","),
            _ => value.trim().to_owned(),
        };
        if value.contains(char::is_control) {
            let message = format!("{name}: a value with a line break cannot be printed as a line");
            return Err(Failure::new(status::FAILED, message));
        }
        text.extend([name, "=", value.as_str(), "\n"]);
    }
    Ok(text)
}

/// The settings that an environment has, one line each.
pub fn settings_of(environment: &Environment) -> Vec<String> {
    let set = settings::TABLE.iter().filter_map(|row| {
        let value = OsStr::from_bytes(environment.get(row.variable)?);
        Some(format!("{}={}", row.variable, value.display()))
    });
    let set: Vec<_> = set.collect();
    if set.is_empty() { vec!["the defaults".to_owned()] } else { set }
}

/// Whether every user may read a file, by the modes of the file and of its directories.
fn is_readable_by_all(path: &[u8]) -> bool {
    let allows = |path: &Path, bit| path.metadata().is_ok_and(|status| status.mode() & bit != 0);
    fs::canonicalize(OsStr::from_bytes(path)).is_ok_and(|path| {
        allows(&path, libc::S_IROTH)
            && path.ancestors().skip(1).all(|directory| allows(directory, libc::S_IXOTH))
    })
}

/// The number of bytes that execve(2) accepts for arguments and environment together.
fn room_for_strings() -> usize {
    // SAFETY: sysconf(3) takes a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_ARG_MAX) }).unwrap_or(128 << 10)
}

/// Reads the whole of a regular file. `O_NONBLOCK`, because a named pipe must not hold up the program.
fn read(path: &[u8]) -> io::Result<Vec<u8>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(OsStr::from_bytes(path))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(settings::NOT_REGULAR));
    }
    let mut text = Vec::new();
    file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut text)?;
    if text.len() > LARGEST_FILE {
        return Err(io::Error::other(settings::TOO_LARGE));
    }
    Ok(text)
}

/// Checks that a log file can be opened or made. It is not made here: a file of root would shut out a program that
/// drops its privileges before it logs.
fn can_be_appended_to(path: &[u8]) -> io::Result<()> {
    let path = Path::new(OsStr::from_bytes(path));
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    match File::options().append(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            let directory = CString::new(directory.as_os_str().as_bytes())?;
            let rights = libc::W_OK | libc::X_OK;
            // SAFETY: faccessat(2) with a C string.
            match unsafe {
                libc::faccessat(libc::AT_FDCWD, directory.as_ptr(), rights, libc::AT_EACCESS)
            } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
        result => result.map(drop),
    }
}
