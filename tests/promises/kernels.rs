//! Older kernels: promises that a kernel can change, tried again under Debian's 5.10 and 6.1 (`tests/lab/kernels`). qemu
//! boots each without KVM, on this machine's files with a layer in memory over them, and these tests run in it.
//!
//! What is newer than 5.10: `SO_NETNS_COOKIE` (5.14), MPTCP's keepalive options (5.17 and later), `RWF_NOWAIT` on a pipe
//! (6.4).

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::environment::CHOICE;
use crate::harness::run::{run_for, stderr, stdout};
use crate::harness::{Environment, ROOT, Scratch, expect, skip};

/// The tests that run there, in the environment `glibc-shipped`: few, since a second takes ten.
const TESTS: &[&str] = &[
    "command::check::both_families_are_tried_and_the_one_that_works_is_named",
    "command::inspect::a_connection_that_hangs_in_ipv6_comes_first",
    "command::inspect::a_process_with_the_library_and_keepalive_has_nothing_wrong",
    "command::rescue::a_late_reply_arrives_after_a_rescue_and_never_without",
    "promises::log_output::a_full_pipe_as_standard_error_does_not_hold_up_the_program",
    "promises::log_output::a_log_line_is_one_write",
    "promises::log_output::a_terminal_pipe_or_socket_that_nobody_reads_holds_up_nobody",
    "promises::lookups::an_ipv6_line_in_the_hosts_file_does_not_hide_a_records",
    "promises::replies::every_call_receives_a_listed_hosts_reply_without_ipv6_addresses",
    "promises::sockets::a_program_in_another_namespace_has_that_ones_defaults_replaced",
    "promises::sockets::a_socket_that_connects_has_keepalive_with_the_default_timings",
    "promises::sockets::keepalive_is_on_where_the_namespace_has_the_configured_timings",
    "promises::sockets::what_the_program_set_before_connect_stays",
];

/// The programs of these tests: to compile them there would take minutes.
const PROGRAMS: &[&str] = &["keepalive", "lines", "receive", "resolve", "show"];

/// A machine that hangs is ended after this; one that does not takes a minute or two, and on a busy machine many.
const MOST: Duration = Duration::from_secs(1800);

#[test]
fn these_promises_hold_on_linux_5_10() {
    hold_on("5.10");
}

#[test]
fn these_promises_hold_on_linux_6_1() {
    hold_on("6.1");
}

fn hold_on(kernel: &str) {
    let directory = Path::new(ROOT).join("target/kernels").join(kernel);
    let qemu = "qemu-system-x86_64";
    if env::consts::ARCH != "x86_64" || Command::new(qemu).arg("--version").output().is_err() {
        return skip(kernel, format!("{qemu} is for x86_64 and must be installed"));
    }
    let environment = Environment::shipped();
    if !environment.is_chosen() {
        return;
    }
    assert!(directory.exists(), "{} is missing: run tests/lab/kernels", directory.display());
    for name in PROGRAMS {
        environment.program(name);
    }

    let own = env::current_exe().expect("the test knows its file");
    let script = format!(
        "uname -r\n\
        cd '{ROOT}'\n\
        {CHOICE}='{environment}' '{}' --exact --test-threads=2 {}\n",
        own.display(),
        TESTS.join(" ")
    );
    let scratch = Scratch::new();
    let script = scratch.file("run", script);
    let file = |name: &str| directory.join(name).display().to_string();
    let mut machine = Command::new(qemu);
    machine.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    machine.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
    machine.args(["-kernel", &file("vmlinuz"), "-initrd", &file("initramfs"), "-virtfs"]);
    machine.arg("local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap");
    machine.args(["-append", &format!("console=ttyS0 quiet panic=-1 run={}", script.display())]);
    let Some(output) = run_for(&mut machine, MOST) else {
        panic!("Linux {kernel} has not ended after {MOST:?}");
    };
    let said = stdout(&output).replace('\r', "");
    let release = said.lines().find(|line| line.starts_with(&format!("{kernel}.")));
    assert!(release.is_some(), "Linux {kernel} runs: {said}\n{}", stderr(&output));
    // Lines of other threads may stand between a test's name and its verdict.
    let passed = |test: &&&str| said.contains(&format!("test {test} ... ok"));
    let failed: Vec<_> = TESTS.iter().filter(|test| !passed(test)).collect();
    expect(
        format!("under Linux {kernel} these failed, and it said {said}"),
        failed,
        Vec::<&&str>::new(),
    );
}
