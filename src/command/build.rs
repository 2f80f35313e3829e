//! Composes the part of `--version` about this build: the commit, if `scripts/build-portable` names it, and the target.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=EGRESS_SHIM_COMMIT");
    let target = env::var("TARGET").expect("cargo sets it");
    let build = match env::var("EGRESS_SHIM_COMMIT") {
        Ok(commit) if !commit.is_empty() => format!("commit {commit}, {target}"),
        _ => target,
    };
    println!("cargo::rustc-env=BUILD={build}");
}
