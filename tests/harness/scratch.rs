//! Directories of a test's own.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
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
