//! What `--inspect` reads about foreign processes: whatever /proc, sock_diag(7) and ELF files hold, nothing panics, and
//! what is read is bounded by what is there.

#![no_main]

use egress_shim_core::elf::Elf;
use egress_shim_core::kernel::{self, Mapping, Message, Socket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = kernel::parent(input);
    let _ = kernel::is_overwritten(input);
    for is_wide in [true, false] {
        let _ = kernel::auxiliary(input, is_wide, 23);
    }
    for line in input.split(|&byte| byte == b'\n') {
        if let Some(mapping) = Mapping::of(line) {
            assert!(mapping.inode != 0 && mapping.path.starts_with(b"/"));
        }
        let _ = Socket::of_line(&String::from_utf8_lossy(line), 100);
    }
    let _ = Socket::of_message(input);
    let mut length = 0;
    for message in kernel::messages(input) {
        if let Message::Socket(message) = message {
            length += message.len();
            let _ = Socket::of_message(message);
        }
    }
    assert!(length <= input.len(), "no byte is in two messages");

    let mut asked = 0;
    let elf = Elf::read(|at, length| {
        asked += length;
        let rest = input.get(usize::try_from(at).ok()?..)?;
        Some(rest[..length.min(rest.len())].to_vec())
    });
    assert!(asked <= 16 << 20, "{asked} bytes are asked for");
    if let Some(version) = elf.and_then(|elf| elf.version) {
        assert!(version.len() < input.len());
    }
});
