//! A trial: a program is started as COMMAND would be, and the library that its loader brings in answers a
//! question before `main` (src/check.rs). The program itself never runs: where the library does not answer, the
//! process is stopped at its entry point.

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

use libc::{c_int, c_long, c_ulong, pid_t};

use crate::environment::{Environment, pointers};
use crate::output::{Failure, status};
use crate::process;
use crate::program::Program;
use egress_shim_core::question::{Keepalive, Line, Question};
use egress_shim_core::settings::CHECK;

/// What became of a lookup.
pub enum Lookup {
    Addresses(Vec<IpAddr>),
    /// What getaddrinfo(3) said, and errno.
    Error(c_int, c_int),
    /// No answer within the limit.
    Silent,
}

/// What the library answered.
pub struct Answer {
    /// What became of the lookup.
    pub lookup: Lookup,
    /// What the socket has; `None` if there was nothing to connect to.
    pub keepalive: Option<Keepalive>,
}

/// Why there is no answer.
pub enum NoAnswer {
    /// The loader has not brought the library in. What was said meanwhile.
    NotLoaded(String),
    /// The program cannot be stopped at its entry point here.
    CannotStop(io::Error),
}

/// What is to be asked about.
pub struct Trial<'a> {
    /// The file that is executed, and the program that it comes to.
    pub file: &'a Path,
    pub program: &'a Program,
    /// With the library in `LD_PRELOAD`.
    pub environment: &'a Environment,
    /// A name or an address, of at most 253 bytes.
    pub host: &'a str,
    /// Where the socket connects to, 1 to 65535.
    pub port: u16,
    /// How long the answers may take, both together.
    pub limit: Duration,
    /// Whether nothing is lost if it does run, where it cannot be stopped.
    pub is_harmless: bool,
}

/// A process that has been started.
struct Process {
    pid: pid_t,
    answer: Output,
    said: Output,
    /// Where it stops, and the instruction that was there.
    breakpoint: Option<Breakpoint>,
    /// Whether it has gone on from there.
    is_late: bool,
    /// How: nothing to say of it where it was ended here.
    ended: Option<io::Result<Option<ExitStatus>>>,
}

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
    /// Asks at the same time about libc's own lookup and about one with the library. `wait` is called again
    /// and again while the answers are not there.
    ///
    /// # Errors
    /// No process can be started.
    pub fn ask(&self, mut wait: impl FnMut()) -> Result<[Result<Answer, NoAnswer>; 2], Failure> {
        let failed =
            |error| Failure::new(status::FAILED, format!("cannot start a process: {error}"));
        let start = |with_library| self.start(with_library).map_err(failed);
        let mut processes = [start(false)?, start(true)?];
        let deadline = Instant::now() + self.limit;
        while processes.iter().any(|process| process.ended.is_none()) && Instant::now() < deadline {
            wait();
            for process in &mut processes {
                process.attend(self);
            }
        }
        Ok(processes.map(|process| process.end(self.is_harmless)))
    }

    /// Whether the program's libc runs constructors only when the loader has jumped to its entry point: musl.
    fn runs_constructors_late(&self) -> bool {
        let interpreter = self.program.interpreter();
        interpreter
            .and_then(Path::file_name)
            .is_some_and(|name| name.as_bytes().starts_with(b"ld-musl"))
    }

    fn start(&self, with_library: bool) -> io::Result<Process> {
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
            let (port, host) = (self.port, self.host);
            let question = Question { process: own, descriptor, with_library, port, host };
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
            breakpoint: None,
            is_late: false,
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

    /// Takes what is there.
    fn read(&mut self) {
        let result = self.pipe.read_to_end(&mut self.bytes);
        self.is_open = result.is_err();
    }
}

impl Process {
    /// Takes what the process has written, waits a moment, and lets it go on where it has stopped.
    fn attend(&mut self, trial: &Trial) {
        let readable = |output: &Output| libc::pollfd {
            fd: if output.is_open { output.pipe.as_raw_fd() } else { -1 },
            events: libc::POLLIN,
            revents: 0,
        };
        let mut polled = [readable(&self.answer), readable(&self.said)];
        // SAFETY: an array of two.
        unsafe { libc::poll(polled.as_mut_ptr(), 2, 2) };
        self.answer.read();
        self.said.read();
        if self.ended.is_some() {
            return;
        }
        let mut status = 0;
        // SAFETY: waitpid(2) with a local for the status.
        let seen = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        if seen != self.pid {
            return;
        }
        if !libc::WIFSTOPPED(status) {
            self.ended = Some(Ok(Some(ExitStatus::from_raw(status))));
            return;
        }
        let signal = libc::WSTOPSIG(status);
        if signal != libc::SIGTRAP {
            self.resume(signal);
        } else if let Some(breakpoint) = &self.breakpoint {
            // The entry point. glibc's loader has run the constructors by now, and no library has answered.
            // musl runs them in __libc_start_main, before `main`.
            if trial.runs_constructors_late()
                && !self.is_late
                && self.has_library()
                && self.pass(breakpoint).is_ok()
            {
                self.is_late = true;
                self.resume(0);
            } else {
                self.kill(Ok(None));
            }
        } else {
            // execve(2) has succeeded.
            match self.set_breakpoint() {
                Ok(breakpoint) => {
                    self.breakpoint = Some(breakpoint);
                    self.resume(0);
                }
                Err(_) if trial.is_harmless => self.resume(0),
                Err(error) => self.kill(Err(error)),
            }
        }
    }

    fn has_library(&self) -> bool {
        u32::try_from(self.pid).is_ok_and(|pid| process::library_in(pid).is_some())
    }

    /// Puts the instruction back, to go on with it.
    fn pass(&self, breakpoint: &Breakpoint) -> io::Result<()> {
        // SAFETY: ptrace(2) writes the other process, which has stopped.
        unsafe {
            if libc::ptrace(libc::PTRACE_POKETEXT, self.pid, breakpoint.place, breakpoint.word) != 0
            {
                return Err(io::Error::last_os_error());
            }
            // int3 has been executed, brk has not.
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
        #[cfg(target_arch = "x86_64")]
        const BREAKPOINT: &[u8] = &[0xcc]; // int3
        #[cfg(target_arch = "aarch64")]
        const BREAKPOINT: &[u8] = &0xd420_0000_u32.to_le_bytes(); // brk #0
        const WORD: usize = size_of::<usize>();
        let auxiliary = fs::read(format!("/proc/{}/auxv", self.pid))?;
        let (pairs, _) = auxiliary.as_chunks::<{ 2 * WORD }>();
        let entry = pairs.iter().find_map(|pair| {
            let (words, _) = pair.as_chunks::<WORD>();
            let [key, value] = *words else { return None };
            let is_entry = c_ulong::from_ne_bytes(key) == libc::AT_ENTRY;
            is_entry.then_some(usize::from_ne_bytes(value))
        });
        let entry = entry.ok_or_else(|| io::Error::other("no entry point"))?;
        // SAFETY: ptrace(2) reads and writes the other process, which has stopped. A word that it reads may be
        // -1, so errno must say whether it is one; errno's address is valid as long as its thread lives.
        unsafe {
            *libc::__errno_location() = 0;
            let word = libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, entry, 0_usize);
            if *libc::__errno_location() != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut bytes = word.to_ne_bytes();
            bytes[..BREAKPOINT.len()].copy_from_slice(BREAKPOINT);
            let broken = c_long::from_ne_bytes(bytes);
            // The end of this process ends the other.
            let options = c_long::from(libc::PTRACE_O_EXITKILL);
            if libc::ptrace(libc::PTRACE_POKETEXT, self.pid, entry, broken) != 0
                || libc::ptrace(libc::PTRACE_SETOPTIONS, self.pid, 0_usize, options) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(Breakpoint { place: entry, word })
        }
    }

    fn kill(&mut self, ended: io::Result<Option<ExitStatus>>) {
        // SAFETY: a child that has not been waited for; waitpid(2) without a status.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
        self.ended = Some(ended);
    }

    fn end(mut self, is_harmless: bool) -> Result<Answer, NoAnswer> {
        if self.ended.is_none() {
            self.kill(Ok(None));
        }
        self.answer.read();
        self.said.read();
        let status = match self.ended {
            Some(Err(error)) => return Err(NoAnswer::CannotStop(error)),
            Some(Ok(status)) => status,
            None => None,
        };
        let text = String::from_utf8_lossy(&self.answer.bytes).into_owned();
        let mut lines = text.lines().map_while(Line::parse);
        if !matches!(lines.next(), Some(Line::Loaded(_))) {
            let mut said = String::from_utf8_lossy(&self.said.bytes).into_owned();
            if self.breakpoint.is_none() && said.is_empty() && !is_harmless {
                // ptrace(2) has refused, and nothing has been executed.
                let error = io::Error::from_raw_os_error(libc::EPERM);
                return Err(NoAnswer::CannotStop(error));
            }
            if let Some(status) = status {
                said.push_str(&status.to_string());
            }
            return Err(NoAnswer::NotLoaded(said));
        }
        let mut answer = Answer { lookup: Lookup::Silent, keepalive: None };
        let mut addresses = Vec::new();
        for line in lines {
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
        Ok(answer)
    }
}
