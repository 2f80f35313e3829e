//! egress-shim: one preloaded library that cures the two silent hangs of a service behind an
//! IPv4-only NAT gateway.
//!
//! For hosts on an allowlist the interposed `getaddrinfo` gives the answer that libc would give if
//! they had no IPv6 address. The interposed `connect` switches TCP keepalive on before libc's own
//! `connect` runs. Everything else is libc's, untouched.
//!
//! The library is a guest in somebody else's process. It never ends that process (but for
//! `EGRESS_SHIM_STRICT`), takes no lock and allocates nothing on the connect path, and keeps
//! `errno`.
//!
//! | module | what it holds |
//! |---|---|
//! | `hooks` | the interposed symbols: thin, each calls a policy and then libc |
//! | [`resolver`] | what becomes of a lookup |
//! | [`allowlist`] | the host patterns and their matching |
//! | [`keepalive`] | what becomes of a socket |
//! | [`config`] | the settings and their problems |
//! | [`logging`] | one line, one write |
//! | `portable` | what the shipped file has because not every libc has it |

#![warn(missing_docs)]
// A panic would end the host program.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod allowlist;
pub mod config;
pub mod keepalive;
pub mod logging;
pub mod resolver;

#[cfg(portable)]
mod portable;

// The unit tests try the policies in a process that nothing is interposed in.
#[cfg(not(test))]
mod hooks;

/// The load-time constructor, run by the dynamic loader before `main` (`.init_array`, System V
/// gABI chapter 5). Another library's constructor may have called a hook before: every step below
/// also happens at first use.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = {
    extern "C" fn load() {
        let errno = logging::errno();
        hooks::resolve();
        config::load();
        logging::set_errno(errno);
    }
    load
};
