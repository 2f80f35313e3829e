//! Beside other preloads, in front of them and behind: each calls the next.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BARE, LISTED, NAMES, SHIMMED, expect_in_lab, run_in_lab};
use crate::harness::environment::preload;
use crate::harness::lab::SILENT;
use crate::harness::run::{output, run, stderr, stdout, with};
use crate::harness::scratch::text;
use crate::harness::{
    ROOT, Scratch, expect, in_each_environment, in_each_environment_of_this_machine,
    on_this_machine, skip,
};

/// Another preload of Debian's; `None` if it is not installed.
fn other(name: &str, package: &str) -> Option<PathBuf> {
    let path =
        Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join(name);
    if !path.exists() {
        skip(path.display(), format!("apt-get install {package}"));
        return None;
    }
    Some(path)
}

/// Expects the library to do its work beside another preload, in front of it and behind it. `show`
/// is started by a shell, so that two programs run.
#[track_caller]
fn expect_good_company(name: &str, package: &str, variables: &[(&str, &str)]) {
    let Some(other) = other(name, package) else { return };
    in_each_environment_of_this_machine(|environment| {
        let show = environment.program("show");
        let run = |libraries: &[&Path], wanted: &str| {
            let mut command = with(environment.shimmed("/bin/sh", LISTED), ["-c", "\"$@\"", "sh"]);
            command.arg(&show).args(NAMES).envs(variables.iter().copied());
            preload(&mut command, libraries);
            expect_in_lab(command, wanted);
        };
        run(&[&other], BARE);
        run(&[&environment.library, &other], SHIMMED);
        run(&[&other, &environment.library], SHIMMED);
    });
}

/// Holds because the library brings its own memory, and frees nothing that another made. Would break if
/// memory of libc's own list were freed by, or handed to, an allocator of ours.
#[test]
fn h01_jemalloc_before_and_behind() {
    expect_good_company("libjemalloc.so.2", "libjemalloc2", &[]);
}

/// As h01; mimalloc also starts itself in a constructor, which may run before or after ours.
#[test]
fn h02_mimalloc_before_and_behind() {
    expect_good_company("libmimalloc.so.2.0", "libmimalloc2.0", &[]);
}

/// As h01; tcmalloc is C++ and brings libstdc++ and `libgcc_s` into the process.
#[test]
fn h03_tcmalloc_before_and_behind() {
    expect_good_company("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4", &[]);
}

/// Holds because libfaketime interposes what tells the time, and no lookup or connect of ours waits
/// by a clock. Would break if the library waited, or counted on clocks going forward.
#[test]
fn h04_libfaketime_before_and_behind() {
    let time = [("FAKETIME", "2020-01-01 00:00:00")];
    expect_good_company("faketime/libfaketime.so.1", "libfaketime", &time);
}

/// Holds because proxychains finds the next `connect` by `RTLD_NEXT` too: each calls the other,
/// whoever is first. Would break if either asked libc by name.
#[test]
fn h05_proxychains_before_and_behind() {
    // Nothing goes to the proxy but what leaves this host.
    let configuration =
        "quiet_mode\nlocalnet 127.0.0.0/255.0.0.0\n[ProxyList]\nsocks5 127.0.0.1 9\n";
    let scratch = Scratch::new();
    let configuration = scratch.file("proxychains.conf", configuration);
    let variables = [("PROXYCHAINS_CONF_FILE", text(&configuration))];
    expect_good_company("libproxychains.so.4", "libproxychains4", &variables);
}

/// Holds in front, as keepalive is set before the next `connect` is called, whosever that is. Behind
/// it nothing is done, nor broken: torsocks takes `connect` from a handle of libc and never asks the
/// other preloads. Lookups are torsocks' own, through Tor, whose addresses are IPv4.
#[test]
fn h06_torsocks_behind_is_cured_and_in_front_is_as_without_the_library() {
    let Some(other) = other("torsocks/libtorsocks.so.0", "torsocks") else { return };
    let scratch = Scratch::new();
    let configuration = "TorAddress 127.0.0.1\nTorPort 9\nAllowOutboundLocalhost 1\n";
    let configuration = scratch.file("torsocks.conf", configuration);
    in_each_environment_of_this_machine(|environment| {
        let show = environment.program("show");
        let run = |libraries: &[&Path], wanted: &str| {
            let mut command = with(environment.shimmed(&show, LISTED), ["localhost"]);
            preload(&mut command, libraries);
            command.env("TORSOCKS_CONF_FILE", &configuration).env("TORSOCKS_LOG_LEVEL", "1");
            expect_in_lab(command, wanted);
        };
        run(&[&other], "keepalive off\nlocalhost 4\n");
        run(&[&environment.library, &other], "keepalive on 60/60/5\nlocalhost 4\n");
        run(&[&other, &environment.library], "keepalive off\nlocalhost 4\n");
    });
}

/// A heap profiler's malloc connects, and an exhausted one gives nothing: whatever the library does, it does
/// without. An empty library in its place says what the loader itself takes for it.
#[test]
fn the_programs_malloc_is_never_called_by_the_library() {
    let scratch = Scratch::new();
    let patterns = (0..10_000).map(|host| format!("host-{host}.example.com\n"));
    let list = scratch.file("list", patterns.collect::<String>());
    let log = scratch.text("log");
    let settings: [(&str, &str); 4] = [
        ("IPV4_ONLY", "dual.example.com,a..b"),
        ("IPV4_ONLY_FILE", text(&list)),
        ("LOG", "egress_shim::state=info,debug"),
        ("LOG_FILE", &log),
    ];
    in_each_environment(|environment| {
        let allocations = environment.shared_library("allocations");
        let next = environment.shared_library("next_getaddrinfo");
        let empty = environment.shared_library("empty_library");
        let calls = |library: &Path, keepalive: &str, family: &str| {
            let mut command = environment.shimmed(environment.program("settings"), &settings);
            preload(&mut command, &[&allocations, library, &next]);
            let node = "host-2.example.com";
            let seen = stdout(&run(command.args(["look", node, "connect", "look", "other.test"])));
            let start = format!("{node} {family}\n{keepalive}\nother.test any\n");
            let calls = seen.strip_prefix(&start).unwrap_or_else(|| panic!("{start}, seen {seen}"));
            calls.to_owned()
        };
        let bare = calls(&empty, "off", "any");
        let shimmed = calls(&environment.library, "idle=60,interval=60,count=5", "IPv4");
        expect("calls of malloc", shimmed, bare);
    });
}

/// They take the library's atomic accesses for races, which the file of suppressions says to them.
#[test]
fn helgrind_and_drd_with_the_suppressions_name_no_race_in_the_library() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("valgrind", "apt-get install valgrind");
    }
    let suppressions = format!("--suppressions={ROOT}/examples/valgrind.supp");
    on_this_machine(|environment| {
        let settings = [("IPV4_ONLY", "known.example.com"), ("LOG", "off")];
        let program = environment.shimmed(environment.program("soak"), &settings);
        for tool in ["helgrind", "drd"] {
            let report = |option: Option<&str>| {
                let mut valgrind = Command::new("valgrind");
                valgrind.arg(format!("--tool={tool}")).args(option);
                valgrind.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
                let words = ["32", "32", "known.example.com", "static.example.com"];
                valgrind.arg(program.get_program()).args(words);
                stderr(&run(&mut SILENT.client(valgrind)))
            };
            // The place of an access; glibc's own lookups have some too, which the library has called.
            let is_ours =
                |line: &str| line.contains(" at 0x") && line.contains("libegress_shim.so");
            let (all, seen) = (report(None), report(Some(&suppressions)));
            assert!(all.lines().any(is_ours), "{tool} without the suppressions: {all}");
            assert!(seen.contains("ERROR SUMMARY"), "{tool} ends: {seen}");
            assert!(!seen.lines().any(is_ours), "{tool}: {seen}");
        }
    });
}

/// memcheck counts what is still there at the end, reachable or not.
#[test]
fn valgrind_sees_no_error_and_no_block_of_the_librarys() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("valgrind", "apt-get install valgrind");
    }
    in_each_environment_of_this_machine(|environment| {
        let show = environment.program("show");
        let summary = |command: &Command| {
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]);
            for (name, value) in command.get_envs() {
                match value {
                    None => _ = valgrind.env_remove(name),
                    Some(value) => _ = valgrind.env(name, value),
                }
            }
            valgrind.arg(command.get_program()).args(command.get_args());
            let output = run_in_lab(valgrind);
            let errors = stderr(&output);
            assert!(output.status.success(), "valgrind finds an error: {errors}");
            // ==PID== WORDS
            let words = errors.lines().filter_map(|line| line.split_once("== "));
            let words = words.map(|(_, words)| words.trim().to_owned());
            let blocks = |words: &String| {
                let lost = ["definitely", "indirectly", "possibly", "still", "in use at exit"];
                lost.iter().any(|kind| words.starts_with(kind))
            };
            (stdout(&output), words.filter(blocks).collect::<Vec<_>>())
        };
        let bare = summary(&with(environment.bare(&show), NAMES));
        expect("bare", &*bare.0, BARE);
        let shimmed = summary(&with(environment.shimmed(&show, LISTED), NAMES));
        expect("", &*shimmed.0, SHIMMED);
        expect("blocks", shimmed.1, bare.1);
    });
}

/// The other one says what it is called with, and calls the next.
#[test]
fn another_preload_in_front_and_one_behind_are_called() {
    in_each_environment(|environment| {
        let program = environment.program("show");
        let chain = environment.shared_library("chain");
        let run = |libraries: &[&Path], at_connect, at_listed, keepalive, listed| {
            let mut command = with(environment.shimmed(&program, LISTED), NAMES);
            preload(&mut command, libraries);
            let wanted = format!(
                "connect, keepalive {at_connect}\nkeepalive {keepalive}\n\
                 getaddrinfo of dual.example.com, {at_listed}\ndual.example.com {listed}\n\
                 getaddrinfo of other.example.com, any family\nother.example.com 46\n"
            );
            expect_in_lab(command, &wanted);
        };
        let ours = &*environment.library;
        run(&[&chain], "off", "any family", "off", "46");
        run(&[ours, &chain], "on 60/60/5", "IPv4", "on 60/60/5", "4");
        run(&[&chain, ours], "off", "any family", "on 60/60/5", "4");
    });
}

/// dlsym(3) says which connect is the next.
#[test]
fn a_preload_behind_is_found_however_it_is_linked() {
    in_each_environment(|environment| {
        let program = environment.program("show");
        let next = environment.shared_library("next_connect");
        let map = format!("-Wl,--version-script={ROOT}/tests/programs/behind.map");
        // Nothing can be loaded so high: it is loaded below.
        let high = environment.linked_at(if environment.bits == 64 {
            "0x7fffffe00000"
        } else {
            "0xffffb000"
        });
        let low = environment.linked_at("0x10000000");
        let mut called = 0;
        for (way, flags) in [
            ("gnu", &["-Wl,--hash-style=gnu"][..]),
            ("sysv", &["-Wl,--hash-style=sysv"]),
            ("both", &["-Wl,--hash-style=both"]),
            ("indirect", &["-DHOW=1"]),
            ("untyped", &["-DHOW=2"]),
            ("untyped-sysv", &["-DHOW=2", "-Wl,--hash-style=sysv"]),
            ("first-version", &["-DHOW=3", &map]),
            ("later-version", &["-DHOW=4", &map]),
            ("high", &[&high]),
            ("high-sysv", &[&high, "-Wl,--hash-style=sysv"]),
            ("low", &[&low]),
        ] {
            let is_old = environment.glibc.is_some_and(|version| version < (2, 36));
            // musl's own compiler makes no indirect symbols, and its loader passes them over. An older glibc's dlsym
            // finds the first version though it is hidden, which was a mistake (sourceware bug 14932).
            if way == "indirect" && environment.is_musl() || way == "first-version" && is_old {
                continue;
            }
            let behind = environment.library_linked("behind", way, flags);
            let says = |first: &Path| {
                let mut command = environment.shimmed(&program, &[]);
                output(preload(&mut command, &[first, &behind])).contains("behind\n")
            };
            let wanted = says(&next);
            called += i32::from(wanted);
            expect(format!("{way}: it is called"), says(&environment.library), wanted);
        }
        assert!(called >= 7, "{called} of these are called where only dlsym is in front");
    });
}

/// musl has libc in front of such a library, and dlsym(3) finds nothing behind it. In a namespace of dlmopen(3) the
/// loader's list that a library sees is another one than its own.
#[test]
fn a_library_that_the_program_opens_itself_finds_libcs_functions() {
    in_each_environment(|environment| {
        let program = environment.program("opened");
        let library = text(&environment.library);
        for how in ["dlopen", "dlmopen"] {
            let mut command = with(environment.bare(&program), [how, library]);
            let seen = output(command.env("EGRESS_SHIM_IPV4_ONLY", "localhost"));
            let wanted = "keepalive on 60/60/5, received x, localhost IPv4\n";
            expect(format!("{how}: what it gets"), &*seen, wanted);
        }
    });
}

#[test]
fn the_timings_that_another_preload_sets_stay() {
    in_each_environment(|environment| {
        let other = environment.shared_library("other_preload");
        let run = |libraries: &[&Path], wanted: &str| {
            let mut command = environment.shimmed(environment.program("keepalive"), &[]);
            preload(&mut command, libraries);
            command.args(["namespace", "tcp4", "connect", "show"]);
            expect(
                format!("{libraries:?}"),
                output(&mut command),
                format!("connect: 0\n{wanted}\n"),
            );
        };
        let ours = &*environment.library;
        run(&[&other], "keepalive=0 idle=30 interval=75 count=9");
        run(&[ours, &other], "keepalive=1 idle=30 interval=60 count=5");
        run(&[&other, ours], "keepalive=1 idle=30 interval=60 count=5");
    });
}
