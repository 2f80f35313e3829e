//! Other places behind a NAT, as far as they can be tried on one machine: AWS Lambda and Amazon
//! ECS, and the jobs of GitHub Actions. Their services are not there; their own runtime client,
//! service models and schema are, from `PyPI`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Manifest, command, done, python, sh};
use crate::harness::{ROOT, Scratch, expect};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn dist(name: &str) -> PathBuf {
    let path = Path::new(ROOT).join("dist").join(name);
    assert!(path.exists(), "{} is not made: run scripts/release", path.display());
    path
}

/// What the examples for AWS say, after its service models have accepted them.
pub fn aws() -> Manifest {
    let mut check = command(python("botocore", &["botocore==1.44.5"]));
    check.arg(Path::new(ROOT).join("tests/shipping/aws.py"));
    Manifest::parse(&done(check.arg(Path::new(ROOT).join("examples/aws"))).0)
}

/// AWS's own runtime interface client runs the function, started as Lambda starts it.
#[test]
fn a_lambda_function_with_the_layer_gets_keepalive_and_ipv4_only() {
    let scratch = Scratch::new();
    let layer = dist(&format!("egress-shim-{VERSION}-lambda-{}.zip", std::env::consts::ARCH));
    done(command("unzip").arg("-q").arg(&layer).arg("-d").arg(scratch.join("opt")));
    scratch.file(
        "hosts",
        "127.0.0.1 localhost\n192.0.2.1 api.openai.com\n2001:db8::1 api.openai.com\n",
    );
    let script = "
        mount --bind \"$1/hosts\" /etc/hosts
        mount --bind \"$1/opt\" /opt
        exec \"$2\" \"$3\"";
    let client = python("awslambdaric", &["awslambdaric==4.2.2"]);
    let service = Path::new(ROOT).join("tests/shipping/lambda.py");
    let answer = |variables: &[&str]| {
        let mut lambda = command("unshare");
        lambda.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
        lambda.args(["--mount", "sh", "-euc", script, "sh"]);
        done(lambda.args([&*scratch, &client, &service])).0
    };
    let wanted = |keepalive: &str, addresses: &str| {
        format!("{{\"keepalive\": {keepalive}, \"addresses\": {addresses}}}\n")
    };
    // The kernel's defaults, unless somebody has changed this machine's sysctls.
    let sysctl = |name| {
        let file = format!("/proc/sys/net/ipv4/tcp_keepalive_{name}");
        fs::read_to_string(file).expect("it can be read").trim().to_owned()
    };
    let system = ["time", "intvl", "probes"].map(sysctl).join(", ");
    let without = wanted(&format!("[0, {system}]"), "[\"192.0.2.1\", \"2001:db8::1\"]");
    expect("without the layer", answer(&[]), without);
    let variables = aws();
    let with = wanted("[1, 60, 60, 5]", "[\"192.0.2.1\"]");
    expect("with it", answer(&variables.get("lambda-env")), with);
}

/// The steps' own scripts, with the release from a directory.
#[test]
fn a_job_of_github_actions_has_it_in_all_later_steps() {
    let file = Path::new(ROOT).join("examples/ci/github-actions.yaml");
    let python = python("check-jsonschema", &["check-jsonschema==0.39.0"]);
    let mut schema = command(&python);
    schema.args(["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]);
    done(schema.arg(&file));

    let script = "
import os, subprocess, sys
from ruamel.yaml import YAML
step = YAML().load(open(sys.argv[1]))['jobs']['integration']['steps'][0]
environment = {**os.environ, **step['env'], 'RELEASE': 'file://' + sys.argv[2], 'RUNNER_TEMP': sys.argv[3],
               'GITHUB_ENV': sys.argv[3] + '/env'}
assert step['env']['VERSION'] == sys.argv[4]
subprocess.run(['bash', '-e', '-o', 'pipefail', '-c', step['run']], env=environment, check=True)";
    let temporary = Scratch::new();
    let job = |release: &Path| {
        let mut job: Command = command(&python);
        job.args(["-c", script]).arg(&file).arg(release).arg(&*temporary).arg(VERSION);
        job
    };
    done(&mut job(&Path::new(ROOT).join("dist")));
    let variables = fs::read_to_string(temporary.join("env")).expect("it is written");
    let mut later = command("sh");
    later.envs(variables.lines().filter_map(|line| line.split_once('=')));
    later.args(["-c", "grep -c \" $LD_PRELOAD$\" /proc/$$/maps"]);
    let (maps, errors) = done(&mut later);
    assert_ne!(maps, "0\n", "it is loaded in a later step: {variables}");
    expect("a later step says", errors, "");

    // A download that is not the release's.
    let damaged = Scratch::new();
    let copy = "cp dist/SHA256SUMS dist/egress-shim-*.tar.gz \"$1\"; for f in \"$1\"/*.gz; do echo >>\"$f\"; done";
    done(sh(copy, &[&damaged]).current_dir(ROOT));
    let output = job(&damaged).output().expect("python starts");
    assert!(!output.status.success(), "a damaged archive is not unpacked");
}
