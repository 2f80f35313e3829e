//! The docs are true: the README's commands do what it says, its settings are those of the library
//! and of the wrapper, its links lead somewhere. tests/install.rs holds that options and variables
//! have the same names in all of the docs.

mod lab;
mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Host, Lab};
use programs::{Environment, output, stdout};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn file(name: &str) -> String {
    let path = Path::new(ROOT).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The words of a text with single blanks between them.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is between `open` and the next `close`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    text.split_once(open)?.1.split_once(close).map(|(inside, _)| inside)
}

/// The blocks of a Markdown text in this language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// What stands between backticks in running text.
fn spans(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join("");
    prose.split('`').skip(1).step_by(2).map(plain).collect()
}

/// A shell with its script, in the checkout; on a host of the lab too, where it begins in `/`.
fn shell(script: &str) -> Command {
    let mut command = Environment::here().bare("/bin/sh");
    command.args(["-c", &format!("cd '{ROOT}'\n{script}")]);
    command
}

// ------------------------------------------------------------------------------ the commands

/// How a command of the README is known to work.
enum Proof {
    /// It is run, as it stands there.
    Run(fn(&str)),
    /// By what another file does, which has these words.
    Elsewhere(&'static str, &'static str),
}
use Proof::{Elsewhere, Run};

const PACKAGE: &str = "fn the_debian_package_installs_works_and_leaves_nothing()";
/// Every command of the README.
const COMMANDS: [(&str, Proof); 24] = [
    (
        "for v in 4 6; do curl -$v -sS -m 5 -o /dev/null -w \"IPv$v: %{time_connect} s\\n\" \
         https://api.openai.com; done",
        Run(ipv4_answers_and_ipv6_does_not),
    ),
    ("ss -tnoi state established '( dport = :443 )'", Run(ss_shows_a_keepalive_timer)),
    ("ss -tno", Run(ss_shows_a_keepalive_timer)),
    ("grep egress_shim /proc/PID/maps", Run(maps_say_whether_a_program_has_it)),
    (
        "scripts/egress-shim --check api.openai.com --ipv4-only api.openai.com",
        Run(check_shows_what_a_host_resolves_to),
    ),
    ("scripts/egress-shim --check HOST", Run(check_shows_what_a_host_resolves_to)),
    (
        "scripts/egress-shim --ipv4-only api.openai.com -- curl -sS https://api.openai.com",
        Run(curl_asks_for_ipv4_alone_and_is_answered),
    ),
    (
        "LD_PRELOAD=$PWD/target/release/libegress_shim.so EGRESS_SHIM_IPV4_ONLY=api.openai.com \
         curl -sS https://api.openai.com",
        Run(curl_asks_for_ipv4_alone_and_is_answered),
    ),
    ("EGRESS_SHIM_LOG=debug", Run(debug_logs_each_lookup_and_each_socket)),
    ("EGRESS_SHIM_KEEPALIVE=off", Run(keepalive_can_be_switched_off)),
    ("EGRESS_SHIM=off", Run(the_library_can_be_switched_off)),
    ("cargo build --release", Elsewhere("scripts/test", "cargo build --release")),
    ("scripts/build-portable", Elsewhere("scripts/test", "\nscripts/build-portable\n")),
    ("scripts/test", Elsewhere("scripts/test", "exec cargo test")),
    ("scripts/demo", Elsewhere(".ci/run", "\nscripts/demo\n")),
    // It asserts nothing: what it measures differs from machine to machine.
    ("scripts/bench", Elsewhere("scripts/bench", "exec cargo bench --locked --bench overhead")),
    // Too long for a test run; each fails by itself when something is wrong.
    ("scripts/soak", Elsewhere("scripts/soak", "tests/programs/soak.c")),
    ("scripts/fuzz", Elsewhere("scripts/fuzz", "cargo fuzz run")),
    ("scripts/install", Elsewhere("tests/install.rs", "fn what_is_installed_works_")),
    (
        "scripts/install --uninstall",
        Elsewhere("tests/install.rs", "is_gone_when_it_is_uninstalled"),
    ),
    ("cargo install cargo-deb", Elsewhere("tests/shipping/mod.rs", "cargo install ")),
    ("cargo deb --no-build", Elsewhere("tests/install.rs", PACKAGE)),
    (
        "docker build -t egress-shim -f examples/docker/Dockerfile .",
        Elsewhere("tests/containers.rs", "fn the_image_to_copy_from_holds_"),
    ),
    ("systemctl daemon-reload", Elsewhere("tests/install.rs", "fn systemd_has_nothing_to_say_")),
];

/// The README's commands: its shell blocks line by line, what follows a prompt, and in running text
/// what begins with a program's name.
fn commands(readme: &str) -> Vec<String> {
    let lines = blocks(readme, "sh").into_iter().flat_map(str::lines).map(str::to_owned);
    let prompts = blocks(readme, "console").into_iter().flat_map(str::lines);
    let prompts = prompts.filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned);
    let is_command = |span: &String| {
        let (first, more) = span.split_once(' ').map_or((&span[..], false), |(one, _)| (one, true));
        let known = ["cargo", "docker", "systemctl", "curl", "sh", "ss", "grep"].contains(&first);
        let setting = first.starts_with("EGRESS_SHIM") && first.contains('=');
        first.starts_with("scripts/") || setting || (more && known)
    };
    let inline = spans(readme).into_iter().filter(is_command);
    let without_comment = |line: String| plain(line.split(" #").next().unwrap_or_default());
    lines
        .chain(prompts)
        .chain(inline)
        .map(without_comment)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = file("README.md");
    let in_readme = commands(&readme).into_iter().collect::<BTreeSet<_>>();
    let known = COMMANDS.iter().map(|(command, _)| (*command).to_owned()).collect::<BTreeSet<_>>();
    let unknown = in_readme.difference(&known).collect::<Vec<_>>();
    assert!(unknown.is_empty(), "commands that nothing runs, say in COMMANDS how: {unknown:#?}");
    let gone = known.difference(&in_readme).collect::<Vec<_>>();
    assert!(gone.is_empty(), "commands that the README does not have: {gone:#?}");
    thread::scope(|scope| {
        for (command, proof) in &COMMANDS {
            match proof {
                Run(run) => _ = scope.spawn(|| run(command)),
                Elsewhere(name, words) => {
                    assert!(file(name).contains(words), "{command}: {name} has {words:?}");
                }
            }
        }
    });
}

/// A lab whose server speaks HTTPS on port 443 too, as api.openai.com does.
struct Web {
    lab: Lab,
    server: Child,
    requests: PathBuf,
}

impl Web {
    fn start() -> Self {
        let lab = Lab::start(&["--idle-timeout", "60"]);
        let requests = lab.file("requests").with_file_name("https");
        fs::write(&requests, "").expect("the lab's files can be written");
        // As the server sees them.
        let log = Path::new("/media/https");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/server.py");
        let mut python = Environment::here().bare("/usr/bin/python3");
        python.args(["-I", script, "443"]).arg(log).arg(certificate()).stdout(Stdio::piped());
        let mut server = lab.on(Host::Server, &mut python).spawn().expect("python3 starts");
        let mut said = String::new();
        let mut pipe = server.stdout.take().expect("its output is a pipe");
        std::io::Read::read_to_string(&mut pipe, &mut said).expect("its output can be read");
        assert_eq!(said, "listening\n");
        Self { lab, server, requests }
    }

    /// A shell on the client, whose programs trust the server.
    fn shell(&self, script: &str) -> Command {
        let mut command = shell(script);
        command.env("CURL_CA_BUNDLE", certificate());
        self.lab.on(Host::Client, &mut command);
        command
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A certificate for api.openai.com that has signed itself, with its key.
fn certificate() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-noenc", "-days", "2", "-subj", "/CN=lab"]);
        openssl.args(["-addext", "subjectAltName=DNS:api.openai.com", "-keyout"]);
        let made = openssl.arg(&path).arg("-out").arg(&path).output().expect("openssl starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    })
}

fn ipv4_answers_and_ipv6_does_not(command: &str) {
    let web = Web::start();
    let output = web.shell(command).output().expect("sh starts");
    let out = stdout(&output);
    let err = String::from_utf8_lossy(&output.stderr);
    let readme = file("README.md");
    let shown = readme.split(command).nth(1).expect("it is there").lines().skip(1);
    let shown = shown.take_while(|line| *line != "```").collect::<Vec<_>>();
    let digits = |line: &str| line.split(|c: char| c.is_ascii_digit()).collect::<String>();
    let lines = out.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "{out}{err}");
    assert_eq!(digits(lines[0]), digits(shown[0]), "but for the numbers, what the README shows");
    assert_ne!(lines[0], "IPv4: 0.000000 s", "IPv4 does connect: {out}{err}");
    assert_eq!(lines[1].replace("0.000000", "0.000"), shown[1], "IPv6 does not: {err}");
    // The words differ between versions of curl, the number and the time do not.
    let head = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(head(&err), head(shown[2]), "{err}");
    let wait = shown[2].split(' ').find(|word| word.starts_with("50")).expect("some 5000 ms");
    assert!(err.contains(&wait[..2]) && shown.len() == 3, "{err}");
}

fn curl_asks_for_ipv4_alone_and_is_answered(command: &str) {
    let web = Web::start();
    let (output, asked) = web.lab.questions(|| web.shell(command).output().expect("sh starts"));
    let seen = format!("{command}: {output:?}");
    assert!(output.status.success() && output.stderr.is_empty(), "{seen}");
    assert!(!output.stdout.is_empty(), "it has an answer: {seen}");
    assert_eq!(asked, ["query[A] api.openai.com"], "{seen}");
    let requests = fs::read_to_string(&web.requests).expect("the log can be read");
    assert!(requests.contains(" IPv4 /\n"), "the server saw {requests:?}: {seen}");
    // The control: without the library the same curl asks for both.
    let bare = command.split("curl ").last().expect("it is curl");
    let (_, asked) = web.lab.questions(|| web.shell(&format!("curl {bare}")).output());
    assert!(asked.contains(&"query[AAAA] api.openai.com".to_owned()), "{asked:?}");
}

fn check_shows_what_a_host_resolves_to(command: &str) {
    let lab = Lab::start(&[]);
    let mut shell = shell(&command.replace("HOST", "api.openai.com"));
    let report = output(lab.on(Host::Client, &mut shell));
    let line = |label: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(label)).expect(label);
        line.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let both = ["198.51.100.2", "2001:db8:2::2"].map(str::to_owned);
    let listed = command.contains("--ipv4-only");
    assert_eq!(line("without:"), BTreeSet::from(both.clone()), "{report}");
    assert_eq!(
        line("with:"),
        both.into_iter().take(if listed { 1 } else { 2 }).collect(),
        "{report}"
    );
    assert!(line("loaded:").contains("yes,"), "{report}");
}

/// Runs a program in the client until `see` has what it looks for or ten seconds have passed; what it
/// saw last.
fn meanwhile(mut program: Command, see: impl Fn(u32) -> (bool, String)) -> String {
    let mut child = program.stdout(Stdio::null()).spawn().expect("it starts");
    let start = Instant::now();
    let seen = loop {
        let (done, seen) = see(child.id());
        if done || start.elapsed() > Duration::from_secs(10) {
            break seen;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let _ = child.kill();
    let _ = child.wait();
    seen
}

const HANGING: &str =
    "exec curl -4 -sS --no-keepalive -o /dev/null https://api.openai.com/after/60";

fn ss_shows_a_keepalive_timer(command: &str) {
    let web = Web::start();
    let readme = file("README.md");
    let see = |_| {
        let seen = output(&mut web.shell(command));
        let waits = !command.contains("-tnoi") || seen.contains(" lastrcv:");
        let requested = fs::read_to_string(&web.requests).expect("it can be read");
        (waits && requested.lines().count() > 0 && seen.contains(":443 "), seen)
    };
    let bare = meanwhile(web.shell(HANGING), see);
    assert!(bare.contains("198.51.100.2:443"), "{bare}");
    assert!(!bare.contains("timer:(keepalive,"), "bare, it has none: {bare}");
    let shimmed = format!("exec scripts/egress-shim -- {}", &HANGING["exec ".len()..]);
    let shimmed = meanwhile(web.shell(&shimmed), |_| {
        let (_, seen) = see(0);
        (seen.contains("timer:(keepalive,"), seen)
    });
    assert!(shimmed.contains("timer:(keepalive,"), "with the library it has one: {shimmed}");
    if command.contains("-tnoi") {
        let shown = readme.split(command).nth(1).expect("it is there").lines().nth(1);
        let (shown, head) = (shown.unwrap_or_default(), bare.lines().next().unwrap_or_default());
        assert_eq!(
            plain(head).trim_end_matches("Process").trim_end(),
            plain(shown),
            "its first line"
        );
        assert!(bare.contains(" lastrcv:"), "{bare}");
    }
}

fn maps_say_whether_a_program_has_it(command: &str) {
    let grep =
        |pid: u32| shell(&command.replace("PID", &pid.to_string())).output().expect("starts");
    let see = |pid| {
        let output = grep(pid);
        (!output.stdout.is_empty(), stdout(&output))
    };
    let with = meanwhile(shell("exec scripts/egress-shim -- sleep 60"), see);
    assert!(with.contains("libegress_shim.so"), "{with:?}");
    let without = meanwhile(shell("exec sleep 60"), |pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (name == "sleep\n", stdout(&grep(pid)))
    });
    assert_eq!(without, "");
}

fn debug_logs_each_lookup_and_each_socket(setting: &str) {
    let lab = Lab::start(&[]);
    let command =
        "scripts/egress-shim --ipv4-only api.openai.com -- curl -sS http://api.openai.com/now";
    let mut shell = shell(&format!("{setting} {command}"));
    let output = lab.on(Host::Client, &mut shell).output().expect("sh starts");
    let log = String::from_utf8_lossy(&output.stderr);
    let count = |words: &[&str]| {
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    assert_eq!(count(&["getaddrinfo: api.openai.com: listed"]), 1, "{log}");
    assert_eq!(count(&["connect: descriptor ", "keepalive on"]), 1, "{log}");
}

fn keepalive_can_be_switched_off(setting: &str) {
    let line = load_line(&[setting.split_once('=').expect("NAME=VALUE")]);
    assert!(line.contains(" is loaded: keepalive off;"), "{line}");
}

fn the_library_can_be_switched_off(setting: &str) {
    let setting = setting.split_once('=').expect("NAME=VALUE");
    assert!(load_line(&[]).contains(" is loaded: "), "it is loaded without it");
    assert_eq!(load_line(&[setting]), "");
}

// ------------------------------------------------------------------------------ the settings

/// What the library says of its settings when it is loaded, with these variables set.
fn load_line(settings: &[(&str, &str)]) -> String {
    let mut command = Environment::here().shimmed("/bin/true", &[("LOG", "info")]);
    let output = command.envs(settings.iter().copied()).output().expect("true starts");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether the library takes this value of a setting.
fn is_right(variable: &str, value: &str) -> bool {
    let mut command = Environment::here().shimmed("/bin/true", &[("STRICT", "1")]);
    command.env(variable, value).output().expect("true starts").status.success()
}

/// The rows of the README's table whose first column has this head, a list of cells each.
fn rows(readme: &str, head: &str) -> Vec<Vec<String>> {
    let table = readme.split(&format!("\n| {head} |")).nth(1).expect(head).lines().skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(plain).collect()).collect()
}

/// A setting as each of the docs and the wrapper's report say it.
struct Setting {
    variable: &'static str,
    option: &'static str,
    /// A value that differs from the default.
    value: &'static str,
    /// The default.
    default: &'static str,
    /// What `--check` says where it says it otherwise.
    check: &'static str,
}

/// A file of patterns.
const HOSTS_FILE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/docs.hosts");

const DEFAULTS: [Setting; 5] = [
    Setting {
        variable: "EGRESS_SHIM_IPV4_ONLY",
        option: "--ipv4-only",
        value: "api.openai.com",
        default: "no host",
        check: "no host",
    },
    Setting {
        variable: "EGRESS_SHIM_IPV4_ONLY_FILE",
        option: "--ipv4-only-file",
        value: HOSTS_FILE,
        default: "none",
        check: "no file",
    },
    Setting {
        variable: "EGRESS_SHIM_KEEPALIVE",
        option: "--keepalive",
        value: "idle=45",
        default: "idle=60,interval=60,count=5",
        check: "idle=60,interval=60,count=5",
    },
    Setting {
        variable: "EGRESS_SHIM_LOG",
        option: "--log",
        value: "error",
        default: "warn",
        check: "warn",
    },
    Setting {
        variable: "EGRESS_SHIM_LOG_FILE",
        option: "--log-file",
        value: "/dev/null",
        default: "standard error",
        check: "standard error",
    },
];

#[test]
fn the_table_of_settings_has_every_variable_beside_its_option() {
    let rows = rows(&file("README.md"), "variable");
    let variables = rows.iter().map(|row| row[0].trim_matches('`')).collect::<BTreeSet<_>>();
    let source = file("src/config.rs");
    let constants = source.lines().filter(|line| line.starts_with("const "));
    let constants = constants.filter_map(|line| between(line, ": &str = \"", "\""));
    let constants = constants.filter(|value| value.starts_with("EGRESS_SHIM"));
    assert_eq!(variables, constants.collect::<BTreeSet<_>>(), "README's and src/config.rs's");
    fs::write(HOSTS_FILE, "api.openai.com\n").expect("target can be written to");
    for wanted in &DEFAULTS {
        let row =
            rows.iter().find(|row| row[0] == format!("`{}`", wanted.variable)).expect("a row");
        assert_eq!(spans(&row[1]), [wanted.option], "the option of {}", wanted.variable);
        let Setting { variable, option, value, .. } = wanted;
        let environment = output(&mut shell(&format!("scripts/egress-shim {option} {value} env")));
        let line = format!("{variable}={value}");
        assert!(
            environment.lines().any(|seen| seen == line),
            "{option} sets {line}: {environment}"
        );
    }
    let row = |name: &str| rows.iter().find(|row| row[0] == format!("`{name}`")).expect("a row");
    let strict = row("EGRESS_SHIM_STRICT");
    assert_eq!(strict[1], "unset by `--lenient`");
    assert_eq!(strict[3], "not set; under the wrapper `pid:N` of the program");
    let under = |option: &str| {
        let script = "echo pid:$$ ${EGRESS_SHIM_STRICT-unset}";
        output(&mut shell(&format!("scripts/egress-shim {option} -- sh -c '{script}'")))
    };
    let (pid, value) = (under(""), under("--lenient"));
    let (pid, set) = pid.trim_end().split_once(' ').expect("two words");
    assert_eq!(set, pid, "the wrapper's setting");
    assert!(value.ends_with(" unset\n"), "--lenient: {value}");
    // And ends what it says, with the status that it says.
    let status = strict[2].split("exit status ").nth(1).expect("it says the exit status");
    let status = status.split(';').next().and_then(|word| word.parse().ok());
    assert!(status.is_some(), "{strict:?}");
    for (value, wanted) in [("1", status), ("pid:$$", status), ("pid:1", Some(0)), ("", Some(0))] {
        let preload = "export LD_PRELOAD=$PWD/target/release/libegress_shim.so";
        let wrong = "EGRESS_SHIM_KEEPALIVE=wrong";
        let script = format!("{preload} {wrong} EGRESS_SHIM_STRICT={value}; exec /bin/echo ran");
        let ran = shell(&script).output().expect("sh starts");
        assert_eq!(ran.status.code(), wanted, "EGRESS_SHIM_STRICT={value}: {ran:?}");
        assert_eq!(stdout(&ran).is_empty(), wanted == status, "{ran:?}");
    }
    assert_eq!(row("EGRESS_SHIM")[1..], ["", "`off`: the library does nothing at all", "`on`"]);
    assert!(load_line(&[("EGRESS_SHIM", "on")]).contains(" is loaded: "));
    assert_eq!(load_line(&[("EGRESS_SHIM", "off")]), "");
}

#[test]
fn every_default_is_the_librarys_own() {
    // The library's.
    let line = load_line(&[]);
    let settings = line.trim_end().split(" is loaded: ").nth(1).expect("it says its settings");
    let keepalive = between(settings, "keepalive ", ";").expect("it says its timings");
    let hosts = settings.split("IPv4 only for ").nth(1).expect("it says for which hosts");
    let lab = Lab::start(&[]);
    let mut command =
        Environment::here().shimmed("/usr/bin/getent", &[("IPV4_ONLY", "v6only.example.com")]);
    command.args(["ahosts", "v6only.example.com"]);
    let ran = lab.on(Host::Client, &mut command).output().expect("getent starts");
    let log = String::from_utf8_lossy(&ran.stderr);
    let levels = log.lines().filter_map(|line| between(line, "] ", ": ")).collect::<Vec<_>>();
    assert_eq!(levels, ["WARN"], "the default filter, on standard error: {log}");

    let rows = rows(&file("README.md"), "variable");
    let help = plain(&output(&mut shell("scripts/egress-shim --help")));
    let check = output(&mut shell("scripts/egress-shim --check localhost"));
    for wanted in &DEFAULTS {
        let Setting { variable, option, default, .. } = wanted;
        let row = rows.iter().find(|row| row[0] == format!("`{variable}`")).expect("a row");
        assert_eq!(row[3].trim_matches('`'), *default, "the README's default of {variable}");
        let paragraph = help.split(&format!(" {option} ")).nth(1).expect(option);
        let of_help = between(paragraph, "(default: ", ")").expect("--help has a default");
        assert_eq!(of_help, *default, "the default of {option} in --help");
        let line = format!("            {variable} is not set: {}", wanted.check);
        assert!(check.lines().any(|seen| seen == line), "{line:?} in {check}");
    }
    assert_eq!(keepalive, DEFAULTS[2].default, "{line}");
    assert_eq!(hosts, DEFAULTS[0].default, "{line}");
    assert_eq!(levels[0].to_lowercase(), DEFAULTS[3].default);

    let manual = file("scripts/egress-shim.1");
    for default in [&DEFAULTS[2], &DEFAULTS[3]] {
        let item = format!(".It Fl \\-{} ", &default.option[2..]);
        let item = manual.split(&item).nth(1).expect("an item").split("\n.It ").next().unwrap();
        let wanted = format!("he default is\n.Cm {} .", default.default);
        assert!(item.contains(&wanted), "{wanted:?} in the item of {}", default.option);
    }
}

/// Every level of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[test]
fn the_ranges_and_levels_that_are_named_are_those_that_are_taken() {
    let readme = plain(&file("README.md"));
    let manual = plain(&file("scripts/egress-shim.1").replace("\\(en", "-"));
    for (name, text, open) in [("README.md", &readme, "("), ("man page", &manual, ".Pq ")] {
        for (words, keys) in [
            ("seconds between probes", &["idle", "interval"][..]),
            ("probes until the connection is given up", &["count"]),
            ("unanswered probes end the connection", &["count"]),
        ] {
            let Some((_, rest)) = text.split_once(&format!("{words} {open}")) else { continue };
            let range = rest.split([')', ' ']).next().and_then(|range| range.split_once('-'));
            let (least, most) = range.unwrap_or_else(|| panic!("{name}: a range after {words:?}"));
            let (least, most) = (least.parse::<u32>().unwrap(), most.parse::<u32>().unwrap());
            for key in keys {
                let takes = |number| is_right("EGRESS_SHIM_KEEPALIVE", &format!("{key}={number}"));
                let seen = [least - 1, least, most, most + 1].map(takes);
                assert_eq!(seen, [false, true, true, false], "{name}: {key} {least}-{most}");
            }
        }
        let found = ["seconds between probes", "probes until", "unanswered probes end"];
        let found = found.iter().filter(|words| text.contains(*words)).count();
        assert_eq!(found, 2, "{name} says both ranges");
    }

    let cell = &rows(&file("README.md"), "variable")[3];
    assert_eq!(cell[0], "`EGRESS_SHIM_LOG`");
    let (levels, modules) = cell[2].split_once(';').expect("levels; a module");
    assert_eq!(spans(levels), LEVELS, "README.md");
    let [of_one, modules @ ..] = &spans(modules)[..] else { panic!("a module: {cell:?}") };
    assert_eq!(of_one, "egress_shim::MODULE=LEVEL", "README.md");
    let logs = |name: &String| {
        let source = file(&format!("src/{name}.rs"));
        ["error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| source.contains(&format!("log::{level}!(")))
    };
    let modules_here = fs::read_dir(Path::new(ROOT).join("src")).expect("src can be read");
    let modules_here = modules_here.map(|entry| entry.expect("an entry").path());
    let modules_here = modules_here.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let logging = modules_here.filter(logs).collect::<BTreeSet<_>>();
    assert_eq!(modules.iter().cloned().collect::<BTreeSet<_>>(), logging, "the modules that log");
    let help = output(&mut shell("scripts/egress-shim --help"));
    assert!(help.contains(&format!("--log FILTER           {} (", LEVELS.join(", "))), "--help");
    let item = between(&manual, "What the library logs: ", " for one").expect("the levels");
    let item = item.replace(".Cm ", "").replace(" , ", ", ").replace(" or ", ", ");
    assert_eq!(item.trim_end_matches(" ;"), LEVELS.join(", "), "man page");
    for level in LEVELS {
        assert!(is_right("EGRESS_SHIM_LOG", level), "{level}");
        assert!(is_right("EGRESS_SHIM_LOG", &format!("egress_shim::keepalive={level}")), "{level}");
    }
    assert!(!is_right("EGRESS_SHIM_LOG", "verbose"));
}

#[test]
fn a_pattern_matches_what_its_row_says() {
    const NAMES: [&str; 4] = ["openai.com", "api.openai.com", "eu.api.openai.com", "notopenai.com"];
    // What of NAMES each matches.
    let wanted: [(&str, &str, &[usize]); 5] = [
        ("api.openai.com", "that name", &[1]),
        ("*.openai.com", "any name below it", &[1, 2]),
        (".openai.com", "the name and any name below it", &[0, 1, 2]),
        ("*", "every name but `localhost` and those below it", &[0, 1, 2, 3]),
        ("!PATTERN", "exempts what PATTERN matches, whatever the others say", &[0, 3]),
    ];
    let rows = rows(&file("README.md"), "pattern");
    let in_readme = rows.iter().map(|row| (row[0].trim_matches('`'), &row[1][..]));
    let known = wanted.iter().map(|(pattern, meaning, _)| (*pattern, *meaning));
    assert_eq!(in_readme.collect::<Vec<_>>(), known.collect::<Vec<_>>());

    let lab = Lab::start(&[]);
    let names = NAMES.join(" ");
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n198.51.100.2 {names}\n2001:db8:2::2 {names}\n"
    );
    fs::write(lab.file("hosts"), hosts).expect("the client's /etc/hosts can be written");
    for (pattern, _, matched) in wanted {
        let value = pattern.replace("!PATTERN", "*,!*.openai.com");
        let listed = |name: &str| {
            let mut command =
                Environment::here().shimmed("/usr/bin/getent", &[("IPV4_ONLY", &value)]);
            let found = output(lab.on(Host::Client, command.args(["ahosts", name])));
            !found.contains("::")
        };
        let seen = (0..NAMES.len()).filter(|index| listed(NAMES[*index])).collect::<Vec<_>>();
        assert_eq!(seen, matched, "{value} of {NAMES:?}");
        assert!(!listed("localhost"), "{value} and localhost");
    }
}

// ------------------------------------------------------------------------------ the rest

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut seen = 0;
    for name in ["README.md", "CHANGELOG.md"] {
        for rest in file(name).split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.starts_with("http") {
                assert!(Path::new(ROOT).join(target).exists(), "{name}: [...]({target})");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "only {seen} links were found");
}

#[test]
fn a_path_that_the_readme_names_is_there() {
    for span in spans(&file("README.md")) {
        let first = span.split(' ').next().unwrap_or_default();
        if ["scripts/", "examples/", "tests/", "benches/"].iter().any(|top| first.starts_with(top))
        {
            assert!(Path::new(ROOT).join(first).exists(), "`{span}`: there is no {first}");
        }
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = file("CHANGELOG.md");
    let version = changelog.lines().find_map(|line| line.strip_prefix("## ")).expect("a version");
    let version = version.split(' ').next().unwrap_or_default();
    assert_eq!(version.trim_matches(['[', ']']), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_lines_for_a_dockerfile_are_those_of_an_example() {
    let example = file("examples/docker/debian.Dockerfile");
    let readme = file("README.md");
    let lines = blocks(&readme, "dockerfile").concat();
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        assert!(example.lines().any(|own| own == line), "{line:?} in examples/docker");
    }
}
