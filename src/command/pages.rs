//! The manual page and the completions of shells, made of the definition of the command line: scripts/pages.

use std::ffi::{OsStr, c_int};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use crate::options::{definition, help_of};
use crate::output::{Failure, status};
use egress_shim_core::settings::TABLE;

/// What the page says beside the options and the variables.
const MANUAL: &str = include_str!("manual.1");

/// Knows the date of this version.
const CHANGELOG: &str = include_str!("../../CHANGELOG.md");

/// Writes all of them into a directory.
pub fn write(directory: &OsStr) -> Result<c_int, Failure> {
    write_all(Path::new(directory))
        .map(|()| 0)
        .map_err(|error| Failure::new(status::FAILED, format!("{}: {error}", directory.display())))
}

fn write_all(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut definition(), "egress-shim", directory)?;
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
