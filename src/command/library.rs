//! The library's place, and the `LD_PRELOAD` that names it.

use std::env;
use std::ffi::{CStr, OsStr, OsString, c_char};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use egress_shim_core::elf::{Architecture, Elf};
use egress_shim_core::settings::IPV4_ONLY;

use crate::loader::{self, DOLLAR_LIB, Loader, expanded, is_musl};
use crate::output::{Failure, status};
use crate::program::{self, Program};
use crate::report::escape;

/// The file's name, by which other copies in `LD_PRELOAD` are recognised.
pub const NAME: &str = "libegress_shim.so";

/// The library, as `LD_PRELOAD` names it. A program needs the file of its own word size. Where programs of both word
/// sizes run, the name holds `$LIB`; docs/MULTILIB.md has the directories.
pub struct Library {
    /// The library's part of `LD_PRELOAD`: one path, or two for musl.
    pub entry: OsString,
    /// The file that was found, and the file for 32-bit programs if it is installed with that one.
    pub files: Vec<(Architecture, PathBuf)>,
}

/// Finds the library.
///
/// # Errors
/// The places that were searched, or the reason why the library cannot be preloaded.
pub fn find(given: Option<&OsStr>) -> Result<Library, Failure> {
    let given = given.map(|path| absolute(Path::new(path)));
    if let Some(entry) = given.as_ref().filter(|path| path.iter().any(|part| part == DOLLAR_LIB)) {
        return Library::of_entry(entry);
    }
    let places = given.as_ref().map_or_else(places, |path| vec![path.clone()]);
    let Some(file) = places.iter().find(|place| place.exists()) else {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let message = format!(
            "cannot find {NAME}; looked for {}; put it in one of these places, or name it with --library PATH",
            places.join(", ")
        );
        return Err(Failure::new(status::FAILED, message));
    };
    refuse_unnameable(file)?;
    let architecture = examine(file)?;
    let entry = file.clone().into();
    let alone = Library { entry, files: vec![(architecture, file.clone())] };
    Ok(if given.is_some() { alone } else { alone.with_its_tree() })
}

/// Refuses a path that the loaders would not take literally from `LD_PRELOAD`. glibc's loader also expands `$ORIGIN`.
fn refuse_unnameable(path: &Path) -> Result<(), Failure> {
    let breaks = |&byte: &u8| byte == b'$' || separates(byte);
    let is_bad = |part: &OsStr| part != DOLLAR_LIB && part.as_bytes().iter().any(breaks);
    if path.iter().any(is_bad) {
        let why =
            "a path in LD_PRELOAD cannot contain white space, a colon or a $ (except in $LIB)";
        let message = format!("{}: {why}; move the library", path.display());
        return Err(Failure::new(status::FAILED, message));
    }
    Ok(())
}

/// The architecture of the library in a file.
fn examine(file: &Path) -> Result<Architecture, Failure> {
    let refuse = |why: &str| Err(Failure::new(status::FAILED, format!("{}{why}", file.display())));
    if !file.is_file() {
        return refuse(&format!(" is not a regular file, as {NAME} must be"));
    }
    if File::open(file).is_err() {
        return refuse(" cannot be read; it must be readable for whoever runs COMMAND");
    }
    let Some(elf) = program::elf_of(file) else { return refuse(" is not a shared library") };
    if version_of(file).is_none() {
        return refuse(" is a library, but not that of egress-shim");
    }
    Ok(elf.architecture)
}

impl Library {
    /// The library of a path with `$LIB`, which must lead every loader here to its own file.
    fn of_entry(entry: &Path) -> Result<Self, Failure> {
        refuse_unnameable(entry)?;
        let refuse = |why: String| {
            Err(Failure::new(status::FAILED, format!("--library {}: {why}", entry.display())))
        };
        let mut files = Vec::new();
        for Loader { path, architecture } in loader::all().into_iter().filter(Loader::is_led) {
            let file = expanded(entry, path);
            let whose = format!("in {architecture} programs this is {}", file.display());
            if !file.exists() {
                return refuse(format!("{whose}, which does not exist"));
            }
            let found = examine(&file)?;
            if found != architecture {
                return refuse(format!("{whose}, which is {found}"));
            }
            files.push((architecture, file));
        }
        if files.is_empty() {
            return refuse(
                "no loader of this machine replaces $LIB; name the file itself".to_owned(),
            );
        }
        Ok(Self { entry: entry.into(), files })
    }

    /// Adds the file for 32-bit programs, if it is installed with this one.
    fn with_its_tree(mut self) -> Self {
        let [(own, ref file)] = self.files[..] else { return self };
        let Some(directory) = file.parent() else { return self };
        let trees = [directory.to_owned(), directory.join("egress-shim")];
        let mut narrow = trees.iter().map(|tree| tree.join("lib32").join(NAME));
        let Some(narrow) = narrow.find_map(|file| Some((examine(&file).ok()?, file))) else {
            return self;
        };
        self.files.push(narrow);
        let mut loaders = loader::all();
        if loaders.iter().all(|loader| loader.architecture == own) {
            return self;
        }
        if loaders.iter().all(|loader| is_musl(loader.path)) {
            // musl silently skips a file of the other word size.
            let files: Vec<_> = self.files.iter().map(|(_, file)| file.as_os_str()).collect();
            self.entry = files.join(OsStr::new(":"));
            return self;
        }
        let entries = trees.iter().flat_map(|tree| {
            ["", "archlinux"].map(|family| tree.join(family).join(DOLLAR_LIB).join(NAME))
        });
        loaders.retain(Loader::is_led);
        let fits = |entry: &PathBuf| {
            loaders.iter().all(|loader| is_for(&expanded(entry, loader.path), loader.architecture))
        };
        if let Some(entry) = entries.into_iter().find(fits) {
            self.entry = entry.into();
        }
        self
    }

    /// The library for one program: its own file, if `$LIB` does not lead there.
    pub fn for_program(mut self, program: &Program) -> Self {
        let [_, (narrow, ref file)] = self.files[..] else { return self };
        if program.elf.as_ref().is_some_and(|elf| elf.architecture == narrow)
            && !is_for(&self.file_in(program), narrow)
        {
            self.entry = file.into();
        }
        self
    }

    /// The file that the loader of a program takes: the one for its architecture, or else the first.
    pub fn file_in(&self, program: &Program) -> PathBuf {
        let Some(elf) = &program.elf else {
            // A script that /bin/sh runs, or a program that cannot be read.
            return self.files.first().map(|(_, file)| file.clone()).unwrap_or_default();
        };
        let loader = program.interpreter().unwrap_or(&program.file);
        let mut files = entries(self.entry.as_bytes())
            .map(|entry| expanded(Path::new(OsStr::from_bytes(entry)), loader));
        let first = files.next().unwrap_or_default();
        let is_its = |file: &PathBuf| is_for(file, elf.architecture);
        if is_its(&first) { first } else { files.find(is_its).unwrap_or(first) }
    }

    /// The directory to mount into a container, and the path below it that `LD_PRELOAD` needs there.
    pub fn for_container(&self, elf: Option<&Elf>) -> (PathBuf, PathBuf) {
        let (wide, directory) = match self.files.first() {
            Some((architecture, file)) => (architecture, file.parent().unwrap_or(file)),
            None => return Default::default(),
        };
        let narrow = self.files.get(1).zip(elf).filter(|(_, elf)| elf.architecture != *wide);
        let below = narrow.and_then(|((_, file), elf)| {
            let below = file.strip_prefix(directory).ok()?;
            let loader = elf.interpreter.as_deref().map(OsStr::from_bytes).map(Path::new)?;
            let lib = |part| if part == "lib32" { DOLLAR_LIB.as_ref() } else { part };
            Some(if is_musl(loader) { below.to_owned() } else { below.iter().map(lib).collect() })
        });
        (directory.to_owned(), below.unwrap_or_else(|| NAME.into()))
    }
}

/// Whether a file is the library for programs of an architecture.
fn is_for(file: &Path, architecture: Architecture) -> bool {
    program::elf_of(file)
        .is_some_and(|elf| elf.architecture == architecture && version_of(file).is_some())
}

fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(here) = own_directory() {
        places.push(here.join(NAME));
        if let Some(up) = here.parent() {
            places.extend([up.join("lib").join(NAME), up.join("lib/egress-shim").join(NAME)]);
        }
    }
    let system = if cfg!(target_arch = "arm") { "linux-gnueabihf" } else { "linux-gnu" };
    let machine = format!("/usr/lib/{}-{system}", env::consts::ARCH);
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

/// The value of `LD_PRELOAD`: the library first, then the existing entries without other copies of the library, which
/// would do its work twice.
pub fn preload(library: &Library, before: &[u8]) -> Vec<u8> {
    let ours = library.entry.as_bytes();
    let mut value = ours.to_owned();
    for entry in others(before).filter(|&entry| entries(ours).all(|own| own != entry)) {
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

/// Whether a path names a `libegress_shim.so`, perhaps with a version after it.
pub fn is_ours(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.strip_prefix(NAME.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'.' | b' ', ..]))
}

/// Whether the library has this version, and so can answer the question of `--check` (src/check.rs).
pub fn knows_questions(library: &Path) -> bool {
    version_of(library).is_some_and(|version| version.is_this())
}

/// The version of a copy of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Option<Vec<u8>>);

impl Version {
    /// The version of this command.
    #[cfg(test)]
    pub fn this() -> Self {
        Self(Some(env!("CARGO_PKG_VERSION").into()))
    }

    /// The version of a library without a note.
    #[cfg(test)]
    pub fn before_notes() -> Self {
        Self(None)
    }

    /// Whether it is the version of this command.
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

/// The version of our library in an ELF file or in its copy in a process; `None` if it is not our library. The library is
/// known by the ELF note that src/lib.rs gives it. Versions before 0.3.0 have no note: there, the file must have the right
/// `name` and contain the name of a setting. `read` returns at most the given number of bytes from an offset.
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

/// The version of our library in a file; `None` if the file is not our library.
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
