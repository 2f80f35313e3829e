//! The settings are those at load: before `main`, after it, and whatever becomes of the environment.

use std::fs;
use std::path::Path;

use crate::harness::environment::preload;
use crate::harness::lab::LAB;
use crate::harness::run::{expect_says, run, said, with};
use crate::harness::scratch::text;
use crate::harness::{Scratch, expect, in_each_environment, skip};

const EARLY: [(&str, &str); 3] =
    [("KEEPALIVE", "idle=33"), ("IPV4_ONLY", "dual.example.com"), ("LOG", "info")];

#[test]
fn a_library_constructed_before_the_shim_has_the_settings() {
    in_each_environment(|environment| {
        let early = environment.shared_library("early");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings = [&EARLY[..], &[("LOG_FILE", text(&log))]].concat();
        let program = environment.program("show");
        let needing = environment.program_with("show", &early);

        let bare = LAB.client(environment.bare(&needing));
        let bare_seen = "keepalive off dual 46 other 46";
        let wanted = format!("{bare_seen}\nkeepalive off\ndestroyed: {bare_seen}\n");
        expect_says(bare, &wanted);

        let mut behind = LAB.client(environment.shimmed(&program, &settings));
        preload(&mut behind, &[&environment.library, &early]);
        let mut front = LAB.client(environment.shimmed(&program, &settings));
        preload(&mut front, &[&early, &environment.library]);
        let needed = LAB.client(environment.shimmed(&needing, &settings));
        let mut orders = Vec::new();
        for mut command in [behind, front, needed] {
            let _ = fs::remove_file(&log);
            let seen = said(&run(&mut command));
            let (order, seen) = seen.split_once(": ").unwrap_or_default();
            let wanted = "keepalive on 33/60/5 dual 4 other 46\nkeepalive on 33/60/5\n\
                          destroyed: keepalive on 33/60/5 dual 4 other 46\n";
            expect(format!("{command:?}"), seen, wanted);
            orders.push(order.to_owned());
        }
        // glibc constructs the last preload first, musl the first one.
        let wanted = if environment.is_musl() {
            ["SECOND", "first", "SECOND"]
        } else {
            ["first", "SECOND", "first"]
        };
        expect("is the library constructed first", orders, wanted);
    });
}

#[test]
fn a_program_that_connects_before_any_constructor_has_the_settings() {
    in_each_environment(|environment| {
        let program = environment.program("preinit");
        let bare = said(&run(&mut LAB.client(environment.bare(&program))));
        if environment.glibc.is_some_and(|version| version < (2, 34)) {
            return skip(environment, format!("its libc cannot resolve so early: {bare}"));
        }
        let lines = |line: &str| {
            // musl ignores DT_PREINIT_ARRAY.
            let preinit = if environment.is_musl() { "" } else { &format!("preinit: {line}\n") };
            format!("{preinit}main: {line}\n")
        };
        expect("bare", bare, lines("keepalive off dual 46 other 46"));
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings = [&EARLY[..], &[("LOG_FILE", text(&log))]].concat();
        let shimmed = LAB.client(environment.shimmed(&program, &settings));
        expect_says(shimmed, &lines("keepalive on 33/60/5 dual 4 other 46"));
        let off = LAB.client(environment.shimmed(&program, &[("", "off")]));
        expect_says(off, &lines("keepalive off dual 46 other 46"));
    });
}

#[test]
fn the_settings_are_those_at_load_until_the_last_destructor() {
    in_each_environment(|environment| {
        let program = environment.program("late");
        let library = environment.shared_library("early");
        // musl destroys in the reverse order of construction, glibc the program first.
        let last = if environment.is_musl() {
            ["destroyed", "destructor"]
        } else {
            ["destructor", "destroyed"]
        };
        let times = ["main", "thread", "dlopen", "atexit", last[0], last[1]];
        let wanted = |line: &str| times.map(|when| format!("{when}: {line}\n")).concat();
        for change in ["none", "unset", "set", "put", "clear", "null", "overwrite"] {
            let with = |command| {
                let mut command = LAB.client(with(command, [change]));
                command.arg(&library);
                command
            };
            let bare = with(environment.bare(&program));
            expect_says(bare, &wanted("keepalive off dual 46 other 46"));
            let shimmed = with(environment.shimmed(&program, &EARLY[..2]));
            expect_says(shimmed, &wanted("keepalive on 33/60/5 dual 4 other 46"));
            let off = [("", "off"), EARLY[0], EARLY[1]];
            let off = with(environment.shimmed(&program, &off));
            expect_says(off, &wanted("keepalive off dual 46 other 46"));
        }
    });
}

/// Each time anew would take its reserve and its settings again. The shipped file says so of itself
/// (`DF_1_NODELETE`); musl keeps every library.
#[test]
fn the_shipped_file_stays_when_a_program_that_opened_it_closes_it() {
    in_each_environment(|environment| {
        let program = environment.program("hostile");
        let reload =
            |library: &Path| with(environment.bare(&program), [Path::new("reload"), library]);
        let gone = if environment.is_musl() { "there\n" } else { "gone\n" };
        expect_says(reload(&environment.shared_library("empty_library")), gone);
        if environment.library.ends_with("release/libegress_shim.so") {
            return skip(environment, "the file of cargo build is not linked so");
        }
        expect_says(reload(&environment.library), "there\n");
    });
}

/// What is missing is looked for at load.
#[test]
fn a_program_begins_with_the_errno_that_it_has_without_the_library() {
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let (log, list) = (scratch.join("log"), scratch.join("nothing"));
        let settings = [("IPV4_ONLY_FILE", text(&list)), ("LOG_FILE", text(&log))];
        let program = environment.program("begin");
        expect_says(environment.bare(&program), "errno 0\n");
        expect_says(environment.shimmed(&program, &settings), "errno 0\n");
        assert!(log.exists(), "the library has made its log");
    });
}
