//! The options: one definition, of which the parser, `--help`, the manual page and the completions of
//! shells are made. Those that are settings come from the table that the library reads too.

use std::ffi::{OsStr, OsString};
use std::fmt::{Display, Write};

use clap::builder::OsStringValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use crate::mistakes;
use crate::output::{Failure, status};
use crate::program;
use crate::report::Format;
use egress_shim_core::settings::{KEEPALIVE, Row, TABLE, ValueKind};

/// The content of a command line.
pub struct Options {
    /// Variables and the values that options give them, in the order of the table.
    pub settings: Vec<(&'static Row, OsString)>,
    /// Whether COMMAND runs even if a setting is invalid.
    pub lenient: bool,
    /// The path of `--library`.
    pub library: Option<OsString>,
    /// How a report is wanted.
    pub format: Format,
    /// The task.
    pub task: Task,
}

/// The task of the command.
pub enum Task {
    /// Run COMMAND with its arguments, at least one word.
    Run(Vec<OsString>),
    /// Print the variables that COMMAND would get.
    PrintEnvironment,
    /// Check each `HOST[:PORT]`, with COMMAND if there is one.
    Check(Vec<OsString>, Vec<OsString>),
    /// Look at the processes with these PIDs, or at all.
    Inspect(Vec<OsString>),
    /// Rescue the connections of the process with this PID, or only report what would be done.
    Rescue(OsString, bool),
    /// Text for standard output: the help, the version.
    Print(String),
}

const ABOUT: &str = "\
Runs COMMAND with libegress_shim.so preloaded, so that, without changing COMMAND:
  - the hosts you list resolve to IPv4 addresses only: no IPv6 black hole;
  - each outbound TCP connection sends keepalive probes: no NAT forgets it.
egress-shim replaces itself with COMMAND (exec), so the PID, signals, open files
and exit status are COMMAND's.";

const USAGE: &str = "egress-shim [OPTION]... [--] COMMAND [ARG]...
       egress-shim [OPTION]... --check HOST[:PORT]... [-- COMMAND]
       egress-shim [OPTION]... --print-environment
       egress-shim [--json] --inspect [PID]...
       egress-shim [--json] [--keepalive SPEC] --rescue PID [--dry-run]";

const TEMPLATE: &str = "\
Usage: {usage}

{about}

Options ('--option VALUE' or '--option=VALUE'; COMMAND starts at the first word
that is not an option):
{options}{after-help}";

const PATTERNS: &str = "\
A PATTERN is  api.openai.com  that name      *.openai.com  every name below it
              .openai.com     both           *             all but localhost
              !PATTERN        none of these, whatever else is listed";

const OUTRO: &str = "\
The library is --library PATH, or the first libegress_shim.so among: the
directory of egress-shim itself (links resolved), ../lib and ../lib/egress-shim
from there, /usr/local/lib, /usr/lib, /usr/lib/MACHINE-linux-gnu. If the
32-bit library is installed with it, 32-bit programs load that.

Exit status: COMMAND's own, or
   78  a setting is invalid (the message names it)
  125  egress-shim itself failed: wrong usage, no library
  126  COMMAND was found but cannot be run
  127  COMMAND was not found
--check exits with 0 if each HOST is reachable with these settings, 1 if one
is not or only after a delay. --inspect exits with 0 if it finds no problem, 1
otherwise. --rescue exits with 0 if nothing is left to rescue, 1 otherwise.
Both exit with 125 if the process cannot be seen or traced.

Example:
  egress-shim --ipv4-only api.openai.com --keepalive idle=45 -- python3 app.py";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The answer to `--version`; `-V` gives the version alone.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD"), ")");

/// The definition of the command line.
pub fn definition() -> Command {
    let mut command = Command::new("egress-shim")
        .version(VERSION)
        .long_version(LONG_VERSION)
        .about(ABOUT)
        .override_usage(USAGE)
        .help_template(TEMPLATE)
        .term_width(80)
        .after_help(after_help());
    for row in TABLE.iter().filter(|row| !row.option.is_empty()) {
        let arg = value(row.variable, long(row), row.metavariable, help_of(row));
        command = command.arg(match row.kind {
            ValueKind::List | ValueKind::Keys => arg.action(ArgAction::Append),
            ValueKind::File => arg.value_hint(ValueHint::FilePath),
            ValueKind::Switch | ValueKind::Filter => arg.overrides_with(row.variable),
        });
    }
    let library = value(
        "library",
        "library",
        "PATH",
        "the library to preload; a path with $LIB serves both word sizes (default: see below)",
    );
    let check = "run nothing; report whether the library loads, what HOST resolves to with and without \
                 it, whether PORT answers over IPv4 and IPv6, and what to do (default: port 443)";
    let inspect = "look at running processes, each with its descendants: the library, the settings, the TCP \
                   connections, what is wrong, and what to do (default: every process); in a container, PID is 1";
    let rescue = "rescue the TCP connections of a running process that hang, with no restart: switch \
                  keepalive on, end those that the network has forgotten, and end connects to IPv6 \
                  addresses that do not answer (Linux 5.6 or later)";
    command
        .arg(library.overrides_with("library").value_hint(ValueHint::FilePath))
        .arg(Arg::new("lenient").long("lenient").action(ArgAction::SetTrue).help(
            "run COMMAND even if a setting is invalid; that setting is ignored (default: report it and exit 78)",
        ))
        .arg(Arg::new("print-environment").long("print-environment").action(ArgAction::SetTrue).help(
            "run nothing; print the variables that COMMAND would get, NAME=VALUE on each line",
        ))
        .arg(value("check", "check", "HOST[:PORT]", check).action(ArgAction::Append))
        .arg(value("inspect", "inspect", "PID", inspect).num_args(0..).overrides_with("inspect"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("print the report of --check, --inspect or --rescue as one JSON document"),
        )
        .arg(value("rescue", "rescue", "PID", rescue))
        .arg(Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help(
            "with --rescue: change nothing, and report what would be done",
        ))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_hint(ValueHint::CommandWithArguments)
                .value_parser(OsStringValueParser::new())
                .hide(true),
        )
}

/// The text about a setting in the help and in the manual page.
pub fn help_of(row: &Row) -> String {
    format!("{} (default: {})", row.help, row.default)
}

fn value(
    id: &'static str,
    long: &'static str,
    metavariable: &'static str,
    help: impl Into<String>,
) -> Arg {
    Arg::new(id)
        .long(long)
        .value_name(metavariable)
        .value_parser(OsStringValueParser::new())
        // Shells complete the name of a file unless a hint says otherwise.
        .value_hint(ValueHint::Other)
        .help(help.into())
}

fn long(row: &'static Row) -> &'static str {
    row.option.trim_start_matches('-')
}

fn after_help() -> String {
    let width = TABLE.iter().map(|row| row.variable.len()).max().unwrap_or_default();
    let mut text = format!(
        "{PATTERNS}\n\nEnvironment (the options set it; --ipv4-only, --program and --keepalive add):\n"
    );
    let what = |row: &Row| {
        if row.option.is_empty() { row.help.to_owned() } else { format!("as {}", row.option) }
    };
    let preload = ("LD_PRELOAD", "egress-shim's library is put first; existing entries are kept");
    let variables = TABLE.iter().map(|row| (row.variable, what(row)));
    for (variable, what) in variables.chain([(preload.0, preload.1.to_owned())]) {
        for (index, line) in fill(&what, 76 - width).iter().enumerate() {
            let variable = if index == 0 { variable } else { "" };
            let _ = writeln!(text, "  {variable:width$}  {line}");
        }
    }
    text + "\n" + OUTRO
}

/// Breaks a text into lines of at most `width` characters.
fn fill(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width)
        {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Reads a command line, the program's own name first.
///
/// # Errors
/// The mistake, and what would be right.
pub fn parse(words: &[OsString], path: &OsStr) -> Result<Options, Failure> {
    let mut matches = match definition().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Options {
                    settings: Vec::new(),
                    lenient: false,
                    library: None,
                    format: Format::Text,
                    task: Task::Print(error.to_string()),
                }),
                _ => Err(mistakes::refused(&error, words)),
            };
        }
    };
    let mut settings = Vec::new();
    for row in TABLE.iter().filter(|row| !row.option.is_empty()) {
        for value in matches.remove_many::<OsString>(row.variable).into_iter().flatten() {
            settings.push((row, not_empty(row.option, value)?));
        }
    }
    let library = take(&mut matches, "library")?;
    let hosts = matches.remove_many::<OsString>("check").into_iter().flatten();
    let hosts: Vec<_> = hosts.map(|host| not_empty("--check", host)).collect::<Result<_, _>>()?;
    let inspect = matches.contains_id("inspect").then(|| {
        matches.remove_many::<OsString>("inspect").into_iter().flatten().collect::<Vec<_>>()
    });
    let format = if matches.get_flag("json") { Format::Json } else { Format::Text };
    let rescue = take(&mut matches, "rescue")?;
    let command: Vec<_> =
        matches.remove_many::<OsString>("command").into_iter().flatten().collect();
    let is_dry = matches.get_flag("dry-run");
    if is_dry && rescue.is_none() {
        return Err(usage("--dry-run goes with --rescue"));
    }
    // The words that --inspect and --rescue do not take.
    let of_settings = settings.iter().map(|(row, _)| row.option);
    let of_settings = of_settings.filter(|&option| rescue.is_none() || option != KEEPALIVE.option);
    let of_library = library.iter().map(|_| "--library");
    let mut words =
        of_settings.chain(of_library).map(OsString::from).chain(command.iter().cloned());
    let word = words.next();
    let refuse = |does: &str| match &word {
        Some(word) => Err(usage(format!("{does}, so '{}' has no place here", word.display()))),
        None => Ok(()),
    };
    let task = match (&hosts[..], inspect, rescue) {
        ([_, ..], None, None) => Task::Check(hosts, command),
        ([], Some(pids), None) => {
            refuse("--inspect changes and runs nothing")?;
            Task::Inspect(pids)
        }
        ([], None, Some(pid)) => {
            refuse("--rescue runs nothing and takes no setting but --keepalive")?;
            Task::Rescue(pid, is_dry)
        }
        ([], None, None) if matches.get_flag("print-environment") => Task::PrintEnvironment,
        ([], None, None) if command.is_empty() => {
            let forgotten = forgotten_value(&settings, path).unwrap_or_default();
            return Err(usage(format!(
                "no COMMAND to run, as in: egress-shim --ipv4-only HOST curl https://HOST/{forgotten}"
            )));
        }
        ([], None, None) => Task::Run(command),
        _ => return Err(usage("--check, --inspect and --rescue cannot go together")),
    };
    Ok(Options { settings, lenient: matches.get_flag("lenient"), library, format, task })
}

/// The value of an option that may be given once.
fn take(matches: &mut ArgMatches, id: &str) -> Result<Option<OsString>, Failure> {
    let value = matches.remove_one::<OsString>(id);
    value.map(|value| not_empty(&format!("--{id}"), value)).transpose()
}

fn not_empty(option: &str, value: OsString) -> Result<OsString, Failure> {
    if value.is_empty() { Err(missing_value(option)) } else { Ok(value) }
}

/// The failure of an option without its value.
pub fn missing_value(option: &str) -> Failure {
    const OTHERS: [(&str, &str, &str); 4] = [
        ("--library", "PATH", "/usr/local/lib/libegress_shim.so"),
        ("--check", "HOST", "api.example.com"),
        ("--inspect", "PID", "1"),
        ("--rescue", "PID", "1"),
    ];
    let of_settings = TABLE.iter().map(|row| (row.option, row.metavariable, row.example));
    let known = of_settings.chain(OTHERS).find(|(known, ..)| *known == option);
    let (_, what, example) = known.unwrap_or((option, "value", "VALUE"));
    usage(format!("{option} needs a {what}, as in: {option} {example}"))
}

/// For a COMMAND that is missing or does not exist: the hint that a program stands in the place of an option's
/// value, as in `--ipv4-only curl https://api.openai.com`.
pub fn forgotten_value(settings: &[(&'static Row, OsString)], path: &OsStr) -> Option<String> {
    let (row, value) = settings
        .iter()
        .find(|(row, value)| row.kind == ValueKind::List && program::find(value, path).is_ok())?;
    let (option, value) = (row.option, value.display());
    Some(format!(
        " ({value} is a program, but here it is taken for the {0} of {option}: was the {0} forgotten?)",
        row.metavariable
    ))
}

/// A failure of usage.
pub fn usage(message: impl Display) -> Failure {
    Failure::new(status::FAILED, format!("{message}; see egress-shim --help"))
}
