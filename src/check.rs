//! The library's part of `egress-shim --check`: the addresses of a host in the process that the library is loaded into,
//! and the keepalive that a socket gets from `connect` there.
//!
//! The command starts a program as it would run it, with the question in a variable. The question names that
//! process, so no other process that inherits the variable answers. The library answers at load, in lines
//! written to a descriptor, and the process ends before `main`: the program itself never runs.
//! `egress_shim_core::question` defines the lines.

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::mem::{offset_of, transmute_copy};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use libc::{addrinfo, c_int, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::calls;
use crate::keepalive::Connect;
use crate::process::{self, Environment};
use crate::resolver::GetAddrInfo;
use egress_shim_core::allowlist::LONGEST_NAME;
use egress_shim_core::question::{Keepalive, LOADED, Line, Question};
use egress_shim_core::settings::CHECK;

/// Answers the question to this process, if there is one, and then ends the process. For the answer without the
/// library, the lookup calls the next getaddrinfo; for the answer with the library, it calls the one that the program
/// would call.
pub fn answer_if_asked(next_getaddrinfo: fn() -> GetAddrInfo) {
    if process::is_privileged() {
        return;
    }
    let value = |entry: &'static [u8]| entry.strip_prefix(CHECK.as_bytes())?.strip_prefix(b"=");
    let question = Environment::starting_with(CHECK).find_map(value).and_then(Question::parse);
    let Some(question) = question.filter(|question| question.process == process::id()) else {
        return;
    };
    let mut out = Lines(question.descriptor);
    let _ = out.write_str(LOADED);
    // SAFETY: it is the type of getaddrinfo(3).
    let of_program = || unsafe { of_program(c"getaddrinfo") };
    let getaddrinfo = question.with_library.then(of_program).flatten();
    let getaddrinfo = getaddrinfo.unwrap_or_else(next_getaddrinfo);
    let first = resolve(&question, getaddrinfo, &mut out);
    let _ = write!(out, "{}", Line::Resolved);
    if question.with_library
        && let Some((address, length)) = first
    {
        report_connection(question.port, address, length, &mut out);
    }
    process::exit(0)
}

/// The function that the program calls, which is the hook if no other library is preloaded before this one. It is looked up
/// here, because a reference to the symbol would cost every start.
///
/// # Safety
/// `F` is the type of the functions of that name.
unsafe fn of_program<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: a C string. libc has a function of that name, at least.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: this function's own contract.
    (!found.is_null()).then(|| unsafe { transmute_copy(&found) })
}

/// Looks the host up and reports the outcome. Returns the first address, which stays valid: nothing frees
/// the list, because the process ends.
fn resolve(
    question: &Question<'_>,
    getaddrinfo: GetAddrInfo,
    out: &mut Lines,
) -> Option<(*const sockaddr, socklen_t)> {
    // SAFETY: all zeros are valid hints: no flags, any family and protocol.
    let mut hints: addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = ptr::null_mut();
    let mut host = [0; LONGEST_NAME + 1];
    host.get_mut(..question.host.len())?.copy_from_slice(question.host.as_bytes());
    let host = host.as_ptr().cast();
    // SAFETY: a C string, hints and a local for the list, as getaddrinfo(3) requires.
    let status = unsafe { getaddrinfo(host, ptr::null(), &raw const hints, &raw mut list) };
    if status != 0 {
        let _ = write!(out, "{}", Line::Error { status, errno: process::errno() });
        return None;
    }
    let mut first = None;
    let mut next: *const addrinfo = list;
    // SAFETY: the list of getaddrinfo(3) ends in null, and nothing frees it.
    while let Some(node) = unsafe { next.as_ref() } {
        next = node.ai_next;
        // SAFETY: an address from libc, with the length that its family has.
        if let Some(address) = unsafe { ip_address(node.ai_addr) } {
            first.get_or_insert((node.ai_addr.cast_const(), node.ai_addrlen));
            let _ = write!(out, "{}", Line::Address(address));
        }
    }
    first
}

/// # Safety
/// The pointer is null, or the address has the length of its family.
unsafe fn ip_address(address: *const sockaddr) -> Option<IpAddr> {
    // SAFETY: this function's own contract.
    unsafe {
        match c_int::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let address = address.cast::<sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let address = address.cast::<sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// Begins a connection to an address from getaddrinfo, and reports the keepalive of its socket.
fn report_connection(port: u16, address: *const sockaddr, length: socklen_t, out: &mut Lines) {
    // SAFETY: an IPv4 or IPv6 address from libc, which nobody else uses, and in which the port has the same place;
    // connect(2), which has this type, takes the address and its length.
    let socket = unsafe {
        let family = c_int::from((*address).sa_family);
        let port_of: *mut u16 =
            address.cast_mut().byte_add(offset_of!(sockaddr_in, sin_port)).cast();
        port_of.write_unaligned(port.to_be());
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let Some(socket) = calls::socket(family, kind) else { return };
        if let Some(connect) = of_program::<Connect>(c"connect") {
            connect(socket, address, length);
        }
        socket
    };
    let option = |level, option| {
        let value = calls::get_option(socket, level, option).unwrap_or_default();
        u32::try_from(value).unwrap_or_default()
    };
    let keepalive = Keepalive {
        is_on: option(libc::SOL_SOCKET, libc::SO_KEEPALIVE) != 0,
        idle: option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        interval: option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        count: option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        milliseconds: option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    };
    let _ = write!(out, "{}", Line::Keepalive(keepalive));
}

/// Writes to a descriptor without allocating.
struct Lines(c_int);

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the pointer and the length are those of a slice.
            let written =
                unsafe { libc::syscall(libc::SYS_write, self.0, rest.as_ptr(), rest.len()) };
            let written = usize::try_from(written).map_err(|_| fmt::Error)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}
