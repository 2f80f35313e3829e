//! What becomes of a lookup: for a host on the allowlist, the answer that libc would give if the
//! host had no IPv6 address.
//!
//! Every answer is libc's own list, so freeaddrinfo(3) stays libc's. No lock is held and nothing is
//! owned while libc's call runs: it is a cancellation point.

use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::{addrinfo, c_char, c_int};
use once_cell::race::OnceBox;

use crate::allowlist::Allowlist;
use crate::{config, logging};

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
    // Not a lock but a race that the first to finish wins: a child forked while another thread
    // loads the list must not wait for a thread that it does not have.
    static ALLOWLIST: OnceBox<Allowlist> = OnceBox::new();
    let patterns = config::settings().ipv4_only.as_ref()?;
    let allowlist = ALLOWLIST.get().unwrap_or_else(|| {
        let (allowlist, problems) = patterns.load();
        if ALLOWLIST.set(Box::new(allowlist)).is_ok() {
            config::report(&problems);
        }
        ALLOWLIST.get_or_init(Box::default)
    });
    (!allowlist.is_empty()).then_some(allowlist)
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
                let hints = addrinfo { ai_family: libc::AF_INET, ..hints };
                explained(real(node, service, &raw const hints, result), node)
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
    if status != 0 {
        return explained(status, node);
    }
    // SAFETY: the list is libc's and nobody else has seen it; the node is the caller's, as above.
    unsafe {
        let (mapped, others) = split(list);
        free(others);
        if mapped.is_null() {
            return explained(error_without_ipv6(real, service, hints), node);
        }
        *result = mapped;
    }
    0
}

/// `AF_INET6` alone: the error that a host with IPv4 addresses alone has, or its own error if it
/// has none of them.
unsafe fn no_addresses(
    real: GetAddrInfo,
    node: *const c_char,
    service: *const c_char,
    hints: &addrinfo,
) -> c_int {
    // AI_ADDRCONFIG would now ask whether this machine has IPv4, but the caller asked for IPv6.
    let ai_flags = hints.ai_flags & !libc::AI_ADDRCONFIG;
    let ipv4 = addrinfo { ai_flags, ai_family: libc::AF_INET, ..*hints };
    let mut list = null_mut();
    // SAFETY: the caller's arguments, and a local for the list.
    let status = unsafe { real(node, service, &raw const ipv4, &raw mut list) };
    if status != 0 {
        return explained(status, node);
    }
    // SAFETY: the list is libc's and nobody else has seen it; the arguments are the caller's.
    unsafe {
        free(list);
        error_without_ipv6(real, service, hints)
    }
}

/// The error of this libc for a name that exists and has no address that the hints allow.
///
/// glibc gives `EAI_NODATA`, but for whatever is wrong with the hints or with this machine
/// (`AI_ADDRCONFIG`) and wrong for any node. musl gives `EAI_NONAME` up to 1.2.3 and `EAI_NODATA`
/// since, for an address of the other family as for a name.
unsafe fn error_without_ipv6(real: GetAddrInfo, service: *const c_char, hints: &addrinfo) -> c_int {
    let (node, otherwise) = if config::settings().glibc {
        (c"::1", libc::EAI_NODATA)
    } else {
        (c"127.0.0.1", libc::EAI_NONAME)
    };
    let ai_flags = (hints.ai_flags | libc::AI_NUMERICHOST) & !libc::AI_V4MAPPED;
    let numeric = addrinfo { ai_flags, ..*hints };
    let mut list = null_mut();
    // SAFETY: a C string, the caller's service, valid hints and a local for the list.
    let status = unsafe { real(node.as_ptr(), service, &raw const numeric, &raw mut list) };
    if status == 0 {
        // SAFETY: the list is libc's and nobody else has seen it.
        unsafe { free(list) };
        return otherwise;
    }
    status
}

/// Splits a list into the nodes with IPv4-mapped addresses and the others, each in the order that
/// it had. glibc gives the canonical name to the first node alone; it stays with the first mapped
/// one.
///
/// # Safety
/// The list is one that getaddrinfo(3) gave, unchanged, with IPv6 addresses alone.
unsafe fn split(list: *mut addrinfo) -> (*mut addrinfo, *mut addrinfo) {
    let (mut mapped, mut others) = (null_mut(), null_mut());
    let (mut mapped_end, mut others_end) = (&raw mut mapped, &raw mut others);
    let mut next = list;
    // SAFETY: `next` walks libc's list up to its null; the two ends point to locals or to the
    // `ai_next` of nodes already passed, which the walk does not read again.
    unsafe {
        while let Some(node) = next.as_mut() {
            next = node.ai_next;
            node.ai_next = null_mut();
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
fn explained(status: c_int, node: *const c_char) -> c_int {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if matches!(status, libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY)
        && !TOLD.swap(true, Relaxed)
    {
        let errno = logging::errno();
        // SAFETY: listed nodes are C strings, and gai_strerror(3) gives one that lasts.
        let (name, error) =
            unsafe { (CStr::from_ptr(node), CStr::from_ptr(libc::gai_strerror(status))) };
        log::warn!(
            "getaddrinfo: {}: no IPv4 address ({}); the host is on the allowlist, so its IPv6 \
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
