//! Running programs to their end, or watching them on the way: a program that hangs is ended, and
//! fails its test.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::expect;

/// Longer than any program of the tests takes, on a machine that is busy with something else: who
/// takes longer hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A command with arguments.
pub fn with<S: AsRef<OsStr>>(
    mut command: Command,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    command.args(arguments);
    command
}

/// A user without privileges, and a group.
pub const NOBODY: u32 = 65534;
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with an environment of its own, which holds PATH and nothing else.
pub fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).current_dir("/").stdin(Stdio::null());
    command
}

/// Takes the surroundings' settings and preloads out of a command's environment.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"EGRESS_SHIM") || bytes.starts_with(b"LD_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_meanwhile(command.stderr(Stdio::piped()), |_| ())
}

/// Runs a command to its end and does something meanwhile. Its standard error is the caller's.
#[track_caller]
pub fn run_meanwhile(command: &mut Command, meanwhile: impl FnOnce(&mut Child)) -> Output {
    let (output, hangs) = watch(command, DEADLINE, meanwhile);
    if let Some(doing) = hangs {
        let said = said(&output);
        panic!(
            "{command:?} hangs: it has not ended after {DEADLINE:?}\n  said {said:?}\n  {doing}"
        );
    }
    output
}

/// Runs a command for at most `most`; `None` if it had not ended.
pub fn run_for(command: &mut Command, most: Duration) -> Option<Output> {
    let (output, hangs) = watch(command.stderr(Stdio::piped()), most, |_| ());
    hangs.is_none().then_some(output)
}

/// Runs a command, and ends it after `most`: then it also says what its threads waited for.
#[track_caller]
fn watch(
    command: &mut Command,
    most: Duration,
    meanwhile: impl FnOnce(&mut Child),
) -> (Output, Option<String>) {
    end_with_this_thread(command);
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let leader = libc::pid_t::try_from(child.id()).expect("a process id");
    let (end, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(most) else { return None };
        let doing = doing(leader);
        // SAFETY: kill(2) with numbers: the group that was made for this command, whose leader has
        // not been waited for, or whose members still hold its pipes.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
        Some(doing)
    });
    meanwhile(&mut child);
    let output = child.wait_with_output().expect("the command can be waited for");
    drop(end);
    (output, watchdog.join().expect("the watchdog does not panic"))
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

/// Has a command killed when the thread that starts it ends.
pub fn end_with_this_thread(command: &mut Command) {
    // SAFETY: prctl(2) with numbers, after the fork.
    before(command, || result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }));
}

/// What a command wrote to standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: impl Display, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "not after {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// All that a command let others see: what it wrote, and how it ended where that was not well.
pub fn said(output: &Output) -> String {
    let mut text = stdout(output) + &stderr(output);
    if !output.status.success() {
        text += &output.status.to_string();
    }
    text
}

/// Expects a command to say just this, and to end well.
#[track_caller]
pub fn expect_says(mut command: Command, wanted: &str) {
    let seen = said(&run(&mut command));
    expect(format!("{command:?}"), seen, wanted);
}

/// The standard output of a command that must succeed and write nothing to standard error.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, stderr(&output));
    expect(format!("standard error of {command:?}"), stderr(&output), "");
    stdout(&output)
}

// --- Before the program starts ------------------------------------------------------------------

/// What runs in the child before the program does: `f` makes system calls, and nothing else.
pub fn before(
    command: &mut Command,
    f: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: the closure makes system calls only, by the word of the caller.
    unsafe { command.pre_exec(f) }
}

/// The result of a system call.
pub fn result(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a command run as a user without privileges.
pub fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

/// Sets a resource limit for a command.
pub fn limit(
    command: &mut Command,
    resource: libc::__rlimit_resource_t,
    most: u64,
) -> &mut Command {
    let limit = libc::rlimit64 { rlim_cur: most, rlim_max: most };
    // SAFETY: setrlimit(2) with what the closure owns.
    before(command, move || result(unsafe { libc::setrlimit64(resource, &raw const limit) }))
}

/// Has a command start in these namespaces (files of `/proc/PID/ns`), entered in their order.
pub fn inside(command: &mut Command, namespaces: Vec<File>) -> &mut Command {
    before(command, move || {
        // SAFETY: setns(2) with a descriptor that this closure owns.
        namespaces.iter().try_for_each(|file| result(unsafe { libc::setns(file.as_raw_fd(), 0) }))
    })
}

// --- Programs that wait -------------------------------------------------------------------------

/// A program that prints `ready` and waits for a byte on standard input, so that others can look at
/// it: nothing is preloaded into the looker, and the program may be in another root or namespace.
pub struct Waiting {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The lines that it printed before.
    pub printed: Vec<String>,
}

impl Waiting {
    /// Starts the program and lets it run until it waits.
    pub fn start(command: &mut Command) -> Self {
        end_with_this_thread(command);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut printed = Vec::new();
        loop {
            let mut line = String::new();
            let length = output.read_line(&mut line).expect("its output can be read");
            assert_ne!(length, 0, "{command:?} ended before it was ready: {printed:?}");
            match line.trim_end() {
                "ready" => return Self { child, output, printed },
                line => printed.push(line.to_owned()),
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on, and waits for its end. What it printed after its waiting.
    pub fn finish(mut self) -> String {
        self.child.stdin.take().expect("its input is a pipe").write_all(b"\n").expect("it waits");
        let mut output = String::new();
        self.output.read_to_string(&mut output).expect("its output can be read");
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "the program ends well: {status}");
        output
    }
}

/// A process that goes with the test.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        end_with_this_thread(command);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    pub fn id(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
