//! `--inspect`: whether the library is in a running process, and what becomes of its connections.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{
    COMMAND, LIBRARY, Process, Public, Ran, as_nobody, bare, fails, last, output, run, shim,
    shim_at,
};
use crate::harness::ROOT;
use crate::harness::lab::{Host, LAB};
use crate::harness::run::{DEADLINE, end_with_this_thread, until};

/// Inspects until the report has these words, which a process on its way there may need a moment for.
#[track_caller]
fn inspect_until(process: &str, words: &[&str]) -> Ran {
    let start = Instant::now();
    loop {
        let ran = run(&mut shim(&["--inspect", process]));
        if words.iter().all(|word| ran.out.contains(word)) {
            return ran;
        }
        assert!(start.elapsed() < DEADLINE, "{words:?} in {ran:?}");
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
        &["belongs to user 0: run this as that user", "CAP_SYS_PTRACE"],
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

#[test]
fn the_library_is_known_by_its_build_not_by_its_name() {
    let scratch = Public::new();
    let sleep = |library: &Path| {
        let process = Process::start(bare("sleep").arg("60").env("LD_PRELOAD", library));
        let ran = inspect_until(&process.id(), &["/sleep\n"]);
        (process, ran)
    };
    // Renamed, behind a link, and deleted since.
    let renamed = scratch.copy(&*LIBRARY, "renamed.so");
    let link = scratch.path("link.so");
    symlink(&renamed, &link).expect("it can be made");
    for library in [&renamed, &link] {
        let (_process, ran) = sleep(library);
        assert_eq!((ran.status.code(), last(&ran)), (Some(0), "nothing is wrong"), "{ran:?}");
    }
    let (process, _) = sleep(&renamed);
    fs::remove_file(&renamed).expect("it is there");
    let ran = run(&mut shim(&["--inspect", &process.id()]));
    let wanted = format!("{} is gone: this program still has the library", renamed.display());
    assert!(last(&ran).contains(&wanted), "{ran:?}");

    // Another library of that name.
    let other = scratch.compile_text("libegress_shim.so", "int other;\n", &["-shared"]);
    let (_process, ran) = sleep(&other);
    assert!(ran.out.contains("library     not loaded\n"), "{ran:?}");

    // Mapped as data.
    let script = "import mmap, sys, time; f = open(sys.argv[1], 'rb'); \
                  m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); print(); time.sleep(60)";
    let process = Process::start(bare("/usr/bin/python3").args(["-c", script, &LIBRARY]));
    until("the file is mapped", || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.id()));
        maps.is_ok_and(|maps| maps.contains(&*LIBRARY))
    });
    let ran = run(&mut shim(&["--inspect", &process.id()]));
    assert!(ran.out.contains("library     not loaded\n"), "{ran:?}");
}

#[test]
fn an_environment_that_was_overwritten_is_said() {
    let scratch = Public::new();
    let text = "#include <string.h>\n#include <unistd.h>\nextern char **environ;\n\
        int main(int count, char **words) { char **last = environ; while (last[1]) last++;\n\
        char *end = *last + strlen(*last); memset(words[0], 0, end - words[0]);\n\
        strcpy(words[0], \"title: idle\"); pause(); return count; }\n";
    let title = scratch.compile_text("title", text, &["-w"]);
    let off = [("LD_PRELOAD", LIBRARY.as_str()), ("EGRESS_SHIM_KEEPALIVE", "off")];
    let process = Process::start(bare(&title).envs(off));
    let ran = inspect_until(&process.id(), &["its settings cannot be seen"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(ran.out.contains("settings    cannot be seen"), "{ran:?}");
}

/// Runs `--inspect` with no more than this memory and two seconds of processor time.
fn inspect_cheaply(process: &str) -> Ran {
    let limits = "ulimit -v 51200; ulimit -t 2; exec \"$@\"";
    run(bare("sh").args(["-c", limits, "sh", &COMMAND, "--inspect", process]))
}

#[test]
fn a_hostile_process_costs_little_and_forges_no_line() {
    let scratch = Public::new();
    let source = format!("{ROOT}/tests/programs/hostile_process.c");
    let program = scratch.path("hostile");
    output(bare("cc").args(["-std=gnu11", "-O1", &source, "-o"]).arg(&program));
    for (kind, count, words) in [
        ("environment", "1073741824", "too large to be read in full: its environment"),
        ("descriptors", "1000000", "connections 0\n"),
    ] {
        let mut command = bare(&program);
        end_with_this_thread(command.args([kind, count]).stdout(Stdio::piped()));
        let mut process = Process(command.spawn().expect("it starts"));
        let mut ready = [0; 6];
        let out = process.0.stdout.as_mut().expect("it is a pipe");
        out.read_exact(&mut ready).expect("it gets ready");
        let ran = inspect_cheaply(&process.id());
        assert!(ran.out.contains(words), "{kind}: {ran:?}");
    }

    // An ELF file with a note of 1 GiB, and a name that would be three lines of a report in red.
    let script = "import struct, sys, os\n\
        code = bytes.fromhex('b8220000000f05ebf7')\n\
        header = struct.pack('<16sHHIQQQIHHHHHH', b'\\x7fELF\\x02\\x01\\x01', 2, 62, 1, 0x4000b0, 64, 0, 0, 64, 56, 2, 0, 0, 0)\n\
        segments = struct.pack('<IIQQQQQQ', 1, 5, 0, 0x400000, 0x400000, 4096, 4096, 4096)\n\
        segments += struct.pack('<IIQQQQQQ', 4, 4, 4096, 0x10000000, 0x10000000, 1 << 30, 1 << 30, 4)\n\
        open(sys.argv[1], 'wb').write((header + segments + code).ljust(4096, b'\\0'))\n\
        os.truncate(sys.argv[1], 4096 + (1 << 30)); os.chmod(sys.argv[1], 0o755)\n";
    let file = scratch.path("x\nlibrary     /forged.so\n\x1b[31mnothing is wrong");
    output(bare("/usr/bin/python3").args(["-c", script]).arg(&file));
    let process = Process::start(&mut bare(&file));
    let ran = inspect_cheaply(&process.id());
    assert!(ran.out.contains("x\\nlibrary     /forged.so\\n\\x1b[31mnothing"), "{ran:?}");
    assert!(!ran.out.contains('\x1b') && !ran.out.contains("\nlibrary     /forged"), "{ran:?}");
    assert!(last(&ran).contains("is statically linked"), "{ran:?}");
}

#[test]
fn two_thousand_processes_and_twenty_thousand_sockets_cost_little() {
    let scratch = Public::new();
    let source = format!("{ROOT}/tests/programs/crowd.c");
    let program = scratch.path("crowd");
    output(bare("cc").args(["-std=gnu11", "-O1", &source, "-o"]).arg(&program));
    let script = "ulimit -n 4096; ip link set lo up; exec \"$0\" 2000 5 sh -c \
        'ulimit -v 51200; ulimit -t 2; \"$0\" --inspect; exit $?' \"$1\"";
    let mut command = bare("unshare");
    command.args(["--fork", "--pid", "--net", "--mount-proc", "sh", "-c", script]);
    let ran = run(command.arg(&program).arg(&*COMMAND));
    assert_eq!((ran.status.code(), last(&ran)), (Some(0), "nothing is wrong"), "{ran:?}");
    assert!(ran.out.contains("others      2002 processes"), "{ran:?}");
}

#[test]
fn several_processes_and_their_descendants_are_one_json_document() {
    let with = Process::start(&mut shim(&["sleep", "60"]));
    let bare = Process::start(bare("sh").args(["-c", "sleep 60; :"]));
    let mut read = self::bare("/usr/bin/python3");
    read.args([
        "-c",
        "import json, sys; d = json.load(sys.stdin); \
        print(d['task'], d['status'], [p['pid'] for p in d['processes']], \
        sorted(f['code'] for f in d['findings']), d['verdict'])",
    ]);
    inspect_until(&with.id(), &["libegress_shim.so ("]);
    let ran = run(&mut shim(&["--json", "--inspect", &with.id(), &bare.id()]));
    let document = scratch_file(&ran.out);
    let text = output(read.stdin(document));
    let pids = format!("inspect 1 [{}, {}] ['not-loaded'] ", bare.id(), with.id());
    assert!(text.starts_with(&pids), "{pids:?} in {text:?}");

    // Without a PID: those with the library or trouble, the others are counted.
    let ran = run(&mut shim(&["--inspect"]));
    assert!(ran.out.contains(&format!("process     {}, ", with.id())), "{ran:?}");
    assert!(!ran.out.contains(&format!("process     {}, ", bare.id())), "{ran:?}");
    assert!(ran.out.contains("\nothers      "), "{ran:?}");
}

/// A text as an open file.
fn scratch_file(text: &str) -> fs::File {
    let scratch = Public::new();
    fs::File::open(scratch.write("text", text)).expect("it is there")
}

#[test]
fn a_verdict_stands_out_on_a_terminal() {
    let process = Process::start(bare("sleep").arg("60"));
    inspect_until(&process.id(), &["/sleep\n"]);
    let line = format!("{} --inspect {}", *COMMAND, process.id());
    let terminal = |variables: &[(&str, &str)]| {
        let mut command = bare("script");
        run(command
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .envs(variables.iter().copied()))
        .out
    };
    assert!(terminal(&[]).contains("\x1b[1;33m"), "colours");
    assert!(!terminal(&[("NO_COLOR", "1")]).contains('\x1b'), "no colours");
}
