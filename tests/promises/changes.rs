//! A list file that changes while a program runs takes effect without a restart, whatever way it changes; what is not
//! a list any more changes nothing. `tests/programs/settings.c` changes the file and looks names up.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use super::faults::fail;
use super::settings::{command, large};
use crate::harness::run::{expect_says, output, run, said, stderr, stdout};
use crate::harness::scratch::text;
use crate::harness::strace::traced;
use crate::harness::{Environment, Scratch, expect, in_each_environment_at_once, on_this_machine};

/// Longer than the time between two looks at the file.
const A_LOOK: [&str; 2] = ["sleep", "1100"];

/// Runs actions with a list file, which has this text at first.
#[track_caller]
fn expect_with_list(environment: &Environment, list: &str, actions: &[&str], wanted: &str) {
    let scratch = Scratch::new();
    let path = scratch.file("list", list);
    let actions: Vec<_> =
        actions.iter().map(|word| if *word == "LIST" { text(&path) } else { word }).collect();
    expect_says(command(environment, &[("IPV4_ONLY_FILE", text(&path))], &actions), wanted);
}

#[test]
fn a_list_file_that_changes_takes_effect_without_a_restart() {
    in_each_environment_at_once(|environment| {
        for first in ["one.test\n".to_owned(), large("one.test\n")] {
            for how in ["write", "replace"] {
                let actions = ["look", "one.test", "look", "two.test", how, "LIST", "two.test\n"];
                let actions =
                    [&actions[..], &["until", "two.test", "IPv4", "look", "one.test"]].concat();
                let wanted = "one.test IPv4\ntwo.test any\ntwo.test IPv4\none.test any\n";
                expect_with_list(environment, &first, &actions, wanted);
            }
        }
    });
}

/// As the kubelet does with a `ConfigMap`: the file is a link into a directory that is a link itself.
#[test]
fn a_config_map_whose_link_is_swapped_takes_effect() {
    in_each_environment_at_once(|environment| {
        let scratch = Scratch::new();
        for (directory, patterns) in [("..1", "one.test\n"), ("..2", "two.test\n")] {
            fs::create_dir(scratch.join(directory)).expect("target can be written to");
            fs::write(scratch.join(directory).join("list"), patterns).expect("it can");
        }
        symlink("..1", scratch.join("..data")).expect("a link can be made");
        symlink("..data/list", scratch.join("list")).expect("a link can be made");
        let (list, data) = (scratch.text("list"), scratch.text("..data"));
        let actions = ["look", "one.test", "swap", &data, "..2", "until", "two.test", "IPv4"];
        let actions = [&actions[..], &["look", "one.test"]].concat();
        expect_says(
            command(environment, &[("IPV4_ONLY_FILE", &list)], &actions),
            "one.test IPv4\ntwo.test IPv4\none.test any\n",
        );
    });
}

/// Between two pieces the file is never older than a moment, however busy the machine is.
#[test]
fn a_list_that_is_being_written_is_not_taken_for_a_whole_one() {
    in_each_environment_at_once(|environment| {
        let mut actions = vec!["look", "one.test", "write", "LIST", "a.test\n"];
        for _ in 0..12 {
            actions.extend(["append", "LIST", "b.test\n", "look", "one.test", "sleep", "250"]);
        }
        actions.extend(["append", "LIST", "one.test two.test\n", "until", "two.test", "IPv4"]);
        let wanted = "one.test IPv4\n".repeat(13) + "two.test IPv4\n";
        expect_with_list(environment, "one.test\n", &actions, &wanted);
    });
}

#[test]
fn a_file_that_is_not_a_list_any_more_changes_nothing_but_one_warning() {
    in_each_environment_at_once(|environment| {
        for (bad, words) in [
            (&["remove", "LIST"][..], "No such file or directory; keeping the list as it was"),
            (&["replace", "LIST", "two.test\na..b\nc..d\n"], "line 2: \"a..b\": "),
            (&["remove", "LIST", "directory", "LIST"], "not a regular file; keeping"),
        ] {
            let scratch = Scratch::new();
            let path = scratch.file("list", "one.test\n");
            let later = [&A_LOOK[..], &["look", "one.test"]].concat().repeat(4);
            let actions = [&["look", "one.test"], bad, &later[..], &["look", "two.test"]].concat();
            let good = ["replace", "NEW", "three.test\n", "until", "three.test", "any"];
            let actions: Vec<_> = [&actions[..], &good]
                .concat()
                .into_iter()
                .map(|word| if word == "LIST" { text(&path).to_owned() } else { word.to_owned() })
                .map(|word| if word == "NEW" { scratch.text("new") } else { word })
                .collect();
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            let settings = [("IPV4_ONLY_FILE", text(&path))];
            let output = run(&mut command(environment, &settings, &actions));
            let wanted = "one.test IPv4\n".repeat(5) + "two.test any\nthree.test any\n";
            expect(words, stdout(&output), wanted);
            let errors = stderr(&output);
            let right = errors.lines().count() == 1 && errors.contains(words);
            assert!(right && errors.contains("EGRESS_SHIM_IPV4_ONLY_FILE"), "{words}: {errors}");
        }
    });
}

#[test]
fn a_warning_about_a_list_with_a_long_path_is_whole() {
    in_each_environment_at_once(|environment| {
        let scratch = Scratch::new();
        let deep = ["d"; 6].map(|d| d.repeat(240)).join("/");
        let path = scratch.file(&format!("{deep}/list"), "one.test\n");
        let actions = ["look", "one.test", "remove", text(&path), "sleep", "1100"];
        let actions = [&actions[..], &["look", "one.test"]].concat();
        let settings = [("IPV4_ONLY_FILE", text(&path))];
        let errors = stderr(&run(&mut command(environment, &settings, &actions)));
        let end = "...: No such file or directory; keeping the list as it was\n";
        assert!(errors.lines().count() == 1 && errors.ends_with(end), "{errors}");
    });
}

#[test]
fn a_bad_list_that_is_made_good_again_takes_effect() {
    in_each_environment_at_once(|environment| {
        let mut actions = vec!["look", "one.test", "write", "LIST", "a..b\n"];
        actions.extend([A_LOOK, ["look", "one.test"], A_LOOK, ["look", "one.test"]].concat());
        actions.extend(["write", "LIST", "two.test\n", "until", "two.test", "IPv4"]);
        let scratch = Scratch::new();
        let path = scratch.file("list", "one.test\n");
        let actions: Vec<_> =
            actions.iter().map(|word| if *word == "LIST" { text(&path) } else { word }).collect();
        let output = run(&mut command(environment, &[("IPV4_ONLY_FILE", text(&path))], &actions));
        let wanted = "one.test IPv4\n".repeat(3) + "two.test IPv4\n";
        expect("", stdout(&output), wanted);
        expect("lines of warnings", stderr(&output).lines().count(), 1);
    });
}

/// Silently: nothing is known to have changed.
#[test]
fn a_daemon_that_drops_its_rights_or_changes_its_root_keeps_its_list() {
    in_each_environment_at_once(|environment| {
        for action in ["root", "user"] {
            let scratch = Scratch::new();
            let hidden = scratch.join("hidden");
            fs::create_dir(&hidden).expect("target can be written to");
            let list = hidden.join("list");
            fs::write(&list, "one.test\n").expect("it can");
            // The path means another file in the new root.
            let inside = scratch.join("root").join(list.strip_prefix("/").expect("it is absolute"));
            fs::create_dir_all(inside.parent().expect("it has one")).expect("it can");
            fs::write(&inside, "two.test\n").expect("it can");
            fs::set_permissions(&hidden, Permissions::from_mode(0o700)).expect("it is ours");
            let root = scratch.text("root");
            let value = if action == "root" { &root } else { "65534" };
            let mut actions = vec!["look", "one.test", action, value];
            for _ in 0..3 {
                actions.extend(["sleep", "1100", "look", "one.test", "look", "two.test"]);
            }
            let wanted = "one.test IPv4\n".to_owned() + &"one.test IPv4\ntwo.test any\n".repeat(3);
            expect_says(
                command(environment, &[("IPV4_ONLY_FILE", text(&list))], &actions),
                &wanted,
            );
        }
    });
}

/// As a seccomp filter or a security module may do. Nothing is known to have changed.
#[test]
fn a_look_that_is_refused_changes_nothing_and_is_no_warning() {
    in_each_environment_at_once(|environment| {
        for error in [libc::EACCES, libc::EPERM] {
            let scratch = Scratch::new();
            let list = scratch.file("list", "one.test\n");
            let actions = [["look", "one.test"], A_LOOK, ["look", "one.test"]].concat();
            let mut command = command(environment, &[("IPV4_ONLY_FILE", text(&list))], &actions);
            // The root directory is looked at before.
            fail(&mut command, environment, ("stat", 1), error);
            command.env("FAULT_FILE", scratch.join("told"));
            expect_says(command, &"one.test IPv4\n".repeat(2));
            assert!(scratch.join("told").exists(), "the look is refused");
        }
    });
}

#[test]
fn a_list_that_stays_as_it_is_is_not_said_to_have_changed() {
    in_each_environment_at_once(|environment| {
        for list in ["one.test\n".to_owned(), large("one.test\n")] {
            let scratch = Scratch::new();
            let list = scratch.file("list", list);
            // A file that is new is left alone at the first look.
            let actions = [["look", "one.test"], A_LOOK].concat().repeat(3);
            let settings = [("IPV4_ONLY_FILE", text(&list)), ("LOG", "info")];
            let output = run(&mut command(environment, &settings, &actions));
            expect("", stdout(&output), "one.test IPv4\n".repeat(3));
            let errors = stderr(&output);
            let right = errors.lines().count() == 1 && errors.contains(" is loaded: ");
            assert!(right, "one line: {errors}");
        }
    });
}

/// A look would say that the file has gone.
#[test]
fn names_that_are_never_listed_have_the_file_looked_at_by_nobody() {
    in_each_environment_at_once(|environment| {
        let names = ["127.0.0.1", "::1", "localhost", "a.localhost", "NULL", ""];
        let mut actions = vec!["look", "one.test", "remove", "LIST"];
        for name in names {
            actions.extend(["sleep", "1100", "look", name]);
        }
        let wanted = names.map(|name| format!("{name} any\n")).concat();
        expect_with_list(environment, "one.test\n", &actions, &format!("one.test IPv4\n{wanted}"));
    });
}

#[test]
fn a_list_file_that_comes_later_takes_effect() {
    in_each_environment_at_once(|environment| {
        let scratch = Scratch::new();
        let list = scratch.text("list");
        // A look at what is still missing says it no second time.
        let actions = [["look", "one.test"], A_LOOK, ["look", "one.test"]].concat();
        let later = ["replace", &list, "one.test", "until", "one.test", "IPv4"];
        let actions = [&actions[..], &later].concat();
        let seen = said(&run(&mut command(environment, &[("IPV4_ONLY_FILE", &list)], &actions)));
        let wanted = "one.test any\none.test any\none.test IPv4\negress-shim: ";
        assert!(seen.starts_with(wanted), "{seen}");
        expect("lines", seen.lines().count(), 4);
    });
}

/// So large a file may be: it is read once for each change.
#[test]
fn a_file_that_is_no_list_is_opened_once_and_not_at_each_look() {
    on_this_machine(|environment| {
        let scratch = Scratch::new();
        let (list, trace) = (scratch.file("list", "one.test\n"), scratch.join("trace"));
        let look = [A_LOOK[0], A_LOOK[1], "look", "one.test"];
        let actions = [&["look", "one.test", "write", text(&list), "a..b\n"][..], &look.repeat(5)];
        let command = command(environment, &[("IPV4_ONLY_FILE", text(&list))], &actions.concat());
        let seen = run(&mut traced(&command, "trace=open,openat", &trace));
        expect("what it says", stdout(&seen), "one.test IPv4\n".repeat(6));
        let trace = fs::read_to_string(&trace).expect("strace has written its trace");
        let is_read = |line: &&str| line.contains(text(&list)) && line.contains("O_RDONLY");
        expect(
            "how often it is opened: as a list, and as none",
            trace.lines().filter(is_read).count(),
            2,
        );
    });
}

#[test]
fn of_many_lookups_one_a_second_looks_at_the_file() {
    in_each_environment_at_once(|environment| {
        let scratch = Scratch::new();
        let (list, trace) = (scratch.file("list", "one.test\n"), scratch.join("trace"));
        let actions = ["look", "one.test", "time", "one.test", "2000"];
        let command = command(environment, &[("IPV4_ONLY_FILE", text(&list))], &actions);
        let start = Instant::now();
        output(&mut traced(&command, "trace=all", &trace));
        let most = usize::try_from(start.elapsed().as_secs()).expect("some") + 2;
        let trace = fs::read_to_string(&trace).expect("strace has written its trace");
        let looks =
            trace.lines().filter(|line| line.contains("stat") && line.contains(text(&list)));
        let looks = looks.count();
        assert!((1..=most).contains(&looks), "wanted 1 to {most} looks, seen {looks}");
    });
}
