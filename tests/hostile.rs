//! Hostile conditions, numbered: surroundings that other people's programs bring with them. Each says
//! why it holds now and when it would break. Each runs a small C program, first without the library as
//! the control, and compares all that the program prints and how it ends.
//!
//! Signals, forks, cancellation, descriptor 2, full disks, pipes without a reader, few descriptors and
//! daemons are in `guest.rs`, namespaces in `keepalive.rs`, files that may not be opened in
//! `settings.rs`.

mod lab;
mod programs;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lab::{Host, Lab};
use programs::{Environment, output, run_for, stdout};

/// No program here takes more than a second or two.
const DEADLINE: Duration = Duration::from_secs(15);

/// A network in which these two names have addresses of both families, and so has many.example.com,
/// in /etc/hosts.
static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(&[]);
    let hosts =
        "127.0.0.1 localhost\n198.51.100.2 many.example.com\n2001:db8:2::2 many.example.com\n";
    fs::write(lab.file("hosts"), hosts).expect("the lab's hosts can be written");
    lab
});
const NAMES: [&str; 2] = ["dual.example.com", "other.example.com"];

/// What `show` prints of these names without the library, and with it and the settings below.
const BARE: &str = "keepalive off\ndual.example.com 46\nother.example.com 46\n";
const SHIMMED: &str = "keepalive on 60/60/5\ndual.example.com 4\nother.example.com 46\n";
const LISTED: &[(&str, &str)] = &[("IPV4_ONLY", "dual.example.com,many.example.com")];

// --- Running programs ---------------------------------------------------------------------------

#[track_caller]
fn run(command: &mut Command) -> Output {
    let ended = run_for(LAB.on(Host::Client, command), DEADLINE);
    ended.output.unwrap_or_else(|| panic!("{command:?} hangs"))
}

/// All that a command let others see: what it wrote, and how it ended where that was not well.
fn said(output: &Output) -> String {
    let mut text = stdout(output) + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        text += &output.status.to_string();
    }
    text
}

/// Asserts what a command says in the lab.
#[track_caller]
fn assert_says(environment: &Environment, mut command: Command, wanted: &str) {
    let seen = said(&run(&mut command));
    assert_eq!(seen, wanted, "(seen, wanted) in {environment}: {command:?}");
}

/// A command with arguments.
fn with<S: AsRef<OsStr>>(mut command: Command, arguments: impl IntoIterator<Item = S>) -> Command {
    command.args(arguments);
    command
}

/// Asserts that `show`, or a program like it, is cured and else the same, under a condition that
/// `change` makes.
#[track_caller]
fn assert_cured(environment: &Environment, program: &Path, change: impl Fn(&mut Command)) {
    let mut bare = with(environment.bare(program), NAMES);
    change(&mut bare);
    assert_says(environment, bare, BARE);
    let mut shimmed = with(environment.shimmed(program, LISTED), NAMES);
    change(&mut shimmed);
    assert_says(environment, shimmed, SHIMMED);
}

/// The environments in which this machine's own libraries run.
fn glibc_here() -> Vec<Environment> {
    let mut all = Environment::all();
    all.retain(|environment| environment.name.starts_with("glibc"));
    all
}

fn is_musl(environment: &Environment) -> bool {
    environment.glibc().is_none()
}

/// A program of `tests/programs` made by this machine's compiler in a special way; none where the
/// compiler cannot.
fn built(source: &str, flags: &[&str]) -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = directory("built").join(number.to_string());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let mut compiler = Environment::here().bare("cc");
    compiler.args(["-std=gnu11", "-O1", "-pthread", "-w", "-o"]).arg(&file);
    let made = compiler.arg(source).args(flags).arg("-ldl").output().expect("cc starts");
    if !made.status.success() {
        not_tried(&format!("cc {flags:?}: {}", String::from_utf8_lossy(&made.stderr)));
    }
    made.status.success().then_some(file)
}

/// A directory of these tests' own.
fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(name);
    fs::create_dir_all(&directory).expect("target can be written to");
    directory
}

/// A file with this text.
fn file(directory: &str, name: &str, text: &str) -> PathBuf {
    let file = self::directory(directory).join(name);
    fs::create_dir_all(file.parent().expect("it is in a directory")).expect("it can be made");
    fs::write(&file, text).expect("target can be written to");
    file
}

fn not_tried(why: &str) {
    println!("not tried: {why}");
}

/// Whether a tool is installed.
fn has(tool: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|place| place.join(tool).exists()));
    if !found {
        not_tried(&format!("{tool}: apt-get install {package}"));
    }
    found
}

/// Asserts that the library does its work beside another preload, in front of it and behind it.
/// `show` is started by a shell, so that two programs run.
#[track_caller]
fn assert_good_company(other: &str, package: &str, variables: &[(&str, &str)]) {
    let name = format!("/usr/lib/{}-linux-gnu/{other}", std::env::consts::ARCH);
    if !Path::new(&name).exists() {
        return not_tried(&format!("{name}: apt-get install {package}"));
    }
    for environment in &glibc_here() {
        let show = environment.program("show");
        let run = |preload: &[&OsStr], wanted: &str| {
            let mut command = with(environment.shimmed("/bin/sh", LISTED), ["-c", "\"$@\"", "sh"]);
            command.arg(&show).args(NAMES).envs(variables.iter().copied());
            command.env("LD_PRELOAD", preload.join(OsStr::new(":")));
            assert_says(environment, command, wanted);
        };
        let (other, ours) = (OsStr::new(&name), environment.library.as_os_str());
        run(&[other], BARE);
        run(&[ours, other], SHIMMED);
        run(&[other, ours], SHIMMED);
    }
}

/// A command under another program, which has not the environment meant for the command: the
/// variables go where `place` puts them.
fn under(mut tool: Command, command: &Command, place: impl Fn(&mut Command, OsString)) -> Command {
    for (name, value) in command.get_envs() {
        match value {
            None => _ = tool.env_remove(name),
            Some(value) => {
                let pair = [name, value].join(OsStr::new("="));
                place(&mut tool, pair);
            }
        }
    }
    tool.stdin(Stdio::null());
    tool
}

/// What runs in the child before the program does: `f` makes system calls, and nothing else.
fn first(command: &mut Command, f: fn() -> io::Result<()>) {
    // SAFETY: the closure makes system calls only, by the word of the caller.
    unsafe { command.pre_exec(f) };
}

/// The result of a system call.
fn result(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// --- Other preloads -----------------------------------------------------------------------------

/// Holds because the library allocates through whatever malloc the process has, at load and at the
/// first lookup only, and frees nothing that another made. Would break if memory of libc's own list
/// were freed by, or handed to, an allocator of ours.
#[test]
fn h01_jemalloc_before_and_behind() {
    assert_good_company("libjemalloc.so.2", "libjemalloc2", &[]);
}

/// As h01; mimalloc also starts itself in a constructor, which may run before or after ours.
#[test]
fn h02_mimalloc_before_and_behind() {
    assert_good_company("libmimalloc.so.2.0", "libmimalloc2.0", &[]);
}

/// As h01; tcmalloc is C++ and brings libstdc++ and `libgcc_s` into the process.
#[test]
fn h03_tcmalloc_before_and_behind() {
    assert_good_company("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4", &[]);
}

/// Holds because libfaketime interposes what tells the time, and no lookup or connect of ours waits
/// by a clock. Would break if the library waited, or counted on clocks going forward.
#[test]
fn h04_libfaketime_before_and_behind() {
    let time = [("FAKETIME", "2020-01-01 00:00:00")];
    assert_good_company("faketime/libfaketime.so.1", "libfaketime", &time);
}

/// Holds because proxychains finds the next `connect` by `RTLD_NEXT` too: each calls the other,
/// whoever is first. Would break if either asked libc by name.
#[test]
fn h05_proxychains_before_and_behind() {
    // Nothing goes to the proxy but what leaves this host.
    let text = "quiet_mode\nlocalnet 127.0.0.0/255.0.0.0\n[ProxyList]\nsocks5 127.0.0.1 9\n";
    let configuration = file("proxychains", "proxychains.conf", text);
    let variables = [("PROXYCHAINS_CONF_FILE", configuration.to_str().expect("it is UTF-8"))];
    assert_good_company("libproxychains.so.4", "libproxychains4", &variables);
}

/// Holds in front, as keepalive is set before the next `connect` is called, whosever that is. Behind
/// it nothing is done, nor broken: torsocks takes `connect` from a handle of libc and never asks the
/// other preloads. Lookups are torsocks' own, through Tor, whose addresses are IPv4.
#[test]
fn h06_torsocks_behind_is_cured_and_in_front_is_as_without_the_library() {
    let name = format!("/usr/lib/{}-linux-gnu/torsocks/libtorsocks.so.0", std::env::consts::ARCH);
    if !Path::new(&name).exists() {
        return not_tried(&format!("{name}: apt-get install torsocks"));
    }
    let text = "TorAddress 127.0.0.1\nTorPort 9\nAllowOutboundLocalhost 1\n";
    let configuration = file("torsocks", "torsocks.conf", text);
    for environment in &glibc_here() {
        let show = environment.program("show");
        let run = |preload: &[&OsStr], wanted: &str| {
            let mut command = with(environment.shimmed(&show, LISTED), ["localhost"]);
            command.env("LD_PRELOAD", preload.join(OsStr::new(":")));
            command.env("TORSOCKS_CONF_FILE", &configuration).env("TORSOCKS_LOG_LEVEL", "1");
            assert_says(environment, command, wanted);
        };
        let (other, ours) = (OsStr::new(&name), environment.library.as_os_str());
        run(&[other], "keepalive off\nlocalhost 4\n");
        run(&[ours, other], "keepalive on 60/60/5\nlocalhost 4\n");
        run(&[other, ours], "keepalive off\nlocalhost 4\n");
    }
}

// --- How the program is built -------------------------------------------------------------------

/// `ASan` ends a program in which another library comes before its runtime; that is its rule for
/// any preload. Three ways out hold, leak check included: the runtime first in `LD_PRELOAD`, linked
/// statically, or `verify_asan_link_order=0`. They would break if the library leaked, or read what is
/// not its own.
#[test]
fn h07_a_program_with_asan_runs_where_asan_is_let_be_first() {
    let (Some(program), Some(with_static)) = (
        built("show.c", &["-fsanitize=address"]),
        built("show.c", &["-fsanitize=address", "-static-libasan"]),
    ) else {
        return;
    };
    let mut name = Environment::here().bare("cc");
    let runtime = output(name.arg("-print-file-name=libasan.so"));
    for environment in &glibc_here() {
        assert_says(environment, with(environment.bare(&program), NAMES), BARE);
        let refused = said(&run(&mut with(environment.shimmed(&program, LISTED), NAMES)));
        let why = "ASan runtime does not come first in initial library list";
        assert!(refused.contains(why), "in {environment}: ASan's own refusal, seen {refused}");

        assert_cured(environment, &with_static, |_| ());
        assert_cured(environment, &program, |command| {
            command.env("ASAN_OPTIONS", "verify_asan_link_order=0");
        });
        let both = [OsStr::new(runtime.trim_end()), environment.library.as_os_str()];
        let mut shimmed = with(environment.shimmed(&program, LISTED), NAMES);
        shimmed.env("LD_PRELOAD", both.join(OsStr::new(":")));
        assert_says(environment, shimmed, SHIMMED);
    }
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
    for way in ways {
        let Some(program) = built("show.c", way) else { continue };
        for environment in &glibc_here() {
            assert_cured(environment, &program, |_| ());
        }
    }
}

/// A limit: a static program has no loader that would look at `LD_PRELOAD`. It runs as ever.
#[test]
fn h09_a_static_pie_program_is_as_without_the_library() {
    let Some(program) = built("show.c", &["-static-pie"]) else { return };
    for environment in &glibc_here() {
        assert_says(environment, environment.bare(&program), "keepalive off\n");
        assert_says(environment, environment.shimmed(&program, LISTED), "keepalive off\n");
    }
}

/// A limit: the program comes before every preload in the search order, for itself and for its
/// plugins. Its definitions are called, and as often as without the library.
#[test]
fn h10_a_program_with_its_own_connect_and_getaddrinfo_keeps_them() {
    for environment in &Environment::all() {
        let program = environment.program("own");
        let plugin = environment.shared_library("plugin");
        let arguments = [plugin.as_os_str(), OsStr::new("dual.example.com")];
        let bare = run(&mut with(environment.bare(&program), arguments));
        let seen = said(&bare);
        assert!(bare.status.success(), "in {environment}: {seen}");
        let calls = ["keepalive off", "1 and 1 calls", "plugin: keepalive off", "2 and 2 calls"];
        assert!(calls.iter().all(|part| seen.contains(part)), "in {environment}: {seen}");
        assert_says(environment, with(environment.shimmed(&program, LISTED), arguments), &seen);
    }
}

// --- How symbols are bound ----------------------------------------------------------------------

/// Holds because the library needs no lazy binding, at load or later.
#[test]
fn h11_ld_bind_now() {
    for environment in &Environment::all() {
        let show = environment.program("show");
        assert_cured(environment, &show, |command| _ = command.env("LD_BIND_NOW", "1"));
    }
}

/// Holds because the loader's own output goes where it is sent; the library reads no `LD_` variable.
#[test]
fn h12_ld_debug_statistics() {
    for environment in &glibc_here() {
        let show = environment.program("show");
        let directory = directory("statistics");
        assert_cured(environment, &show, |command| {
            command.env("LD_DEBUG", "statistics").env("LD_DEBUG_OUTPUT", directory.join("ld"));
        });
        let files = fs::read_dir(&directory).expect("it is there").count();
        assert!(files >= 2, "the loader has written its statistics");
        fs::remove_dir_all(&directory).expect("the statistics can be taken away");
    }
}

/// Holds because what the loader says of an audit library that is not there is its own affair, and
/// an audit library that is there only watches: every binding goes through another table then.
#[test]
fn h13_ld_audit_with_a_library_and_without() {
    for environment in &glibc_here() {
        let show = environment.program("show");
        let mut bare = with(environment.bare(&show), NAMES);
        bare.env("LD_AUDIT", "/nonexistent/audit.so");
        let bare = run(&mut bare);
        let mut shimmed = with(environment.shimmed(&show, LISTED), NAMES);
        shimmed.env("LD_AUDIT", "/nonexistent/audit.so");
        let shimmed = run(&mut shimmed);
        assert_eq!((stdout(&bare), stdout(&shimmed)), (BARE.to_owned(), SHIMMED.to_owned()));
        let errors = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(errors(&shimmed), errors(&bare), "(seen, wanted) in {environment}");

        let audit = environment.shared_library("audit");
        assert_cured(environment, &show, |command| _ = command.env("LD_AUDIT", &audit));
    }
}

/// A limit of glibc: `RTLD_DEEPBIND` puts the plugin's own needed libraries, libc among them, before
/// every preload. Plugins opened without it are cured. musl knows no such flag.
#[test]
fn h14_a_plugin_opened_with_rtld_deepbind_is_as_without_the_library() {
    for environment in &Environment::all() {
        let program = environment.program("hostile");
        let plugin = environment.shared_library("plugin");
        for how in ["lazy", "now", "deepbind"] {
            let arguments =
                ["plugin".as_ref(), how.as_ref(), plugin.as_os_str(), NAMES[0].as_ref()];
            let off = "plugin: keepalive off\nplugin: dual.example.com 46\n";
            let on = "plugin: keepalive on 60/60/5\nplugin: dual.example.com 4\n";
            assert_says(environment, with(environment.bare(&program), arguments), off);
            let bypassed = how == "deepbind" && !is_musl(environment);
            let shimmed = with(environment.shimmed(&program, LISTED), arguments);
            assert_says(environment, shimmed, if bypassed { off } else { on });
        }
    }
}

/// Holds for all that searches in the order of the loader; what asks a handle of libc for `connect`
/// asks for libc's own, and gets it: a limit. Would break if the exported symbol were versioned or
/// hidden.
#[test]
fn h15_dlsym_gives_the_librarys_connect_and_a_handle_of_libc_gives_libcs() {
    for environment in &Environment::all() {
        let program = environment.program("hostile");
        let says = |on: &str| {
            format!(
                "linked: {on}\nRTLD_DEFAULT: {on}\nhandle of the program: {on}\nhandle of libc: off\n"
            )
        };
        assert_says(environment, with(environment.bare(&program), ["dlsym"]), &says("off"));
        let shimmed = with(environment.shimmed(&program, LISTED), ["dlsym"]);
        assert_says(environment, shimmed, &says("on 60/60/5"));
    }
}

// --- Filters and tracers ------------------------------------------------------------------------

/// A limit: a filter that kills for `getsockopt` or `socket` kills at the first connect, which asks
/// the socket for its timings and a new one for the system's. With keepalive off connect makes no
/// system call but its own (see `keepalive.rs`), and the program lives.
#[test]
fn h16_a_filter_that_kills_for_a_call_spares_a_program_with_keepalive_off() {
    for environment in &Environment::all() {
        let program = environment.program("hostile");
        for call in ["getsockopt", "socket"] {
            let arguments = ["kill", call];
            let wanted = "connect: Connection refused\n";
            assert_says(environment, with(environment.bare(&program), arguments), wanted);
            for settings in [("KEEPALIVE", "off"), ("", "off")] {
                let command = with(environment.shimmed(&program, &[settings]), arguments);
                assert_says(environment, command, wanted);
            }
            let killed = run(&mut with(environment.shimmed(&program, &[]), arguments));
            let signal = killed.status.signal();
            assert_eq!(signal, Some(libc::SIGSYS), "{call} in {environment}: {}", said(&killed));
        }
    }
}

/// Holds because nothing here needs to trace, or minds a stop between two system calls.
#[test]
fn h17_under_strace() {
    if !has("strace", "strace") {
        return;
    }
    for environment in &Environment::all() {
        let show = environment.program("show");
        let run = |command: Command, wanted: &str| {
            let strace = with(Command::new("strace"), ["-f", "-o", "/dev/null"]);
            let mut strace = under(strace, &command, |strace, pair| _ = strace.arg("-E").arg(pair));
            strace.arg(command.get_program()).args(command.get_args());
            assert_says(environment, strace, wanted);
        };
        run(with(environment.bare(&show), NAMES), BARE);
        run(with(environment.shimmed(&show, LISTED), NAMES), SHIMMED);
    }
}

/// Holds because the library handles no signal, so that every breakpoint is the debugger's.
#[test]
fn h18_under_gdb() {
    if !has("gdb", "gdb") {
        return;
    }
    for environment in &glibc_here() {
        let show = environment.program("show");
        let run = |command: Command, wanted: &str| {
            let gdb = with(Command::new("gdb"), ["-nx", "-q", "-batch"]);
            let gdb = with(gdb, ["-iex", "set debuginfod enabled off"]);
            let gdb = with(gdb, ["-ex", "set startup-with-shell off"]);
            let mut gdb = under(gdb, &command, |gdb, pair| {
                gdb.arg("-ex").arg([OsStr::new("set environment"), &pair].join(OsStr::new(" ")));
            });
            gdb.args(["-ex", "tbreak connect", "-ex", "run", "-ex", "continue", "--args"]);
            gdb.arg(command.get_program()).args(command.get_args());
            let said = said(&self::run(&mut gdb));
            let ours: String = said
                .lines()
                .filter(|line| line.starts_with("keepalive ") || line.contains(".example.com "))
                .flat_map(|line| [line, "\n"])
                .collect();
            assert_eq!(ours, wanted, "(seen, wanted) in {environment}: {said}");
        };
        run(with(environment.bare(&show), NAMES), BARE);
        run(with(environment.shimmed(&show, LISTED), NAMES), SHIMMED);
    }
}

// --- Processes and threads ----------------------------------------------------------------------

/// Holds because nothing is kept of a process beyond exec: each program that the shell starts (dash
/// does so by vfork) reads the environment anew.
#[test]
fn h19_every_program_that_a_shell_starts() {
    for environment in &Environment::all() {
        let show = environment.program("show");
        let script = "\"$@\"; \"$@\" & wait; (\"$@\") | cat; exec \"$@\"";
        let run = |command: Command, wanted: &str| {
            let command = with(with(command, ["-c", script, "sh"]), [&show]);
            assert_says(environment, with(command, NAMES), &wanted.repeat(4));
        };
        run(environment.bare("/bin/sh"), BARE);
        run(environment.shimmed("/bin/sh", LISTED), SHIMMED);
    }
}

/// A limit: without `LD_PRELOAD` in its environment a child runs as without the library. Nothing is
/// left of the parent's that would disturb it.
#[test]
fn h20_a_child_with_an_empty_environment_is_as_without_the_library() {
    for environment in &Environment::all() {
        let show = environment.program("show");
        let run = |command: Command, wanted: &str| {
            let script = "\"$@\"; exec env -i \"$@\"";
            let command = with(with(command, ["-c", script, "sh"]), [&show]);
            assert_says(environment, with(command, NAMES), wanted);
        };
        run(environment.bare("/bin/sh"), &BARE.repeat(2));
        run(environment.shimmed("/bin/sh", LISTED), &format!("{SHIMMED}{BARE}"));
    }
}

/// Holds because connect takes no lock and the first lookups, which all load the allowlist, throw
/// away all but one. Would break if one waited for another.
#[test]
fn h21_two_hundred_threads_begin_at_once() {
    for environment in &Environment::all() {
        let program = environment.program("hostile");
        let arguments = ["threads", "200", "many.example.com"];
        let bare = with(environment.bare(&program), arguments);
        assert_says(environment, bare, "200 as without the library, 0 with it, 0 otherwise\n");
        let shimmed = with(environment.shimmed(&program, LISTED), arguments);
        assert_says(environment, shimmed, "0 as without the library, 200 with it, 0 otherwise\n");
    }
}

/// Holds because the library keeps no descriptor below 100, and takes a closed descriptor 2 for no
/// standard error at all. Would break if it kept a file open, or reopened /dev/null as Rust's own
/// start of a program does.
#[test]
fn h22_descriptors_0_1_and_2_closed_at_the_start() {
    for environment in &Environment::all() {
        let program = environment.program("hostile");
        let place = directory(&format!("closed-{environment}"));
        let (data, log) = (place.join("data"), place.join("log"));
        let run = |command: Command, wanted: &str| {
            let mut command = with(command, ["closed".as_ref(), data.as_os_str()]);
            let close = || {
                for descriptor in 0..=2 {
                    // SAFETY: close(2) with a number.
                    result(unsafe { libc::close(descriptor) })?;
                }
                Ok(())
            };
            first(&mut command, close);
            let _ = fs::remove_file(&data);
            assert_says(environment, command, "");
            let seen = fs::read_to_string(&data).expect("the program has written it");
            assert_eq!(seen, wanted, "(seen, wanted) in {environment}");
        };
        let wanted = "file 0, socket 1, keepalive on 60/60/5\n";
        run(environment.bare(&program), "file 0, socket 1, keepalive off\n");
        run(environment.shimmed(&program, &[("LOG", "trace")]), wanted);
        // A wrong setting has nobody to be told to.
        run(environment.shimmed(&program, &[("LOG", "trace"), ("IPV4_ONLY", "a..b")]), wanted);
        let log = log.to_str().expect("it is UTF-8");
        run(environment.shimmed(&program, &[("LOG", "trace"), ("LOG_FILE", log)]), wanted);
    }
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
    for environment in &Environment::all() {
        let show = environment.program("show");
        // In the lab's namespaces first: the order is that of these calls.
        let run = |mut command: Command, wanted: &str| {
            LAB.on(Host::Client, &mut command);
            first(&mut command, hide);
            let ended = run_for(&mut command, DEADLINE);
            let seen = said(&ended.output.expect("it ends"));
            assert_eq!(seen, wanted, "(seen, wanted) in {environment}: {command:?}");
        };
        let no_proc = with(environment.bare("/bin/sh"), ["-c", "echo /proc/*"]);
        run(no_proc, "/proc/*\n");
        run(with(environment.bare(&show), NAMES), BARE);
        run(with(environment.shimmed(&show, LISTED), NAMES), SHIMMED);
    }
}

/// Holds because the allowlist's variable is in memory; its file, read at the first lookup, is then
/// out of reach: one line says so, the hosts of the variable stay listed, the program runs on. (A
/// program that is strict, as under the wrapper, has read the file at load and has its hosts too.)
#[test]
fn h24_a_program_that_changes_its_root_before_the_first_lookup() {
    let hosts = "198.51.100.2 dual.example.com\n2001:db8:2::2 dual.example.com\n\
                 198.51.100.2 many.example.com\n2001:db8:2::2 many.example.com\n";
    file("root", "etc/hosts", hosts);
    file("root", "etc/host.conf", "multi on\n");
    file("root", "etc/nsswitch.conf", "hosts: files\n");
    file("root", "etc/resolv.conf", "nameserver 127.0.0.1\n");
    let root = directory("root");
    let list = file("outside", "hosts", "many.example.com\n");
    let list = list.to_str().expect("it is UTF-8");
    // glibc 2.31 would load libnss_files from the new root, with the library or without.
    let with_own_nss = |environment: &&Environment| environment.glibc() != Some((2, 31));
    for environment in Environment::all().iter().filter(with_own_nss) {
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
        assert_says(environment, arguments(environment.bare(&program)), &says("off", ["46", "46"]));

        let settings = [("IPV4_ONLY", "dual.example.com"), ("IPV4_ONLY_FILE", list)];
        let seen = run(&mut arguments(environment.shimmed(&program, &settings)));
        assert_eq!(stdout(&seen), says("on 60/60/5", ["4", "46"]), "in {environment}");
        let errors = String::from_utf8_lossy(&seen.stderr).into_owned();
        let one = errors.lines().count() == 1
            && errors.starts_with("egress-shim: EGRESS_SHIM_IPV4_ONLY_FILE")
            && errors.contains(list);
        assert!(one && seen.status.success(), "one line in {environment}, seen {errors:?}");

        let strict = [settings[0], settings[1], ("STRICT", "1")];
        let strict = arguments(environment.shimmed(&program, &strict));
        assert_says(environment, strict, &says("on 60/60/5", ["4", "4"]));
    }
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
    for environment in &Environment::all() {
        let show = environment.program("show");
        assert_cured(environment, &show, |command| {
            for number in 0..10_000 {
                command.env(format!("HUGE_{number}"), "x".repeat(100));
            }
            command.env("A_LARGE_ONE", "x".repeat(120_000));
            if command.get_envs().any(|(name, _)| name == "EGRESS_SHIM_IPV4_ONLY") {
                command.env("EGRESS_SHIM_IPV4_ONLY", &patterns);
            }
        });
    }
}
