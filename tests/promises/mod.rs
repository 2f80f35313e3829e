//! What the library promises to the programs that load it. tests/main.rs has the map.

mod cancellation;
mod changes;
mod children;
mod company;
mod cost;
mod faults;
mod hostile;
mod kernels;
mod lifetime;
mod list;
mod log_lines;
mod log_output;
mod lookups;
mod oracle;
mod privilege;
mod programs;
mod replies;
mod settings;
mod signals;
mod sockets;
mod stories;
mod transparency;

use crate::harness::Environment;
use crate::harness::lab::LAB;
use crate::harness::run::{expect_says, run, with};
use std::path::Path;
use std::process::{Command, Output};

// --- What show.c sees of the lab -----------------------------------------------------------------

const NAMES: [&str; 2] = ["dual.example.com", "other.example.com"];
/// What `show` prints of these names without the library, and with it and the settings below.
const BARE: &str = "keepalive off\ndual.example.com 46\nother.example.com 46\n";
const SHIMMED: &str = "keepalive on 60/60/5\ndual.example.com 4\nother.example.com 46\n";
const LISTED: &[(&str, &str)] = &[("IPV4_ONLY", "dual.example.com,many.example.com")];

/// Expects what a command says in the lab.
#[track_caller]
fn expect_in_lab(command: Command, wanted: &str) {
    expect_says(LAB.client(command), wanted);
}

/// Runs a command in the lab.
#[track_caller]
fn run_in_lab(command: Command) -> Output {
    run(&mut LAB.client(command))
}

/// Expects `show`, or a program like it, to be fixed and otherwise the same, under a condition that
/// `change` makes.
#[track_caller]
fn expect_fixed(environment: &Environment, program: &Path, change: impl Fn(&mut Command)) {
    let mut bare = with(environment.bare(program), NAMES);
    change(&mut bare);
    expect_in_lab(bare, BARE);
    let mut shimmed = with(environment.shimmed(program, LISTED), NAMES);
    change(&mut shimmed);
    expect_in_lab(shimmed, SHIMMED);
}
