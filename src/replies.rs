//! The policy for DNS replies that a program's own resolver takes from libc by recv(2) and the like. The crate
//! `egress_shim_core` edits the message; this module finds it in memory.
//!
//! The place where the kernel will put a message is read before libc's call, as the kernel reads it: a message may
//! overwrite the memory that holds its own address. After the call the library makes system calls and matches the name
//! only if the bytes look like a reply that could have IPv6 addresses in it.
//!
//! A message that is received in one part, as all resolvers receive it, is edited in place, and takes at most 3 KiB of
//! stack. A message in several parts is put together in a copy: on the stack up to [`SMALL`] bytes, otherwise in its own
//! mapping. No allocation, no lock, no panic. If no host is listed, the hook jumps to libc's function.

use std::slice;

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, ssize_t};

use crate::calls::get_option;
use crate::process::{
    NO_DATA, Readable, in_own_frame, is_glibc, keeping_errno, random, set_h_errno, without_signals,
};
use crate::{logging, memory};
use egress_shim_core::dns::{self, Question};

#[cfg(not(test))]
use crate::state::allowlist;
#[cfg(test)]
use tests::allowlist;

/// The callback by which [`dns::filter`] asks about a name in text form.
type IsListed = fn(&[u8]) -> bool;

// --- Functions for the hooks -------------------------------------------------------------------------
//
// Each gets libc's call, and makes it once.

/// Whether a reply may have to be filtered: unless it is known that no host is listed.
#[inline]
pub fn may_act() -> bool {
    crate::state::may_list()
}

/// The result of a call into one buffer: recv(2) and recvfrom(2).
///
/// # Safety
/// The call is one of these two, with the other arguments.
#[inline]
pub unsafe fn filter_buffer(
    call: impl FnOnce() -> ssize_t,
    socket: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    let Some(is_listed) = allowlist() else { return call() };
    let received = call();
    let part = iovec { iov_base: buffer, iov_len: length };
    let parts = Parts { first: &raw const part, count: 1 };
    // SAFETY: the kernel has written the bytes that it received to the buffer, up to its length.
    unsafe { filter_received(socket, parts, flags, received, is_listed) }.unwrap_or(received)
}

/// The result of recvmsg(2). If a message that was cut (`MSG_TRUNC`) is edited, it is no longer cut.
///
/// # Safety
/// The call is recvmsg(2) with the other arguments.
#[inline]
pub unsafe fn filter_message(
    call: impl FnOnce() -> ssize_t,
    socket: c_int,
    header: *mut msghdr,
    flags: c_int,
) -> ssize_t {
    let Some(is_listed) = allowlist() else { return call() };
    let mut few = [NO_PART; FEW];
    let before = Parts::read(&mut Readable::new(), header);
    let before = before.map(|(parts, sum)| (parts.copied(&mut few), sum));
    let received = call();
    let parts = match before {
        Some((parts, _)) if received > 0 && parts.count <= FEW => parts,
        Some((_, sum)) if received > 0 => match Parts::read(&mut Readable::new(), header) {
            Some((parts, now)) if now == sum => parts,
            _ => return received,
        },
        _ => return received,
    };
    // SAFETY: the kernel has read the header, which the caller says it may write, and put the message into
    // the parts that it had at the call.
    unsafe {
        let filtered = filter_received(socket, parts, flags, received, is_listed);
        if filtered.is_some() {
            clear_truncated(header);
        }
        filtered.unwrap_or(received)
    }
}

/// The result of recvmmsg(2).
///
/// # Safety
/// The call is recvmmsg(2) with the other arguments.
#[inline]
pub unsafe fn filter_messages(
    call: impl FnOnce() -> c_int,
    socket: c_int,
    vector: *mut mmsghdr,
    length: c_uint,
    flags: c_int,
) -> c_int {
    let Some(is_listed) = allowlist() else { return call() };
    let (readable, before) = read_vector(vector, length as usize);
    let count = call();
    let received = usize::try_from(count).unwrap_or(0).min(readable);
    if received == 0 || read_vector(vector, readable) != (readable, before) {
        return count;
    }
    for index in 0..received {
        // SAFETY: the kernel has written the vector's first `count` elements, and put their messages into the
        // parts that they had at the call. It asks for no alignment.
        unsafe {
            let element = vector.add(index);
            let header = &raw mut (*element).msg_hdr;
            let length = &raw mut (*element).msg_len;
            let received = ssize_t::try_from(length.read_unaligned()).unwrap_or(0);
            let parts = Parts::of(header);
            let filtered = filter_received(socket, parts, flags, received, is_listed);
            if let Some(Ok(filtered)) = filtered.map(TryInto::try_into) {
                length.write_unaligned(filtered);
                clear_truncated(header);
            }
        }
    }
    count
}

/// The result of a call of libresolv (resolver(3)). A function that sends the caller's question returns the length of the
/// answer. A function that makes the question returns -1 if the answer has no record, with `NO_DATA` in `h_errno`
/// and in the state.
///
/// # Safety
/// The call is one of these, with this buffer for the answer and this state. A null state is the thread's own.
#[inline]
pub unsafe fn filter_answer(
    call: impl FnOnce() -> c_int,
    state: *mut c_void,
    answer: *mut u8,
    length: c_int,
    makes_question: bool,
) -> c_int {
    let Some(is_listed) = allowlist() else { return call() };
    in_own_frame(move || {
        let answered = call();
        let Ok(held) = usize::try_from(answered.min(length)) else { return answered };
        if held < dns::SHORTEST {
            return answered;
        }
        // SAFETY: libc has written the answer to the buffer, or as much of it as fits.
        let message = unsafe { slice::from_raw_parts_mut(answer, held) };
        let Some(question) = dns::question(message) else { return answered };
        let Some(filtered) = filter_bytes(message, &question, is_listed) else { return answered };
        // A full buffer may hold only a part of the answer. The length that is returned shows that, as libc's does.
        if answered >= length && dns::is_empty(message) && !question.is_for_ipv6_alone() {
            return answered;
        }
        if makes_question && dns::is_empty(message) {
            // SAFETY: this function's own contract.
            unsafe { set_no_data(state) };
            return -1;
        }
        c_int::try_from(filtered).unwrap_or(answered)
    })
}

/// Reports, as libc does, that a host has no record of the type in question.
///
/// # Safety
/// The state is one of libc's, or null.
unsafe fn set_no_data(state: *mut c_void) {
    set_h_errno(NO_DATA);
    let state = if state.is_null() { __res_state() } else { state.cast() };
    // musl has the state for its size alone.
    if is_glibc() {
        // SAFETY: this function's own contract.
        unsafe { (&raw mut (*state).h_errno).write(NO_DATA) };
    }
}

/// # Safety
/// The header can be read and written; the kernel asks for no alignment.
unsafe fn clear_truncated(header: *mut msghdr) {
    // SAFETY: this function's own contract.
    unsafe {
        let flags = &raw mut (*header).msg_flags;
        flags.write_unaligned(flags.read_unaligned() & !libc::MSG_TRUNC);
    }
}

// --- Where a message is ------------------------------------------------------------------------------

/// At most this many parts are copied before the call, on the stack. For more parts, and for the messages of recvmmsg,
/// only a sum is kept: the parts are read again after the call, and used only if their sum is the same.
const FEW: usize = 8;
/// The kernel refuses more parts than this (`UIO_MAXIOV`).
const MOST: usize = 1024;
const NO_PART: iovec = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// The parts of a message. The kernel asks for no alignment.
#[derive(Clone, Copy)]
struct Parts {
    first: *const iovec,
    count: usize,
}

impl Parts {
    /// The parts that a header names.
    ///
    /// # Safety
    /// The header can be read.
    unsafe fn of(header: *const msghdr) -> Self {
        // SAFETY: this function's own contract.
        let (first, count) = unsafe {
            let count = (&raw const (*header).msg_iovlen).read_unaligned();
            ((&raw const (*header).msg_iov).read_unaligned(), count)
        };
        // musl has an int here, and beside it padding that a program may leave as it was.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower half is the number; see above"
        )]
        Self { first, count: count as u32 as usize }
    }

    /// The parts and their sum; `None` if the kernel will not be able to read them.
    fn read(readable: &mut Readable, header: *const msghdr) -> Option<(Self, u64)> {
        if !readable.has(header.addr(), size_of::<msghdr>()) {
            return None;
        }
        // SAFETY: it can be read.
        let parts = unsafe { Self::of(header) };
        if parts.count > MOST || !readable.has(parts.first.addr(), parts.count * size_of::<iovec>())
        {
            return None;
        }
        let sum = add(random(), parts.first.addr() as u64);
        // SAFETY: they can be read.
        let sum = unsafe { parts.iter() }
            .fold(sum, |sum, part| add(add(sum, part.iov_base.addr() as u64), part.iov_len as u64));
        Some((parts, sum))
    }

    /// The parts in other memory, if they are few enough.
    fn copied(self, few: &mut [iovec; FEW]) -> Self {
        if self.count > FEW {
            return self;
        }
        // SAFETY: `read` has just read them.
        few.iter_mut().zip(unsafe { self.iter() }).for_each(|(copy, part)| *copy = part);
        Self { first: few.as_ptr(), ..self }
    }

    /// # Safety
    /// The parts can be read as long as the iterator is used.
    unsafe fn iter(self) -> impl Iterator<Item = iovec> {
        // SAFETY: this function's own contract; the index is below the count.
        (0..self.count).map(move |index| unsafe { self.first.add(index).read_unaligned() })
    }

    /// The memory of the first bytes of the message, part by part.
    ///
    /// # Safety
    /// As for [`Self::iter`], and the parts hold `length` bytes of a message, which can be read and written and which
    /// nobody else uses.
    unsafe fn bytes<'a>(self, length: usize) -> impl Iterator<Item = &'a mut [u8]> {
        let mut left = length;
        // SAFETY: this function's own contract.
        unsafe { self.iter() }.map_while(move |part| {
            let length = part.iov_len.min(left);
            left -= length;
            // SAFETY: this function's own contract; a part without room may have any address.
            let bytes = (length > 0)
                .then(|| unsafe { slice::from_raw_parts_mut(part.iov_base.cast(), length) });
            (length > 0 || left > 0).then(|| bytes.unwrap_or_default())
        })
    }
}

/// The number of messages of a vector that the kernel can read, and a checksum of their parts.
fn read_vector(vector: *const mmsghdr, length: usize) -> (usize, u64) {
    let mut readable = Readable::new();
    let mut sum = random();
    // The kernel takes no more messages than parts at once.
    let length = length.min(MOST);
    for index in 0..length {
        let header = vector.wrapping_add(index).cast();
        let Some((_, parts)) = Parts::read(&mut readable, header) else { return (index, sum) };
        sum = add(sum, parts);
    }
    (length, sum)
}

/// A sum with one more number. A peer that can only send to the socket must not be able to guess other numbers with the
/// same sum, so the sum starts with a number that the kernel draws for each process.
fn add(sum: u64, number: u64) -> u64 {
    let product = u128::from(sum ^ number) * 0x9e37_79b9_7f4a_7c15;
    #[allow(clippy::cast_possible_truncation, reason = "both halves are in it")]
    let folded = (product >> 64 ^ product) as u64;
    folded
}

// --- The message -------------------------------------------------------------------------------------

/// Flags with which the kernel fills the buffer on every kind of socket. With `MSG_TRUNC`, TCP discards the bytes that
/// it reports as received (tcp(7)).
const FILLING: c_int = libc::MSG_PEEK
    | libc::MSG_DONTWAIT
    | libc::MSG_WAITALL
    | libc::MSG_NOSIGNAL
    | libc::MSG_CMSG_CLOEXEC
    | libc::MSG_WAITFORONE;

/// The new length of a message that has been edited; `None` if it stays unchanged. For most messages a load and a compare
/// here show that they are no DNS reply.
///
/// # Safety
/// The kernel has put a message of `received` bytes, or as much of it as they hold, into these parts.
#[inline]
unsafe fn filter_received(
    socket: c_int,
    parts: Parts,
    flags: c_int,
    received: ssize_t,
    is_listed: IsListed,
) -> Option<ssize_t> {
    if received < dns::SHORTEST.cast_signed()
        || parts.count == 0
        || flags & !FILLING != 0 && !is_udp(socket)
    {
        return None;
    }
    // SAFETY: there is a first part, which the kernel has filled before any other.
    unsafe {
        let part = parts.first.read_unaligned();
        if part.iov_len >= dns::START.end {
            let start = part.iov_base.cast::<u8>().add(dns::START.start).cast::<[u8; 4]>().read();
            if !dns::may_be_reply(start) {
                return None;
            }
        }
        filter_reply(socket, parts, flags, received.cast_unsigned(), is_listed)
    }
}

/// The same, once the message looks like a reply.
///
/// # Safety
/// As for [`filter_received`].
#[inline(never)]
unsafe fn filter_reply(
    socket: c_int,
    parts: Parts,
    flags: c_int,
    received: usize,
    is_listed: IsListed,
) -> Option<ssize_t> {
    // SAFETY: this function's own contract. Each slice ends before the next one is made.
    let filtered = unsafe {
        if parts.count == 1 {
            let message = parts.bytes(received).next()?;
            let question = dns::question(message)?;
            let is_its_own = is_of_own_resolver(socket, flags);
            is_its_own.then(|| filter_bytes(message, &question, is_listed)).flatten()
        } else {
            filter_copy(socket, parts, flags, received, is_listed)
        }
    };
    ssize_t::try_from(filtered?).ok()
}

/// The largest reply that servers send by default (DNS flag day 2020), in bytes. A larger reply in several parts is
/// put together in a mapping.
const SMALL: usize = 1232;

/// The same for a message in several parts.
///
/// # Safety
/// As for [`filter_received`].
#[inline(never)]
unsafe fn filter_copy(
    socket: c_int,
    parts: Parts,
    flags: c_int,
    received: usize,
    is_listed: IsListed,
) -> Option<usize> {
    // SAFETY: this function's own contract. No two slices of the same part are there at once.
    let gather = |copy: &mut [u8]| unsafe {
        let mut length = 0;
        for part in parts.bytes(received.min(copy.len())) {
            let place = copy.get_mut(length..).unwrap_or_default();
            place.iter_mut().zip(&*part).for_each(|(to, from)| *to = *from);
            length += part.len();
        }
        length
    };
    let mut small = [0; SMALL];
    let length = gather(&mut small);
    let question = dns::question(small.get(..length)?)?;
    if !is_of_own_resolver(socket, flags) {
        return None;
    }
    let scatter = |message: &[u8]| {
        let mut rest = message;
        // SAFETY: as above.
        for part in unsafe { parts.bytes(message.len()) } {
            let (bytes, behind) = rest.split_at_checked(part.len())?;
            part.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            rest = behind;
        }
        Some(message.len())
    };
    // The start alone shows whether it may be edited, because what is cut off may be an address.
    let filtered = filter_bytes(small.get_mut(..length)?, &question, is_listed)?;
    // A handler that jumped out meanwhile would leave the mapping. The list, which may take long, is loaded by now.
    let filter_whole = |_| {
        let mut large = memory::Scratch::new(received)?;
        let length = gather(large.bytes());
        let whole = large.bytes().get_mut(..length)?;
        let filtered = dns::filter(whole, &question, |_| true);
        Some(filtered.and_then(|filtered| scatter(whole.get(..filtered)?)))
    };
    let whole = (received > SMALL).then(|| keeping_errno(|| without_signals(filter_whole)));
    // If there is no memory for the whole message, its end is cut off.
    whole.flatten().unwrap_or_else(|| scatter(small.get(..filtered)?))
}

/// The new length of a message if it is edited. All ways of receiving a reply come here.
fn filter_bytes(message: &mut [u8], question: &Question, is_listed: IsListed) -> Option<usize> {
    keeping_errno(|| {
        dns::filter(message, question, |name| {
            let listed = is_listed(name);
            let verdict = if listed { "listed, IPv4 only" } else { "not listed, left alone" };
            // The settings know this module by the name dns.
            logging::debug!(target: "egress_shim::dns", "DNS reply: {}: {verdict}", name.escape_ascii());
            listed
        })
    })
}

// --- The socket --------------------------------------------------------------------------------------

/// Whether a reply is for a resolver of the program's own. The error queue holds packets that were sent (recv(2)), and
/// urgent data is one byte of a stream.
fn is_of_own_resolver(socket: c_int, flags: c_int) -> bool {
    flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB) == 0 && is_udp(socket) && !is_of_libc(socket)
}

/// Whether a socket is a UDP socket. A bare system call, as for all socket options; errno is kept.
#[inline(never)]
fn is_udp(socket: c_int) -> bool {
    let protocol = keeping_errno(|| get_option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL));
    protocol == Ok(libc::IPPROTO_UDP)
}

/// `struct __res_state` of glibc's <resolv.h>, up to the sockets in its part `_u._ext`.
#[repr(C)]
struct ResolverState {
    before: [c_int; if cfg!(target_pointer_width = "64") { 124 } else { 112 }],
    h_errno: c_int,
    between: [c_int; if cfg!(target_pointer_width = "64") { 3 } else { 2 }],
    servers: u16,
    map: [u16; 3],
    sockets: [c_int; 3],
}
unsafe extern "C" {
    safe fn __res_state() -> *mut ResolverState;
}

/// Whether libc's own resolver uses this socket. The reply then belongs to a lookup of libc, which the policy for
/// lookups handles. glibc's resolver was a separate library up to 2.33, and calls the exported recvfrom.
fn is_of_libc(socket: c_int) -> bool {
    // SAFETY: the calling thread's state; musl's is of the same size, and all zeros.
    let (servers, sockets) = unsafe {
        let state = __res_state();
        ((&raw const (*state).servers).read(), (&raw const (*state).sockets).read())
    };
    sockets.iter().take(servers.into()).any(|own| *own == socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use std::cell::Cell;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    thread_local! {
        /// The list in force.
        static LIST: Cell<Option<IsListed>> = const { Cell::new(Some(|name| name == b"example.com")) };
    }

    pub fn allowlist() -> Option<IsListed> {
        LIST.get()
    }

    /// Runs `f` with another list.
    fn listing<T>(list: Option<IsListed>, f: impl FnOnce() -> T) -> T {
        let before = LIST.replace(list);
        let result = f();
        LIST.set(before);
        result
    }

    #[test]
    fn once_the_settings_are_known_to_list_no_host_the_hooks_only_jump() {
        crate::state::load_settings();
        assert!(!may_act());
    }

    /// A reply to AAAA for example.com with two addresses, and what becomes of it.
    fn reply_and_filtered() -> (Vec<u8>, Vec<u8>) {
        let header = *b"\x12\x34\x84\x80\0\x01\0\x02\0\0\0\x01";
        let question = b"\x07example\x03com\0\0\x1c\0\x01";
        let address =
            b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        let options = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
        let reply = [&header[..], question, address, address, options].concat();
        let mut filtered = [&header[..], question, options].concat();
        filtered[7] = 0;
        (reply, filtered)
    }

    /// A socket that these datagrams have been sent to.
    fn with_datagrams(datagrams: &[&[u8]]) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("its address");
        for datagram in datagrams {
            socket.send_to(datagram, address).expect("it can be sent to");
        }
        socket
    }

    /// What recv(2) returns and leaves in a buffer of this size, by way of [`super::filter_buffer`].
    fn receive(socket: c_int, size: usize, flags: c_int) -> (isize, Vec<u8>) {
        let mut buffer = vec![0xee; size];
        let pointer = buffer.as_mut_ptr().cast();
        process::set_errno(77);
        // SAFETY: recv(2) into a buffer.
        let result = unsafe {
            let call = || libc::recv(socket, pointer, size, flags | libc::MSG_DONTWAIT);
            super::filter_buffer(call, socket, pointer, size, flags)
        };
        assert_eq!(process::errno(), 77, "errno");
        buffer.truncate(usize::try_from(result).expect("a datagram is there"));
        (result, buffer)
    }

    #[test]
    fn a_reply_to_a_listed_name_is_received_without_its_addresses() {
        let (reply, filtered) = reply_and_filtered();
        let length = filtered.len().cast_signed();
        let socket = with_datagrams(&[&reply, &reply]);
        let seen = receive(socket.as_raw_fd(), 500, libc::MSG_PEEK);
        assert_eq!(seen, (length, filtered.clone()), "peeked at");
        assert_eq!(receive(socket.as_raw_fd(), 500, 0), (length, filtered), "received");
        let socket = with_datagrams(&[&reply, &reply]);
        let whole = (reply.len().cast_signed(), reply);
        let seen = listing(Some(|_| false), || receive(socket.as_raw_fd(), 500, 0));
        assert_eq!(seen, whole, "of a name that is not listed");
        let seen = listing(None, || receive(socket.as_raw_fd(), 500, 0));
        assert_eq!(seen, whole, "without a list");
    }

    #[test]
    fn a_reply_that_the_buffer_cuts_is_as_long_as_the_one_that_is_left() {
        let (reply, filtered) = reply_and_filtered();
        let question = filtered.len() - 11;
        // The OPT record is at the end, which is cut off.
        let mut wanted = filtered[..question].to_vec();
        wanted[11] = 0;
        let socket = with_datagrams(&[&reply, &reply]);
        for flags in [0, libc::MSG_TRUNC] {
            let seen = receive(socket.as_raw_fd(), 80, flags);
            assert_eq!(seen, (question.cast_signed(), wanted.clone()), "with flags {flags:#x}");
        }
    }

    #[test]
    fn only_datagrams_of_udp_are_looked_at_twice() {
        let (reply, _) = reply_and_filtered();
        let as_it_is = (reply.len().cast_signed(), reply.clone());
        let (datagrams, sender) = UnixDatagram::pair().expect("a pair of sockets");
        sender.send(&reply).expect("a datagram");
        assert_eq!(receive(datagrams.as_raw_fd(), 500, 0), as_it_is, "AF_UNIX");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("its address");
        let mut sender = TcpStream::connect(address).expect("a connection");
        sender.write_all(&reply).expect("it can be written to");
        let (stream, _) = listener.accept().expect("a connection");
        stream.peek(&mut [0]).expect("the bytes are there");
        assert_eq!(receive(stream.as_raw_fd(), 500, 0), as_it_is, "TCP");
    }

    #[test]
    fn a_reply_to_libcs_own_resolver_is_left_alone() {
        let (reply, filtered) = reply_and_filtered();
        let socket = with_datagrams(&[&reply[..]; 5]);
        let descriptor = socket.as_raw_fd();
        for (servers, sockets, is_of_libc) in [
            (0, [descriptor; 3], false),
            (1, [descriptor, -1, -1], true),
            (3, [-1, -1, descriptor], true),
            (2, [-1, -1, descriptor], false),
            (3, [-1; 3], false),
        ] {
            // SAFETY: the state is this thread's, which looks nothing up.
            unsafe {
                let state = __res_state();
                (*state).servers = servers;
                (*state).sockets = sockets;
            }
            let (_, seen) = receive(descriptor, 500, 0);
            let wanted = if is_of_libc { &reply } else { &filtered };
            assert_eq!(seen, *wanted, "{servers} servers, sockets {sockets:?}");
        }
    }

    /// A header for these parts.
    fn header(parts: &mut [iovec]) -> msghdr {
        // SAFETY: all zeros are a header without anything.
        let empty: msghdr = unsafe { std::mem::zeroed() };
        msghdr { msg_iov: parts.as_mut_ptr(), msg_iovlen: parts.len(), ..empty }
    }

    fn parts_of(buffer: &mut [u8], size: usize) -> Vec<iovec> {
        let part =
            |part: &mut [u8]| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
        buffer.chunks_mut(size).map(part).collect()
    }

    #[test]
    fn a_message_in_parts_is_filtered_where_they_are_and_is_no_longer_cut() {
        let (reply, filtered) = reply_and_filtered();
        for (size, length) in [(500, filtered.len()), (80, filtered.len() - 11)] {
            let socket = with_datagrams(&[&reply]);
            let mut buffer = vec![0; size];
            let mut parts = parts_of(&mut buffer, 7);
            let mut header = header(&mut parts);
            let header = &raw mut header;
            let descriptor = socket.as_raw_fd();
            // SAFETY: recvmsg(2) into a header.
            let (result, flags) = unsafe {
                let call = || {
                    let received = libc::recvmsg(descriptor, header, 0);
                    let cut = (*header).msg_flags & libc::MSG_TRUNC != 0;
                    assert_eq!(cut, size < reply.len(), "cut by the kernel");
                    received
                };
                let result = filter_message(call, descriptor, header, 0);
                (result, (*header).msg_flags)
            };
            assert_eq!((result, flags), (length.cast_signed(), 0), "result and flags, {size}");
            assert_eq!(buffer[12..29], filtered[12..29], "the question, in {size} bytes");
        }
    }

    /// What is cut off its start may be an address, so the start alone does not tell.
    #[test]
    fn of_a_large_message_in_parts_only_ipv6_addresses_go() {
        let address = |kind: u8, data: &[u8]| {
            let length = u8::try_from(data.len()).expect("a short address");
            [b"\xc0\x0c\0", &[kind][..], b"\0\x01\0\0\0\x3c\0", &[length], data].concat()
        };
        let count = SMALL / 16 + 10;
        let any = |last: Vec<u8>, count: usize| {
            let count = u16::try_from(count).expect("few").to_be_bytes();
            let header = [b"\x12\x34\x84\x80\0\x01", &count[..], b"\0\0\0\0"].concat();
            let addresses = address(1, &[192, 0, 2, 1]).repeat(SMALL / 16 + 10);
            [header, b"\x07example\x03com\0\0\xff\0\x01".to_vec(), addresses, last].concat()
        };
        let filtered = any(vec![], count);
        for reply in [filtered.clone(), any(address(28, &[1; 16]), count + 1)] {
            let socket = with_datagrams(&[&reply]);
            let mut buffer = vec![0; reply.len()];
            let mut parts = parts_of(&mut buffer, 700);
            let mut header = header(&mut parts);
            let (header, descriptor) = (&raw mut header, socket.as_raw_fd());
            // SAFETY: recvmsg(2) into a header.
            let result = unsafe {
                let call = || libc::recvmsg(descriptor, header, 0);
                filter_message(call, descriptor, header, 0)
            };
            assert_eq!(result, filtered.len().cast_signed(), "of {}", reply.len());
            assert_eq!(buffer[..filtered.len()], filtered);
        }
    }

    #[test]
    fn each_of_several_messages_is_filtered_by_itself() {
        let (reply, filtered) = reply_and_filtered();
        let other = [&reply[..7], &[0, 0, 0, 0, 0], &reply[12..29]].concat();
        let datagrams = [&reply[..], b"x", &reply, &[], &other];
        let socket = with_datagrams(&datagrams);
        let mut buffers = [[0; 500]; 6];
        let mut parts = buffers.each_mut().map(|buffer| parts_of(buffer, 500));
        // The kernel cuts this reply within its records.
        parts[2][0].iov_len = 80;
        let mut cut = filtered[..filtered.len() - 11].to_vec();
        cut[11] = 0;
        let mut vector =
            parts.each_mut().map(|parts| mmsghdr { msg_hdr: header(parts), msg_len: 12345 });
        let (descriptor, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
        let pointer = vector.as_mut_ptr();
        // SAFETY: recvmmsg(2) into a vector of six.
        let count = unsafe {
            let call = || libc::recvmmsg(descriptor, pointer, 6, flags, std::ptr::null_mut());
            filter_messages(call, descriptor, pointer, 6, flags)
        };
        assert_eq!(count, 5, "messages");
        let wanted = [&filtered[..], b"x", &cut, &[], &other];
        let lengths = vector.map(|message| message.msg_len as usize);
        assert_eq!(lengths[..5], wanted.map(<[u8]>::len), "lengths");
        assert_eq!(lengths[5], 12345, "the length of a message that was not received");
        assert_eq!(vector.map(|message| message.msg_hdr.msg_flags), [0; 6], "none is cut any more");
        for (buffer, wanted) in buffers.iter().zip(wanted) {
            assert_eq!(&buffer[..wanted.len()], wanted, "the message");
        }
    }

    #[test]
    fn an_answer_without_records_is_an_error_where_libc_makes_the_question() {
        let (reply, filtered) = reply_and_filtered();
        let whole = c_int::try_from(reply.len()).expect("it is short");
        let rest = c_int::try_from(filtered.len()).expect("it is short");
        let mut state = [0_u8; 568];
        for (makes_question, answered, wanted) in
            [(true, whole, -1), (false, whole, rest), (true, -1, -1), (true, 12, 12)]
        {
            let mut answer = reply.clone();
            state.fill(0);
            // SAFETY: the buffer has the answer, and the state the size of libc's.
            let result = unsafe {
                let (state, answer) = (state.as_mut_ptr().cast(), answer.as_mut_ptr());
                filter_answer(|| answered, state, answer, whole, makes_question)
            };
            assert_eq!(result, wanted, "{answered}, makes the question: {makes_question}");
            let is_filtered = answered == whole;
            assert_eq!(answer == reply, !is_filtered, "the answer is left alone");
            let error = if is_filtered && makes_question { NO_DATA } else { 0 };
            // `res_h_errno` of glibc's <resolv.h>.
            let at = if cfg!(target_pointer_width = "64") { 496 } else { 448 };
            assert_eq!(state[at..at + 4], error.to_ne_bytes(), "what the state says");
        }
    }

    #[test]
    fn of_an_answer_that_is_longer_than_the_buffer_only_the_buffer_is_edited() {
        const LENGTH: u8 = 80;
        let (reply, filtered) = reply_and_filtered();
        let whole = c_int::try_from(reply.len()).expect("it is short");
        let mut answer = reply.clone();
        let start = answer.as_mut_ptr();
        // SAFETY: the buffer has the answer and more; the state is the thread's own.
        let result = unsafe {
            filter_answer(|| whole, std::ptr::null_mut(), start, c_int::from(LENGTH), false)
        };
        // The OPT record is behind it.
        let question = filtered.len() - 11;
        assert_eq!(usize::try_from(result), Ok(question), "the length");
        assert_eq!(answer[12..question], filtered[12..question], "the question");
        let behind = usize::from(LENGTH)..;
        assert_eq!(answer[behind.clone()], reply[behind], "what is behind the buffer");
    }

    #[test]
    fn an_error_and_what_came_with_one_are_left_alone() {
        let (reply, _) = reply_and_filtered();
        let socket = with_datagrams(&[&reply]);
        let seen = receive(socket.as_raw_fd(), 500, libc::MSG_PEEK);
        assert_ne!(seen.0, reply.len().cast_signed(), "it would be changed");
        let mut buffer = reply.clone();
        let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        let received = length.cast_signed();
        let descriptor = socket.as_raw_fd();
        let nowhere = std::ptr::dangling_mut();
        // SAFETY: the buffer has as many bytes as were received; where nothing was, none is read.
        listing(Some(|_| panic!("it is looked up")), || unsafe {
            for flags in [libc::MSG_ERRQUEUE, libc::MSG_OOB] {
                let seen = super::filter_buffer(|| received, descriptor, pointer, length, flags);
                assert_eq!(seen, received, "with flags {flags:#x}");
            }
            for result in [-1, 0] {
                let seen = super::filter_buffer(|| result, descriptor, nowhere, length, 0);
                assert_eq!(seen, result, "recv");
                let seen = filter_message(|| result, descriptor, nowhere.cast(), 0);
                assert_eq!(seen, result, "recvmsg");
            }
            for result in [-1, 0] {
                let seen = filter_messages(|| result, descriptor, nowhere.cast(), 3, 0);
                assert_eq!(seen, result, "recvmmsg");
            }
        });
        assert_eq!(buffer, reply, "the buffer");
    }
}
