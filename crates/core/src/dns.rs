//! DNS messages: a reply about a listed name becomes the reply for the same host without an IPv6 address.
//!
//! A message comes from the network. It is read and changed in place, in safe code that checks every position, without
//! allocation or panic. It never gets longer. Compression pointers (RFC 1035, section 4.1.4) are never followed, so
//! no circle of pointers can hold up the program. A name ends after 255 octets, so the time for a message is in
//! proportion to its size.

use std::cell::Cell;
use std::ops::Range;

use crate::allowlist::LONGEST_NAME;

#[cfg(any(test, feature = "model"))]
#[allow(
    missing_docs,
    clippy::must_use_candidate,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests"
)]
pub mod model;

// Record types (IANA, Domain Name System Parameters).
const AAAA: u16 = 28;
const OPT: u16 = 41;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
const ANY: u16 = 255;

// SvcParam keys (RFC 9460, section 14.3.2).
const MANDATORY: u16 = 0;
const IPV6HINT: u16 = 6;

/// The position of the flags in the header, and the flags (RFC 1035, section 4.1.1).
const FLAGS: usize = 2;
const TRUNCATED: u16 = 0x0200;
/// The position of the number of questions in the header.
const QUESTIONS: usize = 4;
/// The bits of the flags and of the number of questions that identify a reply to one question, and their values in such
/// a reply. QR is set, the opcode is zero.
const START_MASK: u32 = 0xf800_ffff;
const REPLY_START: u32 = 0x8000_0001;
/// The positions of the numbers of records in the answer, the authority and the additional section.
const COUNTS: [usize; 3] = [6, 8, 10];
const HEADER: usize = 12;
/// The first two bits of a compression pointer.
const POINTER: u16 = 0xc000;
/// The octets of the longest name, with the length of each label and the root (RFC 1035, section 2.3.4).
const MOST_OCTETS: usize = 255;
/// The most records of a message that can lose some and keep others. A message with more loses all of them.
const MOST_RECORDS: usize = 100;

/// The size of the shortest message with a question about a host: a header, a name of one letter, a type and a
/// class.
pub const SHORTEST: usize = HEADER + 3 + 4;
/// The part of a message that [`may_be_reply`] asks for: the flags and the number of questions.
pub const START: Range<usize> = FLAGS..QUESTIONS + 2;

/// Whether a message with this start may be a reply to one question. Most other data is rejected here.
#[inline]
#[must_use]
pub fn may_be_reply(start: [u8; 4]) -> bool {
    u32::from_be_bytes(start) & START_MASK == REPLY_START
}

/// The one question of a reply.
pub struct Question {
    kind: u16,
    end: usize,
}

impl Question {
    /// Whether the question is for AAAA, so that every address in the answer is an IPv6 address.
    #[must_use]
    pub fn is_for_ipv6_alone(&self) -> bool {
        self.kind == AAAA
    }
}

/// The question, if the bytes look like a reply that may have IPv6 addresses in it.
#[must_use]
pub fn question(message: &[u8]) -> Option<Question> {
    let start = message.get(START)?.try_into().ok()?;
    if message.len() < SHORTEST || !may_be_reply(start) {
        return None;
    }
    let Name { end, pointer: None, .. } = name(message, HEADER)? else { return None };
    let kind = number(message, end)?;
    let internet = number(message, end + 2)? == 1;
    (internet && matches!(kind, AAAA | ANY | HTTPS | SVCB))
        .then_some(Question { kind, end: end + 4 })
}

/// Removes the IPv6 addresses from a reply, if the name in question is listed. Returns the new length if anything
/// has been changed. A message may be cut: records that are missing at its end cannot be read.
///
/// A reply to AAAA becomes a reply without data: the same header and question, and no records but the OPT
/// pseudo-record. It is then complete, so the program need not ask again over TCP. A reply without an
/// AAAA record stays unchanged, with the records that tell why. Replies to other questions lose their AAAA
/// records and `ipv6hint` parameters, or if that cannot be done, all records.
#[inline(never)]
pub fn filter(
    message: &mut [u8],
    question: &Question,
    is_listed: impl Fn(&[u8]) -> bool,
) -> Option<usize> {
    let mut buffer = [0; LONGEST_NAME];
    if !is_listed(host_name(message, &mut buffer)?) {
        return None;
    }
    if question.kind != AAAA {
        return match has_ipv6(message, question) {
            Some(false) => None,
            Some(true) if fix_pointers(message, question).is_some() => {
                close_gaps(message, question)
            }
            _ => drop_records(message, question),
        };
    }
    let flags = number(message, FLAGS)?;
    let has_address = |record: Result<Record, Unreadable>| {
        record.map_or(true, |record| record.section == COUNTS[0] && record.kind == AAAA)
    };
    if flags & TRUNCATED == 0 && !records(message, question).any(has_address) {
        return None;
    }
    set_number(message, FLAGS, flags & !TRUNCATED)?;
    drop_records(message, question)
}

/// Whether the answer section of a message is empty.
#[must_use]
pub fn is_empty(message: &[u8]) -> bool {
    number(message, COUNTS[0]) == Some(0)
}

/// The name in question, if it can be the name of a host: labels of letters, digits, `-` and `_`.
fn host_name<'a>(message: &[u8], buffer: &'a mut [u8; LONGEST_NAME]) -> Option<&'a [u8]> {
    let mut length: usize = 0;
    let mut position = HEADER;
    loop {
        let size = usize::from(*message.get(position)?);
        if size == 0 {
            // The dot after the last label is left out.
            return buffer.get(..length.checked_sub(1)?);
        }
        let label = message.get(position + 1..)?.get(..size)?;
        let place = buffer.get_mut(length..)?.get_mut(..size)?;
        for (to, from) in place.iter_mut().zip(label) {
            if !(from.is_ascii_alphanumeric() || matches!(from, b'-' | b'_')) {
                return None;
            }
            *to = *from;
        }
        length += size;
        // The buffer has no room for a dot after the longest name, which needs none.
        if let Some(dot) = buffer.get_mut(length) {
            *dot = b'.';
        }
        length += 1;
        position += 1 + size;
    }
}

// --- Changes -----------------------------------------------------------------------------------------

/// Removes all records but the OPT pseudo-record (RFC 6891), whose name is the root and so has no pointer. Returns the
/// new length.
fn drop_records(message: &mut [u8], question: &Question) -> Option<usize> {
    let additional = COUNTS[2];
    let options = records(message, question).map_while(Result::ok).find(|record| {
        let is_root = message.get(record.start) == Some(&0);
        record.section == additional && record.kind == OPT && is_root
    });
    for count in COUNTS {
        set_number(message, count, u16::from(count == additional && options.is_some()))?;
    }
    match options {
        Some(record) => shift(message, record.start..record.end, question.end),
        None => Some(question.end),
    }
}

/// Whether anything must be removed; `None` if the message cannot be read to its end.
fn has_ipv6(message: &[u8], question: &Question) -> Option<bool> {
    let mut found = false;
    for record in records(message, question) {
        found |= !span_to_remove(message, &record.ok()?)?.is_empty();
    }
    Some(found)
}

/// The start of a record, the number of bytes that are removed before it, and whether it stays.
#[derive(Clone, Copy)]
struct Place {
    start: u16,
    gone: u16,
    stays: bool,
}

/// Makes each compression pointer point to the place of its target after the gaps are closed; `None` if there are too
/// many records, or a target is not a label of a name that stays.
// Never inlined, so that its table is not on the stack while the name is matched.
#[inline(never)]
fn fix_pointers(message: &mut [u8], question: &Question) -> Option<()> {
    let mut table = [Place { start: 0, gone: 0, stays: false }; MOST_RECORDS];
    let mut count = 0;
    let mut gone = 0;
    let mut walk = Records::new(message, question);
    while let Some(record) = walk.next(message) {
        let record = record.ok()?;
        let span = span_to_remove(message, &record)?;
        let stays = span.start != record.start;
        let start = u16::try_from(record.start).ok()?;
        *table.get_mut(count)? = Place { start, gone: u16::try_from(gone).ok()?, stays };
        count += 1;
        gone += span.len();
        if !stays {
            continue;
        }
        // A target comes before its pointer, so its record is in the table.
        let places = table.get(..count)?;
        let mut names = Names::new(&record);
        while let Some(name) = names.next(message) {
            if let Some(pointer) = name.ok()?.pointer {
                let target = usize::from(number(message, pointer)? & !POINTER);
                let target = relocated(message, question, places, target)?;
                set_number(message, pointer, POINTER | u16::try_from(target).ok()?)?;
            }
        }
    }
    Some(())
}

/// The new position of a pointer's target; `None` if it is not a label of a name that stays.
fn relocated(
    message: &[u8],
    question: &Question,
    places: &[Place],
    target: usize,
) -> Option<usize> {
    if target < question.end {
        return is_label(message, &name(message, HEADER)?, target).then_some(target);
    }
    let following = places.partition_point(|place| usize::from(place.start) <= target);
    let place = places.get(following.checked_sub(1)?)?;
    let record = record(message, place.start.into(), 0)?;
    let mut names = Names::new(&record);
    while let Some(name) = names.next(message) {
        if is_label(message, &name.ok()?, target) {
            return if place.stays { target.checked_sub(place.gone.into()) } else { None };
        }
    }
    None
}

/// Whether a name has a label, its end or its pointer at a position.
fn is_label(message: &[u8], name: &Name, target: usize) -> bool {
    let mut position = name.start;
    while position < target {
        match message.get(position) {
            Some(&length @ 1..=63) => position += 1 + usize::from(length),
            _ => return false,
        }
    }
    position == target
}

/// Closes the gaps by moving the bytes that stay. Returns the new length.
fn close_gaps(message: &mut [u8], question: &Question) -> Option<usize> {
    let mut read = question.end;
    let mut write = question.end;
    let mut walk = Records::new(message, question);
    while let Some(record) = walk.next(message) {
        let record = record.ok()?;
        let span = span_to_remove(message, &record)?;
        if span.start == record.start {
            let count = number(message, record.section)?.checked_sub(1)?;
            set_number(message, record.section, count)?;
        } else {
            let length = record.end - record.data - span.len();
            set_number(message, record.data - 2, u16::try_from(length).ok()?)?;
        }
        write = shift(message, record.start..span.start, write)?;
        write = shift(message, span.end..record.end, write)?;
        read = record.end;
    }
    shift(message, read..message.len(), write)
}

/// The part of a record that must be removed: all of an AAAA record, the `ipv6hint` of an HTTPS or SVCB record, nothing of
/// other records. `None` if the record is malformed for its type.
fn span_to_remove(message: &[u8], record: &Record) -> Option<Range<usize>> {
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
    let mut position = name(message, record.data + 2)?.end;
    let mut span = nothing;
    let mut lowest = 0;
    while position < record.end {
        let key = number(message, position)?;
        let value = position + 4;
        let end = value + usize::from(number(message, position + 2)?);
        if u32::from(key) < lowest || end > record.end {
            return None;
        }
        // A client that does not know a mandatory key must ignore the record (section 8).
        let is_hint = |second_byte| number(message, second_byte - 1) == Some(IPV6HINT);
        if key == MANDATORY && (value + 1..end).step_by(2).any(is_hint) {
            span = all.clone();
        } else if key == IPV6HINT && span.is_empty() {
            span = position..end;
        }
        lowest = u32::from(key) + 1;
        position = end;
    }
    (position == record.end).then_some(span)
}

// --- Records and names -------------------------------------------------------------------------------

/// A record or a name is malformed (RFC 1035), or the message ends in the middle of it.
struct Unreadable;

/// A record: the position of its section's count in the header, its start, its type, the start of its data, and its end.
struct Record {
    section: usize,
    start: usize,
    kind: u16,
    data: usize,
    end: usize,
}

/// A walk over the records. It borrows nothing, so the part of the message that it has passed may be changed.
struct Records {
    /// The number of records left in each section.
    left: [u16; 3],
    /// The start of the next record; `None` after a record that cannot be read.
    position: Option<usize>,
}

impl Records {
    fn new(message: &[u8], question: &Question) -> Self {
        let left = COUNTS.map(|count| number(message, count).unwrap_or(0));
        Self { left, position: Some(question.end) }
    }

    /// The next record. A record that cannot be read ends the walk.
    fn next(&mut self, message: &[u8]) -> Option<Result<Record, Unreadable>> {
        let mut sections = self.left.iter_mut().zip(COUNTS);
        let (left, section) = sections.find(|(left, _)| **left > 0)?;
        *left -= 1;
        let record = record(message, self.position?, section);
        self.position = record.as_ref().map(|record| record.end);
        Some(record.ok_or(Unreadable))
    }
}

/// The records of a message that does not change during the walk.
fn records(
    message: &[u8],
    question: &Question,
) -> impl Iterator<Item = Result<Record, Unreadable>> {
    let mut walk = Records::new(message, question);
    std::iter::from_fn(move || walk.next(message))
}

fn record(message: &[u8], start: usize, section: usize) -> Option<Record> {
    let fields = name(message, start)?.end;
    let data = fields + 10;
    let end = data + usize::from(number(message, fields + 8)?);
    let kind = number(message, fields)?;
    (end <= message.len()).then_some(Record { section, start, kind, data, end })
}

/// A name: its start and end, and the position of the compression pointer that ends it, if there is one.
struct Name {
    start: usize,
    end: usize,
    pointer: Option<usize>,
}

/// A walk over the names of a record, its owner's first.
struct Names {
    /// The start of the next name.
    position: usize,
    /// The start of the first name in the data, until the owner's name has been read.
    data: Option<usize>,
    left: usize,
    /// The end of the record.
    end: usize,
}

impl Names {
    fn new(record: &Record) -> Self {
        let (offset, count) = names_in(record.kind);
        let data = Some(record.data + offset);
        Self { position: record.start, data, left: 1 + count, end: record.end }
    }

    /// The next name.
    fn next(&mut self, message: &[u8]) -> Option<Result<Name, Unreadable>> {
        self.left = self.left.checked_sub(1)?;
        let name = name(message, self.position).filter(|name| name.end <= self.end);
        if let Some(name) = &name {
            self.position = self.data.take().unwrap_or(name.end);
        }
        Some(name.ok_or(Unreadable))
    }
}

fn name(message: &[u8], start: usize) -> Option<Name> {
    let mut position = start;
    loop {
        // The end of the name takes at least one more octet.
        if position - start >= MOST_OCTETS {
            return None;
        }
        match *message.get(position)? {
            0 => return Some(Name { start, end: position + 1, pointer: None }),
            length @ 1..=63 => position += 1 + usize::from(length),
            _ => {
                let target = number(message, position)?;
                // A pointer to an earlier name. Octets that are neither a length nor a pointer are not in use
                // (RFC 6891, section 5).
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

/// The position and the number of the names in a record's data that may be compressed: for the types of RFC 1035 and
/// those that RFC 3597, section 4, adds for old senders. Not for NAPTR, because nobody compresses its name.
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

// --- Bytes -------------------------------------------------------------------------------------------

/// Moves bytes to the same or an earlier position. Returns the end of the copy.
fn shift(message: &mut [u8], from: Range<usize>, to: usize) -> Option<usize> {
    let end = to + from.len();
    if from.end > message.len() || to > from.start {
        return None;
    }
    // A loop by hand, so that the shipped library needs no memmove(3).
    let bytes = Cell::from_mut(message).as_slice_of_cells();
    for (to, from) in bytes.get(to..)?.iter().zip(bytes.get(from)?) {
        to.set(from.get());
    }
    Some(end)
}

fn number(message: &[u8], position: usize) -> Option<u16> {
    let bytes = message.get(position..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

fn set_number(message: &mut [u8], position: usize, number: u16) -> Option<()> {
    *message.get_mut(position..)?.first_chunk_mut()? = number.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::model::{Record, assert_promises};
    use super::*;
    use std::cell::RefCell;

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

    /// What becomes of a reply, if anything, where names are listed as said.
    fn filtered_where(reply: &[u8], is_listed: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut message = reply.to_vec();
        let length =
            question(&message).and_then(|question| filter(&mut message, &question, is_listed));
        if length.is_none() {
            assert_eq!(message, reply, "a message that is left alone");
        }
        length.map(|length| message[..length].to_vec())
    }

    /// What becomes of a reply about a listed name.
    #[track_caller]
    fn filtered(reply: &[u8]) -> Option<Vec<u8>> {
        let filtered = filtered_where(reply, |_| true);
        if let Some(changed) = &filtered {
            let again = filtered_where(changed, |_| true);
            assert_eq!(again, None, "what becomes of the changed reply");
        }
        filtered
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
            let seen = filtered(&reply).expect("it is changed");
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
            assert_eq!(filtered(&reply), None, "what becomes of {reply:x?}");
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
            let seen = said(&filtered(&reply).expect("it is changed"));
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
        assert_eq!(filtered(&reply), Some(wanted), "with no records, without TC");
        // Other replies are for the program to ask for again.
        reply[26] = 65;
        assert_eq!(filtered(&reply), None, "to HTTPS");
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
            let seen = said(&filtered(&reply).expect("it is changed"));
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
        let seen = said(&filtered(&reply).expect("it is changed"));
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
            let seen = said(&filtered(&reply).expect("it is changed"));
            assert_eq!(seen, said(&reply).without_records());
        }
    }

    /// A reply takes less time than reading each of its bytes a hundred times. Of both the least of five tries.
    #[test]
    fn a_reply_takes_time_in_proportion_to_its_size() {
        let address = &reply(ANY, &[(&[0xc0, 12], AAAA, ADDRESS)])[29..];
        let with = |records: u16, bytes: Vec<u8>| {
            let mut reply = [reply(ANY, &[]), address.to_vec(), bytes].concat();
            reply[6..8].copy_from_slice(&(1 + records).to_be_bytes());
            reply
        };
        // One name of as many labels as there is room for, and 98 records that point to its end.
        let labels = b"\x01a".repeat(30_000);
        let pointer = (POINTER | 16_383).to_be_bytes();
        let three_pointers =
            [&pointer[..], &[0, 26, 0, 1, 0, 0, 0, 60, 0, 6, 0, 5], &pointer, &pointer];
        let long = with(
            99,
            [&labels, &[0, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0][..], &three_pointers.concat().repeat(98)]
                .concat(),
        );
        // The longest names there are, three a record, each of which points to the end of the first one.
        let longest =
            [&b"\x01a".repeat(126)[..], &(POINTER | (29 + 28 + 252)).to_be_bytes()].concat();
        let first = [&b"\x01a".repeat(126)[..], &[0, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0]].concat();
        let size = u16::try_from(2 + 2 * longest.len()).unwrap().to_be_bytes();
        let three = [&longest[..], &[0, 26, 0, 1, 0, 0, 0, 60], &size, &[0, 5], &longest, &longest]
            .concat();
        let names = with(71, [first, three.repeat(70)].concat());
        // More records than any reply has, each of which points as far as a pointer can.
        let record = [&pointer[..], &[0, 2, 0, 1, 0, 0, 0, 60, 0, 2], &pointer].concat();
        let start = [&[0xc0, 12, 0, 2, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12][..]].concat();
        let many = with(4000, [start.repeat(1200), record.repeat(2800)].concat());
        // Parameters, of which the last is the hint.
        let keys: Vec<u8> =
            (7..16_000_u16).flat_map(|key| [key.to_be_bytes(), [0, 0]].concat()).collect();
        let size = u16::try_from(3 + keys.len()).unwrap().to_be_bytes();
        let keys =
            with(1, [&[0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 60], &size[..], &[0, 1, 0], &keys].concat());
        for (what, reply, is_readable) in [
            ("a name without an end", long, false),
            ("the longest names", names, true),
            ("many records", many, false),
            ("many parameters", keys, true),
        ] {
            let seen = filtered_where(&reply, |_| true).expect("it is changed");
            let wanted = if is_readable { reply.len() - address.len() } else { 29 };
            assert_eq!(seen.len(), wanted, "{what}: length");
            let least = |run: &dyn Fn()| {
                let time = |()| {
                    let start = std::time::Instant::now();
                    run();
                    start.elapsed()
                };
                [(); 5].map(time).into_iter().min().unwrap()
            };
            let spent = least(&|| {
                std::hint::black_box(filtered_where(&reply, |_| true));
            });
            let compared = least(&|| {
                for _ in 0..100 {
                    std::hint::black_box(
                        std::hint::black_box(&reply)
                            .iter()
                            .fold(0_u8, |sum, byte| sum.rotate_left(1) ^ byte),
                    );
                }
            });
            println!(
                "{what}: {} bytes, {spent:?}; a hundred times read: {compared:?}",
                reply.len()
            );
            assert!(spent < compared, "{what}: {spent:?}, wanted less than {compared:?}");
        }
    }

    /// A reply whose second record has an owner of this length, to which the third points.
    fn with_owner_of(octets: usize) -> Vec<u8> {
        let mut owner = Vec::new();
        while owner.len() + 1 < octets {
            let size = (octets - owner.len() - 2).min(63);
            owner.push(u8::try_from(size).unwrap());
            owner.extend(vec![b'a'; size]);
        }
        owner.push(0);
        assert_eq!(owner.len(), octets);
        reply(
            ANY,
            &[
                (&[0xc0, 12], AAAA, ADDRESS),
                (&owner, 1, &[192, 0, 2, 1]),
                (&[0xc0, 29 + 28], 1, &[192, 0, 2, 2]),
            ],
        )
    }

    #[test]
    fn what_is_longer_than_255_octets_is_no_name() {
        for (octets, is_name) in [(254, true), (255, true), (256, false)] {
            let reply = with_owner_of(octets);
            let seen = filtered(&reply).expect("it is changed");
            let wanted = if is_name { reply.len() - 28 } else { 29 };
            assert_eq!(seen.len(), wanted, "length with an owner of {octets} octets");
        }
    }

    #[test]
    fn a_reply_that_cannot_be_read_to_its_end_has_no_records_left() {
        for reply in [ANY_EXAMPLE_COM, AAAA_EXAMPLE_COM, HTTPS_OF_ALIAS] {
            let mut reply = bytes(reply);
            reply.truncate(reply.len() - 12);
            let seen = said(&filtered(&reply).expect("it is changed"));
            assert_eq!(seen.records, [const { Vec::new() }; 3], "records");
        }
        // Names that point to themselves and further on, and two of the kinds that are not in use.
        for name in [&[0xc0, 29], &[0xc0, 30], &[0x40, 12], &[0x80, 12]] {
            let reply = reply(ANY, &[(name, 1, &[192, 0, 2, 1])]);
            let length = filtered(&reply).map(|reply| reply.len());
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
            let seen = filtered(&reply).map(|reply| reply.len());
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
        assert!(filtered(&reply).is_some(), "as it is, it is changed");
        for (what, reply) in [
            ("a question", changed(2, &[0x01])),
            ("a status, not a query", changed(2, &[0x90])),
            ("an update", changed(2, &[0xa8])),
            ("no question", changed(5, &[0])),
            ("two questions", changed(5, &[2])),
            ("many questions", changed(4, &[1])),
            ("the root", [&changed(12, &[0])[..13], &[0, 28, 0, 1, 0, 0, 0, 0]].concat()),
            ("a pointer", changed(12, &[0xc0, 0])),
            ("a label of an unknown kind", changed(12, &[0x40])),
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
            let seen = filtered_where(&reply, is_listed);
            assert_eq!((seen, asked.into_inner()), (None, vec![]), "{what}: change, names");
        }
        for length in 0..29 {
            let seen = filtered_where(&reply[..length], |name| panic!("{name:?}"));
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
            assert_eq!(filtered_where(&reply, is_listed), None, "it is not listed");
            let wanted = if is_a_host { vec![labels.join(&b'.')] } else { vec![] };
            assert_eq!(asked.into_inner(), wanted, "names that were looked up");
        }
    }

    #[test]
    fn whatever_a_reply_has_in_it_the_promises_hold() {
        for reply in REPLIES {
            let reply = bytes(reply);
            assert_promises(&reply, filtered(&reply).as_deref());
            for position in 0..reply.len() {
                for byte in [0, 1, 6, 12, 28, 41, 64, 65, 0xc0, 0xff] {
                    let mut reply = reply.clone();
                    reply[position] = byte;
                    let seen = filtered_where(&reply, |_| true);
                    assert_promises(&reply, seen.as_deref());
                }
                let cut = &reply[..position];
                assert_promises(cut, filtered(cut).as_deref());
            }
        }
    }
}
