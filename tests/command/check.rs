//! `--check`: whether a host is reached, and what to do if it is not.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{COMMAND, LIBRARY, Public, as_nobody, bare, fails, output, run, shim, shim_at, text};
use crate::harness::lab::{Host, LAB, Lab, SILENT};
use crate::harness::run::{Waiting, until, without_settings};
use crate::harness::strace::traced;
use crate::harness::{Environment, Scratch};

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
const WITHOUT: &str = "without     2001:db8:2::2 198.51.100.2 (";

#[test]
fn a_black_hole_is_named_with_its_cure_and_the_cure_works() {
    expect_check(
        &LAB,
        &["--check", "dual.example.com:80"],
        1,
        "dual.example.com: IPv6 is a black hole; add --ipv4-only dual.example.com",
        &[
            &format!("library     {}\n", *LIBRARY),
            "loaded      yes, by /usr/bin/true\n",
            "listed      no\n",
            WITHOUT,
            "with        2001:db8:2::2 198.51.100.2 (",
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
            "with        198.51.100.2 (",
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
        "dual.example.com: IPv6 is a black hole; take !dual.example.com out of the list, and add --ipv4-only dual.example.com",
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
        "v6only.example.com: has no IPv4 address, and cannot be reached over IPv6 from here",
        &["without     2001:db8:2::2 (", "with        does not resolve (", BLACK_HOLE],
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
    let last = "both.example.com: cannot be reached over IPv4 from here, but can over IPv6; take it off the list, or add \
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
        "dual.example.com: IPv6 is a black hole; add --program true",
        &["programs    EGRESS_SHIM_PROGRAMS leaves this program out"],
    );
    // An exclusion wins over every other name.
    expect_check(
        &LAB,
        &["--ipv4-only", "*", "--program", "!true", "--check", "dual.example.com:80", "--", "true"],
        1,
        "dual.example.com: IPv6 is a black hole; take !NAME of this program out of EGRESS_SHIM_PROGRAMS",
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
        &format!(
            "dual.example.com is reached over IPv4, but {} is a script, and the programs that it starts cannot be known; when \
             it runs, use: egress-shim --inspect PID",
            text(&script)
        ),
        &["with        198.51.100.2 ("],
    );
}

#[test]
fn refused_and_unreachable_are_not_taken_for_a_black_hole() {
    expect_check(
        &LAB,
        &["--check", "v4only.example.com:81"],
        1,
        "v4only.example.com: refuses connections to port 81: is the port right?",
        &["IPv4        198.51.100.2 port 81: refused\n"],
    );
    let mut alone = bare("unshare");
    alone.args(["--net", &COMMAND, "--check", "192.0.2.9"]);
    let (code, report, last) = check(&mut alone);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(last, "192.0.2.9: cannot be reached from here: Network is unreachable");
    assert!(report.contains("unreachable: Network is unreachable"), "{report}");
}

#[test]
fn a_missing_name_and_a_silent_resolver_are_told_apart() {
    expect_check(
        &LAB,
        &["--check", "nowhere.example.com"],
        1,
        "nowhere.example.com: the name does not exist: is it spelled correctly?",
        &[
            "without     does not resolve (",
            "with        does not resolve (",
            "knows no such name (NXDOMAIN), in ",
        ],
    );
    expect_check(
        &LAB,
        &["--check", "addressless.example.com"],
        1,
        "addressless.example.com: the name has no address: is it spelled correctly?",
        &[],
    );
    expect_check(
        &SILENT,
        &["--check", "dual.example.com"],
        1,
        "dual.example.com: the name server 2001:db8:2::53 did not answer within 2 s, so it is not known whether the name exists; see /etc/resolv.conf",
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
        "198.51.100.2 is reached over IPv4",
        &["IPv4        198.51.100.2 port 80: connected in "],
    );
    expect_check(
        &LAB,
        &["--check", "[2001:db8:2::2]:80"],
        1,
        "2001:db8:2::2: does not answer on port 80; if IPv6 is a black hole here, give the host's name instead, and list that",
        &[],
    );
    for (url, words) in [
        ("https://api.openai.com/v1", "is a URL; give its host: --check api.openai.com"),
        ("http://me@a.example?x", "is a URL; give its host: --check a.example:80"),
        ("a.example/v1", "HOST must be letters"),
    ] {
        fails(&mut shim(&["--check", url]), 125, &[words]);
    }
}

#[test]
fn an_invalid_setting_is_78_unless_lenient() {
    let wrong = ["--keepalive", "idle=nonsense", "--check", "127.0.0.1"];
    let (code, report, last) = check(&mut shim(&wrong));
    assert_eq!(
        (code, last.as_str()),
        (
            Some(78),
            "a setting is invalid, see above; correct it: egress-shim does not run COMMAND with an invalid setting"
        )
    );
    assert!(report.contains("--keepalive idle=nonsense: idle must be"), "{report}");

    let (code, report, last) = check(shim(&["--lenient"]).args(wrong));
    assert!(code != Some(78) && report.contains("--keepalive idle=nonsense: "), "{report}");
    assert!(report.contains("; using 60\n"), "{report}");
    assert!(last.starts_with("127.0.0.1"), "{report}");
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
    assert!(last.contains("does not load the library; egress-shim has no effect"), "{report}");
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
    let mut command = shim(&["--check", "v4only.example.com:80", "--", text(&program)]);
    let (code, report, last) = check(LAB.on(Host::Client, &mut command));
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
    // A text that is not a valid question gets no answer.
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
            last, "here.example: refuses connections to port 1: is the port right?",
            "{report}"
        );
        assert!(report.contains("loaded      yes, by /bin/app\n"), "{report}");
        assert!(report.contains("with        127.0.0.1 ("), "{report}");
    }
}

#[test]
fn in_an_image_without_a_dynamic_program_the_network_is_tried() {
    let scratch = Public::new();
    scratch.copy(&*COMMAND, "bin/egress-shim");
    scratch.copy(&*LIBRARY, "lib/libegress_shim.so");
    let hosts = "198.51.100.2 here.example\n2001:db8:2::2 here.example\n::ffff:198.51.100.2 mapped.example\n";
    scratch.write("etc/hosts", hosts);
    let check = |target: &str| {
        let mut command = bare("/usr/sbin/chroot");
        command.arg(&scratch.0).args(["/bin/egress-shim", "--check", target]);
        check(LAB.on(Host::Client, &mut command))
    };
    // An IPv4-mapped address is IPv4 on the wire.
    let (_, report, _) = check("mapped.example:80");
    let is_tried = report.contains("IPv4        198.51.100.2 port 80: connected in ");
    assert!(is_tried && !report.contains("::ffff:"), "{report}");
    let (code, report, last) = check("here.example:80");
    assert_eq!(code, Some(1), "{report}");
    let why = "there is no dynamically linked program here to try the library in";
    let pin = "put '198.51.100.2 here.example' into the program's /etc/hosts, as docker run --add-host \
               here.example:198.51.100.2 does";
    assert_eq!(last, format!("here.example: IPv6 is a black hole, and {why}; {pin}"), "{report}");
    for line in [
        "loaded      no, not by any program here\n",
        "IPv4        198.51.100.2 port 80: connected in ",
        &format!("warning     {why}; name yours: egress-shim --check here.example -- COMMAND\n"),
    ] {
        assert!(report.contains(line), "{line:?} in {report}");
    }
}

/// The one that the library makes in COMMAND, too. libc's own, with which it sorts addresses, have no port.
#[test]
fn each_connection_goes_to_the_port_in_question() {
    let scratch = Scratch::new();
    let trace = scratch.join("trace");
    let command = shim(&["--ipv4-only", ".example.com", "--check", "dual.example.com:80"]);
    let mut traced = traced(&command, "trace=connect", &trace);
    let (_, report, _) = check(LAB.on(Host::Client, without_settings(&mut traced)));
    let trace = std::fs::read_to_string(&trace).expect("strace has written its trace");
    let mut ports: Vec<_> = trace
        .lines()
        .filter(|line| line.contains("\"198.51.100.2\""))
        .filter_map(|line| line.split_once("htons(")?.1.split_once(')'))
        .map(|(port, _)| port)
        .filter(|port| *port != "0")
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, ["80", "80"], "the library's and the command's\n{report}\n{trace}");
}

/// Where no process may be traced, a harmless program is tried all the same.
#[test]
fn a_check_that_is_killed_leaves_no_process_behind() {
    let refuse = Environment::here().program("refuse");
    let error = libc::EPERM.to_string();
    let mut command = bare(&refuse);
    command.args(["ptrace", &error, &*COMMAND, "--check", "unknown.example.com"]);
    let mut child = SILENT.on(Host::Client, &mut command).spawn().expect("it starts");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let mut tried = String::new();
    until("two programs are tried", || {
        tried = std::fs::read_to_string(&children).unwrap_or_default();
        let is_ready = |id: &str| {
            let file = std::fs::read_link(format!("/proc/{id}/exe"));
            file.is_ok_and(|file| file != Path::new(&*COMMAND))
        };
        tried.split_whitespace().count() == 2 && tried.split_whitespace().all(is_ready)
    });
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let is_left = |id: &str| std::fs::read_link(format!("/proc/{id}/exe")).is_ok();
    until("none is left", || !tried.split_whitespace().any(is_left));
}

#[test]
fn where_no_program_may_be_stopped_the_network_is_tried_all_the_same() {
    let scratch = Public::new();
    let trace = scratch.path("ran");
    let program =
        scratch.compile_text("program", &TRACE.replace("/tmp/egress-shim-ran", text(&trace)), &[]);
    let refuse = Environment::here().program("refuse");
    let error = libc::EPERM.to_string();
    let unknown = format!(
        "it is not known whether {} loads the library: the program cannot be stopped before it runs here (Operation not permitted; \
         that needs ptrace(2) and /proc)",
        text(&program)
    );
    let inspect = "when it runs, use: egress-shim --inspect PID";
    let refused = |path: &str, options: &[&str]| {
        let mut command = bare(&refuse);
        command.args(["ptrace", &error, &*COMMAND]).args(options).env("PATH", path);
        command.args(["--check", "dual.example.com:80", "--", text(&program)]);
        check(LAB.on(Host::Client, &mut command))
    };
    // Another program answers for the network.
    let (code, report, last) = refused("/usr/bin", &["--ipv4-only", "*"]);
    assert_eq!((code, last), (Some(1), format!("{unknown}; {inspect}")), "{report}");
    for line in ["loaded      yes, by /usr/bin/true\n", "with        198.51.100.2 (", BLACK_HOLE] {
        assert!(report.contains(line), "{line:?} in {report}");
    }
    // If no program may run without being asked for, the command itself looks the host up.
    let (code, report, last) = refused("/no/such", &["--ipv4-only", "*"]);
    let pin = "put '198.51.100.2 dual.example.com' into the program's /etc/hosts, as docker run --add-host \
               dual.example.com:198.51.100.2 does";
    let wanted = format!("dual.example.com: IPv6 is a black hole, and {unknown}; {pin}");
    assert_eq!((code, last), (Some(1), wanted), "{report}");
    assert!(report.contains("loaded      not known\n"), "{report}");
    assert!(report.contains(&format!("warning     {unknown}; {inspect}\n")), "{report}");
    assert!(!trace.exists(), "the program has run");
}

#[test]
fn in_another_pid_namespace_it_names_inspect() {
    let mut command = bare("unshare");
    command.args(["--fork", "--pid", "--mount-proc", "sh", "-c", "\"$@\"; exit $?", "sh"]);
    let (_, report, _) = check(command.args([&COMMAND, "--check", "127.0.0.1:1"]));
    assert!(report.contains("service     PID 1 runs without the library; "), "{report}");
    assert!(report.contains("egress-shim --inspect 1\n"), "{report}");
}

#[test]
fn it_needs_no_privilege() {
    let (_scratch, installed) = Public::installed();
    let (code, report, last) =
        check(as_nobody(&mut shim_at(&installed, &["--check", "127.0.0.1:1"])));
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(last, "127.0.0.1: refuses connections to port 1: is the port right?");
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
    assert!(seen.contains(word) && seen.contains("black hole; add"), "{seen:?} {ran:?}");
}

#[test]
fn a_dead_ipv4_address_of_a_listed_host_is_a_wait_and_no_black_hole() {
    let lab = Lab::start(&[]);
    lab.write(
        "hosts",
        "198.51.100.11 half.test\n198.51.100.2 half.test\n2001:db8:2::2 half.test\n",
    );
    let drop = "nft add table ip t && nft 'add chain ip t c { type filter hook output priority 0; }' && \
                nft add rule ip t c ip daddr 198.51.100.11 drop";
    output(lab.on(Host::Client, bare("sh").args(["-ec", drop])));
    let wait =
        "half.test: reached over IPv4, but only after a wait: 198.51.100.11 does not answer; ";
    for _ in 0..3 {
        let mut command = shim(&["--ipv4-only", "half.test", "--check", "half.test:80"]);
        let (code, report, last) = check(lab.on(Host::Client, &mut command));
        assert_eq!(code, Some(1), "{report}");
        assert!(last.starts_with(wait), "{report}");
        assert!(report.contains("198.51.100.11 port 80: no answer in 3 s\n"), "{report}");
    }
}

#[test]
fn sixteen_addresses_of_a_family_are_tried_and_the_others_counted() {
    let lab = Lab::start(&[]);
    let lines = (1..=20).map(|last| format!("127.0.0.{last} many.test\n"));
    lab.write("hosts", &lines.collect::<String>());
    let mut command = shim(&["--check", "many.test:81"]);
    let (code, report, _) = check(lab.on(Host::Client, &mut command));
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report.matches(" port 81: refused\n").count(), 16, "{report}");
    assert!(report.contains("IPv4        4 more, not tried\n"), "{report}");
}

#[test]
fn several_hosts_are_checked_at_once_and_the_worst_comes_last() {
    let hosts = ["--check", "v4only.example.com:80", "--check", "dual.example.com:80"];
    let words =
        ["host        v4only.example.com port 80\n", "host        dual.example.com port 80\n"];
    let last = "dual.example.com: IPv6 is a black hole; add --ipv4-only dual.example.com";
    expect_check(&LAB, &hosts, 1, last, &words);
    let last = "v4only.example.com is reached over IPv4, dual.example.com is reached over IPv4";
    expect_check(&LAB, &[&["--ipv4-only", "*"][..], &hosts].concat(), 0, last, &words);
}

#[test]
fn the_document_has_the_same_as_the_text() {
    let read = "import json, sys\nd = json.load(sys.stdin)\nh = d['hosts'][0]\n\
        print(d['task'], d['status'], d['loaded'], d['findings'][0]['code'], d['findings'][0]['subject'])\n\
        print(d['verdict'])\n\
        print(h['host'], h['port'], h['listed'], h['rule'], h['with']['addresses'], h['keepalive']['idle'])\n\
        print([(a['address'], a['family'], a['outcome']) for a in h['attempts']])";
    let line = format!(
        "{} --keepalive idle=45 --json --check dual.example.com:80 | python3 -Ic \"$1\"",
        *COMMAND
    );
    let mut command = bare("sh");
    let seen = output(LAB.on(Host::Client, command.args(["-c", &line, "sh", read])));
    assert_eq!(
        seen,
        "check 1 True ipv6-black-hole dual.example.com\n\
         dual.example.com: IPv6 is a black hole; add --ipv4-only dual.example.com\n\
         dual.example.com 80 False None ['2001:db8:2::2', '198.51.100.2'] 45\n\
         [('2001:db8:2::2', 'IPv6', 'silent'), ('198.51.100.2', 'IPv4', 'connected')]\n"
    );
}

#[test]
fn a_name_server_that_is_not_there_is_no_missing_name() {
    let lab = Lab::start(&[]);
    let unknown = ", so it is not known whether the name exists; see /etc/resolv.conf";
    for (server, words) in [
        ("127.0.0.1", "refuses: nothing listens on its port 53"),
        // No route leads there.
        ("fec0::53", "cannot be reached: "),
    ] {
        lab.write("resolv", &format!("nameserver {server}\n"));
        let mut command = shim(&["--check", "dual.example.com:80"]);
        let (code, report, last) = check(lab.on(Host::Client, &mut command));
        assert_eq!(code, Some(1), "{report}");
        let start = format!("dual.example.com: the name server {server} ");
        assert!(last.starts_with(&start) && last.ends_with(unknown), "{report}");
        assert!(last.contains(words) || server != "127.0.0.1", "{report}");
    }
}

#[test]
fn a_static_command_behind_a_black_hole_is_told_what_helps() {
    let scratch = Public::new();
    let program = scratch.compile("program", &["-static"]);
    expect_check(
        &LAB,
        &["--ipv4-only", "*", "--check", "dual.example.com:80", "--", text(&program)],
        1,
        &format!(
            "dual.example.com: IPv6 is a black hole, and {} is statically linked, so nothing can be preloaded \
             into it; put '198.51.100.2 dual.example.com' into the program's /etc/hosts, as docker run --add-host \
             dual.example.com:198.51.100.2 does",
            text(&program)
        ),
        &["listed      yes, by *\n", BLACK_HOLE],
    );
}

#[test]
fn a_script_that_sets_ld_preload_itself_is_said() {
    let scratch = Public::new();
    let script = scratch.write("clobber.sh", "#!/bin/bash\nexport LD_PRELOAD=x.so\nexec \"$@\"\n");
    let arguments =
        ["--ipv4-only", "*", "--check", "dual.example.com:80", "--", text(&script), "app"];
    let mut command = shim(&arguments);
    let (code, report, last) = check(LAB.on(Host::Client, &mut command));
    assert_eq!(code, Some(1), "{report}");
    let wanted = format!("line 2 of {} sets LD_PRELOAD", text(&script));
    assert!(last.starts_with(&wanted), "{report}");
}

#[test]
fn in_a_container_it_says_what_the_service_has() {
    let service = "import time; time.sleep(60)";
    let script = "
        \"$1\" --ipv4-only \"$3\" -- python3 -Ic \"$2\" &
        while ! grep -q libegress_shim /proc/$!/maps; do :; done
        exec \"$1\" --check dual.example.com:80";
    for (list, wanted) in [
        ("*", " for this shell; the service, PID 3, lists it"),
        (
            "other.test",
            ", and the service, PID 3, does not list it either; add --ipv4-only dual.example.com",
        ),
    ] {
        let mut command = bare("unshare");
        command.args(["--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c"]);
        command.args(["sh -c \"$@\"; exit $?", "sh", script, "sh", &COMMAND, service, list]);
        let (code, report, last) = check(LAB.on(Host::Client, &mut command));
        assert_eq!(code, Some(1), "{report}");
        assert_eq!(last, format!("dual.example.com: IPv6 is a black hole{wanted}"), "{report}");
    }
}

#[test]
fn a_proxy_in_the_environment_is_named_without_its_password() {
    let mut command = shim(&["--check", "v4only.example.com:80"]);
    command.env("HTTPS_PROXY", "http://me:secret@proxy.test:3128");
    let (code, report, last) = check(LAB.on(Host::Client, &mut command));
    assert_eq!(code, Some(0), "{report}");
    let wanted = "v4only.example.com is reached over IPv4, but HTTPS_PROXY names proxy.test:3128: a program that \
                  uses it connects to that, not to the host; check it too: egress-shim --check proxy.test:3128";
    assert_eq!(last, wanted, "{report}");
    assert!(!report.contains("secret"), "{report}");
}

#[test]
fn a_library_of_another_version_is_not_asked() {
    let scratch = Public::new();
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let other = scratch.patched(&LIBRARY, "libegress_shim.so", |bytes| {
        let name = b"egress-shim\0";
        let at = bytes.windows(name.len()).position(|part| part == name).expect("its note");
        assert!(bytes[at + name.len()..].starts_with(version), "its version");
        bytes[at + name.len()] = b'9';
    });
    let mut command = shim(&["--library", text(&other), "--check", "127.0.0.1"]);
    let ran = run(&mut command);
    assert_eq!(ran.status.code(), Some(125), "{ran:?}");
    assert!(ran.err.contains("have different versions"), "{ran:?}");
}

#[test]
fn signals_of_the_program_that_is_tried_reach_it() {
    let scratch = Public::new();
    let source = "#include <signal.h>\n#include <unistd.h>\nstatic volatile int seen;\n\
        static void handler(int n) { (void)n; seen = 1; }\n\
        __attribute__((constructor)) static void start(void) {\n\
        signal(SIGUSR1, handler); kill(getpid(), SIGUSR1); while (!seen) pause(); }\n\
        int main(void) { return 0; }\n";
    let early = scratch.compile_text("early.so", source, &["-shared", "-fPIC"]);
    let mut command = shim(&["--check", "v4only.example.com:80"]);
    command.env("LD_PRELOAD", &early);
    let (code, report, last) = check(LAB.on(Host::Client, &mut command));
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(last, "v4only.example.com is reached over IPv4", "{report}");
}
