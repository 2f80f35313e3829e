//! The names behind addresses: the host that a process connects to when its peer does not answer.
//!
//! An address alone does not tell its name, but a process is likely to use one of few names: those in its
//! command line, its environment, its list, and in /etc/hosts. The name servers of the process are asked, from the
//! network of the process, for the addresses of each name, all at once and for half a second.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use egress_shim_core::allowlist::{self, LONGEST_NAME, Source};
use egress_shim_core::settings::{IPV4_ONLY, IPV4_ONLY_FILE};

use crate::environment::Environment;
use crate::process::Process;
use crate::sockets;

/// At most this many names of a process are asked for, and at most this many peers are looked up.
const MOST_NAMES: usize = 16;
const MOST_PEERS: usize = 8;
/// At most this many bytes of a file of a process are read.
const LONGEST_FILE: u64 = 256 << 10;
/// The time that the name servers have to answer.
const LIMIT: Duration = Duration::from_millis(500);
/// The types of the questions: RFC 1035, RFC 3596.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Whether a name server answers, by the kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// For IPv4 addresses.
    pub ipv4: bool,
    /// For IPv6 addresses.
    pub ipv6: bool,
}

/// Names of hosts that occur in the list, the command line and the environment of a process.
pub fn candidates(
    id: u32,
    words: &[Vec<u8>],
    environ: &[u8],
    environment: &Environment,
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: Option<&str>| {
        if let Some(name) = name.filter(|_| names.len() < MOST_NAMES)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    };
    words.iter().skip(1).for_each(|word| add(host_in(word)));
    let urls = environ.split(|&byte| byte == 0).filter(|entry| has_url(entry));
    urls.for_each(|entry| add(host_in(entry)));
    let listed = environment.get(IPV4_ONLY.variable).unwrap_or_default();
    allowlist::patterns(listed, Source::Variable).for_each(|(_, pattern)| add(host_in(pattern)));
    if let Some(file) = environment.get(IPV4_ONLY_FILE.variable) {
        let text = read_in_root(id, file).unwrap_or_default();
        allowlist::patterns(&text, Source::File).for_each(|(_, pattern)| add(host_in(pattern)));
    }
    names
}

fn has_url(text: &[u8]) -> bool {
    text.windows(3).any(|part| part == b"://")
}

/// The host of a URL, of `HOST:PORT` or of `OPTION=HOST`.
fn host_in(word: &[u8]) -> Option<&str> {
    let text = str::from_utf8(word).ok()?;
    let authority = match text.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next()?,
        None => text.rsplit('=').next()?,
    };
    let host = authority.rsplit('@').next()?;
    let host = host.split(':').next()?;
    is_host(host).then_some(host)
}

/// Whether a word is the full name of a host, and not an address.
fn is_host(word: &str) -> bool {
    let mut labels = word.split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    word.len() <= LONGEST_NAME
        && word.contains('.')
        && labels.clone().all(is_label)
        && labels
            .next_back()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// The names of the peers of a process that do not answer over IPv6.
pub fn of_silent_peers(process: &Process) -> Vec<(IpAddr, String)> {
    let mut peers: Vec<Ipv6Addr> = Vec::new();
    for connection in &process.connections {
        if let IpAddr::V6(peer) = connection.socket.peer.ip()
            && connection.is_connecting()
            && peers.len() < MOST_PEERS
            && !peers.contains(&peer)
        {
            peers.push(peer);
        }
    }
    if peers.is_empty() {
        return Vec::new();
    }
    let hosts = read_in_root(process.id, b"/etc/hosts").unwrap_or_default();
    let mut names: Vec<(IpAddr, String)> = peers
        .iter()
        .filter_map(|peer| Some((IpAddr::V6(*peer), name_in(&hosts, *peer, &process.hosts)?)))
        .collect();
    peers.retain(|peer| !names.iter().any(|(known, _)| known == peer));
    if !peers.is_empty() && !process.hosts.is_empty() {
        names.extend(in_dns(process, &peers).unwrap_or_default());
    }
    names
}

/// The name of an address in a text in the format of /etc/hosts. A name that the process is known to use is preferred.
fn name_in(hosts: &[u8], peer: Ipv6Addr, known: &[String]) -> Option<String> {
    let text = String::from_utf8_lossy(hosts);
    let names = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address: Ipv6Addr = words.next()?.parse().ok()?;
        (address == peer).then_some(words)
    });
    let names: Vec<_> =
        names.flatten().filter(|name| is_host(name) || !name.contains('.')).collect();
    let name = names.iter().find(|name| known.iter().any(|known| known == *name));
    name.or(names.first()).map(|name| (*name).to_owned())
}

/// The names of a process for which DNS has these addresses.
fn in_dns(process: &Process, peers: &[Ipv6Addr]) -> io::Result<Vec<(IpAddr, String)>> {
    let servers = servers_of(process.id);
    let questions: Vec<_> = process.hosts.iter().map(|name| (name.as_str(), AAAA)).collect();
    sockets::in_network_of(process.id, || {
        let mut names = Vec::new();
        ask(&servers, &questions, |place, reply| {
            for peer in peers {
                // The data of an AAAA record: its length, then the address, never compressed.
                let data = [&[0, 16][..], &peer.octets()].concat();
                if reply.windows(data.len()).any(|part| part == data) {
                    names.push((IpAddr::V6(*peer), process.hosts[place].clone()));
                }
            }
        });
        names
    })
}

/// The kinds of questions that are answered by the name server for which a process waits.
pub fn probe(process: &Process) -> Option<Answers> {
    let server = process.questions.first()?.server;
    let name = process.hosts.first().map_or("example.com", String::as_str);
    sockets::in_network_of(process.id, || {
        let mut answers = Answers { ipv4: false, ipv6: false };
        ask(&[server], &[(name, A), (name, AAAA)], |place, _| match place {
            0 => answers.ipv4 = true,
            _ => answers.ipv6 = true,
        });
        answers
    })
    .ok()
}

/// Puts questions to name servers, and passes each reply on with the index of its question.
fn ask(servers: &[SocketAddr], questions: &[(&str, u16)], mut take: impl FnMut(usize, &[u8])) {
    let end = Instant::now() + LIMIT;
    let sockets: Vec<_> = servers.iter().filter_map(|server| connected(*server).ok()).collect();
    for (place, (name, kind)) in questions.iter().enumerate() {
        let message = question(u16::try_from(place).unwrap_or_default(), name, *kind);
        for socket in &sockets {
            let _ = socket.send(&message);
        }
    }
    let mut left: Vec<usize> = (0..questions.len()).collect();
    let mut buffer = [0; 4096];
    while !left.is_empty() && Instant::now() < end && !sockets.is_empty() {
        for socket in &sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                let reply = &buffer[..length];
                let Some(&[high, low, flags, ..]) = reply.first_chunk::<12>() else { continue };
                let place = usize::from(u16::from_be_bytes([high, low]));
                if flags & 0x80 != 0 && left.contains(&place) {
                    left.retain(|known| *known != place);
                    take(place, reply);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A DNS message with one question: RFC 1035, section 4.1.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    const RECURSION: u16 = 0x0100;
    const INTERNET: u16 = 1;
    let mut message = Vec::new();
    for word in [id, RECURSION, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.push(0);
    for word in [kind, INTERNET] {
        message.extend(word.to_be_bytes());
    }
    message
}

/// The first name servers that a process has.
fn servers_of(id: u32) -> Vec<SocketAddr> {
    let text = read_in_root(id, b"/etc/resolv.conf").unwrap_or_default();
    let servers = String::from_utf8_lossy(&text).into_owned();
    let servers = servers.lines().filter_map(|line| {
        let address = line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(address, 53))
    });
    servers.take(2).collect()
}

/// Reads a regular file as a process sees it: symbolic links are followed below the root directory of the process.
fn read_in_root(id: u32, path: &[u8]) -> io::Result<Vec<u8>> {
    /// `RESOLVE_IN_ROOT` in linux/openat2.h.
    const IN_ROOT: u64 = 0x10;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let root = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(format!("/proc/{id}/root"))?;
    let path = CString::new(OsStr::from_bytes(path).as_bytes())?;
    // struct open_how: flags, mode, resolve.
    let how = [u64::try_from(flags).unwrap_or_default(), 0, IN_ROOT];
    // SAFETY: openat2(2) with a descriptor, a C string and a local of the size given; the descriptor is owned at once.
    let file = unsafe {
        match libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            how.as_ptr(),
            size_of::<[u64; 3]>(),
        ) {
            -1 => return Err(io::Error::last_os_error()),
            descriptor => File::from_raw_fd(i32::try_from(descriptor).unwrap_or(-1)),
        }
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_in_urls_and_options() {
        for (word, host) in [
            ("https://api.example.com/v1?x#y", Some("api.example.com")),
            ("--url=https://user:word@api.example.com:8443/", Some("api.example.com")),
            ("--host=api.example.com", Some("api.example.com")),
            ("api.example.com:443", Some("api.example.com")),
            ("OPENAI_BASE_URL=https://api.example.com", Some("api.example.com")),
            ("198.51.100.2:80", None),
            ("http://[2001:db8::1]/", None),
            ("localhost", None),
            ("a..example", None),
            ("x.e\nvil.com", None),
            ("", None),
        ] {
            assert_eq!(host_in(word.as_bytes()), host, "{word}");
        }
    }

    #[test]
    fn a_name_that_the_process_uses_is_preferred_in_etc_hosts() {
        let hosts = b"127.0.0.1 localhost\n2001:db8::1 a.test b.test # c.test\n2001:db8::2 d\n";
        let peer = |text: &str| text.parse().expect("it is an address");
        let known = ["b.test".to_owned()];
        assert_eq!(name_in(hosts, peer("2001:db8::1"), &known).as_deref(), Some("b.test"));
        assert_eq!(name_in(hosts, peer("2001:db8::1"), &[]).as_deref(), Some("a.test"));
        assert_eq!(name_in(hosts, peer("2001:db8::2"), &[]).as_deref(), Some("d"));
        assert_eq!(name_in(hosts, peer("2001:db8::3"), &[]), None);
    }

    #[test]
    fn a_question_is_a_dns_message() {
        let wanted = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x1c\0\x01";
        assert_eq!(question(7, "a.test", AAAA), wanted);
    }
}
