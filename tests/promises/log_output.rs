//! Where the log's lines go, and where they must not: descriptors, pipes, full disks.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::faults::fail;
use crate::harness::lab::LAB;
use crate::harness::run::{
    before, expect_says, limit, result, run, run_meanwhile, said, stderr, stdout, with,
};
use crate::harness::scratch::text;
use crate::harness::strace::traced;
use crate::harness::{Scratch, expect, in_each_environment, log, skip};

// --- Descriptors --------------------------------------------------------------------------------

/// What `descriptors.c` writes to its data file.
fn data(keepalive: &str) -> String {
    format!("data, keepalive {keepalive}\n").repeat(3)
}

/// Asserts what `descriptors.c` has in its data file in the end.
#[track_caller]
fn expect_data(command: &mut Command, file: &Path, keepalive: &str) {
    let _ = fs::remove_file(file);
    let output = run_meanwhile(command, |_| ());
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    let seen = fs::read_to_string(file).unwrap_or_default();
    expect(format!("the data of {command:?}"), seen, data(keepalive));
}

const TRACE: [(&str, &str); 1] = [("LOG", "trace")];

#[test]
fn a_data_file_that_gets_descriptor_2_has_no_line_of_ours() {
    in_each_environment(|environment| {
        let program = environment.program("descriptors");
        let directory = Scratch::new();
        let file = directory.join("data");
        let arguments = ["reuse", text(&file)];
        let null = || File::options().write(true).open("/dev/null").expect("/dev/null is there");
        let errors = || File::create(directory.join("errors")).expect("the file can be made");
        let kinds: [&dyn Fn() -> Stdio; 3] =
            [&Stdio::piped, &|| null().into(), &|| errors().into()];
        for stderr in kinds {
            let mut bare = with(environment.bare(&program), arguments);
            expect_data(bare.stderr(stderr()), &file, "off");
            let mut shimmed = with(environment.shimmed(&program, &TRACE), arguments);
            expect_data(shimmed.stderr(stderr()), &file, "on 60/60/5");
        }
        // That there was something to keep out of the data.
        log::expect_lines(&directory.join("errors"), 1);
    });
}

#[test]
fn a_data_file_that_is_descriptor_2_of_a_program_gets_no_line() {
    in_each_environment(|environment| {
        let program = environment.program("descriptors");
        let scratch = Scratch::new();
        let file = scratch.join("data");
        let arguments = ["reuse", text(&file)];
        // SAFETY: close(2) with a number, in the child.
        let close = || result(unsafe { libc::close(libc::STDERR_FILENO) });
        let mut bare = with(environment.bare(&program), arguments);
        before(&mut bare, close);
        expect_data(&mut bare, &file, "off");
        let mut shimmed = with(environment.shimmed(&program, &TRACE), arguments);
        before(&mut shimmed, close);
        expect_data(&mut shimmed, &file, "on 60/60/5");
    });
}

/// ext4, xfs and others give the inode number of a deleted file to the next one.
#[test]
fn a_data_file_with_the_descriptor_and_inode_of_the_log_gets_no_line() {
    in_each_environment(|environment| {
        let program = environment.program("descriptors");
        let directory = Scratch::new();
        let (errors, file) = (directory.join("errors"), directory.join("data"));
        let arguments = ["unlinked", text(&errors), text(&file)];
        let mut shimmed = with(environment.shimmed(&program, &TRACE), arguments);
        // Nobody but the program may have its standard error open: it is this child's to open.
        let path = CString::new(text(&errors)).expect("a path has no NUL");
        let open = move || {
            // SAFETY: system calls with numbers and a string that the closure owns.
            unsafe {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
                libc::dup2(libc::open(path.as_ptr(), flags, 0o644), libc::STDERR_FILENO)
            };
            Ok(())
        };
        before(&mut shimmed, open);
        let output = run_meanwhile(&mut shimmed, |_| ());
        if stdout(&output) == "other number\n" {
            return skip(environment, "this file system gives no inode number twice");
        }
        expect("what the program says", said(&output), "same number\n");
        let seen = fs::read_to_string(&file).unwrap_or_default();
        expect("the data", seen, data("on 60/60/5"));
    });
}

#[test]
fn a_daemon_that_closes_every_descriptor_has_no_line_of_ours_in_its_data() {
    in_each_environment(|environment| {
        let program = environment.program("descriptors");
        let directory = Scratch::new();
        let (log, file) = (directory.join("log"), directory.join("data"));
        let arguments = ["daemon", text(&file)];
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let mut bare = with(environment.bare(&program), arguments);
        expect_data(bare.stderr(Stdio::piped()), &file, "off");
        let mut shimmed = with(environment.shimmed(&program, &settings), arguments);
        expect_data(shimmed.stderr(Stdio::piped()), &file, "on 60/60/5");
        // One that the library is loaded, and one of each connect.
        log::expect_lines(&log, 8);
    });
}

/// Starts a command without the descriptors that the test has inherited, or that another test has just now.
fn with_none_inherited(command: &mut Command) {
    before(command, || {
        for descriptor in 3..1024 {
            // SAFETY: fcntl(2) with numbers.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        Ok(())
    });
}

#[test]
fn the_log_has_a_high_descriptor_that_closes_on_exec() {
    in_each_environment(|environment| {
        let program = environment.program("descriptors");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        fs::write(&log, "").expect("the log can be made");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let arguments = ["log", text(&log)];
        // Descriptor 3 is the program's socket.
        let mut bare = with(environment.bare(&program), arguments);
        with_none_inherited(&mut bare);
        expect_says(bare, "first own 4\nkeepalive off\n50 more\n");
        let mut shimmed = with(environment.shimmed(&program, &settings), arguments);
        with_none_inherited(&mut shimmed);
        let wanted = "first own 4\nlog high close-on-exec\nkeepalive on 60/60/5\n50 more\n";
        expect_says(shimmed, wanted);
        log::expect_lines(&log, 2);
    });
}

/// Leaves a command sixteen descriptors, the last of them taken or free.
fn only_sixteen(command: &mut Command, last_is_taken: bool) {
    with_none_inherited(command);
    before(command, move || {
        if last_is_taken {
            // SAFETY: dup2(2) with numbers.
            unsafe { libc::dup2(libc::STDIN_FILENO, 15) };
        }
        Ok(())
    });
    limit(command, libc::RLIMIT_NOFILE, 16);
}

#[test]
fn a_limit_of_sixteen_descriptors_leaves_the_low_ones_to_the_program() {
    in_each_environment(|environment| {
        let program = environment.program("descriptors");
        let scratch = Scratch::new();
        let log = scratch.file("log", "");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let arguments = ["log", text(&log)];
        for (last_is_taken, bare, shimmed) in [
            (
                false,
                "first own 4\nkeepalive off\n12 more\n",
                "first own 4\nlog last close-on-exec\nkeepalive on 60/60/5\n11 more\n",
            ),
            (
                true,
                "first own 4\nkeepalive off\n11 more\n",
                "first own 5\nlog LOW close-on-exec\nkeepalive on 60/60/5\n10 more\n",
            ),
        ] {
            let mut command = with(environment.bare(&program), arguments);
            only_sixteen(&mut command, last_is_taken);
            expect_says(command, bare);
            let mut command = with(environment.shimmed(&program, &settings), arguments);
            only_sixteen(&mut command, last_is_taken);
            expect_says(command, shimmed);
        }
        log::expect_lines(&log, 4);
    });
}

/// A child forked at that moment by another thread has them not over its exec, a terminal does not
/// become the program's, and a pipe without a reader holds up nobody.
#[test]
fn the_log_and_the_list_are_opened_so_that_the_program_does_not_notice() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let (log, trace) = (scratch.join("log"), scratch.join("trace"));
        let list = scratch.file("list", "dual.example.com\n");
        let settings = [("IPV4_ONLY_FILE", text(&list)), ("LOG_FILE", text(&log))];
        let program = environment.shimmed(environment.program("show"), &settings);
        let program = with(program, ["dual.example.com"]);
        let wanted = "keepalive on 60/60/5\ndual.example.com 4\n";
        expect_says(LAB.client(traced(&program, "trace=open,openat", &trace)), wanted);
        let trace = fs::read_to_string(&trace).expect("strace has written its trace");
        for (file, flags) in [
            (&log, &["O_APPEND", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"][..]),
            (&list, &["O_CLOEXEC", "O_NONBLOCK"]),
        ] {
            let calls: Vec<_> = trace.lines().filter(|line| line.contains(text(file))).collect();
            let with_all = |call: &&str| flags.iter().all(|flag| call.contains(flag));
            let right = !calls.is_empty() && calls.iter().all(with_all);
            assert!(right, "{} is opened with {flags:?}: {calls:#?}", file.display());
        }
    });
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
fn expect_no_signal<T>(
    signal: &str,
    settings: &[(&str, &str)],
    prepare: impl Fn(&mut Command) -> T,
) {
    in_each_environment(|environment| {
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
                expect("the first line", ready, "ready\n".to_owned());
                drop(held);
                let mut input = child.stdin.take().expect("its input is a pipe");
                input.write_all(b"\n").expect("the program waits for a line");
            });
            let seen = (stdout(&output), output.status.to_string());
            let wanted = (format!("5 connected; {wanted}\n"), "exit status: 0".to_owned());
            expect(format!("{command:?}"), seen, wanted);
        }
    });
}

/// The writing end of a pipe whose reading end is given too.
pub(super) fn pipe() -> (io::PipeReader, io::PipeWriter) {
    io::pipe().expect("a pipe can be made")
}

#[test]
fn a_pipe_without_a_reader_as_standard_error_raises_no_signal() {
    expect_no_signal("pipe", &TRACE, |command| {
        command.stderr(pipe().1);
    });
}

#[test]
fn a_socket_without_a_peer_as_standard_error_raises_no_signal() {
    expect_no_signal("pipe", &TRACE, |command| {
        let (ours, _) = UnixStream::pair().expect("a pair of sockets can be made");
        command.stderr(OwnedFd::from(ours));
    });
}

#[test]
fn a_log_pipe_whose_reader_has_gone_raises_no_signal() {
    let scratch = Scratch::new();
    let fifo = scratch.join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there");
    assert!(made.success(), "mkfifo {}: {made}", fifo.display());
    let settings = [("LOG", "trace"), ("LOG_FILE", text(&fifo))];
    expect_no_signal("pipe", &settings, |command| {
        command.stderr(Stdio::null());
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("fifo")
    });
}

#[test]
fn a_log_at_its_size_limit_raises_no_signal() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
    expect_no_signal("fsize", &settings, |command| {
        // The line that tells of the load fills it, and the next ones find it full.
        limit(command.stderr(Stdio::null()), libc::RLIMIT_FSIZE, 40);
    });
    let length = fs::metadata(&log).expect("the log is there").len();
    expect("the log has reached its limit", length, 40);
}

#[test]
fn a_log_on_a_full_disk_changes_nothing() {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full is there");
    expect_no_signal("pipe", &TRACE, |command| {
        command.stderr(full());
    });
    let settings = [("LOG", "trace"), ("LOG_FILE", "/dev/full")];
    expect_no_signal("pipe", &settings, |command| {
        command.stderr(Stdio::null());
    });
}

/// A program whose standard error is a pipe that its starter never reads, as many do.
#[test]
fn a_full_pipe_as_standard_error_does_not_hold_up_the_program() {
    in_each_environment(|environment| {
        let program = environment.program("show");
        let run = |mut command: Command| {
            let (reader, writer) = pipe();
            fill(&writer);
            let output = run_meanwhile(command.stderr(writer), |_| ());
            drop(reader);
            stdout(&output)
        };
        expect("bare", run(environment.bare(&program)), "keepalive off\n");
        let seen = run(environment.shimmed(&program, &TRACE));
        expect("with the library", seen, "keepalive on 60/60/5\n");
    });
}

/// Fills a pipe to the last byte.
pub(super) fn fill(mut pipe: &io::PipeWriter) {
    set_flags(pipe, libc::O_NONBLOCK);
    for size in [65536, 4096, 512, 1] {
        while pipe.write(&vec![b'\n'; size]).is_ok() {}
    }
    set_flags(pipe, 0);
}

// --- Lines that nobody takes ---------------------------------------------------------------------

/// The reading and the writing end of something.
pub(super) type Ends = (OwnedFd, OwnedFd);

/// As openpty(3), whose descriptors would be inherited by what other tests start meanwhile.
pub(super) fn terminal() -> Ends {
    let mut master = File::options();
    master.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let master = OwnedFd::from(master.open("/dev/ptmx").expect("a terminal can be made"));
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: unlockpt(3) and ioctl_tty(2) on a descriptor that is owned; the new one is nobody else's.
    let slave = unsafe {
        expect("unlockpt", libc::unlockpt(master.as_raw_fd()), 0);
        let slave = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags);
        assert!(slave >= 0, "TIOCGPTPEER: {}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(slave)
    };
    (master, slave)
}

/// Sets a descriptor's flags, which all that have the description share.
pub(super) fn set_flags(descriptor: &impl AsRawFd, flags: libc::c_int) {
    // SAFETY: fcntl(2) on a descriptor that is borrowed.
    let status = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, flags) };
    expect("the flags can be set", status, 0);
}

/// What can be read now. The kernel hands on what is in a terminal bit by bit.
pub(super) fn drain(from: &mut File) -> String {
    set_flags(from, libc::O_NONBLOCK);
    let mut bytes = Vec::new();
    let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: poll(2) with one descriptor that is borrowed.
    while unsafe { libc::poll(&raw mut poll, 1, 100) } == 1 {
        // A terminal may say that there is more before the kernel has handed it on. At the end it is EIO.
        match from.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs `lines.c` until it is ready, does something, and lets it go on to its end.
#[track_caller]
pub(super) fn expect_connects(
    mut command: Command,
    wanted: &str,
    meanwhile: impl FnOnce(&mut Child),
) {
    let output = run_meanwhile(command.stdin(Stdio::piped()), |child| {
        let output = child.stdout.as_mut().expect("its output is a pipe");
        let mut lines = BufReader::with_capacity(1, output).lines().map_while(Result::ok);
        expect("the first line", lines.next().as_deref(), Some(wanted));
        expect("the second line", lines.next().as_deref(), Some("ready"));
        drop(lines);
        meanwhile(child);
        drop(child.stdin.take());
    });
    assert!(output.status.success(), "{}", said(&output));
}

/// How many lines were lost before this one, if it says so.
pub(super) fn lost(line: &str) -> Option<usize> {
    line.strip_suffix(')')?.rsplit_once("could not be written: ")?.1.parse().ok()
}

pub(super) const DEBUG: (&str, &str) = ("LOG", "debug");
pub(super) const CONNECTED: &str = "3000 connects, alarms, terminated";

/// A program of one thread would wait in write(2) for whoever reads, forever.
#[test]
fn a_terminal_pipe_or_socket_that_nobody_reads_holds_up_nobody() {
    let pipe = || {
        let (reader, writer) = pipe();
        (OwnedFd::from(reader), OwnedFd::from(writer))
    };
    let socket = || {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets can be made");
        (OwnedFd::from(ours), OwnedFd::from(theirs))
    };
    in_each_environment(|environment| {
        let program = environment.program("lines");
        for (what, ends) in [
            ("a terminal", &terminal as &dyn Fn() -> Ends),
            ("a pipe", &pipe),
            ("a socket", &socket),
        ] {
            let (reader, writer) = ends();
            let mut bare = with(environment.bare(&program), ["3000"]);
            bare.stderr(writer);
            expect_connects(bare, CONNECTED, |_| ());
            drop(reader);

            let (reader, writer) = ends();
            let mut reader = File::from(reader);
            let mut shimmed = with(environment.shimmed(&program, &[DEBUG]), ["3000"]);
            shimmed.stderr(writer);
            let (mut taken, mut more) = (String::new(), 0);
            expect_connects(shimmed, CONNECTED, |child| {
                let input = child.stdin.as_mut().expect("its input is a pipe");
                taken = drain(&mut reader);
                // Each is one more line, which says how many were lost if there is room for it.
                while taken.lines().next_back().and_then(lost).is_none() && more < 100 {
                    input.write_all(b"\n").expect("the program waits for a byte");
                    more += 1;
                    taken += &drain(&mut reader);
                }
            });
            taken += &drain(&mut reader);
            // A terminal that takes a part of a line has the next one right behind it, or nothing.
            let whole = taken.matches('\n').count();
            let lost: usize = taken.lines().take(whole).filter_map(lost).sum();
            assert!(whole > 5 && lost > 100, "{what}: {whole} lines taken, {lost} lost: {taken}");
            // The first line says that the library is loaded.
            expect(format!("lines in {what}, {lost} of them lost"), whole + lost, 3001 + more);
        }
    });
}

/// Between the question whether there is room and the write another process takes it.
#[test]
fn a_pipe_that_others_fill_at_the_same_time_holds_up_nobody() {
    in_each_environment(|environment| {
        let (reader, writer) = pipe();
        let (mut reader, end) = (File::from(OwnedFd::from(reader)), AtomicBool::new(false));
        let mut others = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
            .expect("a description of its own");
        set_flags(&reader, libc::O_NONBLOCK);
        thread::scope(|scope| {
            scope.spawn(|| {
                // A failure below must not keep it here.
                let start = Instant::now();
                while !end.load(Ordering::Relaxed) && start.elapsed().as_secs() < 20 {
                    let _ = others.write(&[b'\n'; 150]);
                }
            });
            let read = scope.spawn(|| {
                let mut seen = Vec::new();
                // Reads for a while, a little at a time, and then no more.
                for _ in 0..2000 {
                    let mut some = [0; 4096];
                    let length = reader.read(&mut some).unwrap_or(0);
                    seen.extend_from_slice(&some[..length]);
                    thread::sleep(Duration::from_micros(100));
                }
                String::from_utf8_lossy(&seen).into_owned()
            });
            let mut command = environment.shimmed(environment.program("lines"), &[DEBUG]);
            command.arg("20000").stderr(writer);
            expect_connects(command, "20000 connects, alarms, terminated", |_| ());
            end.store(true, Ordering::Relaxed);
            let seen = read.join().expect("the reader does not panic");
            assert!(seen.contains(" DEBUG: connect: "), "the library has written to the pipe");
        });
    });
}

#[test]
fn a_background_program_of_a_terminal_that_stops_those_is_not_stopped() {
    in_each_environment(|environment| {
        let program = environment.program("lines");
        for as_file in [false, true] {
            let (reader, writer) = terminal();
            let path = fs::read_link(format!("/proc/self/fd/{}", writer.as_raw_fd()));
            let path = path.expect("a terminal has a path");
            let mut settings = vec![DEBUG];
            settings.extend(as_file.then_some(("LOG_FILE", text(&path))));
            let mut command = with(environment.shimmed(&program, &settings), ["20", "background"]);
            let output = run_meanwhile(command.stderr(writer), |_| ());
            expect(format!("{settings:?}"), stdout(&output), "ended\n");
            let seen = drain(&mut File::from(reader));
            assert!(seen.contains(" DEBUG: connect: "), "{settings:?}: lines: {seen:?}");
        }
    });
}

// --- Descriptors that are a log ------------------------------------------------------------------

/// Another holder of a pipe would keep its reader waiting when the program has closed it.
#[test]
fn a_log_file_that_stands_for_a_descriptor_is_that_descriptor_alone() {
    in_each_environment(|environment| {
        let program = environment.program("lines");
        for path in ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
            let settings = [DEBUG, ("LOG_FILE", path)];
            let arguments = ["20", "close", "2"];
            let mut command = with(environment.shimmed(&program, &settings), arguments);
            command.stderr(Stdio::piped());
            let mut seen = String::new();
            expect_connects(command, "20 connects, alarms, terminated", |child| {
                let mut errors = child.stderr.take().expect("it is a pipe");
                errors.read_to_string(&mut seen).expect("it can be read to its end");
            });
            expect(format!("lines in {path}"), log::lines(&seen).len(), 21);
        }
        let settings = [DEBUG, ("LOG_FILE", "/dev/stdout")];
        let output = run(&mut environment.shimmed(environment.program("show"), &settings));
        let (seen, errors) = (stdout(&output), stderr(&output));
        let of_log = seen.lines().filter(|line| line.contains(" egress-shim[")).count();
        expect(&seen, (of_log, &*errors), (2, ""));
    });
}

#[test]
fn a_log_file_that_needs_more_privilege_is_no_line_in_the_output() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let log = scratch.file("log", "");
        fs::set_permissions(&log, Permissions::from_mode(0o600)).expect("it is this test's own");
        let settings = [DEBUG, ("LOG_FILE", text(&log))];
        let show = |user: u32, strict: &[&str]| {
            let script = ["--reuid", &user.to_string(), "--clear-groups", "--"].map(str::to_owned);
            let mut command = with(environment.bare("setpriv"), script);
            command.arg("env").arg(
                [OsStr::new("LD_PRELOAD="), environment.library.as_os_str()].join(OsStr::new("")),
            );
            command.args(settings.map(|(name, value)| format!("EGRESS_SHIM_{name}={value}")));
            with(with(command, strict), [environment.program("show")])
        };
        for (user, lines) in [(0, 2), (65534, 0)] {
            expect_says(show(user, &[]), "keepalive on 60/60/5\n");
            let seen = fs::read_to_string(&log).expect("the log is there");
            expect(format!("lines of user {user}"), log::lines(&seen).len(), lines);
            fs::write(&log, "").expect("the log can be emptied");
        }
        let strict = run(&mut show(65534, &["EGRESS_SHIM_STRICT=1"]));
        expect(said(&strict), strict.status.code(), Some(78));
        assert!(stderr(&strict).contains("Permission denied"), "{}", said(&strict));
        // As for a file that nobody may change (chattr(1)).
        let mut command = environment.shimmed(environment.program("show"), &settings);
        fail(&mut command, environment, ("open", 0), libc::EPERM);
        expect_says(command, "keepalive on 60/60/5\n");
    });
}

// --- Lines ---------------------------------------------------------------------------------------

#[test]
fn a_log_line_is_one_write() {
    in_each_environment(|environment| {
        let directory = Scratch::new();
        let (log, trace) = (directory.join("log"), directory.join("trace"));
        let settings =
            [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
        let program = environment.shimmed(environment.program("show"), &settings);
        let program = with(program, ["dual.example.com", "other.example.com"]);
        let calls = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg";
        let command = LAB.client(traced(&program, calls, &trace));
        let wanted = "keepalive on 60/60/5\ndual.example.com 4\nother.example.com 46\n";
        expect_says(command, wanted);
        log::expect_lines(&log, 4);
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
        expect("the writes, and the lines of the log", writes, lines);
    });
}
