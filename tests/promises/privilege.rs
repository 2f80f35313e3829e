//! Programs with more privileges than their caller: the environment is not theirs.

use std::process::Command;

use crate::harness::lab::LAB;
use crate::harness::run::{run, said};
use crate::harness::{expect, in_each_environment, skip};

/// Runs a copy of a program as nobody, in a mount namespace whose /etc/ld.so.preload names the
/// library. strace, as root, lets the copy have its privileges and sees what it opens.
const AS_NOBODY: &str = r#"
    kind=$1 program=$2 library=$3
    shift 3
    mount -t tmpfs -o mode=755 egress-shim-test /mnt
    mkdir /mnt/etc
    mkdir -m 777 /mnt/public
    cp -L /etc/ld.so.cache /etc/passwd /etc/group /etc/hosts /etc/resolv.conf /etc/nsswitch.conf /mnt/etc
    cp "$library" /mnt/library.so
    cp "$program" /mnt/program
    chmod 755 /mnt/library.so /mnt/program
    echo dual.example.com >/mnt/patterns
    case $kind in
        set-user-ID) chmod 4755 /mnt/program ;;
        set-group-ID) chmod 2755 /mnt/program ;;
        capability) setcap cap_net_raw+ep /mnt/program ;;
    esac
    echo /mnt/library.so >/mnt/etc/ld.so.preload
    mount --bind /mnt/etc /etc
    # The question of --check, put to this very process.
    case $1 in
        question)
            shift
            set -- "$@" /bin/sh -c 'export EGRESS_SHIM_CHECK="$$ 1 without 1 dual.example.com"; exec "$0" "$@"'
            ;;
    esac
    status=0
    strace -f -o /mnt/trace -e trace=open,openat,creat -u nobody env "$@" \
        /mnt/program dual.example.com || status=$?
    echo "status $status; $(ls /mnt/public | wc -l) logs"
    echo "opened: $(sed -n 's/.*"\(\/mnt\/p[^"]*\)".*/\1/p' /mnt/trace | sort | tr '\n' ' ')"
"#;

#[test]
fn a_privileged_program_ignores_every_variable() {
    let right = [
        "EGRESS_SHIM_KEEPALIVE=off",
        "EGRESS_SHIM_IPV4_ONLY_FILE=/mnt/patterns",
        "EGRESS_SHIM_LOG=trace",
        "EGRESS_SHIM_LOG_FILE=/mnt/public/log",
    ];
    let wrong = ["EGRESS_SHIM_KEEPALIVE=nonsense", "EGRESS_SHIM_STRICT=1"];
    let off = ["EGRESS_SHIM=off"];
    in_each_environment(|environment| {
        if environment.is_musl() {
            let why = "it reads no /etc/ld.so.preload, and ignores LD_PRELOAD where privileged";
            return skip(environment, why);
        }
        let program = environment.program("show");
        let run = |kind: &str, variables: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--", "/bin/sh", "-euc", AS_NOBODY, "sh", kind]);
            command.arg(&program).arg(&environment.library).args(variables);
            let mut command = LAB.client(command);
            let seen = run(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
            // The programs around it may be of another word size than the library.
            let is_foreign = |line: &&str| line.contains("(wrong ELF class: ELFCLASS32)");
            let seen = said(&seen);
            seen.split_inclusive('\n').filter(|line| !is_foreign(line)).collect::<String>()
        };
        // The controls: the settings of an unprivileged program count.
        let heeded = "keepalive off\ndual.example.com 4\nstatus 0; 1 logs\n\
                      opened: /mnt/patterns /mnt/public/log \n";
        expect("unprivileged", run("unprivileged", &right), heeded);
        let seen = run("unprivileged", &wrong);
        assert!(seen.contains("status 78; 0 logs\n"), "STRICT ends it: {seen}");

        let seen = run("unprivileged", &["question"]);
        assert!(seen.starts_with("loaded ") && seen.contains("\naddress "), "it answers: {seen}");

        let ignored = "keepalive on 60/60/5\ndual.example.com 46\nstatus 0; 0 logs\nopened: \n";
        for kind in ["set-user-ID", "set-group-ID", "capability"] {
            for variables in [&right[..], &wrong, &off, &["question"]] {
                let seen = run(kind, variables);
                expect(format!("{kind}, {variables:?}"), seen, ignored);
            }
        }
    });
}
