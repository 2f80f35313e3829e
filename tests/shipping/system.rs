//! A whole Debian system behaves as without the library when /etc/ld.so.preload names it: it boots
//! with systemd and its services, apt installs a package, a service under a strict seccomp filter
//! starts, and a project in C builds and passes its checks, all with the same words and statuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{cached, command, library};
use crate::harness::{ROOT, Scratch, expect, skip};

/// The root tree of a system that boots and compiles, of this machine's Debian release.
fn root() -> PathBuf {
    cached(
        "roots/debian-system",
        ". /etc/os-release
        PATH=$PATH:/usr/sbin:/sbin
        debootstrap --variant=minbase --include=systemd,gcc,libc6-dev,make \"$VERSION_CODENAME\" \"$1\"
        rm -r \"$1\"/var/cache/apt/* \"$1\"/var/lib/apt/lists/*",
    )
}

/// Boots the system, and gives what each piece of work said, by its name.
fn boot(root: &Path, library: Option<&Path>) -> BTreeMap<String, String> {
    let scratch = Scratch::new();
    let mut boot = command(Path::new(ROOT).join("tests/shipping/system/boot"));
    boot.arg(root).arg(&*scratch).args(library);
    let output = boot.output().expect("the script starts");
    let files = fs::read_dir(&*scratch).expect("it is there").flatten();
    let work: BTreeMap<_, _> = files
        .map(|file| {
            let words = fs::read(file.path()).expect("it can be read");
            let name = file.file_name().to_string_lossy().into_owned();
            (name, String::from_utf8_lossy(&words).into_owned())
        })
        .collect();
    assert!(work.contains_key("loaded"), "the system does its work: {output:?}\n{work:#?}");
    work
}

#[test]
fn a_debian_system_with_the_library_in_every_process_works_as_without() {
    if !Path::new("/usr/bin/systemd-nspawn").exists() {
        return skip("a Debian system", "no systemd-nspawn (Debian: systemd-container)");
    }
    let (root, library) = (root(), library());
    // One after the other: both have the control group of this test, which each systemd takes for its own.
    let (mut bare, mut preloaded) = (boot(&root, None), boot(&root, Some(&library)));

    let loaded = |work: &mut BTreeMap<_, String>| work.remove("loaded").unwrap_or_default();
    expect("processes that have it, bare", loaded(&mut bare), "");
    let loaded = loaded(&mut preloaded);
    assert!(loaded.lines().any(|line| line == "/proc/1/maps"), "systemd has it: {loaded}");

    // What each piece of work must have done, with it or not: a failure of both is no success.
    for (name, words) in [
        ("units", "multi-user.target loaded active active"),
        ("package", "Setting up greeting (1)"),
        ("project", "./check\n42, exit status 7\n"),
        ("service", "start: 0\nResult=success\n"),
        // The filter of the other service kills, by SIGSYS.
        ("service", "start: 1\n"),
        ("service", "ExecMainStatus=31\n"),
    ] {
        let said = &bare[name];
        assert!(said.contains(words), "{name}, bare\n  wanted {words:?}\n  seen   {said:?}");
    }
    for (name, said) in &bare {
        expect(name, preloaded.get(name), Some(said));
    }
}
