//! The settings in force in this process. The policies get them here, and nowhere else.
//!
//! The settings are read once, when the library loads or at a call before that. Whatever they are, a start makes only
//! kinds of system calls that libc's loader has made too. The exceptions are a log file and an invalid setting.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use egress_shim_core::allowlist;
use egress_shim_core::settings::{self, Keepalive, Log, Problem, Settings, Values};
use log::Level;
use once_cell::race::OnceRef;

use crate::complaints::Complaints;
use crate::list::{self, Asker};
use crate::logging::{self, log_once};
use crate::memory::{self, leak};
use crate::process::{self, Environment, Errno};

/// The settings of this process, with copies of their texts, because the program may write over its environment.
static SETTINGS: OnceRef<'static, Settings<'static>> = OnceRef::new();
/// The library does nothing.
static OFF: Settings<'static> = Settings::OFF;
/// The settings of a privileged process. Its environment comes from an untrusted caller, so it is ignored, and nothing
/// is written.
static PRIVILEGED: Settings<'static> =
    Settings { keepalive: Some(Keepalive::DEFAULT), ..Settings::OFF };

/// The settings of this process. Usually the constructor has loaded them. If another library's constructor calls a hook
/// before that, the hook loads them.
#[must_use]
pub fn settings() -> &'static Settings<'static> {
    // The cost on the connect path is a load and a compare.
    SETTINGS.get().unwrap_or_else(load)
}

/// The keepalive of outbound TCP connections; `None` if it is off.
#[must_use]
pub fn keepalive() -> Option<&'static Keepalive> {
    let settings = settings();
    log_what_is_in_force(settings);
    settings.keepalive.as_ref()
}

/// Whether a name could be listed at all.
#[must_use]
pub fn can_be_listed(name: &[u8]) -> bool {
    settings().has_allowlist() && allowlist::can_be_listed(name)
}

/// Whether a name that is looked up is listed.
#[must_use]
pub fn is_listed(name: &[u8]) -> bool {
    is_on_list(name, Asker::Lookup)
}

/// The function that tells whether the name of a reply is listed; `None` if no name can be listed.
#[must_use]
pub fn allowlist() -> Option<fn(&[u8]) -> bool> {
    settings().has_allowlist().then_some(|name| is_on_list(name, Asker::Reply))
}

fn is_on_list(name: &[u8], asker: Asker) -> bool {
    let settings = settings();
    log_what_is_in_force(settings);
    list::is_listed(name, asker, settings)
}

/// Whether any host may be listed: false only if it is known that none is.
#[must_use]
#[inline]
pub fn may_list() -> bool {
    SETTINGS.get().is_none_or(Settings::has_allowlist)
}

/// Whether the settings in force have `enforce`; false before they are loaded.
#[must_use]
#[inline]
pub fn is_enforced() -> bool {
    SETTINGS
        .get()
        .is_some_and(|settings| settings.keepalive.is_some_and(|keepalive| keepalive.enforce))
}

/// Reads the settings, unless that has been done.
pub fn load_settings() {
    let _ = settings();
}

#[cold]
fn load() -> &'static Settings<'static> {
    let environment = Environment::starting_with(settings::SWITCH.variable);
    if process::is_privileged() {
        let _ = SETTINGS.set(&PRIVILEGED);
        return &PRIVILEGED;
    }
    let values = Values::of(environment.clone());
    if values.is_off() || values.programs().is_some_and(|programs| !is_program_selected(programs)) {
        let _ = SETTINGS.set(&OFF);
    } else {
        start(&values, environment);
    }
    SETTINGS.get().unwrap_or(&OFF)
}

/// Whether `EGRESS_SHIM_PROGRAMS` selects the program of this process.
#[inline(never)]
fn is_program_selected(programs: &[u8]) -> bool {
    fn base_name(path: &[u8]) -> &[u8] {
        path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
    }
    let mut buffer = [0; 4096];
    let file = process::running_file(&mut buffer);
    settings::is_program_selected(programs, [base_name(process::executed_path()), base_name(file)])
}

/// Makes these the settings of this process, unless another thread was first. If threads race here, one of them reports
/// the problems.
fn start(values: &Values<'_>, environment: Environment) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let is_first = !REPORTED.swap(true, Relaxed);
    let mut complete = true;
    let mut keep = |text: &[u8]| {
        let copy = memory::copy(text);
        complete &= copy.is_some();
        copy
    };
    // The log first: complaints go there.
    let Log { filter, file } = values.log();
    let log = Log { filter: keep(filter).unwrap_or_default(), file: file.and_then(&mut keep) };
    let log_started = logging::start(log.filter, log.file);
    let mut complaints = Complaints::new(values.is_strict());
    let mut report = |problem: &Problem<'_>| {
        if is_first {
            complaints.add(problem);
        }
    };
    if values.unknown > 0 {
        settings::report_unknown(environment, &mut report);
    }
    let parsed = values.parse(&mut report);
    let path = parsed.ipv4_only_file.and_then(&mut keep);
    let settings = Settings {
        programs: None,
        ipv4_only: keep(parsed.ipv4_only).unwrap_or_default(),
        ipv4_only_file: path.map(list::read_at_load),
        log: Some(log),
        ..parsed
    };
    if !complete {
        settings::report_no_memory(&mut report);
    }
    match (log_started, log.file) {
        // A child that has lost the privilege to write to its parent's log is silent.
        (Err(Errno(libc::EACCES | libc::EPERM)), _) if !settings.strict => {}
        (Err(error), Some(path)) => settings::report_no_log(path, &error, &mut report),
        _ => {}
    }
    let Some(settings) = leak(settings) else { return };
    let _ = SETTINGS.set(settings);
    if settings.strict && settings.has_allowlist() {
        list::check_at_load(settings, &mut report);
    }
    complaints.end();
}

/// Logs the settings in force at the first call on which the library acts, so that a start writes nothing.
#[inline]
fn log_what_is_in_force(settings: &Settings<'_>) {
    log_once!(Level::Info, "egress-shim {} is loaded: {settings}", env!("CARGO_PKG_VERSION"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_settings_has_keepalive_and_no_allowlist() {
        load_settings();
        assert_eq!(keepalive(), Some(&Keepalive::DEFAULT));
        assert!(allowlist().is_none() && !is_listed(b"api.openai.com"));
    }
}
