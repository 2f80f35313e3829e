//! What the library costs, side by side: nothing preloaded, an empty library, Debian's libkeepalive
//! and this library as it is shipped, in alternation within one run. Prints medians and their ratios to the first.
//!
//! `scripts/bench` runs it. Times are this machine's on this day; the ratios are what may be
//! compared.

#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/programs/mod.rs"]
mod programs;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use lab::{Host, Lab};
use programs::{Environment, output};

/// Debian's package libkeepalive0.
const LIBKEEPALIVE: &str = "/usr/lib/libkeepalive.so";
/// What every start is measured with: ten hosts.
const TEN_HOSTS: &str = "a.example.com,b.example.com,c.example.com,d.example.com,e.example.com,\
                         .f.example.com,.g.example.com,*.h.example.com,!i.example.com,api.openai.com";

/// One side of a comparison: its name and how to make its command.
type Side<'a> = (&'a str, Box<dyn Fn() -> Command + 'a>);

fn main() {
    let environment = Environment::shipped();
    let rounds = 40;
    println!("machine: {}", machine());

    heading("connect on loopback (socket + connect)", "ns");
    let program = environment.program("connect_cost");
    let with_count = |mut command: Command| {
        command.arg("500");
        command
    };
    compare(
        rounds,
        printed,
        &[
            ("nothing preloaded", Box::new(|| with_count(environment.bare(&program)))),
            ("libkeepalive", Box::new(|| with_count(libkeepalive(&environment, &program)))),
            ("egress-shim", Box::new(|| with_count(environment.shimmed(&program, &[])))),
            (
                "egress-shim, EGRESS_SHIM=off",
                Box::new(|| with_count(environment.shimmed(&program, &[("", "off")]))),
            ),
        ],
    );

    lookups(&environment);
    starts(&environment);
    memory(&environment);
}

fn lookups(environment: &Environment) {
    let lab = Lab::start(&["--drop-aaaa"]);
    let program = &environment.program("lookup_cost");
    let in_lab = &|mut command: Command, count: &str, node: &str| {
        command.args([count, node]);
        lab.on(Host::Client, &mut command);
        command
    };
    let bare = |count: &'static str, node: &'static str| -> Side<'_> {
        ("nothing preloaded", Box::new(move || in_lab(environment.bare(program), count, node)))
    };
    let lists = [3, 1_000, 100_000].map(|patterns| (patterns, pattern_file(patterns)));
    let listing = |(patterns, file): &(usize, PathBuf), count: &'static str, node: &'static str| {
        let file = file.to_str().expect("the path is UTF-8").to_owned();
        let name: &str = Box::leak(format!("egress-shim, {patterns} patterns").into_boxed_str());
        let command = move || {
            let settings = [("IPV4_ONLY", "dual.example.com"), ("IPV4_ONLY_FILE", &file)];
            in_lab(environment.shimmed(program, &settings), count, node)
        };
        (name, Box::new(command) as Box<dyn Fn() -> Command>)
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
    fs::write(lab.file("resolv"), "nameserver 192.0.2.53\n")
        .expect("the lab's file can be written");
    compare(
        1,
        printed,
        &[bare("1", "dual.example.com"), listing(&lists[0], "1", "dual.example.com")],
    );
}

fn starts(environment: &Environment) {
    let here = Environment::here();
    let program = environment.program("empty");
    let empty = environment.shared_library("empty_library");
    heading("start and end of an empty program", "ns");
    compare(
        500,
        |command| {
            let start = Instant::now();
            let status = command.status().expect("the program starts");
            let time = start.elapsed();
            assert!(status.success());
            time.as_secs_f64() * 1e9
        },
        &[
            ("nothing preloaded", Box::new(|| environment.bare(&program))),
            (
                "an empty library",
                Box::new(|| {
                    let mut command = environment.bare(&program);
                    command.env("LD_PRELOAD", &empty);
                    command
                }),
            ),
            ("libkeepalive", Box::new(|| libkeepalive(environment, &program))),
            (
                "egress-shim, ten hosts",
                Box::new(|| environment.shimmed(&program, &[("IPV4_ONLY", TEN_HOSTS)])),
            ),
            (
                "the same, cargo build --release",
                Box::new(|| here.shimmed(&program, &[("IPV4_ONLY", TEN_HOSTS)])),
            ),
        ],
    );
}

fn memory(environment: &Environment) {
    let program = environment.program("memory");
    for (index, title) in ["resident memory", "private dirty memory"].into_iter().enumerate() {
        heading(title, "KiB");
        compare(
            20,
            |command| {
                let numbers = output(command);
                let number = numbers.split_whitespace().nth(index).expect("it prints two numbers");
                number.parse().expect("they are numbers")
            },
            &[
                ("nothing preloaded", Box::new(|| environment.bare(&program))),
                ("libkeepalive", Box::new(|| libkeepalive(environment, &program))),
                (
                    "egress-shim, ten hosts",
                    Box::new(|| environment.shimmed(&program, &[("IPV4_ONLY", TEN_HOSTS)])),
                ),
            ],
        );
    }
}

fn libkeepalive(environment: &Environment, program: &Path) -> Command {
    assert!(Path::new(LIBKEEPALIVE).exists(), "libkeepalive0 is not installed: run scripts/bench");
    let mut command = environment.bare(program);
    command.env("LD_PRELOAD", LIBKEEPALIVE);
    command.envs([("KEEPIDLE", "60"), ("KEEPINTVL", "60"), ("KEEPCNT", "5")]);
    command
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
        for ((_, command), values) in sides.iter().zip(&mut values) {
            values.push(measure(&mut command()));
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
