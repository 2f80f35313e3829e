//! The environment that COMMAND gets: this process's own, byte for byte, except for the variables of egress-shim.
//!
//! std's view of the environment would drop entries without `=`, and cannot tell which of two entries comes first.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};

/// Entries as execve(2) takes them, in their order.
#[derive(Clone)]
pub struct Environment(Vec<Cow<'static, CStr>>);

impl Environment {
    /// The environment of this process.
    pub fn of_this_process() -> Self {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        let mut entries = Vec::new();
        // SAFETY: environ(7) is null or a null-terminated array of C strings; nothing here changes it.
        unsafe {
            let mut next = environ;
            while !next.is_null() && !(*next).is_null() {
                entries.push(Cow::Borrowed(CStr::from_ptr(*next)));
                next = next.add(1);
            }
        }
        Self(entries)
    }

    /// The environment of another process, as /proc/PID/environ has it.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let entries = bytes.split(|&byte| byte == 0).filter(|entry| !entry.is_empty());
        Self(entries.filter_map(|entry| CString::new(entry).ok().map(Cow::Owned)).collect())
    }

    /// The entries, `NAME=value` mostly.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.0.iter().map(|entry| entry.to_bytes())
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.entries().filter_map(move |entry| value_of(entry, name))
    }

    /// The value that getenv(3) finds: the first.
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The value that the dynamic loaders find: the last.
    pub fn last<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).last()
    }

    /// Sets a variable, in the place of its first entry if there is one. Other entries of the same name are removed,
    /// because shells would take the last.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let mut entry = [name.as_bytes(), b"=", value].concat();
        entry.retain(|&byte| byte != 0); // no word of a command line holds one
        let entry = CString::new(entry).unwrap_or_default();
        let place = self.entries().position(|entry| value_of(entry, name).is_some());
        match place {
            Some(place) => {
                self.remove(name);
                self.0.insert(place, Cow::Owned(entry));
            }
            None => self.0.push(Cow::Owned(entry)),
        }
    }

    /// Removes each entry of a variable.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|entry| value_of(entry.to_bytes(), name).is_none());
    }

    /// The array for execve(2), valid as long as this value lives.
    pub fn pointers(&self) -> Vec<*const c_char> {
        pointers(self.0.iter().map(AsRef::as_ref))
    }

    /// The bytes that execve(2) copies.
    pub fn size(&self) -> usize {
        self.0
            .iter()
            .map(|entry| entry.to_bytes_with_nul().len() + size_of::<*const c_char>())
            .sum()
    }
}

fn value_of<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// A null-terminated array of C strings, valid as long as the strings live.
pub fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    strings.map(CStr::as_ptr).chain([std::ptr::null()]).collect()
}
