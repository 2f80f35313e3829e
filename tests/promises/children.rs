//! Children by `fork`, `vfork` and `posix_spawn`, also of a process whose other threads are at work.

use crate::harness::environment::preload;
use crate::harness::run::{expect_says, with};
use crate::harness::scratch::text;
use crate::harness::{Scratch, in_each_environment, log};

/// And the log lines of all of them are whole. The lookups are those of `stub.c`: glibc's own hang in such children without any preload.
#[test]
fn children_forked_while_threads_connect_and_resolve_do_the_same() {
    in_each_environment(|environment| {
        let program = environment.program("forks");
        let stub = environment.shared_library("stub");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings =
            [("IPV4_ONLY", "dual.example.com"), ("LOG", "trace"), ("LOG_FILE", text(&log))];
        let mut bare = with(environment.bare(&program), ["100"]);
        preload(&mut bare, &[&stub]);
        let mut shimmed = with(environment.shimmed(&program, &settings), ["500"]);
        preload(&mut shimmed, &[&environment.library, &stub]);
        let wanted = "0 children failed; 0 calls of the parent failed\n";
        expect_says(bare, wanted);
        expect_says(shimmed, wanted);
        // Each child writes three, and the threads of their parent write all the while.
        log::expect_lines(&log, 500 * 3 + 500);
    });
}

#[test]
fn children_of_vfork_and_posix_spawn_connect() {
    let (off, on) = ("off", "on 60/60/5");
    in_each_environment(|environment| {
        let program = environment.program("spawn");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        for how in ["vfork", "vforkexec", "posix_spawn"] {
            let wanted = |keepalive: &str| {
                let between = match how {
                    // 40, and 1 for keepalive.
                    "vfork" => format!("status 4{}", u8::from(keepalive == on)),
                    "vforkexec" => format!(
                        "inherited: keepalive {keepalive}\nchild: keepalive {keepalive}\nstatus 0"
                    ),
                    _ => format!("child: keepalive {keepalive}\nstatus 0"),
                };
                format!("before: keepalive {keepalive}\n{between}\nafter: keepalive {keepalive}\n")
            };
            expect_says(with(environment.bare(&program), [how]), &wanted(off));
            let shimmed = with(environment.shimmed(&program, &settings), [how]);
            expect_says(shimmed, &wanted(on));
        }
        log::expect_lines(&log, 9);
    });
}
