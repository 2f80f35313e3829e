//! A resolver whose answers the name in the question says.

use std::fs::File;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lab::Lab;

/// A resolver at port 53 of the lab's client. Its names are of two parts: `ok6`, `mapped6`,
/// `none6` and `fail6` say what becomes of a question for IPv6, `ok4`, `none4`, `fail4`, `refused4` and
/// `unknown4` what of one for IPv4. No name is below `search.test`.
pub struct Resolver {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    pub fn start(lab: &Lab) -> Self {
        let namespace = Path::new("/proc").join(lab.file("client")).join("ns/net");
        let namespace = File::open(namespace).expect("the client's holder lives");
        let socket = thread::spawn(move || {
            // SAFETY: setns(2) with a descriptor that this thread owns; the thread ends below.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            // Both families: the client may have lost either.
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).expect("port 53 is free")
        });
        let socket = socket.join().expect("the resolver has its socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                // The client may be gone by now.
                let _ = socket.send_to(&Self::answer(&question[..length]), from);
            }
        });
        Self { end, thread: Some(thread) }
    }

    /// RFC 1035, section 4.1: a header of 12 bytes, then the name as labels with their lengths up
    /// to an empty one, the type and the class.
    fn answer(message: &[u8]) -> Vec<u8> {
        const A: u16 = 1;
        const AAAA: u16 = 28;
        let name = &message[12..=12 + message[12..].iter().position(|&byte| byte == 0).unwrap()];
        let question = &message[12..12 + name.len() + 4];
        let kind = u16::from_be_bytes([question[name.len()], question[name.len() + 1]]);
        let label = String::from_utf8_lossy(&name[1..=usize::from(name[0])]).into_owned();
        let (six, four) = label.split_once('-').unwrap_or_default();
        // One of the client's own network, one of the machine's own, one of another network: what
        // libc sorts.
        let (what, addresses): (&str, [Vec<u8>; 3]) = match kind {
            A => (four, [vec![198, 51, 100, 2], vec![192, 0, 2, 9], vec![127, 0, 0, 1]]),
            AAAA if six == "mapped6" => (
                six,
                ["::ffff:198.51.100.7", "2001:db8:1::9", "2001:db8:2::2"]
                    .map(|address| address.parse::<Ipv6Addr>().unwrap().octets().to_vec()),
            ),
            AAAA => (
                six,
                ["2001:db8:2::2", "2001:db8:1::9", "::1"]
                    .map(|address| address.parse::<Ipv6Addr>().unwrap().octets().to_vec()),
            ),
            _ => ("", Default::default()),
        };
        let is_missing = name.ends_with(b"\x06search\x04test\0");
        let (code, count) = match what {
            _ if is_missing => (3, 0),
            "ok4" | "ok6" | "mapped6" => (0, addresses.len()),
            "none4" | "none6" => (0, 0),
            "fail4" | "fail6" => (2, 0),
            "refused4" => (5, 0),
            _ => (3, 0),
        };
        let mut reply = message[..2].to_vec();
        reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(count).unwrap(), 0, 0, 0, 0]);
        reply.extend(question);
        for address in &addresses[..count] {
            // The name as a reference to the question's, the type and the class, 60 s to live.
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(address.len()).unwrap()]);
            reply.extend(address);
        }
        reply
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
