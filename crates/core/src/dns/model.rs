//! What [`super`] promises of a message, said in a slow and plain way: a message is read as a whole,
//! names and all, and two messages are compared by what they say.

/// A message as a program that is not picky reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub flags: u16,
    pub kind: u16,
    pub class: u16,
    pub name: Vec<Vec<u8>>,
    /// Those of the answer, the authority and the additional section.
    pub records: [Vec<Record>; 3],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: Vec<Vec<u8>>,
    pub kind: u16,
    /// Class and TTL.
    pub fields: Vec<u8>,
    /// The data, with the names in it written out.
    pub data: Vec<u8>,
}

/// The key and value of a parameter.
type Parameter = (u16, Vec<u8>);

/// The data of an HTTPS or SVCB record, up to its parameters, and those.
fn parameters(data: &[u8]) -> Option<(Vec<u8>, Vec<Parameter>)> {
    let mut position = 2;
    name_in(data, &mut position)?;
    let start = data[..position].to_vec();
    let mut parameters = Vec::new();
    while position < data.len() {
        let key = number(data, position)?;
        let length = usize::from(number(data, position + 2)?);
        let value = data.get(position + 4..position + 4 + length)?;
        if parameters.last().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        parameters.push((key, value.to_vec()));
        position += 4 + length;
    }
    Some((start, parameters))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A name of at most 255 octets, followed through its pointers, each of which leads further to the front.
fn name_in(bytes: &[u8], position: &mut usize) -> Option<Vec<Vec<u8>>> {
    let mut labels: Vec<Vec<u8>> = Vec::new();
    let (mut at, mut first) = (*position, *position);
    let mut end = None;
    loop {
        if labels.iter().map(|label| label.len() + 1).sum::<usize>() >= 255 {
            return None;
        }
        let length = *bytes.get(at)?;
        match length {
            0 => {
                *position = end.unwrap_or(at + 1);
                return Some(labels);
            }
            1..=63 => {
                labels.push(bytes.get(at + 1..at + 1 + usize::from(length))?.to_vec());
                at += 1 + usize::from(length);
            }
            64..=191 => return None,
            192.. => {
                let target = usize::from(number(bytes, at)? & 0x3fff);
                if target >= first {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, first) = (target, target);
            }
        }
    }
}

/// The names in a record's data: how many bytes are before them, and how many names there are.
fn names_in(kind: u16) -> (usize, usize) {
    match kind {
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 30 => (0, 1),
        6 | 14 | 17 => (0, 2),
        15 | 18 | 21 | 64 | 65 => (2, 1),
        26 => (2, 2),
        33 => (6, 1),
        24 => (18, 1),
        _ => (0, 0),
    }
}

impl Message {
    /// Reads a reply with one question; none if it is no such thing or cannot be read to its end.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let flags = number(bytes, 2)?;
        if flags & 0x8000 == 0 || number(bytes, 4)? != 1 {
            return None;
        }
        let mut at = 12;
        let name = name_in(bytes, &mut at)?;
        let (kind, class) = (number(bytes, at)?, number(bytes, at + 2)?);
        at += 4;
        let mut records = [const { Vec::new() }; 3];
        for (section, records) in records.iter_mut().enumerate() {
            for _ in 0..number(bytes, 6 + 2 * section)? {
                let is_pointer = *bytes.get(at)? >= 192;
                let mut name = name_in(bytes, &mut at)?;
                let kind = number(bytes, at)?;
                if kind == 41 && is_pointer {
                    // The owner of the OPT pseudo-record must be the root (RFC 6891), written as such.
                    name.push(b"a pointer".to_vec());
                }
                let fields = bytes.get(at + 2..at + 8)?.to_vec();
                let length = usize::from(number(bytes, at + 8)?);
                at += 10;
                let end = at + length;
                bytes.get(at..end)?;
                let (before, names) = names_in(kind);
                let mut data = bytes[..end].get(at..at + before)?.to_vec();
                at += before;
                for _ in 0..names {
                    for label in name_in(&bytes[..end], &mut at)? {
                        data.push(u8::try_from(label.len()).ok()?);
                        data.extend(label);
                    }
                    data.push(0);
                }
                data.extend(bytes.get(at..end)?);
                at = end;
                records.push(Record { name, kind, fields, data });
            }
        }
        Some(Self { flags, kind, class, name, records })
    }

    /// What a program is to see of a reply about a listed name; `None` if that depends on more than
    /// the message says: then there is no record but the OPT pseudo-record.
    pub fn without_ipv6(&self) -> Option<Self> {
        let mut message = self.clone();
        let is_query = self.flags & 0x7800 == 0;
        if !is_query
            || self.class != 1
            || ![28, 64, 65, 255].contains(&self.kind)
            || !self.is_of_host()
        {
            return Some(message);
        }
        if self.kind == 28 {
            let truncated = self.flags & 0x0200 != 0;
            if truncated || self.records[0].iter().any(|record| record.kind == 28) {
                return Some(self.without_records());
            }
            return Some(message);
        }
        for records in &mut message.records {
            let mut kept = Vec::new();
            for mut record in std::mem::take(records) {
                if record.kind == 28 {
                    continue;
                }
                if record.kind == 64 || record.kind == 65 {
                    let (mut data, parameters) = parameters(&record.data)?;
                    let of_ipv6 = |value: &[u8]| value.chunks(2).any(|key| key == [0, 6]);
                    if parameters.iter().any(|(key, value)| *key == 0 && of_ipv6(value)) {
                        continue;
                    }
                    for (key, value) in parameters {
                        if key != 6 {
                            data.extend(key.to_be_bytes());
                            data.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
                            data.extend(value);
                        }
                    }
                    record.data = data;
                }
                kept.push(record);
            }
            *records = kept;
        }
        Some(message)
    }

    /// Whether the name can be a host's.
    fn is_of_host(&self) -> bool {
        let of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let length = self.name.iter().map(|label| label.len() + 1).sum::<usize>();
        (2..=254).contains(&length) && self.name.iter().flatten().all(of_host)
    }

    /// The reply without data.
    #[must_use]
    pub fn without_records(&self) -> Self {
        let [_, _, additional] = &self.records;
        let is_options = |record: &&Record| record.kind == 41 && record.name.is_empty();
        let options = additional.iter().find(is_options).cloned();
        // A reply to AAAA is whole then.
        let flags = if self.kind == 28 { self.flags & !0x0200 } else { self.flags };
        let records = [Vec::new(), Vec::new(), options.into_iter().collect()];
        Self { flags, records, ..self.clone() }
    }
}

/// Asserts what a reply about a listed name has become: the bytes before, and after if it was changed.
pub fn assert_promises(before: &[u8], after: Option<&[u8]>) {
    let said = Message::read(before);
    let Some(after) = after else {
        let wanted = said.as_ref().map(Message::without_ipv6);
        assert!(wanted.is_none_or(|wanted| wanted == said), "unchanged, but: {said:?}");
        return;
    };
    assert!(after.len() <= before.len(), "{} bytes have become {}", before.len(), after.len());
    let seen = Message::read(after);
    if let Some(said) = said {
        let Some(seen) = seen else { panic!("{said:?} has become {after:?}") };
        let wanted = said.without_ipv6();
        let right = wanted.as_ref() == Some(&seen) || said.without_records() == seen;
        assert!(right, "{said:#?} has become {seen:#?}, wanted {wanted:#?}");
        assert_ne!(said, seen, "changed, but into what it was");
    } else if let Some(seen) = seen {
        let of_ipv6 = |record: &Record| record.kind == 28;
        assert!(!seen.records[0].iter().any(of_ipv6), "{before:?} has become {seen:#?}");
    }
}
