//! Programs that the library cannot help start and run under it exactly as they do without it:
//! those that do not load it, and those that load it but never call into it.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::{command, done};
use crate::harness::scratch::write_executable;
use crate::harness::{ROOT, expect};

/// The libraries: the one that is shipped, and that of `cargo build --release`, which musl's loader
/// does not load.
fn libraries() -> [PathBuf; 2] {
    [super::library(), Path::new(ROOT).join("target/release/libegress_shim.so")]
}

/// Settings that the library has work from, and words to say about it.
const SETTINGS: [(&str, &str); 2] = [("EGRESS_SHIM_IPV4_ONLY", "*"), ("EGRESS_SHIM_STRICT", "1")];

/// Where a source's program goes.
fn made(name: &str) -> PathBuf {
    let directory = Path::new(ROOT).join("target/test-programs/foreign");
    fs::create_dir_all(&directory).expect("target can be written to");
    directory.join(name)
}

fn source(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/programs").join(name)
}

/// A program of C without libc.
fn without_libc(name: &str, flags: &[&str]) -> PathBuf {
    let program = made(name);
    let flags = [&["-O1", "-Wall", "-Werror", "-nostdlib", "-ffreestanding"], flags].concat();
    done(command("cc").args(flags).arg(source("no_libc.c")).arg("-o").arg(&program));
    program
}

/// A program of C.
fn of_c(name: &str, flags: &[&str]) -> PathBuf {
    let program = made(name);
    done(command("cc").args(flags).arg(source("foreign.c")).arg("-o").arg(&program));
    program
}

/// A program of Go that is dynamically linked and has no libc, with a dynamic loader to go by.
fn of_go(name: &str, loader: &str) -> PathBuf {
    let program = made(name);
    let mut go = command("go");
    go.env("CGO_ENABLED", "0").env("GO111MODULE", "off").env("GOFLAGS", "");
    go.env("GOCACHE", made("go-cache")).env("GOPATH", made("go-path"));
    go.args(["build", "-buildmode=pie", &format!("-ldflags=-I {loader}"), "-o"]);
    done(go.arg(&program).arg(source("foreign.go")));
    program
}

/// Runs a program in an environment of its own.
fn run(program: &Path, variables: &[(&str, &Path)]) -> Output {
    let mut command = command(program);
    command.args(["an argument", "*"]).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("FOREIGN", "its own").envs(variables.iter().copied());
    command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"))
}

/// Runs a program without a preload, which must work, and with each of the libraries, which must
/// not show. Complaints of the loader itself are left out where it has to make them.
fn is_the_same(program: &Path, libraries: &[PathBuf], complaints: bool) {
    let bare = run(program, &[]);
    let out = String::from_utf8_lossy(&bare.stdout);
    assert_eq!(bare.status.code(), Some(7), "{} works: {bare:?}", program.display());
    assert!(out.contains("an argument") && out.contains("its own"), "it works: {bare:?}");
    for library in libraries {
        let preload = ("LD_PRELOAD", library.as_path());
        let settings = SETTINGS.map(|(name, value)| (name, Path::new(value)));
        for variables in [&[preload][..], &[&[preload][..], &settings].concat()] {
            let mut seen = run(program, variables);
            if complaints {
                let errors = String::from_utf8_lossy(&seen.stderr).into_owned();
                let (loaders, rest): (Vec<_>, Vec<_>) = errors
                    .split_inclusive('\n')
                    .partition(|line| line.starts_with("ERROR: ld.so: object "));
                assert_eq!(loaders.len(), 1, "the loader says why it ignores it: {errors}");
                seen.stderr = rest.concat().into_bytes();
            }
            assert_eq!(seen, bare, "{} under {}", program.display(), library.display());
        }
    }
}

/// Expects that a program loads a library: an invalid setting then ends it, because it is strict.
fn loads(program: &Path, library: &Path) {
    let wrong = ("EGRESS_SHIM_KEEPALIVE", Path::new("wrong"));
    let seen =
        run(program, &[("LD_PRELOAD", library), wrong, ("EGRESS_SHIM_STRICT", Path::new("1"))]);
    expect(format!("{} loads it: {seen:?}", program.display()), seen.status.code(), Some(78));
}

#[test]
fn a_go_program_without_libc() {
    let program = of_go("go", "/lib64/ld-linux-x86-64.so.2");
    is_the_same(&program, &libraries(), false);
    for library in libraries() {
        loads(&program, &library);
    }
}

#[test]
fn a_go_program_without_libc_by_musls_loader() {
    let program = of_go("go-musl", "/lib/ld-musl-x86_64.so.1");
    is_the_same(&program, &[super::library()], false);
}

#[test]
fn a_dynamic_program_without_libc() {
    let program = without_libc("no_libc", &["-fPIE", "-pie"]);
    is_the_same(&program, &libraries(), false);
    for library in libraries() {
        loads(&program, &library);
    }
}

#[test]
fn a_dynamic_program_without_libc_by_musls_loader() {
    let loader = "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1";
    let program = without_libc("no_libc-musl", &["-fPIE", "-pie", loader]);
    is_the_same(&program, &[super::library()], false);
}

#[test]
fn a_static_program() {
    is_the_same(&of_c("static", &["-static"]), &libraries(), false);
    is_the_same(&of_c("static-pie", &["-static-pie"]), &libraries(), false);
    is_the_same(&without_libc("no_libc-static", &["-static"]), &libraries(), false);
}

#[test]
fn a_shell_script() {
    let script = made("script");
    write_executable(&script, &fs::read(source("foreign.sh")).expect("it can be read"));
    is_the_same(&script, &libraries(), false);
}

#[test]
fn a_32_bit_program() {
    is_the_same(&of_c("32-bit", &["-m32"]), &libraries(), true);
    is_the_same(&of_c("32-bit-static", &["-m32", "-static"]), &libraries(), false);
}
