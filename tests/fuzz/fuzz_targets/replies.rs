//! DNS replies about listed names against a model that is slow and plain.
//!
//! Input: the size of the parts that the reply is received in, and the reply.

#![no_main]

#[allow(dead_code, reason = "the target uses its part")]
#[path = "../../../src/dns.rs"]
mod dns;
#[path = "../dns_model.rs"]
mod model;
#[allow(dead_code, unused_imports, unused_macros, reason = "the target uses its part")]
#[path = "../../../src/process.rs"]
mod process;

use dns::Message;
use libc::iovec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&size, reply)) = input.split_first() else { return };
    let whole = edited(reply, reply.len());
    model::assert_promises(reply, whole.as_deref());
    assert_eq!(edited(reply, size.into()), whole, "in parts of {size} bytes");
    if let Some(changed) = &whole {
        assert_eq!(edited(changed, changed.len()), None, "what becomes of the changed reply");
    }
});

/// What becomes of a reply in parts of this size, if anything.
fn edited(reply: &[u8], size: usize) -> Option<Vec<u8>> {
    // Parts of their own, so that the sanitizer sees where each ends.
    let mut parts: Vec<Box<[u8]>> = reply.chunks(size.max(1)).map(Box::from).collect();
    let vector: Vec<_> = parts
        .iter_mut()
        .map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
        .collect();
    let length = reply.len().cast_signed();
    // SAFETY: the vector describes the parts, which have room for the whole reply.
    let message = unsafe { Message::received(vector.as_ptr(), vector.len(), length) };
    let length = message.edit(&message.question()?, |_| true)?;
    let mut bytes = parts.concat();
    bytes.truncate(length);
    Some(bytes)
}
