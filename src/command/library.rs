//! Where the library is, and the `LD_PRELOAD` that names it.

use std::env;
use std::ffi::{CStr, OsStr, c_char};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use egress_shim_core::elf::Elf;
use egress_shim_core::settings::IPV4_ONLY;

use crate::output::{Failure, status};
use crate::program;
use crate::report::escape;

/// The file's name, by which another copy is known too.
pub const NAME: &str = "libegress_shim.so";

/// Finds the library.
///
/// # Errors
/// Where it was looked for, or why it cannot be preloaded.
pub fn find(given: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let places = match given {
        Some(path) => vec![absolute(Path::new(path))],
        None => places(),
    };
    let Some(library) = places.iter().find(|place| place.exists()) else {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let message = format!(
            "cannot find {NAME}; looked for {}; put it there, or name it with --library PATH",
            places.join(", ")
        );
        return Err(Failure::new(status::FAILED, message));
    };
    let refuse =
        |why: &str| Err(Failure::new(status::FAILED, format!("{}{why}", library.display())));
    // glibc's loader expands `$ORIGIN` in LD_PRELOAD.
    let breaks = |&byte: &u8| byte == b'$' || separates(byte);
    if library.as_os_str().as_bytes().iter().any(breaks) {
        return refuse(": LD_PRELOAD cannot carry white space, a colon or a $; move the library");
    }
    if !library.is_file() {
        return refuse(&format!(" is not a file, as {NAME} must be"));
    }
    if File::open(library).is_err() {
        return refuse(" cannot be read; it must be readable for whoever runs COMMAND");
    }
    if program::elf_of(library).is_none() {
        return refuse(" is not a shared library");
    }
    if version_of(library).is_none() {
        return refuse(" is a library, but not that of egress-shim");
    }
    Ok(library.clone())
}

fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(here) = own_directory() {
        places.push(here.join(NAME));
        if let Some(up) = here.parent() {
            places.extend([up.join("lib").join(NAME), up.join("lib/egress-shim").join(NAME)]);
        }
    }
    let machine = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    places
        .extend(["/usr/local/lib", "/usr/lib", &machine].map(|place| Path::new(place).join(NAME)));
    places
}

/// The directory of this program's file, links resolved.
fn own_directory() -> Option<PathBuf> {
    let file = env::current_exe().ok().or_else(|| {
        // Where /proc is not mounted: the name that execve(2) was given.
        // SAFETY: getauxval(3) gives null or the address of a C string that lives as long as the process.
        let name = unsafe {
            let name = libc::getauxval(libc::AT_EXECFN) as *const c_char;
            (!name.is_null()).then(|| CStr::from_ptr(name))?
        };
        fs::canonicalize(OsStr::from_bytes(name.to_bytes())).ok()
    })?;
    file.parent().map(Path::to_owned)
}

/// A path that stays right in another directory.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The value of `LD_PRELOAD`: the library first, then what was there, but for the library itself: another
/// copy of it would do its work twice.
pub fn preload(library: &Path, before: &[u8]) -> Vec<u8> {
    let mut value = library.as_os_str().as_bytes().to_owned();
    for entry in others(before).filter(|entry| *entry != library.as_os_str().as_bytes()) {
        value.push(b':');
        value.extend_from_slice(entry);
    }
    value
}

/// The other entries of `LD_PRELOAD`.
fn others(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    entries(value).filter(|entry| !is_ours(entry))
}

/// The libraries that a value of `LD_PRELOAD` names.
pub fn entries(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| separates(byte)).filter(|entry| !entry.is_empty())
}

/// Whether the loaders split `LD_PRELOAD` there: at colons and white space, glibc's and musl's alike.
fn separates(byte: u8) -> bool {
    matches!(byte, b':' | 0x0b) || byte.is_ascii_whitespace()
}

/// Whether a path is that of a `libegress_shim.so`, perhaps with a version behind it.
pub fn is_ours(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.strip_prefix(NAME.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'.' | b' ', ..]))
}

/// Whether the library is of this version, and so answers what `--check` asks (src/check.rs).
pub fn knows_questions(library: &Path) -> bool {
    version_of(library).is_some_and(|version| version.is_this())
}

/// The version in a library of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Option<Vec<u8>>);

impl Version {
    /// This command's.
    #[cfg(test)]
    pub fn this() -> Self {
        Self(Some(env!("CARGO_PKG_VERSION").into()))
    }

    /// That of a library without a note.
    #[cfg(test)]
    pub fn before_notes() -> Self {
        Self(None)
    }

    /// Whether it is this command's.
    pub fn is_this(&self) -> bool {
        self.0.as_deref() == Some(env!("CARGO_PKG_VERSION").as_bytes())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(version) => f.write_str(&escape(version)),
            None => f.write_str("0.2.0 or older"),
        }
    }
}

/// Whether an ELF file, or its copy in a process, is our library, and of which version. It is known by its build: the
/// ELF note that src/lib.rs gives it. Versions before 0.3.0 have none; there, a file of the right `name` must hold a
/// word of ours too. `read` returns at most the given number of bytes from an offset.
pub fn identify(
    name: &[u8],
    mut read: impl FnMut(u64, usize) -> Option<Vec<u8>>,
) -> Option<Version> {
    const LARGEST: usize = 1 << 20;
    let elf = Elf::read(&mut read)?;
    if elf.version.is_some() {
        return Some(Version(elf.version));
    }
    let word = IPV4_ONLY.variable.as_bytes();
    let is_old = is_ours(name)
        && elf.interpreter.is_none()
        && read(0, LARGEST)?.windows(word.len()).any(|part| part == word);
    is_old.then_some(Version(None))
}

/// Whether a file is our library, and of which version.
pub fn version_of(path: &Path) -> Option<Version> {
    let file = File::open(path).ok()?;
    identify(path.as_os_str().as_bytes(), |at, length| read_at(&file, at, length))
}

/// At most `length` bytes of a file, from an offset on.
pub fn read_at(file: &File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // In the memory of a process, the following pages may not be mapped.
            Err(_) if filled > 0 => break,
            Err(_) => return None,
        }
    }
    bytes.truncate(filled);
    Some(bytes)
}
