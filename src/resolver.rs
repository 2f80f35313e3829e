//! The policy for lookups: for a host on the allowlist, the answer that libc would give if the
//! host had no IPv6 address.
//!
//! Every answer is libc's own list, so freeaddrinfo(3) stays libc's. No lock is held and nothing is
//! owned while libc's call runs: it is a cancellation point.

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use libc::{addrinfo, c_char, c_int, hostent, size_t};
use log::Level;
use log::LevelFilter;

use crate::logging::{self, log_once};
use crate::process::{self, NO_DATA, TRY_AGAIN, keeping_errno};
use crate::state;

/// The type of getaddrinfo(3).
pub type GetAddrInfo = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const addrinfo,
    *mut *mut addrinfo,
) -> c_int;

/// A call of getaddrinfo(3): the function and valid arguments for it.
#[derive(Clone, Copy)]
pub struct Lookup {
    real: GetAddrInfo,
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
}

impl Lookup {
    /// # Safety
    /// `real` is a getaddrinfo(3), and the other arguments are valid for it as long as this value is used.
    pub unsafe fn new(
        real: GetAddrInfo,
        node: *const c_char,
        service: *const c_char,
        hints: *const addrinfo,
        result: *mut *mut addrinfo,
    ) -> Self {
        Self { real, node, service, hints, result }
    }

    /// The policy of `getaddrinfo`: libc's answer, for a listed node without any IPv6 address.
    pub fn answer(self) -> c_int {
        if self.is_listed() { self.without_ipv6(self.hints()) } else { self.ask() }
    }

    /// libc's answer.
    fn ask(self) -> c_int {
        // SAFETY: a getaddrinfo(3) and valid arguments, by the promise of `new`. The arguments that replace them
        // below are C strings, hints and places for a list as well.
        unsafe { (self.real)(self.node, self.service, self.hints, self.result) }
    }

    /// libc's answer to other hints.
    ///
    /// If a server has failed and then a search domain has no such name, glibc returns `EAI_AGAIN` for all families, but
    /// `EAI_NONAME` for IPv4 alone. `h_errno` still has the failure.
    fn ask_with(self, hints: &addrinfo) -> c_int {
        let lookup = Self { hints, ..self };
        if !process::is_glibc() {
            return lookup.ask();
        }
        process::set_h_errno(0);
        match lookup.ask() {
            libc::EAI_NONAME if process::h_errno() == TRY_AGAIN => libc::EAI_AGAIN,
            status => status,
        }
    }

    /// The status of libc's answer to other hints; the list is freed.
    fn status_with(self, hints: &addrinfo) -> c_int {
        let mut list = null_mut();
        let status = Self { result: &raw mut list, ..self }.ask_with(hints);
        if status == 0 {
            free(list);
        }
        status
    }

    /// The node as the program passed it; null gives an empty slice.
    fn name(&self) -> &[u8] {
        // SAFETY: null or a C string, by the promise of `new`.
        unsafe { bytes(self.node) }
    }

    /// Whether the node is on the allowlist of this process.
    fn is_listed(self) -> bool {
        // SAFETY: null or a C string, by the promise of `new`.
        unsafe { is_listed("getaddrinfo", self.node) }
    }

    /// The caller's hints, or the meaning of a null pointer: glibc's getaddrinfo then uses `AI_DEFAULT`
    /// (sysdeps/posix/getaddrinfo.c, `default_hints`), POSIX and musl use no flag.
    fn hints(&self) -> addrinfo {
        // SAFETY: null or valid, by the promise of `new`.
        if let Some(hints) = unsafe { self.hints.as_ref() } {
            return *hints;
        }
        let default = libc::AI_V4MAPPED | libc::AI_ADDRCONFIG;
        hints_of(libc::AF_UNSPEC, if process::is_glibc() { default } else { 0 })
    }

    /// The lookup of a listed host: libc's answer for the same host without any IPv6 address.
    fn without_ipv6(self, hints: addrinfo) -> c_int {
        match hints.ai_family {
            libc::AF_UNSPEC => self.ipv4_addresses(hints),
            libc::AF_INET6 => self.ipv6_addresses(&hints),
            _ => self.ask(),
        }
    }

    /// Any family: the IPv4 addresses.
    fn ipv4_addresses(self, hints: addrinfo) -> c_int {
        let ipv4 = addrinfo { ai_family: libc::AF_INET, ..hints };
        let status = self.ask_with(&ipv4);
        if matches!(status, libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY)
            && hints.ai_flags & libc::AI_ADDRCONFIG != 0
            && !self.machine_has(libc::AF_INET)
        {
            return self.on_a_machine_without_ipv4(hints);
        }
        self.warn_if_no_ipv4(status, &ipv4)
    }

    /// `AF_INET6`: no address. With `AI_V4MAPPED`, libc's list of all addresses as IPv6, of which only the mapped ones
    /// stay. They are IPv4 on the wire.
    ///
    /// The IPv6 question is asked here, because no call makes libc map IPv4 addresses alone. POSIX allows
    /// to free any part of the list by itself, and the freeaddrinfo(3) of both libcs does.
    fn ipv6_addresses(self, hints: &addrinfo) -> c_int {
        if hints.ai_flags & libc::AI_V4MAPPED == 0 {
            return self.no_addresses(hints);
        }
        let all = addrinfo { ai_flags: hints.ai_flags | libc::AI_ALL, ..*hints };
        let mut list = null_mut();
        let status = Self { result: &raw mut list, ..self }.ask_with(&all);
        if status == 0 {
            // SAFETY: the list is libc's and nobody else has seen it.
            let (mapped, others) = unsafe { split(list, hints.ai_flags) };
            free(others);
            if !mapped.is_null() {
                // SAFETY: the caller's place for a list, by the promise of `new`.
                unsafe { *self.result = mapped };
                return 0;
            }
        }
        // With AI_ALL the error may come from the IPv6 question.
        self.no_addresses(hints)
    }

    /// `AF_INET6` only: the error for a host with IPv4 addresses only, or the host's own error if it has
    /// no IPv4 address.
    fn no_addresses(self, hints: &addrinfo) -> c_int {
        // An error that the hints or this machine (AI_ADDRCONFIG) cause is the same for every node.
        let status = self.status_of_literal(c"::1", hints);
        if status != 0 {
            return status;
        }
        // AI_ADDRCONFIG would now ask whether this machine has IPv4, but the caller asked for IPv6.
        let ai_flags = hints.ai_flags & !libc::AI_ADDRCONFIG;
        let ipv4 = addrinfo { ai_flags, ai_family: libc::AF_INET, ..*hints };
        let status = self.status_with(&ipv4);
        if status != 0 {
            return self.warn_if_no_ipv4(status, hints);
        }
        if process::is_glibc() {
            return libc::EAI_NODATA;
        }
        // For a name without an address of the family, and for an address of the other family, musl returns EAI_NONAME
        // up to 1.2.3 and EAI_NODATA since.
        match self.status_of_literal(c"127.0.0.1", hints) {
            0 => libc::EAI_NONAME,
            status => status,
        }
    }

    /// The status of a lookup of an address in text form, with the caller's service and these hints.
    fn status_of_literal(self, address: &CStr, hints: &addrinfo) -> c_int {
        let ai_flags = (hints.ai_flags | libc::AI_NUMERICHOST) & !libc::AI_V4MAPPED;
        Self { node: address.as_ptr(), ..self }.status_with(&addrinfo { ai_flags, ..*hints })
    }

    /// Any family with `AI_ADDRCONFIG` on a machine without IPv4: libc asks for IPv6 only. On a machine without
    /// either, glibc asks for both, and musl for nothing.
    fn on_a_machine_without_ipv4(self, hints: addrinfo) -> c_int {
        if !process::is_glibc() || self.machine_has(libc::AF_INET6) {
            return self.ipv6_addresses(&addrinfo { ai_family: libc::AF_INET6, ..hints });
        }
        let ai_flags = hints.ai_flags & !libc::AI_ADDRCONFIG;
        let ipv4 = addrinfo { ai_flags, ai_family: libc::AF_INET, ..hints };
        let status = self.warn_if_no_ipv4(self.ask_with(&ipv4), &ipv4);
        // SAFETY: after success the result is a list of libc's.
        unsafe {
            let mut next = if status == 0 { *self.result } else { null_mut() };
            while let Some(node) = next.as_mut() {
                // Each node has the flags of this call, but must have those of the caller's.
                node.ai_flags = hints.ai_flags;
                next = node.ai_next;
            }
        }
        status
    }

    /// Whether this machine has a family in the sense of `AI_ADDRCONFIG`. The question to libc is an address of that
    /// family.
    fn machine_has(self, family: c_int) -> bool {
        let address = if family == libc::AF_INET { c"127.0.0.1" } else { c"::1" };
        let hints = hints_of(family, libc::AI_ADDRCONFIG);
        Self { service: null(), ..self }.status_of_literal(address, &hints) == 0
    }

    /// Passes on the status of a listed host's lookup. If the host has no IPv4 address, one line per process tells why
    /// the lookup fails: without the library, the program may have got IPv6 addresses. The library does not ask for them
    /// here, because a name server that drops the question would hold up the program.
    fn warn_if_no_ipv4(self, status: c_int, hints: &addrinfo) -> c_int {
        match status {
            // libc also returns this for a name in place of a number, and for an unknown service.
            libc::EAI_NONAME if !self.can_only_lack_the_name(hints) => return status,
            // musl up to 1.2.3 also returns it for a name without an address of the family.
            libc::EAI_NONAME if !self.is_ambiguous(status) => {
                logging::debug!("getaddrinfo: {}: no such name", self.name().escape_ascii());
                return status;
            }
            libc::EAI_NODATA | EAI_ADDRFAMILY | libc::EAI_NONAME => {}
            _ => return status,
        }
        let what = if status == libc::EAI_NONAME { "no such name, or " } else { "" };
        log_once!(
            Level::Warn,
            "getaddrinfo: {}: {what}no IPv4 address; the host is on the allowlist, so its IPv6 \
             addresses, if any, are left out (logged once per process)",
            self.name().escape_ascii()
        );
        status
    }

    /// Whether libc gives the same error for a name without an address of the family and for a name that does not exist.
    fn is_ambiguous(self, no_name: c_int) -> bool {
        let hints = hints_of(libc::AF_INET6, 0);
        !process::is_glibc()
            && Self { service: null(), ..self }.status_of_literal(c"127.0.0.1", &hints) == no_name
    }

    /// Whether `EAI_NONAME` is about the name, and not about a number that is asked for.
    fn can_only_lack_the_name(&self, hints: &addrinfo) -> bool {
        hints.ai_flags & libc::AI_NUMERICHOST == 0
            && (hints.ai_flags & libc::AI_NUMERICSERV == 0 || self.has_numeric_service())
    }

    fn has_numeric_service(&self) -> bool {
        // SAFETY: null or a C string, by the promise of `new`.
        self.service.is_null()
            || unsafe { CStr::from_ptr(self.service) }.to_bytes().iter().all(u8::is_ascii_digit)
    }
}

/// Whether a call is about a name that is on the allowlist of this process.
///
/// # Safety
/// The name is null or a C string.
#[inline(never)]
unsafe fn is_listed(call: &str, name: *const c_char) -> bool {
    // SAFETY: this function's own contract.
    let text = unsafe { bytes(name) };
    // If no line is to be logged, a numeric address costs no more than a walk over it.
    if log::max_level() < LevelFilter::Info && !state::can_be_listed(text) {
        return false;
    }
    keeping_errno(|| {
        let listed = state::is_listed(text);
        if !name.is_null() {
            let verdict = if listed { "listed, IPv4 only" } else { "not listed, left alone" };
            logging::debug!("{call}: {}: {verdict}", text.escape_ascii());
        }
        listed
    })
}

/// A name; null is empty.
///
/// # Safety
/// The name is null or a C string, for as long as the bytes are used.
unsafe fn bytes<'a>(name: *const c_char) -> &'a [u8] {
    // SAFETY: this function's own contract.
    if name.is_null() { &[] } else { unsafe { CStr::from_ptr(name) }.to_bytes() }
}

/// Hints with a family and flags.
fn hints_of(ai_family: c_int, ai_flags: c_int) -> addrinfo {
    addrinfo {
        ai_flags,
        ai_family,
        ai_socktype: 0,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: null_mut(),
        ai_canonname: null_mut(),
        ai_next: null_mut(),
    }
}

/// Splits a list into the nodes with IPv4-mapped addresses and the others, each in the same order as
/// before. glibc gives the canonical name only to the first node; the first mapped node gets it. glibc
/// also gives each node the flags of the call; the nodes get the caller's flags.
///
/// # Safety
/// The list comes from getaddrinfo(3), unchanged, and has IPv6 addresses only.
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

/// Frees a list. musl's freeaddrinfo crashes on an empty list.
fn free(list: *mut addrinfo) {
    if !list.is_null() {
        // SAFETY: a list, or a part of one, that libc has just returned to this module and to nobody else.
        unsafe { libc::freeaddrinfo(list) };
    }
}

/// glibc's error for a host that only has addresses of another family (netdb.h).
const EAI_ADDRFAMILY: c_int = -9;

// --- gethostbyname2 ------------------------------------------------------------------------------------

/// The type of gethostbyname2(3).
pub type GetHostByName2 = unsafe extern "C" fn(*const c_char, c_int) -> *mut hostent;

/// The type of `gethostbyname2_r`.
pub type GetHostByName2R = unsafe extern "C" fn(
    *const c_char,
    c_int,
    *mut hostent,
    *mut c_char,
    size_t,
    *mut *mut hostent,
    *mut c_int,
) -> c_int;

/// The policy of `gethostbyname2`: libc's answer. For a listed name with `AF_INET6` it is libc's answer for a host
/// without IPv6 addresses.
///
/// # Safety
/// `real` is a gethostbyname2(3), and the other arguments are valid for it.
pub unsafe fn host(real: GetHostByName2, name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: this function's own contract.
    unsafe {
        if family == libc::AF_INET6 && is_listed("gethostbyname2", name) {
            host_without_ipv6(real, name)
        } else {
            real(name, family)
        }
    }
}

/// libc's answer for a host with IPv4 addresses only, or its answer for this host if this host has no IPv4 address.
///
/// # Safety
/// As for [`host`].
unsafe fn host_without_ipv6(real: GetHostByName2, name: *const c_char) -> *mut hostent {
    // SAFETY: this function's own contract.
    unsafe {
        if real(name, libc::AF_INET).is_null() {
            return null_mut();
        }
        if !process::is_glibc() {
            // As in `no_addresses`: musl up to 1.2.3 reports HOST_NOT_FOUND.
            return real(c"127.0.0.1".as_ptr(), libc::AF_INET6);
        }
        process::set_h_errno(NO_DATA);
        null_mut()
    }
}

/// The policy of `gethostbyname2_r`, as [`host`] is that of `gethostbyname2`.
///
/// # Safety
/// `real` is a `gethostbyname2_r`, and the other arguments are valid for it.
#[allow(clippy::too_many_arguments, reason = "they are those of gethostbyname2_r")]
pub unsafe fn host_r(
    real: GetHostByName2R,
    name: *const c_char,
    family: c_int,
    host: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: this function's own contract.
    unsafe {
        if family == libc::AF_INET6 && is_listed("gethostbyname2_r", name) {
            host_without_ipv6_r(real, name, host, buffer, length, result, error)
        } else {
            real(name, family, host, buffer, length, result, error)
        }
    }
}

/// As [`host_without_ipv6`].
///
/// # Safety
/// As for [`host_r`].
unsafe fn host_without_ipv6_r(
    real: GetHostByName2R,
    name: *const c_char,
    host: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: this function's own contract; libc has written to `result`.
    unsafe {
        let status = real(name, libc::AF_INET, host, buffer, length, result, error);
        let found = status == 0 && !(*result).is_null();
        if !process::is_glibc() && (found || status == libc::ERANGE) {
            // musl needs no room in the buffer to report that there is no address.
            let address = c"127.0.0.1".as_ptr();
            return real(address, libc::AF_INET6, host, buffer, length, result, error);
        }
        if found {
            *result = null_mut();
            *error = NO_DATA;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::ffi::CString;
    use std::net::Ipv6Addr;

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
            // As in glibc, only the first node has the canonical name.
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

    /// The answer for a listed host.
    ///
    /// # Safety
    /// As for [`Lookup::new`].
    unsafe fn without_ipv6(
        real: GetAddrInfo,
        node: *const c_char,
        hints: *const addrinfo,
        result: *mut *mut addrinfo,
    ) -> c_int {
        // SAFETY: this function's own contract.
        let lookup = unsafe { Lookup::new(real, node, null(), hints, result) };
        lookup.without_ipv6(lookup.hints())
    }

    fn hints(ai_family: c_int, ai_flags: c_int) -> addrinfo {
        addrinfo { ai_family, ai_flags, ai_socktype: libc::SOCK_STREAM, ..hints_of(0, 0) }
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
        let status = unsafe { without_ipv6(fake, node, hints, &raw mut list) };
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
    fn a_host_that_is_not_listed_is_asked_about_as_the_program_asked() {
        LIBC.set(Libc { addresses: BOTH.to_vec(), calls: Vec::new() });
        let (mut list, hints) = (null_mut(), hints(libc::AF_INET6, libc::AI_CANONNAME));
        let node = c"host.example".as_ptr();
        // SAFETY: a getaddrinfo, a C string, hints and a local for the list, which is freed once.
        let status = unsafe {
            let status = Lookup::new(fake, node, null(), &raw const hints, &raw mut list).answer();
            libc::freeaddrinfo(list);
            status
        };
        let wanted = ("host.example".to_owned(), libc::AF_INET6, libc::AI_CANONNAME, 1, 0);
        assert_eq!((status, LIBC.take().calls), (0, vec![wanted]));
    }

    #[test]
    fn libc_is_asked_for_ipv4_only_and_for_all_else_as_the_program_asked() {
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
    fn whether_a_host_has_ipv4_does_not_depend_on_this_machine_having_it() {
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
                    process::set_errno(77);
                    // SAFETY: a getaddrinfo, a C string, hints and a local for the list.
                    let seen = unsafe { without_ipv6(real, node, hints, &raw mut list) };
                    let seen = (seen, list, process::errno());
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
            assert_eq!(without_ipv6(fake, node, hints, &raw mut list), 0);
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
    fn only_the_first_96_bits_say_whether_an_address_is_mapped() {
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

    // --- gethostbyname2 --------------------------------------------------------------------------

    thread_local! {
        /// Whether the next host has an IPv4 address, and of which names and families libc was asked.
        static HOST: RefCell<(bool, Vec<(String, c_int)>)> = const { RefCell::new((false, Vec::new())) };
    }

    /// `HOST_NOT_FOUND` of <netdb.h>.
    const HOST_NOT_FOUND: c_int = 1;

    unsafe extern "C" fn fake_host(name: *const c_char, family: c_int) -> *mut hostent {
        // SAFETY: the tests pass C strings.
        unsafe {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            let found = HOST.with_borrow_mut(|(has_ipv4, calls)| {
                calls.push((name, family));
                family == libc::AF_INET && *has_ipv4
            });
            if found {
                return std::ptr::dangling_mut();
            }
            process::set_h_errno(HOST_NOT_FOUND);
            null_mut()
        }
    }

    unsafe extern "C" fn fake_host_r(
        name: *const c_char,
        family: c_int,
        _: *mut hostent,
        _: *mut c_char,
        length: size_t,
        result: *mut *mut hostent,
        error: *mut c_int,
    ) -> c_int {
        // SAFETY: the tests pass places for both.
        unsafe {
            *result = null_mut();
            if length == 0 {
                *error = -1;
                return libc::ERANGE;
            }
            *result = fake_host(name, family);
            if (*result).is_null() {
                *error = HOST_NOT_FOUND;
            }
        }
        0
    }

    #[test]
    fn a_listed_host_has_no_data_for_gethostbyname2_or_its_own_error() {
        for (has_ipv4, wanted) in [(true, NO_DATA), (false, HOST_NOT_FOUND)] {
            HOST.set((has_ipv4, Vec::new()));
            let name = c"host.example".as_ptr();
            process::set_h_errno(77);
            // SAFETY: a gethostbyname2(3), and a C string.
            let host = unsafe { host_without_ipv6(fake_host, name) };
            let seen = (host, process::h_errno());
            assert_eq!(seen, (null_mut(), wanted), "host, h_errno");
            let (mut result, mut error) = (std::ptr::dangling_mut(), 77);
            let (host, buffer) = (null_mut(), null_mut());
            // SAFETY: a gethostbyname2_r that uses the last two only, which are locals.
            let mut call = |length| unsafe {
                let (result, error) = (&raw mut result, &raw mut error);
                let status =
                    host_without_ipv6_r(fake_host_r, name, host, buffer, length, result, error);
                (status, *result, *error)
            };
            assert_eq!(call(0), (libc::ERANGE, null_mut(), -1), "status, host, h_errno");
            assert_eq!(call(100), (0, null_mut(), wanted), "status, host, h_errno");
            let calls = HOST.take().1;
            assert!(calls.iter().all(|(_, family)| *family == libc::AF_INET), "asked {calls:?}");
        }
    }

    #[test]
    fn a_host_that_is_not_listed_is_asked_for_as_the_program_asked() {
        for family in [libc::AF_INET, libc::AF_INET6, 99] {
            HOST.set((true, Vec::new()));
            let name = c"host.example".as_ptr();
            let (mut result, mut error) = (null_mut(), 0);
            let found = family == libc::AF_INET;
            // SAFETY: fakes of these functions, a C string, and locals.
            unsafe {
                assert_eq!(!host(fake_host, name, family).is_null(), found, "family {family}");
                let (none, text) = (null_mut(), null_mut());
                let (result, error) = (&raw mut result, &raw mut error);
                host_r(fake_host_r, name, family, none, text, 100, result, error);
                assert_eq!(!(*result).is_null(), found, "family {family}");
            }
            let call = ("host.example".to_owned(), family);
            assert_eq!(HOST.take().1, [call.clone(), call], "what libc was asked");
        }
    }
}
