//! The end of a pending connect, by `SOCK_DESTROY` of `sock_diag`(7), which `ss -K` uses too.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

use crate::duplicates::Figures;
use crate::sockets;

/// `SOCK_DESTROY` in `linux/sock_diag.h`.
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST` and `NLM_F_ACK` in `linux/netlink.h`.
const REQUEST_ACK: u16 = 0x5;
/// `NLMSG_ERROR`. The kernel also uses it to report success.
const NLMSG_ERROR: u16 = 2;

/// Ends the connect of a socket, in the network namespace of a process. The program gets `ECONNABORTED`. If another
/// process has that PID by now, its namespace does not have the socket, and the kernel finds none.
///
/// The kernel ignores the state of the socket: the caller must make sure that no answer can come in meanwhile.
///
/// # Errors
/// Mostly `EPERM`: the call needs `CAP_NET_ADMIN` in that namespace, and `CAP_SYS_ADMIN` to enter another one.
pub fn destroy(process: u32, figures: &Figures) -> io::Result<()> {
    sockets::in_network_of(process, || destroy_here(figures))?
}

fn destroy_here(figures: &Figures) -> io::Result<()> {
    let protocol = Some(netlink::SOCK_DIAG);
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
    let mut netlink = File::from(socket);
    netlink.write_all(&request(figures))?;
    let mut reply = [0; 256];
    let length = netlink.read(&mut reply)?;
    // struct nlmsghdr, then the error as a negative number.
    let kind = u16::from_ne_bytes([reply[4], reply[5]]);
    match i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]) {
        0 if kind == NLMSG_ERROR && length >= 20 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// struct nlmsghdr, then struct `inet_diag_req_v2`: family, protocol, 6 bytes that do not count here, ports and
/// addresses as on the wire, interface, cookie.
fn request(figures: &Figures) -> [u8; 72] {
    let mut request = [0; 72];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &72_u32.to_ne_bytes());
    put(4, &SOCK_DESTROY.to_ne_bytes());
    put(6, &REQUEST_ACK.to_ne_bytes());
    let family = if figures.peer.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    for (at, number) in [(16, family), (17, libc::IPPROTO_TCP)] {
        put(at, &[u8::try_from(number).unwrap_or_default()]);
    }
    put(24, &figures.local.port().to_be_bytes());
    put(26, &figures.peer.port().to_be_bytes());
    for (at, address) in [(28, figures.local.ip()), (44, figures.peer.ip())] {
        match address {
            IpAddr::V4(address) => put(at, &address.octets()),
            IpAddr::V6(address) => put(at, &address.octets()),
        }
    }
    // The cookie's lower half goes first, whatever the byte order.
    let [low, high] = [figures.cookie, figures.cookie >> 32].map(|half| half & 0xffff_ffff);
    put(64, &u32::try_from(low).unwrap_or_default().to_ne_bytes());
    put(68, &u32::try_from(high).unwrap_or_default().to_ne_bytes());
    request
}
