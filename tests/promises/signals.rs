//! Signals: connect in a handler, whatever it interrupts, and what a handler finds.

use std::thread;

use crate::harness::lab::LAB;
use crate::harness::run::{expect_says, with};
use crate::harness::scratch::text;
use crate::harness::{Scratch, in_each_architecture, in_each_environment, log};

#[test]
fn connect_works_in_a_signal_handler_whatever_it_interrupts() {
    in_each_architecture(|environment| {
        let program = environment.program("interrupt");
        let directory = Scratch::new();
        thread::scope(|scope| {
            for what in ["connect", "malloc", "getaddrinfo", "printf"] {
                let (program, log) = (&program, directory.join(what));
                scope.spawn(move || {
                    let settings =
                        [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
                    let bare = LAB.client(with(environment.bare(program), [what]));
                    let mut shimmed = LAB.client(with(environment.shimmed(program, &settings), [what]));
                    // glibc's malloc is to take its lock for small blocks too.
                    let tunables = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0";
                    shimmed.env("GLIBC_TUNABLES", tunables);
                    let wanted = |keepalive| {
                        format!(
                            "keepalive {keepalive}; wrong: 0 in the handler, 0 in what it interrupts\n"
                        )
                    };
                    expect_says(bare, &wanted("off"));
                    expect_says(shimmed, &wanted("on"));
                    log::expect_lines(&log, 400);
                });
            }
        });
    });
}

/// A handler that starts a program would hand its mask on: the program would live with `SIGPIPE`
/// blocked.
#[test]
fn a_signal_handler_finds_no_signal_blocked_by_a_log_line() {
    in_each_environment(|environment| {
        let program = environment.program("interrupt");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let arguments = ["connect", "mask"];
        let bare = with(environment.bare(&program), arguments);
        let shimmed = with(environment.shimmed(&program, &settings), arguments);
        expect_says(bare, "0 signals blocked\n");
        expect_says(shimmed, "0 signals blocked\n");
        log::expect_lines(&log, 200);
    });
}
