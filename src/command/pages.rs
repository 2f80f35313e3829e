//! The manual page and the completions for shells, made from the definition of the command line (scripts/pages).

use std::ffi::{OsStr, c_int};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::Arg;
use clap_mangen::Man;

use crate::options::{definition, help_of};
use crate::output::{Failure, status};
use egress_shim_core::settings::TABLE;

/// The text of the page without the options and the variables.
const MANUAL: &str = include_str!("manual.1");

/// The source of this version's date.
const CHANGELOG: &str = include_str!("../../CHANGELOG.md");

/// Writes all of them into a directory.
pub fn write(directory: &OsStr) -> Result<c_int, Failure> {
    write_all(Path::new(directory))
        .map(|()| 0)
        .map_err(|error| Failure::new(status::FAILED, format!("{}: {error}", directory.display())))
}

fn write_all(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in
        [("egress-shim.bash", bash()), ("_egress-shim", zsh()), ("egress-shim.fish", fish())]
    {
        fs::write(directory.join(name), text)?;
    }
    let mut page = File::create(directory.join("egress-shim.1"))?;
    let versions = CHANGELOG.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(" - "));
    let date = versions.map(|(_, date)| date).next().unwrap_or_default();
    let man = Man::new(definition()).manual("User Commands").date(date);
    man.render_title(&mut page)?;
    for part in MANUAL.split_inclusive('\n') {
        match part.trim_end() {
            "@OPTIONS@" => man.render_options_section(&mut page)?,
            "@ENVIRONMENT@" => environment(&mut page)?,
            _ => page.write_all(part.as_bytes())?,
        }
    }
    Ok(())
}

/// The variables, each as a paragraph with a tag.
fn environment(page: &mut impl Write) -> io::Result<()> {
    for row in &TABLE {
        let [variable, help] = [row.variable, &help_of(row)].map(|text| text.replace('-', "\\-"));
        writeln!(page, ".TP\n\\fB{variable}\\fP\n{help}.")?;
    }
    Ok(())
}

// ------------------------------------------------------------------------------------ completions

/// The levels of the log.
const LEVELS: &str = "off error warn info debug trace";

/// The options, those of clap's own included, each with its long name, its help up to the first semicolon or
/// bracket, and the kind of its value.
fn options() -> Vec<(String, String, &'static str)> {
    let mut command = definition();
    command.build();
    let options = command.get_arguments().filter_map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.split([';', '(']).next().unwrap_or_default().trim();
        Some((format!("--{}", arg.get_long()?), help.to_owned(), kind(arg)))
    });
    options.collect()
}

/// The kind of an option's value, by the name of the value in the help; empty for an option without a value.
fn kind(arg: &Arg) -> &'static str {
    if !arg.get_action().takes_values() {
        return "";
    }
    match arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str()) {
        Some("PATTERN" | "HOST[:PORT]") => "host",
        Some("FILE" | "PATH") => "file",
        Some("SPEC") => "keepalive",
        Some("FILTER") => "log",
        Some("NAME") => "program",
        Some(name) if name.contains("PID") => "pid",
        _ => "other",
    }
}

fn bash() -> String {
    let options = options();
    let names: Vec<_> = options.iter().map(|(name, ..)| name.as_str()).collect();
    let kinds = options.iter().filter_map(|(name, _, kind)| match *kind {
        "" => None,
        // Any number of PIDs follows.
        "pid" => Some(format!("        {name}) inspects=yes ;;")),
        kind => Some(format!("        {name}) kind={kind} ;;")),
    });
    include_str!("completions/bash")
        .replace("@OPTIONS@", &names.join(" "))
        .replace("@KINDS@", &kinds.collect::<Vec<_>>().join("\n"))
        .replace("@LEVELS@", LEVELS)
}

fn zsh() -> String {
    let lines = options().into_iter().map(|(name, help, kind)| {
        let escaped = |text: String, mark: &str| text.replace(mark, &format!("\\{mark}"));
        let help = ["[", "]", ":"].into_iter().fold(help.replace('\'', ""), escaped);
        let action = match kind {
            "" => return format!("        '{name}[{help}]' \\"),
            "host" => "_hosts",
            "file" => "_files",
            "keepalive" => "_egress_shim_keepalive",
            "log" => "_egress_shim_log",
            "program" => "_command_names -e",
            "pid" => "_egress_shim_pids",
            _ => "",
        };
        format!("        '*{name}=[{help}]:{kind}:{action}' \\")
    });
    include_str!("completions/zsh")
        .replace("@OPTIONS@", &lines.collect::<Vec<_>>().join("\n"))
        .replace("@LEVELS@", LEVELS)
}

fn fish() -> String {
    let options = options();
    let values = options.iter().filter(|(.., kind)| !matches!(*kind, "" | "pid"));
    let values: Vec<_> = values.map(|(name, ..)| name.as_str()).collect();
    let lines = options.iter().map(|(name, help, kind)| {
        let value = match *kind {
            "" | "pid" => "-f",
            "file" => "-r -F",
            "host" => "-x -a '(__fish_print_hostnames)'",
            "keepalive" => "-x -a '(__egress_shim_keepalive)'",
            "log" => "-x -a '(__egress_shim_log)'",
            "program" => "-x -a '(__fish_complete_command)'",
            _ => "-x",
        };
        let (name, help) = (name.trim_start_matches('-'), help.replace('\'', ""));
        format!("complete -c egress-shim -n __egress_shim_in_options -l {name} {value} -d '{help}'")
    });
    include_str!("completions/fish")
        .replace("@VALUES@", &values.join(" "))
        .replace("@OPTIONS@", &lines.collect::<Vec<_>>().join("\n"))
        .replace("@LEVELS@", LEVELS)
}
