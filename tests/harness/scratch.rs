//! Directories of a test's own.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::ROOT;
use super::environment::shipped;
use super::run::{bare, output, said, without_settings};

/// An empty directory of a test's own, below `target`. It goes with the test, unless that fails.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("scratch-{}-{number}", std::process::id());
        let path = Path::new(ROOT).join("target/tmp").join(name);
        fs::create_dir_all(&path).expect("target can be written to");
        Self(path)
    }

    /// Writes a file, and the directories that it is in.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it can be made");
        fs::write(&path, text).expect("target can be written to");
        path
    }

    /// A path in here as the value of a setting.
    pub fn text(&self, name: &str) -> String {
        text(&self.join(name)).to_owned()
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A directory that all may enter and that goes with the test.
pub struct Public(pub PathBuf);

impl Public {
    /// A root in which musl, this program made of tests/programs/show.c, the command and the library are all
    /// that there is.
    pub fn with_musl(program: &str) -> Self {
        let root = Self::new();
        let source = format!("{ROOT}/tests/programs/show.c");
        let file = root.path(program);
        output(bare("musl-gcc").args(["-std=gnu11", "-O1", &source, "-o"]).arg(&file));
        let loader = format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH);
        root.copy(&loader, &loader[1..]);
        root.copy(shipped("egress-shim"), "egress-shim");
        root.copy(shipped("libegress_shim.so"), "libegress_shim.so");
        root
    }

    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("egress-shim-command.{}.{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the temporary directory can be written to");
        mode(&path, 0o755);
        Self(path)
    }

    /// With the command in `bin` and the library in `lib`, so that any user can reach both.
    pub fn installed() -> (Self, PathBuf) {
        let public = Self::new();
        let command = public.copy(shipped("egress-shim"), "bin/egress-shim");
        public.copy(shipped("libegress_shim.so"), "lib/libegress_shim.so");
        (public, command)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in here")).expect("it can be made");
        path
    }

    pub fn copy(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let bytes = fs::read(from).expect("the file can be read");
        self.write(name, bytes)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        write_executable(&path, bytes.as_ref());
        path
    }

    /// A copy of a file with some of its bytes changed.
    pub fn patched(&self, from: &str, name: &str, patch: impl Fn(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = fs::read(from).expect("the file can be read");
        patch(&mut bytes);
        self.write(name, &bytes)
    }

    /// A program that ends with status 0.
    pub fn compile(&self, name: &str, flags: &[&str]) -> PathBuf {
        self.compile_text(name, "int main(void) { return 0; }\n", flags)
    }

    pub fn compile_text(&self, name: &str, text: &str, flags: &[&str]) -> PathBuf {
        let source = self.write("main.c", text);
        let path = self.path(name);
        output(bare("cc").args(flags).arg(source).arg("-o").arg(&path));
        path
    }

    /// Copies a program to its own place in here, with the libraries that it needs.
    pub fn with_program(&self, program: &str) {
        self.copy(program, program.trim_start_matches('/'));
        for word in output(bare("ldd").arg(program)).split_whitespace() {
            if let Some(name) = word.strip_prefix('/') {
                self.copy(word, name);
            }
        }
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is in `target/NAME`, made by a shell script (its `$1`, an empty directory) if it is not
/// there yet. Several tests, also of several processes, may ask for it at once.
pub fn cached(name: &str, script: &str) -> PathBuf {
    let path = Path::new(ROOT).join("target").join(name);
    fs::create_dir_all(path.parent().expect("it is below target")).expect("target can be written");
    let lock = File::create(path.with_extension("lock")).expect("target can be written");
    // SAFETY: flock(2) on a descriptor that we own; closing it unlocks it.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0, "flock");
    if !path.exists() {
        let _ = io::stderr().write_all(format!("making target/{name}, once\n").as_bytes());
        let new = path.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir(&new).expect("target can be written");
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh"]).arg(&new);
        let output = without_settings(&mut command).output().expect("sh starts");
        assert!(output.status.success(), "target/{name}: {}", said(&output));
        fs::rename(&new, &path).expect("it can be put in place");
    }
    path
}

/// A path as the value of a setting.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of the tests are UTF-8")
}

/// Writes a file that can be executed. The writer is a process of its own: a child that another test starts
/// meanwhile would have a descriptor of this process too, and the file would be busy (ETXTBSY in execve(2)).
pub fn write_executable(path: &Path, bytes: &[u8]) {
    let mut writer = Command::new("tee")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("tee starts");
    writer.stdin.take().expect("its input is a pipe").write_all(bytes).expect("tee reads");
    assert!(writer.wait().expect("tee ends").success(), "tee {}", path.display());
    mode(path, 0o755);
}

/// Sets the mode of a file.
pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod works");
}
