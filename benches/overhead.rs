//! What the library costs, side by side: nothing preloaded, an empty library, Debian's libkeepalive
//! and this library as it is shipped, in alternation within one run. Prints medians and their ratios to the first.
//!
//! `scripts/bench` runs it. Times are this machine's on this day; the ratios are what may be
//! compared.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::fs;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use egress_shim_harness::Environment;
use egress_shim_harness::lab::{Host, Lab};
use egress_shim_harness::run::output;
use egress_shim_harness::scratch::text;

/// Debian's package libkeepalive0.
const LIBKEEPALIVE: &str = "/usr/lib/libkeepalive.so";
/// Debian's package tini.
const TINI: &str = "/usr/bin/tini-static";

/// Settings as [`Environment::shimmed`] takes them.
type Settings = &'static [(&'static str, &'static str)];

const DEFAULTS: Settings = &[];
const OFF: Settings = &[("", "off")];
const ENFORCE: Settings = &[("KEEPALIVE", "idle=60,interval=60,count=5,enforce")];
const TWO_SETTINGS: Settings =
    &[("IPV4_ONLY", "api.openai.com"), ("KEEPALIVE", "idle=60,interval=60,count=5")];
const TEN_HOSTS: Settings = &[(
    "IPV4_ONLY",
    "a.example.com,b.example.com,c.example.com,d.example.com,e.example.com,\
     .f.example.com,.g.example.com,*.h.example.com,!i.example.com,api.openai.com",
)];

/// One side of a comparison: its name and how to make its command.
type Side<'a> = (String, Box<dyn Fn() -> Command + 'a>);

fn side<'a>(name: impl Into<String>, command: impl Fn() -> Command + 'a) -> Side<'a> {
    (name.into(), Box::new(command))
}

fn main() {
    let environment = Environment::shipped();
    stay_on_this_processor();
    println!("machine: {}", machine());
    connects(&environment);
    options(&environment);
    sending(&environment);
    receiving(&environment);
    lookups(&environment);
    starts(&environment);
    entrypoints(&environment);
    memory(&environment);
}

/// Keeps this process and all that it starts on one processor: a program and its name server take turns, and what it costs
/// to wake the other processor would be most of the time.
fn stay_on_this_processor() {
    // SAFETY: the set is a local of the size that the kernel is told, and all zeros are an empty one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let here = usize::try_from(libc::sched_getcpu()).expect("a number");
        libc::CPU_SET(here, &mut set);
        let status = libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    }
}

fn connects(environment: &Environment) {
    heading("connect on loopback (socket + connect)", "ns");
    let program = &environment.program("cost");
    let shimmed = |settings: Settings| {
        move || with(environment.shimmed(program, settings), &["connect", "500"])
    };
    compare(
        40,
        printed,
        &[
            side("nothing preloaded", || with(environment.bare(program), &["connect", "500"])),
            side("libkeepalive", || {
                with(libkeepalive(environment, program, LIBKEEPALIVE), &["connect", "500"])
            }),
            side("egress-shim", shimmed(DEFAULTS)),
            side("egress-shim, enforce", shimmed(ENFORCE)),
            side("egress-shim, EGRESS_SHIM=off", shimmed(OFF)),
        ],
    );
}

fn options(environment: &Environment) {
    let program = &environment.program("cost");
    for option in ["TCP_NODELAY", "TCP_KEEPIDLE"] {
        heading(&format!("setsockopt of {option}"), "ns");
        let shimmed = |settings: Settings| {
            move || with(environment.shimmed(program, settings), &[option, "500"])
        };
        compare(
            40,
            printed,
            &[
                side("nothing preloaded", || with(environment.bare(program), &[option, "500"])),
                side("egress-shim", shimmed(DEFAULTS)),
                side("egress-shim, enforce", shimmed(ENFORCE)),
            ],
        );
    }
}

fn sending(environment: &Environment) {
    let program = &environment.program("cost");
    for call in ["sendto", "sendmsg"] {
        heading(&format!("{call} on loopback, udp"), "ns");
        compare(
            40,
            printed,
            &[
                side("nothing preloaded", || with(environment.bare(program), &[call, "500"])),
                side("egress-shim", || {
                    with(environment.shimmed(program, DEFAULTS), &[call, "500"])
                }),
            ],
        );
    }
}

fn receiving(environment: &Environment) {
    let program = &environment.program("cost");
    let forwarder = &environment.shared_library("forwarder");
    for kind in ["udp", "tcp"] {
        heading(&format!("recv on loopback, {kind}"), "ns");
        let shimmed = |settings: Settings| {
            move || with(environment.shimmed(program, settings), &[kind, "500"])
        };
        compare(
            40,
            printed,
            &[
                side("nothing preloaded", || with(environment.bare(program), &[kind, "500"])),
                side("a recv that only calls libc's", || {
                    with(preloaded(environment, program, forwarder), &[kind, "500"])
                }),
                side("egress-shim", shimmed(DEFAULTS)),
                side("egress-shim, ten hosts", shimmed(TEN_HOSTS)),
            ],
        );
    }
}

fn lookups(environment: &Environment) {
    let lab = &Lab::start(&["--drop-aaaa"]);
    let program = &environment.program("cost");
    let in_lab = |mut command: Command, count: &str, node: &str| {
        lab.on(Host::Client, command.args(["getaddrinfo", count, node]));
        command
    };
    let bare = |count: &'static str, node: &'static str| {
        side("nothing preloaded", move || in_lab(environment.bare(program), count, node))
    };
    let lists = [3, 1_000, 100_000].map(|patterns| (patterns, pattern_file(patterns)));
    let listing = |(patterns, file): &(usize, PathBuf), count: &'static str, node: &'static str| {
        let file = file.clone();
        side(format!("egress-shim, {patterns} patterns"), move || {
            let settings = [("IPV4_ONLY", "dual.example.com"), ("IPV4_ONLY_FILE", text(&file))];
            in_lab(environment.shimmed(program, &settings), count, node)
        })
    };

    for (title, node) in [
        ("getaddrinfo of a listed host, dnsmasq", "dual.example.com"),
        ("getaddrinfo of a host that is not listed, dnsmasq", "other.example.com"),
        ("getaddrinfo of a numeric address", "192.0.2.1"),
    ] {
        heading(title, "ns");
        let mut sides = vec![bare("200", node)];
        sides.extend(lists.iter().map(|list| listing(list, "200", node)));
        compare(20, printed, &sides);
    }

    heading("getaddrinfo of a listed host, resolver that drops AAAA questions", "ns");
    lab.write("resolv", "nameserver 192.0.2.53\n");
    compare(
        1,
        printed,
        &[bare("1", "dual.example.com"), listing(&lists[0], "1", "dual.example.com")],
    );
}

fn starts(environment: &Environment) {
    heading("start and end of an empty program", "ns");
    let program = &environment.program("empty");
    let empty = &installed(&environment.shared_library("empty_library"));
    let other = &installed(Path::new(LIBKEEPALIVE));
    let [shipped, built] = &[Environment::shipped(), Environment::here()].map(|mut environment| {
        environment.library = installed(&environment.library);
        environment
    });
    let shimmed = |settings: Settings| move || shipped.shimmed(program, settings);
    compare(
        500,
        wall_clock,
        &[
            side("nothing preloaded", || environment.bare(program)),
            side("an empty library", || preloaded(environment, program, empty)),
            side("libkeepalive", || libkeepalive(environment, program, other)),
            side("egress-shim, two settings", shimmed(TWO_SETTINGS)),
            side("egress-shim, ten hosts", shimmed(TEN_HOSTS)),
            side("egress-shim, EGRESS_SHIM=off", shimmed(OFF)),
            side("ten hosts, cargo build --release", || built.shimmed(program, TEN_HOSTS)),
        ],
    );
}

/// What adds to a start by running it: env(1) is dynamic, the other two are static.
fn entrypoints(environment: &Environment) {
    heading("start and end of an empty program, through an entrypoint", "ns");
    let program = text(&environment.program("empty")).to_owned();
    let own = environment.library.with_file_name("egress-shim");
    let [(_, hosts)] = TEN_HOSTS else { unreachable!("it is one setting") };
    let through = |entrypoint: &Path, arguments: &[&str]| {
        with(environment.bare(entrypoint), &[arguments, &[&program]].concat())
    };
    compare(
        500,
        wall_clock,
        &[
            side("by itself", || environment.bare(&program)),
            side("through env", || through(Path::new("/usr/bin/env"), &[])),
            // As the init of a container, which it is not here, it would say so.
            side("through a static tini", || through(Path::new(TINI), &["-s", "--"])),
            side("through egress-shim, ten hosts", || through(&own, &["--ipv4-only", hosts, "--"])),
        ],
    );
}

fn memory(environment: &Environment) {
    let program = &environment.program("memory");
    for (index, title) in ["resident memory", "private dirty memory"].into_iter().enumerate() {
        heading(title, "KiB");
        let measure = |command: &mut Command| {
            let numbers = output(command);
            let number = numbers.split_whitespace().nth(index).expect("it prints two numbers");
            number.parse().expect("they are numbers")
        };
        compare(
            20,
            measure,
            &[
                side("nothing preloaded", || environment.bare(program)),
                side("libkeepalive", || libkeepalive(environment, program, LIBKEEPALIVE)),
                side("egress-shim, ten hosts", || environment.shimmed(program, TEN_HOSTS)),
            ],
        );
    }
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// The nanoseconds from the start of a command to its end.
fn wall_clock(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.status().expect("the program starts");
    let time = start.elapsed();
    assert!(status.success());
    time.as_secs_f64() * 1e9
}

fn libkeepalive(environment: &Environment, program: &Path, library: impl AsRef<Path>) -> Command {
    let library = library.as_ref();
    assert!(library.exists(), "libkeepalive0 is not installed: run scripts/bench");
    let mut command = preloaded(environment, program, library);
    command.envs([("KEEPIDLE", "60"), ("KEEPINTVL", "60"), ("KEEPCNT", "5")]);
    command
}

/// A program with a library that is not ours.
fn preloaded(environment: &Environment, program: &Path, library: &Path) -> Command {
    let mut command = environment.bare(program);
    command.env("LD_PRELOAD", library);
    command
}

/// A copy of a library, as an installation makes it. The time that the kernel takes to map a file depends on how and when
/// the file was written, so the libraries that are compared are all copied now.
fn installed(library: &Path) -> PathBuf {
    static COPIES: AtomicU32 = AtomicU32::new(0);
    let number = COPIES.fetch_add(1, Relaxed);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("installed-{number}.so"));
    let _ = fs::remove_file(&copy);
    fs::copy(library, &copy).unwrap_or_else(|error| panic!("{}: {error}", library.display()));
    copy
}

/// A file of so many patterns.
fn pattern_file(patterns: usize) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{patterns}-patterns"));
    let mut text = String::new();
    for number in 0..patterns {
        writeln!(text, "*.host-{number}.example.net").expect("a string can be written to");
    }
    fs::write(&path, text).expect("target can be written to");
    path
}

/// The number that a program prints.
fn printed(command: &mut Command) -> f64 {
    let text = output(command);
    text.trim()
        .parse()
        .unwrap_or_else(|error| panic!("{command:?} prints a number: {error}: {text}"))
}

/// Measures every side in each round, so that what disturbs the machine disturbs them all.
fn compare(rounds: usize, measure: impl Fn(&mut Command) -> f64, sides: &[Side<'_>]) {
    let mut values = vec![Vec::new(); sides.len()];
    for _ in 0..rounds {
        // In random order: what ran before a program has its share in how the machine is then.
        let mut order: Vec<_> = (0..sides.len()).collect();
        order.sort_by_cached_key(|side| RandomState::new().hash_one(side));
        for side in order {
            values[side].push(measure(&mut sides[side].1()));
        }
    }
    let medians = values.into_iter().map(|mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    });
    let mut first = None;
    for ((name, _), median) in sides.iter().zip(medians) {
        let first = *first.get_or_insert(median);
        println!("  {name:34} {median:12.0}   {:6.3} x   {:+.0}", median / first, median - first);
    }
}

fn heading(title: &str, unit: &str) {
    println!("\n{title}: median ({unit}), ratio, difference");
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name| info.lines().find(|line| line.starts_with(name));
    let model = field("model name").and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown");
    let processors = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processors} x {model}, Linux {}", kernel.trim())
}
