//! A trial: a program is started as COMMAND would be, and the library that its loader loads answers a
//! question before `main` (src/check.rs). The program itself never runs: if the library does not answer, the
//! process is ended at its entry point.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use libc::{c_int, c_long, pid_t};

use crate::environment::{Environment, pointers};
use crate::output::{Failure, reason, status};
use crate::process;
use crate::program::{self, Program};
use crate::target::Target;
use egress_shim_core::kernel;
use egress_shim_core::question::{Keepalive, Line, Question};
use egress_shim_core::settings::CHECK;

/// The outcome of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    Addresses(Vec<IpAddr>),
    /// The status of getaddrinfo(3), and errno.
    Error(c_int, c_int),
    /// No answer within the limit.
    Silent,
}

/// The library's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The outcome of the lookup.
    pub lookup: Lookup,
    /// The time that it took.
    pub time: Duration,
    /// The keepalive of the socket; `None` if there was nothing to connect to.
    pub keepalive: Option<Keepalive>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The loader has not loaded the library. The text is the output of the process meanwhile.
    NotLoaded(String),
    /// The program cannot be stopped at its entry point here.
    CannotStop(io::Error),
}

/// The parameters of a trial.
pub struct Trial<'a> {
    /// The file that is executed, and the program that the kernel runs in the end.
    pub file: &'a Path,
    pub program: &'a Program,
    /// With the library in `LD_PRELOAD`.
    pub environment: &'a Environment,
    /// The time that the answers may take, all together.
    pub limit: Duration,
    /// Whether the program does no harm if it cannot be stopped and so runs.
    pub is_harmless: bool,
}

/// The answers about one host: libc's own, and with the library.
pub type Answers = [Result<Answer, NoAnswer>; 2];

/// A process that has been started.
struct Process {
    pid: pid_t,
    answer: Output,
    said: Output,
    stage: Stage,
    /// The start and the end of the lookup, as far as they were seen.
    began: Option<Instant>,
    ended: Option<Instant>,
}

/// The stage that a process has reached.
enum Stage {
    /// execve(2) has not stopped it yet.
    Starting,
    /// The loader runs, and will stop at the breakpoint on the program's entry point. `None` if there is no breakpoint.
    Loading(Option<Breakpoint>),
    /// The process has continued past its entry point, where musl runs the constructors.
    Constructing,
    /// It has ended, with this status, or was ended here.
    Ended(Option<ExitStatus>),
    /// It could not be stopped at its entry point, and was ended.
    Failed(io::Error),
    /// It ended before it executed anything.
    Refused,
}

// `e_machine`.
const X86: u16 = 3;
const ARM: u16 = 40;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// The address at which a process stops, and the instruction that was there.
struct Breakpoint {
    place: usize,
    word: c_long,
}

struct Output {
    pipe: io::PipeReader,
    bytes: Vec<u8>,
    is_open: bool,
}

impl Trial<'_> {
    /// Asks about all hosts at the same time: for libc's own lookup, and for the lookup with the library. `wait` is called
    /// again and again until the answers are there.
    ///
    /// # Errors
    /// No process can be started.
    pub fn ask(&self, hosts: &[Target], mut wait: impl FnMut()) -> Result<Vec<Answers>, Failure> {
        let failed = |error| {
            Failure::new(status::FAILED, format!("cannot start a process: {}", reason(&error)))
        };
        let mut processes = Vec::new();
        for host in hosts {
            for with_library in [false, true] {
                processes.push(self.start(with_library, host).map_err(failed)?);
            }
        }
        let deadline = Instant::now() + self.limit;
        while processes.iter().any(Process::is_running) && Instant::now() < deadline {
            wait();
            wait_for_output(&processes);
            for process in &mut processes {
                process.attend(self);
            }
        }
        let mut answers = processes.into_iter().map(|process| process.end(self.is_harmless));
        let mut pairs = Vec::new();
        while let (Some(without), Some(with)) = (answers.next(), answers.next()) {
            pairs.push([without, with]);
        }
        Ok(pairs)
    }

    /// Whether the program's libc runs constructors only when the loader has jumped to its entry point: musl.
    fn runs_constructors_late(&self) -> bool {
        let name = self.program.interpreter().and_then(Path::file_name);
        name.is_some_and(|name| name.as_bytes().starts_with(b"ld-musl"))
    }

    fn start(&self, with_library: bool, target: &Target) -> io::Result<Process> {
        let (answer, to_answer) = io::pipe()?;
        let (said, to_said) = io::pipe()?;
        let file = CString::new(self.file.as_os_str().as_bytes())?;
        // SAFETY: this process has one thread, so the child may do all that it could.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            // SAFETY: dup(2) and dup2(2) on descriptors of this function; getpid(2) always succeeds.
            let (descriptor, own) = unsafe {
                libc::dup2(to_said.as_raw_fd(), 1);
                libc::dup2(to_said.as_raw_fd(), 2);
                (libc::dup(to_answer.as_raw_fd()), libc::getpid())
            };
            let mut environment = self.environment.clone();
            let Target { host, port } = target;
            let (process, port) = (own, *port);
            let question = Question { process, descriptor, with_library, port, host };
            environment.set(CHECK, question.to_string().as_bytes());
            let words = pointers([file.as_c_str()].into_iter());
            let environment = environment.pointers();
            // SAFETY: prctl(2) and ptrace(2) take numbers here; execve(2) a C string and null-terminated arrays.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::ptrace(libc::PTRACE_TRACEME, 0, 0_usize, 0_usize) == 0 || self.is_harmless
                {
                    libc::execve(file.as_ptr(), words.as_ptr(), environment.as_ptr());
                    let _ = writeln!(io::stderr(), "{}", io::Error::last_os_error());
                }
                libc::_exit(status::FAILED);
            }
        }
        Ok(Process {
            pid,
            answer: Output::new(answer)?,
            said: Output::new(said)?,
            stage: Stage::Starting,
            began: None,
            ended: None,
        })
    }
}

impl Output {
    fn new(pipe: io::PipeReader) -> io::Result<Self> {
        // SAFETY: fcntl(2) with numbers.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { pipe, bytes: Vec::new(), is_open: true })
    }

    /// Reads the bytes that are there.
    fn read(&mut self) {
        let result = self.pipe.read_to_end(&mut self.bytes);
        self.is_open = result.is_err();
    }
}

/// Waits a moment, or until one of the processes has written something.
fn wait_for_output(processes: &[Process]) {
    let outputs = processes.iter().flat_map(|process| [&process.answer, &process.said]);
    let mut polled: Vec<_> = outputs
        .map(|output| libc::pollfd {
            fd: if output.is_open { output.pipe.as_raw_fd() } else { -1 },
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let length = polled.len() as libc::nfds_t;
    // SAFETY: an array of this length.
    unsafe { libc::poll(polled.as_mut_ptr(), length, 2) };
}

impl Process {
    fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Loading(_) | Stage::Constructing)
    }

    /// Reads the output of the process, and lets the process go on if it has stopped.
    fn attend(&mut self, trial: &Trial) {
        self.read();
        if !self.is_running() {
            return;
        }
        let mut status = 0;
        // SAFETY: waitpid(2) with a local for the status.
        let seen = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        if seen != self.pid {
            return;
        }
        if !libc::WIFSTOPPED(status) {
            self.stage = match self.stage {
                Stage::Starting if !trial.is_harmless => Stage::Refused,
                _ => Stage::Ended(Some(ExitStatus::from_raw(status))),
            };
            return;
        }
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP {
            self.advance(trial);
        } else {
            self.resume(signal);
        }
    }

    /// Moves on to the next stage: the process has stopped after execve(2), or at a breakpoint.
    fn advance(&mut self, trial: &Trial) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Constructing) {
            // execve(2) has succeeded.
            Stage::Starting => match self.set_breakpoint() {
                Ok(breakpoint) => {
                    self.resume(0);
                    Stage::Loading(Some(breakpoint))
                }
                Err(_) if trial.is_harmless => {
                    self.resume(0);
                    Stage::Loading(None)
                }
                Err(error) => {
                    self.kill();
                    Stage::Failed(error)
                }
            },
            // The entry point. glibc's loader has run the constructors by now, and no library has answered.
            // musl runs them in __libc_start_main, before `main`.
            Stage::Loading(Some(breakpoint))
                if trial.runs_constructors_late()
                    && self.has_library()
                    && self.pass(&breakpoint).is_ok() =>
            {
                self.resume(0);
                Stage::Constructing
            }
            _ => {
                self.kill();
                Stage::Ended(None)
            }
        };
    }

    fn read(&mut self) {
        self.answer.read();
        self.said.read();
        let has = |words: &[u8]| self.answer.bytes.windows(words.len()).any(|part| part == words);
        if self.began.is_none() && self.answer.bytes.starts_with(b"loaded ") {
            self.began = Some(Instant::now());
        }
        if self.ended.is_none() && has(b"resolved\n") {
            self.ended = Some(Instant::now());
        }
    }

    fn has_library(&self) -> bool {
        u32::try_from(self.pid).is_ok_and(|pid| process::library_in(pid).is_some())
    }

    /// Restores the instruction at the breakpoint, so that the process goes on with it.
    fn pass(&self, breakpoint: &Breakpoint) -> io::Result<()> {
        // SAFETY: ptrace(2) writes the other process, which has stopped.
        unsafe {
            if libc::ptrace(libc::PTRACE_POKETEXT, self.pid, breakpoint.place, breakpoint.word) != 0
            {
                return Err(io::Error::last_os_error());
            }
            // int3 has been executed, so the instruction pointer goes back. The instructions of other architectures trap
            // before they are executed. A 32-bit process has its registers in the same places.
            #[cfg(target_arch = "x86_64")]
            if libc::ptrace(
                libc::PTRACE_POKEUSER,
                self.pid,
                std::mem::offset_of!(libc::user_regs_struct, rip),
                breakpoint.place,
            ) != 0
            {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    fn resume(&self, signal: c_int) {
        // SAFETY: ptrace(2) takes numbers here.
        unsafe { libc::ptrace(libc::PTRACE_CONT, self.pid, 0 as c_long, c_long::from(signal)) };
    }

    /// Puts a breakpoint at the program's entry point (`AT_ENTRY`), where the loader jumps at last.
    fn set_breakpoint(&self) -> io::Result<Breakpoint> {
        let elf = program::elf_of(Path::new(&format!("/proc/{}/exe", self.pid)));
        let architecture = elf.ok_or_else(|| io::Error::other("no ELF file"))?.architecture;
        let auxiliary = fs::read(format!("/proc/{}/auxv", self.pid))?;
        let entry = kernel::auxiliary(&auxiliary, architecture.is_wide, kernel::AT_ENTRY);
        let entry = entry.and_then(|entry| usize::try_from(entry).ok());
        let entry = entry.ok_or_else(|| io::Error::other("no entry point"))?;
        let is_thumb = entry & 1 == 1;
        let (breakpoint, entry): (&[u8], _) = match architecture.machine {
            X86 | X86_64 => (&[0xcc], entry),              // int3
            AARCH64 => (&[0x00, 0x00, 0x20, 0xd4], entry), // brk #0
            // The undefined instructions of arch/arm/kernel/ptrace.c.
            ARM if is_thumb => (&[0x01, 0xde], entry - 1),
            ARM => (&[0xf0, 0x01, 0xf0, 0xe7], entry),
            _ => return Err(io::Error::other(format!("no breakpoint for {architecture}"))),
        };
        // SAFETY: ptrace(2) reads and writes the other process, which has stopped. A word that it reads may be
        // -1, so errno must say whether it is one; errno's address is valid as long as its thread lives.
        unsafe {
            *libc::__errno_location() = 0;
            let word = libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, entry, 0_usize);
            if *libc::__errno_location() != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut bytes = word.to_ne_bytes();
            bytes[..breakpoint.len()].copy_from_slice(breakpoint);
            let broken = c_long::from_ne_bytes(bytes);
            // If this process ends, the kernel ends the other one.
            let options = c_long::from(libc::PTRACE_O_EXITKILL);
            if libc::ptrace(libc::PTRACE_POKETEXT, self.pid, entry, broken) != 0
                || libc::ptrace(libc::PTRACE_SETOPTIONS, self.pid, 0_usize, options) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(Breakpoint { place: entry, word })
        }
    }

    fn kill(&self) {
        // SAFETY: a child that has not been waited for; waitpid(2) without a status.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }

    /// Ends the process, if it has not ended, and reads its answer.
    fn end(mut self, is_harmless: bool) -> Result<Answer, NoAnswer> {
        if self.is_running() {
            self.kill();
        }
        self.read();
        let text = String::from_utf8_lossy(&self.answer.bytes).into_owned();
        if text.starts_with("loaded ") {
            let began = self.began.unwrap_or_else(Instant::now);
            let time = self.ended.unwrap_or_else(Instant::now).duration_since(began);
            return Ok(Answer::parse(&text, time));
        }
        let mut said = String::from_utf8_lossy(&self.said.bytes).into_owned();
        match self.stage {
            Stage::Failed(error) => return Err(NoAnswer::CannotStop(error)),
            // ptrace(2) has refused.
            Stage::Refused if said.is_empty() && !is_harmless => {
                return Err(NoAnswer::CannotStop(io::Error::from_raw_os_error(libc::EPERM)));
            }
            Stage::Ended(Some(status)) => said.push_str(&status.to_string()),
            _ => {}
        }
        Err(NoAnswer::NotLoaded(said))
    }
}

impl Answer {
    /// Reads the lines of an answer.
    fn parse(text: &str, time: Duration) -> Self {
        let mut answer = Self { lookup: Lookup::Silent, time, keepalive: None };
        let mut addresses = Vec::new();
        for line in text.lines().map_while(Line::parse) {
            match line {
                Line::Address(address) => {
                    // `::ffff:a.b.c.d` is IPv4 on the wire.
                    let address = address.to_canonical();
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                Line::Error { status, errno } => answer.lookup = Lookup::Error(status, errno),
                Line::Resolved if !addresses.is_empty() => {
                    answer.lookup = Lookup::Addresses(std::mem::take(&mut addresses));
                }
                Line::Keepalive(keepalive) => answer.keepalive = Some(keepalive),
                Line::Loaded(_) | Line::Resolved => {}
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_each_address_once_and_ipv4_as_ipv4() {
        let text = "loaded 1\naddress ::ffff:192.0.2.1\naddress 192.0.2.1\naddress 2001:db8::1\n\
                    resolved\nkeepalive 1 60 61 5 7000\n";
        let answer = Answer::parse(text, Duration::ZERO);
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert_eq!(answer.lookup, Lookup::Addresses(addresses.to_vec()));
        let keepalive = answer.keepalive.expect("there is one");
        assert!(keepalive.is_on);
        assert_eq!(
            [keepalive.idle, keepalive.interval, keepalive.count, keepalive.milliseconds],
            [60, 61, 5, 7000]
        );
    }

    #[test]
    fn an_answer_that_is_cut_off_is_silence_and_an_error_is_one() {
        let lookup = |text| Answer::parse(text, Duration::ZERO).lookup;
        assert_eq!(lookup("loaded 1\n"), Lookup::Silent);
        assert_eq!(lookup("loaded 1\naddress 192.0.2.1\n"), Lookup::Silent);
        assert_eq!(lookup("loaded 1\nerror -3 111\nresolved\n"), Lookup::Error(-3, 111));
    }
}
