//! What becomes of a lookup: for a host on the allowlist, the answer that libc would give if the
//! host had no IPv6 address.
//!
//! Every answer is libc's own list, so freeaddrinfo(3) stays libc's. No lock is held and nothing is
//! owned while libc's call runs: it is a cancellation point.

use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::{addrinfo, c_char, c_int};
use once_cell::race::OnceBox;

use crate::allowlist::Allowlist;
use crate::config::{self, Patterns, Problem};
use crate::logging;

/// The type of getaddrinfo(3).
pub type GetAddrInfo = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const addrinfo,
    *mut *mut addrinfo,
) -> c_int;

/// Whether a node is on the allowlist of this process, which the first call loads.
///
/// # Safety
/// The node is null or a C string, as getaddrinfo(3) asks.
#[inline(never)]
#[must_use]
pub unsafe fn is_listed(node: *const c_char) -> bool {
    let errno = logging::errno();
    let listed = match allowlist() {
        Some(allowlist) if !node.is_null() => {
            // SAFETY: not null, so a C string by this function's own contract.
            let name = unsafe { CStr::from_ptr(node) }.to_bytes();
            let listed = allowlist.contains(name);
            let verdict = if listed { "listed, IPv4 only" } else { "not listed, left alone" };
            log::log!(
                if listed { log::Level::Debug } else { log::Level::Trace },
                "getaddrinfo: {}: {verdict}",
                name.escape_ascii()
            );
            listed
        }
        _ => false,
    };
    logging::set_errno(errno);
    listed
}

/// The allowlist of this process; none where no pattern is set.
fn allowlist() -> Option<&'static Allowlist> {
    let patterns = config::settings().ipv4_only.as_ref()?;
    let allowlist = ALLOWLIST.get().unwrap_or_else(|| {
        config::report(&load_allowlist(patterns));
        ALLOWLIST.get_or_init(Box::default)
    });
    (!allowlist.is_empty()).then_some(allowlist)
}

/// The list once loaded. Not a lock but a race that the first to finish wins: a child forked while
/// another thread loads the list must not wait for a thread that it does not have.
static ALLOWLIST: OnceBox<Allowlist> = OnceBox::new();

/// Loads the allowlist and gives what is wrong with its file, to be told by whoever loaded it first.
/// A strict process does so at its start and never again: a file that is gone later, or out of reach
/// after chroot(2) or setuid(2), must not end a program that is running.
pub fn load_allowlist(patterns: &Patterns) -> Vec<Problem> {
    let (allowlist, problems) = patterns.load();
    if ALLOWLIST.set(Box::new(allowlist)).is_ok() { problems } else { Vec::new() }
}

/// The lookup of a listed host: `real`'s answer for the same host without any IPv6 address.
///
/// # Safety
/// `real` is a getaddrinfo(3), and the other arguments are as it asks.
pub unsafe fn lookup_without_ipv6(
    real: GetAddrInfo,
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: null or valid, by this function's own contract.
    let hints = unsafe { hints.as_ref() }.copied().unwrap_or_else(default_hints);
    // SAFETY: this function's own contract.
    unsafe {
        match hints.ai_family {
            libc::AF_UNSPEC => {
                let ipv4 = addrinfo { ai_family: libc::AF_INET, ..hints };
                let status = real(node, service, &raw const ipv4, result);
                if matches!(status, libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY)
                    && ipv4.ai_flags & libc::AI_ADDRCONFIG != 0
                    && !has_family(real, c"127.0.0.1", libc::AF_INET)
                {
                    return on_a_machine_without_ipv4(real, node, service, &hints, result);
                }
                explained(status, node, service, &ipv4)
            }
            libc::AF_INET6 if hints.ai_flags & libc::AI_V4MAPPED != 0 => {
                mapped_addresses(real, node, service, &hints, result)
            }
            libc::AF_INET6 => no_addresses(real, node, service, &hints),
            _ => real(node, service, &raw const hints, result),
        }
    }
}

/// What `hints == NULL` means: glibc's getaddrinfo takes `AI_DEFAULT` then
/// (sysdeps/posix/getaddrinfo.c, `default_hints`), POSIX and musl take no flag.
fn default_hints() -> addrinfo {
    let ai_flags =
        if config::settings().glibc { libc::AI_V4MAPPED | libc::AI_ADDRCONFIG } else { 0 };
    addrinfo {
        ai_flags,
        ai_family: libc::AF_UNSPEC,
        ai_socktype: 0,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: null_mut(),
        ai_canonname: null_mut(),
        ai_next: null_mut(),
    }
}

/// `AF_INET6` with `AI_V4MAPPED`: all addresses as IPv6, of which the mapped ones stay. They are
/// IPv4 on the wire.
///
/// The IPv6 question is asked here, as no call makes libc map addresses of its choice. POSIX lets
/// any part of the list be freed by itself, and both libcs' freeaddrinfo(3) do.
///
/// # Safety
/// As for [`lookup_without_ipv6`].
unsafe fn mapped_addresses(
    real: GetAddrInfo,
    node: *const c_char,
    service: *const c_char,
    hints: &addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    let all = addrinfo { ai_flags: hints.ai_flags | libc::AI_ALL, ..*hints };
    let mut list = null_mut();
    // SAFETY: the caller's arguments, and a local for the list.
    let status = unsafe { real(node, service, &raw const all, &raw mut list) };
    // SAFETY: the list is libc's and nobody else has seen it; the node is the caller's, as above.
    unsafe {
        if status == 0 {
            let (mapped, others) = split(list, hints.ai_flags);
            free(others);
            if !mapped.is_null() {
                *result = mapped;
                return 0;
            }
        }
        // With AI_ALL the error may be that of the IPv6 question.
        no_addresses(real, node, service, hints)
    }
}

/// `AF_INET6` alone: the error that a host with IPv4 addresses alone has, or its own error if it
/// has none of them.
///
/// # Safety
/// As for [`lookup_without_ipv6`].
unsafe fn no_addresses(
    real: GetAddrInfo,
    node: *const c_char,
    service: *const c_char,
    hints: &addrinfo,
) -> c_int {
    // What is wrong with the hints, or with this machine (AI_ADDRCONFIG), is wrong for any node.
    // SAFETY: `real` is a getaddrinfo(3).
    let status = unsafe { of_literal(real, c"::1", service, hints) };
    if status != 0 {
        return status;
    }
    // AI_ADDRCONFIG would now ask whether this machine has IPv4, but the caller asked for IPv6.
    let ai_flags = hints.ai_flags & !libc::AI_ADDRCONFIG;
    let ipv4 = addrinfo { ai_flags, ai_family: libc::AF_INET, ..*hints };
    let mut list = null_mut();
    // SAFETY: the caller's arguments, and a local for the list.
    let status = unsafe { real(node, service, &raw const ipv4, &raw mut list) };
    // SAFETY: the caller's arguments; the list is libc's and nobody else has seen it.
    unsafe {
        if status != 0 {
            return explained(status, node, service, hints);
        }
        free(list);
        if config::settings().glibc {
            return libc::EAI_NODATA;
        }
        // musl says EAI_NONAME up to 1.2.3 and EAI_NODATA since, of a name without an address of
        // the family as of an address of the other one.
        match of_literal(real, c"127.0.0.1", service, hints) {
            0 => libc::EAI_NONAME,
            status => status,
        }
    }
}

/// The status of a lookup of an address in text form, with the caller's service and hints.
///
/// # Safety
/// `real` is a getaddrinfo(3).
unsafe fn of_literal(
    real: GetAddrInfo,
    address: &CStr,
    service: *const c_char,
    hints: &addrinfo,
) -> c_int {
    let ai_flags = (hints.ai_flags | libc::AI_NUMERICHOST) & !libc::AI_V4MAPPED;
    let hints = addrinfo { ai_flags, ..*hints };
    let mut list = null_mut();
    // SAFETY: a C string, the caller's service, valid hints and a local for the list.
    unsafe {
        let status = real(address.as_ptr(), service, &raw const hints, &raw mut list);
        if status == 0 {
            free(list);
        }
        status
    }
}

/// Any family with `AI_ADDRCONFIG` on a machine without IPv4: libc asks for IPv6 alone. If there is none
/// either, glibc asks for both, and musl for nothing.
///
/// # Safety
/// As for [`lookup_without_ipv6`].
unsafe fn on_a_machine_without_ipv4(
    real: GetAddrInfo,
    node: *const c_char,
    service: *const c_char,
    hints: &addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    let ipv6 = addrinfo { ai_family: libc::AF_INET6, ..*hints };
    let both = addrinfo { ai_flags: hints.ai_flags & !libc::AI_ADDRCONFIG, ..*hints };
    // SAFETY: the caller's arguments; after success the result is a list of libc's.
    unsafe {
        if !config::settings().glibc || has_family(real, c"::1", libc::AF_INET6) {
            return lookup_without_ipv6(real, node, service, &raw const ipv6, result);
        }
        let status = lookup_without_ipv6(real, node, service, &raw const both, result);
        let mut next = if status == 0 { *result } else { null_mut() };
        while let Some(node) = next.as_mut() {
            // Each node has the flags of the call; they are to be the caller's.
            node.ai_flags = hints.ai_flags;
            next = node.ai_next;
        }
        status
    }
}

/// Whether this machine has a family in the sense of `AI_ADDRCONFIG`, asked with an address of it.
///
/// # Safety
/// `real` is a getaddrinfo(3).
unsafe fn has_family(real: GetAddrInfo, address: &CStr, ai_family: c_int) -> bool {
    let hints = addrinfo { ai_flags: libc::AI_ADDRCONFIG, ai_family, ..default_hints() };
    // SAFETY: `real` is a getaddrinfo(3).
    unsafe { of_literal(real, address, null(), &hints) == 0 }
}

/// Splits a list into the nodes with IPv4-mapped addresses and the others, each in the order that
/// it had. glibc gives the canonical name to the first node alone; it stays with the first mapped
/// one. glibc also gives each node the flags of the call, which are to be the caller's.
///
/// # Safety
/// The list is one that getaddrinfo(3) gave, unchanged, with IPv6 addresses alone.
unsafe fn split(list: *mut addrinfo, flags: c_int) -> (*mut addrinfo, *mut addrinfo) {
    let (mut mapped, mut others) = (null_mut(), null_mut());
    let (mut mapped_end, mut others_end) = (&raw mut mapped, &raw mut others);
    let mut next = list;
    // SAFETY: `next` walks libc's list up to its null; the two ends point to locals or to the
    // `ai_next` of nodes already passed, which the walk does not read again.
    unsafe {
        while let Some(node) = next.as_mut() {
            next = node.ai_next;
            node.ai_next = null_mut();
            node.ai_flags &= flags;
            let end = if is_mapped(node) { &mut mapped_end } else { &mut others_end };
            **end = node;
            *end = &raw mut node.ai_next;
        }
        if let (Some(mapped), Some(first)) = (mapped.as_mut(), others.as_mut())
            && mapped.ai_canonname.is_null()
        {
            std::mem::swap(&mut mapped.ai_canonname, &mut first.ai_canonname);
        }
    }
    (mapped, others)
}

/// Whether a node's address is IPv4-mapped (`::ffff:0:0/96`, RFC 4291 section 2.5.5.2).
///
/// # Safety
/// The node is libc's.
unsafe fn is_mapped(node: &addrinfo) -> bool {
    if node.ai_family != libc::AF_INET6 || node.ai_addr.is_null() {
        return false;
    }
    // SAFETY: the address of an AF_INET6 node is a sockaddr_in6 (getaddrinfo(3)).
    let address = unsafe { node.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
    address.sin6_addr.s6_addr.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
}

/// Frees a list; musl's freeaddrinfo crashes on the empty one.
///
/// # Safety
/// The list is empty or a list, or part of one, of libc's that nobody uses any more.
unsafe fn free(list: *mut addrinfo) {
    if !list.is_null() {
        // SAFETY: this function's own contract.
        unsafe { libc::freeaddrinfo(list) };
    }
}

/// Passes on the status of a listed host's lookup. Where it says that there is no address, one line
/// per process says why: the program may have had IPv6 addresses of this host before.
///
/// # Safety
/// The node is a C string, and the service null or one.
unsafe fn explained(
    status: c_int,
    node: *const c_char,
    service: *const c_char,
    hints: &addrinfo,
) -> c_int {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let no_address = match status {
        libc::EAI_NODATA | EAI_ADDRFAMILY => true,
        // So are called a name where a number must be, and a service that is not one.
        libc::EAI_NONAME => {
            hints.ai_flags & libc::AI_NUMERICHOST == 0
                && (hints.ai_flags & libc::AI_NUMERICSERV == 0
                    || service.is_null()
                    // SAFETY: not null, so a C string by this function's own contract.
                    || unsafe { CStr::from_ptr(service) }.to_bytes().iter().all(u8::is_ascii_digit))
        }
        _ => false,
    };
    if no_address && !TOLD.swap(true, Relaxed) {
        let errno = logging::errno();
        // SAFETY: listed nodes are C strings, and gai_strerror(3) gives one that lasts.
        let (name, error) =
            unsafe { (CStr::from_ptr(node), CStr::from_ptr(libc::gai_strerror(status))) };
        let what = if status == libc::EAI_NONAME { "no such name, or " } else { "" };
        log::warn!(
            "getaddrinfo: {}: {what}no IPv4 address ({}); the host is on the allowlist, so its IPv6 \
             addresses, if any, are left out (told once per process)",
            name.to_bytes().escape_ascii(),
            error.to_bytes().escape_ascii()
        );
        logging::set_errno(errno);
    }
    status
}

/// glibc's error for a host whose addresses are all of another family (netdb.h).
const EAI_ADDRFAMILY: c_int = -9;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::ffi::CString;
    use std::net::Ipv6Addr;
    use std::ptr::null;

    /// A libc whose only host has `addresses`, and what it was asked for.
    #[derive(Default)]
    struct Libc {
        addresses: Vec<&'static str>,
        /// Node, family, flags, socket type, protocol.
        calls: Vec<(String, c_int, c_int, c_int, c_int)>,
    }

    thread_local! {
        static LIBC: RefCell<Libc> = RefCell::default();
    }

    /// One node: the numeric address, as the real getaddrinfo gives it.
    fn node_of(address: &str, hints: &addrinfo) -> Result<*mut addrinfo, c_int> {
        let address = CString::new(address).expect("an address has no NUL");
        let hints = addrinfo { ai_flags: hints.ai_flags | libc::AI_NUMERICHOST, ..*hints };
        let mut list = null_mut();
        // SAFETY: a C string, no service, valid hints and a local for the list.
        match unsafe {
            libc::getaddrinfo(address.as_ptr(), null(), &raw const hints, &raw mut list)
        } {
            0 => Ok(list),
            status => Err(status),
        }
    }

    /// getaddrinfo of that libc. Its lists are those of the real one, one behind the other, so that
    /// freeaddrinfo(3) may have them: glibc's frees node by node.
    unsafe extern "C" fn fake(
        node: *const c_char,
        _service: *const c_char,
        hints: *const addrinfo,
        result: *mut *mut addrinfo,
    ) -> c_int {
        // SAFETY: the callers are the tests below: a C string, valid hints.
        let (name, hints) = unsafe { (CStr::from_ptr(node).to_str().unwrap(), *hints) };
        let addresses = LIBC.with_borrow_mut(|libc| {
            let addrinfo { ai_family, ai_flags, ai_socktype, ai_protocol, .. } = hints;
            libc.calls.push((name.to_owned(), ai_family, ai_flags, ai_socktype, ai_protocol));
            libc.addresses.clone()
        });
        if hints.ai_flags & libc::AI_NUMERICHOST != 0 {
            // SAFETY: the caller's arguments, to the function that they were meant for.
            return unsafe { libc::getaddrinfo(node, null(), &raw const hints, result) };
        }
        let is_ipv6 = |address: &&str| address.contains(':');
        let (ipv6, ipv4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_ipv6);
        let flag = |flag| hints.ai_flags & flag != 0;
        let chosen = match hints.ai_family {
            libc::AF_INET => ipv4.into_iter().map(str::to_owned).collect(),
            libc::AF_INET6 => {
                let with_ipv4 = flag(libc::AI_V4MAPPED) && (flag(libc::AI_ALL) || ipv6.is_empty());
                let mapped = ipv4.into_iter().map(|address| format!("::ffff:{address}"));
                let mut all: Vec<_> = ipv6.into_iter().map(str::to_owned).collect();
                all.extend(mapped.filter(|_| with_ipv4));
                all
            }
            family => panic!("family {family} was asked for"),
        };
        let mut first = null_mut();
        let mut end = &raw mut first;
        for (index, address) in chosen.iter().enumerate() {
            // As in glibc, the first node alone has the canonical name.
            let not_here = if index == 0 { 0 } else { libc::AI_CANONNAME };
            let hints = addrinfo { ai_flags: hints.ai_flags & !not_here, ..hints };
            // SAFETY: `end` points to a local or into the node before, which nobody has freed.
            unsafe {
                *end = node_of(address, &hints).unwrap();
                end = &raw mut (**end).ai_next;
            }
        }
        if first.is_null() {
            return libc::EAI_NODATA;
        }
        // SAFETY: the caller's pointer for the list.
        unsafe { *result = first };
        0
    }

    fn hints(ai_family: c_int, ai_flags: c_int) -> addrinfo {
        addrinfo { ai_family, ai_flags, ai_socktype: libc::SOCK_STREAM, ..default_hints() }
    }

    fn address(node: &addrinfo) -> String {
        // SAFETY: the address of a node of these two families is of this type (getaddrinfo(3)).
        unsafe {
            if node.ai_family == libc::AF_INET {
                let address = node.ai_addr.cast::<libc::sockaddr_in>().read_unaligned();
                std::net::Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).to_string()
            } else {
                let address = node.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                Ipv6Addr::from(address.sin6_addr.s6_addr).to_string()
            }
        }
    }

    /// The nodes of a list.
    fn nodes<'a>(mut list: *const addrinfo) -> Vec<&'a addrinfo> {
        let mut nodes = Vec::new();
        // SAFETY: the list is whole, and no test looks at a node when it is freed.
        while let Some(node) = unsafe { list.as_ref() } {
            nodes.push(node);
            list = node.ai_next;
        }
        nodes
    }

    const UNTOUCHED: *mut addrinfo = std::ptr::dangling_mut();

    /// What a lookup of `host.example` with these addresses gives, and what libc was asked for.
    fn lookup(
        addresses: &[&'static str],
        hints: *const addrinfo,
    ) -> (Result<Vec<String>, c_int>, Libc) {
        LIBC.set(Libc { addresses: addresses.to_vec(), calls: Vec::new() });
        let mut list = UNTOUCHED;
        let node = c"host.example".as_ptr();
        // SAFETY: a getaddrinfo, a C string, the test's hints and a local for the list.
        let status = unsafe { lookup_without_ipv6(fake, node, null(), hints, &raw mut list) };
        let answer = if status == 0 {
            let addresses = nodes(list).into_iter().map(address).collect();
            // SAFETY: the list is glibc's, and the addresses above are copies.
            unsafe { libc::freeaddrinfo(list) };
            Ok(addresses)
        } else {
            assert_eq!(list, UNTOUCHED, "the caller's pointer after status {status}");
            Err(status)
        };
        (answer, LIBC.take())
    }

    const BOTH: &[&str] = &["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"];
    const IPV4: &[&str] = &["192.0.2.1", "192.0.2.2"];
    const IPV6: &[&str] = &["2001:db8::1", "2001:db8::2"];
    const MAPPED: &[&str] = &["::ffff:192.0.2.1", "::ffff:192.0.2.2"];

    #[test]
    fn a_listed_host_has_its_ipv4_addresses_alone() {
        // Family, flags, the host's addresses, the answer.
        type Row<'a> = (c_int, c_int, &'a [&'static str], Result<&'a [&'a str], c_int>);
        let all = libc::AI_V4MAPPED | libc::AI_ALL;
        let none = Err(libc::EAI_NODATA);
        let table: &[Row<'_>] = &[
            (libc::AF_UNSPEC, 0, BOTH, Ok(IPV4)),
            (libc::AF_UNSPEC, 0, IPV4, Ok(IPV4)),
            (libc::AF_UNSPEC, 0, IPV6, none),
            (libc::AF_UNSPEC, all, BOTH, Ok(IPV4)),
            (libc::AF_INET, 0, BOTH, Ok(IPV4)),
            (libc::AF_INET, 0, IPV6, none),
            (libc::AF_INET6, 0, BOTH, none),
            (libc::AF_INET6, 0, IPV4, none),
            (libc::AF_INET6, 0, IPV6, none),
            (libc::AF_INET6, 0, &[], none),
            (libc::AF_INET6, libc::AI_V4MAPPED, BOTH, Ok(MAPPED)),
            (libc::AF_INET6, libc::AI_V4MAPPED, IPV4, Ok(MAPPED)),
            (libc::AF_INET6, libc::AI_V4MAPPED, IPV6, none),
            (libc::AF_INET6, all, BOTH, Ok(MAPPED)),
            (libc::AF_INET6, all, IPV6, none),
            (libc::AF_INET6, all, &[], none),
            (libc::AF_INET6, libc::AI_ALL, BOTH, none),
        ];
        for (family, flags, addresses, wanted) in table {
            let (seen, _) = lookup(addresses, &hints(*family, *flags));
            let wanted = wanted.map(|list| list.iter().map(ToString::to_string).collect());
            assert_eq!(seen, wanted, "family {family}, flags {flags:#x}, {addresses:?}");
        }
    }

    #[test]
    fn libc_is_asked_for_ipv4_alone_and_for_all_else_as_the_program_asked() {
        let call = |family, flags| {
            vec![("host.example".to_owned(), family, flags, libc::SOCK_STREAM, libc::IPPROTO_TCP)]
        };
        let (canonical, config) = (libc::AI_CANONNAME, libc::AI_ADDRCONFIG);
        let (mapped, all) = (libc::AI_V4MAPPED, libc::AI_ALL);
        for (family, flags, wanted) in [
            (libc::AF_UNSPEC, canonical | config, call(libc::AF_INET, canonical | config)),
            (libc::AF_UNSPEC, mapped | all, call(libc::AF_INET, mapped | all)),
            (libc::AF_INET, canonical, call(libc::AF_INET, canonical)),
            (libc::AF_INET6, mapped, call(libc::AF_INET6, mapped | all)),
        ] {
            let hints = addrinfo { ai_protocol: libc::IPPROTO_TCP, ..hints(family, flags) };
            let (_, libc) = lookup(BOTH, &raw const hints);
            assert_eq!(libc.calls, wanted, "family {family}, flags {flags:#x}");
        }
    }

    #[test]
    fn no_hints_are_the_hints_that_glibc_takes_then() {
        let (answer, libc) = lookup(&["192.0.2.1"], null());
        let flags = libc::AI_V4MAPPED | libc::AI_ADDRCONFIG;
        assert_eq!(libc.calls, [("host.example".to_owned(), libc::AF_INET, flags, 0, 0)]);
        // A node for each socket type.
        assert_eq!(answer.map(|addresses| addresses.len()), Ok(3));
    }

    #[test]
    fn the_question_whether_a_host_has_ipv4_does_not_depend_on_this_machine_having_it() {
        let (_, libc) = lookup(BOTH, &hints(libc::AF_INET6, libc::AI_ADDRCONFIG));
        let about_the_host = libc.calls.iter().find(|(node, ..)| node == "host.example");
        let (_, family, flags, ..) = about_the_host.expect("the host is asked about");
        assert_eq!((*family, *flags), (libc::AF_INET, 0));
    }

    /// The answer of `error`, whoever asks.
    unsafe extern "C" fn failing<const STATUS: c_int>(
        _: *const c_char,
        _: *const c_char,
        _: *const addrinfo,
        _: *mut *mut addrinfo,
    ) -> c_int {
        STATUS
    }

    #[test]
    fn every_error_of_libc_is_passed_on_as_it_is() {
        let libcs: [(GetAddrInfo, c_int); 6] = [
            (failing::<{ libc::EAI_NONAME }>, libc::EAI_NONAME),
            (failing::<{ libc::EAI_AGAIN }>, libc::EAI_AGAIN),
            (failing::<{ libc::EAI_FAIL }>, libc::EAI_FAIL),
            (failing::<{ libc::EAI_SERVICE }>, libc::EAI_SERVICE),
            (failing::<{ libc::EAI_SYSTEM }>, libc::EAI_SYSTEM),
            (failing::<12345>, 12345),
        ];
        for (real, wanted) in libcs {
            for family in [libc::AF_UNSPEC, libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
                for flags in [0, libc::AI_V4MAPPED] {
                    let (mut list, hints) = (UNTOUCHED, hints(family, flags));
                    let (node, hints) = (c"host.example".as_ptr(), &raw const hints);
                    logging::set_errno(77);
                    // SAFETY: a getaddrinfo, a C string, hints and a local for the list.
                    let seen =
                        unsafe { lookup_without_ipv6(real, node, null(), hints, &raw mut list) };
                    let seen = (seen, list, logging::errno());
                    let what = "status, list, errno";
                    assert_eq!(seen, (wanted, UNTOUCHED, 77), "{what} of family {family}, {flags}");
                }
            }
        }
    }

    #[test]
    fn the_canonical_name_comes_with_the_first_mapped_address() {
        let hints = hints(libc::AF_INET6, libc::AI_V4MAPPED | libc::AI_CANONNAME);
        LIBC.set(Libc { addresses: BOTH.to_vec(), calls: Vec::new() });
        let (mut list, node) = (null_mut(), c"host.example".as_ptr());
        // SAFETY: a getaddrinfo, a C string, hints and a local for the list, which is freed once.
        unsafe {
            let hints = &raw const hints;
            assert_eq!(lookup_without_ipv6(fake, node, null(), hints, &raw mut list), 0);
            let names: Vec<_> = nodes(list)
                .iter()
                .map(|node| {
                    (!node.ai_canonname.is_null()).then(|| CStr::from_ptr(node.ai_canonname))
                })
                .collect();
            // The numeric name of the first address, as the real getaddrinfo had made the list.
            assert_eq!(names, [Some(c"2001:db8::1"), None], "canonical names");
            libc::freeaddrinfo(list);
        }
    }

    #[test]
    fn a_list_is_split_in_its_order_with_a_canonical_name_for_the_mapped_part() {
        // A libc, and which of its nodes have the canonical name.
        type Libc = (&'static str, fn(usize) -> bool);
        let name = c"canonical.example".as_ptr().cast_mut();
        // m is a mapped address, o another; each libc gives the name to other nodes.
        let libcs: [Libc; 3] =
            [("no name", |_| false), ("glibc", |index| index == 0), ("musl", |_| true)];
        for kinds in ["", "m", "o", "mo", "om", "mmm", "ooo", "omomm", "ommoo", "momom", "oom"] {
            for (libc, has_name) in libcs {
                let mut addresses: Vec<_> = kinds
                    .chars()
                    .enumerate()
                    .map(|(index, kind)| {
                        let prefix = if kind == 'm' { "::ffff:192.0.2." } else { "2001:db8::" };
                        let address: Ipv6Addr = format!("{prefix}{index}").parse().unwrap();
                        libc::sockaddr_in6 {
                            sin6_family: 10,
                            sin6_port: 0,
                            sin6_flowinfo: 0,
                            sin6_addr: libc::in6_addr { s6_addr: address.octets() },
                            sin6_scope_id: 0,
                        }
                    })
                    .collect();
                let mut list: Vec<_> = (addresses.iter_mut().enumerate())
                    .map(|(index, address)| addrinfo {
                        ai_addr: (&raw mut *address).cast(),
                        ai_canonname: if has_name(index) { name } else { null_mut() },
                        ..hints(libc::AF_INET6, 0)
                    })
                    .collect();
                let first = list.as_mut_ptr();
                for index in 1..list.len() {
                    // SAFETY: both are within the vector.
                    unsafe { (*first.add(index - 1)).ai_next = first.add(index) };
                }
                let start = if list.is_empty() { null_mut() } else { first };
                // SAFETY: a whole list of IPv6 nodes; nothing frees it but the vectors.
                let (mapped, others) = unsafe { split(start, 0) };
                let message = format!("{kinds:?} with {libc} names");
                let seen: [Vec<_>; 2] =
                    [mapped, others].map(|list| nodes(list).into_iter().map(address).collect());
                let of_kind = |wanted| {
                    let of_kind =
                        kinds.chars().enumerate().filter(move |(_, kind)| *kind == wanted);
                    of_kind.map(|(index, _)| address(&list[index])).collect::<Vec<_>>()
                };
                assert_eq!(seen, [of_kind('m'), of_kind('o')], "{message}: mapped, others");
                let named = |list| -> Vec<_> {
                    nodes(list).iter().map(|node| node.ai_canonname == name).collect()
                };
                let (mapped, others) = (named(mapped), named(others));
                let first = mapped.first().copied().unwrap_or(libc != "no name");
                assert_eq!(first, libc != "no name", "{message}: the first mapped one has it");
                // glibc's freeaddrinfo frees each name: no two nodes may have the same.
                let count = mapped.iter().chain(&others).filter(|named| **named).count();
                let wanted = (0..kinds.len()).filter(|index| has_name(*index)).count();
                assert_eq!(count, wanted, "{message}: nodes with the name");
            }
        }
    }

    #[test]
    fn addresses_are_mapped_by_their_first_96_bits_alone() {
        for (text, wanted) in [
            ("::ffff:192.0.2.1", true),
            ("::ffff:0:0", true),
            ("::ffff:255.255.255.255", true),
            ("::fffe:192.0.2.1", false),
            ("::192.0.2.1", false),
            ("::1", false),
            ("::", false),
            ("64:ff9b::192.0.2.1", false),
            ("1::ffff:192.0.2.1", false),
            ("192.0.2.1", false),
        ] {
            let list = node_of(text, &hints(libc::AF_UNSPEC, 0)).expect("it is an address");
            // SAFETY: the real getaddrinfo's list, freed once.
            let seen = unsafe {
                let seen = is_mapped(&*list);
                libc::freeaddrinfo(list);
                seen
            };
            assert_eq!(seen, wanted, "{text} is mapped");
        }
        assert!(!is_mapped_without_address(), "a node without an address is not mapped");
    }

    fn is_mapped_without_address() -> bool {
        // SAFETY: a node without an address, which is looked for first.
        unsafe { is_mapped(&hints(libc::AF_INET6, 0)) }
    }
}
