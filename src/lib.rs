//! egress-shim: one preloaded library that fixes the two silent hangs of a service behind an
//! IPv4-only NAT gateway.
//!
//! For hosts on an allowlist the interposed `getaddrinfo` gives the answer that libc would give if they had no IPv6
//! address. So do `gethostbyname2`, libresolv's functions and, for programs with their own resolver, `recv` and the
//! like, by which these take a DNS reply. The interposed `connect` switches TCP keepalive on before libc's own
//! `connect` runs. Everything else is libc's, untouched.
//!
//! The library is a guest in somebody else's process. It never ends that process (except with
//! `EGRESS_SHIM_STRICT`), takes no lock and allocates nothing on the connect path, brings its own memory,
//! and keeps `errno`.
//!
//! A module uses only modules below it in this table. The settings, the host patterns and the DNS messages are
//! in the crate `egress_shim_core`, which has no unsafe code.
//!
//! | module | what it holds |
//! |---|---|
//! | `hooks` | the interposed symbols, thin: each hands libc's function to a policy |
//! | `time64` | the names of some hooks for programs with a 64-bit `time_t` on 32-bit machines |
//! | `check` | the answer to `egress-shim --check`, at load |
//! | `resolver` | the policy for lookups through libc |
//! | `replies` | the policy for DNS replies |
//! | `keepalive` | the policy for sockets |
//! | `state` | the settings in force in this process, which the policies use |
//! | `list` | the list of hosts: which thread loads it, and when it is loaded again |
//! | `complaints` | complaints about invalid settings, on standard error |
//! | `logging` | one line, one write |
//! | `memory` | the library's own memory |
//! | `portable` | functions of the shipped file that some libc lacks, or that no start needs |
//! | `next` | the next definition of a symbol |
//! | `calls` | the system calls that are not the same on every architecture |
//! | `stack` | the stack as the compiler assumes it, on i386 |
//! | `process` | the host process: errno, environment, privileges, libc, cancellation, files |

#![warn(missing_docs)]
// A panic would end the host program.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod calls;
mod complaints;
mod keepalive;
mod list;
mod logging;
mod memory;
mod process;
mod replies;
mod resolver;
mod state;

#[cfg(portable)]
mod portable;

// In the unit tests nothing is interposed, and the allocator is that of the test program.
#[cfg(not(test))]
mod check;
#[cfg(not(test))]
mod hooks;
#[cfg(not(test))]
mod next;
#[cfg(not(test))]
mod stack;
#[cfg(all(not(test), target_pointer_width = "32"))]
mod time64;

#[cfg(not(test))]
#[global_allocator]
static MEMORY: memory::Memory = memory::Memory::new();

/// The load-time constructor, run by the dynamic loader before `main` (`.init_array`, System V
/// gABI chapter 5). Another library's constructor may have called a hook before: every step below
/// also happens at first use.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = {
    extern "C" fn load() {
        stack::aligned(|| {
            process::keeping_errno(|| {
                state::load_settings();
                check::answer_if_asked(hooks::next_getaddrinfo);
            });
        });
    }
    load
};

/// The mark by which the command recognises the library in a file and in a process, whatever the file's name: an ELF
/// note (System V gABI chapter 5), which the linker puts into a segment of notes.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".note.egress-shim")]
static NOTE: egress_shim_core::elf::OwnNote =
    egress_shim_core::elf::OwnNote::new(env!("CARGO_PKG_VERSION"));
