//! Threads that leave a blocked call: cancelled, or through a signal handler.

use std::path::Path;

use crate::harness::lab::SILENT;
use crate::harness::run::{expect_says, with};
use crate::harness::scratch::text;
use crate::harness::{
    Environment, Scratch, in_each_architecture_at_once, in_each_environment,
    in_each_environment_at_once, log, skip,
};

/// Gets a thread out of each call that it can be blocked in, without the library and with it.
#[track_caller]
fn expect_leaves(environment: &Environment, how: &str, frames: Option<&Path>, wanted: &str) {
    let program = environment.program("blocked");
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let settings = [
        ("IPV4_ONLY", "listed.example.com known.example.com"),
        ("LOG", "trace"),
        ("LOG_FILE", text(&log)),
    ];
    for call in [
        "connect",
        "recv",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "unspec",
        "inet6",
        "mapped",
        "other",
        "gethostbyname2_r",
    ] {
        let with = |command| {
            let mut command = SILENT.client(with(command, [call, how]));
            command.args(frames);
            command
        };
        let bare = with(environment.bare(&program));
        let shimmed = with(environment.shimmed(&program, &settings));
        expect_says(bare, &format!("{wanted}; later off 46 4\n"));
        expect_says(shimmed, &format!("{wanted}; later on 60/60/5 4 4\n"));
    }
    log::expect_lines(&log, 5);
}

#[test]
fn a_thread_blocked_in_a_call_is_cancelled_and_cleans_up() {
    in_each_architecture_at_once(|environment| {
        expect_leaves(environment, "cancel", None, "canceled; 1 cleaned");
    });
}

#[test]
fn a_thread_blocked_in_a_call_is_cancelled_asynchronously_and_cleans_up() {
    in_each_environment_at_once(|environment| {
        expect_leaves(environment, "async", None, "canceled; 1 cleaned");
    });
}

#[test]
fn a_signal_handler_may_end_a_blocked_thread_or_jump_out_of_the_call() {
    in_each_environment_at_once(|environment| {
        expect_leaves(environment, "exit", None, "exited; 1 cleaned");
        expect_leaves(environment, "jump", None, "jumped; 0 cleaned");
    });
}

/// 12: two destructors, and ten for the frame that caught the unwind and threw it on.
#[test]
fn the_frames_of_a_cxx_caller_are_destroyed_whatever_ends_its_thread() {
    in_each_environment_at_once(|environment| {
        let Some(frames) = environment.cxx_library("frames") else {
            return skip(environment, "there is no C++ compiler for it");
        };
        for (how, ended) in [("cancel", "canceled"), ("async", "canceled"), ("exit", "exited")] {
            let wanted = format!("{ended}; 1 cleaned; 12 destroyed");
            expect_leaves(environment, how, Some(&frames), &wanted);
        }
    });
}

#[test]
fn a_thread_cancelled_at_the_first_lookup_ends_and_leaves_no_file_open() {
    in_each_environment(|environment| {
        let program = environment.program("first");
        let scratch = Scratch::new();
        // It takes some ten milliseconds to read.
        let comments = format!("{}\n", "#".repeat(99)).repeat(150_000);
        let text_of_file = comments + "listed.example.com known.example.com\n";
        let patterns = scratch.file("patterns", text_of_file);
        let settings = [("IPV4_ONLY_FILE", text(&patterns))];
        let wanted = |families| format!("canceled; 1 cleaned; 0 left open; later {families}\n");
        let bare = SILENT.client(with(environment.bare(&program), ["lookup", "0"]));
        expect_says(bare, &wanted("46"));
        for delay in (0..6000).step_by(500) {
            let delay = delay.to_string();
            let shimmed = with(environment.shimmed(&program, &settings), ["lookup", &delay]);
            expect_says(SILENT.client(shimmed), &wanted("4"));
        }
    });
}

/// The library asks a new socket for the namespace's defaults then, as the socket has a timing of its
/// own.
#[test]
fn a_thread_cancelled_at_the_first_connect_leaves_no_socket_open() {
    in_each_environment_at_once(|environment| {
        let program = environment.program("first");
        let wanted = |later| format!("canceled; 1 cleaned; 0 left open; later {later}\n");
        expect_says(with(environment.bare(&program), ["connect", "0"]), &wanted("off"));
        let shimmed = with(environment.shimmed(&program, &[]), ["connect", "0"]);
        expect_says(shimmed, &wanted("on 60/60/5"));
    });
}
