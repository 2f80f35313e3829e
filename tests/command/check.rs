//! `--check`: whether a host is reached, and what to do if it is not.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{COMMAND, LIBRARY, Public, as_nobody, bare, fails, output, run, shim, shim_at, text};
use crate::harness::Scratch;
use crate::harness::lab::{Host, LAB, Lab, SILENT};
use crate::harness::run::Waiting;

/// Runs `--check`: the status, the lines of the report, the last of them.
#[track_caller]
fn check(command: &mut Command) -> (Option<i32>, String, String) {
    let start = Instant::now();
    let ran = run(command);
    assert!(start.elapsed() < Duration::from_secs(10), "{command:?} took {:?}", start.elapsed());
    assert_eq!(ran.err, "", "the report is in one piece: {ran:?}");
    let last = ran.out.lines().last().unwrap_or_default().to_owned();
    (ran.status.code(), ran.out, last)
}

/// Checks in a lab: the status, the last line, and words of the lines above.
#[track_caller]
fn expect_check(lab: &Lab, arguments: &[&str], status: i32, last: &str, words: &[&str]) {
    let mut command = shim(arguments);
    let (code, report, line) = check(lab.on(Host::Client, &mut command));
    assert_eq!(line, last, "{report}");
    assert_eq!(code, Some(status), "{report}");
    for word in words {
        assert!(report.contains(word), "{word:?} in {report}");
    }
}

const BLACK_HOLE: &str = "IPv6        2001:db8:2::2 port 80: no answer in 3 s: a black hole\n";
const WITHOUT: &str = "without     2001:db8:2::2 198.51.100.2\n";

#[test]
fn a_black_hole_is_named_with_its_cure_and_the_cure_works() {
    expect_check(
        &LAB,
        &["--check", "dual.example.com:80"],
        1,
        "IPv6 is a black hole: add --ipv4-only dual.example.com",
        &[
            &format!("library     {}\n", *LIBRARY),
            "loaded      yes, by /usr/bin/true\n",
            "listed      no\n",
            WITHOUT,
            "with        2001:db8:2::2 198.51.100.2\n",
            BLACK_HOLE,
            "IPv4        198.51.100.2 port 80: connected in ",
            "keepalive   idle=60,interval=60,count=5 (read from a connection)\n",
        ],
    );
    expect_check(
        &LAB,
        &[
            "--ipv4-only",
            ".example.com",
            "--keepalive",
            "idle=45",
            "--check",
            "dual.example.com:80",
        ],
        0,
        "dual.example.com is reached over IPv4",
        &[
            "settings    EGRESS_SHIM_IPV4_ONLY=.example.com\n",
            "listed      yes, by .example.com\n",
            WITHOUT,
            "with        198.51.100.2\n",
            "keepalive   idle=45,interval=60,count=5 (read from a connection)\n",
        ],
    );
}

#[test]
fn the_pattern_that_exempts_a_host_is_named() {
    expect_check(
        &LAB,
        &["--ipv4-only", ".example.com,!dual.example.com", "--check", "dual.example.com:80"],
        1,
        "IPv6 is a black hole: take !dual.example.com out of the list, and add --ipv4-only dual.example.com",
        &["listed      no, exempt by !dual.example.com\n"],
    );
}

#[test]
fn a_host_with_ipv4_only_is_reached_and_one_with_ipv6_only_is_not() {
    expect_check(
        &LAB,
        &["--check", "v4only.example.com:80"],
        0,
        "v4only.example.com is reached over IPv4",
        &["IPv4        198.51.100.2 port 80: connected in "],
    );
    expect_check(
        &LAB,
        &["--ipv4-only", "*", "--check", "v6only.example.com:80"],
        1,
        "v6only.example.com has no IPv4 address, and IPv6 does not reach it from here",
        &["without     2001:db8:2::2\n", "with        does not resolve\n", BLACK_HOLE],
    );
}

#[test]
fn both_families_are_tried_and_the_one_that_works_is_named() {
    let lab = Lab::start(&[]);
    lab.write("hosts", "127.0.0.1 both.example.com\n::1 both.example.com\n");
    let listen = |arguments: &str| {
        let script = format!(
            "import socket; s = socket.create_server({arguments}); print('ready', flush=True); input()"
        );
        Waiting::start(lab.on(Host::Client, bare("/usr/bin/python3").args(["-Ic", &script])))
    };
    let both = listen("('::', 80), family=socket.AF_INET6, dualstack_ipv6=True");
    let check = ["--check", "both.example.com:80"];
    let lines =
        ["IPv6        ::1 port 80: connected in ", "IPv4        127.0.0.1 port 80: connected in "];
    expect_check(&lab, &check, 0, "both.example.com is reached over IPv6", &lines);
    let cured = [&["--ipv4-only", "both.example.com"][..], &check].concat();
    expect_check(&lab, &cured, 0, "both.example.com is reached over IPv4", &lines);
    both.finish();

    let ipv6 = listen("('::1', 80), family=socket.AF_INET6");
    let last = "IPv4 does not reach both.example.com here, but IPv6 does: take it off the list, or add \
                --ipv4-only '!both.example.com'";
    expect_check(&lab, &cured, 1, last, &["127.0.0.1 port 80: refused\n"]);
    ipv6.finish();
}

#[test]
fn a_program_that_the_settings_leave_out_is_said() {
    expect_check(
        &LAB,
        &["--ipv4-only", "*", "--program", "other", "--check", "dual.example.com:80", "--", "true"],
        1,
        "IPv6 is a black hole: add --program true",
        &["programs    EGRESS_SHIM_PROGRAMS leaves this program out"],
    );
    // An exclusion wins over every other name.
    expect_check(
        &LAB,
        &["--ipv4-only", "*", "--program", "!true", "--check", "dual.example.com:80", "--", "true"],
        1,
        "IPv6 is a black hole: take !NAME of this program out of EGRESS_SHIM_PROGRAMS",
        &[],
    );
    let scratch = Public::new();
    let script = scratch.write("service", "#!/bin/sh\n");
    expect_check(
        &LAB,
        &[
            "--ipv4-only",
            "*",
            "--program",
            "service",
            "--check",
            "dual.example.com:80",
            text(&script),
        ],
        0,
        "dual.example.com is reached over IPv4",
        &["with        198.51.100.2\n"],
    );
}

#[test]
fn refused_and_unreachable_are_not_taken_for_a_black_hole() {
    expect_check(
        &LAB,
        &["--check", "v4only.example.com:81"],
        1,
        "v4only.example.com refuses connections to port 81: is the port right?",
        &["IPv4        198.51.100.2 port 81: refused\n"],
    );
    let mut alone = bare("unshare");
    alone.args(["--net", &COMMAND, "--check", "192.0.2.9"]);
    let (code, report, last) = check(&mut alone);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(last, "192.0.2.9 cannot be reached: there is no route to it from here");
    assert!(report.contains("unreachable: Network is unreachable"), "{report}");
}

#[test]
fn a_missing_name_and_a_silent_resolver_are_told_apart() {
    expect_check(
        &LAB,
        &["--check", "nowhere.example.com"],
        1,
        "nowhere.example.com does not exist, says the resolver: is the name right?",
        &["without     does not resolve\n", "with        does not resolve\n"],
    );
    expect_check(
        &LAB,
        &["--check", "addressless.example.com"],
        1,
        "addressless.example.com has no address, says the resolver: is the name right?",
        &[],
    );
    expect_check(
        &SILENT,
        &["--check", "dual.example.com"],
        1,
        "the resolver does not answer, so whether dual.example.com exists is not known: see /etc/resolv.conf",
        &["without     no answer in 6 s\n"],
    );
}

#[test]
fn an_address_and_a_url_have_their_own_words() {
    expect_check(
        &LAB,
        &["--ipv4-only", "*", "--check", "198.51.100.2:80"],
        0,
        "198.51.100.2 is reached over IPv4",
        &["listed      no: an address is never looked up, so no pattern matches it\n"],
    );
    // IPv4 on the wire.
    expect_check(
        &LAB,
        &["--check", "[::ffff:198.51.100.2]:80"],
        0,
        "::ffff:198.51.100.2 is reached over IPv4",
        &["IPv4        198.51.100.2 port 80: connected in "],
    );
    expect_check(
        &LAB,
        &["--check", "[2001:db8:2::2]:80"],
        1,
        "2001:db8:2::2 does not answer on port 80: if IPv6 is a black hole here, use the host's name, and list that",
        &[],
    );
    for (url, words) in [
        ("https://api.openai.com/v1", "is a URL; give its host: --check api.openai.com"),
        ("http://me@a.example?x", "is a URL; give its host: --check a.example:80"),
        ("a.example/v1", "HOST must be letters"),
        ("b\u{fc}cher.example", "(other scripts as xn--...)"),
        ("a.example:0", "PORT must be a number from 1 to 65535"),
        ("a.example:http", "PORT must be a number from 1 to 65535"),
        (":80", "HOST must be"),
    ] {
        fails(&mut shim(&["--check", url]), 125, &[words]);
    }
}

#[test]
fn a_wrong_setting_is_78_unless_lenient() {
    let wrong = ["--keepalive", "idle=nonsense", "--check", "127.0.0.1"];
    let (code, report, last) = check(&mut shim(&wrong));
    assert_eq!(
        (code, last.as_str()),
        (Some(78), "a setting is wrong, see above: correct it, or COMMAND is not run")
    );
    assert!(report.contains("--keepalive idle=nonsense: idle must be"), "{report}");

    let (code, report, last) = check(shim(&["--lenient"]).args(wrong));
    assert!(code != Some(78) && report.contains("--keepalive idle=nonsense: "), "{report}");
    assert!(report.contains("; using 60\n"), "{report}");
    assert!(last.starts_with("127.0.0.1 "), "{report}");
}

#[test]
fn the_switch_is_named_where_it_is_off() {
    let (code, _, last) = check(shim(&["--check", "localhost"]).env("EGRESS_SHIM", "off"));
    assert_eq!(code, Some(1));
    assert_eq!(last, "EGRESS_SHIM=off: the library does nothing; unset it");
}

/// A program that leaves a trace when it runs.
const TRACE: &str = "#include <fcntl.h>\nint main(int n, char **v) { (void)n;\n\
                     return open(\"/tmp/egress-shim-ran\", O_CREAT | O_WRONLY, 0600) < 0 || !v; }\n";

#[test]
fn the_proof_is_in_the_command_itself_which_never_runs() {
    let scratch = Public::new();
    let trace = scratch.path("ran");
    let text_of = TRACE.replace("/tmp/egress-shim-ran", text(&trace));
    let program = scratch.compile_text("program", &text_of, &[]);
    let arguments = ["--check", "v4only.example.com:80", "--", text(&program)];
    let loaded = format!("loaded      yes, by {}\n", text(&program));
    let reached = "v4only.example.com is reached over IPv4";
    expect_check(&LAB, &arguments, 0, reached, &[&loaded]);
    let link = scratch.path("link.so");
    symlink(&*LIBRARY, &link).unwrap();
    let by_link = [&["--library", text(&link)][..], &arguments].concat();
    let library = format!("library     {}\n", text(&link));
    expect_check(&LAB, &by_link, 0, reached, &[&library, &loaded]);
    let script = scratch.write("script", format!("#!{}\n", text(&program)));
    let by_script = ["--check", "v4only.example.com:80", text(&script)];
    expect_check(&LAB, &by_script, 0, reached, &[&loaded]);

    // A loader that cannot load the library says so and goes on: the program is stopped all the same.
    let broken = scratch.patched(&LIBRARY, "libegress_shim.so", |bytes| bytes[16] = 1);
    let with_broken = [&["--library", text(&broken)][..], &arguments].concat();
    let mut command = shim(&with_broken);
    let (code, report, last) = check(LAB.on(Host::Client, &mut command));
    assert_eq!(code, Some(1), "{report}");
    assert!(last.contains("does not load the library"), "{report}");
    assert!(report.contains("said        ERROR: ld.so: object "), "{report}");
    assert!(!trace.exists(), "the program has run");

    output(&mut bare(&program));
    assert!(trace.exists(), "the control");
}

#[test]
fn a_static_command_is_said_and_does_not_run() {
    let scratch = Public::new();
    let trace = scratch.path("ran");
    let text_of = TRACE.replace("/tmp/egress-shim-ran", text(&trace));
    let program = scratch.compile_text("program", &text_of, &["-static"]);
    let (code, report, last) = check(&mut shim(&["--check", "localhost", "--", text(&program)]));
    assert_eq!(code, Some(1), "{report}");
    assert!(last.contains("is statically linked"), "{report}");
    assert!(last.contains("programs that it starts may load it"), "{report}");
    assert!(!trace.exists(), "the program has run");
}

#[test]
fn a_question_to_another_process_is_not_answered() {
    let mut command = bare("cat");
    command
        .arg("/dev/null")
        .env("LD_PRELOAD", &*LIBRARY)
        .env("EGRESS_SHIM_CHECK", "1 1 with 80 localhost");
    assert_eq!(output(&mut command), "");
    // What is no question is none.
    for question in ["", " ", "$$", "$$ 1", "$$ x with 80 a", "$$ 1 both 80 a", "$$ 1 with 65536 a"]
    {
        let script =
            format!("EGRESS_SHIM_CHECK=\"{question}\"; export EGRESS_SHIM_CHECK; exec echo ran");
        let mut command = bare("sh");
        command.args(["-c", &script]).env("LD_PRELOAD", &*LIBRARY);
        assert_eq!(output(&mut command), "ran\n", "{question}");
    }
    // And none is handed on.
    let mut command = shim(&["env"]);
    let seen = output(command.env("EGRESS_SHIM_CHECK", "1 1 with 80 localhost"));
    assert!(!seen.contains("EGRESS_SHIM_CHECK"), "{seen}");
}

#[test]
fn in_a_root_with_musl_and_one_program_that_is_the_proof() {
    let scratch = Public::with_musl("bin/app");
    scratch.write("etc/hosts", "127.0.0.1 here.example\n::1 here.example\n");
    std::fs::create_dir(scratch.0.join("proc")).expect("it can be made");
    let script = "mount -t proc proc $1/proc; shift; exec \"$@\"";
    let root = text(&scratch.0);
    let inside = |command: &[&str]| {
        let mut unshare = bare("unshare");
        unshare
            .args(["--mount", "--fork", "--pid", "sh", "-ec", script, "sh", root, "chroot", root]);
        unshare.args(["/egress-shim", "--ipv4-only", "here.example", "--check", "here.example:1"]);
        unshare.args(command);
        unshare
    };
    for command in [&[][..], &["--", "/bin/app"]] {
        let (code, report, last) = check(&mut inside(command));
        assert_eq!(code, Some(1), "{report}");
        assert_eq!(
            last, "here.example refuses connections to port 1: is the port right?",
            "{report}"
        );
        assert!(report.contains("loaded      yes, by /bin/app\n"), "{report}");
        assert!(report.contains("with        127.0.0.1\n"), "{report}");
    }
}

#[test]
fn an_empty_root_has_no_program_to_try() {
    let scratch = Public::new();
    scratch.copy(&*COMMAND, "egress-shim");
    scratch.copy(&*LIBRARY, "libegress_shim.so");
    let mut command = bare("/usr/sbin/chroot");
    command.arg(&scratch.0).args(["/egress-shim", "--check", "localhost"]);
    let ran = run(&mut command);
    assert_eq!(ran.status.code(), Some(125), "{ran:?}");
    assert!(ran.err.contains("--check localhost -- COMMAND"), "{ran:?}");
}

#[test]
fn in_another_pid_namespace_it_names_inspect() {
    let mut command = bare("unshare");
    command.args(["--fork", "--pid", "--mount-proc", "sh", "-c", "\"$@\"; exit $?", "sh"]);
    let (_, report, _) = check(command.args([&COMMAND, "--check", "127.0.0.1:1"]));
    assert!(report.contains("note        "), "{report}");
    assert!(report.contains("egress-shim --inspect 1\n"), "{report}");
}

#[test]
fn it_needs_no_privilege() {
    let (_scratch, installed) = Public::installed();
    let (code, report, last) =
        check(as_nobody(&mut shim_at(&installed, &["--check", "127.0.0.1:1"])));
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(last, "127.0.0.1 refuses connections to port 1: is the port right?");
}

#[test]
fn somebody_at_a_terminal_who_waits_gets_a_word() {
    let scratch = Scratch::new();
    let typescript = scratch.text("typescript");
    let mut command = bare("script");
    let line = format!("{} --check dual.example.com:80", *COMMAND);
    command.args(["--quiet", "--return", "--command", &line, &typescript]).stdout(Stdio::null());
    let ran = run(LAB.on(Host::Client, &mut command));
    let seen = std::fs::read_to_string(&typescript).expect("it is written");
    let word = "egress-shim: waiting for answers to connections, at most 3 s";
    assert!(seen.contains(word) && seen.contains("black hole: add"), "{seen:?} {ran:?}");
}
