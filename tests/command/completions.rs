//! Completions: what stands in the line when somebody has typed it in a shell, on a terminal, with the Tab key.

use super::{Public, bare, output, text};
use crate::harness::ROOT;

/// What is typed, and the words of the command that is then run.
const LINES: &str = r"
    --ipv4-only-f\thosts            --ipv4-only-file hosts
    --log wa\t                      --log warn
    --log warn,inf\t                --log warn,info
    --log=de\t                      --log=debug
    --keepalive idle=60,inte\t5     --keepalive idle=60,interval=5
    --keepalive=enf\t               --keepalive=enforce
    --keepalive enforce,us\t9       --keepalive enforce,user-timeout=9
    --ipv4-only-file unique-f\t     --ipv4-only-file unique-file
    --ipv4-only-file=unique-f\t     --ipv4-only-file=unique-file
    --library unique-f\t            --library unique-file
    --program pidwai\t              --program pidwait
    pidwai\t                        pidwait
    -- pidwai\t                     -- pidwait
    --log warn -- pidwai\t          --log warn -- pidwait
    --check a.test -- pidwai\t      --check a.test -- pidwait
    ls unique-f\t                   ls unique-file
    --ipv4-only a -- ls unique-f\t  --ipv4-only a -- ls unique-file
    ls --lenie\t                    ls --lenie
    --inspect 47\t                  --inspect 4711
    --inspect 1 47\t                --inspect 1 4711
";

/// COMMAND's own options, which bash alone does not know.
const OF_COMMAND: &str = r"
    ls --full-ti\t                      ls --full-time
    -- ls --full-ti\t                   -- ls --full-time
    --keepalive idle=5 ls --full-ti\t   --keepalive idle=5 ls --full-time
";

#[track_caller]
fn completes(shell: &str, file: &str, lines: &[&str]) {
    let scratch = Public::new();
    scratch.write("unique-file", "");
    let cases = lines.iter().flat_map(|lines| lines.trim().lines());
    let cases = cases.map(|line| line.trim().split_once("  ").expect("two columns"));
    let cases: Vec<_> = cases.map(|(typed, wanted)| (typed, wanted.trim())).collect();
    // A process with the number 4711, among few others.
    let script = "echo 4710 >/proc/sys/kernel/ns_last_pid; sleep 1000 & \
                  echo 99 >/proc/sys/kernel/ns_last_pid; \"$@\"";
    let mut command = bare("unshare");
    command.args([
        "--fork",
        "--pid",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        script,
        "sh",
        "python3",
    ]);
    command.arg(format!("{ROOT}/tests/command/type.py")).arg(shell);
    command.arg(format!("{ROOT}/dist/pages/{file}"));
    command.args(cases.iter().map(|(typed, _)| format!("egress-shim {typed}")));
    let seen = output(command.current_dir(text(&scratch.0)));
    let seen: Vec<_> = seen.lines().collect();
    for (line, (typed, wanted)) in seen.iter().zip(&cases) {
        let wanted = format!("<{}>", wanted.replace(' ', "><"));
        // zsh puts a = after an option of ours.
        let words = line.replace("--ipv4-only-file=hosts", "--ipv4-only-file><hosts");
        assert_eq!(words, wanted, "{shell}: {typed}");
    }
    assert_eq!(seen.len(), cases.len(), "each line is run");
}

#[test]
fn bash_completes_options_values_and_the_commands_own_words() {
    completes("bash", "egress-shim.bash", &[LINES, OF_COMMAND]);
    completes("bash-alone", "egress-shim.bash", &[LINES]);
}

#[test]
fn zsh_completes_options_values_and_the_commands_own_words() {
    completes("zsh", "_egress-shim", &[LINES, OF_COMMAND]);
}

#[test]
fn fish_completes_options_values_and_the_commands_own_words() {
    completes("fish", "egress-shim.fish", &[LINES, OF_COMMAND]);
}
