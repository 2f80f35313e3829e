//! The dynamic loaders of a machine, and the file that each opens for a path in `LD_PRELOAD`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use egress_shim_core::elf::Architecture;

use crate::program;

/// The path component that glibc's loader replaces with the distribution's name for the directory of libraries.
pub const DOLLAR_LIB: &str = "$LIB";

/// A dynamic loader of this machine.
pub struct Loader {
    /// Its path.
    pub path: &'static Path,
    /// The architecture of its programs.
    pub architecture: Architecture,
}

impl Loader {
    /// Whether a path with `$LIB` can lead this loader to its own file. It cannot lead musl's loader for 32-bit programs:
    /// that takes `$LIB` literally, and the directory of that name has the 64-bit file.
    pub fn is_led(&self) -> bool {
        !is_musl(self.path) || self.architecture.is_wide
    }
}

/// The loaders on this machine for programs that the kernel runs, at the paths that the ABIs define.
pub fn all() -> Vec<Loader> {
    const PATHS: &[&str] = if cfg!(target_arch = "x86_64") {
        &[
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-linux.so.2",
            "/lib/ld-musl-x86_64.so.1",
            "/lib/ld-musl-i386.so.1",
        ]
    } else if cfg!(target_arch = "aarch64") {
        &[
            "/lib/ld-linux-aarch64.so.1",
            "/lib/ld-linux-armhf.so.3",
            "/lib/ld-musl-aarch64.so.1",
            "/lib/ld-musl-armhf.so.1",
        ]
    } else {
        &[]
    };
    let loader = |path: &&'static str| {
        let path = Path::new(*path);
        Some(Loader { path, architecture: program::elf_of(path)?.architecture })
    };
    PATHS.iter().filter_map(loader).collect()
}

/// Whether a loader is musl's, which does not replace `$LIB`.
pub fn is_musl(loader: &Path) -> bool {
    loader.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld-musl"))
}

/// The path that a loader opens for a path in `LD_PRELOAD`.
pub fn expanded(path: &Path, loader: &Path) -> PathBuf {
    let real = if is_musl(loader) { None } else { fs::canonicalize(loader).ok() };
    expanded_by(path, real.as_deref())
}

/// The same for glibc's loader at this path. It replaces `$LIB` with the directory that it is installed in, below
/// the prefix (`DL_DST_LIB` in glibc's elf/Makefile): for `/usr/lib/i386-linux-gnu/ld-linux.so.2` that is
/// `lib/i386-linux-gnu`.
pub fn expanded_by(path: &Path, loader: Option<&Path>) -> PathBuf {
    let directory: Vec<_> = loader.and_then(Path::parent).into_iter().flatten().collect();
    let is_lib = |part: &&OsStr| matches!(part.as_bytes(), b"lib" | b"lib32" | b"lib64");
    let Some(start) = directory.iter().rposition(is_lib) else { return path.to_owned() };
    let lib: PathBuf = directory[start..].iter().collect();
    path.iter().map(|part| if part == DOLLAR_LIB { lib.as_os_str() } else { part }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollar_lib_is_the_directory_of_the_loader_below_the_prefix() {
        for (loader, lib) in [
            ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu"),
            ("/usr/lib64/ld-linux-x86-64.so.2", "lib64"),
            ("/lib/ld-2.17.so", "lib"),
            ("/usr/lib32/ld-linux.so.2", "lib32"),
            ("/nix/store/1-lib-x/lib/ld-linux.so.2", "lib"),
            ("/opt/ld.so", "$LIB"),
        ] {
            let seen = expanded_by(Path::new("/d/$LIB/e/x.so"), Some(Path::new(loader)));
            assert_eq!(seen, Path::new("/d").join(lib).join("e/x.so"), "by {loader}");
        }
        assert_eq!(expanded_by(Path::new("/d/$LIB/x.so"), None), Path::new("/d/$LIB/x.so"));
        let other = Path::new("/d/$LIBRARY/x.so");
        assert_eq!(expanded_by(other, Some(Path::new("/lib/ld.so"))), other);
    }
}
