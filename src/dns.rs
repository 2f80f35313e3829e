//! What becomes of a DNS reply: one about a listed name reaches the program as if the host had no
//! IPv6 address. This is for programs that bring their own resolver and take its replies from libc
//! by recv(2) and the like.
//!
//! A message is read and changed where the kernel has put it, byte by byte and every position
//! checked: no copy, no allocation, no lock, no panic. It never gets longer. Compression pointers
//! (RFC 1035, section 4.1.4) are never followed, so none can lead in a circle.

use libc::{c_int, c_void, iovec, mmsghdr, msghdr, size_t, ssize_t};
use std::ops::Range;

use crate::logging;
use crate::process::{get_option, in_own_frame, keeping_errno};
use egress_shim_core::allowlist::LONGEST_NAME;

// Record types (IANA, Domain Name System Parameters).
const AAAA: u16 = 28;
const OPT: u16 = 41;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
const ANY: u16 = 255;

// SvcParam keys (RFC 9460, section 14.3.2).
const MANDATORY: u16 = 0;
const IPV6HINT: u16 = 6;

/// Where the header has its flags, and what they are (RFC 1035, section 4.1.1).
const FLAGS: usize = 2;
const TRUNCATED: u16 = 0x0200;
/// Where the header counts the questions.
const QUESTIONS: usize = 4;
/// Of the flags and that count: the bits that say whether it is a reply to one question, and what they are
/// then. QR is set, the opcode is zero.
const START_MASK: u32 = 0xf800_ffff;
const REPLY_START: u32 = 0x8000_0001;
/// Where it counts the records of the answer, the authority and the additional section.
const COUNTS: [usize; 3] = [6, 8, 10];
const HEADER: usize = 12;
/// A message with more records that would have to lose some of them loses all. Where a pointer leads is found by
/// a walk over the records before its target, so 64 KiB of them, from whoever can send to the socket, would
/// take seconds.
const MOST_RECORDS: usize = 100;
/// A header, a name of one letter, a type and a class.
const SHORTEST: usize = HEADER + 3 + 4;

/// What [`Message::edit`] asks about a name; the name is in text form.
pub trait IsListed: Fn(&[u8]) -> bool {}
impl<F: Fn(&[u8]) -> bool> IsListed for F {}

// --- What the hooks call -----------------------------------------------------------------------------
//
// Each takes libc's call, which it makes once, and what is listed. Inlined, so that where that is nothing
// the hook's own call of libc is a jump.

/// What a call into one buffer returns: recv(2) and recvfrom(2).
///
/// # Safety
/// The call is one of these, of the other arguments.
#[inline]
pub unsafe fn receive(
    call: impl FnOnce() -> ssize_t,
    socket: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    is_listed: Option<impl IsListed>,
) -> ssize_t {
    let Some(is_listed) = is_listed else { return call() };
    in_own_frame(move || {
        let received = call();
        let part = iovec { iov_base: buffer, iov_len: length };
        // SAFETY: the kernel has written to the buffer, up to its length, what it says it received.
        unsafe { edited(socket, &raw const part, 1, flags, received, is_listed) }
            .unwrap_or(received)
    })
}

/// What recvmsg(2) returns.
///
/// # Safety
/// The call is that of recvmsg, of the other arguments.
#[inline]
pub unsafe fn receive_message(
    call: impl FnOnce() -> ssize_t,
    socket: c_int,
    header: *mut msghdr,
    flags: c_int,
    is_listed: Option<impl IsListed>,
) -> ssize_t {
    let Some(is_listed) = is_listed else { return call() };
    in_own_frame(move || {
        let received = call();
        // SAFETY: the call has just been made.
        unsafe { edited_message(socket, header, flags, received, is_listed) }.unwrap_or(received)
    })
}

/// What recvmmsg(2) returns.
///
/// # Safety
/// The call is that of recvmmsg, of the other arguments.
#[inline]
pub unsafe fn receive_messages(
    call: impl FnOnce() -> c_int,
    socket: c_int,
    vector: *mut mmsghdr,
    flags: c_int,
    is_listed: Option<impl IsListed>,
) -> c_int {
    let Some(is_listed) = is_listed else { return call() };
    in_own_frame(move || {
        let count = call();
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the kernel has written the vector's first `count` elements. It asks for no alignment.
            unsafe {
                let element = vector.add(index);
                let length = &raw mut (*element).msg_len;
                let received = ssize_t::try_from(length.read_unaligned()).unwrap_or(0);
                let header = &raw mut (*element).msg_hdr;
                let received = edited_message(socket, header, flags, received, &is_listed);
                if let Some(Ok(received)) = received.map(TryInto::try_into) {
                    length.write_unaligned(received);
                }
            }
        }
        count
    })
}

/// The new length of a message that has been changed. One that was cut (`MSG_TRUNC`) fits now.
///
/// # Safety
/// recvmsg(2) has just returned `received` for the other arguments, or recvmmsg(2) left it.
unsafe fn edited_message(
    socket: c_int,
    header: *mut msghdr,
    flags: c_int,
    received: ssize_t,
    is_listed: impl IsListed,
) -> Option<ssize_t> {
    if received <= 0 {
        return None;
    }
    // SAFETY: the kernel has read the header and its parts, and written to both the header and what
    // the parts say. It asks for no alignment.
    unsafe {
        let parts = (&raw const (*header).msg_iov).read_unaligned();
        let count = (&raw const (*header).msg_iovlen).read_unaligned();
        let length = edited(socket, parts, count, flags, received, is_listed)?;
        let flags = &raw mut (*header).msg_flags;
        flags.write_unaligned(flags.read_unaligned() & !libc::MSG_TRUNC);
        Some(length)
    }
}

/// Flags with which the kernel fills the buffer, whatever the socket is. With `MSG_TRUNC` TCP discards what it
/// says it received (tcp(7)).
const FILLING: c_int = libc::MSG_PEEK
    | libc::MSG_DONTWAIT
    | libc::MSG_WAITALL
    | libc::MSG_NOSIGNAL
    | libc::MSG_CMSG_CLOEXEC
    | libc::MSG_WAITFORONE;

/// The new length of a message that has been changed; `None` if it stays as it is. Most messages are told from
/// a reply here, by a load and a compare.
///
/// # Safety
/// As for [`Message::received`].
#[inline(always)]
unsafe fn edited(
    socket: c_int,
    parts: *const iovec,
    count: usize,
    flags: c_int,
    received: ssize_t,
    is_listed: impl IsListed,
) -> Option<ssize_t> {
    const START: usize = QUESTIONS + 2;
    if received < SHORTEST.cast_signed() || count == 0 || flags & !FILLING != 0 && !is_udp(socket) {
        return None;
    }
    // SAFETY: there is a first part, which the kernel has filled before any other.
    unsafe {
        let part = parts.read_unaligned();
        if part.iov_len >= START {
            let start = part.iov_base.cast::<u8>().add(FLAGS).cast::<u32>().read_unaligned();
            if u32::from_be(start) & START_MASK != REPLY_START {
                return None;
            }
        }
        edited_reply(socket, &Message::received(parts, count, received), flags, is_listed)
    }
}

/// The same, once the message looks like a reply. Nothing is asked of the kernel, and no name looked up,
/// unless the question is one that could have IPv6 addresses in its reply.
#[inline(never)]
fn edited_reply(
    socket: c_int,
    message: &Message,
    flags: c_int,
    is_listed: impl IsListed,
) -> Option<ssize_t> {
    let question = message.question()?;
    // What the error queue has is what was sent (recv(2)); urgent data is one byte of a stream.
    if flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB) != 0 || !is_udp(socket) || is_of_libc(socket) {
        return None;
    }
    let length = keeping_errno(|| {
        let is_listed = |name: &[u8]| {
            let listed = is_listed(name);
            let verdict = if listed { "listed, IPv4 only" } else { "not listed, left alone" };
            logging::debug!("DNS reply: {}: {verdict}", name.escape_ascii());
            listed
        };
        message.edit(&question, is_listed)
    });
    ssize_t::try_from(length?).ok()
}

/// Whether a socket is one of UDP. A bare system call, as for all socket options; errno is kept.
#[inline(never)]
fn is_udp(socket: c_int) -> bool {
    let protocol = keeping_errno(|| get_option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL));
    protocol == Ok(libc::IPPROTO_UDP)
}

/// `struct __res_state` of glibc's <resolv.h>, up to the sockets in its part `_u._ext`.
#[repr(C)]
struct ResolverState {
    before: [u64; 64],
    servers: u16,
    map: [u16; 3],
    sockets: [c_int; 3],
}
unsafe extern "C" {
    safe fn __res_state() -> *mut ResolverState;
}

/// Whether libc's own resolver asks on this socket: the reply is to a lookup of libc's, which the policy for
/// lookups has dealt with. glibc's was a library of its own up to 2.33, and calls the exported recvfrom.
fn is_of_libc(socket: c_int) -> bool {
    // SAFETY: the calling thread's state; musl's is of the same size, and all zeros.
    let (servers, sockets) = unsafe {
        let state = __res_state();
        ((&raw const (*state).servers).read(), (&raw const (*state).sockets).read())
    };
    sockets.iter().take(servers.into()).any(|own| *own == socket)
}

// --- The message -------------------------------------------------------------------------------------

/// A received message, in the parts that the program gave for it.
#[derive(Clone, Copy)]
pub struct Message {
    parts: *const iovec,
    count: usize,
    length: usize,
}

/// The one question of a reply.
pub struct Question {
    kind: u16,
    end: usize,
}

/// A record: where it starts, its type, where its data starts, and where it ends.
struct Record {
    start: usize,
    kind: u16,
    data: usize,
    end: usize,
}

/// A name: where it starts and ends, and where the pointer is that ends it, if one does.
struct Name {
    start: usize,
    end: usize,
    pointer: Option<usize>,
}

impl Message {
    /// A message of which `received` bytes were received; the parts may hold only its beginning.
    ///
    /// # Safety
    /// As long as the message is used, `parts` are `count` parts that can be read, whatever their
    /// alignment; so can as much of the memory that they describe as was received, and be written.
    #[must_use]
    pub unsafe fn received(parts: *const iovec, count: usize, received: ssize_t) -> Self {
        let message = Self { parts, count, length: 0 };
        let length = usize::try_from(received).unwrap_or(0);
        let room = (0..count).fold(0, |room: usize, index| {
            if room < length { room.saturating_add(message.part(index).iov_len) } else { room }
        });
        Self { length: length.min(room), ..message }
    }

    /// The question, if the bytes look like a reply that may have IPv6 addresses in it.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        let start = u32::from(self.number(FLAGS)?) << 16 | u32::from(self.number(QUESTIONS)?);
        if self.length < SHORTEST || start & START_MASK != REPLY_START {
            return None;
        }
        let Name { end, pointer: None, .. } = self.name(HEADER)? else { return None };
        let kind = self.number(end)?;
        let internet = self.number(end + 2)? == 1;
        (internet && matches!(kind, AAAA | ANY | HTTPS | SVCB))
            .then_some(Question { kind, end: end + 4 })
    }

    /// Takes the IPv6 addresses out, if the name is listed. Gives the new length if anything has been
    /// changed.
    ///
    /// A reply to AAAA becomes one without data: the same header and question, no records but the OPT
    /// pseudo-record. It is then whole, so the program need not ask again over TCP. One that has no
    /// AAAA record as it is stays, with all that says why. From replies to other questions the AAAA
    /// records and the `ipv6hint` parameters go, and where that cannot be done, all records.
    #[inline(never)]
    pub fn edit(&self, question: &Question, is_listed: impl IsListed) -> Option<usize> {
        let mut buffer = [0; LONGEST_NAME];
        if !is_listed(self.host_name(&mut buffer)?) {
            return None;
        }
        if question.kind != AAAA {
            return match self.has_ipv6(question) {
                Some(false) => None,
                Some(true) if self.fix_pointers(question).is_some() => self.close_gaps(question),
                _ => self.drop_records(question),
            };
        }
        let flags = self.number(FLAGS)?;
        let has_address = |record: Option<(usize, Record)>| {
            record.is_none_or(|(section, record)| section == COUNTS[0] && record.kind == AAAA)
        };
        if flags & TRUNCATED == 0 && !self.records(question).any(has_address) {
            return None;
        }
        self.set_number(FLAGS, flags & !TRUNCATED)?;
        self.drop_records(question)
    }

    /// The name in question, if it can be a host's: labels of letters, digits, `-` and `_`.
    fn host_name<'a>(&self, buffer: &'a mut [u8; LONGEST_NAME]) -> Option<&'a [u8]> {
        let mut length: usize = 0;
        let mut position = HEADER;
        loop {
            let label = usize::from(self.byte(position)?);
            if label == 0 {
                // The last label's dot is left out.
                return buffer.get(..length.checked_sub(1)?);
            }
            for position in position + 1..=position + label {
                let byte = self.byte(position)?;
                if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                    return None;
                }
                *buffer.get_mut(length)? = byte;
                length += 1;
            }
            // The longest name has no room for the last dot, and no need of it.
            if let Some(dot) = buffer.get_mut(length) {
                *dot = b'.';
            }
            length += 1;
            position += label + 1;
        }
    }

    // --- Records -------------------------------------------------------------------------------------

    /// Drops all records but the OPT pseudo-record (RFC 6891), which has no name that could point
    /// anywhere. Gives the new length.
    fn drop_records(&self, question: &Question) -> Option<usize> {
        let additional = COUNTS[2];
        let options = self
            .records(question)
            .map_while(|record| record)
            .find(|(section, record)| {
                let is_root = self.byte(record.start) == Some(0);
                *section == additional && record.kind == OPT && is_root
            })
            .map(|(_, record)| record);
        for count in COUNTS {
            self.set_number(count, u16::from(count == additional && options.is_some()))?;
        }
        match options {
            Some(record) => self.copy(record.start..record.end, question.end),
            None => Some(question.end),
        }
    }

    /// Whether anything has to go; `None` if the message cannot be read to its end.
    fn has_ipv6(&self, question: &Question) -> Option<bool> {
        let mut found = false;
        for record in self.records(question) {
            found |= !self.removed(&record?.1)?.is_empty();
        }
        Some(found)
    }

    /// Makes each compression pointer say where its target will be once the gaps are closed.
    fn fix_pointers(&self, question: &Question) -> Option<()> {
        if self.records(question).nth(MOST_RECORDS).is_some() {
            return None;
        }
        for record in self.records(question) {
            let (_, record) = record?;
            if self.removed(&record)?.start != record.start {
                for name in self.names(&record) {
                    if let Some(pointer) = name?.pointer {
                        let target = usize::from(self.number(pointer)? & !POINTER);
                        let target = self.moved(question, target)?;
                        self.set_number(pointer, POINTER | u16::try_from(target).ok()?)?;
                    }
                }
            }
        }
        Some(())
    }

    /// Where the target of a pointer will be; `None` if it is no label of a name that stays.
    fn moved(&self, question: &Question, target: usize) -> Option<usize> {
        if target < question.end {
            return self.is_label(&self.name(HEADER)?, target).then_some(target);
        }
        let mut moved = target;
        for record in self.records(question) {
            let (_, record) = record?;
            let removed = self.removed(&record)?;
            if target < record.end {
                let is_target =
                    |name: Option<Name>| name.is_some_and(|name| self.is_label(&name, target));
                let stays = removed.start != record.start && self.names(&record).any(is_target);
                return stays.then_some(moved);
            }
            moved = moved.checked_sub(removed.len())?;
        }
        None
    }

    /// Whether a name has a label, its end or its pointer at a position.
    fn is_label(&self, name: &Name, target: usize) -> bool {
        let mut position = name.start;
        while position < target {
            match self.byte(position) {
                Some(length @ 1..=63) => position += 1 + usize::from(length),
                _ => return false,
            }
        }
        position == target
    }

    /// Moves what stays over what goes. Gives the new length.
    fn close_gaps(&self, question: &Question) -> Option<usize> {
        let mut read = question.end;
        let mut write = question.end;
        for record in self.records(question) {
            let (section, record) = record?;
            let removed = self.removed(&record)?;
            if removed.start == record.start {
                self.set_number(section, self.number(section)?.checked_sub(1)?)?;
            } else {
                let length = record.end - record.data - removed.len();
                self.set_number(record.data - 2, u16::try_from(length).ok()?)?;
            }
            write = self.copy(record.start..removed.start, write)?;
            write = self.copy(removed.end..record.end, write)?;
            read = record.end;
        }
        self.copy(read..self.length, write)
    }

    /// What of a record has to go: all of an AAAA record, the `ipv6hint` of an HTTPS or SVCB record, of
    /// others nothing. `None` if the record is not as its type asks.
    fn removed(&self, record: &Record) -> Option<Range<usize>> {
        let all = record.start..record.end;
        let nothing = record.end..record.end;
        if record.kind == AAAA {
            return Some(all);
        }
        if !matches!(record.kind, HTTPS | SVCB) {
            return Some(nothing);
        }
        // A priority, a target, and then key, length and value of each parameter in the order of the
        // keys (RFC 9460, section 2.2).
        let mut position = self.name(record.data + 2)?.end;
        let mut removed = nothing;
        let mut lowest = 0;
        while position < record.end {
            let key = self.number(position)?;
            let value = position + 4;
            let end = value + usize::from(self.number(position + 2)?);
            if u32::from(key) < lowest || end > record.end {
                return None;
            }
            // Whoever does not know a mandatory key must ignore the record (section 8).
            let is_hint = |second_byte| self.number(second_byte - 1) == Some(IPV6HINT);
            if key == MANDATORY && (value + 1..end).step_by(2).any(is_hint) {
                removed = all.clone();
            } else if key == IPV6HINT && removed.is_empty() {
                removed = position..end;
            }
            lowest = u32::from(key) + 1;
            position = end;
        }
        (position == record.end).then_some(removed)
    }

    /// The records, each with the place of its section's count; `None` is one that cannot be read, and
    /// the last.
    fn records(&self, question: &Question) -> impl Iterator<Item = Option<(usize, Record)>> {
        let mut position = Some(question.end);
        let counts = COUNTS.map(|count| (count, self.number(count).unwrap_or(0)));
        counts.into_iter().flat_map(|(section, count)| (0..count).map(move |_| section)).map_while(
            move |section| {
                let record = self.record(position?);
                position = record.as_ref().map(|record| record.end);
                Some(record.map(|record| (section, record)))
            },
        )
    }

    fn record(&self, start: usize) -> Option<Record> {
        let fields = self.name(start)?.end;
        let data = fields + 10;
        let end = data + usize::from(self.number(fields + 8)?);
        let kind = self.number(fields)?;
        (end <= self.length).then_some(Record { start, kind, data, end })
    }

    /// The names of a record, its owner's first; `None` is one that cannot be read.
    fn names(&self, record: &Record) -> impl Iterator<Item = Option<Name>> {
        let (offset, count) = names_in(record.kind);
        let (mut position, data, end) = (record.start, record.data, record.end);
        (0..=count).map(move |index| {
            let name = self.name(position).filter(|name| name.end <= end)?;
            position = if index == 0 { data + offset } else { name.end };
            Some(name)
        })
    }

    fn name(&self, start: usize) -> Option<Name> {
        let mut position = start;
        loop {
            match self.byte(position)? {
                0 => return Some(Name { start, end: position + 1, pointer: None }),
                length @ 1..=63 => position += 1 + usize::from(length),
                _ => {
                    let target = self.number(position)?;
                    // A name that comes before this one; what is neither a length nor a pointer is
                    // not in use (RFC 6891, section 5).
                    let is_pointer = target >= POINTER && usize::from(target & !POINTER) < start;
                    return is_pointer.then_some(Name {
                        start,
                        end: position + 2,
                        pointer: Some(position),
                    });
                }
            }
        }
    }

    // --- Bytes ---------------------------------------------------------------------------------------

    /// Copies bytes to a place that is not behind their own. Gives the end of the copy.
    fn copy(&self, from: Range<usize>, mut to: usize) -> Option<usize> {
        if from.start == to {
            return Some(from.end);
        }
        for position in from {
            self.set_byte(to, self.byte(position)?)?;
            to += 1;
        }
        Some(to)
    }

    fn number(&self, position: usize) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte(position)?, self.byte(position + 1)?]))
    }

    fn set_number(&self, position: usize, number: u16) -> Option<()> {
        let [high, low] = number.to_be_bytes();
        self.set_byte(position, high)?;
        self.set_byte(position + 1, low)
    }

    fn byte(&self, position: usize) -> Option<u8> {
        // SAFETY: within what was received, which can be read.
        self.address(position).map(|address| unsafe { address.read() })
    }

    fn set_byte(&self, position: usize, byte: u8) -> Option<()> {
        // SAFETY: within what was received, which the kernel has written.
        self.address(position).map(|address| unsafe { address.write(byte) })
    }

    fn address(&self, position: usize) -> Option<*mut u8> {
        if position >= self.length {
            return None;
        }
        let mut offset = position;
        for index in 0..self.count {
            let part = self.part(index);
            if offset < part.iov_len {
                return Some(part.iov_base.cast::<u8>().wrapping_add(offset));
            }
            offset -= part.iov_len;
        }
        None
    }

    fn part(&self, index: usize) -> iovec {
        // SAFETY: callers keep to the count, and the parts can be read (`received`).
        unsafe { self.parts.add(index).read_unaligned() }
    }
}

/// What the first two bits of a compression pointer are.
const POINTER: u16 = 0xc000;

/// Where in a record's data names are that may be compressed, and how many: the types of RFC 1035 and
/// those that RFC 3597, section 4, adds for old senders, but for NAPTR, whose name nobody compresses.
fn names_in(kind: u16) -> (usize, usize) {
    match kind {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NXT
        2..=5 | 7..=9 | 12 | 30 => (0, 1),
        // SOA, MINFO, RP
        6 | 14 | 17 => (0, 2),
        // MX, AFSDB, RT; and the target of SVCB and HTTPS
        15 | 18 | 21 | SVCB | HTTPS => (2, 1),
        // PX
        26 => (2, 2),
        // SRV
        33 => (6, 1),
        // SIG
        24 => (18, 1),
        _ => (0, 0),
    }
}

#[cfg(test)]
#[path = "../tests/fuzz/dns_model.rs"]
mod model;

#[cfg(test)]
mod tests {
    use super::model::{Record, assert_promises};
    use super::*;
    use crate::process;
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    // Replies of BIND 9.18, authoritative for a zone made for this, with EDNS.
    const ANY_EXAMPLE_COM: &str = "\
        123485000001000900000001076578616d706c6503636f6d0000ff0001c00c000600010000012c0027036e7331\
        c00c0a686f73746d6173746572c00c0000000100000002000000030000000400000005c00c000200010000012c\
        0006036e7332c00cc00c000200010000012c0002c029c00c000100010000012c0004c0000201c00c001c000100\
        00012c001020010db8000000000000000000000001c00c001c00010000012c001020010db80000000000000000\
        00000002c00c000f00010000012c0009000a046d61696cc00cc00c001000010000012c000a09736f6d65207465\
        7874c00c004100010000012c00390001000001000602683202683300040004c00002010006002020010db80000\
        0000000000000000000120010db800000000000000000000000200002904d0000000000000";
    const AAAA_EXAMPLE_COM: &str = "\
        123485000001000200020004076578616d706c6503636f6d00001c0001c00c001c00010000012c001020010db8\
        000000000000000000000002c00c001c00010000012c001020010db8000000000000000000000001c00c000200\
        010000012c0006036e7332c00cc00c000200010000012c0006036e7331c00cc073000100010000012c0004c000\
        0202c073001c00010000012c001020010db8000000000000000000000003c061001c00010000012c001020010d\
        b800000000000000000000000400002904d0000000000000";
    const AAAA_OF_ALIAS: &str = "\
        12348500000100020002000403777777076578616d706c6503636f6d00001c0001c00c000500010000012c0006\
        03617069c010c02d001c00010000012c001020010db8000000000000000000000009c010000200010000012c00\
        06036e7332c010c010000200010000012c0006036e7331c010c06d000100010000012c0004c0000202c06d001c\
        00010000012c001020010db8000000000000000000000003c05b001c00010000012c001020010db80000000000\
        0000000000000400002904d0000000000000";
    const AAAA_OF_IPV4_HOST: &str = "\
        12348500000100000001000104666f7572076578616d706c6503636f6d00001c0001c011000600010000000500\
        27036e7331c0110a686f73746d6173746572c011000000010000000200000003000000040000000500002904d0\
        000000000000";
    const AAAA_OF_NOBODY: &str = "\
        123485030001000000010001046e6f6e65076578616d706c6503636f6d00001c0001c011000600010000000500\
        27036e7331c0110a686f73746d6173746572c011000000010000000200000003000000040000000500002904d0\
        000000000000";
    /// An alias; two HTTPS records, of which the first makes its hint mandatory; and addresses whose
    /// names point into the second.
    const HTTPS_OF_ALIAS: &str = "\
        12348500000100030002000803777777076578616d706c6503636f6d0000410001c00c000500010000012c0006\
        03617069c010c02d004100010000012c001d0002000000000200060006001020010db800000000000000000000\
        0009c02d004100010000012c002e000104706f6f6c076578616d706c6503636f6d000003000220fb0006001020\
        010db8000000000000000000000009c06f000200010000012c0006036e7331c06fc06f000200010000012c0006\
        036e7332c06fc06a000100010000012c0004c000020ac02d000100010000012c0004c0000209c0a20001000100\
        00012c0004c0000202c06a001c00010000012c001020010db8000000000000000000000010c02d001c00010000\
        012c001020010db8000000000000000000000009c0a2001c00010000012c001020010db8000000000000000000\
        000003c0b4001c00010000012c001020010db800000000000000000000000400002904d0000000000000";
    const SVCB_OF_DNS: &str = "\
        123485000001000100020006045f646e73076578616d706c6503636f6d0000400001c00c004000010000012c00\
        360001046d61696c076578616d706c6503636f6d000001000403646f740006001020010db80000000000000000\
        00000005ff3500026578c035000200010000012c0006036e7332c035c035000200010000012c0006036e7331c0\
        35c030000100010000012c0004c0000203c082000100010000012c0004c0000202c030001c00010000012c0010\
        20010db8000000000000000000000005c082001c00010000012c001020010db8000000000000000000000003c0\
        70001c00010000012c001020010db800000000000000000000000400002904d0000000000000";
    const REPLIES: [&str; 7] = [
        ANY_EXAMPLE_COM,
        AAAA_EXAMPLE_COM,
        AAAA_OF_ALIAS,
        AAAA_OF_IPV4_HOST,
        AAAA_OF_NOBODY,
        HTTPS_OF_ALIAS,
        SVCB_OF_DNS,
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit");
        let byte = |pair: &[u8]| u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).unwrap();
        hex.as_bytes().chunks(2).map(byte).collect()
    }

    /// What becomes of a reply in parts of this size, if anything, where names are listed as said.
    fn edited_in_parts(reply: &[u8], size: usize, is_listed: impl IsListed) -> Option<Vec<u8>> {
        // A byte that is of no part stands behind each, so that none begins where another ends.
        let mut buffers: Vec<_> = reply.chunks(size).map(|part| [part, &[0xee]].concat()).collect();
        let mut parts: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() - 1 })
            .collect();
        // An empty part, which a program may give, and room that was not filled.
        parts.insert(0, iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
        parts.push(iovec { iov_base: std::ptr::null_mut(), iov_len: 1000 });
        let length = reply.len().cast_signed();
        // SAFETY: the parts are those of the reply, and nothing beyond its length is received.
        let message = unsafe { Message::received(parts.as_ptr(), parts.len(), length) };
        let length = message.question().and_then(|question| message.edit(&question, is_listed));
        let part = |buffer: &Vec<u8>| {
            let (behind, part) = buffer.split_last().expect("it has that byte");
            assert_eq!(*behind, 0xee, "the byte behind a part");
            part.to_vec()
        };
        let reply: Vec<_> = buffers.iter().flat_map(part).collect();
        length.map(|length| reply[..length].to_vec())
    }

    /// What becomes of a reply about a listed name.
    #[track_caller]
    fn edited_reply(reply: &[u8]) -> Option<Vec<u8>> {
        let whole = edited_in_parts(reply, reply.len().max(1), |_| true);
        for size in [1, 5] {
            assert_eq!(edited_in_parts(reply, size, |_| true), whole, "in parts of {size} bytes");
        }
        if let Some(changed) = &whole {
            let again = edited_in_parts(changed, changed.len(), |_| true);
            assert_eq!(again, None, "what becomes of the changed reply");
        }
        whole
    }

    fn said(reply: &[u8]) -> model::Message {
        model::Message::read(reply).expect("the reply can be read")
    }

    fn kinds(records: &[Record]) -> Vec<u16> {
        records.iter().map(|record| record.kind).collect()
    }

    #[test]
    fn a_reply_to_aaaa_becomes_one_without_data() {
        for reply in [AAAA_EXAMPLE_COM, AAAA_OF_ALIAS] {
            let reply = bytes(reply);
            let seen = edited_reply(&reply).expect("it is changed");
            let question = if reply[12] == 3 { 33 } else { 29 };
            let mut wanted = reply[..question].to_vec();
            wanted[6..12].copy_from_slice(&[0, 0, 0, 0, 0, 1]);
            wanted.extend_from_slice(&reply[reply.len() - 11..]);
            assert_eq!(seen, wanted, "header, question, OPT record");
        }
    }

    #[test]
    fn a_reply_that_already_says_no_address_is_unchanged() {
        let alias = reply(AAAA, &[(&[0xc0, 12], 5, b"\x01a\xc0\x0c")]);
        let mut beside = reply(AAAA, &[(&[0xc0, 12], AAAA, ADDRESS)]);
        // In the additional section, not in the answer.
        beside.swap(7, 11);
        for reply in [bytes(AAAA_OF_IPV4_HOST), bytes(AAAA_OF_NOBODY), alias, beside] {
            assert_eq!(edited_reply(&reply), None, "what becomes of {reply:x?}");
        }
    }

    #[test]
    fn from_other_replies_only_what_is_of_ipv6_goes() {
        for (reply, wanted) in [
            (ANY_EXAMPLE_COM, [&[6, 2, 2, 1, 15, 16, 65][..], &[], &[41]]),
            (HTTPS_OF_ALIAS, [&[5, 65], &[2, 2], &[1, 1, 1, 41]]),
            (SVCB_OF_DNS, [&[64], &[2, 2], &[1, 1, 41]]),
        ] {
            let reply = bytes(reply);
            let seen = said(&edited_reply(&reply).expect("it is changed"));
            assert_eq!(seen.records.each_ref().map(|records| kinds(records)), wanted, "types");
            assert_eq!(Some(seen), said(&reply).without_ipv6(), "what the reply says");
        }
    }

    #[test]
    fn a_truncated_reply_to_aaaa_is_whole_without_its_addresses() {
        // As a server sends it that wants to be asked over TCP: no records, TC.
        let mut reply = bytes(AAAA_EXAMPLE_COM)[..29].to_vec();
        reply[2] |= 0x02;
        reply[6..12].fill(0);
        let mut wanted = reply.clone();
        wanted[2] &= !0x02;
        assert_eq!(edited_reply(&reply), Some(wanted), "with no records, without TC");
        // Other replies are for the program to ask for again.
        reply[26] = 65;
        assert_eq!(edited_reply(&reply), None, "to HTTPS");
    }

    /// A reply to a question of example.com with these records in its answer.
    fn reply(kind: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut reply = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
        reply[7] = u8::try_from(records.len()).unwrap();
        reply.extend(b"\x07example\x03com\0");
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        for (name, kind, data) in records {
            reply.extend(*name);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60]);
            reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            reply.extend(*data);
        }
        reply
    }

    const ADDRESS: &[u8] = &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn names_that_point_behind_what_goes_still_say_the_same() {
        // Each type whose data may have compressed names, with a pointer to the second record's
        // data, which moves, as has its owner.
        let target = [0xc0, 29 + 28 + 14];
        for (kind, before, names) in [
            (2, 0, 1),
            (5, 0, 1),
            (6, 0, 2),
            (12, 0, 1),
            (14, 0, 2),
            (15, 2, 1),
            (17, 0, 2),
            (18, 2, 1),
            (21, 2, 1),
            (24, 18, 1),
            (26, 2, 2),
            (30, 0, 1),
            (33, 6, 1),
        ] {
            let mut data = vec![7; before];
            for _ in 0..names {
                data.extend(b"\x01x");
                data.extend(target);
            }
            data.extend([9; 20]);
            let reply = reply(
                ANY,
                &[
                    (&[0xc0, 12], AAAA, ADDRESS),
                    (&[0xc0, 12], 15, b"\0\x0a\x04mail\xc0\x0c"),
                    (&target, kind, &data),
                    (&target, 1, &[192, 0, 2, 1]),
                ],
            );
            let seen = said(&edited_reply(&reply).expect("it is changed"));
            assert_eq!(Some(seen), said(&reply).without_ipv6(), "type {kind}");
        }
    }

    #[test]
    fn names_that_point_to_the_start_of_a_kept_record_stay_the_same() {
        let (first, third) = (29, 29 + 18 + 28);
        let reply = reply(
            ANY,
            &[
                (b"\x01a\xc0\x0c", 1, &[192, 0, 2, 1]),
                (&[0xc0, first], AAAA, ADDRESS),
                (b"\x01b\xc0\x0c", 1, &[192, 0, 2, 2]),
                (&[0xc0, first], 1, &[192, 0, 2, 3]),
                (&[0xc0, third], 1, &[192, 0, 2, 4]),
            ],
        );
        let seen = said(&edited_reply(&reply).expect("it is changed"));
        assert_eq!(Some(seen), said(&reply).without_ipv6());
    }

    #[test]
    fn names_that_point_into_what_goes_take_all_records_with_them() {
        let into_owner = reply(
            ANY,
            &[
                (&[0xc0, 12], 1, &[192, 0, 2, 1]),
                (b"\x04mail\xc0\x0c", AAAA, ADDRESS),
                (&[0xc0, 29 + 16], 1, &[192, 0, 2, 2]),
            ],
        );
        // The second byte of a label, taken for a length, goes up to the length of the record.
        let parameters = [&[0, 1, 0, 0, 6, 0, 16], ADDRESS].concat();
        let into_label = reply(
            ANY,
            &[(b"\x02\x0dx\xc0\x0c", HTTPS, &parameters), (&[0xc0, 29 + 1], 1, &[192, 0, 2, 1])],
        );
        for reply in [into_owner, into_label] {
            let seen = said(&edited_reply(&reply).expect("it is changed"));
            assert_eq!(seen, said(&reply).without_records());
        }
    }

    #[test]
    fn a_reply_with_more_records_than_any_has_keeps_none_and_costs_no_time() {
        // Each name points as far as a pointer can, so each is looked for in more than a thousand records.
        let question = reply(ANY, &[]);
        let mut reply = [&question, &reply(ANY, &[(&[0xc0, 12], AAAA, ADDRESS)])[29..]].concat();
        let (mut count, mut target) = (1_u16, 12);
        while reply.len() < 60_000 {
            if reply.len() < usize::from(!POINTER) {
                target = u16::try_from(reply.len()).unwrap();
            }
            let name = (POINTER | if reply.len() < 16_000 { 12 } else { target }).to_be_bytes();
            reply.extend([&name[..], &[0, 2, 0, 1, 0, 0, 0, 60, 0, 2], &name].concat());
            count += 1;
        }
        reply[6..8].copy_from_slice(&count.to_be_bytes());
        let start = std::time::Instant::now();
        let seen = edited_in_parts(&reply, 1000, |_| true);
        assert_eq!(seen, Some(question), "the reply");
        // Without the limit it takes many seconds.
        assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[test]
    fn a_reply_that_cannot_be_read_to_its_end_has_no_records_left() {
        for reply in [ANY_EXAMPLE_COM, AAAA_EXAMPLE_COM, HTTPS_OF_ALIAS] {
            let mut reply = bytes(reply);
            reply.truncate(reply.len() - 12);
            let seen = said(&edited_reply(&reply).expect("it is changed"));
            assert_eq!(seen.records, [const { Vec::new() }; 3], "records");
        }
        // Names that point to themselves and further on, and two of the kinds that are not in use.
        for name in [&[0xc0, 29], &[0xc0, 30], &[0x40, 12], &[0x80, 12]] {
            let reply = reply(ANY, &[(name, 1, &[192, 0, 2, 1])]);
            let length = edited_reply(&reply).map(|reply| reply.len());
            assert_eq!(length, Some(29), "length with the name {name:x?}");
        }
    }

    #[test]
    fn parameters_out_of_order_take_all_records_with_them() {
        for parameters in
            [&[0, 6, 0, 0, 0, 6, 0, 0][..], &[0, 6, 0, 0, 0, 3, 0, 0], &[0, 6, 0, 9, 0], &[0, 6, 0]]
        {
            let data = [&[0, 1, 0], parameters].concat();
            let reply = reply(HTTPS, &[(&[0xc0, 12], HTTPS, &data)]);
            let seen = edited_reply(&reply).map(|reply| reply.len());
            assert_eq!(seen, Some(29), "length with {parameters:?}");
        }
    }

    #[test]
    fn what_is_no_reply_about_addresses_of_a_host_is_not_looked_up() {
        let reply = reply(AAAA, &[(&[0xc0, 12], AAAA, ADDRESS)]);
        let changed = |at: usize, to: &[u8]| {
            let mut reply = reply.clone();
            reply[at..at + to.len()].copy_from_slice(to);
            reply
        };
        assert!(edited_reply(&reply).is_some(), "as it is, it is changed");
        for (what, reply) in [
            ("a question", changed(2, &[0x01])),
            ("a status, not a query", changed(2, &[0x90])),
            ("an update", changed(2, &[0xa8])),
            ("no question", changed(5, &[0])),
            ("two questions", changed(5, &[2])),
            ("many questions", changed(4, &[1])),
            ("the root", [&changed(12, &[0])[..13], &[0, 28, 0, 1, 0, 0, 0, 0]].concat()),
            ("a pointer", changed(12, &[0xc0, 0])),
            ("a label that is none", changed(12, &[0x40])),
            ("a label up to the end", changed(12, &[63])),
            ("a dot in a label", changed(15, b".")),
            ("a space in a label", changed(15, b" ")),
            ("a zero in a label", changed(15, b"\0")),
            ("a letter beyond ASCII", changed(15, &[0xe4])),
            ("the type A", changed(26, &[1])),
            ("the type CNAME", changed(26, &[5])),
            ("a type of two bytes", changed(25, &[1])),
            ("the class CHAOS", changed(28, &[3])),
            ("any class", changed(28, &[255])),
            ("multicast DNS", changed(27, &[0x80])),
        ] {
            let asked = RefCell::new(Vec::new());
            let is_listed = |name: &[u8]| {
                asked.borrow_mut().push(String::from_utf8_lossy(name).into_owned());
                true
            };
            let seen = edited_in_parts(&reply, reply.len(), is_listed);
            assert_eq!((seen, asked.into_inner()), (None, vec![]), "{what}: change, names");
        }
        for length in 0..29 {
            let seen = edited_in_parts(&reply[..length], 100, |name| panic!("{name:?}"));
            assert_eq!(seen, None, "{length} bytes");
        }
    }

    #[test]
    fn the_name_is_looked_up_as_it_was_asked() {
        let longest = [&[b'a'; 63][..], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]];
        let too_long = [&[b'a'; 63][..], &[b'b'; 63], &[b'c'; 63], &[b'd'; 62]];
        for (labels, is_a_host) in [
            (&[&b"a"[..]][..], true),
            (&[b"API", b"OpenAI", b"cOM"], true),
            (&[b"_8443", b"_https", b"1", b"xn--bcher-kva"], true),
            (&longest, true),
            (&too_long, false),
        ] {
            let mut reply = vec![0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in labels {
                reply.push(u8::try_from(label.len()).unwrap());
                reply.extend(*label);
            }
            reply.extend([0, 0, 28, 0, 1]);
            let asked = RefCell::new(Vec::new());
            let is_listed = |name: &[u8]| {
                asked.borrow_mut().push(name.to_vec());
                false
            };
            assert_eq!(edited_in_parts(&reply, reply.len(), is_listed), None, "it is not listed");
            let wanted = if is_a_host { vec![labels.join(&b'.')] } else { vec![] };
            assert_eq!(asked.into_inner(), wanted, "names that were looked up");
        }
    }

    #[test]
    fn whatever_a_reply_has_in_it_the_promises_hold() {
        for reply in REPLIES {
            let reply = bytes(reply);
            assert_promises(&reply, edited_reply(&reply).as_deref());
            for position in 0..reply.len() {
                for byte in [0, 1, 6, 12, 28, 41, 64, 65, 0xc0, 0xff] {
                    let mut reply = reply.clone();
                    reply[position] = byte;
                    let seen = edited_in_parts(&reply, reply.len(), |_| true);
                    assert_promises(&reply, seen.as_deref());
                }
                let cut = &reply[..position];
                assert_promises(cut, edited_reply(cut).as_deref());
            }
        }
    }

    // --- Received by the kernel ------------------------------------------------------------------

    /// A reply and what becomes of it.
    fn reply_and_edited() -> (Vec<u8>, Vec<u8>) {
        let reply = bytes(AAAA_EXAMPLE_COM);
        let edited = edited_reply(&reply).expect("it is changed");
        (reply, edited)
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

    /// What recv(2) returns and leaves in a buffer of this size, by way of [`super::receive`].
    fn receive(socket: c_int, size: usize, flags: c_int, listed: &str) -> (isize, Vec<u8>) {
        let mut buffer = vec![0xee; size];
        let pointer = buffer.as_mut_ptr().cast();
        process::set_errno(77);
        // SAFETY: recv(2) into a buffer.
        let result = unsafe {
            let call = || libc::recv(socket, pointer, size, flags | libc::MSG_DONTWAIT);
            super::receive(
                call,
                socket,
                pointer,
                size,
                flags,
                Some(|name: &[u8]| name == listed.as_bytes()),
            )
        };
        assert_eq!(process::errno(), 77, "errno");
        buffer.truncate(usize::try_from(result).expect("a datagram is there"));
        (result, buffer)
    }

    const LISTED: &str = "example.com";

    #[test]
    fn a_reply_to_a_listed_name_is_received_without_its_addresses() {
        let (reply, edited) = reply_and_edited();
        let length = edited.len().cast_signed();
        let socket = with_datagrams(&[&reply, &reply]);
        let seen = receive(socket.as_raw_fd(), 500, libc::MSG_PEEK, LISTED);
        assert_eq!(seen, (length, edited.clone()), "peeked at");
        assert_eq!(receive(socket.as_raw_fd(), 500, 0, LISTED), (length, edited), "received");
        let seen = receive(socket.as_raw_fd(), 500, 0, "other.example.com");
        assert_eq!(seen, (reply.len().cast_signed(), reply), "of a name that is not listed");
    }

    #[test]
    fn a_reply_that_the_buffer_cuts_is_as_long_as_the_one_that_is_left() {
        let (reply, edited) = reply_and_edited();
        let question = edited.len() - 11;
        // The OPT record is at the end, which is cut off.
        let mut wanted = edited[..question].to_vec();
        wanted[11] = 0;
        let socket = with_datagrams(&[&reply, &reply]);
        for flags in [0, libc::MSG_TRUNC] {
            let seen = receive(socket.as_raw_fd(), 100, flags, LISTED);
            assert_eq!(seen, (question.cast_signed(), wanted.clone()), "with flags {flags:#x}");
        }
    }

    #[test]
    fn only_datagrams_of_udp_are_looked_at_twice() {
        let (reply, _) = reply_and_edited();
        let as_it_is = (reply.len().cast_signed(), reply.clone());
        let (datagrams, sender) = UnixDatagram::pair().expect("a pair of sockets");
        sender.send(&reply).expect("a datagram");
        assert_eq!(receive(datagrams.as_raw_fd(), 500, 0, LISTED), as_it_is, "AF_UNIX");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("its address");
        let mut sender = TcpStream::connect(address).expect("a connection");
        sender.write_all(&reply).expect("it can be written to");
        let (stream, _) = listener.accept().expect("a connection");
        stream.peek(&mut [0]).expect("the bytes are there");
        assert_eq!(receive(stream.as_raw_fd(), 500, 0, LISTED), as_it_is, "TCP");
    }

    #[test]
    fn a_reply_to_libcs_own_resolver_is_left_alone() {
        let (reply, edited) = reply_and_edited();
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
            let (_, seen) = receive(descriptor, 500, 0, LISTED);
            let wanted = if is_of_libc { &reply } else { &edited };
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
    fn a_message_in_parts_is_edited_where_they_are_and_is_no_longer_cut() {
        let (reply, edited) = reply_and_edited();
        for (size, length) in [(500, edited.len()), (100, edited.len() - 11)] {
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
                let is_listed = |name: &[u8]| name == LISTED.as_bytes();
                let result = receive_message(call, descriptor, header, 0, Some(is_listed));
                (result, (*header).msg_flags)
            };
            assert_eq!((result, flags), (length.cast_signed(), 0), "result and flags, {size}");
            assert_eq!(buffer[12..29], edited[12..29], "the question, in {size} bytes");
        }
    }

    #[test]
    fn each_of_several_messages_is_edited_by_itself() {
        let (reply, edited) = reply_and_edited();
        let other = bytes(AAAA_OF_IPV4_HOST);
        let datagrams = [&reply[..], b"x", &reply, &[], &other];
        let socket = with_datagrams(&datagrams);
        let mut buffers = [[0; 500]; 6];
        let mut parts = buffers.each_mut().map(|buffer| parts_of(buffer, 500));
        let mut vector =
            parts.each_mut().map(|parts| mmsghdr { msg_hdr: header(parts), msg_len: 12345 });
        let (descriptor, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
        let pointer = vector.as_mut_ptr();
        // SAFETY: recvmmsg(2) into a vector of six.
        let count = unsafe {
            let call = || libc::recvmmsg(descriptor, pointer, 6, flags, std::ptr::null_mut());
            receive_messages(call, descriptor, pointer, flags, Some(|_: &[u8]| true))
        };
        assert_eq!(count, 5, "messages");
        let wanted = [&edited[..], b"x", &edited, &[], &other];
        let lengths = vector.map(|message| message.msg_len as usize);
        assert_eq!(lengths[..5], wanted.map(<[u8]>::len), "lengths");
        assert_eq!(lengths[5], 12345, "the length of a message that was not received");
        for (buffer, wanted) in buffers.iter().zip(wanted) {
            assert_eq!(&buffer[..wanted.len()], wanted, "the message");
        }
    }

    #[test]
    fn an_error_and_what_came_with_one_are_left_alone() {
        let (reply, _) = reply_and_edited();
        let socket = with_datagrams(&[&reply]);
        let seen = receive(socket.as_raw_fd(), 500, libc::MSG_PEEK, LISTED);
        assert_ne!(seen.0, reply.len().cast_signed(), "it would be changed");
        let is_listed = |_: &[u8]| -> bool { panic!("it is looked up") };
        let mut buffer = reply.clone();
        let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        let received = length.cast_signed();
        let descriptor = socket.as_raw_fd();
        let nowhere = std::ptr::dangling_mut();
        // SAFETY: the buffer has as many bytes as were received; where nothing was, none is read.
        unsafe {
            for flags in [libc::MSG_ERRQUEUE, libc::MSG_OOB] {
                let seen = super::receive(
                    || received,
                    descriptor,
                    pointer,
                    length,
                    flags,
                    Some(is_listed),
                );
                assert_eq!(seen, received, "with flags {flags:#x}");
            }
            for result in [-1, 0] {
                let seen =
                    super::receive(|| result, descriptor, nowhere, length, 0, Some(is_listed));
                assert_eq!(seen, result, "recv");
                let seen =
                    receive_message(|| result, descriptor, nowhere.cast(), 0, Some(is_listed));
                assert_eq!(seen, result, "recvmsg");
            }
            for result in [-1, 0] {
                let seen =
                    receive_messages(|| result, descriptor, nowhere.cast(), 0, Some(is_listed));
                assert_eq!(seen, result, "recvmmsg");
            }
        }
        assert_eq!(buffer, reply, "the buffer");
    }
}
