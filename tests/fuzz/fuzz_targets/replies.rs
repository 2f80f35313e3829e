//! DNS replies about listed names against a model that is slow and plain.

#![no_main]

use egress_shim_core::dns::{self, model};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|reply: &[u8]| {
    let filtered = filtered(reply);
    model::assert_promises(reply, filtered.as_deref());
    if let Some(changed) = &filtered {
        assert_eq!(self::filtered(changed), None, "what becomes of the changed reply");
    }
});

/// What becomes of a reply, if anything.
fn filtered(reply: &[u8]) -> Option<Vec<u8>> {
    let mut message = reply.to_vec();
    let question = dns::question(&message)?;
    let length = dns::filter(&mut message, &question, |_| true)?;
    message.truncate(length);
    Some(message)
}
