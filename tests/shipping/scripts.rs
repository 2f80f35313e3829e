//! The scripts: each says what it is for, answers a mistake with a line that helps, and waits for others.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{command, done, sh};
use crate::harness::architecture::{Architecture, architectures};
use crate::harness::run::{run, stderr};
use crate::harness::{ROOT, Scratch, expect, skip};

/// The executable files of scripts/ and tests/lab/.
fn scripts() -> Vec<String> {
    let list = done(command("git").args(["-C", ROOT, "ls-files", "-s", "scripts", "tests/lab"])).0;
    let names = list.lines().filter_map(|line| line.strip_prefix("100755 ")?.split('\t').nth(1));
    // Parts of scripts/release and of the lab.
    let is_part = |name: &&str| {
        [
            "scripts/package/index",
            "scripts/package/tree",
            "tests/lab/drop-aaaa.py",
            "tests/lab/server.py",
        ]
        .contains(name)
    };
    names.filter(|name| !is_part(name)).map(str::to_owned).collect()
}

#[test]
fn every_script_answers_help_and_a_mistake_with_a_line_that_helps() {
    let scripts = scripts();
    assert!(scripts.len() > 10, "the scripts are found: {scripts:?}");
    for script in scripts {
        let path = Path::new(ROOT).join(&script);
        let help = done(command(&path).arg("--help")).0;
        let first = help.lines().next().unwrap_or_default();
        assert!(first.starts_with("usage: ") && first.contains(&script), "{script}: {help}");

        let mistake = "--no-such-option";
        let output = run(command(&path).arg(mistake));
        assert!(!output.status.success(), "{script} {mistake}");
        let errors = stderr(&output);
        let line = errors.trim_end();
        let helps = line.starts_with(&format!("{script}: ")) && line.contains("--help");
        assert!(helps && line.lines().count() == 1, "{script} {mistake}: {errors}");
        assert!(line.contains(mistake), "{script} says what is wrong: {errors}");
    }
}

/// One that nobody runs for weeks goes wrong by itself: it reads the log, whose words change.
#[test]
fn a_short_soak_finds_nothing_wrong() {
    let out =
        done(command(Path::new(ROOT).join("scripts/soak")).args(["3200", "640", "1", "100"])).0;
    for words in ["No failure, no growth, no lost line.", "No crash, no hang", "No wrong result"] {
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[test]
fn build_portable_says_what_it_found_and_what_it_wants() {
    let mistake = |build: &mut Command| {
        let output = run(build);
        assert!(!output.status.success(), "it fails: {output:?}");
        stderr(&output)
    };
    let unknown = mistake(command(Path::new(ROOT).join("scripts/build-portable")).arg("mips"));
    let names = architectures().map(Architecture::name).collect::<Vec<_>>().join(", ");
    expect("mips", unknown, format!("scripts/architecture: mips: must be one of {names}\n"));

    // What an update of one of Debian's suites leaves. Nothing is fetched, and the compiler that is given has no target.
    let parts = Path::new(ROOT).join("target/debian-parts");
    let got = fs::read_to_string(parts.join("got")).unwrap_or_default();
    if !got.contains("rustc-web_") {
        return skip("a standard library of another version", "Debian's compiler is not used here");
    }
    let checkout = Scratch::new();
    done(
        sh("cp --parents -r scripts target/zig/requirements.txt \"$1\"", &[&checkout])
            .current_dir(ROOT),
    );
    let packages = fs::read_to_string(parts.join("packages")).expect("it is beside it");
    checkout.file("target/debian-parts/packages", packages);
    let is_std =
        |line: &&str| line.starts_with("libstd-rust-web-dev_") && line.ends_with("_arm64.deb");
    let std = got.lines().find(is_std).expect("it has arm64's");
    let another = "libstd-rust-web-dev_1.2.3+dfsg1-1_arm64.deb";
    checkout.file("target/debian-parts/got", got.replace(std, another));
    let mut build = command(checkout.join("scripts/build-portable"));
    let said = mistake(build.arg("aarch64").env("RUSTC", "true"));
    let found =
        "scripts/build-portable: libstd-rust-web-dev for arm64 is 1.2.3+dfsg1 and rustc-web is ";
    assert!(said.starts_with(found) && said.contains("one version"), "{said}");
    expect("lines", said.lines().count(), 1);
}

#[test]
fn need_waits_for_whoever_installs_at_the_same_time_and_says_so() {
    // An apt of its own, without sources: the locks are real, and nothing can be installed.
    let scratch = Scratch::new();
    let configuration = scratch.file("apt.conf", format!("Dir \"{}\";\n", scratch.display()));
    for directory in [
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/lib/dpkg",
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
    ] {
        std::fs::create_dir_all(scratch.join(directory)).expect("target can be written to");
    }
    scratch.file("etc/apt/sources.list", "");
    scratch.file("var/lib/dpkg/status", "");
    let lock = File::create(scratch.join("var/lib/apt/lists/lock")).expect("it can be made");
    // SAFETY: an all-zero flock is a value of the type; fcntl(2) with a descriptor that we own and a pointer to it.
    let status = unsafe {
        let mut whole: libc::flock = std::mem::zeroed();
        whole.l_type = libc::c_short::try_from(libc::F_WRLCK).expect("it is small");
        libc::fcntl(lock.as_raw_fd(), libc::F_SETLK, &raw const whole)
    };
    expect("fcntl", status, 0);

    let mut need = command(Path::new(ROOT).join("scripts/need"));
    need.arg("egress-shim-has-no-such-package").env("APT_CONFIG", configuration);
    let mut need = need.stderr(Stdio::piped()).spawn().expect("scripts/need starts");
    let mut lines = BufReader::new(need.stderr.take().expect("it is a pipe")).lines();
    let mut line = || lines.next().expect("it says something").expect("it can be read");
    expect("what is installed", line(), "installing: egress-shim-has-no-such-package");
    let waits = line();
    let holder = format!("process {}", std::process::id());
    assert!(waits.starts_with("scripts/need: waiting"), "{waits}");
    assert!(waits.contains("lists/lock") && waits.contains(&holder), "who holds what: {waits}");
    expect("it still waits", need.try_wait().expect("it can be asked").is_none(), true);

    // Closing any descriptor of the file gives the lock back.
    drop(lock);
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    expect("it ends", need.wait().expect("it ends").code(), Some(1));
    let last = "scripts/need: apt-get could not install: egress-shim-has-no-such-package";
    expect("it has gone on, and finds no package", rest.last().map(String::as_str), Some(last));
}
