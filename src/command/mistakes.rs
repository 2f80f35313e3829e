//! Mistakes on the command line: each message names what was typed, as it was typed, and what would be right.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ErrorKind};

use crate::options::{Options, Task, definition, forgotten_value, missing_value, usage};
use crate::output::Failure;
use egress_shim_core::settings::TABLE;

/// The message for a command line that clap refuses.
pub fn refused(error: &clap::Error, words: &[OsString]) -> Failure {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let arg = context(ContextKind::InvalidArg);
    // As clap shows it: `--keepalive <SPEC>`.
    let option = arg.split([' ', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(&arg, &context(ContextKind::SuggestedArg), words),
        ErrorKind::InvalidValue => missing_value(option),
        ErrorKind::TooManyValues => usage(format!("{option} takes no value")),
        ErrorKind::ArgumentConflict => {
            usage(format!("{option} is given twice, but it can be given only once"))
        }
        _ => usage(error.to_string().trim_end()),
    }
}

/// An option that does not exist. clap splits `-ipv4-only` into letters, and shows only the first.
fn unknown(arg: &str, suggested: &str, words: &[OsString]) -> Failure {
    let typed = words.iter().skip(1).map(|word| word.to_string_lossy());
    let typed = typed.into_iter().find(|word| word.starts_with(arg)).unwrap_or_default();
    let typed = typed.split('=').next().unwrap_or_default();
    if let Some((option, value)) = typed.split_once([' ', '\t'])
        && is_option(option)
    {
        let value = value.trim();
        return usage(format!("'{typed}' is one word: write two words, or {option}={value}"));
    }
    let meant = match options_like(typed) {
        found if found.is_empty() && suggested.is_empty() => String::new(),
        found if found.is_empty() => format!(" (did you mean {suggested}?)"),
        found => format!(" (did you mean {}?)", found.join(" or ")),
    };
    usage(format!("unknown option {typed}{meant}; a COMMAND that begins with '-' goes after '--'"))
}

fn is_option(word: &str) -> bool {
    definition().get_arguments().any(|arg| arg.get_long() == word.strip_prefix("--"))
}

/// The options that begin with what was typed, with one dash or two.
fn options_like(typed: &str) -> Vec<String> {
    let name = typed.trim_start_matches('-');
    if name.len() < 2 {
        return Vec::new();
    }
    let longs: Vec<_> =
        definition().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    let exact: Vec<_> = longs.iter().filter(|long| *long == name).collect();
    let found = if exact.is_empty() {
        longs.iter().filter(|long| long.starts_with(name)).collect()
    } else {
        exact
    };
    found.into_iter().map(|long| format!("--{long}")).collect()
}

/// The COMMAND that was probably meant, as an addition to the message that it is not there.
pub fn not_found(options: &Options, path: &OsStr) -> String {
    let (hosts, command) = match &options.task {
        Task::Check(hosts, command) => (hosts.last(), command),
        Task::Run(command) => (None, command),
        _ => return String::new(),
    };
    let Some((name, arguments)) = command.split_first() else { return String::new() };
    if let Some(forgotten) = forgotten_value(&options.settings, path) {
        return forgotten;
    }
    let name = name.to_string_lossy();
    let of_check = hosts.and_then(|host| of_check(&host.to_string_lossy(), &name));
    let meant = of_check
        .or_else(|| assignment(&name))
        .or_else(|| one_word(&name))
        .or_else(|| option_after_command(&name, arguments));
    meant.map(|meant| format!(" ({meant})")).unwrap_or_default()
}

/// `--check HOST 443` and `--check HOST OTHER`.
fn of_check(host: &str, name: &str) -> Option<String> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("a port goes after a colon: --check {host}:{name}"));
    }
    let is_host = name.contains('.') && !name.contains(['/', ' ', '=']);
    is_host.then(|| {
        format!("the word after HOST is COMMAND; for another host: --check {host} --check {name}")
    })
}

/// `egress-shim NAME=VALUE COMMAND`, as env(1) and shells take it.
fn assignment(word: &str) -> Option<String> {
    let (name, value) = word.split_once('=')?;
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let row = TABLE.iter().find(|row| row.variable == name && !row.option.is_empty());
    match row {
        _ if !is_name(name) => None,
        Some(row) => Some(format!("{name} is a variable; its option is {} {value}", row.option)),
        None => Some(format!(
            "{name} is a variable: write env {word} before egress-shim, or ENV {word} in the Dockerfile"
        )),
    }
}

/// A whole command line in one word, quoted or from the exec form of a Dockerfile.
fn one_word(word: &str) -> Option<String> {
    let is_split = word.split_ascii_whitespace().count() > 1;
    is_split.then(|| {
        format!("it is one word that contains blanks; write several words: {}", word.trim())
    })
}

/// `egress-shim HOST --check`.
fn option_after_command(name: &str, arguments: &[OsString]) -> Option<String> {
    let options = arguments.iter().map(|argument| argument.as_bytes());
    let options = options.map(|argument| argument.split(|&byte| byte == b'=').next());
    let options = options.filter_map(|option| Some(String::from_utf8_lossy(option?).into_owned()));
    let option = options.into_iter().find(|word| word.starts_with("--") && is_option(word))?;
    Some(format!(
        "the first word that is not an option is COMMAND; options go first: egress-shim {option} {name}"
    ))
}
