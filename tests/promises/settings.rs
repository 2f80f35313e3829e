//! Settings in real processes: right ones take effect, wrong ones are reported in one line each and
//! harm nobody, and strict ones end a program before it begins. What the parser makes of a value is
//! in the unit tests of src/; here is a row for each way that a setting can be wrong.
//!
//! `tests/programs/next_getaddrinfo.c` stands behind the library in place of libc's lookup and
//! says which family it was asked for. So what a setting does to a lookup needs no network.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::environment::preload;
use crate::harness::run::{before, limit, output, run, stderr, stdout};
use crate::harness::scratch::text;
use crate::harness::{
    Environment, Scratch, expect, in_each_architecture, in_each_environment, log,
};

/// The exit status under `EGRESS_SHIM_STRICT` (`EX_CONFIG`).
const EXIT_CONFIG: i32 = 78;
/// The longest line that the library writes.
const LONGEST_LINE: usize = 1024;
/// A list that is larger than what is read at load, so that the first lookup reads it.
const LARGE: usize = 65537;

/// An invalid setting. `DIR` stands for a directory that holds a `directory`, a `fifo` and an allowlist
/// `wrong-line`.
struct Wrong {
    /// What follows `EGRESS_SHIM_` in the variable's name; empty for `EGRESS_SHIM`.
    variable: &'static str,
    value: &'static str,
    /// The part that its line shows between quotation marks.
    part: &'static str,
    /// What else the line says: where the part is, what is right.
    words: &'static [&'static str],
    /// What is used instead where it is not fatal.
    instead: &'static str,
}

const fn wrong(
    variable: &'static str,
    value: &'static str,
    part: &'static str,
    words: &'static [&'static str],
    instead: &'static str,
) -> Wrong {
    Wrong { variable, value, part, words, instead }
}

/// Each variable, and each way that one can be wrong that the parser does not see by itself.
#[rustfmt::skip]
const WRONG: &[Wrong] = &[
    wrong("", "maybe", "maybe", &["on or off"], "on"),
    wrong("STRICT", "maybe", "maybe", &["1 or 0"], "off"),
    wrong("IPV4_ONLY", "api..com", "api..com", &["empty label"], "ignoring"),
    wrong("IPV4_ONLY_FILE", "DIR/missing", "DIR/missing", &["No such file"], "ignoring this list"),
    wrong("IPV4_ONLY_FILE", "DIR/directory", "DIR/directory", &["regular file"], "ignoring this list"),
    wrong("IPV4_ONLY_FILE", "DIR/fifo", "DIR/fifo", &["regular file"], "ignoring this list"),
    wrong("IPV4_ONLY_FILE", "DIR/wrong-line", "a..b", &["DIR/wrong-line line 3", "empty label"], "ignoring"),
    wrong("KEEPALIVE", "count=2,idle=+1", "idle=+1", &["idle", "1 to 32767"], "60"),
    wrong("LOG", "verbose", "verbose", &["warn", "trace"], "ignoring"),
    wrong("LOG_FILE", "DIR/missing/log", "DIR/missing/log", &["No such file"], "standard error"),
    wrong("LOG_FILE", "DIR/fifo", "DIR/fifo", &["No such device"], "standard error"),
    wrong("IPV4ONLY", "api.com", "api.com", &["did you mean EGRESS_SHIM_IPV4_ONLY?"], "ignoring it"),
];

impl Wrong {
    fn setting(&self, directory: &Scratch) -> (&'static str, String) {
        (self.variable, self.value.replace("DIR", text(directory)))
    }

    /// Whether it ends a strict program. A variable that only looks like a setting never does: an image may have one
    /// for another purpose.
    fn is_fatal(&self) -> bool {
        self.variable != "IPV4ONLY"
    }

    /// Whether a line reports it: the variable, the part, the words and what follows from it.
    fn is_reported_by(&self, line: &str, directory: &Scratch, strict: bool) -> bool {
        let separator = if self.variable.is_empty() { "" } else { "_" };
        let start = format!("egress-shim: EGRESS_SHIM{separator}{}: ", self.variable);
        let part = format!("\"{}\": ", self.part);
        let instead = if strict && self.is_fatal() { "EGRESS_SHIM_STRICT=1" } else { self.instead };
        let end = line.rsplit("; ").next().unwrap_or_default();
        line.starts_with(&start)
            && end.contains(instead)
            && self
                .words
                .iter()
                .chain([&&*part])
                .all(|word| line.contains(&word.replace("DIR", text(directory))))
    }
}

/// A directory with what the table above needs.
fn directory() -> Scratch {
    let directory = Scratch::new();
    directory.file("wrong-line", "# one\nb.example\na..b c.example\n");
    fs::create_dir(directory.join("directory")).expect("target can be written to");
    let fifo = CString::new(text(&directory.join("fifo"))).expect("a path has no NUL");
    // SAFETY: mkfifo(3) with a C string.
    expect("mkfifo", unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    directory
}

/// Patterns, after so many comments that the file is a large one.
pub fn large(patterns: &str) -> String {
    format!("#{}\n{patterns}", "x".repeat(LARGE))
}

/// tests/programs/settings.c with these settings, the library, and the getaddrinfo behind it.
pub fn command<T: AsRef<str>>(
    environment: &Environment,
    settings: &[(&str, T)],
    actions: &[&str],
) -> Command {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let mut command = environment.shimmed(environment.program("settings"), &settings);
    let next = environment.shared_library("next_getaddrinfo");
    preload(&mut command, &[&environment.library, &next]);
    command.args(actions);
    command
}

/// What a run of a program shows: its exit status, standard output, standard error.
type Seen = (Option<i32>, String, String);

fn see(command: &mut Command) -> Seen {
    let output = run(command);
    (output.status.code(), stdout(&output), stderr(&output))
}

/// Says that it runs, makes the library look into its allowlist, and fails in its own way.
const ACTIONS: [&str; 6] = ["say", "runs", "look", "name.test", "exit", "42"];
/// What it then shows, but for standard error.
const RAN: (Option<i32>, &str) = (Some(42), "runs\nname.test any\n");
const NOT_RUN: (Option<i32>, &str) = (Some(EXIT_CONFIG), "");
const NO_SETTINGS: &[(&str, &str)] = &[];

#[test]
fn an_invalid_setting_is_one_line_and_changes_nothing_of_the_program() {
    let directory = &directory();
    in_each_environment(|environment| {
        let mut bare = command(environment, NO_SETTINGS, &ACTIONS);
        preload(&mut bare, &[&environment.shared_library("next_getaddrinfo")]);
        let (status, out, err) = see(&mut bare);
        expect("bare", ((status, &*out), &*err), (RAN, ""));
        for wrong in WRONG {
            let setting = wrong.setting(directory);
            let (status, out, err) =
                see(&mut command(environment, std::slice::from_ref(&setting), &ACTIONS));
            expect(format!("{setting:?}"), (status, &*out), RAN);
            let right = err.lines().count() == 1 && wrong.is_reported_by(&err, directory, false);
            assert!(
                right,
                "{setting:?}: its line, with {:?} and {:?}: {err}",
                wrong.words, wrong.instead
            );
        }
    });
}

#[test]
fn under_strict_an_invalid_setting_ends_the_program_before_it_runs() {
    let directory = &directory();
    in_each_architecture(|environment| {
        for wrong in WRONG.iter().filter(|wrong| wrong.variable != "STRICT") {
            let setting = wrong.setting(directory);
            let settings = [setting.clone(), ("STRICT", "1".to_owned())];
            let (status, out, err) = see(&mut command(environment, &settings, &ACTIONS));
            let wanted = if wrong.is_fatal() { NOT_RUN } else { RAN };
            expect(format!("{setting:?}, strict"), (status, &*out), wanted);
            let right = err.lines().count() == 1 && wrong.is_reported_by(&err, directory, true);
            assert!(right, "{setting:?}, strict: its line: {err}");
        }
        // What is only questionable comes behind.
        let settings = [("KEEPALIVE", "idle=+1,user-timeout=5"), ("STRICT", "1")];
        let (status, out, err) = see(&mut command(environment, &settings, &ACTIONS));
        expect(
            format!("strict: {err}"),
            (status, &*out, err.lines().count()),
            (NOT_RUN.0, NOT_RUN.1, 2),
        );
        // By itself it ends no program.
        let settings = [("KEEPALIVE", "user-timeout=5"), ("STRICT", "1")];
        let (status, out, err) = see(&mut command(environment, &settings, &ACTIONS));
        expect(format!("strict: {err}"), (status, &*out, err.lines().count()), (RAN.0, RAN.1, 1));
    });
}

#[test]
fn under_strict_right_settings_are_silent_and_the_program_runs() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "# ours\n*.example, !a.example\n");
    let settings = [
        ("", "on"),
        ("IPV4_ONLY", "a.b,*.c .d\t!e\n*"),
        ("IPV4_ONLY_FILE", text(&hosts)),
        ("KEEPALIVE", "count=127, interval=32767, idle=32767"),
        ("LOG", "Warn,egress_shim::keepalive=error"),
        ("LOG_FILE", &scratch.text("log")),
        ("STRICT", "1"),
    ];
    in_each_environment(|environment| {
        let seen = see(&mut command(environment, &settings, &ACTIONS));
        let wanted = (Some(42), "runs\nname.test IPv4\n".to_owned(), String::new());
        expect("the run", seen, wanted);
    });
}

#[test]
fn invalid_settings_are_all_reported_up_to_thirty() {
    in_each_environment(|environment| {
        for (wrong, lines, words) in [
            (30, 30, ""),
            (31, 31, "egress-shim: 1 more setting is invalid"),
            (32, 31, "egress-shim: 2 more settings are invalid"),
            (40, 31, "egress-shim: 10 more settings are invalid"),
        ] {
            let names: Vec<_> = (1..wrong).map(|number| format!("NO_SUCH_{number}")).collect();
            let mut settings: Vec<_> = names.iter().map(|name| (&**name, "x")).collect();
            settings.push(("KEEPALIVE", "never"));
            let (status, out, err) = see(&mut command(environment, &settings, &ACTIONS));
            expect(format!("{wrong} invalid settings"), (status, &*out), RAN);
            expect(format!("the lines of {wrong}: {err}"), err.lines().count(), lines);
            let last = err.lines().next_back().unwrap_or_default();
            let counted = if last.contains(" more ") { last } else { "" };
            expect(format!("how the others are counted, {wrong}"), counted, words);
        }
    });
}

/// Kubernetes puts such variables into each container beside a Service named `egress-shim-...`.
#[test]
fn variables_that_kubernetes_makes_of_a_service_draw_no_word() {
    let settings = [
        ("GATEWAY_SERVICE_HOST", "192.0.2.1"),
        ("GATEWAY_SERVICE_PORT", "443"),
        ("GATEWAY_PORT", "tcp://192.0.2.1:443"),
        ("GATEWAY_PORT_443_TCP_ADDR", "192.0.2.1"),
        ("SERVICE_HOST", "192.0.2.1"),
        ("PORT", "tcp://192.0.2.1:443"),
        ("STRICT", "1"),
    ];
    in_each_environment(|environment| {
        let (status, out, err) = see(&mut command(environment, &settings, &ACTIONS));
        expect("the run", ((status, &*out), &*err), (RAN, ""));
    });
}

/// Looks names up and says which are asked only for IPv4, and what was said meanwhile.
fn listed(command: &mut Command, names: &str) -> (String, String) {
    for name in names.split(' ') {
        command.args(["look", name]);
    }
    let (status, out, err) = see(command);
    expect(format!("{command:?}: {err}"), status, Some(0));
    let ipv4: Vec<_> = out.lines().filter_map(|line| line.strip_suffix(" IPv4")).collect();
    let others = out.lines().filter(|line| line.ends_with(" any")).count();
    expect(format!("answers: {out}"), ipv4.len() + others, names.split(' ').count());
    (ipv4.join(" "), err)
}

#[test]
fn one_wrong_pattern_does_not_lose_the_others() {
    let scratch = Scratch::new();
    let file = scratch.file("hosts", "e.test 1.2.3.4\n-*\n!x.b.test # f.test\n*.g.test");
    let settings = [
        ("IPV4_ONLY", "a.test,192.0.2.1 *.b.test a..b,!.c.b.test d.test:80 d.test"),
        ("IPV4_ONLY_FILE", text(&file)),
    ];
    in_each_environment(|environment| {
        let wanted = "a.test y.b.test d.test e.test z.g.test";
        let names = "b.test x.b.test c.b.test z.c.b.test f.test g.test";
        let mut command = command(environment, &settings, &[]);
        let (seen, said) = listed(&mut command, &format!("{wanted} {names}"));
        expect("the listed names", seen, wanted);
        expect(format!("wrong patterns in\n{said}"), said.lines().count(), 5);
    });
}

/// As for getenv(3), the first of two entries counts, also when it is empty, and what has no `=`
/// does not count.
#[test]
fn entries_of_the_environment_count_as_for_getenv() {
    const DEFAULTS: &str = "idle=60,interval=60,count=5\n";
    let table: [(&[&str], &str); 7] = [
        (
            &["EGRESS_SHIM_KEEPALIVE=idle=1", "EGRESS_SHIM_KEEPALIVE=off"],
            "idle=1,interval=60,count=5\n",
        ),
        (
            &[
                "EGRESS_SHIM=",
                "EGRESS_SHIM=off",
                "EGRESS_SHIM_KEEPALIVE=",
                "EGRESS_SHIM_KEEPALIVE=off",
            ],
            DEFAULTS,
        ),
        (&["EGRESS_SHIM=off", "EGRESS_SHIM="], "off\n"),
        (&[""], DEFAULTS),
        (&["=", "=EGRESS_SHIM=off"], DEFAULTS),
        (&["EGRESS_SHIM", "EGRESS_SHIM_KEEPALIVE"], DEFAULTS),
        (&["XEGRESS_SHIM=off", "EGRESS_SHIM2=off", "egress_shim=off"], DEFAULTS),
    ];
    in_each_environment(|environment| {
        for (entries, wanted) in table {
            let preload = format!("LD_PRELOAD={}", environment.library.display());
            let mut command = environment.bare(environment.program("settings"));
            command.arg("run").args(entries).args([&preload, "--", "connect"]);
            expect(format!("{entries:?}"), output(&mut command), wanted);
        }
    });
}

// --- What the terminal gets ----------------------------------------------------------------------

/// Standard error of a run that ends as the program wants, as lines. Whatever was in the settings,
/// nothing but printable ASCII may reach the terminal, in lines of a length that it can show.
fn printable_lines(command: &mut Command) -> Vec<String> {
    let output = run(command);
    expect(format!("{command:?}"), output.status.code(), Some(42));
    let text = stderr(&output);
    let raw = output.stderr.iter().filter(|byte| !matches!(byte, b' '..=b'~' | b'\n')).count();
    expect(format!("raw bytes in {text:?}"), raw, 0);
    let longest = text.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < LONGEST_LINE, "the longest line has {longest} bytes: {text}");
    text.lines().map(str::to_owned).collect()
}

const VARIABLES: [&str; 6] = [
    "EGRESS_SHIM",
    "EGRESS_SHIM_IPV4_ONLY",
    "EGRESS_SHIM_KEEPALIVE",
    "EGRESS_SHIM_LOG",
    "EGRESS_SHIM_STRICT",
    "EGRESS_SHIM_NO_SUCH",
];

#[test]
fn control_characters_and_invalid_utf8_never_reach_the_terminal_raw() {
    let all: Vec<u8> = (1..=u8::MAX).collect();
    let without = |byte| all.iter().copied().filter(|other| *other != byte).collect::<Vec<_>>();
    let scratch = Scratch::new();
    let hosts = scratch.join(OsStr::from_bytes(&without(b'/')));
    fs::write(&hosts, [b"1.1.1.1 ", &*all].concat()).expect("target can be written to");
    in_each_environment(|environment| {
        let mut command = command(environment, NO_SETTINGS, &ACTIONS);
        command.envs(VARIABLES.map(|name| (name, OsStr::from_bytes(&all))));
        command.env(OsStr::from_bytes(&[b"EGRESS_SHIM_", &*without(b'=')].concat()), "x");
        command.env("EGRESS_SHIM_IPV4_ONLY_FILE", &hosts);
        command.env("EGRESS_SHIM_LOG_FILE", OsStr::from_bytes(&[b"/missing/", &*all].concat()));
        let lines = printable_lines(&mut command);
        let names = VARIABLES.iter().chain(&["EGRESS_SHIM_IPV4_ONLY_FILE", "EGRESS_SHIM_LOG_FILE"]);
        for name in names {
            let start = format!("egress-shim: {name}: ");
            assert!(lines.iter().any(|line| line.starts_with(&start)), "{name} in {lines:?}");
        }
    });
}

#[test]
fn very_long_values_names_and_paths_are_reported_in_whole_lines() {
    let long = "x".repeat(100_000);
    let scratch = Scratch::new();
    let deep = ["d"; 4].map(|d| d.repeat(240)).join("/");
    let hosts = scratch.file(&format!("{deep}/hosts"), "a..b");
    let name = format!("EGRESS_SHIM_{}", "X".repeat(3_000));
    in_each_environment(|environment| {
        let mut command = command(environment, NO_SETTINGS, &ACTIONS);
        command.envs(VARIABLES.map(|name| (name, &long))).env("EGRESS_SHIM_LOG_FILE", &long);
        command.env("EGRESS_SHIM_IPV4_ONLY_FILE", &hosts).env(&name, "x");
        let lines = printable_lines(&mut command);
        expect(format!("lines: {lines:?}"), lines.len(), VARIABLES.len() + 3);
        for line in lines {
            let end = line.rsplit("; ").next().unwrap_or_default();
            let says_what_follows = ["using", "ignor"].iter().any(|word| end.contains(word));
            assert!(says_what_follows && line.contains("..."), "it is cut in the middle: {line}");
        }
    });
}

#[test]
fn names_that_a_program_looks_up_are_logged_in_printable_characters() {
    let names = ["\u{1b}[31mred\u{7}\n", "six.\u{1b}]0;title\u{7}\r\n", "\u{e4}.test"];
    in_each_environment(|environment| {
        let settings = [("LOG", "trace"), ("IPV4_ONLY", "*")];
        let mut command = command(environment, &settings, &[]);
        command.args(names.iter().flat_map(|name| ["look", name])).args(["exit", "42"]);
        let lines = printable_lines(&mut command);
        for word in ["red", "title", ".test"] {
            assert!(lines.iter().any(|line| line.contains(word)), "{word} in {lines:?}");
        }
    });
}

#[test]
fn a_wrong_log_filter_is_reported_by_the_library_and_by_nobody_else() {
    in_each_environment(|environment| {
        let value = "egress_shim::a/b/c,egress_shim::\u{1b}[31m/b/c,egress_shim::keepalve=info";
        let lines = printable_lines(&mut command(environment, &[("LOG", value)], &ACTIONS));
        let ours = |line: &String| line.starts_with("egress-shim: EGRESS_SHIM_LOG: ");
        assert!(lines.len() == 3 && lines.iter().all(ours), "three lines of ours: {lines:?}");
    });
}

// --- Files ---------------------------------------------------------------------------------------

#[test]
fn paths_need_not_be_utf8() {
    let scratch = Scratch::new();
    let hosts = scratch.join(OsStr::from_bytes(b"ho\xffsts"));
    let log = scratch.join(OsStr::from_bytes(b"\xc3log \x01"));
    fs::write(&hosts, "a.test").expect("target can be written to");
    in_each_environment(|environment| {
        let mut command = command(environment, &[("LOG", "info")], &[]);
        command.env("EGRESS_SHIM_IPV4_ONLY_FILE", &hosts).env("EGRESS_SHIM_LOG_FILE", &log);
        expect(
            "listed",
            listed(&mut command, "a.test b.test"),
            ("a.test".to_owned(), String::new()),
        );
        log::expect_lines(&log, 1);
        fs::remove_file(&log).expect("the log file is there");
    });
}

#[test]
fn an_allowlist_file_in_any_layout_gives_its_valid_patterns() {
    let noise: Vec<u8> =
        (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let many = "host.example,".repeat(100_000);
    // What it is, its text, the complaints about it, and what it lists of three names.
    let table: [(&str, Vec<u8>, usize, &str); 4] = [
        ("Windows'", b"\xef\xbb\xbfa.test\r\n# b.test\r\nc.test # d".to_vec(), 0, "a.test c.test"),
        ("a huge line", [many.as_bytes(), b"b.test"].concat(), 0, "b.test"),
        ("NUL", b"a.test\n\0b.test\nc\0.test\n".to_vec(), 2, "a.test"),
        ("noise, then a name", [&*noise, b"\nc.test"].concat(), 11, "c.test"),
    ];
    let scratch = Scratch::new();
    in_each_environment(|environment| {
        for (what, text_of_file, complaints, names) in &table {
            let file = scratch.file("hosts", text_of_file);
            let mut command = command(environment, &[("IPV4_ONLY_FILE", text(&file))], &[]);
            let (seen, said) = listed(&mut command, "a.test b.test c.test");
            expect(
                format!("{what}: {said}"),
                (&*seen, said.lines().count()),
                (*names, *complaints),
            );
        }
    });
}

#[test]
fn an_allowlist_file_has_16_mib_at_most_and_a_larger_one_takes_no_memory() {
    const MOST: usize = 16 << 20;
    let scratch = Scratch::new();
    let [full, larger] = [0, 1].map(|more| {
        let name = format!("{more} more");
        scratch.file(&name, format!("#{}\nb.test", "x".repeat(MOST - 8 + more)))
    });
    let sparse = scratch.join("sparse");
    File::create(&sparse).and_then(|file| file.set_len(160 << 20)).expect("target has room");
    in_each_environment(|environment| {
        for (file, names, complaints) in
            [(&full, "a.test b.test", 0), (&larger, "a.test", 1), (&sparse, "a.test", 1)]
        {
            let settings = [("IPV4_ONLY", "a.test"), ("IPV4_ONLY_FILE", text(file))];
            let mut command = command(environment, &settings, &[]);
            limit(&mut command, libc::RLIMIT_AS, 256 << 20);
            let (seen, said) = listed(&mut command, "a.test b.test");
            let seen = (&*seen, said.lines().count(), said.is_empty() || said.contains("16 MiB"));
            expect(format!("{}: {said}", file.display()), seen, (names, complaints, true));
        }
    });
}

#[test]
fn relative_paths_are_those_of_the_directory_in_which_the_program_started() {
    let scratch = Scratch::new();
    scratch.file("hosts", large("a.test"));
    scratch.file("directory/hosts", large("b.test"));
    in_each_environment(|environment| {
        let settings =
            [("IPV4_ONLY_FILE", "directory/../hosts"), ("LOG_FILE", "log"), ("LOG", "debug")];
        let mut command = command(environment, &settings, &["cd", "directory"]);
        let (seen, said) = listed(command.current_dir(&*scratch), "a.test b.test");
        expect("listed, said", (&*seen, &*said), ("a.test", ""));
        log::expect_lines(&scratch.join("log"), 1);
        fs::remove_file(scratch.join("log")).expect("it is there");
    });
}

/// Whether a file is read while `f` runs, by the kernel's word (inotify(7)).
fn is_read(file: &Path, f: impl FnOnce()) -> bool {
    let path = CString::new(text(file)).expect("a path has no NUL");
    // SAFETY: inotify(7) with a C string; the descriptor is owned at once.
    let mut events = unsafe {
        let descriptor = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
        assert!(descriptor >= 0, "inotify_init1: {}", io::Error::last_os_error());
        let events = File::from_raw_fd(descriptor);
        let watch = libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_ACCESS);
        assert!(watch >= 0, "inotify_add_watch: {}", io::Error::last_os_error());
        events
    };
    f();
    match events.read(&mut [0; 4096]) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("reading inotify events: {error}"),
    }
}

#[test]
fn a_large_file_is_read_only_by_a_process_that_resolves_or_is_strict() {
    let scratch = Scratch::new();
    let file = scratch.file("hosts", large("a.test"));
    in_each_environment(|environment| {
        let table: [(&str, &[&str], bool); 3] = [
            ("0", &["say", "runs", "connect"], false),
            ("0", &["look", "b.test"], true),
            ("1", &["say", "runs"], true),
        ];
        for (strict, actions, wanted) in table {
            let settings = [("IPV4_ONLY_FILE", text(&file)), ("STRICT", strict)];
            let mut command = command(environment, &settings, actions);
            let read = is_read(&file, || drop(output(&mut command)));
            expect(format!("strict {strict}, {actions:?}: it is read"), read, wanted);
        }
    });
}

/// A daemon that drops its rights or changes its root after load has a small list, and a strict one
/// any.
#[test]
fn a_small_list_is_read_at_load_and_a_large_one_at_the_first_lookup() {
    let scratch = Scratch::new();
    in_each_environment(|environment| {
        for (strict, list, ipv4, complaints) in [
            ("0", "a.test".to_owned(), "a.test IPv4\nb.test any\n", 0),
            ("0", large("a.test"), "a.test any\nb.test any\n", 1),
            ("1", large("a.test"), "a.test IPv4\nb.test any\n", 0),
        ] {
            let file = scratch.file("hosts", &list);
            // Not the warning that the file has gone.
            let settings = [("IPV4_ONLY_FILE", text(&file)), ("STRICT", strict), ("LOG", "error")];
            let actions = ["remove", text(&file), "look", "a.test", "look", "b.test", "exit", "42"];
            let (status, out, err) = see(&mut command(environment, &settings, &actions));
            let seen = (status, &*out, err.lines().count());
            let what = format!("{} bytes, strict {strict}: {err}", list.len());
            expect(what, seen, (Some(42), ipv4, complaints));
        }
    });
}

// --- The log -------------------------------------------------------------------------------------

#[test]
fn the_log_says_what_its_filter_lets_pass() {
    const ACTIONS: [&str; 5] = ["look", "six.example", "look", "a.example", "connect"];
    let (loaded, gone) = ("INFO egress-shim", "WARN getaddrinfo:");
    let (found, socket) = ("DEBUG getaddrinfo:", "DEBUG connect:");
    let table: &[(&str, &[&str])] = &[
        ("", &[gone]),
        ("off", &[]),
        ("error", &[]),
        ("info", &[loaded, gone]),
        ("DEBUG", &[loaded, found, gone, found, socket]),
        ("egress_shim::keepalive=trace", &[socket]),
        ("egress_shim::resolver", &[found, gone, found]),
        ("warn, egress_shim::keepalive=debug", &[gone, socket]),
        ("trace,egress_shim::resolver=off", &[loaded, socket]),
    ];
    in_each_environment(|environment| {
        for (filter, wanted) in table {
            let settings = [("LOG", *filter), ("IPV4_ONLY", "*.example")];
            let (status, _, err) = see(&mut command(environment, &settings, &ACTIONS));
            let kinds: Vec<_> = log::lines(&err).iter().map(log::Line::kind).collect();
            expect(
                format!("{filter:?}: {err}"),
                (status, kinds),
                (Some(0), wanted.iter().map(|kind| (*kind).to_owned()).collect()),
            );
        }
    });
}

#[test]
fn the_log_file_is_appended_to_and_takes_no_complaint_from_standard_error() {
    let scratch = Scratch::new();
    in_each_environment(|environment| {
        let file = scratch.file("log", "before\n");
        let settings = [
            ("LOG_FILE", text(&file)),
            ("LOG", "info"),
            ("KEEPALIVE", "idle=0"),
            ("IPV4_ONLY", "name.test"),
        ];
        for _ in 0..2 {
            let (_, _, err) = see(&mut command(environment, &settings, &ACTIONS));
            let right = err.lines().count() == 1 && err.contains("EGRESS_SHIM_KEEPALIVE");
            assert!(right, "one line about the invalid setting: {err}");
        }
        let text = fs::read_to_string(&file).expect("the log file is there");
        let lines = text.strip_prefix("before\n").expect("what was in the file is still there");
        let kinds: Vec<_> = log::lines(lines).iter().map(log::Line::kind).collect();
        expect(text.clone(), kinds, ["INFO egress-shim"; 2].map(str::to_owned).to_vec());
    });
}

#[test]
fn a_log_file_is_made_for_its_owner_to_write_and_as_the_umask_says() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    in_each_environment(|environment| {
        for (umask, wanted) in [(0, 0o644), (0o077, 0o600)] {
            let _ = fs::remove_file(&log);
            let mut command = command(environment, &[("LOG_FILE", text(&log))], &["connect"]);
            before(&mut command, move || {
                // SAFETY: umask(2) takes a number.
                unsafe { libc::umask(umask) };
                Ok(())
            });
            output(&mut command);
            let mode = fs::metadata(&log).expect("the log file is made").permissions().mode();
            expect(format!("mode with umask {umask:03o}"), mode & 0o7777, wanted);
        }
    });
}

/// The list is read at the first lookup, when descriptor 2 may be the program's data.
#[test]
fn a_complaint_goes_nowhere_when_descriptor_2_has_become_another_file() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", large("a..b a.test"));
    let data = scratch.join("data");
    in_each_environment(|environment| {
        let settings = [("IPV4_ONLY_FILE", text(&hosts))];
        let mut control = command(environment, &settings, &["look", "a.test"]);
        let (_, _, err) = see(&mut control);
        expect(format!("lines of the control: {err}"), err.lines().count(), 1);
        let actions = ["stderr", text(&data), "look", "a.test"];
        let seen = see(&mut command(environment, &settings, &actions));
        expect("the run", seen, (Some(0), "a.test IPv4\n".to_owned(), String::new()));
        let seen = fs::read_to_string(&data).expect("the program has made it");
        expect("what is in the program's data", seen, "");
    });
}
