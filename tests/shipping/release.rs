//! What `scripts/release` has made in dist/: each file of it is whole, sound by its own format's
//! tools, and works where it is put. `scripts/test` runs it first.

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{command, documents, done, files, sh};
use crate::harness::architecture::{Architecture, beside, released};
use crate::harness::environment::preload;
use crate::harness::run::{run, stderr, stdout};
use crate::harness::{Environment, ROOT, Scratch, expect};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file of the release.
fn dist(name: &str) -> PathBuf {
    let path = Path::new(ROOT).join("dist").join(name);
    assert!(path.exists(), "{} is not made: run scripts/release", path.display());
    path
}

fn archive(architecture: Architecture) -> String {
    format!("egress-shim-{VERSION}-linux-{}.tar.gz", architecture.name())
}

fn deb(architecture: Architecture) -> String {
    format!("egress-shim_{VERSION}-1_{}.deb", architecture.get("debian"))
}

fn rpm(architecture: Architecture) -> String {
    format!("egress-shim-{VERSION}-1.{}.rpm", architecture.get("rpm"))
}

fn lambda(architecture: Architecture) -> String {
    format!("egress-shim-{VERSION}-lambda-{}.zip", architecture.name())
}

fn image() -> String {
    format!("egress-shim-{VERSION}-image.tar")
}

/// Those that are released in this form.
fn released_as(form: &str) -> impl Iterator<Item = Architecture> {
    released().filter(move |one| one.get("release").split(',').any(|it| it == form))
}

/// Its name in container images, and its variant.
fn platform(architecture: Architecture) -> (&'static str, &'static str) {
    let name = architecture.get("oci");
    name.split_once('/').unwrap_or((name, ""))
}

/// The directory of its library where those of both word sizes have theirs, with a slash.
fn directory(architecture: Architecture) -> &'static str {
    if architecture.has("beside") { "lib32/" } else { "" }
}

/// The library and the links to it, as files in a directory (a path that ends with a slash).
fn tree(architecture: Architecture, below: &str) -> Vec<String> {
    let links = architecture.get("links").split(',').filter(|link| *link != "-");
    let links = links.map(|link| format!("777 {below}{link}/libegress_shim.so"));
    let library = format!("644 {below}{}libegress_shim.so", directory(architecture));
    iter::once(library).chain(links).collect()
}

#[test]
fn everything_is_there_and_the_checksums_are_of_it() {
    let mut wanted = of([image(), format!("egress-shim-{VERSION}.cdx.json")]);
    for architecture in released() {
        wanted.insert(format!("{}/libegress_shim.so", architecture.name()));
        if architecture.has("command") {
            wanted.insert(format!("{}/egress-shim", architecture.name()));
        }
    }
    for (form, name) in
        [("archive", archive as fn(_) -> _), ("deb", deb), ("rpm", rpm), ("lambda", lambda)]
    {
        wanted.extend(released_as(form).map(name));
    }
    let sums = fs::read_to_string(dist("SHA256SUMS")).expect("it can be read");
    let summed = sums.lines().filter_map(|line| line.split_whitespace().nth(1));
    expect("SHA256SUMS", of(summed.map(str::to_owned)), wanted);
    let mut check = command("sha256sum");
    let dist = Path::new(ROOT).join("dist");
    done(check.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(dist));
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

/// docs/PLATFORMS.md has the rows of scripts/architectures.
#[test]
fn the_page_of_platforms_has_every_architecture_and_how_it_was_tried() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/PLATFORMS.md")).expect("it is there");
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|it| it.trim().to_owned()).collect();
    let seen: Vec<Vec<_>> =
        page.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells).collect();
    let row = |one: Architecture| {
        let forms = one.get("release").replace(',', ", ");
        vec![
            one.name().to_owned(),
            one.get("debian").to_owned(),
            forms,
            one.get("tried").to_owned(),
        ]
    };
    expect("its table", seen, released().map(row).collect::<Vec<_>>());
}

// ------------------------------------------------------------------------ the command

#[test]
fn the_command_is_static_small_and_free_of_the_build_machines_paths() {
    const MOST: u64 = 2_000_000;
    for arch in released().filter(|one| one.has("command")).map(Architecture::name) {
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

/// A file of the release: its form and name; the shell script that unpacks it, `$1`, into a directory, `$2`; and where the
/// command is then, and the directory of the libraries.
struct Artefact {
    form: &'static str,
    name: fn(Architecture) -> String,
    unpack: &'static str,
    command: &'static str,
    libraries: &'static str,
}

const ARTEFACTS: [Artefact; 5] = [
    Artefact {
        form: "archive",
        name: archive,
        unpack: "tar -xf \"$1\" -C \"$2\" --strip-components=1",
        command: "egress-shim",
        libraries: "",
    },
    Artefact {
        form: "deb",
        name: deb,
        unpack: "dpkg-deb --extract \"$1\" \"$2\"",
        command: "usr/bin/egress-shim",
        libraries: "usr/lib/egress-shim/",
    },
    Artefact {
        form: "rpm",
        name: rpm,
        unpack: "cd \"$2\"; rpm2cpio \"$1\" | cpio --quiet -id",
        command: "usr/bin/egress-shim",
        libraries: "usr/lib/egress-shim/",
    },
    Artefact {
        form: "lambda",
        name: lambda,
        unpack: "unzip -q \"$1\" -d \"$2\"",
        command: "bin/egress-shim",
        libraries: "lib/",
    },
    Artefact {
        form: "image",
        name: |_| image(),
        unpack: "
            skopeo copy --quiet --override-arch \"$3\" --override-variant \"$4\" \"oci-archive:$1\" \"dir:$2/image\" >&2
            for layer in $(skopeo inspect \"dir:$2/image\" --format '{{range .Layers}}{{.}} {{end}}'); do
                tar -xf \"$2/image/${layer#sha256:}\" -C \"$2\"
            done",
        command: "usr/local/bin/egress-shim",
        libraries: "usr/local/lib/",
    },
];

#[test]
fn every_artefact_of_every_architecture_has_its_own_files_and_works() {
    for artefact in &ARTEFACTS {
        for architecture in released_as(artefact.form) {
            let name = (artefact.name)(architecture);
            let scratch = Scratch::new();
            let (oci, variant) = platform(architecture);
            let file = dist(&name);
            done(&mut sh(artefact.unpack, &[&file, &scratch, oci.as_ref(), variant.as_ref()]));
            let is = |place: String, built: String| {
                let path = scratch.join(place);
                let bytes =
                    |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"));
                let same = bytes(&path) == bytes(&dist(&built));
                assert!(same, "{name}: {} is dist/{built}", path.display());
                path
            };
            let library = |of: Architecture, below: &str| {
                let place =
                    format!("{}{below}{}libegress_shim.so", artefact.libraries, directory(of));
                is(place, format!("{}/libegress_shim.so", of.name()))
            };
            let own = library(architecture, "");
            if ["archive", "image"].contains(&artefact.form) {
                let below = if artefact.form == "image" { "egress-shim/" } else { "" };
                beside(architecture).for_each(|narrow| drop(library(narrow, below)));
            }
            let arch = architecture.name();
            let program = architecture
                .has("command")
                .then(|| is(artefact.command.to_owned(), format!("{arch}/egress-shim")));
            works(architecture, program.as_deref(), &own);
        }
    }
}

/// Asserts that a command says its version, and preloads this library into a program that connects; where there is no
/// command, that the library is loaded. Those of other architectures run under qemu.
fn works(architecture: Architecture, program: Option<&Path>, library: &Path) {
    let Some(environment) = Environment::of(architecture) else { return };
    let Some(program) = program else {
        let mut keepalive =
            environment.shimmed(environment.program("keepalive"), &[("LOG", "info")]);
        preload(&mut keepalive, &[library]);
        let output = run(keepalive.args(["namespace", "tcp4", "connect", "show"]));
        let (out, err) = (stdout(&output), stderr(&output));
        let loaded = err.contains(" is loaded: keepalive idle=60,")
            && out.contains("keepalive=1 idle=60 interval=60 count=5");
        return assert!(loaded, "{}: {out}{err}", library.display());
    };
    let (version, _) = done(environment.bare(program).arg("--version"));
    let git = ["-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let commit = done(command("git").args(git)).0;
    let built = format!("(commit {}, {})", commit.trim_end(), architecture.get("rust"));
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
    let directory = library.parent().expect("it is in one").display();
    assert!(exported.contains(&format!("LD_PRELOAD={directory}/")), "{file}: {exported}");
}

// ------------------------------------------------------------------------ the archive

#[test]
fn the_archive_is_one_directory_that_works_from_where_it_is_unpacked() {
    for architecture in released_as("archive") {
        let scratch = Scratch::new();
        done(command("tar").arg("-xf").arg(dist(&archive(architecture))).arg("-C").arg(&*scratch));
        let name = format!("egress-shim-{VERSION}-linux-{}", architecture.name());
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
        ];
        let of_command = [
            "644 completions/_egress-shim",
            "644 completions/egress-shim.bash",
            "644 completions/egress-shim.fish",
            "755 egress-shim",
            "644 egress-shim.1",
        ];
        let mut wanted = of(wanted.map(str::to_owned).into_iter().chain(documents("")));
        wanted.extend(tree(architecture, ""));
        wanted.extend(beside(architecture).flat_map(|narrow| tree(narrow, "")));
        if architecture.has("command") {
            wanted.extend(of_command.map(str::to_owned));
        }
        expect("its files", of(files(&unpacked)), wanted);
        let readme = fs::read_to_string(unpacked.join("README")).expect("it can be read");
        assert!(readme.lines().count() <= 10, "ten lines at most:\n{readme}");
        expect(
            &readme,
            readme.contains("under emulation only"),
            architecture.get("tried") != "natively",
        );
    }
}

// ------------------------------------------------------------------------ the packages

/// What both packages put below /usr for the command, beside their documents.
const OF_COMMAND: [&str; 4] = [
    "755 usr/bin/egress-shim",
    "644 usr/share/bash-completion/completions/egress-shim",
    "644 usr/share/fish/vendor_completions.d/egress-shim.fish",
    "644 usr/share/man/man1/egress-shim.1.gz",
];

/// What both packages of an architecture put below /usr, beside their documents; the last is zsh's completion.
fn installed(architecture: Architecture, zsh: &str) -> BTreeSet<String> {
    let mut installed = of(tree(architecture, "usr/lib/egress-shim/"));
    if architecture.has("command") {
        installed.extend(OF_COMMAND.map(str::to_owned));
        installed.insert(format!("644 usr/share/zsh/{zsh}/_egress-shim"));
    }
    installed.extend(documents("usr/share/doc/egress-shim/"));
    installed
}

/// Installs packages into a Debian of its own, in a mount namespace of its own, with all that
/// changes in memory; uses them there; and removes them again.
fn installs_works_and_leaves_nothing(packages: &[PathBuf], install: &str, remove: &str) {
    let script = format!(
        "mount -t tmpfs none \"$1\"
        mkdir \"$1/upper\" \"$1/work\" \"$1/root\"
        mount -t overlay -o \"lowerdir=$2,upperdir=$1/upper,workdir=$1/work\" none \"$1/root\"
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin
        own=$1 root=$1/root
        shift 2
        mount -t proc proc \"$root/proc\"
        files() {{
            find \"$root\" -xdev ! -path '*/var/log/*' ! -path '*/var/lib/dpkg/*' ! -path '*/.rpmdb*' | sort
        }}
        files >\"$own/before\"
        {{ {install}; }} >&2
        chroot \"$root\" egress-shim -V
        chroot \"$root\" egress-shim -- sh -c 'echo \"$LD_PRELOAD\"' 2>&1
        {{ {remove}; }} >&2
        files | diff \"$own/before\" -
        echo nothing is left"
    );
    let mounts = Scratch::new();
    let mut inside = command("unshare");
    inside.args(["--mount", "sh", "-euc", &script, "sh"]);
    let said = done(inside.args([&*mounts, &super::debian()]).args(packages)).0;
    let wanted = [
        format!("egress-shim {VERSION}"),
        "/usr/lib/egress-shim/libegress_shim.so".to_owned(),
        "nothing is left".to_owned(),
    ];
    expect(
        format!("{packages:?}"),
        said.lines().map(str::to_owned).collect::<Vec<_>>(),
        wanted.to_vec(),
    );
}

/// This machine's package, and those that are installed beside it.
fn with_those_beside(name: fn(Architecture) -> String) -> Vec<PathBuf> {
    let here = Architecture::here();
    iter::once(here).chain(beside(here)).map(|one| dist(&name(one))).collect()
}

#[test]
fn the_debian_package_installs_works_and_leaves_nothing() {
    let install = "dpkg --root=\"$root\" --install \"$@\"";
    let remove = "dpkg --root=\"$root\" --purge egress-shim";
    let all = with_those_beside(deb);
    installs_works_and_leaves_nothing(&all[..1], install, remove);
    // The libc of i386 is not there.
    let install = "
        dpkg --root=\"$root\" --add-architecture i386
        dpkg --root=\"$root\" --force-depends --install \"$@\"
        for name in libegress_shim.so lib/i386-linux-gnu/libegress_shim.so; do
            test -f \"$root/usr/lib/egress-shim/$name\"
        done";
    let remove = "dpkg --root=\"$root\" --purge egress-shim:amd64 egress-shim:i386";
    if all.len() > 1 {
        installs_works_and_leaves_nothing(&all, install, remove);
    }
}

#[test]
fn lintian_finds_nothing_in_the_debian_packages() {
    for architecture in released_as("deb") {
        let (machine, deb) = (architecture.get("debian"), dist(&deb(architecture)));
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
        ];
        let mut wanted = installed(architecture, "vendor-completions");
        wanted.extend(of_debian.map(str::to_owned));
        expect(machine, of(files(&scratch)), wanted);
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
        "mkdir \"$root/usr/share/licenses\"; rpm --root \"$root\" --install --nodeps \"$@\"";
    let remove =
        "rpm --root \"$root\" --erase --allmatches egress-shim; rmdir \"$root/usr/share/licenses\"";
    let all = with_those_beside(rpm);
    for packages in [&all[..1], &all] {
        installs_works_and_leaves_nothing(packages, install, remove);
    }
}

#[test]
fn rpmlint_finds_nothing_in_the_rpms() {
    for architecture in released_as("rpm") {
        let (arch, rpm) = (architecture.get("rpm"), dist(&rpm(architecture)));
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
        // Files and links.
        let files = list
            .lines()
            .filter_map(|line| line.strip_prefix("100").or_else(|| line.strip_prefix("120")));
        let files = files.map(|line| line.replacen(" /", " ", 1)).collect::<BTreeSet<_>>();
        let of_rpm = [
            "644 usr/share/doc/egress-shim/CHANGELOG.md",
            "644 usr/share/licenses/egress-shim/LICENSE-APACHE",
            "644 usr/share/licenses/egress-shim/LICENSE-MIT",
            "644 usr/share/licenses/egress-shim/LICENSES-THIRD-PARTY",
        ];
        let mut wanted = installed(architecture, "site-functions");
        wanted.extend(of_rpm.map(str::to_owned));
        expect(arch, files, wanted);
    }
}

// ------------------------------------------------------------------ image and bill of materials

#[test]
fn the_image_holds_the_library_and_the_command_for_each_architecture() {
    let image = dist(&image());
    for architecture in released_as("image") {
        let scratch = Scratch::new();
        let script = "
            skopeo copy --quiet --override-arch \"$3\" --override-variant \"$4\" \"oci-archive:$1\" \"dir:$2/image\" >&2
            mkdir \"$2/root\"
            for layer in $(skopeo inspect \"dir:$2/image\" --format '{{range .Layers}}{{.}} {{end}}'); do
                tar -xf \"$2/image/${layer#sha256:}\" -C \"$2/root\"
            done
            skopeo inspect --config \"dir:$2/image\" --format '{{.Architecture}} {{.OS}} {{.Config.Entrypoint}}'";
        let (oci, variant) = platform(architecture);
        let arguments: [&Path; 4] = [&image, &scratch, oci.as_ref(), variant.as_ref()];
        let said = done(&mut sh(script, &arguments)).0;
        expect("its configuration", said, format!("{oci} linux [/usr/local/bin/egress-shim]\n"));
        let mut wanted = of([
            "644 licenses/LICENSE-APACHE",
            "644 licenses/LICENSE-MIT",
            "644 licenses/LICENSES-THIRD-PARTY",
            "755 usr/local/bin/egress-shim",
            "644 usr/local/lib/libegress_shim.so",
        ]
        .map(str::to_owned));
        let below = "usr/local/lib/egress-shim/";
        wanted.extend(tree(architecture, below).into_iter().skip(1));
        wanted.extend(beside(architecture).flat_map(|narrow| tree(narrow, below)));
        let root = scratch.join("root");
        expect(architecture.name(), of(files(&root)), wanted);
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
