//! Mistakes on the command line and in settings: what was typed is named as it was typed, and what would be right.

use super::{PATH, Public, bare, fails, mode, output, run, shim, shim_at, text};

/// What is typed, a word between bars; the exit status; what the message has.
const TYPED: &str = r"
    --keepalive|60|true|                    78   --keepalive 60: must have a key; did you mean idle=60?
    --keepalive=60|true|                    78   --keepalive 60: must have a key; did you mean idle=60?
    --keepalive|idle=1,counts=3|true|       78   --keepalive idle=1,counts=3: qcounts=3q: 
    --keepalive|on,enforce|true|            78   on and off must stand alone; enforce by itself
    --keepalive|idle=60 interval=5|true|    78   the parts must be separated by commas
    --keepalive|idle:60|true|               78   did you mean idle=60?
    --ipv4-only|https://host.test/v1|true|  78   is a URL; its host is host.test
    --ipv4-only|host.test:443|true|         78   without the port
    --ipv4-only|!|true|                     78   --ipv4-only !: must have a name after the !
    --ipv4-only|*.|true|                    78   --ipv4-only *.: 
    --ipv4-only|..x|true|                   78   must not begin with two dots
    --ipv4-only|api.*.com|true|             78   first label
    --ipv4-only|good.test|--ipv4-only|b..d|true|  78   --ipv4-only b..d: 
    --ipv4-only-file|no/such|true|          78   --ipv4-only-file no/such: must be
    --log|loud|true|                        78   --log loud: 
    --log-file|/no/such/log|true|           78   --log-file /no/such/log: 
    --program|/bin/x|true|                  78   --program /bin/x: 
    host.test|--check|                      127  options go first: egress-shim --check host.test
    host.test|--ipv4-only=x|                127  options go first: egress-shim --ipv4-only host.test
    -ipv4-only|x|true|                      125  unknown option -ipv4-only (did you mean --ipv4-only?)
    -check|x|                               125  unknown option -check (did you mean --check?)
    --ip|x|true|                            125  unknown option --ip (did you mean --ipv4-only or --ipv4-only-file?)
    --lib=/x|true|                          125  unknown option --lib (did you mean --library?)
    FOO=bar|cmd|                            127  write env FOO=bar before egress-shim, or ENV FOO=bar in the Dockerfile
    EGRESS_SHIM_KEEPALIVE=off|cmd|          127  its option is --keepalive off
    --ipv4-only api.openai.com|cmd|         125  is one word: write two words, or --ipv4-only=api.openai.com
    --|python3 app.py|                      127  it is one word that contains blanks; write several words: python3 app.py
    --check|a.test|b.test|                  127  for another host: --check a.test --check b.test
    --check|host.test|443|                  127  a port goes after a colon: --check host.test:443
";

#[test]
fn what_was_typed_is_named_with_what_would_be_right() {
    for line in TYPED.trim().lines() {
        let (typed, message) = line.trim().split_once("  ").expect("columns");
        let (status, message) = message.trim().split_once(' ').expect("a status");
        let words: Vec<_> = typed.split_terminator('|').collect();
        let message = message.trim_start().replace('q', "\"");
        let message = if message.contains('"') { message } else { message.trim().to_owned() };
        fails(&mut shim(&words), status.parse().expect("a status"), &[&message]);
    }
}

#[test]
fn a_variable_is_named_only_where_the_value_came_from_it() {
    let with = |arguments: &[&str], value: &str, words: &[&str]| {
        let mut command = shim(arguments);
        command.env("EGRESS_SHIM_IPV4_ONLY", value).arg("true");
        fails(&mut command, 78, words);
    };
    with(&[], "a..b", &["egress-shim: EGRESS_SHIM_IPV4_ONLY: \"a..b\": "]);
    with(&["--ipv4-only", "good.test"], "a..b", &["egress-shim: EGRESS_SHIM_IPV4_ONLY: \"a..b\""]);
    with(&["--ipv4-only", "c..d"], "good.test", &["egress-shim: --ipv4-only c..d: "]);
}

#[test]
fn variables_that_are_no_settings_are_told_from_options() {
    let mut command = shim(&["true"]);
    fails(command.env("EGRESS_SHIM_LIBRARY", ""), 78, &["only be named by an option: --library"]);
    let mut command = shim(&["true"]);
    fails(command.env("EGRESS_SHIM_IPV4", "x"), 78, &["EGRESS_SHIM_IPV4_ONLY"]);
}

#[test]
fn an_error_of_the_system_has_no_number() {
    for option in ["--ipv4-only-file", "--log-file"] {
        let ran = run(&mut shim(&[option, "/no/such/file", "true"]));
        assert!(ran.err.contains("No such file or directory"), "{ran:?}");
        assert!(!ran.err.contains("os error"), "{ran:?}");
    }
}

#[test]
fn the_variables_are_printed_as_lines_and_nothing_runs() {
    let (scratch, installed) = Public::installed();
    let list = scratch.write("list", "b.test # two\nc.test\n");
    let ran = scratch.path("ran");
    let arguments = [
        "--ipv4-only",
        "a.test",
        "--ipv4-only-file",
        text(&list),
        "--keepalive",
        "idle=5",
        "--print-environment",
        "touch",
        text(&ran),
    ];
    let mut command = shim_at(&installed, &arguments);
    command.env("EGRESS_SHIM_PROGRAMS", "app\n!other").env("EGRESS_SHIM_STRICT", "1");
    let seen = output(&mut command);
    let wanted = format!(
        "EGRESS_SHIM_IPV4_ONLY=a.test\nEGRESS_SHIM_IPV4_ONLY_FILE={}\nEGRESS_SHIM_KEEPALIVE=idle=5\n\
         EGRESS_SHIM_PROGRAMS=app,!other\nLD_PRELOAD={}\n",
        text(&list),
        text(&scratch.path("lib/libegress_shim.so"))
    );
    assert_eq!(seen, wanted);
    assert!(!ran.exists());

    // The lines are enough for the library, and the invalid setting is not among them.
    let mut program = bare("printenv");
    program.arg("EGRESS_SHIM_KEEPALIVE").envs(seen.lines().filter_map(|line| line.split_once('=')));
    assert_eq!(output(&mut program), "idle=5\n");
    fails(&mut shim(&["--keepalive", "x", "--print-environment"]), 78, &["--keepalive x: "]);
    let mut command = shim(&["--log-file", "/tmp/a\nb", "--print-environment"]);
    fails(&mut command, 125, &["EGRESS_SHIM_LOG_FILE: a value with a line break"]);
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    for arguments in
        [&["--version"][..], &["--help"], &["--print-environment"], &["--check", "127.0.0.1:1"]]
    {
        let child = shim(arguments)
            .stdout(full.try_clone().expect("a descriptor"))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(125), "{arguments:?}: {said}");
        assert!(said.contains("standard output: No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_program_adds_to_the_programs_before_it() {
    let mut command = shim(&["--program", "a", "--program=b", "printenv", "EGRESS_SHIM_PROGRAMS"]);
    assert_eq!(output(&mut command), "a,b\n");
    assert_eq!(output(command.env("EGRESS_SHIM_PROGRAMS", "c")), "c,a,b\n");
}

#[test]
fn the_switch_silences_names_that_are_no_settings() {
    let mut command = shim(&["echo", "ran"]);
    command.env("EGRESS_SHIM_KEEPALVE", "off");
    fails(&mut command, 78, &["EGRESS_SHIM_KEEPALVE"]);
    assert_eq!(output(command.env("EGRESS_SHIM", "off")), "ran\n");
}

#[test]
fn a_search_in_path_goes_on_past_a_file_that_is_not_executable() {
    let scratch = Public::new();
    mode(&scratch.write("first/tool", "#!/bin/sh\necho first\n"), 0o644);
    scratch.write("second/tool", "#!/bin/sh\necho second\n");
    let path = format!("{0}/first:{0}/second:{PATH}", text(&scratch.0));
    assert_eq!(output(shim(&["tool"]).env("PATH", path)), "second\n");
}

#[test]
fn the_effective_user_decides_whether_a_file_is_executable() {
    let (scratch, installed) = Public::installed();
    let program = scratch.copy("/bin/true", "program");
    mode(&program, 0o700);
    let mut command = bare("setpriv");
    command.args(["--euid=65534", "--clear-groups"]).arg(installed).arg(&program);
    fails(&mut command, 126, &["program is not executable"]);
}

#[test]
fn a_capability_of_the_upper_word_counts() {
    let (scratch, installed) = Public::installed();
    let program = scratch.copy("/bin/true", "program");
    // CAP_BPF is number 39.
    output(bare("setcap").arg("cap_bpf+p").arg(&program));
    let mut command = shim_at(&installed, &[text(&program)]);
    let ran = run(super::as_nobody(&mut command));
    assert!(ran.err.contains("program has file capabilities, so the loader ignores"), "{ran:?}");
}
