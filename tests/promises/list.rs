//! The list: loaded once, by one thread; read at load where it is small; tried again where it could not be had.
//!
//! `tests/programs/settings.c` looks the names up, mostly with a getaddrinfo behind the library that asks
//! nobody, so what is measured and what hangs is the library's.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use super::faults::fail;
use super::settings::{command, large};
use crate::harness::environment::preload;
use crate::harness::lab::{LAB, SILENT};
use crate::harness::run::{before, expect_says, result, run, run_for, said, stderr, stdout, with};
use crate::harness::scratch::text;
use crate::harness::{Environment, Scratch, expect, in_each_environment, skip};

/// A file of 100,000 patterns.
fn long(scratch: &Scratch) -> String {
    let patterns = (0..100_000).map(|host| format!("host-{host}.example.com\n"));
    scratch.file("long", patterns.collect::<String>());
    scratch.text("long")
}

/// A name of the list.
const LISTED: &str = "host-2.example.com";

/// The same command without the library.
fn bare(environment: &Environment, actions: &[&str]) -> Command {
    let mut bare = command::<&str>(environment, &[], actions);
    preload(&mut bare, &[&environment.shared_library("next_getaddrinfo")]);
    bare
}

// --- One list ------------------------------------------------------------------------------------

/// In time of the process itself, compared with one thread of the same run: a list for each thread would
/// cost both a hundred times over.
#[test]
fn threads_that_begin_at_once_cost_the_memory_and_the_time_of_one_list() {
    let scratch = Scratch::new();
    let list = long(&scratch);
    in_each_environment(|environment| {
        let numbers = |mut command: Command, told: String| -> (u64, u64) {
            let seen = said(&run(&mut command));
            let numbers = seen
                .strip_prefix(&told)
                .and_then(|rest| rest.strip_suffix(" KiB\n")?.split_once(" ms, "))
                .and_then(|(time, memory)| Some((time.parse().ok()?, memory.parse().ok()?)));
            numbers.unwrap_or_else(|| panic!("{told}: {seen:?}"))
        };
        let measure = |threads: &str| {
            let actions = ["threads", threads, LISTED];
            // The stacks of the threads.
            let (_, stacks) =
                numbers(bare(environment, &actions), format!("0 IPv4, {threads} any, "));
            let shimmed = command(environment, &[("IPV4_ONLY_FILE", &list)], &actions);
            let (time, memory) = numbers(shimmed, format!("{threads} IPv4, 0 any, "));
            (time, memory.saturating_sub(stacks))
        };
        let (time, memory) = measure("1");
        for threads in ["64", "200"] {
            let (time_of_many, memory_of_many) = measure(threads);
            let seen = format!(
                "one thread takes {time} ms and {memory} KiB, {threads} take {time_of_many} ms and \
                 {memory_of_many} KiB"
            );
            println!("{seen}");
            assert!(memory_of_many < 2 * memory + 10_000, "{seen}");
            assert!(time_of_many < 5 * time + 300, "{seen}");
        }
    });
}

/// A child does not wait for a load: the thread that loads is its parent's.
#[test]
fn a_child_forked_while_another_thread_loads_the_list_looks_up() {
    let scratch = Scratch::new();
    let settings = [("IPV4_ONLY_FILE", long(&scratch))];
    in_each_environment(|environment| {
        expect_says(
            command(environment, &settings, &["forks", "8", LISTED]),
            "1 IPv4, 0 children failed\n",
        );
    });
}

#[test]
fn a_signal_handler_that_looks_up_in_the_loading_thread_does_not_hang() {
    let scratch = Scratch::new();
    let settings = [("IPV4_ONLY_FILE", long(&scratch))];
    in_each_environment(|environment| {
        let actions = ["alarms", LISTED];
        expect_says(bare(environment, &actions), &format!("{LISTED} any\n"));
        expect_says(command(environment, &settings, &actions), &format!("{LISTED} IPv4\n"));
    });
}

// --- What passes ---------------------------------------------------------------------------------

/// Expects one complaint about the list that says what is wrong and that it is not the last word.
#[track_caller]
fn expect_one_complaint(errors: &str, wrong: &str) {
    let right = errors.lines().count() == 1
        && errors.starts_with("egress-shim: EGRESS_SHIM_IPV4_ONLY_FILE: ")
        && errors.ends_with(&format!("{wrong}; trying again at later lookups\n"));
    assert!(right, "one line that ends with {wrong:?} and what is done, seen {errors:?}");
}

/// The opening of a large list at its first load. Before that the table of mounts, the root directory and the list are
/// opened, when the library loads.
const FIRST_LOAD: (&str, i32) = ("open", 3);

/// Each is what a call gives that finds no free descriptor, no memory, or a signal.
#[test]
fn a_list_that_cannot_be_opened_is_reported_once_and_loaded_later() {
    let scratch = Scratch::new();
    let list = scratch.file("list", large(LISTED));
    let settings = [("IPV4_ONLY_FILE", text(&list))];
    let actions = ["look", LISTED, "look", LISTED, "sleep", "1100", "look", LISTED];
    let fail_with = |environment: &Environment, error: i32, words: &str| {
        let mut command = command(environment, &settings, &actions);
        fail(&mut command, environment, FIRST_LOAD, error);
        let output = run(&mut command);
        let wanted = format!("{LISTED} any\n{LISTED} any\n{LISTED} IPv4\n");
        expect(format!("errno {error}"), stdout(&output), wanted);
        expect_one_complaint(&stderr(&output), words);
    };
    in_each_environment(|environment| {
        // At once: each takes a second.
        thread::scope(|scope| {
            for (error, words) in [
                (libc::EMFILE, "Too many open files"),
                (libc::ENFILE, "Too many open files in system"),
                (libc::ENOMEM, "Cannot allocate memory"),
                (libc::EINTR, "Interrupted system call"),
            ] {
                scope.spawn(move || fail_with(environment, error, words));
            }
        });
    });
}

#[test]
fn a_wrong_pattern_of_the_variable_is_reported_once_by_two_loads() {
    let scratch = Scratch::new();
    let list = scratch.file("list", large(LISTED));
    let settings = [("IPV4_ONLY", "a..b"), ("IPV4_ONLY_FILE", text(&list))];
    let actions = ["look", LISTED, "sleep", "1100", "look", LISTED];
    in_each_environment(|environment| {
        let mut command = command(environment, &settings, &actions);
        fail(&mut command, environment, FIRST_LOAD, libc::EMFILE);
        let output = run(&mut command);
        expect("", stdout(&output), format!("{LISTED} any\n{LISTED} IPv4\n"));
        let errors = stderr(&output);
        let count = |words: &str| errors.lines().filter(|line| line.contains(words)).count();
        expect(&errors, [count("a..b"), count("Too many open files")], [1, 1]);
    });
}

#[test]
fn a_list_that_finds_no_memory_is_reported_once_and_loaded_later() {
    let scratch = Scratch::new();
    let settings = [("IPV4_ONLY_FILE", long(&scratch))];
    let actions = |pause| {
        let look = ["look", LISTED];
        let actions = ["say", "runs", "exhaust", "look", LISTED, "sleep", pause, "look", LISTED];
        [&actions[..], &["release", "sleep", pause], &look].concat()
    };
    in_each_environment(|environment| {
        let twice = format!("{LISTED} any\n").repeat(2);
        let wanted = |later: &str| format!("runs\n{twice}{LISTED} {later}\n");
        expect_says(bare(environment, &actions("0")), &wanted("any"));
        let actions = actions("1100");
        let output = run(&mut command(environment, &settings, &actions));
        expect("what it says", stdout(&output), wanted("IPv4"));
        expect_one_complaint(&stderr(&output), "Cannot allocate memory");
    });
}

#[test]
fn patterns_of_the_variable_that_find_no_memory_are_reported() {
    let settings = [("IPV4_ONLY", format!("{LISTED},").repeat(2_000))];
    in_each_environment(|environment| {
        let run = |fault| {
            let mut command = command(environment, &settings, &["look", LISTED]);
            fail(&mut command, environment, ("mmap", fault), libc::ENOMEM);
            said(&run(&mut command))
        };
        expect("with memory", run(-1), format!("{LISTED} IPv4\n"));
        let complaint = "EGRESS_SHIM: \"\": out of memory for the settings; ignoring some of them";
        expect("without", run(0), format!("{LISTED} any\negress-shim: {complaint}\n"));
    });
}

/// libc's own getaddrinfo, whose error depends on what it still finds.
#[test]
fn a_lookup_without_memory_harms_nothing_and_a_later_one_is_right() {
    in_each_environment(|environment| {
        let program = environment.program("settings");
        let node = "known.example.com";
        // A first one, for in glibc the very first crashes without memory (nss_database_check_reload_and_get).
        let actions = ["look", "localhost", "exhaust", "status", node, "release", "status", node];
        let run = |command| run(&mut SILENT.client(with(command, actions)));
        let expect_both = |output: &Output| {
            let seen = said(output);
            let lines: Vec<_> = seen.lines().collect();
            let right = lines.len() == 3 && lines[1].starts_with(node) && output.status.success();
            assert!(right && lines[2] == format!("{node} 0"), "an answer, and then 0: {seen}");
        };
        expect_both(&run(environment.bare(&program)));
        let scratch = Scratch::new();
        let log = scratch.join("log");
        for listed in [node, "other.example.com"] {
            let settings = [("IPV4_ONLY", listed), ("LOG", "debug"), ("LOG_FILE", text(&log))];
            expect_both(&run(environment.shimmed(&program, &settings)));
        }
        let log = fs::read_to_string(&log).unwrap_or_default();
        expect("lookups of a listed host", log.matches("listed, IPv4 only").count(), 2);
    });
}

/// Without reading a file for it: the name stands in a text that is in memory.
#[test]
fn localhost_that_a_pattern_names_is_listed_at_the_first_lookup() {
    let scratch = Scratch::new();
    let small = scratch.file("small", "localhost\n");
    let other = scratch.file("other", large("localhost\n"));
    in_each_environment(|environment| {
        for (setting, wanted) in [
            (("IPV4_ONLY", "localhost"), "IPv4"),
            (("IPV4_ONLY", ".LocalHost"), "IPv4"),
            (("IPV4_ONLY_FILE", text(&small)), "IPv4"),
            (("IPV4_ONLY_FILE", text(&other)), "any"),
            (("IPV4_ONLY", "*"), "any"),
        ] {
            let command = command(environment, &[setting], &["look", "localhost"]);
            expect_says(command, &format!("localhost {wanted}\n"));
        }
    });
}

// --- Early, where it is small --------------------------------------------------------------------

#[test]
fn a_daemon_that_restricts_itself_before_a_lookup_has_a_small_list() {
    let scratch = Scratch::new();
    let list = scratch.file("list", LISTED);
    fs::create_dir(scratch.join("root")).expect("target can be written to");
    let root = scratch.text("root");
    fs::set_permissions(&list, Permissions::from_mode(0o600)).expect("it is this test's own");
    let settings = [("IPV4_ONLY_FILE", text(&list))];
    in_each_environment(|environment| {
        for (actions, says) in
            [(&["root", &root][..], ""), (&["user", "65534"], ""), (&["restrict"], "restricted\n")]
        {
            let actions = [actions, &["look", LISTED]].concat();
            let seen = said(&run(&mut bare(environment, &actions)));
            if seen.starts_with("no Landlock") {
                skip(environment, "this kernel has no Landlock");
                continue;
            }
            expect(format!("{actions:?}"), seen, format!("{says}{LISTED} any\n"));
            let wanted = format!("{says}{LISTED} IPv4\n");
            expect_says(command(environment, &settings, &actions), &wanted);
        }
    });
}

/// A directory in every root that the tests have.
const MOUNT_POINT: &str = "/sys/fs/fuse/connections";

/// Has a command start in that directory, where two file systems never answer: they are in user space, and the command
/// itself holds their other ends and does not read. One is mounted on the file `file`, one on the directory `a b`.
fn beside_hanging_file_systems(command: &mut Command) -> &mut Command {
    before(command, || {
        let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        let (point, memory) = (c"/sys/fs/fuse/connections".as_ptr(), c"tmpfs".as_ptr());
        // SAFETY: system calls with numbers and strings that last.
        unsafe {
            result(libc::unshare(libc::CLONE_NEWNS))?;
            result(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            result(libc::mount(memory, point, memory, 0, none.cast()))?;
            result(libc::chdir(point))?;
            result(libc::mkdir(c"a b".as_ptr(), 0o755))?;
            result(libc::mknod(c"file".as_ptr(), libc::S_IFREG | 0o644, 0))?;
            // The descriptor is a parameter of the mount, so it gets a number that is known here.
            for (point, number, options) in [
                (c"a b", 98, c"fd=98,rootmode=40000,user_id=0,group_id=0"),
                (c"file", 99, c"fd=99,rootmode=100000,user_id=0,group_id=0"),
            ] {
                let device = libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR);
                if libc::dup2(device, number) != number {
                    return Err(std::io::Error::last_os_error());
                }
                let kind = c"fuse".as_ptr();
                result(libc::mount(kind, point.as_ptr(), kind, 0, options.as_ptr().cast()))?;
            }
            Ok(())
        }
    })
}

/// Whatever way the path leads there.
#[test]
fn a_list_on_a_hanging_file_system_holds_up_only_lookups_that_need_it() {
    if !fs::exists("/dev/fuse").unwrap_or_default() {
        return skip("a file system that hangs", "this kernel has no /dev/fuse");
    }
    in_each_environment(|environment| {
        for list in [
            format!("{MOUNT_POINT}/file"),
            format!("{MOUNT_POINT}/a b/list"),
            format!("/{MOUNT_POINT}//a b//list"),
            "a b/list".to_owned(),
            "./file".to_owned(),
        ] {
            let settings = [("IPV4_ONLY_FILE", &list)];
            let mut cat = with(environment.bare("/bin/cat"), [&list]);
            let moment = Duration::from_millis(300);
            let ended = run_for(beside_hanging_file_systems(&mut cat), moment);
            assert!(ended.is_none(), "{list}: the file system hangs: {ended:?}");

            let nodes = ["NULL", "127.0.0.1", "::1", "localhost", ""];
            let actions: Vec<_> = nodes.iter().flat_map(|node| ["look", node]).collect();
            let actions = [&["say", "runs", "connect"], &actions[..]].concat();
            let lookups = nodes.map(|node| format!("{node} any\n")).concat();
            let mut bare = bare(environment, &actions);
            let bare = said(&run(beside_hanging_file_systems(&mut bare)));
            expect("bare", bare, format!("runs\noff\n{lookups}"));
            let mut shimmed = command(environment, &settings, &actions);
            let shimmed = said(&run(beside_hanging_file_systems(&mut shimmed)));
            expect(list, shimmed, format!("runs\nidle=60,interval=60,count=5\n{lookups}"));
        }
    });
}

/// A list that takes tens of milliseconds to load, and the settings that name it.
fn slow_list(scratch: &Scratch) -> String {
    let comments = format!("{}\n", "#".repeat(99)).repeat(150_000);
    let list = scratch.file("slow", comments + "dual.example.com\n");
    text(&list).to_owned()
}

/// As `wget --dns-timeout` does from its handler of `SIGALRM`.
#[test]
fn a_lookup_after_a_jump_out_of_the_load_has_the_list() {
    in_each_environment(|environment| {
        let program = environment.program("left");
        let scratch = Scratch::new();
        let list = slow_list(&scratch);
        let bare = with(environment.bare(&program), ["jump", "0"]);
        expect_says(LAB.client(bare), "later 46\n");
        for delay in ["1000", "3000", "5000"] {
            let shimmed = environment.shimmed(&program, &[("IPV4_ONLY_FILE", &list)]);
            let shimmed = with(shimmed, ["jump", delay]);
            expect_says(LAB.client(shimmed), "jumped\nlater 4\n");
        }
    });
}

/// Nothing is left behind: no descriptor, no memory, no change of whether the thread can be cancelled.
#[test]
fn a_hundred_jumps_out_of_lookups_leave_nothing_behind() {
    in_each_environment(|environment| {
        let program = environment.program("left");
        let scratch = Scratch::new();
        let list = slow_list(&scratch);
        let wanted =
            |families| format!("0 descriptors, cancellation 0, memory stays\nlater {families}\n");
        // glibc's own lookups leave sockets behind.
        let stub = environment.shared_library("stub");
        let mut bare = with(environment.bare(&program), ["jumps", "2000"]);
        preload(&mut bare, &[&stub]);
        expect_says(bare, &wanted("46"));
        let shimmed = environment.shimmed(&program, &[("IPV4_ONLY_FILE", &list)]);
        let mut shimmed = with(shimmed, ["jumps", "2000"]);
        preload(&mut shimmed, &[&environment.library, &stub]);
        expect_says(shimmed, &wanted("4"));
    });
}

/// The lookups behind the library are those of `stub.c`: glibc's own hang in such a child.
#[test]
fn a_child_with_its_parents_id_does_not_wait_for_the_parents_loader() {
    in_each_environment(|environment| {
        let program = environment.program("left");
        let scratch = Scratch::new();
        let list = slow_list(&scratch);
        let arguments = ["namespace", "3000"];
        let stub = environment.shared_library("stub");
        let mut bare = with(environment.bare(&program), arguments);
        preload(&mut bare, &[&stub]);
        expect_says(bare, "id 1\nchild 46\n");
        let shimmed = environment.shimmed(&program, &[("IPV4_ONLY_FILE", &list)]);
        let mut shimmed = with(shimmed, arguments);
        preload(&mut shimmed, &[&environment.library, &stub]);
        expect_says(shimmed, "id 1\nchild 4\n");
    });
}
