//! What the test makes of the sources beside this file, under `target/clients`, and what of it the
//! machine lacks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Client, Server};
use crate::harness::ROOT;
use crate::harness::run::{stderr, stdout};

/// What could not be made, and why.
pub type Unmade = BTreeMap<&'static str, String>;

type Maker = fn() -> Result<(), String>;

/// What the test makes under `target/clients`.
const MAKERS: [(&str, Maker); 17] = [
    ("venv", make_venv),
    ("java", || make_java("Client")),
    ("netty", make_netty),
    ("jdbc", make_jdbc),
    ("postfix", make_postfix),
    ("asio", make_asio),
    ("rust", make_rust),
    ("musl", make_musl),
    ("perl", find_perl),
    // 300 MB: it is tried where somebody has installed it.
    ("chromium", || find("/usr/lib/chromium/chromium-headless-shell", "chromium-headless-shell")),
    ("undici", || {
        find("/usr/bin/node", "nodejs")?;
        find("/usr/share/nodejs/undici/index.js", "node-undici")
    }),
    ("haproxy", || find("/usr/sbin/haproxy", "haproxy")),
    ("go", make_go),
    ("static", || {
        find("/usr/bin/musl-gcc", "musl-tools")?;
        make_plain(Command::new("musl-gcc").arg("-static"), "static", &[]);
        Ok(())
    }),
    ("io_uring", || {
        find("/usr/include/liburing.h", "liburing-dev")?;
        make_plain(Command::new("cc").arg("-DURING"), "io_uring", &["-luring"]);
        Ok(())
    }),
    ("ruby", || find("/usr/bin/ruby", "ruby")),
    ("nginx", || find("/usr/sbin/nginx", "nginx-light")),
];

/// Makes what these clients need, and the servers.
pub fn make_clients(clients: &[Client]) -> Unmade {
    /// The tests of this process make one after the other: what one has made serves the next.
    static MAKING: Mutex<bool> = Mutex::new(false);
    let mut has_certificate = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    fs::create_dir_all(made("")).expect("target can be written to");
    if !std::mem::replace(&mut *has_certificate, true) {
        make_certificate();
    }
    thread::scope(|scope| {
        let is_needed = |name| name == "venv" || clients.iter().any(|client| client.from == name);
        let needed = MAKERS.iter().filter(|(name, _)| is_needed(*name));
        let making: Vec<_> = needed.map(|(name, make)| (*name, scope.spawn(make))).collect();
        making
            .into_iter()
            .filter_map(|(name, made)| Some((name, made.join().expect("it can be made").err()?)))
            .collect()
    })
}

pub fn made(name: &str) -> PathBuf {
    Path::new(ROOT).join("target/clients").join(name)
}

pub fn source(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/clients").join(name)
}

/// Why a client cannot be tried; none when it can.
pub fn lacks(client: &Client, unmade: &Unmade) -> Option<String> {
    let server = match client.server {
        Server::Http => None,
        Server::Other => unmade.get("venv").cloned(),
        Server::Postgresql if has_postgresql() => None,
        Server::Postgresql => Some("no PostgreSQL server (Debian: postgresql)".to_owned()),
    };
    let absent = || {
        let (program, package) = (made(client.program), client.from);
        (!program.exists()).then(|| format!("no {} (Debian: {package})", program.display()))
    };
    unmade.get(client.from).cloned().or(server).or_else(absent)
}

pub fn has_postgresql() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/initdb").exists())
}

/// Whether a file is newer than what it is made of.
fn is_fresh(file: &Path, source: &Path) -> bool {
    let changed = |path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((changed(file), changed(source)), (Ok(file), Ok(source)) if file > source)
}

/// Runs a command; its words where it fails.
fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", stderr(&output)))
}

fn make_venv() -> Result<(), String> {
    let (venv, wanted) = (made("venv"), source("requirements.txt"));
    let done = venv.join("done");
    if is_fresh(&done, &wanted) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&venv);
    let last_line = |words: String| words.trim().lines().last().unwrap_or_default().to_owned();
    succeed(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))
        .map_err(|_| "no Python environment could be made (Debian: python3-venv)")?;
    let mut pip = Command::new(venv.join("bin/pip"));
    succeed(pip.args(["install", "--quiet", "--requirement"]).arg(wanted)).map_err(last_line)?;
    fs::write(done, "").map_err(|error| error.to_string())
}

/// Compiles a Java program, with netty.
fn make_java(class: &str) -> Result<(), String> {
    let (directory, source) = (made("java"), source(&format!("{class}.java")));
    if is_fresh(&directory.join(class).with_extension("class"), &source) {
        return Ok(());
    }
    if !Path::new("/usr/bin/javac").exists() {
        return Err("no /usr/bin/javac (Debian: default-jdk-headless)".to_owned());
    }
    let mut compiler = Command::new("/usr/bin/javac");
    compiler.arg("-cp").arg(class_path()).arg("-d").arg(directory).arg(source);
    succeed(&mut compiler).expect("it compiles");
    Ok(())
}

fn make_netty() -> Result<(), String> {
    find("/usr/share/java/netty-resolver-dns.jar", "libnetty-java")?;
    make_java("NettyClient")
}

fn make_jdbc() -> Result<(), String> {
    find("/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java")?;
    find("/usr/share/java/jtds.jar", "libjtds-java")?;
    make_java("Query")
}

/// A package that would start a mail server is not installed. Its user and group are others here.
fn make_postfix() -> Result<(), String> {
    let (directory, settings) = (made("postfix"), made("postfix/main.cf"));
    if settings.exists() {
        return Ok(());
    }
    let fetch = "mkdir -p \"$0\" && cd \"$0\" && apt-get update && \
        apt-get -o APT::Sandbox::User= download postfix && dpkg-deb --extract postfix_*.deb .";
    succeed(Command::new("sh").args(["-c", fetch]).arg(directory))?;
    fs::write(settings, "mail_owner = daemon\nsetgid_group = mail\n")
        .map_err(|error| error.to_string())
}

/// Where Java finds the classes: ours, the drivers of databases, and the parts of netty that they use.
pub fn class_path() -> String {
    let parts = [
        "buffer",
        "codec",
        "codec-dns",
        "common",
        "handler",
        "resolver",
        "resolver-dns",
        "transport",
    ];
    let jars = parts.map(|part| format!("/usr/share/java/netty-{part}.jar"));
    let drivers = "/usr/share/java/postgresql.jar:/usr/share/java/jtds.jar";
    format!("{}:{drivers}:{}", made("java").display(), jars.join(":"))
}

fn make_asio() -> Result<(), String> {
    let (program, source) = (made("asio"), source("asio.cc"));
    if is_fresh(&program, &source) {
        return Ok(());
    }
    if !Path::new("/usr/include/boost/asio.hpp").exists() {
        return Err("no boost/asio.hpp (Debian: libboost-dev)".to_owned());
    }
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-pthread", "-o"]).arg(program).arg(source);
    succeed(&mut compiler).expect("it compiles");
    Ok(())
}

/// A cargo command for the package of the clients in Rust.
fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).arg("--manifest-path").arg(source("rust/Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", made("rust"));
    cargo
}

/// A static program: Go makes its system calls past libc.
fn make_go() -> Result<(), String> {
    find("/usr/bin/go", "golang-go")?;
    let mut go = Command::new("/usr/bin/go");
    go.arg("build").arg("-o").arg(made("go")).arg(source("client.go"));
    go.env("CGO_ENABLED", "0").env("GOCACHE", made("go-cache")).env("GOFLAGS", "-mod=mod");
    succeed(&mut go).expect("it compiles");
    Ok(())
}

fn make_plain(compiler: &mut Command, program: &str, libraries: &[&str]) {
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(made(program));
    succeed(compiler.arg(source("plain.c")).args(libraries)).expect("it compiles");
}

fn make_rust() -> Result<(), String> {
    succeed(&mut cargo(&["fetch", "--locked"]))?;
    succeed(&mut cargo(&["build", "--locked", "--offline"])).expect("it compiles");
    Ok(())
}

/// Compiles the programs for musl, with the C libraries that crates carry.
fn make_musl() -> Result<(), String> {
    find("/usr/bin/musl-gcc", "musl-tools")?;
    find("/usr/bin/cmake", "cmake")?;
    find("/usr/bin/make", "make")?;
    succeed(&mut cargo(&["fetch", "--locked"]))?;
    let metadata = cargo(&["metadata", "--locked", "--offline", "--format-version=1"]).output();
    let metadata = stdout(&metadata.expect("cargo starts"));
    let carried = |variable, package: &str, library| {
        let is_manifest = |it: &&str| it.contains(package) && it.ends_with("/Cargo.toml");
        let manifest = metadata.split('"').find(is_manifest).expect("it is in the lock file");
        format!("-D{variable}={}", Path::new(manifest).with_file_name(library).display())
    };
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(source("musl")).arg("-B").arg(made("musl"));
    configure.arg("-DCMAKE_C_COMPILER=musl-gcc");
    configure.arg(carried("CARES", "/c-ares-sys-", "c-ares"));
    configure.arg(carried("LIBEVENT", "/libevent-sys-", "libevent"));
    succeed(&mut configure).expect("it can be configured");
    succeed(Command::new("cmake").arg("--build").arg(made("musl"))).expect("it compiles");
    Ok(())
}

/// Nothing is to be made for Perl, but a bare Debian has only a part of it.
fn find_perl() -> Result<(), String> {
    succeed(Command::new("/usr/bin/perl").args(["-MHTTP::Tiny", "-e", "1"]))
        .map_err(|_| "no HTTP::Tiny (Debian: perl)".to_owned())
}

/// What Debian has made: a program that `proxy` starts, a library.
fn find(program: &str, package: &str) -> Result<(), String> {
    let found = Path::new(program).exists();
    found.then_some(()).ok_or_else(|| format!("no {program} (Debian: {package})"))
}

/// A certificate for the lab's names, `lab.pem`, which signs itself.
fn make_certificate() {
    let names = "subjectAltName=DNS:*.v4only.example.com,DNS:*.dark.example.com,\
        DNS:*.bare.free.example.com,DNS:*.shimmed.free.example.com,DNS:*.listed.example.com,\
        DNS:api.openai.com,DNS:*.api.openai.com,DNS:api.anthropic.com";
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-noenc", "-days", "2", "-subj", "/CN=lab", "-addext", names]);
    openssl.arg("-keyout").arg(made("lab.pem")).arg("-out").arg(made("lab.pem"));
    succeed(&mut openssl).expect("openssl makes it");
}
