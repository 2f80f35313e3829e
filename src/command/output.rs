//! The command's output and exit status.

use std::ffi::c_int;
use std::io::{self, Write};

/// The exit statuses of this command, beside 0 and 1.
pub mod status {
    use std::ffi::c_int;

    /// An invalid setting.
    pub use egress_shim_core::settings::EXIT_CONFIG as SETTING;
    // As those of env(1) and other programs that run programs.
    /// The command itself failed: wrong usage, no library.
    pub const FAILED: c_int = 125;
    /// COMMAND was found but cannot be run.
    pub const CANNOT_RUN: c_int = 126;
    /// COMMAND was not found.
    pub const NOT_FOUND: c_int = 127;
}

/// Why the command cannot do what it is asked for, and its exit status.
#[derive(Debug)]
pub struct Failure {
    /// One of [`status`].
    pub status: c_int,
    /// The problem, and the way out.
    pub message: String,
}

impl Failure {
    /// A failure with this status and message.
    pub fn new(status: c_int, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// Writes a message in one piece. If nobody reads standard error, SIGPIPE must not end this process.
pub fn say(message: impl std::fmt::Display) {
    let line = format!("egress-shim: {message}\n");
    // SAFETY: signal(2) with the kernel's own constants and the handler that it gave.
    unsafe {
        let before = libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let _ = io::stderr().write_all(line.as_bytes());
        libc::signal(libc::SIGPIPE, before);
    }
}

/// Writes a text to standard output.
///
/// # Errors
/// It cannot be written to.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(status::FAILED, format!("standard output: {error}")))
}

/// The text of an error as in strerror(3), without the number that std adds, which helps nobody.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let number = text.rfind(" (os error ").filter(|_| error.raw_os_error().is_some());
    text[..number.unwrap_or(text.len())].to_owned()
}
