//! Hostile conditions, numbered: surroundings that other people's programs bring with them. Each says
//! why it holds now and when it would break. Each runs a small C program, first without the library as
//! the control, and compares all that the program prints and how it ends.
//!
//! h01-h06 are other preloads, in company.rs. Signals, forks, cancellation, descriptor 2, full disks,
//! pipes without a reader, few descriptors and daemons have files of their own; namespaces are in
//! sockets.rs, files that may not be opened in settings.rs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{BARE, LISTED, NAMES, SHIMMED, expect_fixed, expect_in_lab, run_in_lab};
use crate::harness::environment::preload;
use crate::harness::lab::{Host, LAB};
use crate::harness::run::{
    before, expect_says, output, result, run_meanwhile, said, stderr, stdout, until, with,
};
use crate::harness::scratch::{cached, text};
use crate::harness::strace::traced;
use crate::harness::{
    Environment, ROOT, Scratch, expect, in_each_environment, in_each_environment_of_this_machine,
    skip,
};

/// A program of `tests/programs` made by this machine's compiler in a special way; `None` if the
/// compiler cannot.
fn built(to: &Scratch, source: &str, flags: &[&str]) -> Option<PathBuf> {
    let file = to.join(flags.concat().replace('/', ""));
    let source = Path::new(ROOT).join("tests/programs").join(source);
    let mut compiler = Environment::here().bare("cc");
    compiler.args(["-std=gnu11", "-O1", "-pthread", "-w", "-o"]).arg(&file);
    let made = compiler.arg(source).args(flags).arg("-ldl").output().expect("cc starts");
    if !made.status.success() {
        skip(format!("cc {flags:?}"), stderr(&made));
    }
    made.status.success().then_some(file)
}

// --- How the program is built -------------------------------------------------------------------

/// `ASan` ends a program in which another library comes before its runtime; that is its rule for
/// any preload. Three ways out hold, leak check included: the runtime first in `LD_PRELOAD`, linked
/// statically, or `verify_asan_link_order=0`. They would break if the library leaked, or read what is
/// not its own.
#[test]
fn h07_a_program_with_asan_runs_where_asan_is_let_be_first() {
    let scratch = Scratch::new();
    let (Some(program), Some(with_static)) = (
        built(&scratch, "show.c", &["-fsanitize=address"]),
        built(&scratch, "show.c", &["-fsanitize=address", "-static-libasan"]),
    ) else {
        return;
    };
    let mut name = Environment::here().bare("cc");
    let runtime = output(name.arg("-print-file-name=libasan.so"));
    in_each_environment_of_this_machine(|environment| {
        expect_in_lab(with(environment.bare(&program), NAMES), BARE);
        let refused = with(environment.shimmed(&program, LISTED), NAMES);
        let refused = said(&run_in_lab(refused));
        let why = "ASan runtime does not come first in initial library list";
        assert!(refused.contains(why), "ASan's own refusal, seen {refused}");

        expect_fixed(environment, &with_static, |_| ());
        expect_fixed(environment, &program, |command| {
            command.env("ASAN_OPTIONS", "verify_asan_link_order=0");
        });
        let mut shimmed = with(environment.shimmed(&program, LISTED), NAMES);
        preload(&mut shimmed, &[Path::new(runtime.trim_end()), &environment.library]);
        expect_in_lab(shimmed, SHIMMED);
    });
}

/// Holds because the loader looks symbols up at the same places for a program at a fixed address and
/// for one bound at the start. Would break if the library counted on lazy binding, or wished for an
/// address range.
#[test]
fn h08_a_program_at_a_fixed_address_or_bound_at_the_start() {
    let ways: &[&[&str]] = &[
        &["-no-pie", "-fno-pie"],
        &["-no-pie", "-fno-pie", "-Wl,-Ttext-segment=0x60000000"],
        &["-Wl,-z,now,-z,relro"],
        &["-Wl,-z,lazy"],
    ];
    let scratch = Scratch::new();
    let programs: Vec<_> = ways.iter().filter_map(|way| built(&scratch, "show.c", way)).collect();
    in_each_environment_of_this_machine(|environment| {
        for program in &programs {
            expect_fixed(environment, program, |_| ());
        }
    });
}

/// A limit: a static program has no loader that would look at `LD_PRELOAD`. It runs as ever.
#[test]
fn h09_a_static_pie_program_is_as_without_the_library() {
    let scratch = Scratch::new();
    let Some(program) = built(&scratch, "show.c", &["-static-pie"]) else { return };
    in_each_environment_of_this_machine(|environment| {
        expect_in_lab(environment.bare(&program), "keepalive off\n");
        expect_in_lab(environment.shimmed(&program, LISTED), "keepalive off\n");
    });
}

/// A limit: the program comes before every preload in the search order, for itself and for its
/// plugins. Its definitions are called, and as often as without the library.
#[test]
fn h10_a_program_with_its_own_connect_and_getaddrinfo_keeps_them() {
    in_each_environment(|environment| {
        let program = environment.program("own");
        let plugin = environment.shared_library("plugin");
        let arguments = [plugin.as_os_str(), OsStr::new("dual.example.com")];
        let bare = run_in_lab(with(environment.bare(&program), arguments));
        let seen = said(&bare);
        assert!(bare.status.success(), "{seen}");
        let calls = ["keepalive off", "1 and 1 calls", "plugin: keepalive off", "2 and 2 calls"];
        assert!(calls.iter().all(|part| seen.contains(part)), "{seen}");
        expect_in_lab(with(environment.shimmed(&program, LISTED), arguments), &seen);
    });
}

// --- How symbols are bound ----------------------------------------------------------------------

/// Holds because the library needs no lazy binding, at load or later.
#[test]
fn h11_ld_bind_now() {
    in_each_environment(|environment| {
        let show = environment.program("show");
        expect_fixed(environment, &show, |command| _ = command.env("LD_BIND_NOW", "1"));
    });
}

/// Holds because the loader's own output goes where it is sent; the library reads no `LD_` variable.
#[test]
fn h12_ld_debug_statistics() {
    in_each_environment_of_this_machine(|environment| {
        let show = environment.program("show");
        let directory = Scratch::new();
        expect_fixed(environment, &show, |command| {
            command.env("LD_DEBUG", "statistics").env("LD_DEBUG_OUTPUT", directory.join("ld"));
        });
        let files = fs::read_dir(&*directory).expect("it is there").count();
        assert!(files >= 2, "the loader has written its statistics");
    });
}

/// The loader itself complains about an audit library that is missing. With one that is there, every binding goes
/// through another table.
#[test]
fn h13_ld_audit_with_a_library_and_without() {
    in_each_environment_of_this_machine(|environment| {
        let show = environment.program("show");
        let mut bare = with(environment.bare(&show), NAMES);
        bare.env("LD_AUDIT", "/nonexistent/audit.so");
        let bare = run_in_lab(bare);
        let mut shimmed = with(environment.shimmed(&show, LISTED), NAMES);
        shimmed.env("LD_AUDIT", "/nonexistent/audit.so");
        let shimmed = run_in_lab(shimmed);
        assert_eq!((stdout(&bare), stdout(&shimmed)), (BARE.to_owned(), SHIMMED.to_owned()));

        expect("", stderr(&shimmed), stderr(&bare));

        let audit = environment.shared_library("audit");
        expect_fixed(environment, &show, |command| _ = command.env("LD_AUDIT", &audit));
    });
}

/// A limit of glibc: `RTLD_DEEPBIND` puts the plugin's own needed libraries, libc among them, before
/// every preload. In plugins opened without it, lookups are fixed. musl knows no such flag.
#[test]
fn h14_a_plugin_opened_with_rtld_deepbind_is_as_without_the_library() {
    in_each_environment(|environment| {
        let program = environment.program("hostile");
        let plugin = environment.shared_library("plugin");
        for how in ["lazy", "now", "deepbind"] {
            let arguments =
                ["plugin".as_ref(), how.as_ref(), plugin.as_os_str(), NAMES[0].as_ref()];
            let off = "plugin: keepalive off\nplugin: dual.example.com 46\n";
            let on = "plugin: keepalive on 60/60/5\nplugin: dual.example.com 4\n";
            expect_in_lab(with(environment.bare(&program), arguments), off);
            let bypassed = how == "deepbind" && !environment.is_musl();
            let shimmed = with(environment.shimmed(&program, LISTED), arguments);
            expect_in_lab(shimmed, if bypassed { off } else { on });
        }
    });
}

/// Holds for all that searches in the order of the loader; what asks a handle of libc for `connect`
/// asks for libc's own, and gets it: a limit. Would break if the exported symbol were versioned or
/// hidden.
#[test]
fn h15_dlsym_gives_the_librarys_connect_and_a_handle_of_libc_gives_libcs() {
    in_each_environment(|environment| {
        let program = environment.program("hostile");
        let says = |on: &str| {
            format!(
                "linked: {on}\nRTLD_DEFAULT: {on}\nhandle of the program: {on}\nhandle of libc: off\n"
            )
        };
        expect_in_lab(with(environment.bare(&program), ["dlsym"]), &says("off"));
        let shimmed = with(environment.shimmed(&program, LISTED), ["dlsym"]);
        expect_in_lab(shimmed, &says("on 60/60/5"));
    });
}

// --- Filters and tracers ------------------------------------------------------------------------

/// A limit: a filter that kills for `getsockopt` kills at the first connect, which asks the socket for its
/// timings. With keepalive off connect makes no system call but its own (see sockets.rs), and the program
/// lives. One that kills for `socket` kills nobody here: connect makes no socket of its own.
#[test]
fn h16_a_filter_that_kills_for_a_call_spares_a_program_with_keepalive_off() {
    in_each_environment(|environment| {
        let program = environment.program("hostile");
        for call in ["getsockopt", "socket"] {
            let arguments = ["kill", call];
            let wanted = "connect: Connection refused\n";
            expect_in_lab(with(environment.bare(&program), arguments), wanted);
            for settings in [("KEEPALIVE", "off"), ("", "off")] {
                let command = with(environment.shimmed(&program, &[settings]), arguments);
                expect_in_lab(command, wanted);
            }
            let ended = run_in_lab(with(environment.shimmed(&program, &[]), arguments));
            let signal = (call == "getsockopt").then_some(libc::SIGSYS);
            expect(format!("{call}: {}", said(&ended)), ended.status.signal(), signal);
        }
    });
}

/// The kernel ends a program that blocks SIGSYS when a filter raises it, whatever handler there is (`force_sig_info` in the
/// kernel's signal.c). So it is the one signal that is not blocked while a line is written or a list loaded.
#[test]
fn a_handler_of_sigsys_may_answer_the_librarys_system_calls() {
    in_each_environment(|environment| {
        let program = environment.program("trapped");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let stub = environment.shared_library("stub");
        let settings =
            [("IPV4_ONLY", "dual.example.com"), ("LOG", "debug"), ("LOG_FILE", text(&log))];
        for (how, bare_says, says) in [
            ("trapped", "handled 0, pending 0", "handled 1, pending 0"),
            // What the program itself blocks stays blocked.
            ("pending", "handled 0, pending 1", "handled 0, pending 1"),
        ] {
            let mut bare = with(environment.bare(&program), [how]);
            preload(&mut bare, &[&stub]);
            expect_in_lab(bare, &format!("keepalive off\ndual 46\n{bare_says}\n"));
            let mut shimmed = with(environment.shimmed(&program, &settings), [how]);
            preload(&mut shimmed, &[&environment.library, &stub]);
            expect_in_lab(shimmed, &format!("keepalive on 60/60/5\ndual 4\n{says}\n"));
        }
        crate::harness::log::expect_lines(&log, 6);
    });
}

/// Holds because nothing here needs to trace, or minds a stop between two system calls.
#[test]
fn h17_under_strace() {
    in_each_environment(|environment| {
        let show = environment.program("show");
        let run = |command: Command, wanted: &str| {
            let strace = traced(&command, "trace=all", Path::new("/dev/null"));
            expect_in_lab(strace, wanted);
        };
        run(with(environment.bare(&show), NAMES), BARE);
        run(with(environment.shimmed(&show, LISTED), NAMES), SHIMMED);
    });
}

/// Holds because the library handles no signal, so that every breakpoint is the debugger's.
#[test]
fn h18_under_gdb() {
    if Command::new("gdb").arg("--version").output().is_err() {
        return skip("gdb", "apt-get install gdb");
    }
    in_each_environment_of_this_machine(|environment| {
        let show = environment.program("show");
        let run = |command: Command, wanted: &str| {
            let gdb = with(Command::new("gdb"), ["-nx", "-q", "-batch"]);
            let gdb = with(gdb, ["-iex", "set debuginfod enabled off"]);
            let mut gdb = with(gdb, ["-ex", "set startup-with-shell off"]);
            for (name, value) in command.get_envs() {
                match value {
                    None => _ = gdb.env_remove(name),
                    Some(value) => {
                        let pair = [name, value].join(OsStr::new("="));
                        gdb.arg("-ex")
                            .arg([OsStr::new("set environment"), &pair].join(OsStr::new(" ")));
                    }
                }
            }
            gdb.args(["-ex", "tbreak connect", "-ex", "run", "-ex", "continue", "--args"]);
            gdb.arg(command.get_program()).args(command.get_args());
            let said = said(&run_in_lab(gdb));
            let ours: String = said
                .lines()
                .filter(|line| line.starts_with("keepalive ") || line.contains(".example.com "))
                .flat_map(|line| [line, "\n"])
                .collect();
            expect(&said, ours, wanted);
        };
        run(with(environment.bare(&show), NAMES), BARE);
        run(with(environment.shimmed(&show, LISTED), NAMES), SHIMMED);
    });
}

// --- Processes and threads ----------------------------------------------------------------------

/// Holds because nothing is kept of a process beyond exec: each program that the shell starts (dash
/// does so by vfork) reads the environment anew.
#[test]
fn h19_every_program_that_a_shell_starts() {
    in_each_environment(|environment| {
        let show = environment.program("show");
        let script = "\"$@\"; \"$@\" & wait; (\"$@\") | cat; exec \"$@\"";
        let run = |command: Command, wanted: &str| {
            let command = with(with(command, ["-c", script, "sh"]), [&show]);
            expect_in_lab(with(command, NAMES), &wanted.repeat(4));
        };
        run(environment.bare("/bin/sh"), BARE);
        run(environment.shimmed("/bin/sh", LISTED), SHIMMED);
    });
}

/// A limit: without `LD_PRELOAD` in its environment a child runs as without the library. Nothing is
/// left of the parent's that would disturb it.
#[test]
fn h20_a_child_with_an_empty_environment_is_as_without_the_library() {
    in_each_environment(|environment| {
        let show = environment.program("show");
        let run = |command: Command, wanted: &str| {
            let script = "\"$@\"; exec env -i \"$@\"";
            let command = with(with(command, ["-c", script, "sh"]), [&show]);
            expect_in_lab(with(command, NAMES), wanted);
        };
        run(environment.bare("/bin/sh"), &BARE.repeat(2));
        run(environment.shimmed("/bin/sh", LISTED), &format!("{SHIMMED}{BARE}"));
    });
}

/// Holds because connect takes no lock, and one thread loads the list while the lookups of the others
/// wait for it. Would break if one of them went on without the list, or loaded and reported it too.
#[test]
fn h21_two_hundred_threads_begin_at_once() {
    let scratch = Scratch::new();
    in_each_environment(|environment| {
        let program = environment.program("hostile");
        let arguments = ["threads", "200", "many.example.com"];
        let bare = with(environment.bare(&program), arguments);
        expect_in_lab(bare, "200 as without the library, 0 with it, 0 otherwise\n");
        let shimmed = with(environment.shimmed(&program, LISTED), arguments);
        let wanted = "0 as without the library, 200 with it, 0 otherwise\n";
        expect_in_lab(shimmed, wanted);
        // It takes a while to load.
        let list = scratch.file("hosts", [&"# a comment\n".repeat(600_000), "a..b\n"].concat());
        let settings = [LISTED[0], ("IPV4_ONLY_FILE", text(&list))];
        let seen = run_in_lab(with(environment.shimmed(&program, &settings), arguments));
        expect(said(&seen), (stdout(&seen), stderr(&seen).lines().count()), (wanted.to_owned(), 1));
    });
}

/// Holds because the library keeps no descriptor below 100, and takes a closed descriptor 2 for no
/// standard error at all. Would break if it kept a file open, or reopened /dev/null as Rust's own
/// start of a program does.
#[test]
fn h22_descriptors_0_1_and_2_closed_at_the_start() {
    in_each_environment(|environment| {
        let program = environment.program("hostile");
        let place = Scratch::new();
        let (data, log) = (place.join("data"), place.text("log"));
        let run = |command: Command, wanted: &str| {
            let mut command = with(command, ["closed".as_ref(), data.as_os_str()]);
            before(&mut command, || {
                // SAFETY: close(2) with a number.
                (0..=2).try_for_each(|descriptor| result(unsafe { libc::close(descriptor) }))
            });
            let _ = fs::remove_file(&data);
            expect_in_lab(command, "");
            let seen = fs::read_to_string(&data).expect("the program has written it");
            expect("", seen, wanted);
        };
        let wanted = "file 0, socket 1, keepalive on 60/60/5\n";
        run(environment.bare(&program), "file 0, socket 1, keepalive off\n");
        run(environment.shimmed(&program, &[("LOG", "trace")]), wanted);
        // The report of an invalid setting has no reader.
        run(environment.shimmed(&program, &[("LOG", "trace"), ("IPV4_ONLY", "a..b")]), wanted);
        run(environment.shimmed(&program, &[("LOG", "trace"), ("LOG_FILE", &log)]), wanted);
    });
}

// --- File systems -------------------------------------------------------------------------------

/// Holds because neither the settings nor keepalive read /proc: the environment is in memory, the
/// system's timings are asked of a new socket.
#[test]
fn h23_without_proc() {
    let hide = || {
        let (flags, none) = (libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
        // SAFETY: unshare(2) with a number and mount(2) with strings that last.
        unsafe {
            result(libc::unshare(libc::CLONE_NEWNS))?;
            result(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()))?;
            let tmpfs = c"tmpfs".as_ptr();
            result(libc::mount(tmpfs, c"/proc".as_ptr(), tmpfs, libc::MS_RDONLY, none.cast()))
        }
    };
    in_each_environment(|environment| {
        let show = environment.program("show");
        // In the lab's namespaces first: the order is that of these calls.
        let run = |mut command: Command, wanted: &str| {
            LAB.on(Host::Client, &mut command);
            before(&mut command, hide);
            expect_says(command, wanted);
        };
        let no_proc = with(environment.bare("/bin/sh"), ["-c", "echo /proc/*"]);
        run(no_proc, "/proc/*\n");
        run(with(environment.bare(&show), NAMES), BARE);
        run(with(environment.shimmed(&show, LISTED), NAMES), SHIMMED);
    });
}

/// Holds because the allowlist's variable is in memory; its file, read at the first lookup, is then
/// out of reach: one line says so, the hosts of the variable stay listed, the program runs on. (A
/// program that is strict has read the file at load and has its hosts too.)
#[test]
fn h24_a_program_that_changes_its_root_before_the_first_lookup() {
    let hosts = "198.51.100.2 dual.example.com\n2001:db8:2::2 dual.example.com\n\
                 198.51.100.2 many.example.com\n2001:db8:2::2 many.example.com\n";
    let scratch = Scratch::new();
    scratch.file("root/etc/hosts", hosts);
    scratch.file("root/etc/host.conf", "multi on\n");
    scratch.file("root/etc/nsswitch.conf", "hosts: files\n");
    scratch.file("root/etc/resolv.conf", "nameserver 127.0.0.1\n");
    let root = scratch.join("root");
    // Larger than what is read at load.
    let list = scratch
        .file("hosts", ["# a comment\n".repeat(6000), "many.example.com\n".to_owned()].concat());
    let list = text(&list);
    in_each_environment(|environment| {
        if environment.glibc == Some((2, 31)) {
            return skip(environment, "glibc 2.31 loads libnss_files from the new root");
        }
        let program = environment.program("hostile");
        let arguments = |command| {
            let command = with(command, ["chroot".as_ref(), root.as_os_str()]);
            with(command, ["dual.example.com", "many.example.com", "dual.example.com"])
        };
        let says = |keepalive: &str, [dual, many]: [&str; 2]| {
            format!(
                "keepalive {keepalive}\ndual.example.com {dual}\nmany.example.com {many}\n\
                 dual.example.com {dual}\n"
            )
        };
        expect_in_lab(arguments(environment.bare(&program)), &says("off", ["46", "46"]));

        let settings = [("IPV4_ONLY", "dual.example.com"), ("IPV4_ONLY_FILE", list)];
        let seen = run_in_lab(arguments(environment.shimmed(&program, &settings)));
        expect(format!("in {environment}"), stdout(&seen), says("on 60/60/5", ["4", "46"]));
        let errors = stderr(&seen);
        let one = errors.lines().count() == 1
            && errors.starts_with("egress-shim: EGRESS_SHIM_IPV4_ONLY_FILE")
            && errors.contains(list);
        assert!(one && seen.status.success(), "one line, seen {errors:?}");

        let strict = [settings[0], settings[1], ("STRICT", "1")];
        let strict = arguments(environment.shimmed(&program, &strict));
        expect_in_lab(strict, &says("on 60/60/5", ["4", "4"]));
    });
}

// --- The environment ----------------------------------------------------------------------------

/// Holds because the environment is gone through once, without a copy, and the patterns without a
/// limit but the kernel's (128 KiB for one variable, execve(2)). Would break with an array on the
/// stack.
#[test]
fn h25_a_huge_environment() {
    let mut patterns: Vec<_> = (0..3000).map(|host| format!("host-{host}.example.org")).collect();
    patterns.push("dual.example.com".to_owned());
    let patterns = patterns.join(",");
    in_each_environment(|environment| {
        let show = environment.program("show");
        expect_fixed(environment, &show, |command| {
            for number in 0..10_000 {
                command.env(format!("HUGE_{number}"), "x".repeat(100));
            }
            command.env("A_LARGE_ONE", "x".repeat(120_000));
            if command.get_envs().any(|(name, _)| name == "EGRESS_SHIM_IPV4_ONLY") {
                command.env("EGRESS_SHIM_IPV4_ONLY", &patterns);
            }
        });
    });
}

// --- A filter that kills ------------------------------------------------------------------------

/// Holds because a log line makes no kind of system call that a start has not made. Would break with `prlimit64` at the
/// first line, for which the filter of Debian's chronyd (`-F 1`) kills. The package is unpacked, not installed: it would
/// set this machine's clock. `-x` leaves the clock alone.
#[test]
fn h26_chronyd_confined_by_its_own_filter() {
    let script = "cd \"$1\"
        apt-get download chrony || { apt-get update; apt-get download chrony; }
        dpkg --extract ./*.deb .";
    let chrony = cached("tools/chrony", script);
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let lines = ["server time.example.com iburst", "cmdport 0", "user root"];
    let configuration = format!("{}\npidfile {}\n", lines.join("\n"), scratch.text("id"));
    let configuration = scratch.file("configuration", configuration);
    let settings = [("IPV4_ONLY", "time.example.com"), ("LOG", "debug"), ("LOG_FILE", text(&log))];
    in_each_environment_of_this_machine(|environment| {
        let _ = fs::remove_file(&log);
        let mut chronyd = environment.shimmed(chrony.join("usr/sbin/chronyd"), &settings);
        chronyd.args(["-x", "-d", "-F", "1", "-f", text(&configuration)]);
        LAB.on(Host::Client, chronyd.stderr(Stdio::piped()));
        let asked = || {
            let queries = fs::read_to_string(LAB.file("queries")).expect("the lab has a log");
            queries.matches("time.example.com from").count()
        };
        let before = asked();
        let output = run_meanwhile(&mut chronyd, |child| {
            until("it looks its server up", || asked() > before);
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let status = status.expect("it runs");
            assert!(status.contains("Seccomp:\t2\n"), "it has a filter: {status}");
            // SAFETY: kill(2) with numbers: a child that has not been waited for.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
        });
        assert!(output.status.success(), "it is not killed: {}", said(&output));
        let log = fs::read_to_string(&log).expect("it has a log");
        let line = "getaddrinfo: time.example.com: listed, IPv4 only";
        assert!(log.contains(line), "{line:?} in the log: {log}");
    });
}

/// The compiler assumes a stack that is aligned to 16 bytes. This would break if a hook relied on that before it has
/// aligned the stack.
#[test]
fn h27_programs_for_i386_whose_stack_is_aligned_to_4_bytes() {
    for environment in Environment::with_32_bits().filter_map(|one| one.with_old_stack()) {
        let program = environment.program("aligned");
        let scratch = Scratch::new();
        let file = scratch.text("log");
        let logged = [LISTED, &[("LOG", "debug"), ("LOG_FILE", &file)]].concat();
        expect_in_lab(environment.bare(&program), &"keepalive 0: 6 4\n".repeat(4));
        expect_in_lab(environment.shimmed(&program, LISTED), &"keepalive 1: 4\n".repeat(4));
        expect_in_lab(environment.shimmed(&program, &logged), &"keepalive 1: 4\n".repeat(4));
    }
}
