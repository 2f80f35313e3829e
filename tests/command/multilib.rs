//! 64-bit and 32-bit programs together: each starts the other in roots that are laid out as those of distributions, and
//! each loads its own library, in silence. docs/MULTILIB.md has the layouts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{COMMAND, LIBRARY, fails, last, run, shim_at, warns};
use crate::harness::ROOT;
use crate::harness::architecture::Architecture;
use crate::harness::lab::{Host, LAB};
use crate::harness::run::{Process, bare, output, until};
use crate::harness::scratch::{Public, text};
use crate::harness::skip;

/// Where the release is unpacked in a root.
const RELEASE: &str = "/opt/shim";

/// The directories of libraries of a distribution, below /usr: what its two loaders put for `$LIB`.
struct Layout {
    wide: &'static str,
    narrow: &'static str,
    /// The path that `LD_PRELOAD` has there.
    entry: &'static str,
}

const DEBIAN: Layout = Layout {
    wide: "lib/x86_64-linux-gnu",
    narrow: "lib/i386-linux-gnu",
    entry: "/opt/shim/$LIB/libegress_shim.so",
};
const FEDORA: Layout = Layout { wide: "lib64", narrow: "lib", ..DEBIAN };
const ARCH: Layout =
    Layout { wide: "lib", narrow: "lib32", entry: "/opt/shim/archlinux/$LIB/libegress_shim.so" };

/// Debian's own loaders, which every root gets: of this machine, and of i386.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
fn of_i386(name: &str) -> PathBuf {
    Path::new(ROOT).join("target/roots/i386").join(name)
}

impl Layout {
    /// A root with glibc, shells and relays of both word sizes, musl's of 64 bits, and a release.
    fn root(&self) -> Public {
        let root = Public::new();
        for (directory, link) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            let target = if self.wide == "lib" { "usr/lib" } else { link };
            fs::create_dir_all(root.path(target)).expect("it can be made");
            symlink(target, root.path(directory)).expect("it can be made");
        }
        let below = |lib, name| format!("usr/{lib}/{name}");
        let (wide, narrow) = (DEBIAN.wide, DEBIAN.narrow);
        root.write(&below(self.wide, "ld-linux-x86-64.so.2"), loader(LOADER, wide, self.wide));
        let from = text(&of_i386(&below(narrow, "ld-linux.so.2"))).to_owned();
        root.write(&below(self.narrow, "ld-linux.so.2"), loader(&from, narrow, self.narrow));
        for (path, lib, name) in [
            (LOADER, self.wide, "ld-linux-x86-64.so.2"),
            ("/lib/ld-linux.so.2", self.narrow, "ld-linux.so.2"),
        ] {
            // Where its ABI has the loader, a link leads to it, unless it is there.
            let path = root.path(&path[1..]);
            if !path.exists() {
                symlink(format!("/usr/{lib}/{name}"), path).expect("it can be made");
            }
        }
        root.copy(format!("/{}", below(wide, "libc.so.6")), &below(self.wide, "libc.so.6"));
        root.copy(of_i386(&below(narrow, "libc.so.6")), &below(self.narrow, "libc.so.6"));
        root.write("etc/ld.so.conf", format!("/usr/{}\n/usr/{}\n", self.wide, self.narrow));
        output(bare("ldconfig").arg("-r").arg(&root.0));

        root.copy("/lib/ld-musl-x86_64.so.1", "lib/ld-musl-x86_64.so.1");
        root.copy("/bin/dash", "bin/sh");
        root.copy(of_i386("bin/dash"), "bin/sh32");
        relay(&root, "bin/relay", &["cc"]);
        relay(&root, "bin/relay32", &["cc", "-m32"]);
        relay(&root, "bin/relay-musl", &["musl-gcc"]);
        unpack(&root);
        root
    }
}

/// Debian's loader for another directory of libraries: the string that it puts for `$LIB` is the one difference that
/// counts here.
fn loader(path: &str, of_debian: &str, directory: &str) -> Vec<u8> {
    let lib = &directory[directory.find("lib").expect("it is in a prefix")..];
    let mut bytes = fs::read(path).expect("the loader can be read");
    let known = format!("\0{of_debian}\0").into_bytes();
    let places: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(&known)).collect();
    assert_eq!(places.len(), 1, "{path} has its $LIB once");
    let mut new = format!("\0{lib}\0").into_bytes();
    new.resize(known.len(), 0);
    bytes[places[0]..places[0] + new.len()].copy_from_slice(&new);
    bytes
}

/// Makes tests/programs/relay.c for one word size and libc.
fn relay(root: &Public, name: &str, compiler: &[&str]) {
    let cache = Path::new(ROOT).join("target/portable/zig-cache");
    let mut command = bare(compiler[0]);
    command.args(&compiler[1..]).args(["-std=gnu11", "-O1", "-o"]).arg(root.path(name));
    command.envs(["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"].map(|name| (name, &cache)));
    output(command.arg(format!("{ROOT}/tests/programs/relay.c")));
}

/// The library for 32-bit programs.
fn narrow() -> PathBuf {
    let library = Path::new(ROOT).join("dist/i386/libegress_shim.so");
    assert!(library.exists(), "{} is missing: run scripts/build-portable", library.display());
    library
}

/// Puts the command and both libraries into a root as a release has them.
fn unpack(root: &Public) {
    let below = |name: &str| format!("{}/{name}", &RELEASE[1..]);
    root.copy(&*COMMAND, &below("egress-shim"));
    root.copy(&*LIBRARY, &below("libegress_shim.so"));
    root.copy(narrow(), &below("lib32/libegress_shim.so"));
    for (architecture, library) in
        [("x86_64", "libegress_shim.so"), ("i386", "lib32/libegress_shim.so")]
    {
        let mut tree = bare(format!("{ROOT}/scripts/package/tree"));
        for line in output(tree.args([architecture, library])).lines() {
            let (target, name) = line.split_once(' ').expect("a target and a name");
            symlink(target, root.path(&below(name))).expect("it can be made");
        }
    }
}

/// A program of a root.
fn inside(root: &Public, words: &[&str]) -> Command {
    let mut command = bare("/usr/sbin/chroot");
    command.arg(&root.0).args(words);
    command
}

/// The command of the release in a root.
fn shimmed(root: &Public, words: &[&str]) -> Command {
    inside(root, &[&["/opt/shim/egress-shim"], words].concat())
}

const ON: &str = "keepalive on 60/60/5\n";

/// Each word size starts the other; what each then says. A shell that is not a relay's last word goes on.
const STARTS: [(&[&str], [u8; 2]); 3] = [
    (&["/bin/sh", "-c", "/bin/relay32; /bin/relay"], [32, 64]),
    (&["/bin/sh32", "-c", "/bin/relay; /bin/relay32"], [64, 32]),
    (&["/bin/relay-musl", "/bin/relay32"], [64, 32]),
];

fn says(bits: [u8; 2], keepalive: &str) -> String {
    bits.map(|bits| format!("{bits} bits, {keepalive}")).concat()
}

#[test]
fn each_word_size_starts_the_other_in_the_layout_of_each_distribution() {
    for layout in [DEBIAN, FEDORA, ARCH] {
        let root = layout.root();
        let printed = output(&mut shimmed(&root, &["--print-environment"]));
        assert_eq!(printed, format!("LD_PRELOAD={}\n", layout.entry));
        for (words, bits) in STARTS {
            assert_eq!(output(&mut shimmed(&root, words)), says(bits, ON), "{words:?}");
            // The same without the command, by the variable that it prints.
            let mut by_variable = inside(
                &root,
                &[&["/bin/sh", "-c", "LD_PRELOAD=$0 exec \"$@\"", layout.entry], words].concat(),
            );
            assert_eq!(output(&mut by_variable), says(bits, ON), "{words:?}");
            assert_eq!(output(&mut inside(&root, words)), says(bits, "keepalive off\n"));
        }
        // glibc reads this file, and musl does not.
        root.write("etc/ld.so.preload", layout.entry);
        for (words, bits) in &STARTS[..2] {
            assert_eq!(output(&mut inside(&root, words)), says(*bits, ON), "{words:?}");
        }
        fs::remove_file(root.path("etc/ld.so.preload")).expect("it is there");

        // The control: a plain path is right for one word size, and the other's loader says so.
        let plain = "/opt/shim/libegress_shim.so";
        let ran = run(&mut shimmed(&root, &["--library", plain, "/bin/sh", "-c", "/bin/relay32"]));
        assert_eq!(ran.out, "32 bits, keepalive off\n", "{ran:?}");
        assert!(ran.err.contains("(wrong ELF class: ELFCLASS64): ignored."), "{ran:?}");
    }
}

/// As on NixOS: the loaders of both word sizes put `lib` for `$LIB`, each in a directory of its own.
#[test]
fn where_dollar_lib_is_one_name_the_command_gets_its_own_file() {
    let root = Layout { wide: "64/lib", narrow: "32/lib", ..DEBIAN }.root();
    let printed = output(&mut shimmed(&root, &["--print-environment"]));
    assert_eq!(printed, "LD_PRELOAD=/opt/shim/libegress_shim.so\n");
    for (program, bits) in [("/bin/relay", "64"), ("/bin/relay32", "32")] {
        let seen = output(&mut shimmed(&root, &[program]));
        assert_eq!(seen, format!("{bits} bits, {ON}"));
    }
}

/// A root of musl alone.
fn musl() -> Public {
    let root = Public::new();
    root.copy("/lib/ld-musl-x86_64.so.1", "lib/ld-musl-x86_64.so.1");
    root.copy(of_i386("lib/ld-musl-i386.so.1"), "lib/ld-musl-i386.so.1");
    let zig = format!("{ROOT}/target/zig/zig");
    let narrow = [&*zig, "cc", "-target", "x86-linux-musl", "-dynamic", "-fno-sanitize=undefined"];
    relay(&root, "bin/relay", &["musl-gcc"]);
    relay(&root, "bin/relay32", &narrow);
    unpack(&root);
    root
}

/// musl's loader passes over a file of the other word size in silence.
#[test]
fn each_word_size_starts_the_other_where_there_is_only_musl() {
    let root = musl();
    let both = "/opt/shim/libegress_shim.so:/opt/shim/lib32/libegress_shim.so";
    let printed = output(&mut shimmed(&root, &["--print-environment"]));
    assert_eq!(printed, format!("LD_PRELOAD={both}\n"));
    for (words, bits) in
        [(["/bin/relay", "/bin/relay32"], [64, 32]), (["/bin/relay32", "/bin/relay"], [32, 64])]
    {
        assert_eq!(output(&mut shimmed(&root, &words)), says(bits, ON), "{words:?}");
        assert_eq!(output(&mut inside(&root, &words)), says(bits, "keepalive off\n"));
    }
}

#[test]
fn the_page_has_the_directories_of_a_release() {
    let page = fs::read_to_string(format!("{ROOT}/docs/MULTILIB.md")).expect("it can be read");
    for (name, library) in [("x86_64", "64-bit"), ("i386", "32-bit")] {
        for link in Architecture::named(name).get("links").split(',') {
            let mut rows = page.lines().filter(|line| line.contains(&format!("`{link}/`")));
            let row = rows.next().unwrap_or_else(|| panic!("a row with {link}"));
            assert!(row.contains(&format!("| link to the {library} file |")), "{row}");
        }
    }
}

// ------------------------------------------------------------------------------------- the spelling of $LIB

/// How docs/MULTILIB.md has a place spell the variable, with the directory of these roots.
fn spelling(place: &str) -> String {
    let page = fs::read_to_string(format!("{ROOT}/docs/MULTILIB.md")).expect("it can be read");
    let row = page.lines().find(|line| line.starts_with(&format!("| {place} |")));
    let row = row.unwrap_or_else(|| panic!("docs/MULTILIB.md has a spelling for {place}"));
    let spelling = row.split('`').rev().nth(1).expect("it is the last span");
    spelling.replace("DIR", RELEASE)
}

/// An image of Docker's that goes with the test.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = bare("docker").args(["rmi", "--force", &self.0]).output();
    }
}

#[test]
fn each_place_hands_dollar_lib_on_as_the_page_spells_it() {
    let (words, bits) = STARTS[0];
    let root = FEDORA.root();
    let shell = format!("export {}; {}", spelling("a shell"), words[2]);
    assert_eq!(output(&mut inside(&root, &["/bin/sh", "-c", &shell])), says(bits, ON));
    root.write("etc/ld.so.preload", spelling("`/etc/ld.so.preload`"));
    assert_eq!(output(&mut inside(&root, words)), says(bits, ON));
    fs::remove_file(root.path("etc/ld.so.preload")).expect("it is there");

    if !bare("docker").arg("version").output().is_ok_and(|version| version.status.success()) {
        return skip("containers", "no Docker engine answers");
    }
    let script = |text: &str, name: &str| {
        let mut sh = bare("sh");
        sh.args(["-ec", text, "sh", name, words[2]]).env("DOCKER_BUILDKIT", "0");
        sh.current_dir(&root.0);
        sh
    };
    let image = Image(format!("egress-shim-multilib-{}", std::process::id()));
    output(&mut script("tar -c . | docker import - \"$1\" >/dev/null", &image.0));
    let run = |options: &str, name: &str| {
        let line = format!("docker run --rm --network=none {options} \"$1\" /bin/sh -c \"$2\"");
        output(&mut script(&line, name))
    };
    assert_eq!(run("", &image.0), says(bits, "keepalive off\n"), "the control");
    assert_eq!(run(&spelling("`docker run -e`, in a shell"), &image.0), says(bits, ON));
    root.write("env", spelling("`docker run --env-file`, Kubernetes, Amazon ECS"));
    assert_eq!(run("--env-file env", &image.0), says(bits, ON));

    let derived = Image(format!("{}-env", image.0));
    root.write("build/Dockerfile", format!("FROM {}\n{}\n", image.0, spelling("Dockerfile")));
    output(&mut script("docker build --quiet --tag \"$1\" build >/dev/null 2>&1", &derived.0));
    assert_eq!(run("", &derived.0), says(bits, ON), "{}", spelling("Dockerfile"));

    if bare("docker-compose").arg("version").output().is_err() {
        return skip("Compose", "there is no docker-compose");
    }
    let service = format!(
        "version: '3'\nservices:\n  relay:\n    image: {}\n    network_mode: none\n    environment:\n      {}\n",
        image.0,
        spelling("Compose")
    );
    root.write("compose.yaml", service);
    let up = "docker-compose --file compose.yaml --project-name \"$1\" run --rm -T relay /bin/sh -c \"$2\" 2>/dev/null";
    assert_eq!(output(&mut script(up, &image.0)), says(bits, ON), "{}", spelling("Compose"));
}

// ------------------------------------------------------------------ this machine, where Debian's libc6-i386 is installed

/// A release with both libraries and without the second, and programs of both word sizes.
struct Here {
    files: Public,
    both: PathBuf,
    wide: PathBuf,
    relay: PathBuf,
    relay32: PathBuf,
}

impl Here {
    fn new() -> Self {
        let files = Public::new();
        unpack(&files);
        relay(&files, "relay", &["cc"]);
        relay(&files, "relay32", &["cc", "-m32"]);
        files.copy(&*LIBRARY, "wide/libegress_shim.so");
        let wide = files.copy(&*COMMAND, "wide/egress-shim");
        let path = |name: &str| files.path(name);
        let (both, relay, relay32) = (path("opt/shim/egress-shim"), path("relay"), path("relay32"));
        Self { files, both, wide, relay, relay32 }
    }

    fn path(&self, name: &str) -> String {
        text(&self.files.path(name)).to_owned()
    }
}

#[test]
fn without_the_32_bit_library_a_32_bit_command_is_warned_of_and_runs() {
    let here = Here::new();
    let printed = output(&mut shim_at(&here.wide, &["--print-environment"]));
    assert_eq!(printed, format!("LD_PRELOAD={}\n", here.path("wide/libegress_shim.so")));
    let words = format!(
        "{} is 32-bit x86, but {} is 64-bit x86-64; install the 32-bit library (docs/MULTILIB.md); until then it runs \
         without egress-shim",
        text(&here.relay32),
        here.path("wide/libegress_shim.so")
    );
    warns(&mut shim_at(&here.wide, &[text(&here.relay32)]), &words);
    // What it starts has the library.
    let ran = run(&mut shim_at(&here.wide, &[text(&here.relay32), text(&here.relay)]));
    assert_eq!(ran.out, says([32, 64], "").replacen(", ", ", keepalive off\n", 1) + ON, "{ran:?}");
}

#[test]
fn a_library_of_the_wrong_word_size_is_named_with_the_right_one() {
    let here = Here::new();
    let narrow = here.path("opt/shim/lib32/libegress_shim.so");
    let words = format!(
        "{narrow} is 32-bit x86, but {} is 64-bit x86-64: use the library for",
        text(&here.relay)
    );
    fails(&mut shim_at(&here.both, &["--library", &narrow, text(&here.relay)]), 125, &[&words]);
    let mut fits = shim_at(&here.both, &["--library", &narrow, text(&here.relay32)]);
    assert_eq!(output(&mut fits), format!("32 bits, {ON}"));

    let by_lib = |directory: &str| here.path(&format!("{directory}/$LIB/libegress_shim.so"));
    let mut chain = shim_at(&here.both, &["--library", &by_lib("opt/shim")]);
    chain.args([&here.relay32, &here.relay]);
    assert_eq!(output(&mut chain), says([32, 64], ON));
    // Where a loader would come to no file, or to one that is not for it.
    let wrong = |directory: &str, words: &str| {
        let entry = by_lib(directory);
        let what = format!("--library {entry}: in ");
        fails(&mut shim_at(&here.both, &["--library", &entry, "true"]), 125, &[&what, words]);
    };
    wrong(
        "opt/shim/archlinux",
        "archlinux/lib/x86_64-linux-gnu/libegress_shim.so, which does not exist",
    );
    here.files.copy(&*LIBRARY, "wrong/lib/x86_64-linux-gnu/libegress_shim.so");
    here.files.copy(&*LIBRARY, "wrong/lib32/libegress_shim.so");
    wrong("wrong", "32-bit x86 programs this is ");
    wrong("wrong", "wrong/lib32/libegress_shim.so, which is 64-bit x86-64");
}

// ------------------------------------------------------------------------------------------------- --check

#[test]
fn a_32_bit_command_is_asked_what_a_64_bit_one_is() {
    let here = Here::new();
    let check = |command: &Path, options: &[&str]| {
        let mut check = shim_at(command, options);
        check.args(["--check", "dual.example.com:80", "--"]).arg(&here.relay32);
        run(LAB.on(Host::Client, &mut check))
    };
    let ran = check(&here.both, &["--ipv4-only", ".example.com", "--keepalive", "idle=45"]);
    assert_eq!((ran.status.code(), last(&ran)), (Some(0), "dual.example.com is reached over IPv4"));
    for line in [
        &format!("library     {}\n", here.path("opt/shim/$LIB/libegress_shim.so")),
        &format!("loaded      yes, by {}\n", text(&here.relay32)),
        "with        198.51.100.2 (",
        "keepalive   idle=45,interval=60,count=5 (read from a connection)\n",
    ] {
        assert!(ran.out.contains(line), "{line:?} in {ran:?}");
    }
    assert!(!ran.out.contains("bits"), "the program has not run: {ran:?}");
    assert_eq!(ran.err, "");

    let ran = check(&here.wide, &[]);
    let wanted = format!(
        "dual.example.com: IPv6 is a black hole, and {} is 32-bit x86, but {} is 64-bit x86-64; install the 32-bit \
         library (docs/MULTILIB.md), and add --ipv4-only dual.example.com",
        text(&here.relay32),
        here.path("wide/libegress_shim.so")
    );
    assert_eq!((ran.status.code(), last(&ran)), (Some(1), &*wanted), "{ran:?}");
}

#[test]
fn a_script_is_asked_where_dollar_lib_names_the_library() {
    let here = Here::new();
    // Without `#!`, which execvp(3) gives to /bin/sh; below a directory that could be taken for a loader's.
    let script = here.files.write("lib/app/start", "exit 1\n");
    let mut check = shim_at(&here.both, &["--check", "v4only.example.com:80"]);
    let ran = run(LAB.on(Host::Client, check.arg("--").arg(&script)));
    let reached = "v4only.example.com is reached over IPv4, but ";
    assert!(ran.status.success() && last(&ran).starts_with(reached), "{ran:?}");
    assert!(ran.out.contains(&here.path("opt/shim/$LIB/libegress_shim.so")), "{ran:?}");
}

/// musl runs the library's constructor only behind the entry point.
#[test]
fn a_32_bit_command_of_musl_is_asked_too() {
    let root = musl();
    root.write("etc/hosts", "127.0.0.1 here.example\n::1 here.example\n");
    let script = "mkdir $1/proc; mount -t proc proc $1/proc; exec chroot \"$@\"";
    for program in ["/bin/relay32", "/bin/relay"] {
        let mut command = bare("unshare");
        command.args(["--mount", "sh", "-ec", script, "sh"]).arg(&root.0);
        command.args(["/opt/shim/egress-shim", "--ipv4-only", "*", "--check", "here.example:1"]);
        let ran = run(command.args(["--", program]));
        let wanted = "here.example: refuses connections to port 1: is the port right?";
        assert_eq!((ran.status.code(), last(&ran)), (Some(1), wanted), "{ran:?}");
        assert!(ran.out.contains(&format!("loaded      yes, by {program}\n")), "{ran:?}");
        assert!(ran.out.contains("with        127.0.0.1 ("), "{ran:?}");
        assert!(!ran.out.contains("bits"), "the program has not run: {ran:?}");
        fs::remove_dir(root.path("proc")).expect("nothing is mounted there here");
    }
}

// ----------------------------------------------------------------------------------------------- --inspect

/// Connects to the lab's server and waits.
const CONNECTS: &str = "#include <arpa/inet.h>\n#include <unistd.h>\nint main(void) {\n\
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(80) };\n\
    int fd = socket(AF_INET, SOCK_STREAM, 0);\n\
    inet_pton(AF_INET, \"198.51.100.2\", &to.sin_addr);\n\
    return connect(fd, (struct sockaddr *)&to, sizeof to) ? 1 : pause(); }\n";

#[test]
fn a_32_bit_process_is_inspected_as_a_64_bit_one_is() {
    let here = Here::new();
    let program = here.files.compile_text("connects", CONNECTS, &["-m32"]);
    let inspect = |command: &Path, process: &Process, words: &str| loop {
        let ran = run(shim_at(command, &["--inspect", &process.id()]).env("PATH", ""));
        let is_there =
            ran.out.contains("ESTABLISHED 198.51.100.2:80") || ran.status.code() == Some(125);
        if is_there {
            assert!(last(&ran).contains(words), "{words:?} in {ran:?}");
            return ran;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let start = |preload: &str| {
        let mut command = bare(&program);
        Process::start(LAB.on(Host::Client, command.env("LD_PRELOAD", preload)))
    };
    let by_lib = here.path("opt/shim/$LIB/libegress_shim.so");
    let ran = inspect(&here.both, &start(&by_lib), "nothing is wrong");
    let library = here.path("opt/shim/lib32/libegress_shim.so");
    assert!(ran.out.contains(&format!("library     {library} (")), "{ran:?}");
    assert!(ran.out.contains("next keepalive probe in "), "{ran:?}");

    // As it is started there, word for word.
    let wide = here.path("wide/libegress_shim.so");
    let words =
        format!("LD_PRELOAD names {wide}, which is 64-bit x86-64, but the program is 32-bit x86; ");
    let ran = inspect(&here.both, &start(&wide), "");
    assert!(ran.out.contains(&words), "{words:?} in {ran:?}");
    let gone = here.path("gone/$LIB/libegress_shim.so");
    let ran = inspect(&here.both, &start(&gone), "");
    let words = format!("; check that {} exists", here.path("gone/lib32/libegress_shim.so"));
    assert!(ran.out.contains(&words), "{words:?} in {ran:?}");

    let ran = inspect(&here.wide, &start(""), "");
    let words = "only the 64-bit library is installed here; install the 32-bit library (docs/MULTILIB.md), and start the program again";
    assert!(ran.out.contains(words), "{words:?} in {ran:?}");
}

/// Whoever follows the last line word for word has the library in the program.
#[test]
fn the_line_about_a_library_of_the_wrong_word_size_cures() {
    let here = Here::new();
    let waits = "#include <unistd.h>\nint main(void) { return pause(); }\n";
    let program = here.files.compile_text("waits", waits, &["-m32"]);
    let inspect = |process: &Process| {
        let start = format!("process     {}, {}\n", process.id(), text(&program));
        let look = || run(&mut shim_at(&here.both, &["--inspect", &process.id()]));
        let mut ran = look();
        // A process on its way there is the shell, or the command.
        until("the program runs", || {
            ran = look();
            ran.out.starts_with(&start)
        });
        ran
    };
    let wrong =
        Process::start(bare(&program).env("LD_PRELOAD", here.path("wide/libegress_shim.so")));
    let ran = inspect(&wrong);
    let (why, line) = last(&ran).split_once("; start it as: ").expect("a line to type");
    assert!(why.ends_with("which is 64-bit x86-64, but the program is 32-bit x86"), "{ran:?}");
    let fixed = Process::start(bare("sh").args(["-c", &format!("exec {line}")]));
    let ran = inspect(&fixed);
    let library = format!("library     {} (", here.path("opt/shim/lib32/libegress_shim.so"));
    assert!(ran.out.contains(&library) && last(&ran) == "nothing is wrong", "{ran:?}");
}
