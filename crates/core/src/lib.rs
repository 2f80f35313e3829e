//! What the library and the command share, and everything that reads foreign bytes: the settings, the host
//! patterns, DNS messages, the question that `--check` asks a process.
//!
//! No unsafe code, no system call, no libc. Nothing here allocates on a path that the library takes in its
//! host program, but for the list of patterns, whose memory may be refused.
//!
//! Every arrow between the modules points down this table.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | the table of settings, their parser, their problems |
//! | [`dns`] | DNS messages: a reply without its IPv6 addresses |
//! | [`question`] | the question that `--check` asks a process, and the answer |
//! | [`allowlist`] | host patterns and their matching |
//! | [`kernel`] | what the kernel tells about processes and sockets |
//! | [`elf`] | the headers and notes of ELF files, the library's own note |

#![forbid(unsafe_code)]
#![warn(missing_docs)]
// A panic would end the host program.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod allowlist;
pub mod dns;
pub mod elf;
pub mod kernel;
pub mod question;
pub mod settings;
