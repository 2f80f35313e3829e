//! The reasons why `--rescue` cannot reach the sockets of a process, each with the way that works.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::duplicates::may_duplicate;
use crate::output::{Failure, status};

/// `CAP_SYS_PTRACE` in `linux/capability.h`.
const CAP_SYS_PTRACE: u32 = 19;

const CONTAINER: &str = "\
\n  as root on the host:   egress-shim --rescue \"$(docker inspect -f '{{.State.Pid}}' CONTAINER)\"\
\n  beside the container:  docker run --rm --pid=container:CONTAINER --cap-add SYS_PTRACE IMAGE egress-shim --rescue 1\
\n  in Kubernetes:         kubectl debug POD --image=IMAGE --target=CONTAINER --profile=general -- egress-shim --rescue 1";

fn failure(message: String) -> Failure {
    Failure::new(status::FAILED, message)
}

/// The refusal for a process that cannot be opened.
pub fn cannot_open(id: u32, error: Errno) -> Failure {
    match error {
        Errno::SRCH => failure(format!("there is no process {id} here")),
        // Linux before 6.16 says EINVAL.
        Errno::INVAL | Errno::NOENT => {
            failure(format!("{id} is a thread: --rescue needs the PID of its process"))
        }
        Errno::NOSYS | Errno::PERM => of_call(error),
        _ => failure(format!("process {id} cannot be opened: {error}")),
    }
}

/// The refusal that applies to every process, this one included: the kernel lacks the call, or a filter forbids it.
///
/// # Errors
/// The refusal.
pub fn of_any_process() -> Result<(), Failure> {
    may_duplicate().map_err(of_call)
}

fn of_call(error: Errno) -> Failure {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if error == Errno::NOSYS && is_older(&release, (5, 6)) {
        return failure(format!(
            "--rescue needs Linux 5.6 or later, and this is {release}: restart the program with egress-shim instead"
        ));
    }
    if matches!(error, Errno::NOSYS | Errno::PERM) {
        return failure(format!(
            "a seccomp filter of this process refuses pidfd_getfd, as Docker's does without CAP_SYS_PTRACE; these ways \
             work:{CONTAINER}"
        ));
    }
    failure(format!("descriptors of processes cannot be duplicated here: {error}"))
}

/// Whether a kernel's release, as in 5.4.0-150-generic, is older than this version.
fn is_older(release: &str, version: (u32, u32)) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < version
}

/// The refusal for one process, if others could be reached.
pub fn of_process(id: u32, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) {
        return failure(format!(
            "process {id} runs no program: it has ended, or is a kernel thread"
        ));
    }
    let is_refused = matches!(error.kind(), io::ErrorKind::PermissionDenied);
    let Some(target) = Status::of(&id.to_string()).filter(|_| is_refused) else {
        return failure(format!("the descriptors of process {id} cannot be seen: {error}"));
    };
    let own = Status::of("self");
    let is_capable = own.as_ref().is_some_and(|own| own.effective & (1 << CAP_SYS_PTRACE) != 0);
    let is_same_user = own.as_ref().is_some_and(|own| own.user == target.user);
    let is_root = own.as_ref().is_some_and(|own| own.user == 0);
    let sudo = if is_root {
        format!("these ways have CAP_SYS_PTRACE:{CONTAINER}")
    } else {
        format!("sudo egress-shim --rescue {id}")
    };
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let scope = scope.trim_end();
    let why = if scope == "3" {
        "kernel.yama.ptrace_scope is 3, so nobody can reach them until the next boot".to_owned()
    } else if is_capable {
        format!(
            "a security module (SELinux, AppArmor) forbids it, or the process is in another user namespace; these ways \
             may work:{CONTAINER}"
        )
    } else if !is_same_user {
        format!("it belongs to user {}: {sudo}", target.user)
    } else if target.owner != target.user {
        format!("it is not dumpable (PR_SET_DUMPABLE in prctl(2)): {sudo}")
    } else if matches!(scope, "1" | "2") {
        format!("kernel.yama.ptrace_scope is {scope}: {sudo}")
    } else {
        format!("it has privileges that this command lacks: {sudo}")
    };
    failure(format!("the sockets of process {id} cannot be reached: {why}"))
}

/// The facts about a process that /proc shows to every user.
struct Status {
    /// The effective user.
    user: u32,
    /// The owner of its files in /proc: root if it is not dumpable.
    owner: u32,
    /// The effective capabilities.
    effective: u64,
}

impl Status {
    fn of(process: &str) -> Option<Self> {
        let file = format!("/proc/{process}/status");
        let status = fs::read_to_string(&file).ok()?;
        let value = |key| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        Some(Self {
            user: value("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            owner: fs::metadata(file).ok()?.uid(),
            effective: u64::from_str_radix(value("CapEff:")?, 16).ok()?,
        })
    }
}
