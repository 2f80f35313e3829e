//! Complaints about invalid settings, on standard error: one line each, up to a limit. A strict program is then ended.

use std::fmt;

use egress_shim_core::settings::{self, Kind, Problem};

use crate::logging;
use crate::process;

/// The complaints of one load.
pub struct Complaints {
    strict: bool,
    count: usize,
    fatal: bool,
}

impl Complaints {
    /// More lines would not help, and would bury the other lines of a log.
    const MOST: usize = 30;

    /// Starts the complaints of one load. If it is strict, an invalid setting ends the program.
    #[must_use]
    pub fn new(strict: bool) -> Self {
        Self { strict, count: 0, fatal: false }
    }

    /// Writes a line about a problem, up to [`Self::MOST`] lines.
    pub fn add(&mut self, problem: &Problem<'_>) {
        self.count += 1;
        let fatal = self.strict && problem.kind == Kind::Invalid;
        self.fatal |= fatal;
        if self.count <= Self::MOST {
            let instead: &dyn fmt::Display = if fatal {
                &"the program is not run (EGRESS_SHIM_STRICT=1)"
            } else {
                problem.instead
            };
            logging::complain(format_args!("{}", Problem { instead, ..*problem }));
        }
    }

    /// Reports the number of problems without a line, and ends a strict program.
    pub fn end(self) {
        if let Some(more) = self.count.checked_sub(Self::MOST).filter(|more| *more > 0) {
            let are = if more == 1 { "setting is" } else { "settings are" };
            logging::complain(format_args!("{more} more {are} invalid"));
        }
        if self.fatal {
            process::exit(settings::EXIT_CONFIG);
        }
    }
}
