//! What egress-shim promises, and the file that holds it.
//!
//! `scripts/test NAME` runs the tests whose path has NAME in it: `scripts/test signals`.
//!
//! The library, in each environment (a libc, and the file that is preloaded there):
//!
//! | promise | file |
//! |---|---|
//! | the two stories that it exists for | `promises/stories.rs` |
//! | a listed host is answered as if it had no IPv6 address, another as by libc | `promises/lookups.rs` |
//! | the same for programs that bring their own resolver, and for gethostbyname2 | `promises/replies.rs` |
//! | a socket that connects has keepalive, and the program's own timings stay | `promises/sockets.rs` |
//! | each call has the result and the errno that it has without the library | `promises/transparency.rs` |
//! | right settings count, wrong ones are reported and harm nobody | `promises/settings.rs` |
//! | the list is loaded once, early where it is small, and again where it could not be | `promises/list.rs` |
//! | a list file that changes takes effect without a restart | `promises/changes.rs` |
//! | a call of the library's own that fails changes nothing | `promises/faults.rs` |
//! | the settings are those at load | `promises/lifetime.rs` |
//! | a log line goes where it should, in one write, and nowhere else | `promises/log_output.rs` |
//! | no line is lost, left half done, or ends a program | `promises/log_lines.rs` |
//! | signals, children, cancellation | `promises/{signals,children,cancellation}.rs` |
//! | a privileged program ignores every variable | `promises/privilege.rs` |
//! | it acts in the programs that are meant, and in no other | `promises/programs.rs` |
//! | other preloads go on doing what they do | `promises/company.rs` |
//! | hostile surroundings, numbered | `promises/hostile.rs` |
//! | on older kernels | `promises/kernels.rs` |
//! | what it costs: system calls, memory, stack | `promises/cost.rs` |
//!
//! With a library that does nothing, they fail: control.rs.
//!
//! Real programs, a table of them: clients/mod.rs; rescued while they hang: clients/rescue.rs.
//!
//! What is shipped:
//!
//! | promise | file |
//! |---|---|
//! | the file loads everywhere | `shipping/elf.rs` |
//! | a start touches few pages of it | `shipping/start.rs` |
//! | programs that it cannot help run as without it | `shipping/foreign.rs` |
//! | a release is whole, sound, and the same from the same sources | `shipping/release.rs` |
//! | installing, systemd, Kubernetes | `shipping/install.rs` |
//! | containers: images, Kubernetes, ECS and Compose acted out | `shipping/containers.rs` |
//! | AWS Lambda, GitHub Actions | `shipping/places.rs` |
//! | a whole Debian system with the library in every process | `shipping/system.rs` |
//! | every script says what it is for | `shipping/scripts.rs` |
//! | the docs are true | `shipping/docs.rs` |
//! | the command: running a program, `--check`, `--inspect`, `--rescue` | `command/{run,check,inspect,rescue}.rs` |
//! | 64-bit and 32-bit programs start each other, each with its own library, in silence | `command/multilib.rs` |
//! | whoever follows the last line of `--inspect` gets an answer, or the reason | `command/stuck.rs` |
//! | what is completed when somebody types it | `command/completions.rs` |
//!
//! Some of these run on other architectures too, under qemu (`in_each_architecture` in `harness/environment.rs`).
//!
//! What they share is in the crate harness/, the C programs in programs/, the lab network in lab/.

extern crate egress_shim_harness as harness;

mod clients;
mod command;
mod control;
mod promises;
mod shipping;
