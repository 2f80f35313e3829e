//! ELF files: how the dynamic loader and the kernel will treat a file, and whether it is our library.
//!
//! The bytes are untrusted. At most a few hundred KiB are read, however large a file claims to be.

use std::fmt;

/// The name of the ELF note that the library carries.
const OWN_NAME: [u8; 12] = *b"egress-shim\0";
/// The type of that note.
const OWN_TYPE: u32 = 1;
/// The length of its descriptor: the library's version, padded with NULs.
const OWN_SIZE: usize = 16;

/// The ELF note that the library carries, and by which it is recognised.
#[repr(C, align(4))]
pub struct OwnNote {
    name_size: u32,
    descriptor_size: u32,
    kind: u32,
    name: [u8; OWN_NAME.len()],
    descriptor: [u8; OWN_SIZE],
}

impl OwnNote {
    /// The note of this version.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "it is made when the library is compiled")]
    pub const fn new(version: &str) -> Self {
        let mut descriptor = [0; OWN_SIZE];
        let mut index = 0;
        while index < version.len() {
            descriptor[index] = version.as_bytes()[index];
            index += 1;
        }
        let (name_size, descriptor_size) = (12, 16);
        Self { name_size, descriptor_size, kind: OWN_TYPE, name: OWN_NAME, descriptor }
    }
}

/// `e_machine` of the architectures that have a name here.
const MACHINES: [(u16, &str); 5] =
    [(3, "x86"), (40, "ARM"), (62, "x86-64"), (183, "AArch64"), (243, "RISC-V")];

/// The architecture, which a program and its libraries must share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Whether addresses have 64 bits.
    pub is_wide: bool,
    /// Whether the lowest byte comes first.
    pub is_little_endian: bool,
    /// `e_machine`.
    pub machine: u16,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_wide { "64-bit " } else { "32-bit " })?;
        match MACHINES.iter().find(|(machine, _)| *machine == self.machine) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "ELF machine {}", self.machine),
        }
    }
}

/// The facts in the headers of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Its architecture.
    pub architecture: Architecture,
    /// The path of its dynamic loader.
    pub interpreter: Option<Vec<u8>>,
    /// Whether the file names no loader: it is statically linked, a library, or a loader itself. False if its headers
    /// are cut off, because those prove nothing.
    pub is_static: bool,
    /// Whether the Go toolchain has made it.
    pub is_go: bool,
    /// The version of egress-shim, if the file is its library.
    pub version: Option<Vec<u8>>,
}

/// `PT_INTERP` and `PT_NOTE`.
const INTERPRETER: u32 = 3;
const NOTES: u32 = 4;
/// `ELF_NOTE_GOBUILDID_TAG` in Go's cmd/internal/buildid/note.go.
const GO_BUILD_ID: u32 = 4;
/// At most this many bytes of program headers, and of the notes of one segment, are read.
const LONGEST: u64 = 64 << 10;
/// At most this many segments of notes.
const MOST_NOTES: usize = 16;
/// `PATH_MAX`.
const LONGEST_PATH: u64 = 4096;

impl Elf {
    /// Reads the headers and notes. `read` returns at most the given number of bytes from an offset, fewer at the end
    /// of the file.
    pub fn read(mut read: impl FnMut(u64, usize) -> Option<Vec<u8>>) -> Option<Self> {
        let mut bounded = |at: u64, length: u64, most: u64| {
            read(at, usize::try_from(length.min(most)).unwrap_or_default())
        };
        let header = bounded(0, 64, 64)?;
        let (magic, rest) = header.split_first_chunk()?;
        let [class, data, ..] = *rest else { return None };
        let words = Words {
            is_wide: match class {
                1 => false,
                2 => true,
                _ => return None,
            },
            is_little_endian: match data {
                1 => true,
                2 => false,
                _ => return None,
            },
        };
        if magic != b"\x7fELF" {
            return None;
        }
        let mut elf = Self {
            architecture: Architecture {
                is_wide: words.is_wide,
                is_little_endian: words.is_little_endian,
                machine: words.half(&header, 18)?,
            },
            interpreter: None,
            is_static: false,
            is_go: false,
            version: None,
        };
        let [table, size, count] = if words.is_wide { [32, 54, 56] } else { [28, 42, 44] };
        let table = words.address(&header, table)?;
        let (size, count) = (words.half(&header, size)?, words.half(&header, count)?);
        let length = u64::from(size) * u64::from(count);
        let Some(segments) = bounded(table, length, LONGEST) else { return Some(elf) };
        let mut notes_left = MOST_NOTES;
        for segment in segments.chunks_exact(usize::from(size).max(1)) {
            let [offset, length] = if words.is_wide { [8, 32] } else { [4, 16] };
            let (Some(kind), Some(offset), Some(length)) = (
                words.word(segment, 0),
                words.address(segment, offset),
                words.address(segment, length),
            ) else {
                return Some(elf);
            };
            if kind == INTERPRETER {
                let path = bounded(offset, length, LONGEST_PATH).unwrap_or_default();
                let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
                elf.interpreter = Some(path.to_vec());
            } else if kind == NOTES && notes_left > 0 {
                notes_left -= 1;
                let notes = bounded(offset, length, LONGEST).unwrap_or_default();
                elf.read_notes(words, &notes);
            }
        }
        let is_whole = segments.len() as u64 == length;
        elf.is_static = is_whole && elf.interpreter.is_none();
        Some(elf)
    }

    fn read_notes(&mut self, words: Words, mut notes: &[u8]) {
        while let Some(note) = words.note(notes) {
            self.is_go |= note.name == b"Go\0\0" && note.kind == GO_BUILD_ID;
            if note.name == OWN_NAME && note.kind == OWN_TYPE {
                let version = note.descriptor.split(|&byte| byte == 0).next().unwrap_or_default();
                self.version = Some(version.to_vec());
            }
            notes = note.rest;
        }
    }
}

/// A note, and the notes after it.
struct Note<'a> {
    /// With the NUL that ends it.
    name: &'a [u8],
    kind: u32,
    descriptor: &'a [u8],
    rest: &'a [u8],
}

/// Words in the byte order and size of the file.
#[derive(Clone, Copy)]
struct Words {
    is_wide: bool,
    is_little_endian: bool,
}

impl Words {
    fn half(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    }

    fn word(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little_endian {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }

    fn address(self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.is_wide {
            return self.word(bytes, at).map(u64::from);
        }
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little_endian {
            u64::from_le_bytes(bytes)
        } else {
            u64::from_be_bytes(bytes)
        })
    }

    /// The first note.
    fn note(self, notes: &[u8]) -> Option<Note<'_>> {
        let [name, descriptor, kind] =
            [self.word(notes, 0)?, self.word(notes, 4)?, self.word(notes, 8)?];
        let (name, descriptor) = (name as usize, descriptor as usize);
        let padded = |length: usize| length.checked_next_multiple_of(4);
        let rest = notes.get(12..)?;
        let after_name = rest.get(padded(name)?..)?;
        Some(Note {
            name: rest.get(..name)?,
            kind,
            descriptor: after_name.get(..descriptor)?,
            rest: after_name.get(padded(descriptor)?..).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of 64 bits with these segments: type, bytes.
    fn file(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(18, 0);
        file.extend(62_u16.to_le_bytes());
        file.resize(32, 0);
        file.extend(64_u64.to_le_bytes());
        file.resize(54, 0);
        file.extend(56_u16.to_le_bytes());
        file.extend(u16::try_from(segments.len()).expect("few").to_le_bytes());
        file.resize(64, 0);
        let mut at = 64 + 56 * segments.len();
        for (kind, bytes) in segments {
            let mut header = kind.to_le_bytes().to_vec();
            header.resize(8, 0);
            header.extend((at as u64).to_le_bytes());
            header.resize(32, 0);
            header.extend((bytes.len() as u64).to_le_bytes());
            header.resize(56, 0);
            file.extend(header);
            at += bytes.len();
        }
        file.extend(segments.iter().flat_map(|(_, bytes)| *bytes));
        file
    }

    fn note(name: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len(), descriptor.len(), kind as usize] {
            note.extend(u32::try_from(word).expect("small").to_le_bytes());
        }
        for part in [name, descriptor] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    fn read(file: &[u8]) -> Option<Elf> {
        Elf::read(|at, length| {
            let rest = file.get(usize::try_from(at).ok()?..)?;
            Some(rest[..length.min(rest.len())].to_vec())
        })
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        let elf = read(&file(&[(1, b""), (3, b"/lib/ld.so\0")])).expect("it is ELF");
        assert_eq!(elf.interpreter.as_deref(), Some(&b"/lib/ld.so"[..]));
        assert!(!elf.is_static);
        assert_eq!(elf.architecture.to_string(), "64-bit x86-64");
        assert!(read(&file(&[(1, b"")])).expect("it is ELF").is_static);
    }

    #[test]
    fn headers_that_are_cut_off_prove_nothing() {
        let whole = file(&[(1, b""), (1, b"")]);
        assert!(!read(&whole[..64 + 56]).expect("it is ELF").is_static);
        assert_eq!(read(&whole[..40]), None);
        assert_eq!(read(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn the_library_is_known_by_its_note() {
        let ours = note(&OWN_NAME, OWN_TYPE, b"1.2.3\0\0\0\0\0\0\0\0\0\0\0");
        let notes = [note(b"GNU\0", 3, b"id"), ours.clone()].concat();
        let version = |notes: &[u8]| read(&file(&[(4, notes)])).expect("it is ELF").version;
        assert_eq!(version(&notes), Some(b"1.2.3".to_vec()));
        assert_eq!(version(&note(&OWN_NAME, 2, b"1.2.3")), None, "another type");
        assert_eq!(version(&note(b"egress-shin\0", 1, b"1.2.3")), None, "another name");
        assert_eq!(version(&ours[..ours.len() - 4]), None, "cut off");
    }

    #[test]
    fn only_the_build_id_of_go_tells_its_programs() {
        let is_go = |notes: &[u8]| read(&file(&[(4, notes)])).expect("it is ELF").is_go;
        assert!(is_go(&note(b"Go\0\0", 4, b"id")));
        assert!(!is_go(&note(b"Go\0\0", 3, b"id")));
        assert!(!is_go(&note(b"GNU\0", 4, b"id")));
    }

    #[test]
    fn a_note_of_any_size_costs_little() {
        let mut asked = 0;
        let huge = file(&[(4, &note(b"GNU\0", 3, b"id"))]);
        let elf = Elf::read(|at, length| {
            asked += length;
            let mut file = huge.clone();
            // The segment claims 1 TiB, and so does its note.
            file[64 + 32..64 + 40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
            file[64 + 56..64 + 60].copy_from_slice(&u32::MAX.to_le_bytes());
            let rest = file.get(usize::try_from(at).ok()?..)?;
            Some(rest[..length.min(rest.len())].to_vec())
        });
        assert_eq!(elf.expect("it is ELF").version, None);
        assert!(asked < 200 << 10, "{asked} bytes");
    }
}
