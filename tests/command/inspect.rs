//! `--inspect`: whether the library is in a running process, and what becomes of its connections.

use std::time::{Duration, Instant};

use super::{
    COMMAND, LIBRARY, Process, Public, Ran, as_nobody, bare, fails, last, run, shim, shim_at,
};
use crate::harness::lab::{Host, LAB};

/// Inspects until the report has these words, which a process on its way there may need a moment for.
#[track_caller]
fn inspect_until(process: &str, words: &[&str]) -> Ran {
    let start = Instant::now();
    loop {
        let ran = run(&mut shim(&["--inspect", process]));
        if words.iter().all(|word| ran.out.contains(word)) {
            return ran;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{words:?} in {ran:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Python that connects and waits.
fn connecting(setup: &str, address: &str) -> Vec<String> {
    let family = if address.contains("::") { "AF_INET6" } else { "AF_INET" };
    let script = format!(
        "import socket, time\ns = socket.socket(socket.{family})\n{setup}\ns.connect(('{address}', 80))\ntime.sleep(60)"
    );
    vec!["/usr/bin/python3".to_owned(), "-Ic".to_owned(), script]
}

#[test]
fn a_process_with_the_library_and_keepalive_has_nothing_wrong() {
    // A setting that is doubtful is not wrong.
    let keepalive = "idle=45,user-timeout=100";
    let mut command = shim(&["--keepalive", keepalive, "--ipv4-only", "a.example"]);
    let process =
        Process::start(LAB.on(Host::Client, command.args(connecting("", "198.51.100.2"))));
    let ran =
        inspect_until(&process.id(), &["ESTABLISHED 198.51.100.2:80: next keepalive probe in 4"]);
    assert_eq!((ran.status.code(), last(&ran)), (Some(0), "nothing is wrong"), "{ran:?}");
    for line in [
        format!("library     {} (", *LIBRARY),
        "settings    EGRESS_SHIM_IPV4_ONLY=a.example\n".to_owned(),
        format!("            EGRESS_SHIM_KEEPALIVE={keepalive}\n"),
        "connections 1\n".to_owned(),
        // From sock_diag(7), in the process's network namespace.
        ", silent for ".to_owned(),
    ] {
        assert!(ran.out.contains(&line), "{line:?} in {ran:?}");
    }
}

#[test]
fn a_process_without_the_library_is_said() {
    let process = Process::start(bare("sleep").arg("60"));
    let ran = inspect_until(&process.id(), &["/sleep\n"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let wanted = format!(
        "{} (sleep): the library is not loaded; start it as: {} -- sleep 60",
        process.id(),
        *COMMAND
    );
    assert_eq!(last(&ran), wanted);

    let process =
        Process::start(bare("sleep").arg("60").env("LD_PRELOAD", "/no/libegress_shim.so"));
    let ran = inspect_until(&process.id(), &["/sleep\n"]);
    assert!(last(&ran).contains(": LD_PRELOAD names the library, but"), "{ran:?}");
}

#[test]
fn a_connection_that_hangs_in_ipv6_comes_first() {
    let setup = "t = socket.socket()\nt.connect(('198.51.100.2', 80))";
    let mut command = shim(&[]);
    let process =
        Process::start(LAB.on(Host::Client, command.args(connecting(setup, "2001:db8:2::2"))));
    let hangs = "SYN-SENT    [2001:db8:2::2]:80: no answer yet, asked ";
    let ran = inspect_until(&process.id(), &[hangs, "ESTABLISHED"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        last(&ran).contains("): [2001:db8:2::2]:80 does not answer over IPv6 (asked "),
        "{ran:?}"
    );
    assert!(ran.out.find("SYN-SENT") < ran.out.find("ESTABLISHED"), "{ran:?}");
}

#[test]
fn a_connection_without_keepalive_is_said() {
    // What the program switches off after connect stays off.
    let setup = "import atexit\nc = s.connect\nclass S:\n  def connect(self, a):\n    c(a); s.setsockopt(1, 9, 0)\ns, t = S(), s\nS.setsockopt = t.setsockopt";
    let mut command = shim(&[]);
    let process =
        Process::start(LAB.on(Host::Client, command.args(connecting(setup, "198.51.100.2"))));
    let ran = inspect_until(&process.id(), &["ESTABLISHED 198.51.100.2:80: no keepalive"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(last(&ran).contains("no keepalive on the connection to 198.51.100.2:80"), "{ran:?}");
}

#[test]
fn a_process_of_another_user_needs_a_privilege_which_is_named() {
    let (_scratch, installed) = Public::installed();
    let process = Process::start(bare("sleep").arg("60"));
    let mut command = shim_at(&installed, &["--inspect", &process.id()]);
    fails(
        as_nobody(&mut command),
        125,
        &["belongs to user 0: look as that user", "CAP_SYS_PTRACE"],
    );

    // One that has more privileges than another process of the same user.
    let mut command = bare("setpriv");
    command.args(["--bounding-set=-sys_ptrace", &COMMAND, "--inspect", &process.id()]);
    fails(&mut command, 125, &["cannot be seen without the privilege CAP_SYS_PTRACE"]);

    let process = Process::start(as_nobody(shim_at(&installed, &["sleep"]).arg("60")));
    let ran = inspect_until(&process.id(), &["libegress_shim.so ("]);
    assert_eq!((ran.status.code(), last(&ran)), (Some(0), "nothing is wrong"), "{ran:?}");
}

#[test]
fn the_first_process_of_a_container_is_seen_from_inside() {
    let mut command = bare("unshare");
    command.args(["--fork", "--pid", "--net", "--mount-proc", &COMMAND, "sh", "-c"]);
    command.args(["\"$0\" --inspect 1; echo status $?", &COMMAND]);
    let ran = run(&mut command);
    assert!(ran.out.contains(&format!("library     {} (", *LIBRARY)), "{ran:?}");
    assert!(ran.out.ends_with("nothing is wrong\nstatus 0\n"), "{ran:?}");
}

#[test]
fn what_is_no_process_is_125() {
    fails(&mut shim(&["--inspect", "4194304"]), 125, &["there is no process 4194304 here"]);
    fails(&mut shim(&["--inspect", "init"]), 125, &["PID must be a number"]);
    // A process that has ended and that its parent has not waited for.
    let mut zombie = bare("sleep").arg("0").spawn().expect("it starts");
    let id = zombie.id().to_string();
    while !std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| stat.contains(" Z "))
    {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    fails(&mut shim(&["--inspect", &id]), 125, &["runs no program: it has ended"]);
    zombie.wait().expect("it is a child");
}
