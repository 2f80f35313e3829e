//! The ways to put it on a machine: scripts/install, the manual page, the systemd drop-in and
//! the manifests for Kubernetes.

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::docs::{MANUAL, file};
use super::{Manifest, command, documents, done, files, sh, stderr};
use crate::harness::architecture::{Architecture, beside};
use crate::harness::{ROOT, Scratch, expect};

const DROP_IN: &str = "examples/systemd/egress-shim.conf";

fn install(destination: &Scratch, arguments: &[&str]) -> Command {
    let mut install = command(Path::new(ROOT).join("scripts/install"));
    install.args(arguments).env("DESTDIR", destination.as_os_str());
    install
}

/// What leads programs to their library, and the 32-bit libraries that are built, as files in a directory (a path that ends
/// with a slash).
fn libraries(below: &str) -> Vec<String> {
    let here = Architecture::here();
    let links = iter::once(here).chain(beside(here)).flat_map(|one| one.get("links").split(','));
    let links = links.filter(|link| *link != "-");
    let links = links.map(|link| format!("777 {below}{link}/libegress_shim.so"));
    links.chain(beside(here).map(|_| format!("644 {below}lib32/libegress_shim.so"))).collect()
}

/// A command that must fail with these words on standard error.
fn fails(command: &mut Command, words: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let errors = stderr(&output);
    assert!(!output.status.success(), "{command:?} fails");
    assert!(errors.contains(words), "{command:?} says {words:?}: {errors}");
}

// --------------------------------------------------------------------- scripts/install

#[test]
fn what_is_installed_works_and_is_gone_when_it_is_uninstalled() {
    for prefix in ["/usr/local", "/opt/egress-shim", "/"] {
        let destination = Scratch::new();
        let below = |place: &str| format!("{}/{place}", prefix.trim_matches('/'));
        let below = |place: &str| below(place).trim_start_matches('/').to_owned();
        let (out, err) = done(install(&destination, &[]).env("PREFIX", prefix));
        assert_eq!((out.as_str(), err.as_str()), ("", ""), "it is silent");
        let wanted = [
            format!("755 {}", below("bin/egress-shim")),
            format!("644 {}", below("lib/libegress_shim.so")),
            format!("644 {}", below("share/bash-completion/completions/egress-shim")),
            format!("644 {}", below("share/doc/egress-shim/LICENSE-APACHE")),
            format!("644 {}", below("share/doc/egress-shim/LICENSE-MIT")),
            format!("644 {}", below("share/fish/vendor_completions.d/egress-shim.fish")),
            format!("644 {}", below("share/man/man1/egress-shim.1")),
            format!("644 {}", below("share/zsh/site-functions/_egress-shim")),
        ];
        let documents = documents(&below("share/doc/egress-shim/"));
        let libraries = libraries(&below("lib/egress-shim/"));
        let wanted: BTreeSet<_> = wanted.into_iter().chain(documents).chain(libraries).collect();
        assert_eq!(files(&destination).into_iter().collect::<BTreeSet<_>>(), wanted);

        let library = destination.join(below("lib/libegress_shim.so"));
        let wrapper = destination.join(below("bin/egress-shim"));
        let (out, err) =
            done(command(wrapper).args(["sh", "-c", "echo $LD_PRELOAD; cat /proc/$$/maps"]));
        let loaded = format!(" {}\n", library.display());
        let directory = library.parent().expect("it is in one").display().to_string();
        assert!(out.starts_with(&directory) && out.contains(&loaded), "it finds it: {out}{err}");
        assert_eq!(err, "", "the wrapper has nothing to warn of");

        done(install(&destination, &["--uninstall"]).env("PREFIX", prefix));
        assert_eq!(files(&destination), Vec::<String>::new(), "nothing is left");
        let ours = destination.join(below("share/doc/egress-shim"));
        assert!(!ours.exists(), "nor is the directory that was only ours");
        done(install(&destination, &["--uninstall"]).env("PREFIX", prefix));
    }
}

#[test]
fn without_a_prefix_it_goes_to_usr_local_and_destdir_may_be_relative() {
    let destination = Scratch::new();
    let mut install = install(&destination, &[]);
    done(install.env("DESTDIR", "below").current_dir(&*destination));
    assert!(destination.join("below/usr/local/lib/libegress_shim.so").exists());
}

#[test]
fn everybody_can_use_it_whatever_the_umask_is() {
    let destination = Scratch::new();
    let script = "umask 077; exec \"$1\"";
    let mut install = sh(script, &[&Path::new(ROOT).join("scripts/install")]);
    done(install.env("DESTDIR", destination.join("new")));
    for entry in ["", "/usr/local/bin", "/usr/local/share/man/man1", "/usr/local/bin/egress-shim"] {
        let path = format!("{}/new{entry}", destination.display());
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o755, 0o755, "{path}");
    }
}

/// To write over a file that processes have mapped is to crash them.
#[test]
fn installing_again_leaves_running_programs_the_file_that_they_have() {
    let destination = Scratch::new();
    done(&mut install(&destination, &[]));
    let library = destination.join("usr/local/lib/libegress_shim.so");
    let inode = || fs::metadata(&library).expect("it is there").ino();
    let before = inode();
    let mut program = command("cat");
    program.env("LD_PRELOAD", &library).stdin(Stdio::piped());
    let mut running = program.spawn().expect("cat starts");
    done(&mut install(&destination, &[]));
    assert_ne!(inode(), before, "the file is another one");
    drop(running.stdin.take());
    assert!(running.wait().expect("it can be waited for").success());
    let installed = 8 + documents("").len() + libraries("").len();
    assert_eq!(files(&destination).len(), installed, "nothing else is left behind");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_written() {
    let destination = Scratch::new();
    for (arguments, prefix, words) in [
        (&["uninstall"][..], "/usr", "no argument but --uninstall"),
        (&["--uninstall", "now"], "/usr", "no argument but --uninstall"),
        (&[], "usr", "PREFIX=usr: must be an absolute path"),
        (&[], "", "PREFIX=: must be an absolute path"),
        (&[], "/two words", "LD_PRELOAD cannot contain white space"),
        (&[], "/a:b", "LD_PRELOAD cannot contain white space or a colon"),
    ] {
        fails(install(&destination, arguments).env("PREFIX", prefix), words);
    }
    assert_eq!(files(&destination), Vec::<String>::new());

    // A checkout in which nothing is built yet.
    let checkout = Scratch::new();
    let copy = "cp --parents -r scripts LICENSE-* \"$1\"";
    done(sh(copy, &[&checkout]).current_dir(ROOT));
    let mut unbuilt = command(checkout.join("scripts/install"));
    fails(
        unbuilt.env("DESTDIR", destination.as_os_str()),
        "build it first: scripts/build-portable",
    );
    assert_eq!(files(&destination), Vec::<String>::new());
}

// ------------------------------------------------------------------------ the manual page

#[test]
fn the_manual_page_has_no_mistake() {
    let path = Path::new(ROOT).join(MANUAL);
    // Not its style, since it is generated; nor whether the pages that it names are installed here.
    let lint = command("mandoc").args(["-Tlint", "-Wwarning"]).arg(&path).output();
    let lint = String::from_utf8(lint.expect("mandoc starts").stdout).expect("UTF-8");
    let lint = lint.lines().filter(|line| !line.contains("outdated mandoc.db")).collect::<Vec<_>>();
    assert_eq!(lint, Vec::<&str>::new());
    let (out, err) = done(command("groff").args(["-ww", "-mandoc", "-Tutf8", "-z"]).arg(&path));
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
}

// --------------------------------------------------------------------------------- systemd

#[test]
fn systemd_has_nothing_to_say_of_the_drop_in() {
    let scratch = Scratch::new();
    let service = scratch.join("legacy.service");
    let text = "[Unit]\nDescription=Legacy\n[Service]\nExecStart=/bin/true\nNoNewPrivileges=yes\n\
                SystemCallFilter=@system-service\n";
    fs::write(&service, text).expect("it can be written");
    let directory = scratch.join("legacy.service.d");
    fs::create_dir(&directory).expect("it can be made");
    let verify = |drop_in: &str| {
        fs::write(directory.join("egress-shim.conf"), drop_in).expect("it can be written");
        let mut verify = command("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&service).output();
        let output = output.expect("systemd-analyze starts");
        stderr(&output)
    };
    let drop_in = file(DROP_IN);
    assert_eq!(verify(&drop_in), "");
    let misspelt = verify(&drop_in.replace("Environment=EGRESS", "Enviroment=EGRESS"));
    assert!(misspelt.contains("Unknown key"), "it does read the drop-in: {misspelt}");

    let set = drop_in.lines().filter_map(|line| line.strip_prefix("Environment="));
    let set = set.filter_map(|line| line.split_once('=')).collect::<Vec<_>>();
    assert_eq!(set[0], ("LD_PRELOAD", "/usr/local/lib/libegress_shim.so"), "as scripts/install");
    let mut program = command("true");
    let library = super::library();
    program.envs(set).env("LD_PRELOAD", library);
    assert_eq!(done(&mut program), (String::new(), String::new()), "its settings are right");
}

// ------------------------------------------------------------------------------ Kubernetes

#[test]
fn the_kubernetes_components_change_every_workload_and_nothing_else() {
    const KINDS: [&str; 5] = ["CronJob", "DaemonSet", "Deployment", "Job", "StatefulSet"];
    const PRELOAD: &str = "LD_PRELOAD=/egress-shim/libegress_shim.so";
    for (directory, kinds, by_variable) in [
        ("examples/kubernetes", &["Deployment"][..], true),
        ("tests/shipping/overlay/by-variable", &KINDS, true),
        ("tests/shipping/overlay/by-file", &KINDS, false),
    ] {
        let Some(manifest) = Manifest::of(directory) else { return };
        expect(directory, manifest.get("kinds"), kinds.to_vec());
        expect(directory, manifest.get("env").contains(&PRELOAD), by_variable);
        let file = if by_variable { vec![] } else { vec!["/egress-shim/libegress_shim.so"] };
        expect(directory, manifest.get("preload-file"), file);
    }
}

/// Nobody is to wonder why a setting does nothing.
#[test]
fn each_line_of_kubernetes_settings_arrives_and_an_unknown_one_is_refused() {
    const SETTINGS: &str = "egress-shim/shared/settings.yaml";
    let scratch = Scratch::new();
    done(sh("cp -r examples/kubernetes/. \"$1\"", &[&scratch]).current_dir(ROOT));
    let settings = fs::read_to_string(scratch.join(SETTINGS)).expect("it is there");
    let built = super::shipped("egress-shim");
    let run = |more: &str| {
        scratch.file(SETTINGS, format!("{settings}  - {more}\n"));
        let manifest = Manifest::of(scratch.to_str().expect("its path is UTF-8"))?;
        expect(
            "what runs first",
            manifest.get("init-command")[..2].to_vec(),
            ["egress-shim", "--"],
        );
        let mut init = command(&built);
        let variables = manifest.get("init-env");
        init.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
        let output = init.args(["--", "true"]).output().expect("it starts");
        let errors = stderr(&output);
        let arrived = variables.contains(&more) && manifest.get("env").contains(&more);
        Some((arrived, output.status.code(), errors))
    };
    let Some(right) = run("EGRESS_SHIM_LOG=debug") else { return };
    expect("a setting", (right.0, right.1), (true, Some(0)));
    let unknown = run("EGRESS_SHIM_KEEPALVE=on").expect("as before");
    expect("an unknown one", (unknown.0, unknown.1), (true, Some(78)));
    assert!(unknown.2.contains("EGRESS_SHIM_KEEPALVE"), "{}", unknown.2);
}
