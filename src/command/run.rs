//! Running COMMAND in this process.

use std::ffi::{CString, OsStr, OsString, c_int};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::environment::{Environment, pointers};
use crate::library::{self, Library};
use crate::output::{Failure, reason, status};
use crate::program::Program;

/// The path in which programs are searched.
pub fn path(environment: &Environment) -> OsString {
    // The default of execvp(3).
    let path = environment.get("PATH").unwrap_or(b"/bin:/usr/bin");
    OsString::from_vec(path.to_owned())
}

/// Puts the library first in `LD_PRELOAD`.
pub fn preload(environment: &mut Environment, library: &Library) {
    let value = library::preload(library, environment.last("LD_PRELOAD").unwrap_or_default());
    environment.set("LD_PRELOAD", &value);
}

/// Becomes a program.
///
/// # Errors
/// The reason why that is not possible.
pub fn exec(
    file: &Path,
    words: &[OsString],
    program: &Program,
    library: &Library,
    mut environment: Environment,
) -> Result<c_int, Failure> {
    preload(&mut environment, library);
    let mut error = execve(file.as_os_str(), words.iter().map(AsRef::as_ref), &environment);
    if error.raw_os_error() == Some(libc::ENOEXEC) && program.is_text {
        // As execvp(3) does.
        let sh = OsStr::new("/bin/sh");
        let words = words.iter().skip(1).map(AsRef::as_ref);
        let words = [sh, file.as_os_str()].into_iter().chain(words);
        error = execve(sh, words, &environment);
    }
    let file = file.display();
    let interpreter = program.interpreter();
    let message = match interpreter.filter(|interpreter| !interpreter.exists()) {
        Some(interpreter) => {
            let interpreter = interpreter.display();
            format!("{file} cannot be run: its loader (ELF interpreter) {interpreter} is not there")
        }
        None => format!("{file} cannot be run: {}", reason(&error)),
    };
    Err(Failure::new(status::CANNOT_RUN, message))
}

/// execve(2). Returns only if it fails.
pub fn execve<'a>(
    file: &OsStr,
    words: impl Iterator<Item = &'a OsStr>,
    environment: &Environment,
) -> io::Error {
    let c_string = |word: &OsStr| CString::new(word.as_bytes()).unwrap_or_default();
    let file = c_string(file);
    let words: Vec<_> = words.map(c_string).collect();
    let words = pointers(words.iter().map(AsRef::as_ref));
    let environment = environment.pointers();
    // SAFETY: a C string and two null-terminated arrays of C strings, which live until after the call.
    unsafe { libc::execve(file.as_ptr(), words.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
