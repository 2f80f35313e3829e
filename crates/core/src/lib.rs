//! Code that the library and the command share, and the parsers of foreign bytes: settings, host
//! patterns, DNS messages, ELF files, the kernel's reports, and the question that `--check` asks a process.
//!
//! No unsafe code, no system call, no libc. On the paths that the library takes in its host program,
//! nothing here allocates except the list of patterns, whose memory may be refused.
//!
//! A module uses only modules below it in this table.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | the table of settings, their parser, their problems |
//! | [`dns`] | DNS messages: a reply without its IPv6 addresses |
//! | [`question`] | the question that `--check` asks a process, and the answer |
//! | [`allowlist`] | host patterns and their matching |
//! | [`kernel`] | the kernel's reports about processes and sockets |
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
