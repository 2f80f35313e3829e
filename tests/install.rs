//! The ways to put it on a machine: scripts/install, the Debian package, the manual page, the
//! systemd drop-in and the manifests for Kubernetes.

mod shipping;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use shipping::{Manifest, ROOT, command, done, sh};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const MANUAL: &str = "scripts/egress-shim.1";
const DROP_IN: &str = "examples/systemd/egress-shim.conf";

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("egress-shim-install.{}.{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the temporary directory can be written to");
        Self(path)
    }

    /// The files in here, as `MODE PATH`, sorted by path.
    fn files(&self) -> Vec<String> {
        let find = "cd \"$1\" && find . ! -type d -printf '%m %P\\n' | sort -k 2";
        done(&mut sh(find, &[&self.0])).0.lines().map(str::to_owned).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file(name: &str) -> String {
    let path = Path::new(ROOT).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn install(destination: &Scratch, arguments: &[&str]) -> Command {
    let mut install = command(Path::new(ROOT).join("scripts/install"));
    install.args(arguments).env("DESTDIR", &destination.0);
    install
}

/// A command that must fail with these words on standard error.
fn fails(command: &mut Command, words: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
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
            format!("644 {}", below("share/doc/egress-shim/LICENSE-APACHE")),
            format!("644 {}", below("share/doc/egress-shim/LICENSE-MIT")),
            format!("644 {}", below("share/man/man1/egress-shim.1")),
        ];
        assert_eq!(destination.files(), wanted);

        let library = destination.0.join(below("lib/libegress_shim.so"));
        let wrapper = destination.0.join(below("bin/egress-shim"));
        let (out, err) =
            done(command(wrapper).args(["sh", "-c", "echo $LD_PRELOAD; cat /proc/$$/maps"]));
        let loaded = format!(" {}\n", library.display());
        assert!(out.starts_with(&loaded[1..]) && out.contains(&loaded), "it finds it: {out}{err}");
        assert_eq!(err, "", "the wrapper has nothing to warn of");

        done(install(&destination, &["--uninstall"]).env("PREFIX", prefix));
        assert_eq!(destination.files(), Vec::<String>::new(), "nothing is left");
        let ours = destination.0.join(below("share/doc/egress-shim"));
        assert!(!ours.exists(), "nor is the directory that was ours alone");
        done(install(&destination, &["--uninstall"]).env("PREFIX", prefix));
    }
}

#[test]
fn without_a_prefix_it_goes_to_usr_local_and_destdir_may_be_relative() {
    let destination = Scratch::new();
    let mut install = install(&destination, &[]);
    done(install.env("DESTDIR", "below").current_dir(&destination.0));
    assert!(destination.0.join("below/usr/local/lib/libegress_shim.so").exists());
}

#[test]
fn everybody_can_use_it_whatever_the_umask_is() {
    let destination = Scratch::new();
    let script = "umask 077; exec \"$1\"";
    let mut install = sh(script, &[&Path::new(ROOT).join("scripts/install")]);
    done(install.env("DESTDIR", destination.0.join("new")));
    for entry in ["", "/usr/local/bin", "/usr/local/share/man/man1", "/usr/local/bin/egress-shim"] {
        let path = format!("{}/new{entry}", destination.0.display());
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o755, 0o755, "{path}");
    }
}

/// To write over a file that processes have mapped is to crash them.
#[test]
fn installing_again_leaves_running_programs_the_file_that_they_have() {
    let destination = Scratch::new();
    done(&mut install(&destination, &[]));
    let library = destination.0.join("usr/local/lib/libegress_shim.so");
    let inode = || fs::metadata(&library).expect("it is there").ino();
    let before = inode();
    let mut program = command("cat");
    program.env("LD_PRELOAD", &library).stdin(Stdio::piped());
    let mut running = program.spawn().expect("cat starts");
    done(&mut install(&destination, &[]));
    assert_ne!(inode(), before, "the file is another one");
    drop(running.stdin.take());
    assert!(running.wait().expect("it can be waited for").success());
    assert_eq!(destination.files().len(), 5, "nothing else is left behind");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_written() {
    let destination = Scratch::new();
    for (arguments, prefix, words) in [
        (&["uninstall"][..], "/usr", "usage: "),
        (&["--uninstall", "now"], "/usr", "usage: "),
        (&[], "usr", "PREFIX=usr: must be an absolute path"),
        (&[], "", "PREFIX=: must be an absolute path"),
        (&[], "/two words", "LD_PRELOAD cannot carry white space"),
        (&[], "/a:b", "LD_PRELOAD cannot carry white space or a colon"),
    ] {
        fails(install(&destination, arguments).env("PREFIX", prefix), words);
    }
    assert_eq!(destination.files(), Vec::<String>::new());

    // A checkout in which nothing is built yet.
    let checkout = Scratch::new();
    let copy = "cp --parents -r scripts LICENSE-* \"$1\"";
    done(sh(copy, &[&checkout.0]).current_dir(ROOT));
    let mut unbuilt = command(checkout.0.join("scripts/install"));
    fails(unbuilt.env("DESTDIR", &destination.0), "build it first: scripts/build-portable");
    assert_eq!(destination.files(), Vec::<String>::new());
}

// --------------------------------------------------------------------- the Debian package

#[test]
fn the_debian_package_installs_works_and_leaves_nothing() {
    let scratch = Scratch::new();
    let library = shipping::library();
    let mut deb = command(shipping::cargo_deb());
    deb.args(["deb", "--no-build", "--output"]).arg(scratch.0.join("egress-shim.deb"));
    if std::env::consts::ARCH != "x86_64" {
        deb.args(["--variant", std::env::consts::ARCH]);
    }
    done(deb.current_dir(ROOT));
    let deb = scratch.0.join("egress-shim.deb");

    let list = "dpkg-deb --fsys-tarfile \"$1\" | tar -tv --numeric-owner | grep -v ^d |
        awk '{ print $1, $2, $6 }' | sort -k 3";
    let wanted = "\
-rwxr-xr-x 0/0 ./usr/bin/egress-shim
-rw-r--r-- 0/0 ./usr/lib/egress-shim/libegress_shim.so
-rw-r--r-- 0/0 ./usr/share/doc/egress-shim/changelog.Debian.gz
-rw-r--r-- 0/0 ./usr/share/doc/egress-shim/copyright
-rw-r--r-- 0/0 ./usr/share/man/man1/egress-shim.1.gz
";
    assert_eq!(done(&mut sh(list, &[&deb])).0, wanted);
    let field = |name: &str| done(command("dpkg-deb").arg("--field").arg(&deb).arg(name)).0;
    assert_eq!(field("Version"), format!("{VERSION}-1\n"));
    assert_eq!(field("Depends"), "libc6 (>= 2.17)\n");

    let copyright = file("scripts/debian/copyright");
    for line in file("LICENSE-MIT").lines().skip(2).filter(|line| !line.is_empty()) {
        let line = line.trim_start_matches("Copyright (c) ");
        assert!(copyright.contains(line), "scripts/debian/copyright has {line:?} of LICENSE-MIT");
    }
    let lintian = command("lintian")
        .args(["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"])
        .arg(&deb)
        .output()
        .expect("lintian starts");
    assert!(lintian.status.success(), "lintian: {}", String::from_utf8_lossy(&lintian.stdout));

    // A Debian of its own, in a mount namespace of its own; what changes is in memory.
    let script = "
        mount -t tmpfs none \"$1\"
        mkdir \"$1/upper\" \"$1/work\" \"$1/root\"
        mount -t overlay -o \"lowerdir=$2,upperdir=$1/upper,workdir=$1/work\" none \"$1/root\"
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin
        files() {
            find \"$1/root\" ! -path '*/var/log/*' ! -path '*/var/lib/dpkg/*' | sort
        }
        before=$(files \"$1\")
        dpkg --root=\"$1/root\" --install \"$3\" >&2
        cmp \"$1/root/usr/lib/egress-shim/libegress_shim.so\" \"$4\"
        chroot \"$1/root\" egress-shim --version
        chroot \"$1/root\" egress-shim --log info -- sh -c 'echo \"$LD_PRELOAD\"' 2>&1
        dpkg --root=\"$1/root\" --purge egress-shim >&2
        [ \"$(files \"$1\")\" = \"$before\" ]
        echo nothing is left";
    let mounts = Scratch::new();
    let mut inside = command("unshare");
    inside.args(["--mount", "sh", "-euc", script, "sh"]);
    inside.args([&mounts.0, &shipping::debian(), &deb, &library]);
    let said = done(&mut inside).0;
    let lines = said.lines().collect::<Vec<_>>();
    assert_eq!(lines[0], format!("egress-shim {VERSION}"), "{said}");
    assert!(lines[1].contains(" is loaded: "), "{said}");
    assert_eq!(lines[2..], ["/usr/lib/egress-shim/libegress_shim.so", "nothing is left"], "{said}");
}

#[test]
fn the_version_is_the_same_everywhere() {
    for (name, line) in [
        ("scripts/debian/changelog", format!("egress-shim ({VERSION}-1) ")),
        (MANUAL, format!(".Os \"egress-shim {VERSION}\"\n")),
        ("examples/kubernetes/kustomization.yaml", format!("newTag: {VERSION}\n")),
        ("scripts/egress-shim", format!("shim_version='{VERSION}'\n")),
    ] {
        assert!(file(name).contains(&line), "{name} has {line:?}");
    }
}

// ------------------------------------------------------------------------ the manual page

#[test]
fn the_manual_page_has_no_mistake() {
    let path = Path::new(ROOT).join(MANUAL);
    // Its style, but not whether the pages that it names are installed here.
    let lint = command("mandoc").args(["-Tlint", "-Wstyle"]).arg(&path).output();
    let lint = String::from_utf8(lint.expect("mandoc starts").stdout).expect("UTF-8");
    let lint = lint.lines().filter(|line| !line.contains("outdated mandoc.db")).collect::<Vec<_>>();
    assert_eq!(lint, Vec::<&str>::new());
    let (out, err) = done(command("groff").args(["-ww", "-mandoc", "-Tutf8", "-z"]).arg(&path));
    assert_eq!((out.as_str(), err.as_str()), ("", ""));

    let sections = file(MANUAL);
    let sections = sections.lines().filter_map(|line| line.strip_prefix(".Sh "));
    let wanted = "NAME SYNOPSIS DESCRIPTION OPTIONS PATTERNS ENVIRONMENT FILES EXIT STATUS EXAMPLES \
                  DIAGNOSTICS BACKGROUND LIMITATIONS SEE ALSO";
    assert_eq!(sections.collect::<Vec<_>>().join(" "), wanted);
}

/// The words of a text that begin with one of these.
fn words(text: &str, begin: &[&str]) -> BTreeSet<String> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let chosen = parts.filter(|word| begin.iter().any(|begin| word.starts_with(begin)));
    chosen.filter(|word| *word != "--").map(str::to_owned).collect()
}

#[test]
fn options_and_variables_are_the_same_in_help_manual_page_readme_and_library() {
    let wrapper = Path::new(ROOT).join("scripts/egress-shim");
    let help = done(command(wrapper).arg("--help")).0;
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
    let readme = file("README.md");

    let listed = help.lines().filter(|line| line.starts_with("  --")).collect::<Vec<_>>();
    let options = words(&listed.join("\n"), &["--"]);
    assert!(options.len() >= 10, "{options:?}");
    assert_eq!(words(&manual, &["--"]), options, "options in the manual page and --help");
    let source = file(MANUAL);
    for option in &options {
        let item = format!("\n.It Fl \\-{}", &option[2..]);
        assert!(source.contains(&item), "{MANUAL} has an item for {option}");
    }
    let missing = options.difference(&words(&readme, &["--"])).cloned().collect::<Vec<_>>();
    assert_eq!(missing, Vec::<String>::new(), "options that the README does not have");

    let constants = file("src/config.rs");
    let constants = constants.lines().filter(|line| line.starts_with("const ")).collect::<Vec<_>>();
    let variables = words(&constants.join("\n"), &["EGRESS_SHIM"]);
    assert_eq!(variables.len(), 7, "{variables:?}");
    for variable in &variables {
        let item = format!("\n.It Ev {variable}\n");
        assert!(source.contains(&item), "{MANUAL} has an item for {variable}");
    }
    for (name, text) in [("--help", &help), (MANUAL, &manual), ("README.md", &readme)] {
        assert_eq!(words(text, &["EGRESS_SHIM"]), variables, "variables in {name}");
    }
    for (name, text) in [(MANUAL, &manual), ("README.md", &readme)] {
        for default in ["idle=60,interval=60,count=5", "32767", "127"] {
            assert!(text.contains(default), "{name} has {default}");
        }
    }
}

// --------------------------------------------------------------------------------- systemd

#[test]
fn systemd_has_nothing_to_say_of_the_drop_in() {
    let scratch = Scratch::new();
    let service = scratch.0.join("legacy.service");
    let text = "[Unit]\nDescription=Legacy\n[Service]\nExecStart=/bin/true\nNoNewPrivileges=yes\n\
                SystemCallFilter=@system-service\n";
    fs::write(&service, text).expect("it can be written");
    let directory = scratch.0.join("legacy.service.d");
    fs::create_dir(&directory).expect("it can be made");
    let verify = |drop_in: &str| {
        fs::write(directory.join("egress-shim.conf"), drop_in).expect("it can be written");
        let mut verify = command("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&service).output();
        let output = output.expect("systemd-analyze starts");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let drop_in = file(DROP_IN);
    assert_eq!(verify(&drop_in), "");
    let misspelt = verify(&drop_in.replace("Environment=EGRESS", "Enviroment=EGRESS"));
    assert!(misspelt.contains("Unknown key"), "it does read the drop-in: {misspelt}");

    let set = drop_in.lines().filter_map(|line| line.strip_prefix("Environment="));
    let set = set.filter_map(|line| line.split_once('=')).collect::<Vec<_>>();
    assert_eq!(set[0], ("LD_PRELOAD", "/usr/local/lib/libegress_shim.so"), "as scripts/install");
    let mut program = command("true");
    let library = shipping::library();
    program.envs(set).env("LD_PRELOAD", library);
    assert_eq!(done(&mut program), (String::new(), String::new()), "its settings are right");
}

// ------------------------------------------------------------------------------ Kubernetes

#[test]
fn the_kubernetes_component_changes_every_deployment_and_nothing_else() {
    for directory in ["examples/kubernetes", "tests/shipping/overlay"] {
        let Some(manifest) = Manifest::of(directory) else { return };
        let environment = manifest.get("env");
        assert!(
            environment.contains(&"LD_PRELOAD=/egress-shim/libegress_shim.so"),
            "{environment:?}"
        );
    }
}
