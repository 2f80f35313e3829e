//! A client at work, and what the kernel says of its connection.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::bed::{Arrival, Bed};
use super::{ARRIVED, AtBlackHole, LOST, NOBODY, PATIENCE, RESET, SLOW};
use crate::harness::lab::Host;
use crate::harness::run::{end_with_this_thread, stdout};

/// A client at work, ended when it is dropped.
pub struct Run<'a> {
    bed: &'a Bed,
    host: String,
    mark: String,
    child: Child,
    /// When it was started or, at a black hole, had asked for the address.
    pub start: SystemTime,
    arrival: Option<Arrival>,
    /// Exit status, output and errors, once it has ended.
    pub output: Option<(ExitStatus, String, String)>,
}

impl<'a> Run<'a> {
    /// Starts a client whose request to this host has this mark. It ends with this thread at the latest:
    /// some clients would never end.
    pub fn start(bed: &'a Bed, host: &str, mark: String, command: &mut Command) -> Self {
        end_with_this_thread(command);
        let child = command.spawn().expect("the client starts");
        let host = host.to_owned();
        Self { bed, host, mark, child, start: SystemTime::now(), arrival: None, output: None }
    }

    pub fn has_arrived(&mut self) -> bool {
        if self.arrival.is_none() {
            self.arrival = self.bed.arrival(&self.mark);
        }
        self.arrival.is_some()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How often its request has come.
    pub fn arrivals(&self) -> usize {
        self.bed.arrivals(&self.mark)
    }

    /// Over which family the request came.
    pub fn family(&mut self) -> &'static str {
        self.has_arrived();
        self.arrival.as_ref().map_or(NOBODY, |arrival| arrival.family)
    }

    /// Over which family the request came at last and, where it was long, after which time.
    pub fn at_black_hole(&mut self, expected: AtBlackHole) -> (&'static str, String) {
        // Longer than the connect timeouts of the SDKs: 5 s for each address.
        let most = if expected == AtBlackHole::Hangs { Duration::from_secs(7) } else { PATIENCE };
        let start = Instant::now();
        while !self.has_arrived() && !self.has_ended() && start.elapsed() < most {
            thread::sleep(Duration::from_millis(50));
        }
        let arrival = self.arrival.as_ref().map_or(self.start, |arrival| arrival.time);
        let delay = match arrival.duration_since(self.start) {
            Ok(delay) if delay.as_secs() >= 2 => format!(" ({:.0} s)", delay.as_secs_f64()),
            _ => String::new(),
        };
        (self.family(), delay)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits for its end, but no longer than this.
    pub fn end(&mut self, most: Duration) {
        let start = Instant::now();
        while !self.has_ended() {
            if start.elapsed() > most {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // What they print fits a pipe.
        let status = self.child.wait().expect("it has ended");
        let read = |pipe: &mut dyn Read| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("clients print text");
            // What differs from run to run.
            text.replace(&self.host, "HOST").replace(&self.mark, "MARK")
        };
        let stdout = read(self.child.stdout.as_mut().expect("a pipe"));
        let stderr = read(self.child.stderr.as_mut().expect("a pipe"));
        self.output = Some((status, stdout, stderr));
    }

    pub fn status(&self) -> Option<i32> {
        self.output.as_ref().and_then(|(status, ..)| status.code())
    }

    /// What became of the slow reply.
    pub fn reply(&mut self, expected: &str) -> String {
        let arrival = self.arrival.as_ref().map_or(self.start, |arrival| arrival.time);
        let due = arrival + Duration::from_secs(SLOW);
        let due = due.duration_since(SystemTime::now()).unwrap_or_default();
        let more = if expected == LOST { Duration::from_secs(2) } else { PATIENCE };
        self.end(due + more);
        match &self.output {
            None => LOST.to_owned(),
            Some((status, stdout, _)) if status.success() && stdout.contains("42") => {
                ARRIVED.to_owned()
            }
            Some((status, _, stderr))
                if !status.success() && stderr.contains("Connection reset") =>
            {
                RESET.to_owned()
            }
            Some(output) => format!("{output:?}"),
        }
    }

    /// The kernel's word on its connections, which are to be alike: what ss(8) shows, and getsockopt(2) on
    /// the very sockets.
    pub fn keepalive(&self) -> String {
        let process = format!("pid={},fd=", self.child.id());
        let mut seen = Vec::new();
        // While its last packet is not acknowledged, a socket's timer is the one for that.
        for _ in 0..20 {
            let mut ss = Command::new("ss");
            ss.args(["-H", "-t", "-n", "-o", "-p", "state", "established"]);
            let output = self.bed.lab.on(Host::Client, &mut ss).output().expect("ss starts");
            let output = stdout(&output);
            let of_line = |line: &str| {
                let fd = line.split(&process).nth(1)?.split(')').next()?.parse().ok()?;
                let timings = Timings::of(self.child.id(), fd);
                let is_sure = timings
                    .as_ref()
                    .is_ok_and(|timings| timings.is_some() == line.contains("timer:(keepalive,"));
                Some(timings.map_or_else(|error| error.to_string(), words)).filter(|_| is_sure)
            };
            let lines = output.lines().filter(|line| line.contains(&process));
            seen = lines.map(|line| of_line(line).ok_or_else(|| line.to_owned())).collect();
            seen.dedup();
            if let [Ok(words)] = &seen[..] {
                return words.clone();
            }
            thread::sleep(Duration::from_millis(100));
        }
        format!("no connection, or not all alike with a timer to match: {seen:?}")
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The keepalive timings of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    pub idle: i32,
    pub interval: i32,
    pub count: i32,
}

impl Timings {
    /// What a socket has whose program asks for no timing: the kernel's defaults (tcp(7)).
    pub const KERNEL: Self = Self { idle: 7200, interval: 75, count: 9 };

    /// Those of another process's socket; `None` if keepalive is off.
    fn of(process: u32, descriptor: i32) -> io::Result<Option<Self>> {
        // SAFETY: system calls that take numbers; the descriptors that they give are owned.
        let socket = unsafe {
            let process = owned(libc::syscall(libc::SYS_pidfd_open, process, 0))?;
            owned(libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0))?
        };
        let option = |level, option| {
            let mut value = 0_i32;
            let mut length = 4;
            // SAFETY: the pointers are to locals; `length` is the size of `value`, an i32.
            let status = unsafe {
                let (value, length) = (&raw mut value, &raw mut length);
                libc::getsockopt(socket.as_raw_fd(), level, option, value.cast(), length)
            };
            if status == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
        };
        if option(libc::SOL_SOCKET, libc::SO_KEEPALIVE)? == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            idle: option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE)?,
            interval: option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL)?,
            count: option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT)?,
        }))
    }
}

/// Takes the descriptor that a system call has given.
///
/// # Safety
/// It is the result of a system call that makes a descriptor, and nobody has taken that.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: this function's own contract.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// idle/interval/count, or off.
pub fn words(keepalive: Option<Timings>) -> String {
    match keepalive {
        None => "off".to_owned(),
        Some(Timings { idle, interval, count }) => format!("{idle}/{interval}/{count}"),
    }
}
