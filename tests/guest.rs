//! The rules of a guest in someone else's process: signals, forks, cancellation, constructors,
//! descriptors, privileged programs, other preloads.
//!
//! Each test runs a small C program, first without the library as the control, and holds what it
//! prints against what it must print. Whatever appears on standard error besides, and a bad end,
//! are part of what is seen; a program that hangs is ended, and its test fails.

mod lab;
mod programs;

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use lab::{Host, Lab};
use programs::{Environment, stdout};

/// No program here takes more than a few seconds.
const DEADLINE: Duration = Duration::from_secs(15);

/// A network in which dual.example.com and other.example.com have addresses of both families. It
/// goes when the process of the tests ends.
static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(&[]));

/// A network whose resolver never answers; /etc/hosts knows known.example.com and
/// static.example.com.
static SILENT: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(&[]);
    let names = "known.example.com static.example.com\n";
    let hosts = format!("127.0.0.1 localhost\n198.51.100.2 {names}2001:db8:2::2 {names}");
    fs::write(lab.file("hosts"), hosts).expect("the lab's hosts can be written");
    // The gateway drops what is for this address.
    let resolver = "nameserver 2001:db8:2::53\n";
    fs::write(lab.file("resolv"), resolver).expect("the lab's resolver can be set");
    lab
});

// --- Running programs ---------------------------------------------------------------------------

/// Runs a command to its end and gives its standard output, and standard error where that has been
/// set to nothing else.
#[track_caller]
fn run(command: &mut Command) -> Output {
    run_meanwhile(command.stderr(Stdio::piped()), |_| ())
}

/// Runs a command to its end and does something meanwhile.
#[track_caller]
fn run_meanwhile(command: &mut Command, meanwhile: impl FnOnce(&mut Child)) -> Output {
    let die_with_us = || {
        // SAFETY: prctl(2) with a number. It ends the program when the thread of its test is gone.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: the closure makes one system call after the fork.
    unsafe { command.pre_exec(die_with_us) };
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let leader = libc::pid_t::try_from(child.id()).expect("a process id");
    let (end, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(DEADLINE) else { return None };
        let doing = doing(leader);
        // SAFETY: kill(2) with numbers: the group that was made for this command, whose leader has
        // not been waited for, or whose members still hold its pipes.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
        Some(doing)
    });
    meanwhile(&mut child);
    let output = child.wait_with_output().expect("the command can be waited for");
    drop(end);
    if let Some(doing) = watchdog.join().expect("the watchdog does not panic") {
        panic!(
            "{command:?} hangs: it has not ended after {DEADLINE:?}; it said {:?}; its threads: {doing}",
            said(&output)
        );
    }
    output
}

/// What the threads of a process wait for, for the message.
fn doing(process: libc::pid_t) -> String {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| {
        let word = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let (place, call) = (word("wchan"), word("syscall"));
        format!("{} in {place}, system call {}", thread.path().display(), call.trim_end())
    };
    threads.map(of_thread).collect::<Vec<_>>().join("; ")
}

/// All that a command let others see: what it wrote, and how it ended where that was not well.
fn said(output: &Output) -> String {
    let mut text = stdout(output) + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        text += &output.status.to_string();
    }
    text
}

/// Asserts what a command says.
#[track_caller]
fn assert_says(environment: &Environment, mut command: Command, wanted: &str) {
    let seen = said(&run(&mut command));
    assert_eq!(seen, wanted, "(seen, wanted) in {environment}: {command:?}");
}

/// A command on the client of a lab.
fn on(lab: &Lab, mut command: Command) -> Command {
    lab.on(Host::Client, &mut command);
    command
}

/// A command with arguments.
fn with<S: AsRef<OsStr>>(mut command: Command, arguments: impl IntoIterator<Item = S>) -> Command {
    command.args(arguments);
    command
}

/// Puts other libraries in front of the preloaded one, or behind it.
fn preload(command: &mut Command, libraries: &[&Path]) {
    let mut value = OsString::new();
    for library in libraries {
        value.push(library);
        value.push(":");
    }
    command.env("LD_PRELOAD", value);
}

/// What runs in the child before the program does: `f` makes system calls, and nothing else.
fn first(command: &mut Command, f: fn() -> libc::c_int) {
    let f = move || if f() == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the closure makes system calls only, by the word of the caller.
    unsafe { command.pre_exec(f) };
}

/// An empty directory of a test's own.
fn directory(test: &str, environment: &Environment) -> PathBuf {
    let name = format!("guest-{test}-{environment}");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("target can be written to");
    directory
}

/// A path as the value of a setting.
fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of the tests are UTF-8")
}

fn is_musl(environment: &Environment) -> bool {
    environment.name.starts_with("musl")
}

// --- The log ------------------------------------------------------------------------------------

/// Whether a line is one whole line of the log:
/// `2026-11-21T03:10:57Z egress-shim[PID] LEVEL: MESSAGE`.
fn is_whole(line: &str) -> bool {
    let shape = |time: &str| {
        time.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect::<Vec<_>>()
    };
    let parts = || {
        let (time, rest) = line.split_at_checked(20)?;
        let (process, rest) = rest.strip_prefix(" egress-shim[")?.split_once("] ")?;
        let (level, message) = rest.split_once(": ")?;
        process.parse::<u32>().ok()?;
        Some(
            shape(time) == b"0000-00-00T00:00:00Z"
                && ["TRACE", "DEBUG", "INFO", "WARN"].contains(&level)
                && !message.is_empty()
                && !message.contains("egress-shim["),
        )
    };
    parts() == Some(true)
}

/// Asserts that a log has at least so many lines, and that each is whole.
#[track_caller]
fn assert_whole(environment: &Environment, log: &Path, least: usize) {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "in {environment}, the log's last line is whole: {:?}",
        text.lines().next_back()
    );
    let broken = text.lines().find(|line| !is_whole(line));
    assert_eq!(
        broken, None,
        "(seen, wanted) in {environment}: a line of the log that is not whole"
    );
    let lines = text.lines().count();
    assert!(lines >= least, "in {environment}, the log has {least} lines or more; it has {lines}");
}

// --- Signals ------------------------------------------------------------------------------------

#[test]
fn connect_works_in_a_signal_handler_whatever_it_interrupts() {
    for environment in &Environment::all() {
        let program = environment.program("interrupt");
        let directory = directory("interrupt", environment);
        thread::scope(|scope| {
            for what in ["connect", "malloc", "getaddrinfo", "printf"] {
                let (program, log) = (&program, directory.join(what));
                scope.spawn(move || {
                    let settings =
                        [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
                    let bare = on(&LAB, with(environment.bare(program), [what]));
                    let mut shimmed = on(&LAB, with(environment.shimmed(program, &settings), [what]));
                    // glibc's malloc is to take its lock for small blocks too.
                    let tunables = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0";
                    shimmed.env("GLIBC_TUNABLES", tunables);
                    let wanted = |keepalive| {
                        format!(
                            "keepalive {keepalive}; wrong: 0 in the handler, 0 in what it interrupts\n"
                        )
                    };
                    assert_says(environment, bare, &wanted("off"));
                    assert_says(environment, shimmed, &wanted("on"));
                    assert_whole(environment, &log, 400);
                });
            }
        });
    }
}

/// A handler that starts a program would hand its mask on: the program would live for ever with
/// `SIGPIPE` blocked.
#[test]
fn a_signal_handler_finds_no_signal_blocked_by_a_log_line() {
    for environment in &Environment::all() {
        let program = environment.program("interrupt");
        let log = directory("blocked-signals", environment).join("log");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let arguments = ["connect", "mask"];
        let bare = with(environment.bare(&program), arguments);
        let shimmed = with(environment.shimmed(&program, &settings), arguments);
        assert_says(environment, bare, "0 signals blocked\n");
        assert_says(environment, shimmed, "0 signals blocked\n");
    }
}

// --- Children -----------------------------------------------------------------------------------

/// The lookups are those of `stub.c`: glibc's own hang in such children without any preload.
#[test]
fn children_forked_while_threads_connect_and_resolve_do_the_same() {
    for environment in &Environment::all() {
        let program = environment.program("forks");
        let stub = environment.shared_library("stub");
        let log = directory("forks", environment).join("log");
        let settings =
            [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
        let mut bare = with(environment.bare(&program), ["100"]);
        preload(&mut bare, &[&stub]);
        let mut shimmed = with(environment.shimmed(&program, &settings), ["500"]);
        preload(&mut shimmed, &[&environment.library, &stub]);
        let wanted = "0 children failed; 0 calls of the parent failed\n";
        assert_says(environment, bare, wanted);
        assert_says(environment, shimmed, wanted);
    }
}

#[test]
fn the_log_lines_of_many_threads_and_processes_are_whole() {
    for environment in &Environment::all() {
        let program = environment.program("forks");
        let stub = environment.shared_library("stub");
        let log = directory("lines", environment).join("log");
        let settings =
            [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
        let mut shimmed = with(environment.shimmed(&program, &settings), ["50"]);
        preload(&mut shimmed, &[&environment.library, &stub]);
        run(&mut shimmed);
        // Each child writes three, and the threads of their parent write all the while.
        assert_whole(environment, &log, 50 * 3 + 50);
    }
}

#[test]
fn children_of_vfork_and_posix_spawn_connect() {
    let (off, on) = ("off", "on 60/60/5");
    for environment in &Environment::all() {
        let program = environment.program("spawn");
        let log = directory("spawn", environment).join("log");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        for how in ["vfork", "vforkexec", "posix_spawn"] {
            let wanted = |keepalive: &str| {
                let between = match how {
                    // 40, and 1 for keepalive.
                    "vfork" => format!("status 4{}", u8::from(keepalive == on)),
                    "vforkexec" => format!(
                        "inherited: keepalive {keepalive}\nchild: keepalive {keepalive}\nstatus 0"
                    ),
                    _ => format!("child: keepalive {keepalive}\nstatus 0"),
                };
                format!("before: keepalive {keepalive}\n{between}\nafter: keepalive {keepalive}\n")
            };
            assert_says(environment, with(environment.bare(&program), [how]), &wanted(off));
            let shimmed = with(environment.shimmed(&program, &settings), [how]);
            assert_says(environment, shimmed, &wanted(on));
        }
        assert_whole(environment, &log, 9);
    }
}

// --- Threads that leave a blocked call ----------------------------------------------------------

/// Gets a thread out of each call that it can be blocked in, without the library and with it.
#[track_caller]
fn assert_leaves(how: &str, frames: bool, wanted: &str) {
    for environment in &Environment::all() {
        let program = environment.program("blocked");
        let frames = match (frames, environment.cxx_library("frames")) {
            (true, None) => continue,
            (true, library) => library,
            (false, _) => None,
        };
        let log =
            directory(&format!("blocked-{how}-{}", frames.is_some()), environment).join("log");
        let settings = [
            ("IPV4_ONLY", "listed.example.com known.example.com"),
            ("LOG", "trace"),
            ("LOG_FILE", text(&log)),
        ];
        for call in ["connect", "unspec", "inet6", "mapped", "other"] {
            let with = |command| {
                let mut command = on(&SILENT, with(command, [call, how]));
                command.args(&frames);
                command
            };
            let bare = with(environment.bare(&program));
            let shimmed = with(environment.shimmed(&program, &settings));
            assert_says(environment, bare, &format!("{wanted}; later off 46 4\n"));
            assert_says(environment, shimmed, &format!("{wanted}; later on 60/60/5 4 4\n"));
        }
    }
}

#[test]
fn a_thread_blocked_in_a_call_is_cancelled_and_cleans_up() {
    assert_leaves("cancel", false, "canceled; 1 cleaned");
}

#[test]
fn a_thread_blocked_in_a_call_is_cancelled_asynchronously_and_cleans_up() {
    assert_leaves("async", false, "canceled; 1 cleaned");
}

/// 12: two destructors, and ten for the frame that caught the unwind and threw it on.
#[test]
fn cancellation_destroys_the_frames_of_a_cxx_caller() {
    assert_leaves("cancel", true, "canceled; 1 cleaned; 12 destroyed");
    assert_leaves("async", true, "canceled; 1 cleaned; 12 destroyed");
}

#[test]
fn a_signal_handler_may_end_the_thread_that_is_blocked_in_a_call() {
    assert_leaves("exit", false, "exited; 1 cleaned");
    assert_leaves("exit", true, "exited; 1 cleaned; 12 destroyed");
}

#[test]
fn a_signal_handler_may_jump_out_of_a_blocked_call() {
    assert_leaves("jump", false, "jumped; 0 cleaned");
}

#[test]
fn a_thread_cancelled_at_the_first_lookup_ends_and_leaves_no_file_open() {
    for environment in &Environment::all() {
        let program = environment.program("first");
        let patterns = directory("first", environment).join("patterns");
        // It takes some ten milliseconds to read.
        let comments = format!("{}\n", "#".repeat(99)).repeat(150_000);
        let text_of_file = comments + "listed.example.com known.example.com\n";
        fs::write(&patterns, text_of_file).expect("the patterns can be written");
        let settings = [("IPV4_ONLY_FILE", text(&patterns))];
        let wanted =
            |families| format!("canceled; 1 cleaned; 0 files left open; later {families}\n");
        let bare = on(&SILENT, with(environment.bare(&program), ["0"]));
        assert_says(environment, bare, &wanted("46"));
        for delay in (0..6000).step_by(300) {
            let delay = delay.to_string();
            let shimmed = with(environment.shimmed(&program, &settings), [delay]);
            assert_says(environment, on(&SILENT, shimmed), &wanted("4"));
        }
    }
}

// --- Before main, and after it ------------------------------------------------------------------

const EARLY: [(&str, &str); 3] =
    [("KEEPALIVE", "idle=33"), ("IPV4_ONLY", "dual.example.com"), ("LOG", "info")];

#[test]
fn a_library_constructed_before_the_shim_has_the_settings() {
    for environment in &Environment::all() {
        let early = environment.shared_library("early");
        let log = directory("early", environment).join("log");
        let settings = [&EARLY[..], &[("LOG_FILE", text(&log))]].concat();
        let program = environment.program("show");
        let needing = environment.program_with("show", &early);

        let bare = on(&LAB, environment.bare(&needing));
        let bare_seen = "keepalive off dual 46 other 46";
        let wanted = format!("{bare_seen}\nkeepalive off\ndestroyed: {bare_seen}\n");
        assert_says(environment, bare, &wanted);

        let mut behind = on(&LAB, environment.shimmed(&program, &settings));
        preload(&mut behind, &[&environment.library, &early]);
        let mut front = on(&LAB, environment.shimmed(&program, &settings));
        preload(&mut front, &[&early, &environment.library]);
        let needed = on(&LAB, environment.shimmed(&needing, &settings));
        let mut orders = Vec::new();
        for mut command in [behind, front, needed] {
            let _ = fs::remove_file(&log);
            let seen = said(&run(&mut command));
            let (order, seen) = seen.split_once(": ").unwrap_or_default();
            let wanted = "keepalive on 33/60/5 dual 4 other 46\nkeepalive on 33/60/5\n\
                          destroyed: keepalive on 33/60/5 dual 4 other 46\n";
            assert_eq!(seen, wanted, "(seen, wanted) in {environment}: {command:?}");
            orders.push(order.to_owned());
        }
        // glibc constructs the last preload first, musl the first one.
        let wanted = if is_musl(environment) {
            ["SECOND", "first", "SECOND"]
        } else {
            ["first", "SECOND", "first"]
        };
        assert_eq!(
            orders, wanted,
            "(seen, wanted) in {environment}: is the library constructed first"
        );
    }
}

#[test]
fn a_program_that_connects_before_any_constructor_has_the_settings() {
    for environment in &Environment::all() {
        let program = environment.program("preinit");
        let bare = said(&run(&mut on(&LAB, environment.bare(&program))));
        if environment.glibc().is_some_and(|version| version < (2, 34)) {
            println!("{environment} is left out: its libc cannot resolve so early: {bare}");
            continue;
        }
        let lines = |line: &str| {
            // musl ignores DT_PREINIT_ARRAY.
            let preinit = if is_musl(environment) { "" } else { &format!("preinit: {line}\n") };
            format!("{preinit}main: {line}\n")
        };
        assert_eq!(
            bare,
            lines("keepalive off dual 46 other 46"),
            "(seen, wanted) in {environment}"
        );
        let log = directory("preinit", environment).join("log");
        let settings = [&EARLY[..], &[("LOG_FILE", text(&log))]].concat();
        let shimmed = on(&LAB, environment.shimmed(&program, &settings));
        assert_says(environment, shimmed, &lines("keepalive on 33/60/5 dual 4 other 46"));
        let off = on(&LAB, environment.shimmed(&program, &[("", "off")]));
        assert_says(environment, off, &lines("keepalive off dual 46 other 46"));
    }
}

#[test]
fn the_settings_are_those_at_load_until_the_last_destructor() {
    for environment in &Environment::all() {
        let program = environment.program("late");
        let library = environment.shared_library("early");
        // musl destroys in the reverse order of construction, glibc the program first.
        let last = if is_musl(environment) {
            ["destroyed", "destructor"]
        } else {
            ["destructor", "destroyed"]
        };
        let times = ["main", "thread", "dlopen", "atexit", last[0], last[1]];
        let wanted = |line: &str| times.map(|when| format!("{when}: {line}\n")).concat();
        for change in ["none", "unset", "set", "put", "clear", "null", "overwrite"] {
            let with = |command| {
                let mut command = on(&LAB, with(command, [change]));
                command.arg(&library);
                command
            };
            let bare = with(environment.bare(&program));
            assert_says(environment, bare, &wanted("keepalive off dual 46 other 46"));
            let shimmed = with(environment.shimmed(&program, &EARLY[..2]));
            assert_says(environment, shimmed, &wanted("keepalive on 33/60/5 dual 4 other 46"));
        }
    }
}

// --- Descriptors --------------------------------------------------------------------------------

/// What `descriptors.c` writes to its data file.
fn data(keepalive: &str) -> String {
    format!("data, keepalive {keepalive}\n").repeat(3)
}

/// Asserts what `descriptors.c` has in its data file in the end.
#[track_caller]
fn assert_data(environment: &Environment, command: &mut Command, file: &Path, keepalive: &str) {
    let _ = fs::remove_file(file);
    let output = run_meanwhile(command, |_| ());
    assert!(output.status.success(), "in {environment}, {command:?}: {}", said(&output));
    let seen = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(seen, data(keepalive), "(seen, wanted) in {environment}: the data of {command:?}");
}

const TRACE: [(&str, &str); 1] = [("LOG", "trace")];

#[test]
fn a_data_file_that_gets_descriptor_2_has_no_line_of_ours() {
    for environment in &Environment::all() {
        let program = environment.program("descriptors");
        let directory = directory("reuse", environment);
        let file = directory.join("data");
        let arguments = ["reuse", text(&file)];
        let null = || File::options().write(true).open("/dev/null").expect("/dev/null is there");
        let errors = || File::create(directory.join("errors")).expect("the file can be made");
        let kinds: [(&str, &dyn Fn() -> Stdio); 3] = [
            ("a pipe", &Stdio::piped),
            ("/dev/null", &|| null().into()),
            ("a file", &|| errors().into()),
        ];
        for (_kind, stderr) in kinds {
            let mut bare = with(environment.bare(&program), arguments);
            assert_data(environment, bare.stderr(stderr()), &file, "off");
            let mut shimmed = with(environment.shimmed(&program, &TRACE), arguments);
            assert_data(environment, shimmed.stderr(stderr()), &file, "on 60/60/5");
        }
        // That there was something to keep out of the data.
        assert_whole(environment, &directory.join("errors"), 1);
    }
}

#[test]
fn a_data_file_that_gets_descriptor_2_of_a_program_started_without_one_has_no_line_of_ours() {
    for environment in &Environment::all() {
        let program = environment.program("descriptors");
        let file = directory("closed", environment).join("data");
        let arguments = ["reuse", text(&file)];
        // SAFETY: close(2) with a number, in the child.
        let close = || unsafe { libc::close(libc::STDERR_FILENO) };
        let mut bare = with(environment.bare(&program), arguments);
        first(&mut bare, close);
        assert_data(environment, &mut bare, &file, "off");
        let mut shimmed = with(environment.shimmed(&program, &TRACE), arguments);
        first(&mut shimmed, close);
        assert_data(environment, &mut shimmed, &file, "on 60/60/5");
    }
}

/// ext4, xfs and others give the inode number of a deleted file to the next one.
#[test]
fn a_data_file_that_gets_descriptor_2_and_the_inode_number_of_the_deleted_log_has_no_line_of_ours()
{
    for environment in &Environment::all() {
        let program = environment.program("descriptors");
        let directory = directory("inode", environment);
        let (errors, file) = (directory.join("errors"), directory.join("data"));
        let arguments = ["unlinked", text(&errors), text(&file)];
        let mut shimmed = with(environment.shimmed(&program, &TRACE), arguments);
        // The program alone may have its standard error open: it is this child's to open.
        let path = CString::new(text(&errors)).expect("a path has no NUL");
        let open = move || {
            // SAFETY: system calls with numbers and a string that the closure owns.
            unsafe {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
                libc::dup2(libc::open(path.as_ptr(), flags, 0o644), libc::STDERR_FILENO)
            };
            Ok(())
        };
        // SAFETY: the closure makes system calls only.
        unsafe { shimmed.pre_exec(open) };
        let output = run_meanwhile(&mut shimmed, |_| ());
        if stdout(&output) == "other number\n" {
            println!("skipped: {} gives no inode number twice", directory.display());
            continue;
        }
        assert_eq!(said(&output), "same number\n", "(seen, wanted) in {environment}");
        let seen = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(seen, data("on 60/60/5"), "(seen, wanted) in {environment}: the data");
    }
}

#[test]
fn a_daemon_that_closes_every_descriptor_has_no_line_of_ours_in_its_data() {
    for environment in &Environment::all() {
        let program = environment.program("descriptors");
        let directory = directory("daemon", environment);
        let (log, file) = (directory.join("log"), directory.join("data"));
        let arguments = ["daemon", text(&file)];
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let mut bare = with(environment.bare(&program), arguments);
        assert_data(environment, bare.stderr(Stdio::piped()), &file, "off");
        let mut shimmed = with(environment.shimmed(&program, &settings), arguments);
        assert_data(environment, shimmed.stderr(Stdio::piped()), &file, "on 60/60/5");
        assert_whole(environment, &log, 1);
    }
}

#[test]
fn the_log_has_a_high_descriptor_that_closes_on_exec() {
    for environment in &Environment::all() {
        let program = environment.program("descriptors");
        let log = directory("high", environment).join("log");
        fs::write(&log, "").expect("the log can be made");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let arguments = ["log", text(&log)];
        // Descriptor 3 is the program's socket.
        let bare = with(environment.bare(&program), arguments);
        assert_says(environment, bare, "first own 4\nkeepalive off\n50 more\n");
        let shimmed = with(environment.shimmed(&program, &settings), arguments);
        let wanted = "first own 4\nlog high close-on-exec\nkeepalive on 60/60/5\n50 more\n";
        assert_says(environment, shimmed, wanted);
        assert_whole(environment, &log, 2);
    }
}

#[test]
fn a_limit_of_sixteen_descriptors_leaves_the_low_ones_to_the_program() {
    for environment in &Environment::all() {
        let program = environment.program("descriptors");
        let log = directory("sixteen", environment).join("log");
        fs::write(&log, "").expect("the log can be made");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let arguments = ["log", text(&log)];
        let limit = || {
            let limit = libc::rlimit { rlim_cur: 16, rlim_max: 16 };
            // SAFETY: fcntl(2) and setrlimit(2) with numbers and a local, in the child. What the
            // test has inherited goes at the exec.
            unsafe {
                for descriptor in 3..1024 {
                    libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
                }
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
            }
        };
        let mut bare = with(environment.bare(&program), arguments);
        first(&mut bare, limit);
        assert_says(environment, bare, "first own 4\nkeepalive off\n12 more\n");
        let mut shimmed = with(environment.shimmed(&program, &settings), arguments);
        first(&mut shimmed, limit);
        let wanted = "first own 4\nlog last close-on-exec\nkeepalive on 60/60/5\n11 more\n";
        assert_says(environment, shimmed, wanted);
        assert_whole(environment, &log, 2);
    }
}

// --- Logs that cannot be written to -------------------------------------------------------------

/// What a program may have done about a signal, and what it says in the end.
const HANDLINGS: [(&str, &str); 5] = [
    ("default", "0 handled; mask kept"),
    ("handler", "0 handled; mask kept"),
    ("blocked", "0 handled; mask kept; 0 pending"),
    ("pending", "0 handled; mask kept; 1 pending"),
    ("shared", "0 handled; mask kept; 1 pending"),
];

/// Runs `broken.c` with each handling of a signal. `prepare` gets each command before it starts, and gives
/// what is to be dropped when the program has loaded.
#[track_caller]
fn assert_no_signal<T>(
    signal: &str,
    settings: &[(&str, &str)],
    prepare: impl Fn(&mut Command) -> T,
) {
    for environment in &Environment::all() {
        let program = environment.program("broken");
        for (handling, wanted) in HANDLINGS {
            // Whether a write to a full file raises SIGXFSZ cannot be known before, and whether one
            // that is pending is the process's or the thread's not at all.
            if (signal, handling) == ("fsize", "shared") {
                continue;
            }
            let mut command = with(environment.shimmed(&program, settings), [signal, handling]);
            command.stdin(Stdio::piped());
            let held = prepare(&mut command);
            let output = run_meanwhile(&mut command, |child| {
                let mut ready = String::new();
                let output = child.stdout.as_mut().expect("its output is a pipe");
                BufReader::with_capacity(6, output).read_line(&mut ready).expect("it can be read");
                assert_eq!(ready, "ready\n", "(seen, wanted)");
                drop(held);
                let mut input = child.stdin.take().expect("its input is a pipe");
                input.write_all(b"\n").expect("the program waits for a line");
            });
            let seen = (stdout(&output), output.status.to_string());
            let wanted = (format!("5 connected; {wanted}\n"), "exit status: 0".to_owned());
            assert_eq!(seen, wanted, "(seen, wanted) in {environment}: {command:?}");
        }
    }
}

/// The writing end of a pipe whose reading end is given too.
fn pipe() -> (io::PipeReader, io::PipeWriter) {
    io::pipe().expect("a pipe can be made")
}

#[test]
fn a_pipe_without_a_reader_as_standard_error_raises_no_signal() {
    assert_no_signal("pipe", &TRACE, |command| {
        command.stderr(pipe().1);
    });
}

#[test]
fn a_socket_without_a_peer_as_standard_error_raises_no_signal() {
    assert_no_signal("pipe", &TRACE, |command| {
        let (ours, _) = UnixStream::pair().expect("a pair of sockets can be made");
        command.stderr(OwnedFd::from(ours));
    });
}

#[test]
fn a_log_pipe_whose_reader_has_gone_raises_no_signal() {
    let directory = directory("fifo", &Environment::here());
    let fifo = directory.join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there");
    assert!(made.success(), "mkfifo {}: {made}", fifo.display());
    let settings = [("LOG", "trace"), ("LOG_FILE", text(&fifo))];
    assert_no_signal("pipe", &settings, |command| {
        command.stderr(Stdio::null());
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("fifo")
    });
}

#[test]
fn a_log_at_its_size_limit_raises_no_signal() {
    let log = directory("size", &Environment::here()).join("log");
    let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
    assert_no_signal("fsize", &settings, |command| {
        // The line that tells of the load fills it, and the next ones find it full.
        first(command.stderr(Stdio::null()), || {
            let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
            // SAFETY: setrlimit(2) with a local, in the child.
            unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }
        });
    });
    let length = fs::metadata(&log).expect("the log is there").len();
    assert_eq!(length, 40, "(seen, wanted) the log has reached its limit");
}

#[test]
fn a_log_on_a_full_disk_changes_nothing() {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full is there");
    assert_no_signal("pipe", &TRACE, |command| {
        command.stderr(full());
    });
    let settings = [("LOG", "trace"), ("LOG_FILE", "/dev/full")];
    assert_no_signal("pipe", &settings, |command| {
        command.stderr(Stdio::null());
    });
}

/// A program whose standard error is a pipe that its starter never reads, as many do.
#[test]
fn a_full_pipe_as_standard_error_does_not_hold_up_the_program() {
    for environment in &Environment::all() {
        let program = environment.program("show");
        let run = |mut command: Command| {
            let (reader, writer) = pipe();
            fill(&writer);
            let output = run_meanwhile(command.stderr(writer), |_| ());
            drop(reader);
            stdout(&output)
        };
        assert_eq!(run(environment.bare(&program)), "keepalive off\n", "(seen, wanted)");
        let seen = run(environment.shimmed(&program, &TRACE));
        assert_eq!(seen, "keepalive on 60/60/5\n", "(seen, wanted) in {environment}");
    }
}

/// Fills a pipe to the last byte.
fn fill(mut pipe: &io::PipeWriter) {
    let set = |flags: libc::c_int| {
        // SAFETY: fcntl(2) on a descriptor that is borrowed.
        let status = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags) };
        assert_eq!(status, 0, "the pipe's flags can be set");
    };
    set(libc::O_NONBLOCK);
    for size in [65536, 4096, 512, 1] {
        while pipe.write(&vec![b'\n'; size]).is_ok() {}
    }
    set(0);
}

// --- Lines ---------------------------------------------------------------------------------------

/// A command under strace with the environment that it would have itself.
fn traced(command: &Command, calls: &str, trace: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.stdin(Stdio::null()).args(["-f", "-s", "4096", "-e", calls, "-o"]).arg(trace);
    for (name, value) in command.get_envs() {
        match value {
            None => _ = strace.env_remove(name),
            Some(value) => {
                let mut pair = name.to_owned();
                pair.push("=");
                pair.push(value);
                strace.arg("-E").arg(pair);
            }
        }
    }
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

#[test]
fn a_log_line_is_one_write() {
    for environment in &Environment::all() {
        let directory = directory("strace", environment);
        let (log, trace) = (directory.join("log"), directory.join("trace"));
        let settings =
            [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
        let program = environment.shimmed(environment.program("show"), &settings);
        let program = with(program, ["dual.example.com", "other.example.com"]);
        let calls = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg";
        let command = on(&LAB, traced(&program, calls, &trace));
        let wanted = "keepalive on 60/60/5\ndual.example.com 4\nother.example.com 46\n";
        assert_says(environment, command, wanted);
        assert_whole(environment, &log, 4);
        // PID write(N, "LINE\n", LENGTH) = LENGTH
        let trace = fs::read_to_string(&trace).expect("strace has written its trace");
        let ours = trace.lines().filter(|line| line.contains(" egress-shim["));
        let writes: Vec<_> = ours
            .map(|line| {
                let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
                let line = call.strip_prefix("write(").and_then(|call| call.split('"').next_back());
                let text =
                    call.split_once(", \"").and_then(|(_, text)| text.rsplit_once("\\n\", "));
                match (line, text) {
                    (Some(_), Some((text, _))) if !text.contains("\\n") => {
                        text.replace("\\\"", "\"")
                    }
                    _ => format!("not one write of one line: {call}"),
                }
            })
            .collect();
        let log = fs::read_to_string(&log).expect("the log is there");
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(writes, lines, "(writes, lines) in {environment}");
    }
}

#[test]
fn switched_off_it_makes_no_system_call() {
    for environment in &Environment::all() {
        let directory = directory("off", environment);
        let (log, trace) = (directory.join("log"), directory.join("trace"));
        let program = environment.program("show");
        let settings = [
            ("", "off"),
            ("IPV4_ONLY", "*"),
            ("IPV4_ONLY_FILE", "/no/such/file"),
            ("KEEPALIVE", "nonsense"),
            ("LOG", "trace"),
            ("LOG_FILE", text(&log)),
            ("STRICT", "1"),
        ];
        let calls = |command: Command| {
            // In /etc/hosts: what resolvers do is not always the same.
            let command = with(command, ["known.example.com"]);
            let output = run(&mut on(&SILENT, traced(&command, "trace=all", &trace)));
            assert_eq!(said(&output), "keepalive off\nknown.example.com 46\n", "(seen, wanted)");
            let trace = fs::read_to_string(&trace).expect("strace has written its trace");
            // From the loader's last work on: PID CALL(ARGUMENTS) = RESULT
            let names = trace.lines().filter_map(|line| line.split_once(' ')?.1.split_once('('));
            let names: Vec<_> = names.map(|(name, _)| name.trim().to_owned()).collect();
            let program = names.iter().position(|name| name == "socket").expect("it connects");
            let loader = names[..program].iter().rposition(|name| name == "mprotect");
            names[loader.expect("the loader protects what it relocated")..].join("\n")
        };
        let bare = calls(environment.bare(&program));
        let off = calls(environment.shimmed(&program, &settings));
        assert_eq!(off, bare, "(with EGRESS_SHIM=off, bare) in {environment}: the system calls");
        assert!(!log.exists(), "in {environment}, no log is made");
    }
}

// --- Privileged programs ------------------------------------------------------------------------

/// Runs a copy of a program as nobody, in a mount namespace whose /etc/ld.so.preload names the
/// library. strace, as root, lets the copy have its privileges and sees what it opens.
const AS_NOBODY: &str = r#"
    kind=$1 program=$2 library=$3
    shift 3
    mount -t tmpfs -o mode=755 egress-shim-test /mnt
    mkdir /mnt/etc
    mkdir -m 777 /mnt/public
    cp -L /etc/ld.so.cache /etc/passwd /etc/group /etc/hosts /etc/resolv.conf /etc/nsswitch.conf /mnt/etc
    cp "$library" /mnt/library.so
    cp "$program" /mnt/program
    chmod 755 /mnt/library.so /mnt/program
    echo dual.example.com >/mnt/patterns
    case $kind in
        set-user-ID) chmod 4755 /mnt/program ;;
        set-group-ID) chmod 2755 /mnt/program ;;
        capability) setcap cap_net_raw+ep /mnt/program ;;
    esac
    echo /mnt/library.so >/mnt/etc/ld.so.preload
    mount --bind /mnt/etc /etc
    status=0
    strace -f -o /mnt/trace -e trace=open,openat,creat -u nobody env "$@" \
        /mnt/program dual.example.com || status=$?
    echo "status $status; $(ls /mnt/public | wc -l) logs"
    echo "opened: $(sed -n 's/.*"\(\/mnt\/p[^"]*\)".*/\1/p' /mnt/trace | tr '\n' ' ')"
"#;

#[test]
fn a_privileged_program_ignores_every_variable() {
    let right = [
        "EGRESS_SHIM_KEEPALIVE=off",
        "EGRESS_SHIM_IPV4_ONLY_FILE=/mnt/patterns",
        "EGRESS_SHIM_LOG=trace",
        "EGRESS_SHIM_LOG_FILE=/mnt/public/log",
    ];
    let wrong = ["EGRESS_SHIM_KEEPALIVE=nonsense", "EGRESS_SHIM_STRICT=1"];
    let off = ["EGRESS_SHIM=off"];
    for environment in &Environment::all() {
        // musl reads no such file, and its loader ignores LD_PRELOAD for privileged programs.
        if is_musl(environment) {
            continue;
        }
        let program = environment.program("show");
        let run = |kind: &str, variables: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--", "/bin/sh", "-euc", AS_NOBODY, "sh", kind]);
            command.arg(&program).arg(&environment.library).args(variables);
            let mut command = on(&LAB, command);
            said(&run(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")))
        };
        // The controls: the settings of an unprivileged program count.
        let heeded = "keepalive off\ndual.example.com 4\nstatus 0; 1 logs\n\
                      opened: /mnt/public/log /mnt/patterns \n";
        assert_eq!(run("unprivileged", &right), heeded, "(seen, wanted) in {environment}");
        let seen = run("unprivileged", &wrong);
        assert!(seen.contains("status 78; 0 logs\n"), "in {environment}, STRICT ends it: {seen}");

        let ignored = "keepalive on 60/60/5\ndual.example.com 46\nstatus 0; 0 logs\nopened: \n";
        for kind in ["set-user-ID", "set-group-ID", "capability"] {
            for variables in [&right[..], &wrong, &off] {
                let seen = run(kind, variables);
                assert_eq!(seen, ignored, "(seen, wanted) in {environment}: {kind}, {variables:?}");
            }
        }
    }
}

// --- Beside others ------------------------------------------------------------------------------

#[test]
fn another_preload_in_front_and_one_behind_are_called() {
    for environment in &Environment::all() {
        let program = environment.program("show");
        let chain = environment.shared_library("chain");
        let names = ["dual.example.com", "other.example.com"];
        let settings = [("IPV4_ONLY", names[0])];
        let wanted = |at_connect, at_listed, keepalive, listed| {
            format!(
                "connect, keepalive {at_connect}\nkeepalive {keepalive}\n\
                 getaddrinfo of dual.example.com, {at_listed}\ndual.example.com {listed}\n\
                 getaddrinfo of other.example.com, any family\nother.example.com 46\n"
            )
        };
        let mut bare = on(&LAB, with(environment.bare(&program), names));
        preload(&mut bare, &[&chain]);
        assert_says(environment, bare, &wanted("off", "any family", "off", "46"));

        let mut behind = on(&LAB, with(environment.shimmed(&program, &settings), names));
        preload(&mut behind, &[&environment.library, &chain]);
        assert_says(environment, behind, &wanted("on 60/60/5", "IPv4", "on 60/60/5", "4"));

        let mut front = on(&LAB, with(environment.shimmed(&program, &settings), names));
        preload(&mut front, &[&chain, &environment.library]);
        assert_says(environment, front, &wanted("off", "any family", "on 60/60/5", "4"));
    }
}

// --- Cost ---------------------------------------------------------------------------------------

#[test]
fn many_threads_connect_and_resolve_without_growth() {
    /// What threads and their arenas may take more in the second part of a run than in the first,
    /// beyond what they take without the library.
    const KIBIBYTES: i64 = 512;
    for environment in &Environment::all() {
        let program = environment.program("growth");
        let log = directory("growth", environment).join("log");
        let settings =
            [("IPV4_ONLY", "known.example.com"), ("LOG", "debug"), ("LOG_FILE", text(&log))];
        let grown = |command: Command, seconds: &str| {
            let mut command = on(&SILENT, with(command, [seconds]));
            let output = run(&mut command);
            let value = |key: &str| -> i64 {
                let text = said(&output);
                let value = text.lines().find_map(|line| line.strip_prefix(key));
                value
                    .and_then(|value| value.trim().parse().ok())
                    .unwrap_or_else(|| panic!("{command:?} gives {key}: {text}"))
            };
            assert!(
                value("rounds") > 500,
                "in {environment}, there are 500 rounds: {}",
                value("rounds")
            );
            (value("wrong"), value("descriptors"), value("resident"), value("data"))
        };
        // glibc 2.31 loses some memory itself.
        let (_, _, bare_resident, bare_data) = grown(environment.bare(&program), "2.5");
        let (wrong, descriptors, resident, data) =
            grown(environment.shimmed(&program, &settings), "2.5");
        assert_eq!(
            (wrong, descriptors),
            (0, 0),
            "in {environment}, (wrong results, descriptors left)"
        );
        assert!(
            resident < bare_resident.max(0) + KIBIBYTES && data < bare_data.max(0) + KIBIBYTES,
            "in {environment}, it grows by less than {KIBIBYTES} KiB more than bare ({bare_resident} \
             resident, {bare_data} data): {resident} resident, {data} data"
        );
    }
}

/// A log line takes some 2 KiB, which the smallest signal stack and musl's smallest thread do not
/// have.
#[test]
fn connect_fits_on_the_smallest_stacks_and_a_log_line_on_the_usual_ones() {
    for environment in &Environment::all() {
        let program = environment.program("stack");
        let log = directory("stack", environment).join("log");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        for (which, more, logs) in [
            ("thread", "0", !is_musl(environment)),
            ("thread", "4096", true),
            ("signal", "0", false),
            ("signal", "4096", true),
        ] {
            let taken = |command: Command, keepalive: &str| -> u32 {
                let mut command = with(command, [which, more]);
                let seen = said(&run(&mut command));
                let bytes = seen
                    .strip_prefix(&format!("keepalive {keepalive}, "))
                    .and_then(|rest| rest.strip_suffix(" bytes\n"))
                    .and_then(|bytes| bytes.parse().ok());
                bytes.unwrap_or_else(|| {
                    let wanted = format!("keepalive {keepalive}, N bytes");
                    panic!("in {environment}, wanted {wanted:?}, seen {seen:?}: {command:?}")
                })
            };
            let bare = taken(environment.bare(&program), "off");
            let silent = taken(environment.shimmed(&program, &[]), "on");
            let logging =
                if logs { taken(environment.shimmed(&program, &settings), "on") } else { silent };
            let told = format!(
                "in {environment}, {which} + {more}: connect takes {bare} bytes bare, {silent} with \
                 the shim, {logging} with a log"
            );
            println!("{told}");
            assert!(silent - bare <= 512, "512 more are wanted at most: {told}");
            assert!(logging - bare <= 3072, "3072 more with a log are wanted at most: {told}");
        }
    }
}
