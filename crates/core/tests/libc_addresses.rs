//! What this machine's libc takes for an address is never listed, and what it takes for a name can be.

use std::ffi::CString;

use egress_shim_core::allowlist::can_be_listed;

/// Whether libc takes a name for an address (`AI_NUMERICHOST`, getaddrinfo(3)): it then asks nobody.
fn is_address_to_libc(name: &str) -> bool {
    let name = CString::new(name).expect("no NUL");
    // SAFETY: all zeros are valid hints; the pointers are to locals and the list is freed once.
    unsafe {
        let mut hints: libc::addrinfo = std::mem::zeroed();
        hints.ai_flags = libc::AI_NUMERICHOST;
        let mut list = std::ptr::null_mut();
        let hints = &raw const hints;
        if libc::getaddrinfo(name.as_ptr(), std::ptr::null(), hints, &raw mut list) != 0 {
            return false;
        }
        libc::freeaddrinfo(list);
        true
    }
}

#[test]
fn what_libc_takes_for_an_address_is_never_listed() {
    let known = "127.0.0.1 127.0.1 127.1 1 0 00 017.1 0x7f.1 0X7F000001 0x7F.0.0.0x1 \
                 4294967295 0xffffffff 037777777777 1.16777215 255.255.255.255 \
                 :: ::1 fe80::1%lo fe80::1%1 2001:db8::192.0.2.1 ::ffff:192.0.2.1 0:0:0:0:0:0:0:1";
    for name in known.split(' ') {
        assert!(is_address_to_libc(name), "libc takes {name} for an address");
        assert!(!can_be_listed(name.as_bytes()), "{name} can be listed");
    }
}

#[test]
fn every_name_of_up_to_five_number_like_labels_is_judged_as_libc_does() {
    const LABELS: [&str; 9] = ["0", "1", "010", "0x1f", "0XA", "256", "65536", "x", "1a"];
    let mut addresses = 0;
    for count in 1..=5 {
        for number in 0..LABELS.len().pow(count) {
            let labels =
                (0..count).map(|place| LABELS[number / LABELS.len().pow(place) % LABELS.len()]);
            let name = labels.collect::<Vec<_>>().join(".");
            let wanted = is_address_to_libc(&name);
            assert_eq!(!can_be_listed(name.as_bytes()), wanted, "{name} is an address");
            addresses += i32::from(wanted);
        }
    }
    assert!(addresses > 500, "only {addresses} of the names were addresses");
}

#[test]
fn a_name_that_only_looks_like_an_address_can_be_listed() {
    // Docker's swarm names tasks web.1; a container's host name may be twelve digits.
    for name in "web.1 a.0x1 1.2.3.4.5 256.1.1.1 123456789012 08 0x 1.2.3.4.example".split(' ') {
        assert!(!is_address_to_libc(name), "libc takes {name} for a name");
        assert!(can_be_listed(name.as_bytes()), "{name} cannot be listed");
    }
}
