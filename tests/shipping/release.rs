//! What `scripts/release` has made in dist/: each file of it is whole, sound by its own format's
//! tools, and works where it is put. `scripts/test` runs it first.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{command, documents, done, files, sh};
use crate::harness::run::{run, stderr, stdout};
use crate::harness::{Environment, ROOT, Scratch, expect};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// An architecture, and what Debian calls it.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// A file of the release.
fn dist(name: &str) -> PathBuf {
    let path = Path::new(ROOT).join("dist").join(name);
    assert!(path.exists(), "{} is not made: run scripts/release", path.display());
    path
}

fn archive(arch: &str) -> PathBuf {
    dist(&format!("egress-shim-{VERSION}-linux-{arch}.tar.gz"))
}

fn deb(machine: &str) -> PathBuf {
    dist(&format!("egress-shim_{VERSION}-1_{machine}.deb"))
}

fn rpm(arch: &str) -> PathBuf {
    dist(&format!("egress-shim-{VERSION}-1.{arch}.rpm"))
}

#[test]
fn everything_is_there_for_both_architectures_and_the_checksums_are_of_it() {
    let directory = Path::new(ROOT).join("dist");
    let of_arch = |(arch, machine): (&str, &str)| {
        [
            format!("{arch}/egress-shim"),
            format!("{arch}/libegress_shim.so"),
            format!("egress-shim-{VERSION}-linux-{arch}.tar.gz"),
            format!("egress-shim_{VERSION}-1_{machine}.deb"),
            format!("egress-shim-{VERSION}-1.{arch}.rpm"),
            format!("egress-shim-{VERSION}-lambda-{arch}.zip"),
        ]
    };
    let of_both =
        [format!("egress-shim-{VERSION}-image.tar"), format!("egress-shim-{VERSION}.cdx.json")];
    let wanted =
        ARCHITECTURES.into_iter().flat_map(of_arch).chain(of_both).collect::<BTreeSet<_>>();
    let sums = fs::read_to_string(dist("SHA256SUMS")).expect("it can be read");
    let summed = sums.lines().filter_map(|line| line.split_whitespace().nth(1));
    expect("SHA256SUMS", summed.map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
    let mut check = command("sha256sum");
    done(check.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&directory));
}

/// Lines in any order.
fn of(lines: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    lines.into_iter().collect()
}

/// A signature changes nothing else.
#[test]
fn the_same_sources_give_the_same_bytes_in_another_directory() {
    let script = "
        export SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
        export EGRESS_SHIM_COMMIT=$(git describe --always --dirty --abbrev=12 --exclude='*')
        mkdir \"$1/target\"
        git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t \"$1\"
        cp -al target/zig target/debian-parts \"$1/target/\"
        cd \"$1\"
        ssh-keygen -q -t ed25519 -N '' -C '' -f target/key
        scripts/release --sign target/key >log 2>&1 || { cat log; exit 1; }
        echo \"release $(cat target/key.pub)\" >target/signers
        ssh-keygen -Y verify -f target/signers -I release -n egress-shim -s dist/SHA256SUMS.sig <dist/SHA256SUMS";
    let copy = Scratch::new();
    let said = done(sh(script, &[&copy]).current_dir(ROOT)).0;
    assert!(said.starts_with("Good \"egress-shim\" signature for release"), "{said}");
    let sums = |directory: &Path| fs::read_to_string(directory.join("SHA256SUMS")).expect("sums");
    expect("SHA256SUMS", sums(&copy.join("dist")), sums(&Path::new(ROOT).join("dist")));
}

// ------------------------------------------------------------------------ the command

#[test]
fn the_command_is_static_small_and_free_of_the_build_machines_paths() {
    const MOST: u64 = 2_000_000;
    for (arch, _) in ARCHITECTURES {
        let file = dist(&format!("{arch}/egress-shim"));
        let headers =
            done(command("readelf").args(["--wide", "--segments", "--dynamic"]).arg(&file));
        for needed in ["INTERP", "(NEEDED)", "TEXTREL", "RWE"] {
            assert!(!headers.0.contains(needed), "{arch}: no {needed}:\n{}", headers.0);
        }
        let bytes = fs::read(&file).expect("it can be read");
        let size = bytes.len() as u64;
        assert!(size <= MOST, "{arch}: {size} bytes, at most {MOST}");
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
        // The command itself names /proc/PID/root.
        for path in [format!("{ROOT}/"), format!("{home}/.cargo/"), format!("{home}/.rustup/")] {
            let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
            assert!(!found, "{arch}: {path} is in it");
        }
    }
}

// ------------------------------------------------------------------------ all of them

/// A file of the release: its name, made of the architecture and of what Debian calls that; the shell script that unpacks
/// it, `$1`, into a directory, `$2`; and where the command and the library are then.
struct Artefact {
    name: fn(&str, &str) -> String,
    unpack: &'static str,
    command: &'static str,
    library: &'static str,
}

const ARTEFACTS: [Artefact; 5] = [
    Artefact {
        name: |arch, _| format!("egress-shim-{VERSION}-linux-{arch}.tar.gz"),
        unpack: "tar -xf \"$1\" -C \"$2\" --strip-components=1",
        command: "egress-shim",
        library: "libegress_shim.so",
    },
    Artefact {
        name: |_, machine| format!("egress-shim_{VERSION}-1_{machine}.deb"),
        unpack: "dpkg-deb --extract \"$1\" \"$2\"",
        command: "usr/bin/egress-shim",
        library: "usr/lib/egress-shim/libegress_shim.so",
    },
    Artefact {
        name: |arch, _| format!("egress-shim-{VERSION}-1.{arch}.rpm"),
        unpack: "cd \"$2\"; rpm2cpio \"$1\" | cpio --quiet -id",
        command: "usr/bin/egress-shim",
        library: "usr/lib/egress-shim/libegress_shim.so",
    },
    Artefact {
        name: |arch, _| format!("egress-shim-{VERSION}-lambda-{arch}.zip"),
        unpack: "unzip -q \"$1\" -d \"$2\"",
        command: "bin/egress-shim",
        library: "lib/libegress_shim.so",
    },
    Artefact {
        name: |_, _| format!("egress-shim-{VERSION}-image.tar"),
        unpack: "
            skopeo copy --quiet --override-arch \"$3\" \"oci-archive:$1\" \"dir:$2/image\" >&2
            for layer in $(skopeo inspect \"dir:$2/image\" --format '{{range .Layers}}{{.}} {{end}}'); do
                tar -xf \"$2/image/${layer#sha256:}\" -C \"$2\"
            done",
        command: "usr/local/bin/egress-shim",
        library: "usr/local/lib/libegress_shim.so",
    },
];

#[test]
fn every_artefact_of_every_architecture_has_its_own_files_and_works() {
    for (arch, machine) in ARCHITECTURES {
        for artefact in &ARTEFACTS {
            let name = (artefact.name)(arch, machine);
            let scratch = Scratch::new();
            done(&mut sh(artefact.unpack, &[&dist(&name), &scratch, Path::new(machine)]));
            let [program, library] =
                [artefact.command, artefact.library].map(|it| scratch.join(it));
            for (file, built) in [(&program, "egress-shim"), (&library, "libegress_shim.so")] {
                let bytes =
                    |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"));
                let same = bytes(file) == bytes(&dist(&format!("{arch}/{built}")));
                assert!(same, "{name}: {} is dist/{arch}/{built}", file.display());
            }
            works(arch, &program, &library);
        }
    }
}

/// Asserts that a command says its version, and preloads this library into a program that connects. Those of the other
/// architecture run under qemu.
fn works(arch: &str, program: &Path, library: &Path) {
    let environment = if arch == std::env::consts::ARCH {
        Environment::here()
    } else {
        let Some(emulated) = Environment::emulated() else { return };
        emulated
    };
    let (version, _) = done(environment.bare(program).arg("--version"));
    let git = ["-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let commit = done(command("git").args(git)).0;
    let built = format!("(commit {}, {arch}-unknown-linux-gnu)", commit.trim_end());
    expect("--version", version, format!("egress-shim {VERSION} {built}\n"));

    // The kernel has no way to run a program of another architecture, so COMMAND is then qemu with that program.
    let curl = environment.bare(environment.installed("/usr/bin/curl"));
    let mut shim = environment.bare(program);
    shim.args(["--log", "info", "--keepalive", "idle=7", "--"]);
    shim.arg(curl.get_program()).args(curl.get_args());
    let output = run(shim.args(["--noproxy", "*", "http://127.0.0.1:1"]));
    let (out, err) = (stdout(&output), stderr(&output));
    let file = program.display();
    assert!(err.contains(" is loaded: keepalive idle=7,"), "{file}: {out}{err}");
    let exported = done(environment.bare(program).args(["--print-environment"])).0;
    assert!(
        exported.contains(&format!("LD_PRELOAD={}\n", library.display())),
        "{file}: {exported}"
    );
}

// ------------------------------------------------------------------------ the archive

#[test]
fn the_archive_is_one_directory_that_works_from_where_it_is_unpacked() {
    for (arch, _) in ARCHITECTURES {
        let scratch = Scratch::new();
        done(command("tar").arg("-xf").arg(archive(arch)).arg("-C").arg(&*scratch));
        let name = format!("egress-shim-{VERSION}-linux-{arch}");
        let entries = fs::read_dir(&*scratch).expect("it can be read").flatten();
        let entries = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
        expect("one directory", entries.collect::<Vec<_>>(), vec![name.clone()]);
        let unpacked = scratch.join(name);
        let wanted = [
            "644 CHANGELOG.md",
            "644 LICENSE-APACHE",
            "644 LICENSE-MIT",
            "644 LICENSES-THIRD-PARTY",
            "644 README",
            "644 completions/_egress-shim",
            "644 completions/egress-shim.bash",
            "644 completions/egress-shim.fish",
            "755 egress-shim",
            "644 egress-shim.1",
            "644 libegress_shim.so",
        ];
        let wanted = wanted.map(str::to_owned).into_iter().chain(documents(""));
        expect("its files", of(files(&unpacked)), of(wanted));
        let readme = fs::read_to_string(unpacked.join("README")).expect("it can be read");
        assert!(readme.lines().count() <= 10, "ten lines at most:\n{readme}");
    }
}

// ------------------------------------------------------------------------ the packages

/// What both packages put below /usr, beside their documents.
const INSTALLED: [&str; 5] = [
    "755 usr/bin/egress-shim",
    "644 usr/lib/egress-shim/libegress_shim.so",
    "644 usr/share/bash-completion/completions/egress-shim",
    "644 usr/share/fish/vendor_completions.d/egress-shim.fish",
    "644 usr/share/man/man1/egress-shim.1.gz",
];

/// Installs a package into a Debian of its own, in a mount namespace of its own, with all that
/// changes in memory; uses it there; and removes it again.
fn installs_works_and_leaves_nothing(package: &Path, install: &str, remove: &str) {
    let script = format!(
        "mount -t tmpfs none \"$1\"
        mkdir \"$1/upper\" \"$1/work\" \"$1/root\"
        mount -t overlay -o \"lowerdir=$2,upperdir=$1/upper,workdir=$1/work\" none \"$1/root\"
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin
        root=$1/root package=$3
        mount -t proc proc \"$root/proc\"
        files() {{
            find \"$root\" -xdev ! -path '*/var/log/*' ! -path '*/var/lib/dpkg/*' ! -path '*/.rpmdb*' | sort
        }}
        files >\"$1/before\"
        {install} >&2
        chroot \"$root\" egress-shim --version
        chroot \"$root\" egress-shim -- sh -c 'echo \"$LD_PRELOAD\"' 2>&1
        {remove} >&2
        files | diff \"$1/before\" -
        echo nothing is left"
    );
    let mounts = Scratch::new();
    let mut inside = command("unshare");
    inside.args(["--mount", "sh", "-euc", &script, "sh"]);
    let said = done(inside.args([&*mounts, &super::debian(), package])).0;
    let wanted = [
        format!("egress-shim {VERSION}"),
        "/usr/lib/egress-shim/libegress_shim.so".to_owned(),
        "nothing is left".to_owned(),
    ];
    expect(package.display(), said.lines().map(str::to_owned).collect::<Vec<_>>(), wanted.to_vec());
}

#[test]
fn the_debian_package_installs_works_and_leaves_nothing() {
    let install = "dpkg --root=\"$root\" --install \"$package\"";
    let machine = ARCHITECTURES.iter().find(|(arch, _)| *arch == std::env::consts::ARCH);
    let package = deb(machine.expect("it is shipped for this architecture").1);
    installs_works_and_leaves_nothing(
        &package,
        install,
        "dpkg --root=\"$root\" --purge egress-shim",
    );
}

#[test]
fn lintian_finds_nothing_in_the_debian_packages() {
    for (_, machine) in ARCHITECTURES {
        let deb = deb(machine);
        let mut lintian = command("lintian");
        lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]);
        expect(machine, done(lintian.arg(&deb)).0, "");

        let field = |name: &str| done(command("dpkg-deb").arg("--field").arg(&deb).arg(name)).0;
        expect("Version", field("Version"), format!("{VERSION}-1\n"));
        expect("Architecture", field("Architecture"), format!("{machine}\n"));
        expect("Depends", field("Depends"), "libc6 (>= 2.17)\n");
        let scratch = Scratch::new();
        done(command("dpkg-deb").arg("--extract").arg(&deb).arg(&*scratch));
        let of_debian = [
            "644 usr/share/doc/egress-shim/LICENSES-THIRD-PARTY.gz",
            "644 usr/share/doc/egress-shim/changelog.Debian.gz",
            "644 usr/share/doc/egress-shim/changelog.gz",
            "644 usr/share/doc/egress-shim/copyright",
            "644 usr/share/lintian/overrides/egress-shim",
            "644 usr/share/zsh/vendor-completions/_egress-shim",
        ];
        let wanted = INSTALLED.into_iter().chain(of_debian).map(str::to_owned);
        let wanted = wanted.chain(documents("usr/share/doc/egress-shim/"));
        expect(machine, of(files(&scratch)), of(wanted));
    }
    let copyright = Path::new(ROOT).join("scripts/package/copyright");
    let copyright = fs::read_to_string(copyright).expect("it can be read");
    let licence = fs::read_to_string(Path::new(ROOT).join("LICENSE-MIT")).expect("it can be read");
    for line in licence.lines().skip(2).filter(|line| !line.is_empty()) {
        let line = line.trim_start_matches("Copyright (c) ");
        assert!(copyright.contains(line), "scripts/package/copyright has {line:?} of LICENSE-MIT");
    }
}

#[test]
fn the_rpm_installs_works_and_leaves_nothing() {
    // What it needs is there, but not as an rpm; so is what an rpm of file systems has.
    let install =
        "mkdir \"$root/usr/share/licenses\"; rpm --root \"$root\" --install --nodeps \"$package\"";
    let remove = "rpm --root \"$root\" --erase egress-shim; rmdir \"$root/usr/share/licenses\"";
    installs_works_and_leaves_nothing(&rpm(std::env::consts::ARCH), install, remove);
}

#[test]
fn rpmlint_finds_nothing_in_the_rpms() {
    for (arch, _) in ARCHITECTURES {
        let rpm = rpm(arch);
        let mut rpmlint = command("rpmlint");
        rpmlint.arg("--config").arg(Path::new(ROOT).join("tests/shipping/rpmlint.toml"));
        let said = done(rpmlint.arg(&rpm)).0;
        assert!(said.contains("; 0 errors, 0 warnings"), "{said}");

        let query = |what: &[&str]| done(command("rpm").args(["-qp"]).args(what).arg(&rpm)).0;
        let tags = "%{VERSION} %{RELEASE} %{ARCH} %{OS} %{BUILDHOST} %{LICENSE}";
        let wanted = format!("{VERSION} 1 {arch} linux localhost MIT OR Apache-2.0");
        expect("its tags", query(&["--queryformat", tags]), wanted);
        let needs = query(&["--requires"]);
        let needs = needs.lines().filter(|line| !line.starts_with("rpmlib("));
        expect("its requirements", needs.collect::<Vec<_>>(), vec!["glibc >= 2.17"]);
        let list = query(&["--queryformat", "[%{FILEMODES:octal} %{FILENAMES}\n]"]);
        let files = list.lines().filter_map(|line| line.strip_prefix("100"));
        let files = files.map(|line| line.replacen(" /", " ", 1)).collect::<BTreeSet<_>>();
        let of_rpm = [
            "644 usr/share/doc/egress-shim/CHANGELOG.md",
            "644 usr/share/licenses/egress-shim/LICENSE-APACHE",
            "644 usr/share/licenses/egress-shim/LICENSE-MIT",
            "644 usr/share/licenses/egress-shim/LICENSES-THIRD-PARTY",
            "644 usr/share/zsh/site-functions/_egress-shim",
        ];
        let wanted = INSTALLED.into_iter().chain(of_rpm).map(str::to_owned);
        let wanted = wanted.chain(documents("usr/share/doc/egress-shim/"));
        expect(arch, files, of(wanted));
    }
}

// ------------------------------------------------------------------ image and bill of materials

#[test]
fn the_image_holds_the_library_and_the_command_for_each_architecture() {
    let image = dist(&format!("egress-shim-{VERSION}-image.tar"));
    for (arch, machine) in ARCHITECTURES {
        let scratch = Scratch::new();
        let script = "
            skopeo copy --quiet --override-arch \"$3\" \"oci-archive:$1\" \"dir:$2/image\" >&2
            mkdir \"$2/root\"
            for layer in $(skopeo inspect \"dir:$2/image\" --format '{{range .Layers}}{{.}} {{end}}'); do
                tar -xf \"$2/image/${layer#sha256:}\" -C \"$2/root\"
            done
            skopeo inspect --config \"dir:$2/image\" --format '{{.Architecture}} {{.OS}} {{.Config.Entrypoint}}'";
        let said = done(&mut sh(script, &[&image, &scratch, Path::new(machine)])).0;
        expect(
            "its configuration",
            said,
            format!("{machine} linux [/usr/local/bin/egress-shim]\n"),
        );
        let wanted = [
            "644 licenses/LICENSE-APACHE",
            "644 licenses/LICENSE-MIT",
            "644 licenses/LICENSES-THIRD-PARTY",
            "755 usr/local/bin/egress-shim",
            "644 usr/local/lib/libegress_shim.so",
        ];
        let root = scratch.join("root");
        expect(arch, files(&root), wanted.map(str::to_owned).to_vec());
        let mode = fs::metadata(root.join("usr/local")).expect("it is there").permissions().mode();
        expect("its directories are for everybody", mode & 0o777, 0o755);
    }
}

#[test]
fn the_bill_of_materials_is_valid_and_names_every_crate() {
    let bill = dist(&format!("egress-shim-{VERSION}.cdx.json"));
    let python = super::python("cyclonedx", &["cyclonedx-python-lib[json-validation]==11.12.0"]);
    let script = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read()))";
    done(command(python).args(["-c", script]).arg(&bill));
    let text = fs::read_to_string(&bill).expect("it can be read");
    let mut tree = command("cargo");
    tree.args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]);
    for crate_line in done(tree.current_dir(ROOT)).0.lines().filter(|line| !line.is_empty()) {
        let mut words = crate_line.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let url = format!("\"pkg:cargo/{name}@{}\"", version.trim_start_matches('v'));
        assert!(text.contains(&url), "{url} is in it");
    }
    assert!(text.contains("\"pkg:deb/debian/glibc@"), "and the libc of the command");
}
