//! `--rescue`: connections of a running program that hang get their answer, or their end.
//!
//! Each story stands beside a bare run of the same program that hangs.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{COMMAND, NOBODY, Public, Ran, as_nobody, bare, fails, run, shim, shim_at};
use crate::harness::lab::{Host, Lab};
use crate::harness::run::{Waiting, limit, run_for, run_meanwhile, stdout, until};
use crate::harness::{ROOT, expect};

/// The gateway forgets a connection after so many seconds of silence.
const IDLE_TIMEOUT: u64 = 8;
/// A reply takes so long: well past that.
const SLOW: u64 = 14;
/// So long a bare run is watched whose reply is lost.
const LATE: Duration = Duration::from_secs(SLOW + 4);
/// Keepalive that no busy machine makes too short, and that the gateway takes for traffic.
const KEEPALIVE: &str = "idle=2,interval=2,count=8";

fn lab() -> Lab {
    Lab::start(&["--idle-timeout", &IDLE_TIMEOUT.to_string()])
}

/// A Python program.
fn python(program: &str, arguments: &[&str]) -> Command {
    let mut command = bare("/usr/bin/python3");
    command.args(["-Ic", program]).args(arguments);
    command
}

/// Asks for a URL; after an error it says which, and asks for another.
const FETCH: &str = "
import errno, sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url).read().decode())
        break
    except OSError as error:
        print(errno.errorcode[getattr(error, 'reason', error).errno], flush=True)
";

fn rescue(options: &[&str], process: u32) -> Ran {
    let process = process.to_string();
    run(&mut shim(&[&["--keepalive", KEEPALIVE][..], options, &["--rescue", &process]].concat()))
}

/// Waits until a request with this mark has arrived at the lab's server.
#[track_caller]
fn until_asked(lab: &Lab, mark: &str) {
    let log = lab.file("requests");
    until(mark, || fs::read_to_string(&log).expect("the log can be read").contains(mark));
}

/// Runs a program on the client and does something meanwhile, with its PID.
fn meanwhile(lab: &Lab, command: Command, act: impl FnOnce(u32)) -> Output {
    run_meanwhile(&mut lab.client(command), |child| act(child.id()))
}

#[track_caller]
fn says(ran: &Ran, status: i32, words: &[&str]) {
    assert_eq!(ran.status.code(), Some(status), "{ran:?}");
    for word in words {
        assert!(ran.out.contains(word), "{word:?} in {ran:?}");
    }
}

fn url(wait: u64, mark: &str) -> String {
    format!("http://v4only.example.com/after/{wait}?{mark}")
}

#[test]
fn a_late_reply_arrives_after_a_rescue_and_never_without() {
    let lab = lab();
    thread::scope(|scope| {
        let control =
            scope.spawn(|| run_for(&mut lab.client(python(FETCH, &[&url(SLOW, "bare")])), LATE));
        let output = meanwhile(&lab, python(FETCH, &[&url(SLOW, "rescued")]), |process| {
            until_asked(&lab, "rescued");
            thread::sleep(Duration::from_secs(3));
            let ran = rescue(&[], process);
            let words = ["ESTABLISHED 198.51.100.2:80: answers (", " s: keepalive is on now ("];
            says(&ran, 0, &words);
        });
        assert!(stdout(&output).contains("answer"), "{output:?}");
        let control = control.join().unwrap();
        assert!(control.is_none(), "bare it still waits: {control:?}");
    });
}

/// i386's Python, in a root of its own, by the one command that there is.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_program_is_rescued_too() {
    let lab = lab();
    let fetch = |mark: &str| {
        let script = format!(
            "import http.client\nc = http.client.HTTPConnection('198.51.100.2')\n\
             c.request('GET', '/after/{SLOW}?{mark}')\nprint(c.getresponse().read().decode())"
        );
        let mut command = bare("/usr/sbin/chroot");
        command.arg(format!("{ROOT}/target/roots/i386"));
        command.args(["/usr/bin/python3", "-Ic", &script]);
        command
    };
    thread::scope(|scope| {
        let control = scope.spawn(|| run_for(&mut lab.client(fetch("bare")), LATE));
        let output = meanwhile(&lab, fetch("rescued"), |process| {
            until_asked(&lab, "rescued");
            thread::sleep(Duration::from_secs(3));
            let words = ["ESTABLISHED 198.51.100.2:80: answers (", " s: keepalive is on now ("];
            says(&rescue(&[], process), 0, &words);
        });
        assert!(stdout(&output).contains("answer"), "{output:?}");
        let control = control.join().unwrap();
        assert!(control.is_none(), "bare it still waits: {control:?}");
    });
}

#[test]
fn a_forgotten_connection_ends_soon_and_the_programs_retry_succeeds() {
    // The lab's NAT answers with a reset. Others say nothing.
    let silent = lab();
    silent.drop_what_is_forgotten();
    let labs = [
        (lab(), "ECONNRESET", "it ended when the probe went out"),
        (silent, "ETIMEDOUT", "within 16 s"),
    ];
    thread::scope(|scope| {
        for (lab, error, words) in &labs {
            let late = url(60, "rescued");
            let program = python(FETCH, &[&late, "http://v4only.example.com/now"]);
            scope.spawn(move || {
                let output = meanwhile(lab, program, |process| {
                    until_asked(lab, "rescued");
                    thread::sleep(Duration::from_secs(IDLE_TIMEOUT + 2));
                    says(&rescue(&[], process), 0, &[words]);
                });
                let seen = stdout(&output);
                assert!(seen.starts_with(error) && seen.contains("answer"), "{error}: {output:?}");
            });
            let control = python(FETCH, &[&url(60, "bare"), "http://v4only.example.com/now"]);
            scope.spawn(move || {
                let control = run_for(&mut lab.client(control), Duration::from_secs(40));
                assert!(control.is_none(), "bare it still waits: {control:?}");
            });
        }
    });
}

/// A program that connects to one address alone. After an error it prints the error, and how often the socket would send a
/// SYN segment again. The command restores that number a moment after it has ended the connect.
const ONE_ADDRESS: &str = "
import errno, socket, time
client = socket.socket(socket.AF_INET6)
try:
    client.connect(('2001:db8:2::2', 80))
except OSError as error:
    time.sleep(0.3)
    again = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT)
    print(errno.errorcode[error.errno], again)
";

#[test]
fn a_connect_stuck_over_ipv6_ends_and_the_program_goes_on() {
    let lab = Lab::start(&[]);
    let several = || python(FETCH, &["http://api.openai.com/now"]);
    let (_public, installed) = Public::installed();
    thread::scope(|scope| {
        let control = scope.spawn(|| run_for(&mut lab.client(several()), LATE));
        for (program, wanted) in
            [(several(), "IPv4"), (python(ONE_ADDRESS, &[]), "ECONNABORTED 6\n")]
        {
            let lab = &lab;
            scope.spawn(move || {
                let output = meanwhile(lab, program, |process| {
                    let ran = rescued_connect(|| rescue(&[], process));
                    says(&ran, 0, &["SYN-SENT    [2001:db8:2::2]:80: ended: the program goes on"]);
                });
                assert!(stdout(&output).contains(wanted), "{wanted}: {output:?}");
            });
        }
        // Without CAP_NET_ADMIN the kernel ends it when the next SYN would go out.
        for (program, wanted) in [(several(), "IPv4"), (python(ONE_ADDRESS, &[]), "ETIMEDOUT 1\n")]
        {
            let (lab, installed, program) = (&lab, &installed, unprivileged(&program));
            scope.spawn(move || {
                let output = meanwhile(lab, program, |process| {
                    let process = process.to_string();
                    let ran = rescued_connect(|| {
                        run(as_nobody(&mut shim_at(installed, &["--rescue", &process])))
                    });
                    says(
                        &ran,
                        0,
                        &["SYN-SENT    [2001:db8:2::2]:80: ends with \"Connection timed out\""],
                    );
                });
                assert!(stdout(&output).contains(wanted), "{wanted}: {output:?}");
            });
        }
        let control = control.join().unwrap();
        assert!(control.is_none(), "bare it still waits: {control:?}");
    });
}

/// A command on a host of the lab, which root has to enter first, as a user without privileges.
fn unprivileged(command: &Command) -> Command {
    let mut setpriv = bare("setpriv");
    let user = NOBODY.to_string();
    setpriv.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    setpriv.arg(command.get_program()).args(command.get_args());
    setpriv
}

/// Rescues until there is a connect that is old enough.
fn rescued_connect(rescue: impl Fn() -> Ran) -> Ran {
    let start = Instant::now();
    loop {
        let ran = rescue();
        let is_early = !ran.out.contains("SYN-SENT") || ran.out.contains("too early");
        if !is_early || start.elapsed() > Duration::from_secs(30) {
            return ran;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

// ------------------------------------------------------------------------------------------ no harm is done

/// Kills a rescue after its `number`th system call of a kind. Whether it got so far.
fn killed_after(number: usize, calls: &str, process: u32) -> bool {
    let inject = format!("inject={calls}:signal=KILL:when={number}");
    let mut strace = bare("strace");
    strace.args(["-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject, &COMMAND]);
    let ran = run(strace.args(["--keepalive", KEEPALIVE, "--rescue", &process.to_string()]));
    ran.status.code().is_none()
}

/// What changes anything are setsockopt(2) and the message to the kernel, which is a write(2), as is the report.
#[test]
fn a_rescue_that_is_killed_leaves_no_connection_worse_than_it_was() {
    let lab = Lab::start(&["--idle-timeout", "60"]);
    let answered = |output: &Output| assert!(stdout(output).contains("answer"), "{output:?}");
    // The last one is to be more than there are calls.
    let established = (1..=10).map(|number| ("setsockopt", number));
    let outcomes = thread::scope(|scope| {
        let clients = established.map(|(calls, number)| {
            let lab = &lab;
            scope.spawn(move || {
                let mut was_killed = false;
                let mark = format!("killed-{number}.");
                let output = meanwhile(lab, python(FETCH, &[&url(8, &mark)]), |process| {
                    until_asked(lab, &mark);
                    thread::sleep(Duration::from_secs(2));
                    was_killed = killed_after(number, calls, process);
                });
                answered(&output);
                was_killed
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(outcomes[0] && !outcomes[9], "killed at each call and at last at none: {outcomes:?}");

    // A connect: IPv6 works again after the rescue was killed, so that a socket which has gone deaf would show.
    // The first two messages ask for the sockets of the namespace; the third ends the connect.
    let writes = (1..=4).map(|number| ("write", number));
    let connecting = (1..=6).map(|number| ("setsockopt", number)).chain(writes);
    let outcomes = thread::scope(|scope| {
        let clients = connecting.map(|(calls, number)| {
            let lab = &lab;
            scope.spawn(move || {
                let mut was_killed = false;
                let program = python(FETCH, &["http://api.openai.com/now"]);
                let output = meanwhile(lab, program, |process| {
                    let dry = || rescue(&["--dry-run"], process);
                    let ran = rescued_connect(dry);
                    says(&ran, 1, &["would be ended"]);
                    was_killed = killed_after(number, calls, process);
                });
                answered(&output);
                was_killed
            })
        });
        let clients: Vec<_> = clients.collect();
        thread::sleep(Duration::from_secs(12));
        lab.let_ipv6_through();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(outcomes[0] && !outcomes[5], "killed at each call and at last at none: {outcomes:?}");
}

/// Echoes what it reads; sends whoever begins with `d` a lot of bytes instead.
const ECHO: &str = "
import asyncio, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
async def serve(reader, writer):
    while data := await reader.read(1 << 16):
        if data.startswith(b'd'):
            data = bytes(range(256)) * (1 << 17)
        writer.write(data)
        await writer.drain()
async def main():
    await asyncio.start_server(serve, '198.51.100.2', 9000, backlog=4096)
    print('ready', flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
";

/// A pool of 2,000 connections, of which each third is busy and one takes a download all the time; processes that
/// share its sockets, and others that come and go. It ends when its input does.
const POOL: &str = "
import asyncio, hashlib, os, random, resource, subprocess, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
wanted = hashlib.sha256(bytes(range(256)) * (1 << 17)).digest()
done = asyncio.Event()
async def busy(reader, writer):
    while not done.is_set():
        data = b'e' + random.randbytes(random.randrange(1, 5000))
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await asyncio.sleep(random.random())
async def idle(reader, writer):
    await done.wait()
    writer.write(b'eidle')
    assert await reader.readexactly(5) == b'eidle'
async def download(reader, writer):
    while not done.is_set():
        writer.write(b'd')
        assert hashlib.sha256(await reader.readexactly(256 << 17)).digest() == wanted
async def processes():
    while not done.is_set():
        await (await asyncio.create_subprocess_exec('/bin/true', close_fds=False)).wait()
async def main():
    pool = [await asyncio.open_connection('198.51.100.2', 9000) for _ in range(2000)]
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            time.sleep(600)
    kinds = [download] + [busy if number % 3 == 0 else idle for number in range(1999)]
    tasks = [asyncio.create_task(kind(*connection)) for kind, connection in zip(kinds, pool)]
    tasks.append(asyncio.create_task(processes()))
    await asyncio.sleep(2)
    print('ready', flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    done.set()
    await asyncio.gather(*tasks)
    for child in children:
        os.kill(child, 9)
    print(len(pool), 'whole')
asyncio.run(main())
";

#[test]
fn a_busy_pool_and_a_download_lose_no_byte_and_processes_may_come_and_go() {
    let lab = Lab::start(&["--idle-timeout", "600"]);
    let mut server = python(ECHO, &[]);
    // Its clients are gone before it.
    server.stderr(Stdio::null());
    let _server = Waiting::start(lab.on(Host::Server, &mut server));
    let mut pool = python(POOL, &[]);
    let pool = Waiting::start(lab.on(Host::Client, &mut pool));
    let process = pool.id().to_string();
    let mut rescued = 0;
    for _ in 0..3 {
        let mut command = shim(&["--keepalive", "enforce", "--json", "--rescue", &process]);
        // A second of processor time, and 20 MB.
        limit(&mut command, libc::RLIMIT_CPU, 1);
        limit(&mut command, libc::RLIMIT_AS, 20 << 20);
        let ran = run(&mut command);
        assert!(matches!(ran.status.code(), Some(0 | 1)), "{:?} {}", ran.status, ran.err);
        rescued = rescued.max(ran.out.matches("\"standing\": \"rescued\"").count());
    }
    assert!(rescued > 1900, "{rescued} were rescued at once");
    let output = pool.finish();
    assert!(output.contains("2000 whole"), "{output}");
}

// --------------------------------------------------------------------------------------------- left alone

/// Connections of each kind, by name; then, when its input ends, what has become of the options of each.
const KINDS: &str = "
import socket, sys, time
def connect(address, port=80, protocol=0, options=(), kind=socket.AF_INET):
    client = socket.socket(kind, socket.SOCK_STREAM, protocol)
    for option, value in options:
        client.setsockopt(*option, value)
    client.setblocking(False)
    client.connect_ex((address, port))
    return client
ON = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
IDLE = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
server = socket.create_server(('192.0.2.2', 9001))
local = socket.create_server(('127.0.0.1', 9002))
kinds = {
    'stuck': connect('198.51.100.2'),
    'plain': connect('198.51.100.2'),
    'longer': connect('198.51.100.3', options=[(ON, 1), (IDLE, 7000)]),
    'kept': connect('198.51.100.4', options=[(ON, 1), (IDLE, 1)]),
    'multipath': connect('198.51.100.5', protocol=262),
    'unanswered': connect('198.51.100.2', 81),
    'outbound': connect('192.0.2.2', 9001),
    'loopback': connect('127.0.0.1', 9002),
    'datagram': socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    'unconnected': socket.socket(),
    'unix': socket.socketpair()[0],
}
kinds['accepted'] = server.accept()[0]
kinds['both ends'] = local.accept()[0]
time.sleep(4)
kinds['stuck'].send(b'GET /now HTTP/1.0\\r\\n\\r\\n')
time.sleep(2)
print('ready', flush=True)
sys.stdin.read()
for name, client in kinds.items():
    is_tcp = client.type == socket.SOCK_STREAM and client.family == socket.AF_INET
    timing = client.getsockopt(*IDLE) if is_tcp else 0
    print(name, client.getsockopt(*ON), timing)
";

#[test]
fn what_needs_no_rescue_or_cannot_have_one_is_left_alone_and_reported() {
    let lab = Lab::start(&["--idle-timeout", "60"]);
    lab.drop_on_the_way("tcp dport 81");
    lab.drop_on_the_way("iifname client tcp flags & psh == psh");
    let mut program = python(KINDS, &[]);
    let program = Waiting::start(lab.on(Host::Client, &mut program));
    let dry = rescue(&["--dry-run"], program.id());
    let ran = rescue(&[], program.id());
    for line in [
        "ESTABLISHED 198.51.100.2:80: left alone: data that the program wrote is not acknowledged, and the peer has been silent for ",
        "ESTABLISHED 198.51.100.3:80: left alone: keepalive is the program's own (idle=7000,",
        "ESTABLISHED 198.51.100.4:80: keepalive was on before (idle=1,",
        "ESTABLISHED 198.51.100.5:80: left alone: a Multipath TCP socket without keepalive",
        "SYN-SENT    198.51.100.2:81: left alone: no answer over IPv4, asked ",
        "ESTABLISHED 127.0.0.1:9002: left alone: it does not leave this machine",
        "ESTABLISHED 192.0.2.2:",
        ": left alone: the program accepted it",
    ] {
        says(&ran, 1, &[line]);
        says(&dry, 1, &[line]);
    }
    says(
        &ran,
        1,
        &["ESTABLISHED 198.51.100.2:80: answers (", "ESTABLISHED 192.0.2.2:9001: answers ("],
    );
    says(&ran, 1, &["\n2 rescued, 4 left; the first"]);
    says(
        &dry,
        1,
        &[
            "would be probed",
            "nothing was changed (--dry-run): 2 would be rescued, 4 left; the first",
        ],
    );
    assert!(!dry.out.contains("is on now"), "{dry:?}");

    let json = rescue(&["--dry-run", "--json"], program.id());
    for member in [
        "\"status\": 1",
        "\"task\": \"rescue\"",
        "\"outcome\": \"own-keepalive-too-long\"",
        "\"standing\": \"left\"",
    ] {
        says(&json, 1, &[member]);
    }
    let ran = rescue(&["--keepalive", "enforce"], program.id());
    says(&ran, 1, &["ESTABLISHED 198.51.100.3:80: answers ("]);
    let wanted = "stuck 0 7200\nplain 1 2\nlonger 1 2\nkept 1 1\nmultipath 0 7200\nunanswered 0 7200\n\
        outbound 1 2\nloopback 0 7200\ndatagram 0 0\nunconnected 0 7200\nunix 0 0\naccepted 0 7200\n\
        both ends 0 7200\n";
    expect("the options of each", program.finish(), wanted);
}

// ----------------------------------------------------------------------------------------------- refusals

/// A system call of its own that a filter refuses: `refuse ERRNO COMMAND...`, with `pidfd_getfd`(2).
const REFUSE: &str = "
#include \"confine.h\"
#include <stdlib.h>
int main(int count, char **words)
{
    if (count < 3 || filter(438, FILTER_ANY, FILTER_ERRNO((unsigned)atoi(words[1]))) != 0)
        return 2;
    execv(words[2], words + 2);
    return 3;
}
";

/// A program that nobody but a privileged process may look into.
const NOT_DUMPABLE: &str = "
import ctypes, sys
ctypes.CDLL(None).prctl(4, 0)
print('ready', flush=True)
sys.stdin.read()
";

#[test]
fn each_refusal_is_told_from_the_others_and_names_a_way_that_works() {
    let (public, installed) = Public::installed();
    let as_user = |id: u32| {
        let mut command = shim_at(&installed, &["--rescue", &id.to_string()]);
        as_nobody(&mut command);
        command
    };
    let mut waits = python("import sys\nprint('ready', flush=True)\nsys.stdin.read()", &[]);
    let of_root = Waiting::start(&mut waits);
    let id = of_root.id().to_string();

    let own = "it belongs to user 0: sudo egress-shim --rescue";
    fails(&mut as_user(of_root.id()), 125, &["the sockets of process", own]);

    let mut command = bare("setpriv");
    command.args(["--bounding-set=-sys_ptrace", &COMMAND, "--rescue", &id]);
    let with = "these ways have CAP_SYS_PTRACE:\n  as root on the host: ";
    fails(
        &mut command,
        125,
        &["it has privileges that this command lacks", with, "--pid=container:"],
    );

    let mut program = python(NOT_DUMPABLE, &[]);
    let not_dumpable = Waiting::start(as_nobody(&mut program));
    let why = "it is not dumpable (PR_SET_DUMPABLE in prctl(2)): sudo egress-shim --rescue";
    fails(&mut as_user(not_dumpable.id()), 125, &[why]);
    says(&rescue(&[], not_dumpable.id()), 0, &["nothing is wrong: no connection needs a rescue"]);

    // Docker's seccomp profile, and filters that hide what they do not know.
    let confine = format!("-I{}/tests/programs", crate::harness::ROOT);
    let refuse = public.compile_text("refuse", REFUSE, &[&confine]);
    for error in [libc::EPERM, libc::ENOSYS] {
        let mut command = bare(&refuse);
        command.args([&error.to_string(), &*COMMAND, "--rescue", &id]);
        let why = "a seccomp filter of this process refuses pidfd_getfd";
        fails(
            &mut command,
            125,
            &[why, "--pid=container:CONTAINER --cap-add SYS_PTRACE", "kubectl debug"],
        );
    }

    fails(&mut shim(&["--rescue", "4194304"]), 125, &["there is no process 4194304 here"]);
    // A process that has ended and that its parent has not waited for.
    let mut zombie = bare("true").spawn().expect("it starts");
    let zombie_id = zombie.id().to_string();
    let stat = format!("/proc/{zombie_id}/stat");
    until("it ends", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(" Z ")));
    fails(&mut shim(&["--rescue", &zombie_id]), 125, &["runs no program: it has ended"]);
    zombie.wait().expect("it is a child");
    fails(&mut shim(&["--rescue", "init"]), 125, &["PID must be a number"]);
    of_root.finish();
    not_dumpable.finish();
}

#[test]
fn a_dry_run_changes_nothing() {
    let lab = lab();
    let program = python(FETCH, &[&url(4, "dry")]);
    meanwhile(&lab, program, |process| {
        until_asked(&lab, "dry");
        thread::sleep(Duration::from_secs(2));
        let mut strace = bare("strace");
        strace.args([
            "-qq",
            "-e",
            "trace=setsockopt,shutdown,sendto,sendmsg,kill,ptrace",
            &COMMAND,
        ]);
        let ran = run(strace.args(["--dry-run", "--rescue", &process.to_string()]));
        says(
            &ran,
            1,
            &["no keepalive, silent for", "nothing was changed (--dry-run): 1 would be rescued"],
        );
        assert_eq!(ran.err, "");
    });
}
