//! Settings in real processes: right ones take effect, wrong ones are told in one line each and
//! harm nobody, and strict ones end a program before it begins.
//!
//! `tests/programs/next_getaddrinfo.c` stands behind the library in place of libc's lookup and
//! says which family it was asked for. So what a setting does to a lookup needs no network.

mod programs;

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use programs::{Environment, run_for};

/// The exit status under `EGRESS_SHIM_STRICT` (`EX_CONFIG`).
const EXIT_CONFIG: i32 = 78;
/// Longer than any program here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest line that the library writes.
const LONGEST_LINE: usize = 1024;

/// A wrong setting. `DIR` stands for the test's directory, which holds a `directory`, a `fifo` and
/// an allowlist `wrong-line`; `x{N}` stands for N times the letter.
struct Wrong {
    /// What follows `EGRESS_SHIM_` in the variable's name; empty for `EGRESS_SHIM`.
    variable: &'static str,
    value: &'static str,
    /// What is said of it, and what is used instead where it is not fatal.
    says: &'static str,
    instead: &'static str,
}

const fn wrong(
    variable: &'static str,
    value: &'static str,
    says: &'static str,
    instead: &'static str,
) -> Wrong {
    Wrong { variable, value, says, instead }
}

/// Every text that a wrong setting can give, each as its reader sees it.
#[rustfmt::skip]
const WRONG: &[Wrong] = &[
    wrong("", "no",
        r#"EGRESS_SHIM: "no": it is on or off"#, "on is used"),
    wrong("STRICT", "yes",
        r#"EGRESS_SHIM_STRICT: "yes": it is 1, or 0 or not set"#, "0 is used"),
    wrong("IPV4_ONLY", "api..com",
        r#"EGRESS_SHIM_IPV4_ONLY: "api..com": there is no name, or an empty label in it (two dots in a row)"#, "this pattern is ignored"),
    wrong("IPV4_ONLY", "x{64}.com",
        r#"EGRESS_SHIM_IPV4_ONLY: "x{64}.com": a label has at most 63 bytes"#, "this pattern is ignored"),
    wrong("IPV4_ONLY", "x{254}",
        r#"EGRESS_SHIM_IPV4_ONLY: "x{254}": a name has at most 253 bytes"#, "this pattern is ignored"),
    wrong("IPV4_ONLY", "api.com/v1",
        r#"EGRESS_SHIM_IPV4_ONLY: "api.com/v1": a host name is letters, digits, -, _ and dots, without scheme, port or path (other scripts as xn--...)"#,
        "this pattern is ignored"),
    wrong("IPV4_ONLY", "api.com:443",
        r#"EGRESS_SHIM_IPV4_ONLY: "api.com:443": a host name is letters, digits, -, _ and dots, without scheme, port or path (other scripts as xn--...)"#,
        "this pattern is ignored"),
    wrong("IPV4_ONLY", "api.*.com",
        r#"EGRESS_SHIM_IPV4_ONLY: "api.*.com": a * stands alone or is the whole first label, as in *.example.com"#, "this pattern is ignored"),
    wrong("IPV4_ONLY", "192.0.2.1",
        r#"EGRESS_SHIM_IPV4_ONLY: "192.0.2.1": it is an address, and only names are matched"#, "this pattern is ignored"),
    wrong("IPV4_ONLY_FILE", "DIR/missing",
        r#"EGRESS_SHIM_IPV4_ONLY_FILE: "DIR/missing": it cannot be read as a file of host patterns: No such file or directory (os error 2)"#,
        "it lists no host"),
    wrong("IPV4_ONLY_FILE", "DIR/directory",
        r#"EGRESS_SHIM_IPV4_ONLY_FILE: "DIR/directory": it cannot be read as a file of host patterns: not a regular file"#,
        "it lists no host"),
    wrong("IPV4_ONLY_FILE", "DIR/fifo",
        r#"EGRESS_SHIM_IPV4_ONLY_FILE: "DIR/fifo": it cannot be read as a file of host patterns: not a regular file"#,
        "it lists no host"),
    wrong("IPV4_ONLY_FILE", "/dev/zero",
        r#"EGRESS_SHIM_IPV4_ONLY_FILE: "/dev/zero": it cannot be read as a file of host patterns: not a regular file"#,
        "it lists no host"),
    wrong("IPV4_ONLY_FILE", "DIR/wrong-line",
        r#"EGRESS_SHIM_IPV4_ONLY_FILE: DIR/wrong-line line 3: "a..b": there is no name, or an empty label in it (two dots in a row)"#,
        "this pattern is ignored"),
    wrong("KEEPALIVE", "never",
        r#"EGRESS_SHIM_KEEPALIVE: "never": it is on or off alone, or any of idle=S,interval=S,count=N"#, "this part is ignored"),
    wrong("KEEPALIVE", "idle=0",
        r#"EGRESS_SHIM_KEEPALIVE: "idle=0": idle is a whole number from 1 to 32767 seconds"#, "60 is used"),
    wrong("KEEPALIVE", "interval=32768",
        r#"EGRESS_SHIM_KEEPALIVE: "interval=32768": interval is a whole number from 1 to 32767 seconds"#, "60 is used"),
    wrong("KEEPALIVE", "count=128",
        r#"EGRESS_SHIM_KEEPALIVE: "count=128": count is a whole number from 1 to 127"#, "5 is used"),
    wrong("KEEPALIVE", "idle=60,idle=70",
        r#"EGRESS_SHIM_KEEPALIVE: "idle=70": idle is given twice"#, "60 is used"),
    wrong("LOG", "verbose",
        r#"EGRESS_SHIM_LOG: "verbose": it is off, error, warn, info, debug or trace, or egress_shim::MODULE=LEVEL for config, keepalive or resolver"#,
        "this part is ignored"),
    wrong("LOG_FILE", "DIR/directory",
        r#"EGRESS_SHIM_LOG_FILE: "DIR/directory": it cannot be appended to: Is a directory (os error 21)"#,
        "standard error is used"),
    wrong("LOG_FILE", "DIR/missing/log",
        r#"EGRESS_SHIM_LOG_FILE: "DIR/missing/log": it cannot be appended to: No such file or directory (os error 2)"#,
        "standard error is used"),
    wrong("LOG_FILE", "DIR/fifo",
        r#"EGRESS_SHIM_LOG_FILE: "DIR/fifo": it cannot be appended to: No such device or address (os error 6)"#,
        "standard error is used"),
    wrong("IPV4ONLY", "api.com",
        r#"EGRESS_SHIM_IPV4ONLY: "api.com": there is no such setting, only EGRESS_SHIM, EGRESS_SHIM_IPV4_ONLY, EGRESS_SHIM_IPV4_ONLY_FILE, EGRESS_SHIM_KEEPALIVE, EGRESS_SHIM_LOG, EGRESS_SHIM_LOG_FILE, EGRESS_SHIM_STRICT"#,
        "it is ignored"),
];

impl Wrong {
    /// A text of the table for a test's directory.
    fn fill(text: &str, directory: &Path) -> String {
        let mut text = text.replace("DIR", directory.to_str().expect("the path is UTF-8"));
        for length in [64, 254] {
            text = text.replace(&format!("x{{{length}}}"), &"x".repeat(length));
        }
        text
    }

    fn setting(&self, directory: &Path) -> (&'static str, String) {
        (self.variable, Self::fill(self.value, directory))
    }

    /// Whether it ends a strict program: a variable that is none of the library's never does.
    fn is_fatal(&self) -> bool {
        self.variable != "IPV4ONLY"
    }

    /// The whole line for a lenient or a strict process.
    fn line(&self, directory: &Path, strict: bool) -> String {
        let instead = if strict && self.is_fatal() {
            "the program is not run (EGRESS_SHIM_STRICT=1)"
        } else {
            self.instead
        };
        format!("egress-shim: {}; {instead}\n", Self::fill(self.says, directory))
    }
}

/// A directory of this test's own, empty, with what the table above needs.
fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("settings").join(test);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("directory")).expect("target can be written to");
    fs::write(directory.join("wrong-line"), "# one\nb.example\na..b c.example\n").unwrap();
    let fifo = std::ffi::CString::new(directory.join("fifo").as_os_str().as_bytes()).unwrap();
    // SAFETY: mkfifo(3) with a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0, "{}", io::Error::last_os_error());
    directory
}

/// tests/programs/settings.c with these settings, the library, and the getaddrinfo behind it.
fn command<T: AsRef<str>>(
    environment: &Environment,
    settings: &[(&str, T)],
    actions: &[&str],
) -> Command {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let mut command = environment.shimmed(environment.program("settings"), &settings);
    command.env("LD_PRELOAD", preload(environment)).args(actions);
    command
}

fn preload(environment: &Environment) -> String {
    let next = environment.shared_library("next_getaddrinfo");
    format!("{}:{}", environment.library.display(), next.display())
}

/// What a run of a program shows.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Seen {
    fn new(status: i32, stdout: &str, stderr: impl Into<String>) -> Self {
        Self { status: Some(status), stdout: stdout.to_owned(), stderr: stderr.into() }
    }
}

fn run(command: &mut Command) -> Output {
    let ended = run_for(command, PATIENCE);
    ended.output.unwrap_or_else(|| panic!("{command:?} hangs"))
}

fn see(command: &mut Command) -> Seen {
    let Output { status, stdout, stderr } = run(command);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Seen { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Standard output of a run that must end well and in silence.
fn silent(command: &mut Command) -> String {
    let seen = see(command);
    assert_eq!((seen.status, seen.stderr.as_str()), (Some(0), ""), "{command:?}");
    seen.stdout
}

/// Says that it runs, makes the library look into its allowlist, and fails in its own way.
const ACTIONS: [&str; 6] = ["say", "runs", "look", "name.test", "exit", "42"];
const NO_SETTINGS: &[(&str, &str)] = &[];

#[test]
fn a_wrong_setting_is_told_in_one_line_and_changes_nothing_of_the_program() {
    let directory = &directory("lenient");
    for environment in &Environment::all() {
        let mut bare = command(environment, NO_SETTINGS, &ACTIONS);
        bare.env("LD_PRELOAD", environment.shared_library("next_getaddrinfo"));
        let bare = see(&mut bare);
        assert_eq!(bare, Seen::new(42, "runs\nname.test any\n", ""), "{environment}, bare");
        for wrong in WRONG {
            let setting = wrong.setting(directory);
            let seen = see(&mut command(environment, std::slice::from_ref(&setting), &ACTIONS));
            let wanted = Seen::new(42, &bare.stdout, wrong.line(directory, false));
            assert_eq!(seen, wanted, "{environment}, {setting:?}");
        }
    }
}

#[test]
fn under_strict_a_wrong_setting_ends_the_program_with_status_78_before_it_runs() {
    let directory = &directory("strict");
    for environment in &Environment::all() {
        for wrong in WRONG.iter().filter(|wrong| wrong.variable != "STRICT" && wrong.is_fatal()) {
            let setting = wrong.setting(directory);
            let settings = [setting.clone(), ("STRICT", "1".to_owned())];
            let seen = see(&mut command(environment, &settings, &ACTIONS));
            let wanted = Seen::new(EXIT_CONFIG, "", wrong.line(directory, true));
            assert_eq!(seen, wanted, "{environment}, {setting:?}");
        }
    }
}

#[test]
fn under_strict_right_settings_are_silent_and_the_program_runs() {
    let directory = directory("right");
    let hosts = directory.join("hosts");
    fs::write(&hosts, "# ours\n*.example, !a.example\n").unwrap();
    let (hosts, log) = (hosts.to_str().unwrap(), directory.join("log"));
    let longest = format!("!*.{}", [&*"a".repeat(62); 4].join(".") + ".a.");
    for environment in &Environment::all() {
        for (name, value) in [
            ("", "on"),
            ("", "ON"),
            ("", ""),
            ("IPV4_ONLY", ""),
            ("IPV4_ONLY", "a.b,*.c .d\t!e\n*"),
            ("IPV4_ONLY", longest.as_str()),
            ("IPV4_ONLY_FILE", hosts),
            ("KEEPALIVE", "on"),
            ("KEEPALIVE", "off"),
            ("KEEPALIVE", "idle=1,interval=1,count=1"),
            ("KEEPALIVE", "count=127, interval=32767, idle=32767"),
            ("LOG", "off"),
            ("LOG", "Warn,egress_shim::keepalive=error"),
            ("LOG_FILE", log.to_str().unwrap()),
        ] {
            let seen = see(&mut command(environment, &[(name, value), ("STRICT", "1")], &ACTIONS));
            let wanted = Seen::new(42, "runs\nname.test any\n", "");
            let listed = Seen::new(42, "runs\nname.test IPv4\n", "");
            let wanted = if value.ends_with('*') { listed } else { wanted };
            assert_eq!(seen, wanted, "{environment}, {name} {value:?}");
        }
    }
}

#[test]
fn several_wrong_settings_are_all_told() {
    let directory = &directory("several");
    let mut rows: Vec<&Wrong> = Vec::new();
    for wrong in WRONG {
        if rows.iter().all(|row| row.variable != wrong.variable) {
            rows.push(wrong);
        }
    }
    for environment in &Environment::all() {
        for strict in [false, true] {
            let rows = rows.iter().filter(|wrong| !strict || wrong.variable != "STRICT");
            let mut settings: Vec<_> = rows.clone().map(|wrong| wrong.setting(directory)).collect();
            settings.extend(strict.then(|| ("STRICT", "1".to_owned())));
            let seen = see(&mut command(environment, &settings, &ACTIONS));
            let mut lines: Vec<_> = seen.stderr.split_inclusive('\n').collect();
            let mut wanted: Vec<_> = rows.map(|wrong| wrong.line(directory, strict)).collect();
            lines.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(lines, wanted, "{environment}, strict {strict}");
            let ends = (seen.status, seen.stdout.as_str());
            let wanted = if strict { (EXIT_CONFIG, "") } else { (42, "runs\nname.test any\n") };
            assert_eq!(ends, (Some(wanted.0), wanted.1), "{environment}, strict {strict}");
        }
    }
}

#[test]
fn of_many_wrong_patterns_ten_are_told_and_the_others_counted() {
    for environment in &Environment::all() {
        let seen = see(&mut command(environment, &[("IPV4_ONLY", "a..b ".repeat(12))], &ACTIONS));
        let lines: Vec<_> = seen.stderr.lines().collect();
        assert_eq!(lines.len(), 11, "{environment}: lines of {}", seen.stderr);
        let wanted = r#"egress-shim: EGRESS_SHIM_IPV4_ONLY: "...": so many more are wrong: 2; they are ignored"#;
        assert_eq!(lines[10], wanted, "{environment}");
        assert_eq!(seen.status, Some(42), "{environment}");
    }
}

/// Looks names up and says which are asked for IPv4 alone.
fn listed(command: &mut Command, names: &str) -> (String, String) {
    for name in names.split(' ') {
        command.args(["look", name]);
    }
    let seen = see(command);
    assert_eq!(seen.status, Some(0), "{command:?}: {}", seen.stderr);
    let ipv4: Vec<_> = seen.stdout.lines().filter_map(|line| line.strip_suffix(" IPv4")).collect();
    let others = seen.stdout.lines().filter(|line| line.ends_with(" any")).count();
    assert_eq!(ipv4.len() + others, names.split(' ').count(), "answers: {}", seen.stdout);
    (ipv4.join(" "), seen.stderr)
}

#[test]
fn one_wrong_pattern_does_not_lose_the_others() {
    let directory = directory("patterns");
    let file = directory.join("hosts");
    fs::write(&file, "e.test 1.2.3.4\n-*\n!x.b.test # f.test\n*.g.test").unwrap();
    for environment in &Environment::all() {
        let settings = [
            ("IPV4_ONLY", "a.test,192.0.2.1 *.b.test a..b,!.c.b.test d.test:80 d.test"),
            ("IPV4_ONLY_FILE", file.to_str().unwrap()),
        ];
        let wanted = "a.test y.b.test d.test e.test z.g.test";
        let names = "b.test x.b.test c.b.test z.c.b.test f.test g.test";
        let mut command = command(environment, &settings, &[]);
        let (seen, said) = listed(&mut command, &format!("{wanted} {names}"));
        assert_eq!(seen, wanted, "{environment}");
        assert_eq!(said.lines().count(), 5, "{environment}, wrong patterns told:\n{said}");
    }
}

#[test]
fn keepalive_timings_are_those_of_the_setting_and_a_wrong_part_loses_no_other() {
    let table = [
        ("", "idle=60,interval=60,count=5\n"),
        ("on", "idle=60,interval=60,count=5\n"),
        ("off", "off\n"),
        ("idle=7", "idle=7,interval=60,count=5\n"),
        ("interval=7", "idle=60,interval=7,count=5\n"),
        ("count=7", "idle=60,interval=60,count=7\n"),
        ("idle=32767,interval=32767,count=127", "idle=32767,interval=32767,count=127\n"),
        ("idle=1,interval=1,count=1", "idle=1,interval=1,count=1\n"),
        ("idle=7,interval=0,count=8", "idle=7,interval=60,count=8\n"),
        ("wrong,count=8", "idle=60,interval=60,count=8\n"),
    ];
    for environment in &Environment::all() {
        for (value, wanted) in table {
            let seen = see(&mut command(environment, &[("KEEPALIVE", value)], &["connect"]));
            assert_eq!(seen.stdout, wanted, "{environment}, {value:?}: {}", seen.stderr);
        }
    }
}

#[test]
fn off_is_silent_and_does_nothing_whatever_the_other_settings_are() {
    let directory = &directory("off");
    for environment in &Environment::all() {
        let mut settings: Vec<_> = WRONG
            .iter()
            .filter(|wrong| !wrong.variable.is_empty())
            .map(|wrong| wrong.setting(directory))
            .collect();
        settings.extend([("STRICT", "1".to_owned()), ("LOG_FILE", "log".to_owned())]);
        settings.extend([("LOG", "trace".to_owned()), ("IPV4_ONLY", "* a..b".to_owned())]);
        for off in ["off", "OFF"] {
            settings.push(("", off.to_owned()));
            let mut command = command(environment, &settings, &["connect", "look", "a.test"]);
            let seen = silent(command.current_dir(directory));
            assert_eq!(seen, "off\na.test any\n", "{environment}, {off:?}");
            assert!(!directory.join("log").exists(), "{environment}: no log file is made");
        }
    }
}

#[test]
fn an_empty_value_is_as_good_as_none() {
    let names = ["", "IPV4_ONLY", "IPV4_ONLY_FILE", "KEEPALIVE", "LOG", "LOG_FILE", "STRICT"];
    for environment in &Environment::all() {
        for value in ["", " ", "\t\n"] {
            let settings = names.map(|name| (name, value));
            let mut command = command(environment, &settings, &["connect", "look", "a.test"]);
            let wanted = "idle=60,interval=60,count=5\na.test any\n";
            assert_eq!(silent(&mut command), wanted, "{environment}, all {value:?}");
        }
    }
}

#[test]
fn of_two_entries_the_first_counts() {
    for environment in &Environment::all() {
        let entries = [
            "EGRESS_SHIM_KEEPALIVE=idle=1",
            &format!("LD_PRELOAD={}", preload(environment)),
            "EGRESS_SHIM_KEEPALIVE=off",
            "EGRESS_SHIM_IPV4_ONLY=a.test",
            "EGRESS_SHIM_KEEPALIVE=wrong",
            "EGRESS_SHIM_IPV4_ONLY=b.test",
        ];
        let mut command = environment.bare(environment.program("settings"));
        command
            .arg("run")
            .args(entries)
            .args(["--", "connect", "look", "a.test", "look", "b.test"]);
        let wanted = "idle=1,interval=60,count=5\na.test IPv4\nb.test any\n";
        assert_eq!(silent(&mut command), wanted, "{environment}");
    }
}

#[test]
fn of_two_entries_the_first_counts_also_when_it_is_empty() {
    for environment in &Environment::all() {
        let entries = [
            &*format!("LD_PRELOAD={}", preload(environment)),
            "EGRESS_SHIM=",
            "EGRESS_SHIM_KEEPALIVE=",
            "EGRESS_SHIM=off",
            "EGRESS_SHIM_KEEPALIVE=idle=1",
        ];
        let mut command = environment.bare(environment.program("settings"));
        command.arg("run").args(entries).args(["--", "connect"]);
        assert_eq!(silent(&mut command), "idle=60,interval=60,count=5\n", "{environment}");
    }
}

#[test]
fn an_environment_without_any_entry_or_with_broken_ones_is_no_harm() {
    for environment in &Environment::all() {
        let preload = format!("LD_PRELOAD={}", preload(environment));
        for broken in ["", "=", "=EGRESS_SHIM=off", "EGRESS_SHIM", "EGRESS_SHIM_KEEPALIVE"] {
            let mut command = environment.bare(environment.program("settings"));
            command.args(["run", broken, &preload, "--", "connect"]);
            let wanted = "idle=60,interval=60,count=5\n";
            assert_eq!(silent(&mut command), wanted, "{environment}, entry {broken:?}");
        }
    }
}

/// Standard error of a run that ends as the program wants, as lines. Whatever was in the settings,
/// nothing but printable ASCII may reach the terminal.
fn printable_lines(command: &mut Command) -> Vec<String> {
    let output = run(command);
    assert_eq!(output.status.code(), Some(42), "{command:?}");
    let raw: Vec<_> =
        output.stderr.iter().filter(|byte| !matches!(byte, b' '..=b'~' | b'\n')).collect();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(raw.is_empty(), "{} raw bytes after {command:?}: {text:?}", raw.len());
    text.lines().map(str::to_owned).collect()
}

const VARIABLES: [&str; 8] = [
    "EGRESS_SHIM",
    "EGRESS_SHIM_IPV4_ONLY",
    "EGRESS_SHIM_IPV4_ONLY_FILE",
    "EGRESS_SHIM_KEEPALIVE",
    "EGRESS_SHIM_LOG",
    "EGRESS_SHIM_LOG_FILE",
    "EGRESS_SHIM_STRICT",
    "EGRESS_SHIM_NO_SUCH",
];

#[test]
fn control_characters_and_invalid_utf8_never_reach_the_terminal_raw() {
    let all: Vec<u8> = (1..=u8::MAX).collect();
    let values: [&[u8]; 4] =
        [b"\x1b[31mred\x1b[0m\x07\x9b1m", b"\xff\xfe\xc3", b"a\rb\x08\x7f", &all];
    let directory = directory("control");
    for environment in &Environment::all() {
        for value in values {
            for variable in VARIABLES {
                // A log file is made where that is possible.
                let path = if variable.ends_with("_FILE") { "/missing/" } else { "" };
                let mut command = command(environment, NO_SETTINGS, &ACTIONS);
                command.env(variable, OsStr::from_bytes(&[path.as_bytes(), value].concat()));
                let lines = printable_lines(&mut command);
                let start = format!("egress-shim: {variable}: \"");
                let all = lines.iter().all(|line| line.starts_with(&start));
                let what = value.escape_ascii();
                assert!(all && !lines.is_empty(), "{environment}, {variable}={what}: {lines:?}");
            }
            // A name of a variable, a path and the text of a file.
            let name: Vec<u8> = value.iter().copied().filter(|byte| *byte != b'=').collect();
            let path: Vec<u8> = value.iter().copied().filter(|byte| *byte != b'/').collect();
            let path = directory.join(OsStr::from_bytes(&path));
            fs::write(&path, [b"1.1.1.1 ", value].concat()).unwrap();
            let mut command = command(environment, NO_SETTINGS, &ACTIONS);
            command.env(OsStr::from_bytes(&[b"EGRESS_SHIM_", &*name].concat()), "x");
            command.env("EGRESS_SHIM_IPV4_ONLY_FILE", &path);
            let lines = printable_lines(&mut command);
            assert!(lines.len() >= 3, "{environment}: a variable and two patterns in {lines:?}");
        }
    }
}

#[test]
fn names_that_a_program_looks_up_are_logged_in_printable_characters() {
    for environment in &Environment::all() {
        for name in ["\u{1b}[31mred\u{7}\n", "none.\u{1b}]0;title\u{7}\r\n", "\u{e4}.test"] {
            let settings = [("LOG", "trace"), ("IPV4_ONLY", "*")];
            let lines = printable_lines(&mut command(
                environment,
                &settings,
                &["look", name, "exit", "42"],
            ));
            // Loaded, listed, and for the second no address.
            let wanted = if name.starts_with("none") { 3 } else { 2 };
            assert_eq!(lines.len(), wanted, "{environment}, lines for {name:?}: {lines:?}");
        }
    }
}

#[test]
fn a_wrong_log_filter_is_told_by_the_library_and_by_nobody_else() {
    for environment in &Environment::all() {
        for value in
            ["egress_shim::a/b/c", "egress_shim::\u{1b}[31m/b/c", "egress_shim::keepalve=info"]
        {
            let lines = printable_lines(&mut command(environment, &[("LOG", value)], &ACTIONS));
            let [line] = &lines[..] else {
                panic!("{environment}, {value:?}: one line, {lines:?}")
            };
            assert!(line.starts_with("egress-shim: EGRESS_SHIM_LOG: "), "{environment}: {line}");
        }
    }
}

#[test]
fn a_very_long_value_is_told_in_one_line_that_still_says_everything() {
    let long = "x".repeat(100_000);
    for environment in &Environment::all() {
        for variable in VARIABLES {
            let mut command = command(environment, NO_SETTINGS, &ACTIONS);
            let lines = printable_lines(command.env(variable, &long));
            let [line] = &lines[..] else {
                panic!("{environment}, {variable}: one line, {lines:?}")
            };
            let what = format!("{environment}, {variable}: {line}");
            assert!(line.len() < LONGEST_LINE, "at most {LONGEST_LINE} bytes, not {}", line.len());
            assert!(line.starts_with(&format!("egress-shim: {variable}: \"")), "{what}");
            assert!(line.contains("xxx...\": "), "the value is cut: {what}");
            let ends = ["is used", "is ignored", "it lists no host"];
            assert!(ends.iter().any(|end| line.ends_with(end)), "{what}");
        }
    }
}

#[test]
fn a_very_long_name_is_told_in_one_line_that_still_says_everything() {
    let directory = directory("long-name").join(["d"; 4].map(|d| d.repeat(240)).join("/"));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("hosts");
    fs::write(&file, "a..b").unwrap();
    for environment in &Environment::all() {
        let name = format!("EGRESS_SHIM_{}", "X".repeat(3_000));
        for (name, value) in [(&*name, "x"), ("EGRESS_SHIM_IPV4_ONLY_FILE", file.to_str().unwrap())]
        {
            let mut command = command(environment, NO_SETTINGS, &ACTIONS);
            let lines = printable_lines(command.env(name, value));
            let [line] = &lines[..] else { panic!("{environment}: one line, {lines:?}") };
            assert!(line.len() < LONGEST_LINE, "at most {LONGEST_LINE} bytes, not {}", line.len());
            assert!(line.ends_with(" ignored"), "{environment}: {line}");
        }
    }
}

#[test]
fn paths_need_not_be_utf8() {
    let directory = directory("bytes");
    let hosts = directory.join(OsStr::from_bytes(b"ho\xffsts"));
    let log = directory.join(OsStr::from_bytes(b"\xc3log \x01"));
    fs::write(&hosts, "a.test").unwrap();
    for environment in &Environment::all() {
        let mut command = command(environment, &[("LOG", "info")], &[]);
        command.env("EGRESS_SHIM_IPV4_ONLY_FILE", &hosts).env("EGRESS_SHIM_LOG_FILE", &log);
        let seen = listed(&mut command, "a.test b.test");
        assert_eq!(seen, ("a.test".to_owned(), String::new()), "{environment}");
        let lines = fs::read_to_string(&log).expect("the log file is there");
        assert_eq!(lines.lines().count(), 1, "{environment}: {lines}");
        fs::remove_file(&log).unwrap();
    }
}

/// An allowlist file, what is said of it, and what it lists of `NAMES`.
struct Listing {
    what: &'static str,
    text: Vec<u8>,
    complaints: usize,
    listed: &'static str,
}

const NAMES: &str = "a.test b.test c.test";

/// So many names, each with this end.
fn hosts(count: usize, end: &str) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = write!(text, "host-{number}{end}");
    }
    text
}

#[test]
fn an_allowlist_file_may_be_written_in_any_way_and_gives_what_is_right_in_it() {
    let listing = |what, text: &[u8], complaints, listed| Listing {
        what,
        text: text.to_owned(),
        complaints,
        listed,
    };
    let many = hosts(100_000, ".test,");
    let noise: Vec<u8> =
        (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let utf16: Vec<u8> = "a.test\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let table = [
        listing("empty", b"", 0, ""),
        listing("blank", b" \n\t\r\n,,\n", 0, ""),
        listing("comments", b"# a.test\n#b.test\n  # c.test", 0, ""),
        listing("no line end", b"a.test\nb.test", 0, "a.test b.test"),
        listing("CRLF", b"a.test\r\n# b.test\r\nc.test # d\r\n", 0, "a.test c.test"),
        listing("a huge line of names", &[many.as_bytes(), b"b.test"].concat(), 0, "b.test"),
        listing("a huge name", &["x".repeat(1 << 20).as_bytes(), b" b.test"].concat(), 1, "b.test"),
        listing("a huge comment", &[b"#", many.as_bytes(), b"\nb.test"].concat(), 0, "b.test"),
        listing("NUL", b"a.test\n\0b.test\nc\0.test\n", 2, "a.test"),
        listing("noise", &noise, 11, ""),
        listing("noise, then a name", &[&*noise, b"\nc.test"].concat(), 11, "c.test"),
        listing("UTF-16", &utf16, 3, ""),
    ];
    let file = directory("files").join("hosts");
    for environment in &Environment::all() {
        for Listing { what, text, complaints, listed: wanted } in &table {
            fs::write(&file, text).unwrap();
            let settings = [("IPV4_ONLY_FILE", file.to_str().unwrap())];
            let (seen, said) = listed(&mut command(environment, &settings, &[]), NAMES);
            assert_eq!(seen, *wanted, "{environment}, {what}: {said}");
            assert_eq!(said.lines().count(), *complaints, "{environment}, {what}: {said}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_an_allowlist_file() {
    let file = directory("bom").join("hosts");
    fs::write(&file, "\u{feff}a.test\r\nb.test\r\n").unwrap();
    for environment in &Environment::all() {
        let settings = [("IPV4_ONLY_FILE", file.to_str().unwrap())];
        let (seen, said) = listed(&mut command(environment, &settings, &[]), NAMES);
        assert_eq!((seen.as_str(), said.as_str()), ("a.test b.test", ""), "{environment}");
    }
}

#[test]
fn an_allowlist_file_that_is_far_too_large_does_not_take_the_memory_of_the_program() {
    let file = directory("sparse").join("hosts");
    File::create(&file).and_then(|file| file.set_len(160 << 20)).unwrap();
    for environment in &Environment::all() {
        let settings = [("IPV4_ONLY", "a.test"), ("IPV4_ONLY_FILE", file.to_str().unwrap())];
        let mut command = command(environment, &settings, &["look", "a.test", "exit", "42"]);
        let limit = || {
            let limit = libc::rlimit { rlim_cur: 256 << 20, rlim_max: 256 << 20 };
            // SAFETY: setrlimit(2) with a local.
            match unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure makes one system call after the fork.
        unsafe { command.pre_exec(limit) };
        let seen = see(&mut command);
        let ends = (seen.status, seen.stdout.as_str(), seen.stderr.lines().count());
        assert_eq!(ends, (Some(42), "a.test IPv4\n", 1), "{environment}: {}", seen.stderr);
    }
}

/// Makes root heed the permissions of files: of its capabilities the program loses those that pass
/// over them. For anybody else this changes nothing.
fn heeding_permissions(command: &mut Command) -> &mut Command {
    let drop = || {
        for capability in [/* CAP_DAC_OVERRIDE */ 1, /* CAP_DAC_READ_SEARCH */ 2] {
            // SAFETY: prctl(2) with numbers. It fails for a user who has no capabilities.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls after the fork.
    unsafe { command.pre_exec(drop) }
}

#[test]
fn files_that_may_not_be_opened_are_told_and_the_program_runs() {
    let directory = directory("permission");
    let file = directory.join("secret");
    fs::write(&file, "b.test").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let path = file.to_str().unwrap();
    for environment in &Environment::all() {
        for (variable, right, instead) in [
            ("IPV4_ONLY_FILE", "it cannot be read as a file of host patterns", "it lists no host"),
            ("LOG_FILE", "it cannot be appended to", "standard error is used"),
        ] {
            let reason = "Permission denied (os error 13)";
            let said =
                format!("egress-shim: EGRESS_SHIM_{variable}: \"{path}\": {right}: {reason}");
            let wanted = Seen::new(42, "runs\nname.test any\n", format!("{said}; {instead}\n"));
            let mut lenient = command(environment, &[(variable, path)], &ACTIONS);
            assert_eq!(see(heeding_permissions(&mut lenient)), wanted, "{environment}");
            let wanted = Seen::new(
                EXIT_CONFIG,
                "",
                format!("{said}; the program is not run (EGRESS_SHIM_STRICT=1)\n"),
            );
            let mut strict = command(environment, &[(variable, path), ("STRICT", "1")], &ACTIONS);
            assert_eq!(see(heeding_permissions(&mut strict)), wanted, "{environment}, strict");
        }
    }
}

#[test]
fn relative_paths_are_those_of_the_directory_in_which_the_program_started() {
    let directory = directory("relative");
    fs::write(directory.join("hosts"), "a.test").unwrap();
    fs::write(directory.join("directory/hosts"), "b.test").unwrap();
    for environment in &Environment::all() {
        for file in ["hosts", "./hosts", "directory/../hosts"] {
            let settings = [("IPV4_ONLY_FILE", file), ("LOG_FILE", "log"), ("LOG", "debug")];
            let mut command = command(environment, &settings, &["cd", "directory"]);
            let (seen, said) = listed(command.current_dir(&directory), NAMES);
            assert_eq!((&*seen, &*said), ("a.test", ""), "{environment}, {file}");
            let log = fs::read_to_string(directory.join("log")).expect("the log file is there");
            assert_eq!(log.lines().count(), 2, "{environment}, {file}: loaded, and a.test: {log}");
            fs::remove_file(directory.join("log")).unwrap();
        }
    }
}

/// How often a file is opened while `f` runs, by the kernel's word (inotify(7)).
fn times_opened(file: &Path, f: impl FnOnce()) -> usize {
    let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
    // SAFETY: inotify(7) with a C string; the descriptor is owned at once.
    let mut events = unsafe {
        let descriptor = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
        assert!(descriptor >= 0, "inotify_init1: {}", io::Error::last_os_error());
        let events = File::from_raw_fd(descriptor);
        let watch = libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_OPEN);
        assert!(watch >= 0, "inotify_add_watch: {}", io::Error::last_os_error());
        events
    };
    f();
    let mut buffer = [0; 4096];
    // Events of one kind that follow each other are joined by the kernel, so one is "at least one".
    match io::Read::read(&mut events, &mut buffer) {
        Ok(length) => length / size_of::<libc::inotify_event>(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("reading inotify events: {error}"),
    }
}

#[test]
fn the_allowlist_file_is_opened_only_by_a_process_that_resolves_a_name_or_is_strict() {
    let file = directory("opened").join("hosts");
    fs::write(&file, "a.test").unwrap();
    let path = file.to_str().unwrap();
    for environment in &Environment::all() {
        let table: [(&str, &[&str], bool); 4] = [
            ("0", &["say", "runs", "connect"], false),
            ("0", &["look", "b.test"], true),
            ("1", &["say", "runs"], true),
            ("1", &["look", "b.test"], true),
        ];
        for (strict, actions, wanted) in table {
            let settings = [("IPV4_ONLY_FILE", path), ("STRICT", strict)];
            let mut command = command(environment, &settings, actions);
            let opened = times_opened(&file, || drop(silent(&mut command)));
            assert_eq!(opened > 0, wanted, "{environment}, strict {strict}, {actions:?}: opened");
        }
    }
}

#[test]
fn a_strict_program_that_has_started_is_never_ended_by_its_allowlist_file() {
    let file = directory("vanishing").join("hosts");
    let path = file.to_str().unwrap();
    for environment in &Environment::all() {
        fs::write(&file, "a.test").unwrap();
        let settings = [("IPV4_ONLY_FILE", path), ("STRICT", "1")];
        let actions = ["remove", path, "look", "a.test", "look", "b.test", "exit", "42"];
        let seen = see(&mut command(environment, &settings, &actions));
        assert_eq!(seen, Seen::new(42, "a.test IPv4\nb.test any\n", ""), "{environment}");
    }
}

#[test]
fn a_hundred_thousand_patterns_cost_a_lookup_hardly_more_than_three() {
    const LOOKUPS: &str = "20000";
    let directory = directory("many");
    let measure = |environment: &Environment, count: usize| -> [u64; 2] {
        let file = directory.join(count.to_string());
        fs::write(&file, hosts(count, ".region.example.com\n")).unwrap();
        let settings = [("IPV4_ONLY_FILE", file.to_str().unwrap())];
        let name = "host-2.region.example.com";
        // The least of five: the machine is busy with other tests.
        let runs = (0..5).map(|_| {
            let actions = ["look", name, "exit", "0"];
            let seen = silent(&mut command(environment, &settings, &actions));
            assert_eq!(seen, format!("{name} IPv4\n"), "{environment}");
            let seen = silent(&mut command(environment, &settings, &["time", name, LOOKUPS]));
            let numbers = seen.trim().split_once(' ').expect("two numbers");
            [numbers.0, numbers.1].map(|number| number.parse().expect("nanoseconds"))
        });
        runs.reduce(|[a, b]: [u64; 2], [c, d]| [a.min(c), b.min(d)]).expect("there were runs")
    };
    for environment in &Environment::all() {
        let few = measure(environment, 3);
        let many = measure(environment, 100_000);
        eprintln!(
            "{environment}: first lookup {} us with 3 patterns, {} us with 100,000; then {} ns and {} ns",
            few[0] / 1_000,
            many[0] / 1_000,
            few[1],
            many[1]
        );
        // The contract says 50 ms and "about as much". Bounds for the slowest machine: a list that
        // is searched one by one takes a hundred times as long.
        assert!(many[0] < 500_000_000, "{environment}: {} ns for the first lookup", many[0]);
        assert!(many[1] < 5 * few[1] + 5_000, "{environment}: {} ns, {} ns", many[1], few[1]);
    }
}

/// The lines of a log: level and first word.
fn levels(log: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let (date, rest) = line.split_at_checked(20).unwrap_or_default();
        let is_date = date.ends_with('Z') && date.starts_with("20");
        let rest = rest.strip_prefix(" egress-shim[").and_then(|rest| rest.split_once("] "));
        let (process, message) = rest.unwrap_or_default();
        let (level, text) = message.split_once(": ").unwrap_or_default();
        let is_process = process.parse::<u32>().is_ok();
        assert!(is_date && is_process, "DATE egress-shim[PID] LEVEL: TEXT, not {line:?}");
        format!("{level} {}", text.split(' ').next().unwrap_or_default())
    };
    log.lines().map(of_line).collect()
}

/// What a program does of which each level has something to say.
const LOGGED: [&str; 7] =
    ["look", "none.example", "look", "a.example", "look", "b.test", "connect"];

#[test]
fn the_log_says_what_its_filter_lets_pass() {
    let loaded = "INFO egress-shim";
    let (found, gone) = ("DEBUG getaddrinfo:", "WARN getaddrinfo:");
    let (other, socket) = ("TRACE getaddrinfo:", "DEBUG connect:");
    let table: &[(&str, &[&str])] = &[
        ("", &[gone]),
        ("off", &[]),
        ("error", &[]),
        ("warn", &[gone]),
        ("info", &[loaded, gone]),
        ("DEBUG", &[loaded, found, gone, found, socket]),
        ("trace", &[loaded, found, gone, found, other, socket]),
        ("egress_shim=info", &[loaded, gone]),
        ("egress_shim::keepalive=trace", &[socket]),
        ("egress_shim::keepalive=info", &[]),
        ("egress_shim::resolver", &[found, gone, found, other]),
        ("egress_shim::resolver=debug", &[found, gone, found]),
        ("egress_shim::config=info", &[loaded]),
        ("warn, egress_shim::keepalive=debug", &[gone, socket]),
        ("trace,egress_shim::resolver=off", &[loaded, socket]),
    ];
    for environment in &Environment::all() {
        for (filter, wanted) in table {
            let settings = [("LOG", *filter), ("IPV4_ONLY", "*.example")];
            let seen = see(&mut command(environment, &settings, &LOGGED));
            assert_eq!(seen.status, Some(0), "{environment}");
            assert_eq!(
                levels(&seen.stderr),
                *wanted,
                "{environment}, {filter:?}:\n{}",
                seen.stderr
            );
        }
    }
}

#[test]
fn the_log_file_is_appended_to_and_takes_no_complaint_from_standard_error() {
    let log = directory("append").join("log");
    let path = log.to_str().unwrap();
    for environment in &Environment::all() {
        fs::write(&log, "before\n").unwrap();
        for _ in 0..2 {
            let settings = [("LOG_FILE", path), ("LOG", "info"), ("KEEPALIVE", "idle=0")];
            let seen = see(&mut command(environment, &settings, &ACTIONS));
            let said = "EGRESS_SHIM_KEEPALIVE: \"idle=0\": idle is a whole number";
            assert!(seen.stderr.contains(said), "{environment}: {said} in {}", seen.stderr);
            assert_eq!(seen.stderr.lines().count(), 1, "{environment}: {}", seen.stderr);
        }
        let text = fs::read_to_string(&log).unwrap();
        let lines = text.strip_prefix("before\n").expect("what was in the file is still there");
        assert_eq!(levels(lines), ["INFO egress-shim"; 2], "{environment}: {text}");
    }
}

#[test]
fn a_log_file_is_made_for_its_owner_to_write_and_as_the_umask_says() {
    let log = directory("mode").join("log");
    for environment in &Environment::all() {
        for (umask, wanted) in [(0o022, 0o644), (0, 0o644), (0o077, 0o600)] {
            let _ = fs::remove_file(&log);
            let mut command = command(environment, &[("LOG_FILE", log.to_str().unwrap())], &[]);
            let set = move || {
                // SAFETY: umask(2) takes a number.
                unsafe { libc::umask(umask) };
                Ok(())
            };
            // SAFETY: the closure makes one system call after the fork.
            unsafe { command.pre_exec(set) };
            silent(&mut command);
            let mode = fs::metadata(&log).expect("the log file is made").permissions().mode();
            assert_eq!(mode & 0o7777, wanted, "{environment}: mode with umask {umask:03o}");
        }
    }
}

#[test]
fn the_library_exports_connect_and_getaddrinfo_and_nothing_else() {
    for environment in &Environment::all() {
        let mut nm = Command::new("nm");
        nm.args(["-D", "--defined-only", "--format=posix"]).arg(&environment.library);
        let symbols = programs::output(&mut nm);
        let mut symbols: Vec<_> =
            symbols.lines().filter_map(|line| line.split(' ').next()).collect();
        symbols.sort_unstable();
        assert_eq!(symbols, ["connect", "getaddrinfo"], "{environment}");
    }
}
