//! What the tests share: the environments that a promise holds in, the lab network, running and
//! watching programs, directories of a test's own, the log's lines; how a test says what it saw,
//! and what it did not run.

#![expect(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    reason = "in a test a panic is how a failure is reported"
)]

pub mod architecture;
pub mod environment;
pub mod lab;
pub mod log;
pub mod resolver;
pub mod run;
pub mod scratch;
pub mod strace;

use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::thread;

pub use environment::{
    Environment, in_each_architecture, in_each_architecture_at_once, in_each_environment,
    in_each_environment_at_once, in_each_environment_of_this_machine, on_this_machine,
};
pub use scratch::Scratch;

/// The checkout.
pub const ROOT: &str = {
    let own = env!("CARGO_MANIFEST_DIR");
    own.split_at(own.len() - "/tests/harness".len()).0
};

/// Asserts that what was seen is what was wanted; a failure shows both.
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "a call is to read as an assertion")]
pub fn expect<S: Debug + PartialEq<W>, W: Debug>(what: impl Display, seen: S, wanted: W) {
    assert!(seen == wanted, "{what}\n  wanted {wanted:?}\n  seen   {seen:?}");
}

/// Says that something is not run here, and why: one line on standard error, also where libtest
/// keeps what a passing test prints to itself.
pub fn skip(what: impl Display, why: impl Display) {
    let thread = thread::current();
    let test = thread.name().map(|name| format!("{name}: ")).unwrap_or_default();
    let _ = io::stderr().write_all(format!("not run: {test}{what}: {why}\n").as_bytes());
}
