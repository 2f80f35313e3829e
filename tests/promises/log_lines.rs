//! No line of the log is lost, left half done, or ends a program: races, jumps, old kernels, no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::log_output::{
    CONNECTED, DEBUG, Ends, drain, expect_connects, fill, lost, pipe, terminal,
};
use crate::harness::environment::preload;
use crate::harness::run::{expect_says, run, run_meanwhile, said, stderr, stdout, with};
use crate::harness::scratch::text;
use crate::harness::strace::traced;
use crate::harness::{
    Environment, ROOT, Scratch, expect, in_each_environment, in_each_environment_of_this_machine,
    log, skip,
};

fn pipe_ends() -> Ends {
    let (reader, writer) = pipe();
    (reader.into(), writer.into())
}

/// How many lines of each kind a log file has, each of them whole.
fn kinds(log: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut kinds = BTreeMap::new();
    for line in log::lines(&text) {
        *kinds.entry(line.kind()).or_default() += 1;
    }
    kinds
}

// --- Races and jumps -----------------------------------------------------------------------------

#[test]
fn threads_that_race_to_the_first_connect_lose_no_line() {
    const ROUNDS: usize = 100;
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let path = scratch.join("log");
        let settings = [DEBUG, ("LOG_FILE", text(&path))];
        for (how, kind, count) in
            [("race", "DEBUG connect:", 8 * ROUNDS), ("refused", "WARN connect:", ROUNDS)]
        {
            let arguments = [how, &ROUNDS.to_string()];
            let program = environment.program("left_lines");
            expect_says(
                with(environment.bare(&program), arguments),
                "0 descriptors more, blocked:\n",
            );
            let _ = fs::remove_file(&path);
            let program = environment.shimmed(&program, &settings);
            expect_says(with(program, arguments), "0 descriptors more, blocked:\n");
            let wanted = [(kind.to_owned(), count), ("INFO egress-shim".to_owned(), ROUNDS)];
            expect(format!("lines of {how}"), kinds(&path), BTreeMap::from(wanted));
        }
    });
}

#[test]
fn threads_that_call_the_library_before_it_loads_leave_one_log() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let early = environment.shared_library("early_threads");
        for round in 0..10 {
            let settings = [DEBUG, ("LOG_FILE", text(&log)), ("NO_SUCH_SETTING", "1")];
            let mut command = environment.shimmed(environment.program("empty"), &settings);
            preload(&mut command, &[&environment.library, &early]);
            let _ = fs::remove_file(&log);
            let output = run(&mut command);
            expect(format!("round {round}"), stdout(&output), "1 of the log\n");
            let complaints = stderr(&output);
            expect(format!("complaints: {complaints}"), complaints.lines().count(), 1);
            let wanted = [("DEBUG connect:".to_owned(), 8), ("INFO egress-shim".to_owned(), 1)];
            expect(format!("lines of round {round}"), kinds(&log), BTreeMap::from(wanted));
        }
    });
}

/// A line is written while no signal reaches the thread, libc's own for cancellation included.
#[test]
fn a_thread_that_leaves_amid_a_line_leaves_no_descriptor_and_no_mask() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let path = scratch.join("log");
        let program = environment.program("left_lines");
        let wanted = "0 descriptors more, blocked:\n";
        for (how, rounds) in [("jump", "1000"), ("exit", "100"), ("cancel", "100")] {
            let arguments = [how, rounds];
            expect_says(with(environment.bare(&program), arguments), wanted);
            for ends in [terminal, pipe_ends] {
                let (reader, writer) = ends();
                let mut command = with(environment.shimmed(&program, &[DEBUG]), arguments);
                let output = run_meanwhile(command.stderr(writer), |_| ());
                expect(format!("{command:?}"), stdout(&output), wanted);
                drop(reader);
            }
            let _ = fs::remove_file(&path);
            let settings = [DEBUG, ("LOG_FILE", text(&path))];
            let shimmed = environment.shimmed(&program, &settings);
            expect_says(with(shimmed, arguments), wanted);
            log::expect_lines(&path, 100);
        }
    });
}

#[test]
fn a_jump_out_of_the_first_connect_does_not_silence_the_log() {
    const ROUNDS: usize = 500;
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let path = scratch.join("log");
        let settings = [("LOG", "info"), ("LOG_FILE", text(&path))];
        let program = environment.shimmed(environment.program("left_lines"), &settings);
        let command = with(program, ["first", &ROUNDS.to_string()]);
        expect_says(command, "0 descriptors more, blocked:\n");
        let wanted = [("INFO egress-shim".to_owned(), ROUNDS)];
        expect("lines", kinds(&path), BTreeMap::from(wanted));
    });
}

#[test]
fn a_jump_out_of_the_first_connect_leaves_no_descriptor() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let path = scratch.join("log");
        let settings = [DEBUG, ("LOG_FILE", text(&path))];
        let program = environment.shimmed(environment.program("left_lines"), &settings);
        expect_says(with(program, ["defaults", "500"]), "0 descriptors more, blocked:\n");
        log::expect_lines(&path, 500);
    });
}

// --- No memory -----------------------------------------------------------------------------------

/// The patterns fill what the library has for a start.
#[test]
fn the_first_line_of_a_program_without_memory_is_written() {
    let patterns = "host.example.com,".repeat(1920);
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let filter = "egress_shim=debug,egress_shim::state=trace,egress_shim::dns=off";
        let list = scratch.file("list", &patterns);
        let settings = [
            ("IPV4_ONLY", &*patterns),
            ("IPV4_ONLY_FILE", text(&list)),
            ("LOG", filter),
            ("LOG_FILE", text(&log)),
        ];
        let program = environment.shimmed(environment.program("settings"), &settings);
        let command = with(program, ["exhaust", "connect", "release"]);
        expect_says(command, "idle=60,interval=60,count=5\n");
        let wanted = [("DEBUG connect:".to_owned(), 1), ("INFO egress-shim".to_owned(), 1)];
        expect("lines", kinds(&log), BTreeMap::from(wanted));
    });
}

// --- Descriptors that are closed -----------------------------------------------------------------

/// Opened again for each line, if it still is the file that it was and the user is the same.
#[test]
fn a_log_whose_descriptor_the_program_closes_is_written_on() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let (path, root) = (scratch.join("log"), scratch.join("root"));
        // In the other root another file has the log's path.
        let other = root.join(path.strip_prefix("/").expect("it is absolute"));
        fs::create_dir_all(other.parent().expect("it has one")).expect("it can be made");
        fs::write(&other, "data\n").expect("it can be made");
        let relative = Path::new(text(&path)).strip_prefix(ROOT).expect("it is below target");
        for (file, before, lines) in [
            (text(&path), &[][..], 3),
            (text(relative), &["cd", "/"], 3),
            (text(&path), &["user", "65534"], 2),
            (text(&path), &["group", "65534"], 2),
            (text(&path), &["root", text(&root)], 2),
            (text(&path), &["remove", text(&path)], 0),
        ] {
            fs::write(&path, "").expect("it can be made");
            fs::set_permissions(&path, Permissions::from_mode(0o666))
                .expect("it is the test's own");
            let program =
                environment.shimmed(environment.program("settings"), &[DEBUG, ("LOG_FILE", file)]);
            let actions = [&["connect"], before, &["closefrom", "connect"]].concat();
            let mut command = with(program, actions);
            command.current_dir(ROOT);
            expect_says(command, "idle=60,interval=60,count=5\n".repeat(2).as_str());
            let seen = fs::read_to_string(&path).unwrap_or_default();
            expect(format!("lines after {before:?}"), log::lines(&seen).len(), lines);
            let data = fs::read_to_string(&other).expect("it is there");
            expect("the other file", data, "data\n");
        }
    });
}

/// A path that stands for a descriptor of the program is that descriptor, and no other one.
#[test]
fn a_log_on_standard_output_is_no_descriptor_of_its_own() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let path = scratch.file("output", "");
        let output = File::options().append(true).open(&path).expect("it is there");
        let settings = [DEBUG, ("LOG_FILE", "/dev/stdout")];
        let program = environment.shimmed(environment.program("descriptors"), &settings);
        let mut command = with(program, ["log", text(&path)]);
        let status = command.stdout(output).status().expect("it starts");
        let seen = fs::read_to_string(&path).expect("it is there");
        assert!(status.success() && seen.contains(" egress-shim["), "{status}: {seen}");
        assert!(!seen.contains("log high"), "another descriptor of it: {seen}");
    });
}

// --- Kernels before 6.4 --------------------------------------------------------------------------

/// A command for which pwritev2(2) says what it says of pipes before Linux 6.4.
fn on_an_old_kernel(environment: &Environment, program: &str, arguments: &[&str]) -> Command {
    let error = libc::EOPNOTSUPP.to_string();
    let program = environment.program(program);
    let refuse = environment.shimmed(environment.program("refuse"), &[DEBUG]);
    with(refuse, [&["pwritev2", &*error, text(&program)], arguments].concat())
}

#[test]
fn before_linux_6_4_a_line_to_a_pipe_is_not_lost() {
    in_each_environment(|environment| {
        let mut command = on_an_old_kernel(environment, "lines", &["20"]);
        command.stderr(Stdio::piped());
        let mut seen = String::new();
        expect_connects(command, "20 connects, alarms, terminated", |child| {
            drop(child.stdin.take());
            let mut errors = child.stderr.take().expect("it is a pipe");
            errors.read_to_string(&mut seen).expect("it can be read to its end");
        });
        expect("lines", log::lines(&seen).len(), 21);
    });
}

#[test]
fn before_linux_6_4_a_line_to_a_full_pipe_holds_up_nobody() {
    in_each_environment(|environment| {
        let (reader, writer) = pipe();
        fill(&writer);
        let mut command = on_an_old_kernel(environment, "show", &[]);
        let output = run_meanwhile(command.stderr(writer), |_| ());
        drop(reader);
        expect("what it says", stdout(&output), "keepalive on 60/60/5\n");

        let (reader, writer) = pipe_ends();
        let mut reader = File::from(reader);
        let mut command = on_an_old_kernel(environment, "lines", &["3000"]);
        command.stderr(writer);
        let mut taken = String::new();
        expect_connects(command, CONNECTED, |child| {
            taken = drain(&mut reader);
            let input = child.stdin.as_mut().expect("its input is a pipe");
            input.write_all(b"\n").expect("the program waits for a byte");
            taken += &drain(&mut reader);
        });
        let lines = log::lines(&taken).len();
        let lost: usize = taken.lines().filter_map(lost).sum();
        assert!(lost > 100, "{lines} lines taken, {lost} lost");
        expect("lines taken and lost", lines + lost, 3002);
    });
}

/// Where /proc is another one, as in some chroots, or another thread changes the descriptor meanwhile.
#[test]
fn a_file_that_stands_for_the_terminal_in_proc_has_no_line_of_ours() {
    in_each_environment_of_this_machine(|environment| {
        let scratch = Scratch::new();
        let data = scratch.file("data", "");
        let program = environment.program("show");
        let script =
            "mount -t tmpfs none /proc && mkdir -p /proc/self/fd && ln -s \"$1\" /proc/self/fd/2 &&
            LD_PRELOAD=\"$2\" EGRESS_SHIM_LOG=debug exec \"$3\"";
        let (_reader, writer) = terminal();
        let mut command = environment.bare("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command.args([&data, &environment.library, &program]).stderr(writer);
        let output = run_meanwhile(&mut command, |_| ());
        expect("what it says", stdout(&output), "keepalive on 60/60/5\n");
        expect("the data", fs::read_to_string(&data).expect("it is there"), "");
    });
}

// --- System calls --------------------------------------------------------------------------------

/// The system calls that the limits name in rows of their table.
fn named(rows: &[&str]) -> BTreeSet<String> {
    let limits = fs::read_to_string(Path::new(ROOT).join("docs/LIMITS.md")).expect("it is there");
    let mut names = BTreeSet::new();
    for row in rows {
        let start = format!("| {row} |");
        let line = limits.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("docs/LIMITS.md has a row {row:?}"));
        names.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    names
}

/// The names of the system calls in a trace.
fn calls(trace: &Path) -> BTreeSet<String> {
    let trace = fs::read_to_string(trace).expect("strace has written its trace");
    let name =
        |line: &str| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0.to_owned());
    trace.lines().filter_map(name).map(|name| name.replace("newfstatat", "fstat")).collect()
}

/// Makes a sink, and what is to stay open meanwhile.
type Sink<'a> = &'a dyn Fn() -> (Option<OwnedFd>, Stdio);

#[test]
fn a_line_makes_only_the_system_calls_that_the_limits_name() {
    let file = |path: &PathBuf| File::create(path).expect("it can be made").into();
    let of = |ends: Ends| (Some(ends.0), Stdio::from(ends.1));
    in_each_environment(|environment| {
        if environment.is_emulated() {
            return skip(environment, "strace sees the emulator's calls");
        }
        let scratch = Scratch::new();
        let (trace, log) = (scratch.join("trace"), scratch.join("log"));
        let sinks: [(&str, Sink<'_>); 3] = [
            ("a regular file", &|| (None, file(&log))),
            ("a pipe", &|| of(pipe_ends())),
            ("a terminal", &|| of(terminal())),
        ];
        for (row, sink) in sinks {
            let run = |command: &Command| {
                let (reader, stderr) = sink();
                let mut traced = traced(command, "trace=all", &trace);
                let output = run_meanwhile(traced.stderr(stderr), |_| ());
                drop(reader);
                assert!(output.status.success(), "{command:?}: {}", said(&output));
                calls(&trace)
            };
            let run = |level| {
                let settings = [("LOG", level), ("KEEPALIVE", "off"), ("IPV4_ONLY", "a.test")];
                let program = environment.shimmed(environment.program("settings"), &settings);
                run(&with(program, ["status", "127.0.0.1", "status", "localhost"]))
            };
            let (silent, logging) = (run("off"), run("debug"));
            let wanted = named(&["always", row]);
            let more: Vec<_> = logging.difference(&silent).collect();
            let unnamed: Vec<_> = more.iter().filter(|name| !wanted.contains(**name)).collect();
            assert!(unnamed.is_empty() && !more.is_empty(), "{row}: {unnamed:?} of {more:?}");
        }
    });
}

/// A seccomp filter that kills a program for such a call does so at the start, where people see it.
#[test]
fn with_a_log_file_a_line_makes_no_call_that_load_has_not_made() {
    in_each_environment(|environment| {
        if environment.is_emulated() {
            return skip(environment, "strace sees the emulator's calls");
        }
        let scratch = Scratch::new();
        let (trace, log) = (scratch.join("trace"), scratch.join("log"));
        let run = |level| {
            let settings = [
                ("LOG", level),
                ("LOG_FILE", text(&log)),
                ("KEEPALIVE", "off"),
                ("IPV4_ONLY", "*"),
            ];
            let program = environment.shimmed(environment.program("settings"), &settings);
            let program = with(program, ["status", "127.0.0.1", "status", "localhost"]);
            let output = run(&mut traced(&program, "trace=all", &trace));
            assert!(output.status.success(), "{}", said(&output));
            calls(&trace)
        };
        let (silent, logging) = (run("off"), run("debug"));
        // A write cannot be tried without one.
        let new = logging.difference(&silent).filter(|name| *name != "write");
        expect("new calls", new.collect::<Vec<_>>(), Vec::<&String>::new());
        let lines = fs::read_to_string(&log).expect("the library has made it");
        assert!(log::lines(&lines).len() > 1, "there are lines: {lines}");
    });
}
