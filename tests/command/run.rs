//! Running a program: it gets this very process, and all that came but the settings as it came.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{
    COMMAND, LIBRARY, NOBODY, PATH, Public, as_nobody, bare, fails, mode, output, run, shim,
    shim_at, text, warns,
};
use crate::harness::run as programs;
use crate::harness::{Environment, skip};

// ------------------------------------------------------------------- same process

#[test]
fn the_program_has_the_process_of_the_command() {
    let mut command = shim(&["sh", "-c", "echo $$"]);
    let child = command.stdout(Stdio::piped()).spawn().expect("the shell starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("it can be waited for");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{pid}\n"));
}

#[test]
fn as_the_first_process_of_a_container_the_program_is_pid_1() {
    let mut command = bare("unshare");
    command.args(["--fork", "--pid", "--mount-proc", &COMMAND, "sh", "-c", "echo $$"]);
    assert_eq!(output(&mut command), "1\n");
}

#[test]
fn a_signal_reaches_the_program_and_its_status_is_that_signal() {
    let mut command = shim(&["sh", "-c", "echo ready; exec sleep 60"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the shell starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).expect("it writes");
    assert_eq!(line, "ready\n");
    let pid = i32::try_from(child.id()).expect("a process number");
    // SAFETY: kill(2) of a child that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let status = child.wait().expect("it can be waited for");
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}");
}

#[test]
fn ignored_and_blocked_signals_are_as_they_were() {
    let signals = |command: &mut Command| {
        let set = || {
            // SAFETY: only system calls after the fork; the set is initialised by sigemptyset.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigaddset(&raw mut set, libc::SIGUSR1);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                libc::signal(libc::SIGINT, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            }
            Ok(())
        };
        // SAFETY: see there.
        let status = output(unsafe { command.pre_exec(set) });
        let sets = status.lines().filter(|line| line.starts_with("Sig") && !line.contains("SigQ"));
        sets.map(str::to_owned).collect::<Vec<_>>()
    };
    let wanted = signals(bare("cat").arg("/proc/self/status"));
    assert_eq!(signals(&mut shim(&["cat", "/proc/self/status"])), wanted);
}

#[test]
fn the_exit_status_is_the_programs() {
    for status in [0, 1, 2, 77, 125, 126, 127, 255] {
        let ran = run(&mut shim(&["sh", "-c", &format!("exit {status}")]));
        assert_eq!((ran.status.code(), ran.err.as_str()), (Some(status), ""));
    }
}

#[test]
fn descriptors_are_the_programs_alone() {
    // 10 and above, and 255, are where shells put their own.
    const OPEN: [i32; 7] = [3, 9, 10, 11, 12, 63, 255];
    let null = fs::File::open("/dev/null").expect("/dev/null");
    let null = null.as_raw_fd();
    let listed = |command: &mut Command, closed: &'static [i32]| {
        let descriptors = move || {
            for descriptor in OPEN {
                // SAFETY: dup2(2) on numbers, after the fork.
                unsafe { libc::dup2(null, descriptor) };
            }
            for descriptor in closed {
                // SAFETY: close(2) on a number, after the fork.
                unsafe { libc::close(*descriptor) };
            }
            Ok(())
        };
        // SAFETY: two kinds of system calls after the fork.
        let ran = run(unsafe { command.pre_exec(descriptors) });
        assert!(ran.status.success(), "{ran:?}");
        ran.err
    };
    let list = "for fd in /proc/self/fd/*; do readlink $fd >&2; echo $fd >&2; done";
    for closed in [&[][..], &[0], &[1], &[0, 1]] {
        let wanted = listed(bare("bash").args(["-c", list]), closed);
        assert!(wanted.contains("/proc/self/fd/255\n"), "{wanted}");
        let seen = listed(&mut shim(&["bash", "-c", list]), closed);
        let without_numbers = |text: &str| {
            let kept = text.lines().filter(|line| !line.starts_with("pipe:"));
            kept.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(without_numbers(&seen), without_numbers(&wanted), "{closed:?} closed");
    }
}

#[test]
fn standard_input_is_left_for_the_program() {
    let mut command = shim(&["cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the shell starts");
    child.stdin.take().unwrap().write_all(b"one\n\0two").expect("it reads");
    let output = child.wait_with_output().expect("it can be waited for");
    assert_eq!(output.stdout, b"one\n\0two");
}

// ---------------------------------------------------------------------- arguments

#[test]
fn arguments_arrive_exactly_and_so_does_the_programs_name() {
    let arguments = "| a  b\t|*|/*|?|[a-z]|line\nline\n|\\|\\n|$HOME|`id`|\"'|-x|--|--lenient|--help|\
        a=b|é|!|~|#|";
    let list = "tr '\\0' '|' <\"/proc/$$/cmdline\"";
    let seen = output(shim(&["sh", "-c", list]).args(arguments.split('|')));
    assert_eq!(seen, format!("sh|-c|{list}|{arguments}|"));
    let raw = OsStr::from_bytes(b"\xff\x81\x88");
    let seen = run(shim(&["printf", "%s"]).arg(raw));
    assert_eq!(seen.out, raw.to_string_lossy(), "bytes that are not UTF-8");
}

#[test]
fn options_end_at_the_first_other_word() {
    let words = |arguments: &[&str]| output(&mut shim(arguments));
    assert_eq!(words(&["--lenient", "echo", "--lenient", "--no-such"]), "--lenient --no-such\n");
    assert_eq!(words(&["--", "echo", "--", "a"]), "-- a\n");
    assert_eq!(words(&["--log=off", "--", "echo", "a"]), "a\n");
}

#[test]
fn after_two_dashes_a_command_may_begin_with_a_dash() {
    let scratch = Public::new();
    scratch.write("-c", "#!/bin/sh\necho program $#\n");
    scratch.write("-text", "echo text $#\n");
    scratch.write("-d/x", "echo nested $#\n");
    let path = format!("{}:{PATH}", text(&scratch.0));
    let seen = |arguments: &[&str], path: &str| {
        let mut command = shim(arguments);
        output(command.current_dir(&scratch.0).env("PATH", path))
    };
    for path in [path.as_str(), &format!(":{PATH}")] {
        assert_eq!(seen(&["--", "-c", "a b"], path), "program 1\n");
        assert_eq!(seen(&["--", "-text", "a b"], path), "text 1\n");
        assert_eq!(seen(&["--", "-d/x", "a b"], path), "nested 1\n");
    }
}

#[test]
fn each_option_sets_its_variable_in_both_forms() {
    let options = [
        ("--ipv4-only", "EGRESS_SHIM_IPV4_ONLY", "a.example, *.b.example !c.b.example"),
        ("--keepalive", "EGRESS_SHIM_KEEPALIVE", "idle=9,count=2"),
        ("--log", "EGRESS_SHIM_LOG", "error"),
        ("--log-file", "EGRESS_SHIM_LOG_FILE", "/dev/null"),
    ];
    for (option, variable, value) in options {
        for arguments in [&[option, value][..], &[&format!("{option}={value}")]] {
            let mut command = shim(arguments);
            assert_eq!(output(command.args(["printenv", variable])).trim_end(), value);
            if !matches!(option, "--ipv4-only" | "--keepalive") {
                let seen = output(command.env(variable, "/replaced"));
                assert_eq!(seen.trim_end(), value, "an option wins over {variable}");
            }
        }
    }
}

#[test]
fn parts_of_keepalive_are_put_together_key_by_key() {
    let variable = "EGRESS_SHIM_KEEPALIVE";
    let mut command =
        shim(&["--keepalive", "idle=5", "--keepalive=interval=6", "printenv", variable]);
    assert_eq!(output(&mut command), "idle=5,interval=6\n");
    command.env(variable, "count=3");
    assert_eq!(output(&mut command), "count=3,idle=5,interval=6\n");
    command.env(variable, "idle=9");
    fails(&mut command, 78, &["idle=5", "must be given once"]);
}

#[test]
fn a_host_or_program_adds_to_the_environment_and_to_those_before_it() {
    for (option, variable) in
        [("--ipv4-only", "EGRESS_SHIM_IPV4_ONLY"), ("--program", "EGRESS_SHIM_PROGRAMS")]
    {
        let second = format!("{option}=b.example");
        let mut command = shim(&[option, "a.example", &second, "printenv", variable]);
        assert_eq!(output(&mut command), "a.example,b.example\n");
        command.env(variable, "c.example");
        assert_eq!(output(&mut command), "c.example,a.example,b.example\n");
    }
}

#[test]
fn a_relative_file_is_for_programs_in_every_directory() {
    let scratch = Public::new();
    scratch.write("hosts", "a.example\n".repeat(10_000));
    for (option, variable) in
        [("--ipv4-only-file", "EGRESS_SHIM_IPV4_ONLY_FILE"), ("--log-file", "EGRESS_SHIM_LOG_FILE")]
    {
        for arguments in [&[option, "hosts"][..], &[&format!("{option}=hosts")]] {
            let seen = output(shim(arguments).args(["printenv", variable]).current_dir(&scratch.0));
            assert_eq!(seen.trim_end(), scratch.path("hosts").display().to_string());
        }
    }
}

#[test]
fn an_invalid_setting_is_fatal_unless_lenient() {
    let mut strict = shim(&["--keepalive", "idle=nonsense", "echo", "ran"]);
    fails(&mut strict, 78, &["--keepalive idle=nonsense: idle must be"]);

    let child =
        ["--keepalive", "idle=45", "sh", "-c", "EGRESS_SHIM_KEEPALIVE=nonsense; /bin/echo ran"];
    assert_eq!(run(&mut shim(&child)).out, "ran\n", "what it starts is not ended");

    let arguments = ["--lenient", "--keepalive", "idle=nonsense", "echo", "ran"];
    let lenient = run(shim(&arguments).env("EGRESS_SHIM_STRICT", "1"));
    assert_eq!((lenient.status.code(), lenient.out.as_str()), (Some(0), "ran\n"), "{lenient:?}");
    assert!(lenient.err.contains("EGRESS_SHIM_KEEPALIVE"), "{lenient:?}");
}

// -------------------------------------------------------------------- the library

#[test]
fn the_library_comes_first_and_a_preload_that_was_there_stays() {
    let other = "/lib/x86_64-linux-gnu/libm.so.6";
    let third = "/lib/x86_64-linux-gnu/libdl.so.2";
    let library = &*LIBRARY;
    let cases = [
        (String::new(), LIBRARY.clone()),
        (other.to_owned(), format!("{library}:{other}")),
        (format!("{other}:{third}"), format!("{library}:{other}:{third}")),
        (format!(" {other}  {third} "), format!("{library}:{other}:{third}")),
        (format!("{other}:{library} {third}"), format!("{library}:{other}:{third}")),
        (format!("{library}:{library}"), LIBRARY.clone()),
        (format!("/elsewhere/libegress_shim.so:{other}"), format!("{library}:{other}")),
        (format!("libegress_shim.so {other}"), format!("{library}:{other}")),
    ];
    for (before, after) in &cases {
        let mut command = shim(&["printenv", "LD_PRELOAD"]);
        let ran = run(command.env("LD_PRELOAD", before));
        assert_eq!(ran.out.trim_end(), after, "after {before:?}");
    }
    let maps = output(&mut shim(&["cat", "/proc/self/maps"]));
    assert!(maps.contains(LIBRARY.as_str()), "the library is loaded: {maps}");
}

#[test]
fn nested_commands_add_the_library_once() {
    let (scratch, inner) = Public::installed();
    let seen = output(&mut shim(&[&COMMAND, &COMMAND, "printenv", "LD_PRELOAD"]));
    assert_eq!(seen.trim_end(), *LIBRARY);
    let seen = output(&mut shim(&[text(&inner), "printenv", "LD_PRELOAD"]));
    let wanted = scratch.path("lib/libegress_shim.so");
    assert_eq!(seen.trim_end(), text(&wanted), "the inner one's own");
}

#[test]
fn the_library_is_found_from_the_commands_own_place() {
    let scratch = Public::new();
    let path = scratch.copy(&*COMMAND, "bin/egress-shim");
    let preload = |command: &OsStr, directory: &Path| {
        let mut command = shim_at(command, &["printenv", "LD_PRELOAD"]);
        output(command.current_dir(directory)).trim_end().to_owned()
    };
    // The last first.
    for place in ["lib/egress-shim", "lib", "bin"] {
        let library = scratch.copy(&*LIBRARY, &format!("{place}/libegress_shim.so"));
        assert_eq!(preload(path.as_os_str(), Path::new("/")), text(&library));
    }
    for place in ["bin", "lib/egress-shim"] {
        fs::remove_file(scratch.path(&format!("{place}/libegress_shim.so"))).unwrap();
    }
    let library = scratch.path("lib/libegress_shim.so");

    // Every way to name the command leads to the same clean path.
    symlink("../bin", scratch.path("links/bin")).unwrap();
    symlink("../bin/egress-shim", scratch.path("links/one")).unwrap();
    symlink("one", scratch.path("links/two")).unwrap();
    let bin = scratch.path("bin");
    for way in ["bin/egress-shim", "bin/../bin//egress-shim", "links/bin/egress-shim", "links/two"]
    {
        let way = format!("{}/{way}", text(&scratch.0));
        assert_eq!(preload(OsStr::new(&way), Path::new("/")), text(&library), "by {way}");
    }
    assert_eq!(preload(OsStr::new("./egress-shim"), &bin), text(&library));
    for way in [bin, scratch.path("links/bin")] {
        let mut command = bare("/usr/bin/env");
        command.args(["egress-shim", "printenv", "LD_PRELOAD"]);
        command.env("PATH", format!("{}:{PATH}", text(&way)));
        assert_eq!(output(&mut command).trim_end(), text(&library), "through PATH");
    }
}

#[test]
fn without_the_library_it_says_where_it_looked() {
    let scratch = Public::new();
    let path = scratch.copy(&*COMMAND, "bin/egress-shim");
    let root = text(&scratch.0);
    let own =
        ["bin", "lib", "lib/egress-shim"].map(|place| format!("{root}/{place}/libegress_shim.so"));
    let mut words = own.iter().map(String::as_str).collect::<Vec<_>>();
    words.extend([
        "cannot find libegress_shim.so",
        " /usr/local/lib/libegress_shim.so, ",
        " /usr/lib/libegress_shim.so, ",
        " /usr/lib/x86_64-linux-gnu/libegress_shim.so; ",
        "--library PATH",
    ]);
    fails(&mut shim_at(path, &["true"]), 125, &words);
    fails(&mut shim(&["--library=/no/such", "true"]), 125, &["looked for /no/such; "]);
}

#[test]
fn a_library_that_cannot_be_preloaded_is_refused() {
    let (scratch, copy) = Public::installed();
    let blank = scratch.copy(&*LIBRARY, "white space/libegress_shim.so");
    let colon = scratch.copy(&*LIBRARY, "co:lon/libegress_shim.so");
    let dollar = scratch.copy(&*LIBRARY, "$ORIGIN/libegress_shim.so");
    let script = scratch.write("script.so", b"#!/bin/sh\n");
    let secret = scratch.copy(&*LIBRARY, "secret.so");
    mode(&secret, 0o600);
    let refused = |library: &Path, words: &[&str]| {
        let arguments = ["--library", text(library), "true"];
        fails(as_nobody(&mut shim_at(&copy, &arguments)), 125, words);
    };
    refused(&blank, &["white space", "colon"]);
    refused(&colon, &["white space", "colon"]);
    refused(&dollar, &["a $"]);
    refused(&script, &["script.so is not a shared library"]);
    let libm = Path::new("/lib/x86_64-linux-gnu/libm.so.6");
    refused(libm, &["libm.so.6 is a library, but not that of egress-shim"]);
    refused(&secret, &["secret.so cannot be read"]);
    refused(&scratch.0, &["is not a regular file"]);
    // One that lies in such a place is refused too, and no other is taken in silence.
    let beside = scratch.copy(&*COMMAND, "white space/egress-shim");
    fails(&mut shim_at(beside, &["true"]), 125, &["white space/libegress_shim.so"]);
}

#[test]
fn a_library_for_another_architecture_is_refused() {
    let scratch = Public::new();
    // e_machine: AArch64.
    let other = scratch.patched(&LIBRARY, "libegress_shim.so", |bytes| bytes[18] = 183);
    let narrow = scratch.patched(&LIBRARY, "narrow.so", |bytes| {
        bytes[4] = 1;
        bytes[18] = 3;
    });
    let words = ["is 64-bit AArch64, but ", "/true is 64-bit x86-64: use the library"];
    let arguments = ["--library", text(&other), "true"];
    fails(&mut shim(&arguments), 125, &words);
    // Its headers are read as what they say that they are.
    fails(&mut shim(&["--library", text(&narrow), "true"]), 125, &["narrow.so is "]);
    let checked = run(shim(&arguments[..2]).args(["--check", "127.0.0.1:1", "--", "true"]));
    assert_eq!(checked.status.code(), Some(125), "{checked:?}");
}

#[test]
fn a_relative_library_is_made_absolute() {
    let (scratch, _) = Public::installed();
    let arguments = ["--library", "lib/libegress_shim.so", "printenv", "LD_PRELOAD"];
    let seen = output(shim(&arguments).current_dir(&scratch.0));
    assert_eq!(seen.trim_end(), text(&scratch.path("lib/libegress_shim.so")));
}

// -------------------------------------------------------------------- the command

#[test]
fn a_command_that_is_not_there_is_127() {
    let path = format!("no-such: not found in PATH ({PATH})");
    fails(&mut shim(&["no-such"]), 127, &[&path]);
    fails(&mut shim(&["/no/such"]), 127, &["/no/such: no such file"]);
    fails(&mut shim(&["./no-such", "a"]), 127, &["./no-such: no such file"]);
    fails(&mut shim(&[""]), 127, &["empty"]);
}

#[test]
fn a_command_that_cannot_be_run_is_126() {
    let scratch = Public::new();
    let plain = scratch.write("plain", b"text");
    mode(&plain, 0o644);
    let directory = scratch.path("directory/x");
    let directory = directory.parent().unwrap();
    let script = scratch.write("script", "#!/no/such -x\n");
    let env_script = scratch.write("env-script", "#! /no/env python3\n");
    let dos = scratch.write("dos", "#!/bin/sh\r\necho\r\n");
    let folder = scratch.write("folder", "#!/bin\n");
    let pattern = scratch.write("pattern", "#!/bin/[s]h\n");
    let loader = scratch.patched("/bin/true", "loader", |bytes| {
        let name = b"/lib64/ld-linux";
        let at = bytes.windows(name.len()).position(|window| window == name);
        bytes[at.expect("true is for this glibc") + 1] = b'L';
    });
    let pipe = scratch.path("pipe"); // to read it is to wait
    output(bare("mkfifo").arg("--mode=755").arg(&pipe));
    let path = format!("{}:{PATH}", text(&scratch.0));
    let refused = |command: &str, words: &[&str]| {
        fails(shim(&[command]).env("PATH", &path), 126, words);
    };
    refused(text(&plain), &["plain is not executable"]);
    refused("plain", &["plain is not executable"]);
    refused(text(&pipe), &["pipe is not executable"]);
    refused(text(directory), &["is a directory"]);
    refused("directory", &["is a directory"]);
    refused(text(&script), &["script cannot be run", "interpreter /no/such "]);
    refused(text(&env_script), &["interpreter /no/env "]);
    refused(text(&dos), &["interpreter /bin/sh ", "carriage return"]);
    refused(text(&folder), &["interpreter /bin "]);
    refused(text(&pattern), &["interpreter /bin/[s]h "]);
    refused(text(&loader), &["loader cannot be run", "ELF interpreter"]);
}

#[test]
fn a_text_file_without_an_interpreter_line_is_for_sh() {
    let scratch = Public::new();
    let loaded = "grep -q libegress_shim.so /proc/$$/maps && echo loaded \"$@\"; exit";
    let script = scratch.write("script", format!("{loaded} 5"));
    let empty = scratch.write("empty", "");
    let path = format!("{}:{PATH}", text(&scratch.0));
    for command in [text(&script), "script"] {
        let ran = run(shim(&[command, "a  b"]).env("PATH", &path));
        assert_eq!(ran.out, "loaded a  b\n", "{ran:?}");
        assert_eq!((ran.status.code(), ran.err.as_str()), (Some(5), ""));
    }
    assert_eq!(output(&mut shim(&[text(&empty)])), "");
}

#[test]
fn an_empty_element_of_path_is_the_current_directory() {
    let scratch = Public::new();
    scratch.write("mine", "#!/bin/sh\necho mine\n");
    for path in [format!(":{PATH}"), format!("{PATH}:"), format!("/no/such::{PATH}")] {
        let mut command = shim(&["mine"]);
        command.current_dir(&scratch.0).env("PATH", &path);
        assert_eq!(output(&mut command), "mine\n", "PATH={path}");
    }
}

// ----------------------------------------------------------------------- warnings

#[test]
fn a_statically_linked_program_is_warned_of_and_runs() {
    let scratch = Public::new();
    let plain = scratch.compile("static", &["-static"]);
    let pie = scratch.compile("static-pie", &["-static-pie"]);
    for program in [&plain, &pie] {
        let words = format!("{} is statically linked", text(program));
        warns(&mut shim(&[text(program)]), &words);
    }
}

#[test]
fn a_script_is_judged_by_the_program_that_runs_it() {
    let scratch = Public::new();
    let interpreter = scratch.compile("interpreter", &["-static"]);
    let interpreter = text(&interpreter);
    let direct = scratch.write("direct", format!("#! {interpreter} -x\n"));
    let nested = scratch.write("nested", format!("#!{}", text(&direct)));
    let env = scratch.write("env", "#!/usr/bin/env interpreter\n");
    let split = scratch.write("split", "#!/usr/bin/env -S A=b interpreter -x\n");
    let path = format!("{}:{PATH}", text(&scratch.0));
    let words = format!("{interpreter} is statically linked");
    // The kernel follows five and no more (BINPRM_MAX_RECURSION in fs/exec.c).
    let mut fifth = nested.clone();
    for depth in 3..=5 {
        fifth = scratch.write(&format!("depth-{depth}"), format!("#!{}\n", text(&fifth)));
    }
    let sixth = scratch.write("sixth", format!("#!{}\n", text(&fifth)));
    fails(&mut shim(&[text(&sixth)]), 126, &["cannot be run: Too many levels of symbolic links"]);
    for script in [&direct, &nested, &fifth, &env, &split] {
        warns(shim(&[text(script)]).env("PATH", &path), &words);
    }
}

#[test]
fn a_program_that_the_loader_protects_is_warned_of_and_runs() {
    let (scratch, installed) = Public::installed();
    let copy = |name: &str, uid, gid, bits| {
        let path = scratch.copy("/bin/true", name);
        chown(&path, Some(uid), Some(gid)).expect("chown works");
        mode(&path, bits);
        path
    };
    let of_root = copy("of-root", 0, 0, 0o4755);
    let of_nobody = copy("of-nobody", NOBODY, 0, 0o4755);
    let group_root = copy("group-root", 0, 0, 0o2755);
    let group_nobody = copy("group-nobody", 0, NOBODY, 0o2755);
    let locking = copy("locking", 0, NOBODY, 0o2745);
    let capable = copy("capable", 0, 0, 0o755);
    output(bare("setcap").arg("cap_net_raw=ep").arg(&capable));
    let permitted = copy("permitted", 0, 0, 0o755);
    output(bare("setcap").arg("cap_net_raw=p").arg(&permitted));
    let inheritable = copy("inheritable", 0, 0, 0o755);
    output(bare("setcap").arg("cap_net_raw=i").arg(&inheritable));
    let script = scratch.write("script", format!("#!{}\n", text(&of_nobody)));

    let by = |user: u32, program: &Path| {
        let mut command = shim_at(&installed, &[text(program)]);
        command.uid(user).gid(user);
        command
    };
    warns(&mut by(0, &of_nobody), "of-nobody is set-user-ID to user 65534");
    warns(&mut by(0, &script), "of-nobody is set-user-ID to user 65534");
    warns(&mut by(NOBODY, &of_root), "of-root is set-user-ID to user 0");
    warns(&mut by(0, &group_nobody), "group-nobody is set-group-ID to group 65534");
    warns(&mut by(NOBODY, &group_root), "group-root is set-group-ID to group 0");
    warns(&mut by(NOBODY, &capable), "capable has file capabilities");
    warns(&mut by(NOBODY, &permitted), "permitted has file capabilities");

    // Where the kernel grants nothing, the library is loaded and nothing is said.
    for program in [&of_root, &group_root, &locking, &capable, &inheritable] {
        output(&mut by(0, program));
    }
    for program in [&of_nobody, &group_nobody, &inheritable] {
        output(&mut by(NOBODY, program));
    }
    let mut command = bare("setpriv");
    command.arg("--no-new-privs").arg(&installed).arg(&of_nobody);
    output(&mut command);
    let root = text(&scratch.0);
    // A mount of its own, and the one that it lies in, which is the root as a rule.
    let remount = "mount -o remount,bind,nosuid";
    for nosuid in [
        format!("mount --bind {root} {root}; {remount} {root}; exec \"$@\""),
        format!("{remount} $(stat -c %m {root}); exec \"$@\""),
    ] {
        let mut command = bare("unshare");
        command.args(["--mount", "sh", "-ec", &nosuid, "sh"]);
        output(command.arg(&installed).arg(&of_nobody));
    }
}

#[test]
fn where_all_is_well_it_is_silent() {
    let scratch = Public::new();
    let script = scratch.write("script", "#!/bin/sh\ncat </dev/null\n");
    let env = scratch.write("env", "#!/usr/bin/env -S A=b sh -e\ntest $A = b\n");
    let secret = scratch.copy("/bin/true", "secret"); // can be run, not read
    mode(&secret, 0o711);
    let fixed = scratch.compile("fixed", &["-no-pie"]);
    let (installed, copy) = Public::installed();
    let link = installed.path("true");
    symlink("/bin/true", &link).unwrap();
    for program in [&script, &env, &secret, &fixed, &link, Path::new("true")] {
        output(as_nobody(&mut shim_at(&copy, &[text(program)])));
    }
    // The dynamic loader has no interpreter of its own, yet it does preload.
    output(&mut shim(&["/lib64/ld-linux-x86-64.so.2", "/bin/true"]));
}

#[test]
fn a_standard_error_that_nobody_reads_does_no_harm() {
    let scratch = Public::new();
    let program = scratch.compile("static", &["-static"]);
    let mut command = shim(&[text(&program)]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = command.stderr(writer).status().expect("the shell starts");
    assert!(status.success(), "{status}");
}

#[test]
fn a_warning_leaves_sigpipe_as_it_was() {
    let scratch = Public::new();
    let text_of =
        "#include <signal.h>\nint main(void) { return signal(SIGPIPE, SIG_DFL) != SIG_DFL; }\n";
    let program = scratch.compile_text("static", text_of, &["-static"]);
    let mut command = shim(&[text(&program)]);
    // SAFETY: signal(2) with numbers, after the fork.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            Ok(())
        });
    }
    warns(&mut command, "is statically linked");
}

// -------------------------------------------------------------------- environment

/// The environment that a program started with, entry by entry.
fn environment_of(command: &mut Command) -> Vec<Vec<u8>> {
    let output = crate::harness::run::run(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

#[test]
fn the_environment_passes_byte_for_byte() {
    // Duplicates, names that no shell has, entries without a name or a value, bytes that are not UTF-8.
    let entries = "c\"A=1\", \"A=2\", \"discovery.type=single node\", \"1st=a\\nb\\n\", \"=x\", \
        \"bare\", \"\", \"BASH_FUNC_f%%=() {  echo one;\\n}\", \"raw=\\xff\\x81\", \"EMPTY=\", \
        \"EGRESS_SHIMMER=1\", \"LD_PRELOADED=x\", \"PATH=/usr/bin:/bin\""
        .trim_start_matches('c')
        .to_owned();
    let scratch = Public::new();
    let start = scratch.compile_text(
        "start",
        &format!(
            "#include <unistd.h>\nint main(int n, char **v) {{\n\
             char *e[] = {{ {entries}, 0 }}; (void)n; execve(v[1], v + 1, e); return 1; }}\n"
        ),
        &["-w"],
    );
    let cat = ["cat", "/proc/self/environ"];
    let wanted = environment_of(bare(&start).arg("/bin/cat").args(&cat[1..]));
    assert!(wanted.len() > 13 && wanted.contains(&b"bare".to_vec()), "the control: {wanted:?}");
    let mut seen = environment_of(bare(&start).arg(&*COMMAND).args(cat));
    let place = seen.iter().position(|entry| entry.starts_with(b"LD_PRELOAD="));
    seen.remove(place.expect("LD_PRELOAD is added"));
    assert_eq!(seen, wanted);
}

#[test]
fn of_two_entries_of_a_setting_the_one_that_counts_is_left() {
    let scratch = Public::new();
    let start = scratch.compile_text(
        "start",
        "#include <unistd.h>\nint main(int n, char **v) {\n\
         char *e[] = { \"EGRESS_SHIM_IPV4_ONLY=a.example\", \"LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6\", \
         \"EGRESS_SHIM_IPV4_ONLY=b.example\", \"LD_PRELOAD=\", \"PATH=/usr/bin\", 0 }; (void)n;\n\
         execve(v[1], v + 1, e); return 1; }\n",
        &["-w"],
    );
    let mut command = bare(start);
    command.args([&COMMAND, "--ipv4-only", "c.example", "env"]);
    // getenv(3) takes the first, the loaders the last.
    let wanted = format!(
        "EGRESS_SHIM_IPV4_ONLY=a.example,c.example\nLD_PRELOAD={}\nPATH=/usr/bin\n",
        *LIBRARY
    );
    assert_eq!(output(&mut command), wanted);
}

#[test]
fn nothing_strict_is_handed_on() {
    for strict in ["0", "1"] {
        let seen = output(shim(&["env"]).env("EGRESS_SHIM_STRICT", strict));
        assert!(!seen.contains("STRICT"), "{seen}");
    }
}

// ----------------------------------------------------------------------- settings

#[test]
fn a_name_that_is_no_setting_is_refused_with_the_one_that_was_meant() {
    let mut misspelt = shim(&["echo", "ran"]);
    misspelt.env("EGRESS_SHIM_KEEPALVE", "off");
    fails(&mut misspelt, 78, &["did you mean EGRESS_SHIM_KEEPALIVE?", "--lenient"]);
    let mut lenient = shim(&["--lenient", "echo", "ran"]);
    assert_eq!(run(lenient.env("EGRESS_SHIM_KEEPALVE", "off")).out, "ran\n");

    // What Kubernetes puts beside a Service whose name begins as ours.
    let mut service = shim(&["echo", "ran"]);
    service.env("EGRESS_SHIM_SERVICE_HOST", "192.0.2.1").env("EGRESS_SHIM_PORT_80_TCP", "x");
    assert_eq!(output(&mut service), "ran\n");
}

#[test]
fn each_invalid_setting_is_refused_before_anything_runs() {
    let scratch = Public::new();
    let list = scratch.write("list", "a.example\nb..example # two dots\n");
    for (arguments, words) in [
        (["--ipv4-only", "a..b"], "--ipv4-only a..b: "),
        (["--ipv4-only-file", "/no/such"], "--ipv4-only-file /no/such: "),
        (["--ipv4-only-file", text(&list)], "line 2: \"b..example\""),
        (["--ipv4-only-file", "/dev/null"], "not a regular file"),
        (["--program", "/bin/x"], "--program /bin/x: "),
        (["--log", "loud"], "--log loud: "),
        (["--log-file", "/no/such/log"], "--log-file /no/such/log: "),
    ] {
        let way_out = "COMMAND is not run (with --lenient it runs, ";
        fails(shim(&arguments).args(["echo", "ran"]), 78, &[words, "must be", way_out]);
        let lenient = run(shim(&["--lenient"]).args(arguments).args(["echo", "ran"]));
        assert_eq!(
            (lenient.status.code(), lenient.out.as_str()),
            (Some(0), "ran\n"),
            "{lenient:?}"
        );
    }
}

#[test]
fn a_list_goes_as_patterns_to_programs_that_may_not_read_its_file() {
    let (scratch, installed) = Public::installed();
    let list = scratch.write("list", "\u{feff}a.example, b.example # two\n\n# none\n!c.example\n");
    mode(&list, 0o600);
    let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"];
    let arguments = ["--ipv4-only", "z.example", "--ipv4-only-file", text(&list)];
    let seen = output(shim_at(&installed, &arguments).args(drop));
    let wanted = "EGRESS_SHIM_IPV4_ONLY=z.example,a.example,b.example,!c.example\n";
    assert!(seen.contains(wanted), "{seen}");
    assert!(!seen.contains("EGRESS_SHIM_IPV4_ONLY_FILE"), "{seen}");

    // One with mistakes stays a file: the library names their lines.
    let list = scratch.write("wrong", "a.example\na..b\n");
    mode(&list, 0o600);
    let seen = run(&mut shim(&["--lenient", "--ipv4-only-file", text(&list), "env"])).out;
    assert!(seen.contains(&format!("EGRESS_SHIM_IPV4_ONLY_FILE={}\n", text(&list))), "{seen}");
    assert!(!seen.contains("EGRESS_SHIM_IPV4_ONLY="), "{seen}");

    // A list that does not fit stays a file.
    let name = "a".repeat(50);
    let list = scratch.write("many", format!("{name}.example\n").repeat(2000));
    mode(&list, 0o600);
    let seen = output(shim(&["--ipv4-only-file", text(&list), "env"]).env_remove("LANG"));
    assert!(seen.contains(&format!("EGRESS_SHIM_IPV4_ONLY_FILE={}\n", text(&list))), "{seen}");
    assert!(!seen.contains("EGRESS_SHIM_IPV4_ONLY="), "{seen}");
}

/// So that a change takes effect without a restart.
#[test]
fn a_list_that_every_user_may_read_is_handed_on_as_its_file() {
    let scratch = Public::new();
    let list = scratch.write("list", "a.example\n");
    let seen =
        output(&mut shim(&["--ipv4-only", "z.example", "--ipv4-only-file", text(&list), "env"]));
    assert!(seen.contains(&format!("EGRESS_SHIM_IPV4_ONLY_FILE={}\n", text(&list))), "{seen}");
    assert!(seen.contains("EGRESS_SHIM_IPV4_ONLY=z.example\n"), "{seen}");
    // Nor may others read what they cannot reach.
    let directory = scratch.path("hidden");
    fs::create_dir(&directory).expect("it can be made");
    let list = scratch.write("hidden/list", "a.example\n");
    mode(&directory, 0o700);
    let seen = output(&mut shim(&["--ipv4-only-file", text(&list), "env"]));
    assert!(seen.contains("EGRESS_SHIM_IPV4_ONLY=a.example\n"), "{seen}");
}

#[test]
fn a_program_that_drops_privileges_is_not_ended_for_unusable_files() {
    let (scratch, installed) = Public::installed();
    let log = scratch.path("log");
    let list = scratch.write("list", "a.example\n");
    mode(&list, 0o600);
    let arguments = ["--ipv4-only-file", text(&list), "--log-file", text(&log)];
    for drop in [
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"][..],
        &["chroot", "--userspec=65534:65534", "/"],
    ] {
        let mut command = shim_at(&installed, &arguments);
        let ran = run(command.args(drop).args(["sh", "-c", "exec cat /dev/null; echo not here"]));
        assert!(ran.status.success() && ran.err.is_empty(), "{drop:?}: {ran:?}");
    }
}

#[test]
fn a_log_file_that_is_not_there_is_left_for_the_program_to_make() {
    let scratch = Public::new();
    let log = scratch.path("log");
    // Nothing can be preloaded into a static program: what is there afterwards is the command's.
    let program = scratch.compile("static", &["-static"]);
    run(&mut shim(&["--log-file", text(&log), text(&program)]));
    assert!(!log.exists());
}

// ------------------------------------------------------------------------ options

#[test]
fn each_option_that_is_no_setting_is_known() {
    for option in [
        "--library",
        "--lenient",
        "--print-environment",
        "--check",
        "--inspect",
        "--help",
        "--version",
    ] {
        let help = output(&mut shim(&["--help"]));
        assert!(help.contains(option), "{option} in {help}");
    }
}

#[test]
fn help_names_every_setting_and_fits_on_a_terminal() {
    let help = output(&mut shim(&["--help"]));
    assert_eq!(output(&mut shim(&["-h"])), help);
    let words = "--ipv4-only |--ipv4-only-file |--keepalive |--program |--log |--log-file |\
        EGRESS_SHIM_IPV4_ONLY |EGRESS_SHIM_IPV4_ONLY_FILE |EGRESS_SHIM_KEEPALIVE |EGRESS_SHIM |\
        EGRESS_SHIM_PROGRAMS |EGRESS_SHIM_LOG |EGRESS_SHIM_LOG_FILE |EGRESS_SHIM_STRICT |LD_PRELOAD |\
        idle=60,interval=60,count=5|default: warn|\n   78 |\n  125 |\n  126 |\n  127 |Example";
    for word in words.split('|') {
        assert!(help.contains(word), "--help has {word:?}: {help}");
    }
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "a terminal holds {line:?}");
    }
}

#[test]
fn its_version_is_the_packages() {
    const VERSION: &str = concat!("egress-shim ", env!("CARGO_PKG_VERSION"));
    assert_eq!(output(&mut shim(&["-V"])), format!("{VERSION}\n"));
    // The commit stands before the target in what scripts/build-portable builds.
    let target = format!("{}-unknown-linux-gnu)\n", std::env::consts::ARCH);
    let long = output(&mut shim(&["--version"]));
    assert!(long.starts_with(&format!("{VERSION} (")) && long.ends_with(&target), "{long}");
}

#[test]
fn wrong_usage_is_125_and_says_what_is_right() {
    // What the message says; then the words, each ended by `|`, since some are empty.
    let cases = "
        no COMMAND to run:
        no COMMAND to run: --|
        no COMMAND to run: --lenient|
        was the PATTERN forgotten: --ipv4-only|cat|
        unknown option --no-such: --no-such|true|
        unknown option --no-such: --no-such=1|true|
        did you mean --keepalive: --keepalve|on|true|
        unknown option -x: -x|
        a COMMAND that begins with '-' goes after '--': -x|
        --ipv4-only needs a PATTERN, as in --ipv4-only api.example.com: --ipv4-only|
        --ipv4-only needs a PATTERN: --ipv4-only||true|
        --ipv4-only needs a PATTERN: --ipv4-only=|true|
        --ipv4-only needs a PATTERN: --ipv4-only|--log|error|true|
        --keepalive needs a SPEC: --keepalive|--|true|
        --log needs a FILTER: --log|
        --program needs a NAME: --program|
        --lenient takes no value: --lenient=1|true|
        --ipv4-only-file needs a FILE: --ipv4-only-file|
        --ipv4-only-file is given twice: --ipv4-only-file=a|--ipv4-only-file|b|true|
        --log-file is given twice: --log-file=a|--log-file|b|true|
        --library needs a PATH: --library|
        --check needs a HOST: --check|
        '--log' has no place here: --log|warn|--inspect|1|
        '--library' has no place here: --inspect|1|--library|/x|
        --check, --inspect and --rescue cannot go together: --check|a.example|--inspect|1|
        --rescue runs nothing and takes no setting but --keepalive, so '--log' has no place here: --rescue|1|--log|warn|
        --rescue switches keepalive on, so --keepalive off has no place here: --keepalive|off|--rescue|1|
        --dry-run goes with --rescue: --dry-run|--inspect|1|";
    for case in cases.trim().lines() {
        let (message, words) = case.trim().rsplit_once(':').expect("a case has a colon");
        let words = words.trim().split_terminator('|').collect::<Vec<_>>();
        let message = message.replace("as in ", "as in: ");
        fails(&mut shim(&words), 125, &[&message, "; see egress-shim --help"]);
    }
}

#[test]
fn a_forgotten_pattern_is_said() {
    let mut command = shim(&["--ipv4-only", "cat", "https://api.example.com/"]);
    fails(
        &mut command,
        127,
        &[
            "https://api.example.com/: no such file",
            "PATTERN of --ipv4-only: was the PATTERN forgotten?",
        ],
    );
}

// --------------------------------------------------------- images with little in them

#[test]
fn it_is_one_small_static_file() {
    let size = fs::metadata(&*COMMAND).expect("it is there").len();
    assert!(size <= 2 << 20, "{size} bytes");
    let headers = output(bare("readelf").args(["--program-headers", "--wide", &COMMAND]));
    assert!(headers.contains("LOAD") && !headers.contains("INTERP"), "{headers}");
}

#[test]
fn a_program_of_go_is_warned_of() {
    let scratch = Public::new();
    let source = scratch.write("main.go", "package main\nfunc main() {}\n");
    let program = scratch.path("program");
    let mut build = bare("go");
    build.args(["build", "-ldflags=-s -w", "-o"]).arg(&program).arg(&source);
    build.env("GOCACHE", scratch.path("cache")).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod");
    match build.output() {
        Ok(output) if output.status.success() => {
            let words = "is a Go program and is statically linked";
            warns(&mut shim(&[text(&program)]), words);
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => skip("a program of Go", error),
    }
}

#[test]
fn a_root_with_a_program_and_its_libraries_is_enough() {
    let scratch = Public::new();
    scratch.with_program("/bin/true");
    scratch.copy(&*COMMAND, "usr/local/bin/egress-shim");
    scratch.copy(&*LIBRARY, "usr/local/lib/libegress_shim.so");
    let inside = |arguments: &[&str]| {
        let mut command = bare("/usr/sbin/chroot");
        command.arg(&scratch.0).arg("/usr/local/bin/egress-shim").args(arguments);
        command
    };
    assert!(!scratch.0.join("bin/sh").exists() && !scratch.0.join("proc").exists());
    assert_eq!(output(&mut inside(&["--ipv4-only", "a.example", "true"])), "");
    fails(&mut inside(&["no-such"]), 127, &["not found"]);
    fails(&mut inside(&["--keepalive", "x", "true"]), 78, &["--keepalive x: "]);
    let checked = run(&mut inside(&["--check", "127.0.0.1:1"]));
    assert!(checked.out.contains("loaded      yes, by "), "without /proc too: {checked:?}");
}

#[test]
fn a_root_with_musl_and_a_program_is_enough() {
    let scratch = Public::with_musl("app");
    let inside = |words: &[&str]| output(bare("/usr/sbin/chroot").arg(&scratch.0).args(words));
    let control = inside(&["/app"]);
    let seen = inside(&["/egress-shim", "--keepalive", "idle=77", "/app"]);
    assert!(!control.contains("77") && seen.contains("77"), "without {control}, with {seen}");
}

// ------------------------------------------------------------------- on other architectures

#[test]
fn the_command_of_another_architecture_preloads_the_library_beside_it() {
    for environment in Environment::emulated() {
        preloads_the_library_beside_it(&environment);
    }
}

fn preloads_the_library_beside_it(environment: &Environment) {
    let command = environment.library.with_file_name("egress-shim");
    let version = format!("egress-shim {}\n", env!("CARGO_PKG_VERSION"));
    programs::expect_says(programs::with(environment.bare(&command), ["-V"]), &version);

    // The kernel has no way to run a program of the root, so COMMAND is qemu with that program.
    let curl = environment.bare(environment.installed("/usr/bin/curl"));
    let mut shim = environment.bare(&command);
    shim.args(["--log", "info", "--keepalive", "idle=7", "--"]).arg(curl.get_program());
    shim.args(curl.get_args()).args(["--noproxy", "*", "http://127.0.0.1:1"]);
    let said = programs::stderr(&programs::run(&mut shim));
    assert!(said.contains(" is loaded: keepalive idle=7,"), "{said}");
}

#[test]
fn text_that_cannot_be_written_is_a_failure() {
    for arguments in [&["--help"][..], &["--version"], &["--inspect", "1"]] {
        let words = ["-c", "exec \"$@\" >/dev/full", "sh", &COMMAND];
        let ran = run(bare("sh").args(words).args(arguments));
        assert_eq!(ran.status.code(), Some(125), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("standard output"), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn what_the_effective_user_may_not_run_is_not_executable() {
    let (public, installed) = Public::installed();
    let program = public.compile("program", &[]);
    mode(&program, 0o700);
    let mut command = bare("setpriv");
    command
        .args(["--ruid", "0", "--euid", "65534", "--clear-groups"])
        .arg(&installed)
        .arg(&program);
    fails(&mut command, 126, &["program is not executable"]);
}
