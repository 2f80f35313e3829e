//! How the kernel and the dynamic loader will treat COMMAND: which file runs, and whether anything can
//! be preloaded into it.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use egress_shim_core::elf::{Architecture, Elf};

use crate::library::{self, Library};
use crate::output::{Failure, status};

/// Finds the file that execvp(3) would run.
///
/// # Errors
/// The reason why no file can be run, with the exit status.
pub fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.display();
    if name.is_empty() {
        return Err(Failure::new(status::NOT_FOUND, "COMMAND is an empty string"));
    }
    let mut failure = Failure::new(
        status::NOT_FOUND,
        if name.as_bytes().contains(&b'/') {
            format!("{shown}: no such file")
        } else {
            format!("{shown}: not found in PATH ({})", path.display())
        },
    );
    for file in candidates(name, path) {
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let shown = file.display();
        if metadata.is_dir() {
            failure = Failure::new(status::CANNOT_RUN, format!("{shown} is a directory"));
        } else if metadata.is_file() && is_executable(&file) {
            return Ok(file);
        } else {
            failure = Failure::new(status::CANNOT_RUN, format!("{shown} is not executable"));
        }
    }
    Err(failure)
}

fn candidates(name: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        // A script's name becomes an argument of its interpreter, which must not take it for an option.
        let prefix = if name.as_bytes().starts_with(b"-") { "./" } else { "" };
        return vec![Path::new(prefix).join(name)];
    }
    let directories = path.as_bytes().split(|&byte| byte == b':');
    // An empty element is the current directory.
    directories
        .map(|directory| if directory.is_empty() { b"." } else { directory })
        .map(|directory| Path::new(OsStr::from_bytes(directory)).join(name))
        .collect()
}

fn is_executable(file: &Path) -> bool {
    let Ok(file) = CString::new(file.as_os_str().as_bytes()) else { return false };
    // SAFETY: faccessat(2) with a C string.
    unsafe { libc::faccessat(libc::AT_FDCWD, file.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// The program that the kernel loads in the end.
pub struct Program {
    /// Its file. For a script this is the interpreter.
    pub file: PathBuf,
    /// `None` if the file cannot be read, or is not an ELF file.
    pub elf: Option<Elf>,
    /// A text without `#!`, which execvp(3) gives to /bin/sh.
    pub is_text: bool,
}

/// The longest chain of `#!` lines: `BINPRM_MAX_RECURSION` in the kernel's fs/exec.c.
const MOST_INTERPRETERS: usize = 5;

/// Follows `#!` lines from a file to the program that the kernel loads in the end.
///
/// # Errors
/// An interpreter that is not there.
pub fn examine(file: &Path, path: &OsStr) -> Result<Program, Failure> {
    let mut program = Program { file: file.to_owned(), elf: None, is_text: false };
    for depth in 0..=MOST_INTERPRETERS {
        let Ok(mut opened) = File::open(&program.file) else { break };
        let mut start = Vec::new();
        let _ = opened.by_ref().take(1024).read_to_end(&mut start);
        if start.starts_with(b"\x7fELF") {
            program.elf = Elf::read(|at, length| library::read_at(&opened, at, length));
            break;
        }
        let Some(line) = start.strip_prefix(b"#!") else {
            // A file with a NUL is not a script; binfmt_misc may know it.
            program.is_text = depth == 0 && !start.contains(&0);
            break;
        };
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let Some(interpreter) = interpreter(&program.file, line, path)? else { break };
        program.file = interpreter;
    }
    Ok(program)
}

/// The program that a `#!` line names, directly or through env(1).
fn interpreter(script: &Path, line: &[u8], path: &OsStr) -> Result<Option<PathBuf>, Failure> {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let Some(word) = words.next() else { return Ok(None) };
    let file = Path::new(OsStr::from_bytes(word));
    if !file.is_file() || !is_executable(file) {
        let (name, why) = match word.strip_suffix(b"\r") {
            Some(name) => (name, " (that line ends in a carriage return)"),
            None => (word, ""),
        };
        return Err(Failure::new(
            status::CANNOT_RUN,
            format!(
                "{} cannot be run: its interpreter {} is not there or not executable{why}",
                script.display(),
                OsStr::from_bytes(name).display()
            ),
        ));
    }
    if file.file_name() != Some(OsStr::new("env")) {
        return Ok(Some(file.to_owned()));
    }
    let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    // If the program is not found, env's own message is better.
    Ok(find(OsStr::from_bytes(name.unwrap_or_default()), path).ok())
}

/// Reads the headers of a file, if it is an ELF file.
pub fn elf_of(path: &Path) -> Option<Elf> {
    let file = File::open(path).ok()?;
    Elf::read(|at, length| library::read_at(&file, at, length))
}

/// The reason why the library does not work in a program.
pub struct Obstacle {
    /// The program, and what it is.
    pub why: String,
    /// The consequence, and the way out.
    pub instead: String,
    /// The way out alone, if the library would then work.
    pub fix: Option<&'static str>,
    /// Whether the loader may still load the library.
    pub loads: bool,
}

const NARROW: &str = "install the 32-bit library (docs/MULTILIB.md)";
const NOT_LOADED: &str = "it runs without egress-shim, but programs that it starts may load it";
const GO: &str = "Go makes its system calls without libc, so its connections get no keepalive; \
                  if it is built with cgo, GODEBUG=netdns=cgo sends its lookups through libc";

impl Program {
    /// The dynamic loader that its file names.
    pub fn interpreter(&self) -> Option<&Path> {
        let path = self.elf.as_ref()?.interpreter.as_deref()?;
        Some(Path::new(OsStr::from_bytes(path)))
    }

    /// Refuses a library that is neither for this program nor for programs like this command.
    ///
    /// # Errors
    /// It is for another architecture.
    pub fn refuse_foreign(&self, library: &Library) -> Result<(), Failure> {
        let architecture = |file: &Path| elf_of(file).map(|elf| elf.architecture);
        let library = library.file_in(self);
        let (Some(elf), Some(ours)) = (&self.elf, architecture(&library)) else { return Ok(()) };
        if ours == elf.architecture || architecture(Path::new("/proc/self/exe")) == Some(ours) {
            return Ok(());
        }
        let (library, file) = (library.display(), self.file.display());
        let message = format!(
            "{library} is {ours}, but {file} is {}: use the library for that architecture",
            elf.architecture
        );
        Err(Failure::new(status::FAILED, message))
    }

    /// The obstacle that keeps the library from working in this program, if there is one.
    pub fn obstacle(&self, library: &Library) -> Option<Obstacle> {
        // Another egress-shim puts the library into the program that it runs.
        if self.file.file_name() == Some(OsStr::new("egress-shim")) {
            return None;
        }
        let file = self.file.display();
        let not_loaded = |why| {
            let instead = NOT_LOADED.to_owned();
            Some(Obstacle { why, instead, fix: None, loads: false })
        };
        if let Some(elf) = &self.elf {
            // The dynamic loader has no interpreter, but does preload when it is started by hand.
            let is_loader = self.file.file_name().is_some_and(|name| {
                let name = name.as_bytes();
                name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
            });
            if elf.is_static && !is_loader {
                let why =
                    format!("{file} is statically linked, so nothing can be preloaded into it");
                if elf.is_go {
                    let why = format!(
                        "{file} is a Go program and is statically linked, so nothing can be preloaded into it"
                    );
                    return not_loaded(why);
                }
                return not_loaded(why);
            }
            let library = library.file_in(self);
            if let Some(ours) =
                elf_of(&library).filter(|ours| ours.architecture != elf.architecture)
            {
                let library = library.display();
                let (program, ours) = (elf.architecture, ours.architecture);
                let why = format!("{file} is {program}, but {library} is {ours}");
                if !differ_in_word_size(program, ours) {
                    return not_loaded(why);
                }
                let instead = format!("{NARROW}; until then {NOT_LOADED}");
                return Some(Obstacle { why, instead, fix: Some(NARROW), loads: false });
            }
        }
        if let Some(who) = self.privilege() {
            return not_loaded(format!("{file} {who}, so the loader ignores LD_PRELOAD for it"));
        }
        let go = self.elf.as_ref().is_some_and(|elf| elf.is_go);
        go.then(|| Obstacle {
            why: format!("{file} is a Go program"),
            instead: GO.to_owned(),
            fix: None,
            loads: true,
        })
    }

    /// The reason why the loader ignores `LD_PRELOAD`: `AT_SECURE`, which `cap_bprm_creds_from_file` in the kernel's
    /// security/commoncap.c sets if the new effective IDs differ from the real ones, or if file
    /// capabilities count, which they do for everyone but root.
    fn privilege(&self) -> Option<String> {
        let metadata = fs::metadata(&self.file).ok()?;
        let who = set_id(&metadata).or_else(|| {
            // SAFETY: getuid(2) always succeeds.
            let is_root = unsafe { libc::getuid() } == 0;
            (!is_root && has_capabilities(&self.file)).then(|| "has file capabilities".to_owned())
        })?;
        (!is_nosuid(&self.file)).then_some(who)
    }
}

/// Whether these are the 32-bit and the 64-bit programs that one kernel runs.
pub fn differ_in_word_size(narrow: Architecture, wide: Architecture) -> bool {
    // e_machine: x86 and x86-64, ARM and AArch64.
    matches!((narrow.machine, wide.machine), (3, 62) | (40, 183))
}

fn set_id(metadata: &Metadata) -> Option<String> {
    // If the group may not execute the file, the set-group-ID bit means mandatory locking.
    const SET_GROUP: u32 = libc::S_ISGID | libc::S_IXGRP;
    // SAFETY: prctl(2) without a pointer; getuid(2) and getgid(2) always succeed.
    let (no_new_privileges, user, group) = unsafe {
        (libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, libc::getuid(), libc::getgid())
    };
    if no_new_privileges {
        None
    } else if metadata.mode() & libc::S_ISUID != 0 && metadata.uid() != user {
        Some(format!("is set-user-ID to user {}", metadata.uid()))
    } else if metadata.mode() & SET_GROUP == SET_GROUP && metadata.gid() != group {
        Some(format!("is set-group-ID to group {}", metadata.gid()))
    } else {
        None
    }
}

/// Whether a file gives capabilities to its program (`struct vfs_cap_data` in linux/capability.h). Capabilities that are
/// only inheritable do not count.
fn has_capabilities(file: &Path) -> bool {
    let Ok(file) = CString::new(file.as_os_str().as_bytes()) else { return false };
    let mut data = [0_u8; 24];
    // SAFETY: two C strings and a local of the length given.
    let length = unsafe {
        libc::getxattr(
            file.as_ptr(),
            c"security.capability".as_ptr(),
            data.as_mut_ptr().cast(),
            data.len(),
        )
    };
    usize::try_from(length).is_ok_and(|length| length > 0) && gives_capabilities(&data)
}

/// The data has the flags, then the permitted and the inheritable capabilities: the lower 32 of each, then the upper 32.
fn gives_capabilities(data: &[u8; 24]) -> bool {
    const EFFECTIVE: u32 = 1;
    let (words, _) = data.as_chunks::<4>();
    let [flags, permitted, _, upper, ..] = words else { return false };
    u32::from_le_bytes(*flags) & EFFECTIVE != 0 || *permitted != [0; 4] || *upper != [0; 4]
}

/// Whether the file is on a mount where set-user-ID bits and file capabilities do not count.
fn is_nosuid(file: &Path) -> bool {
    let Ok(file) = CString::new(file.as_os_str().as_bytes()) else { return false };
    // SAFETY: a C string and a zeroed local, which statvfs(3) fills; all zeros are a valid statvfs.
    unsafe {
        let mut status: libc::statvfs = std::mem::zeroed();
        libc::statvfs(file.as_ptr(), &raw mut status) == 0 && status.f_flag & libc::ST_NOSUID != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn capabilities_of_either_word_count_and_inheritable_ones_do_not() {
        let with = |word: usize, value: u32| {
            let mut data = [0; 24];
            // VFS_CAP_REVISION_2
            data[..4].copy_from_slice(&0x0200_0000_u32.to_le_bytes());
            data[4 * word..4 * word + 4].copy_from_slice(&value.to_le_bytes());
            gives_capabilities(&data)
        };
        assert!(with(0, 0x0200_0001), "effective");
        assert!(with(1, 1) && with(3, 1 << 8), "permitted");
        assert!(!with(2, 1) && !with(4, 1) && !with(0, 0x0200_0000), "inheritable");
    }

    /// A directory with files of these modes and texts, gone at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn with(name: &str, files: &[(&str, u32, &str)]) -> Self {
            let own = format!("egress-shim-program.{}.{name}", std::process::id());
            let directory = Self(std::env::temp_dir().join(own));
            for (file, mode, text) in files {
                let file = directory.0.join(file);
                fs::create_dir_all(file.parent().expect("it is in here")).expect("it can be made");
                fs::write(&file, text).expect("it can be written");
                fs::set_permissions(&file, PermissionsExt::from_mode(*mode)).expect("it is ours");
            }
            directory
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_search_goes_on_behind_a_file_that_is_not_executable() {
        let files = [("a/app", 0o644, ""), ("b/app", 0o755, ""), ("a/other", 0o644, "")];
        let directory = Directory::with("search", &files);
        let path = [directory.0.join("a"), directory.0.join("b")];
        let path = std::env::join_paths(&path).expect("no colon");
        let found = find(OsStr::new("app"), &path).expect("it is there");
        assert_eq!(found, directory.0.join("b/app"));
        let failure = find(OsStr::new("other"), &path).expect_err("it is not executable");
        assert_eq!(failure.status, status::CANNOT_RUN);
    }

    #[test]
    fn a_text_is_the_shells_and_one_behind_an_interpreter_is_not() {
        let directory = Directory::with("text", &[("plain", 0o755, "echo hello\n")]);
        let plain = directory.0.join("plain");
        let script = directory.0.join("script");
        fs::write(&script, format!("#!{}\n", plain.display())).expect("it can be written");
        let is_text = |file| examine(file, OsStr::new("")).expect("it is there").is_text;
        assert!(is_text(&plain));
        assert!(!is_text(&script));
    }
}
