//! Directories of a test's own.

use std::fs::{self, Permissions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::ROOT;

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
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod works");
}
