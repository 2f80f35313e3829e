//! Programs that hang, each in another way: `--inspect` is run as a person on call would run it, its last line is
//! followed word for word, and the program answers, or the line has said why it cannot.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::{COMMAND, LIBRARY, Process, Public, bare, last, output, run};
use crate::harness::lab::{Host, Lab};
use crate::harness::run::{end_with_this_thread, run_for, stdout};

/// What becomes of one who follows the line.
enum Ends {
    /// The program answers.
    Answered,
    /// It cannot, for this reason, which the line gives.
    Told(&'static str),
}

/// A program that hangs.
struct Stuck {
    name: &'static str,
    /// Its command line.
    words: Vec<String>,
    environment: &'static [Variable],
    with_library: bool,
    /// What the last line says it is.
    diagnosis: &'static str,
    ends: Ends,
}

const URLLIB: &str =
    "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=100).read().decode())";

/// A client that asks for a reply which takes longer than the NAT remembers, after this setup of its socket `s`.
fn late(before: &str, after: &str) -> Vec<String> {
    let script = format!(
        "import socket; s = socket.socket(); {before}; s.connect(('198.51.100.2', 80)); {after}; \
         s.sendall(b'GET /after/7 HTTP/1.0\\r\\n\\r\\n'); print(s.makefile().read())"
    );
    python(&script, &[])
}

fn python(script: &str, arguments: &[&str]) -> Vec<String> {
    [&["/usr/bin/python3", "-c", script], arguments]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A variable and its value.
type Variable = (&'static str, &'static str);

/// A client of the lab's server that is to answer when it is started as the last line says.
fn of(
    name: &'static str,
    with_library: bool,
    environment: &'static [Variable],
    diagnosis: &'static str,
) -> Stuck {
    let words = python(URLLIB, &["http://dual.example.com/now"]);
    Stuck { name, words, environment, with_library, diagnosis, ends: Ends::Answered }
}

/// Stuck over IPv6, with the name of the host in its command line.
fn over_ipv6(name: &'static str, with_library: bool, environment: &'static [Variable]) -> Stuck {
    of(name, with_library, environment, OVER_IPV6)
}

const OVER_IPV6: &str = "[2001:db8:2::2]:80 does not answer over IPv6";

/// In the lab, seconds stand for minutes: for the programs, and for those who follow the line.
const SECONDS: (&str, &str) = ("EGRESS_SHIM_KEEPALIVE", "idle=1,interval=1");

fn programs(scratch: &Public) -> Vec<Stuck> {
    let connect_static = "#include <arpa/inet.h>\n#include <unistd.h>\nint main(void) { struct sockaddr_in6 to = {.sin6_family = AF_INET6, \
         .sin6_port = htons(80)}; inet_pton(AF_INET6, \"2001:db8:2::2\", &to.sin6_addr); \
         return connect(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to); }\n";
    let source = scratch.write("static.c", connect_static);
    let file = scratch.path("static");
    output(bare("musl-gcc").arg("-static").arg(source).arg("-o").arg(&file));
    let numeric = "import socket; s = socket.socket(socket.AF_INET6); s.connect(('2001:db8:2::2', 80)); print('answer')";
    let hidden = "import urllib.request as r; print(r.urlopen('http://' + '.'.join(['dual', 'example', 'com']) + '/now').read().decode())";
    let ipv4 =
        "import socket; s = socket.socket(); s.connect(('198.51.100.4', 81)); print('answer')";
    let chatty = "import socket, time; s = socket.socket(); s.connect(('198.51.100.3', 80)); \
                  [(time.sleep(0.2), s.sendall(b'x' * 100)) for _ in range(1000)]; print('answer')";
    let of_shell = vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        format!("/usr/bin/python3 -c \"{hidden}\"; exit 3"),
    ];
    vec![
        over_ipv6("without the library", false, &[]),
        over_ipv6(
            "with another host listed",
            true,
            &[("EGRESS_SHIM_IPV4_ONLY", "other.example.com")],
        ),
        over_ipv6(
            "left out",
            true,
            &[("EGRESS_SHIM_IPV4_ONLY", "dual.example.com"), ("EGRESS_SHIM_PROGRAMS", "another")],
        ),
        over_ipv6("switched off", true, &[("EGRESS_SHIM", "off")]),
        over_ipv6(
            "LD_PRELOAD replaced",
            false,
            &[("EGRESS_SHIM_IPV4_ONLY", "dual.example.com"), ("LD_PRELOAD", "libc.so.6")],
        ),
        Stuck {
            words: of_shell,
            ..of("the child of a shell, its host's name nowhere to be seen", false, &[], OVER_IPV6)
        },
        Stuck {
            words: vec![file.to_string_lossy().into_owned()],
            ends: Ends::Told(
                "the program is statically linked, so nothing can be preloaded into it",
            ),
            ..of("static", false, &[], OVER_IPV6)
        },
        Stuck {
            words: python(numeric, &["dual.example.com"]),
            ends: Ends::Told("the program found this address without libc's lookup functions"),
            ..of(
                "listed, but past libc",
                true,
                &[("EGRESS_SHIM_IPV4_ONLY", "dual.example.com")],
                OVER_IPV6,
            )
        },
        Stuck {
            words: python(ipv4, &[]),
            ends: Ends::Told("egress-shim cannot fix this"),
            ..of("a silent IPv4 address", true, &[], "198.51.100.4:81 does not answer over IPv4")
        },
        Stuck {
            words: python(chatty, &[]),
            ends: Ends::Told("this connection cannot be saved, and a restart ends it"),
            ..of("data that nobody acknowledges", true, &[], "198.51.100.3:80 does not acknowledge")
        },
        Stuck {
            words: late("0", "0"),
            ..of(
                "a late reply without keepalive",
                false,
                &[],
                "no keepalive on the connection to 198.51.100.2:80",
            )
        },
        Stuck {
            words: late("0", "s.setsockopt(1, 9, 0)"),
            ..of(
                "keepalive switched off by the program",
                true,
                &[SECONDS],
                "no keepalive on the connection to 198.51.100.2:80",
            )
        },
        Stuck {
            words: late("s.setsockopt(1, 9, 1); s.setsockopt(6, 4, 3600)", "0"),
            ..of(
                "the program's own keepalive of an hour",
                true,
                &[SECONDS],
                "the first keepalive probe comes only after 3",
            )
        },
    ]
}

/// Runs the program, and inspects it until the last line has the diagnosis; then does as it says.
fn follow(lab: &Lab, scratch: &Public, number: usize, stuck: &Stuck) {
    let name = stuck.name;
    let said = scratch.path(&format!("said.{number}"));
    let mut command = bare(&stuck.words[0]);
    command.args(&stuck.words[1..]).envs(stuck.environment.iter().copied());
    if stuck.with_library {
        command.env("LD_PRELOAD", &*LIBRARY);
    }
    end_with_this_thread(&mut command);
    command.stdout(File::create(&said).expect("it can be made")).stderr(Stdio::null());
    let process = Process(lab.on(Host::Client, &mut command).spawn().expect("it starts"));
    let line = diagnosis(lab, &process, stuck.diagnosis, name);
    let answer = || fs::read_to_string(&said).expect("it can be read");
    assert_eq!(answer(), "", "{name}: hangs when it is inspected");
    match stuck.ends {
        Ends::Told(why) => assert!(line.contains(why), "{name}: {why:?} in {line:?}"),
        Ends::Answered => {
            let (_, words) =
                line.rsplit_once("start it").expect("it says how to start the program");
            let (_, words) = words.split_once("as: ").expect("it gives a command line");
            let mut followed = bare("sh");
            followed.args(["-c", words]).envs([SECONDS]);
            let output = run_for(lab.on(Host::Client, &mut followed), Duration::from_secs(40));
            let output = output.unwrap_or_else(|| panic!("{name}: it hangs all the same: {line}"));
            let text = stdout(&output);
            assert!(text.contains("answer"), "{name}: {words}: {output:?}");
        }
    }
    assert_eq!(answer(), "", "{name}: the bare run hangs all the while");
}

/// The last line of `--inspect`, as soon as it has these words.
fn diagnosis(lab: &Lab, process: &Process, words: &str, name: &str) -> String {
    let start = Instant::now();
    loop {
        let mut command = bare(&*COMMAND);
        let ran = run(lab.on(Host::Client, command.args(["--inspect", &process.id()])));
        if last(&ran).contains(words) {
            assert_eq!(ran.status.code(), Some(1), "{name}: {ran:?}");
            return last(&ran).to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{name}: {words:?} in {ran:?}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn whoever_follows_the_last_line_gets_an_answer_or_the_reason() {
    let lab = Lab::start(&[]);
    let scratch = Public::new();
    // A port that is silent, and an address that takes connections and loses what is written to them.
    let rules = "add table ip silent; add chain ip silent input { type filter hook input priority 0; }; \
                 add rule ip silent input tcp dport 81 drop; \
                 add rule ip silent input ip daddr 198.51.100.3 ip length > 100 drop";
    let mut nft = Command::new("nft");
    output(lab.on(Host::Server, nft.arg(rules)));
    let programs = programs(&scratch);
    assert!(programs.len() >= 12);
    thread::scope(|scope| {
        for (number, stuck) in programs.iter().enumerate() {
            let (lab, scratch) = (&lab, &scratch);
            scope.spawn(move || follow(lab, scratch, number, stuck));
        }
    });
}

#[test]
fn a_listed_host_needs_a_name_server_that_answers_for_ipv4_alone() {
    let lab = Lab::start(&["--drop-aaaa"]);
    lab.write("resolv", "nameserver 192.0.2.53\noptions timeout:30\n");
    let stuck = Stuck {
        diagnosis: "it answers questions for IPv4 addresses, but none for IPv6",
        ..over_ipv6("a resolver that drops AAAA", false, &[])
    };
    follow(&lab, &Public::new(), 0, &stuck);
}

#[test]
fn a_name_server_that_is_silent_is_named() {
    let lab = Lab::start(&[]);
    lab.write("resolv", "nameserver 2001:db8:2::53\noptions timeout:30\n");
    let stuck = Stuck {
        diagnosis: "the name server 2001:db8:2::53 has not answered for more than a second",
        ends: Ends::Told("egress-shim cannot fix this: check that the server is up"),
        ..over_ipv6("a silent resolver", false, &[])
    };
    follow(&lab, &Public::new(), 0, &stuck);
}
