"""Types lines into a shell on a terminal: type.py SHELL COMPLETIONS LINE...

Prints the words that egress-shim is then started with, of each line, in brackets. The egress-shim in PATH is one that
only says its words. A line has \\t for the Tab key; Enter follows.
"""

import os
import pty
import select
import sys
import tempfile
import time

shell, completions, *lines = sys.argv[1:]
home = tempfile.mkdtemp()
stub = os.path.join(home, "bin", "egress-shim")
os.mkdir(os.path.dirname(stub))
with open(stub, "w") as file:
    file.write('#!/bin/sh\nprintf "typed:"; printf "<%s>" "$@"; echo ":end"\n')
os.chmod(stub, 0o755)
os.environ.update(HOME=home, PATH=os.path.dirname(stub) + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                  TERM="dumb", LC_ALL="C.UTF-8", XDG_CONFIG_HOME=home, XDG_DATA_HOME=home)
setup = {
    "bash": f"source /usr/share/bash-completion/bash_completion; source {completions}; PS1=; echo re''ady",
    "bash-alone": f"source {completions}; PS1=; echo re''ady",
    "zsh": f"autoload -Uz compinit; fpath=({os.path.dirname(completions)} $fpath); compinit -u -D;"
           " PS1=; RPS1=; unset zle_bracketed_paste; echo re''ady",
    "fish": f"source {completions}; function fish_prompt; end; echo re''ady",
}[shell]
start = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "bash-alone": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "-i"],
}[shell]

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(start[0], start)
seen = b""


def wait_for(mark):
    global seen
    deadline = time.monotonic() + 60
    while mark not in seen:
        if time.monotonic() > deadline:
            sys.exit(f"{shell} does not print {mark!r}: {seen!r}")
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:
                sys.exit(f"{shell} has ended: {seen!r}")
            # fish asks what terminal this is, and waits for the answer.
            if b"\x1b[c" in part or b"\x1b[0c" in part:
                os.write(terminal, b"\x1b[?62c")
            seen += part
    before, _, seen = seen.partition(mark)
    return before


os.write(terminal, setup.encode() + b"\r")
wait_for(b"ready")
for line in lines:
    os.write(terminal, line.encode().decode("unicode_escape").encode() + b"\r")
    wait_for(b"typed:")
    print(wait_for(b":end").decode(), flush=True)
os.write(terminal, b"exit\r")
