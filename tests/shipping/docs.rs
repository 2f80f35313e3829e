//! The docs are true: the README's commands do what it says, its figures are those of the demo, settings are the same
//! everywhere, links and paths lead somewhere, and the version is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use egress_shim_core::settings::TABLE;

use super::{command, done, sh};
use crate::harness::lab::{Host, Lab};
use crate::harness::run::{output, run, said, stdout};
use crate::harness::{Environment, ROOT, Scratch, expect};

pub const MANUAL: &str = "dist/pages/egress-shim.1";
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn file(name: &str) -> String {
    let path = Path::new(ROOT).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

// --- The README's commands -----------------------------------------------------------------------

/// A lab whose server speaks HTTPS on port 443 too, as api.openai.com does.
struct Web {
    lab: Lab,
    server: Child,
    requests: PathBuf,
    certificate: PathBuf,
    _scratch: Scratch,
}

impl Web {
    fn start() -> Self {
        let scratch = Scratch::new();
        let certificate = scratch.join("certificate.pem");
        // It signs itself, and has its key beside it.
        let mut openssl = command("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-noenc", "-days", "2", "-subj", "/CN=lab"]);
        openssl.args(["-addext", "subjectAltName=DNS:api.openai.com", "-keyout"]);
        done(openssl.arg(&certificate).arg("-out").arg(&certificate));

        let lab = Lab::start(&["--idle-timeout", "60"]);
        let requests = lab.file("requests").with_file_name("https");
        fs::write(&requests, "").expect("the lab's files can be written");
        // As the server sees them.
        let log = Path::new("/media/https");
        let script = Path::new(ROOT).join("tests/lab/server.py");
        let mut python = command("/usr/bin/python3");
        python.arg("-I").arg(script).arg("443").arg(log).arg(&certificate).stdout(Stdio::piped());
        let mut server = lab.on(Host::Server, &mut python).spawn().expect("python3 starts");
        let mut said = String::new();
        let mut pipe = server.stdout.take().expect("its output is a pipe");
        std::io::Read::read_to_string(&mut pipe, &mut said).expect("its output can be read");
        expect("the server", said, "listening\n");
        Self { lab, server, requests, certificate, _scratch: scratch }
    }

    /// A shell on the client, in a directory, whose programs trust the server.
    fn shell(&self, directory: &Path, script: &str) -> Command {
        let mut command = Environment::here().bare("/bin/sh");
        command.args(["-c", &format!("cd '{}'\n{script}", directory.display())]);
        command.env("CURL_CA_BUNDLE", &self.certificate);
        self.lab.client(command)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The lines of the n-th block of shell commands below a heading of the README.
fn commands(heading: &str, number: usize) -> Vec<String> {
    let readme = file("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the README has no {heading}"));
    let block = section.split("```sh\n").nth(number + 1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no commands in {heading}")).lines().map(str::to_owned).collect()
}

/// The README's way from the archive of a release, and from a build, to a program that reaches a host whose IPv6
/// is a black hole.
#[test]
fn the_readmes_commands_reach_api_openai_com_over_ipv4() {
    let downloads = Scratch::new();
    let archive = format!("egress-shim-{VERSION}-linux-{}.tar.gz", std::env::consts::ARCH);
    for name in [&archive, "SHA256SUMS"] {
        let from = Path::new(ROOT).join("dist").join(name);
        fs::copy(&from, downloads.join(name))
            .unwrap_or_else(|error| panic!("{}: {error}: run scripts/release", from.display()));
    }
    let install = commands("Install", 0);
    done(sh(&install.join("\n"), &[]).current_dir(&*downloads));
    let build = commands("Install", 1);
    let start = commands("Start", 0);
    expect("commands to start with", start.len(), 3);

    let web = Web::start();
    for (directory, install) in [(&*downloads, install), (Path::new(ROOT), build)] {
        let enter = install.last().expect("the last line enters the directory");
        for command in &start {
            let what = format!("{enter}; {command}");
            let (output, asked) = web
                .lab
                .questions(|| run(&mut web.shell(directory, &format!("{enter}\n{command}"))));
            if command.contains("--check") {
                let last = stdout(&output).lines().last().unwrap_or_default().to_owned();
                let wanted = "api.openai.com: IPv6 is a black hole; add --ipv4-only api.openai.com";
                expect(&what, (output.status.code(), last), (Some(1), wanted.to_owned()));
                continue;
            }
            assert!(output.status.success(), "{what}: {}", said(&output));
            expect(format!("questions of {what}"), asked, ["query[A] api.openai.com"]);
            let requests = fs::read_to_string(&web.requests).expect("the log can be read");
            assert!(requests.contains(" IPv4 /\n"), "{what}: the server saw {requests:?}");
            fs::write(&web.requests, "").expect("the log can be emptied");
            // The control: without the library the same curl asks for both.
            let bare = command.split("curl ").last().expect("it is curl");
            let (_, asked) =
                web.lab.questions(|| run(&mut web.shell(directory, &format!("curl -m 5 {bare}"))));
            assert!(asked.contains(&"query[AAAA] api.openai.com".to_owned()), "{asked:?}");
        }
    }
}

/// The README's first commands, in a clone; its last two are what CI runs too.
#[test]
fn the_readmes_first_commands_are_those_that_ci_runs_in_a_clone() {
    let [demo, tests] = [0, 1].map(|number| commands("Try it", number));
    let [clone, demo] = &demo[..] else { panic!("a clone and the demo: {demo:?}") };
    let [tests] = &tests[..] else { panic!("the tests: {tests:?}") };
    let directory = Scratch::new();
    let mut shell = sh(&format!("{clone}\npwd; git log --format=%h -1"), &[]);
    let cloned = done(shell.env("REPOSITORY", ROOT).current_dir(&*directory)).0;
    let head = done(command("git").args(["-C", ROOT, "log", "--format=%h", "-1"])).0;
    expect(
        "directory and commit",
        cloned,
        format!("{}\n{head}", directory.join("egress-shim").display()),
    );
    let ci = file(".ci/run");
    for command in [demo, tests] {
        let script = command.split('#').next().unwrap_or_default().trim();
        assert!(directory.join("egress-shim").join(script).is_file(), "{script} is in the clone");
        assert!(ci.lines().any(|line| line == script), ".ci/run runs {script}");
    }
}

/// The figures of the README's table are those of the run that scripts/demo has drawn.
#[test]
fn the_picture_of_the_demo_and_the_readmes_table_show_the_same_run() {
    let is_outcome = |text: &str| text.starts_with("hangs (") || text.starts_with("answered in ");
    let (picture, readme) = (file("docs/demo.svg"), file("README.md"));
    let texts = picture.split('>').filter_map(|text| text.split_once('<').map(|(text, _)| text));
    let cells = readme.lines().flat_map(|line| line.split('|')).map(str::trim);
    let in_picture = texts.filter(|text| is_outcome(text)).collect::<Vec<_>>();
    expect(
        "figures of the README",
        cells.filter(|cell| is_outcome(cell)).collect::<Vec<_>>(),
        in_picture.clone(),
    );
    expect("runs in the picture", in_picture.len(), 8);
}

#[test]
fn the_readme_is_short() {
    let lines = file("README.md").lines().count();
    assert!(lines <= 150, "{lines} lines");
}

// --- Names ---------------------------------------------------------------------------------------

/// The words of a text that begin so.
fn words(text: &str, begin: &str) -> BTreeSet<String> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let chosen =
        parts.filter(|word| word.starts_with(begin) && !word.ends_with('_') && *word != "--");
    chosen.map(str::to_owned).collect()
}

fn help() -> String {
    done(command(Path::new(ROOT).join("target/release/egress-shim")).arg("--help")).0
}

#[test]
fn options_and_variables_are_the_same_in_help_manual_page_and_docs() {
    let path = Path::new(ROOT).join(MANUAL);
    let manual = done(command("mandoc").args(["-Tutf8", "-Owidth=200"]).arg(path)).0;
    // Bold is a letter, a backspace and the letter again; underlined is _ and so on.
    let mut letters = manual.chars().peekable();
    let next = std::iter::from_fn(|| {
        let letter = letters.next()?;
        let struck = letters.next_if_eq(&'\u{8}').is_some();
        Some((letter, struck))
    });
    let manual = next.filter(|(_, struck)| !struck).map(|(letter, _)| letter).collect::<String>();
    let (help, readme) = (help(), file("README.md"));

    let listed = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let options = words(&listed.collect::<Vec<_>>().join("\n"), "--");
    assert!(options.len() >= 10, "{options:?}");
    expect("options in the manual page", words(&manual, "--"), options.clone());
    let missing: Vec<_> = options.difference(&words(&readme, "--")).cloned().collect();
    expect("options that the README does not have", missing, Vec::<String>::new());

    // The help is made of the table that the library reads.
    let variables = words(&help, "EGRESS_SHIM");
    assert!(variables.len() >= 8, "{variables:?}");
    for (name, text) in [(MANUAL, &manual), ("README.md", &readme)] {
        expect(format!("variables in {name}"), words(text, "EGRESS_SHIM"), variables.clone());
    }
    for name in pages().iter().filter(|name| name.starts_with("docs/")) {
        let found = words(&file(name), "EGRESS_SHIM");
        let unknown: Vec<_> = found.difference(&variables).cloned().collect();
        expect(format!("variables in {name} that are none"), unknown, Vec::<String>::new());
    }
    // The library has a word for a variable that it does not know.
    let mut program = Environment::here().shimmed("/bin/true", &[]);
    expect(
        "what the library says",
        output(program.envs(variables.iter().map(|name| (name, "")))),
        "",
    );
}

/// Name, option, value and default of each setting, in the order of the table.
#[test]
fn the_readmes_table_of_settings_is_the_librarys() {
    let wanted = TABLE.map(|row| [row.variable, row.option, row.help, row.default]);
    let readme = file("README.md").replace('`', "");
    let rows = readme.lines().filter(|line| line.starts_with("| EGRESS_SHIM"));
    let cells = |line: &str| {
        line.split('|').skip(1).take(4).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    expect(
        "rows of the README",
        rows.map(cells).collect::<Vec<_>>(),
        wanted.iter().map(|row| row.map(str::to_owned).to_vec()).collect::<Vec<_>>(),
    );
}

/// The manual page is short on limits, and sends its reader to the page that has them all.
#[test]
fn the_manual_page_names_the_heads_of_the_limits() {
    let (limits, manual) = (file("docs/LIMITS.md"), file(MANUAL));
    let section = manual.split("\n.SH ").find(|section| section.starts_with("LIMITATIONS"));
    let section = section.expect("the manual page has limitations");
    let heads = limits.lines().filter_map(|line| line.strip_prefix("## ")).collect::<Vec<_>>();
    let named = section.split(".TP\n.B ").skip(1).filter_map(|text| text.lines().next());
    expect("heads", named.collect::<Vec<_>>(), heads);
}

/// The pages beside the README.
fn pages() -> Vec<String> {
    let list = done(command("git").args(["-C", ROOT, "ls-files", "*.md"])).0;
    list.lines().filter(|name| *name != "README.md").map(str::to_owned).collect()
}

#[test]
fn links_and_paths_of_the_docs_lead_somewhere() {
    for name in pages().into_iter().chain(["README.md".to_owned()]) {
        let text = file(&name);
        let directory = Path::new(ROOT).join(&name).with_file_name("");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|target| !target.starts_with("http"));
        let spans =
            text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
        let paths = spans.filter_map(|span| span.split_whitespace().next()).filter(|path| {
            let tops = ["scripts/", "examples/", "tests/", "docs/", "src/"];
            tops.iter().any(|top| path.starts_with(top))
        });
        let links = links.filter(|target| !directory.join(target).exists());
        let paths = paths.filter(|path| !Path::new(ROOT).join(path).exists());
        let missing: Vec<_> = links.chain(paths).collect();
        expect(format!("what {name} names and is not there"), missing, Vec::<&str>::new());
    }
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = done(command(Path::new(ROOT).join("target/release/egress-shim")).arg("-V")).0;
    expect("-V", version, format!("egress-shim {VERSION}\n"));
    for (name, line) in [
        (MANUAL, format!("\"egress-shim {VERSION}\"")),
        ("examples/kubernetes/kustomization.yaml", format!("newTag: {VERSION}\n")),
    ] {
        assert!(file(name).contains(&line), "{name} has {line:?}");
    }
    let changelog = file("CHANGELOG.md");
    let version = changelog.lines().find_map(|line| line.strip_prefix("## ")).expect("a version");
    let version = version.split(' ').next().unwrap_or_default();
    expect("the changelog's first version", version.trim_matches(['[', ']']), VERSION);
}

// --- The tests -----------------------------------------------------------------------------------

/// A longer one is a paragraph: it belongs into the comment.
const NAME_OF_A_TEST: usize = 70;

#[test]
fn the_name_of_a_test_has_seventy_letters_at_most() {
    let sources = done(command("git").args(["-C", ROOT, "ls-files", "*.rs"])).0;
    let files: Vec<_> = sources.lines().map(|name| (name, file(name))).collect();
    let names = files.iter().flat_map(|(source, text)| {
        let tests = text.split("#[test]\n").skip(1);
        tests.filter_map(move |test| {
            let name = test.split_once("fn ")?.1.split('(').next()?;
            Some((source, name))
        })
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 300, "the tests are found: {}", names.len());
    let long: Vec<_> = names.iter().filter(|(_, name)| name.len() > NAME_OF_A_TEST).collect();
    expect("names that are longer", long, Vec::<&(&&str, &str)>::new());
}
