//! What the tests of the ways to ship the library share: root trees and tools, which are made once
//! and kept under `target/`, and the manifest that the Kubernetes example renders to.

mod containers;
mod docs;
mod elf;
mod foreign;
mod install;
mod places;
mod release;
mod scripts;
mod start;
mod system;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::environment::shipped;
use crate::harness::run::{said, stderr, stdout, without_settings};
use crate::harness::scratch::cached;
use crate::harness::{ROOT, skip};

/// The library that is shipped.
pub fn library() -> PathBuf {
    shipped("libegress_shim.so")
}

/// A command without settings or preloads of the surroundings.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    without_settings(&mut command).stdin(Stdio::null());
    command.env_remove("PREFIX").env_remove("DESTDIR");
    command
}

/// A shell script, which ends at the first command that fails.
pub fn sh(script: &str, arguments: &[&Path]) -> Command {
    let mut command = command("sh");
    command.args(["-euc", script, "sh"]).args(arguments);
    command
}

/// What a command wrote to standard output and standard error; it must succeed.
pub fn done(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    (stdout(&output), stderr(&output))
}

/// The files in a directory, as `MODE PATH`, sorted by path.
pub fn files(directory: &Path) -> Vec<String> {
    let find = "cd \"$1\" && find . ! -type d -printf '%m %P\\n' | LC_ALL=C sort -k 2";
    done(&mut sh(find, &[directory])).0.lines().map(str::to_owned).collect()
}

/// The pages and the examples, as `MODE PATH` in a directory (a path that ends with a slash).
fn documents(directory: &str) -> Vec<String> {
    let tops = ["README.md", "docs", "examples"];
    let list = done(command("git").args(["-C", ROOT, "ls-files"]).args(tops)).0;
    list.lines().map(|name| format!("644 {directory}{name}")).collect()
}

/// The root tree of a minimal Debian, of this machine's release, so that programs built here run
/// there. It also has what [`musl`] is made of.
pub fn debian() -> PathBuf {
    cached(
        "roots/debian-slim",
        ". /etc/os-release
        PATH=$PATH:/usr/sbin:/sbin
        debootstrap --variant=minbase --include=musl,busybox-static \"$VERSION_CODENAME\" \"$1\"
        rm -r \"$1\"/var/cache/apt/* \"$1\"/var/lib/apt/lists/*",
    )
}

/// The root tree of a system like Alpine: musl, and busybox for everything else. Debian's busybox
/// is statically linked where Alpine's is not.
pub fn musl() -> PathBuf {
    debian();
    cached(
        "roots/musl",
        "debian=${1%/*}/debian-slim
        mkdir -p \"$1/bin\" \"$1/lib\" \"$1/etc\" \"$1/tmp\" \"$1/proc\"
        cp \"$debian\"/usr/lib/*-linux-musl/libc.so \"$1/lib/ld-musl-$(uname -m).so.1\"
        cp \"$debian/bin/busybox\" \"$1/bin/\"
        for name in $(\"$1/bin/busybox\" --list); do
            [ \"$name\" = busybox ] || ln -s busybox \"$1/bin/$name\"
        done
        echo root:x:0:0:root:/:/bin/sh >\"$1/etc/passwd\"",
    )
}

/// The root tree of an image without a shell: the dynamic loader and glibc.
pub fn distroless() -> PathBuf {
    debian();
    cached(
        "roots/distroless",
        "cd \"${1%/*}/debian-slim\"
        mkdir \"$1/etc\" \"$1/proc\"
        for file in lib64/ld-* lib/ld-linux-* lib/*-linux-gnu/libc.so.6 \
            lib/*-linux-gnu/libnss_* etc/host.conf; do
            [ ! -e \"$file\" ] || cp --parents -L \"$file\" \"$1\"
        done
        echo nonroot:x:65532:65532:nonroot:/:/sbin/nologin >\"$1/etc/passwd\"
        echo hosts: files dns >\"$1/etc/nsswitch.conf\"",
    )
}

/// A Python that has these packages of `PyPI`.
pub fn python(name: &str, packages: &[&str]) -> PathBuf {
    let script = format!(
        "python3 -m venv \"$1\"
        \"$1/bin/python\" -m pip install --quiet --disable-pip-version-check '{}'",
        packages.join("' '")
    );
    let version = packages[0].rsplit('=').next().expect("it has a version");
    cached(&format!("tools/{name}-{version}"), &script).join("bin/python")
}

/// A manifest, as kustomize renders a directory; `None` if kustomize is not installed.
fn render(directory: &str) -> Option<String> {
    let tools = [&["kubectl", "kustomize"][..], &["kustomize", "build"]];
    let installed = |program: &str| command(program).arg("version").arg("--help").output().is_ok();
    let Some(tool) = tools.into_iter().find(|tool| installed(tool[0])) else {
        skip(directory, "neither kubectl nor kustomize is installed");
        return None;
    };
    let path = Path::new(ROOT).join(directory);
    Some(done(command(tool[0]).args(&tool[1..]).arg(path)).0)
}

/// What a rendered manifest says, after it has passed `tests/shipping/kubernetes.py`.
pub struct Manifest(Vec<(String, Vec<String>)>);

impl Manifest {
    /// The manifest of a kustomization; `None` if kustomize is not installed.
    pub fn of(directory: &str) -> Option<Self> {
        let rendered = render(directory)?;
        // It has the Kubernetes schemas.
        let python = python("kubernetes-validate", &["kubernetes-validate==1.37.0"]);
        let check = Path::new(ROOT).join("tests/shipping/kubernetes.py");
        let mut child = command(python)
            .arg(check)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        stdin.write_all(rendered.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{directory}: {}\n{rendered}", said(&output));
        Some(Self::parse(&stdout(&output)))
    }

    /// Lines of KEY TAB VALUE...
    pub fn parse(text: &str) -> Self {
        let of_line = |line: &str| {
            let mut fields = line.split('\t').map(str::to_owned);
            (fields.next().unwrap_or_default(), fields.collect())
        };
        Self(text.lines().map(of_line).collect())
    }

    /// Every value of a key.
    pub fn get(&self, key: &str) -> Vec<&str> {
        let lines = self.0.iter().filter(|(name, _)| name == key);
        lines.flat_map(|(_, values)| values).map(String::as_str).collect()
    }
}
