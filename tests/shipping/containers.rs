//! Real containers: the images of examples/docker, and the component of examples/kubernetes acted
//! out. No image can be pulled in a test, so the base images are made of root trees of our own.
//! Where no Docker engine answers, each test says that it is skipped.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use super::{Manifest, command, done, sh};
use crate::harness::scratch::write_executable;
use crate::harness::{ROOT, Scratch, skip};

/// A kind of image.
struct Kind {
    name: &'static str,
    /// The root tree of its base image.
    root: fn() -> PathBuf,
    /// What of the tree stays out.
    without: &'static [&'static str],
    /// The C compiler for its libc.
    compiler: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "debian",
        root: super::debian,
        without: &["./bin/busybox", "./usr/bin/busybox", "./usr/lib/*musl*", "./usr/share/doc"],
        compiler: "cc",
    },
    Kind { name: "alpine", root: super::musl, without: &[], compiler: "musl-gcc" },
    Kind { name: "distroless", root: super::distroless, without: &[], compiler: "cc" },
];

/// The options of `docker run` for every container: no network is needed, and none of the machine's
/// is touched. Both names have addresses of both families; examples/docker lists the first.
const ALWAYS: [&str; 8] = [
    "--network=none",
    "--add-host=api.openai.com:192.0.2.1",
    "--add-host=api.openai.com:2001:db8::1",
    "--add-host=other.example.com:192.0.2.2",
    "--add-host=other.example.com:2001:db8::2",
    "--pull=never",
    "--rm",
    "--log-driver=none",
];

/// The restricted pod security standard, as options of `docker run`.
const RESTRICTED: [&str; 4] =
    ["--read-only", "--user=65532:65532", "--cap-drop=ALL", "--security-opt=no-new-privileges"];

fn docker() -> Command {
    let mut docker = command("docker");
    // The classic builder is in every engine; BuildKit is a plug-in that may not be there.
    docker.env("DOCKER_BUILDKIT", "0");
    docker
}

/// The name of this process's images (as tags of it) and, with a number, containers.
static PREFIX: LazyLock<String> =
    LazyLock::new(|| format!("egress-shim-test-{}", std::process::id()));

fn image(tag: &str) -> String {
    format!("{}:{tag}", *PREFIX)
}

/// Makes every image, once. Whether there is an engine to make them with.
fn images() -> bool {
    static MADE: OnceLock<bool> = OnceLock::new();
    *MADE.get_or_init(|| {
        let version = docker().args(["version", "--format", "{{.Server.Version}}"]).output();
        if !version.is_ok_and(|output| output.status.success()) {
            return false;
        }
        clean_up_afterwards();
        for kind in &KINDS {
            base_image(kind);
        }
        release_image();
        source_image();
        for kind in &KINDS {
            build(&format!("examples/docker/{}.Dockerfile", kind.name), kind.name, kind.name);
        }
        build("examples/kubernetes/init.Dockerfile", "alpine", "init");
        true
    })
}

/// Starts what removes all that this process makes, once it has ended, however it ends: its input
/// ends then. A build that was ended or failed leaves images without a name, on top of one of ours.
fn clean_up_afterwards() {
    let script = "
        cat >/dev/null
        docker ps -aq --filter \"name=^/$1\" | xargs -r docker rm -f
        sleep 2
        ours=$(docker images -q \"$1\")
        for image in $(docker images -aq --filter dangling=true); do
            for layer in $(docker history -q \"$image\"); do
                case $ours in *\"$layer\"*) docker rmi -f \"$image\" ;; esac
            done
        done
        docker ps -aq --filter \"name=^/$1\" | xargs -r docker rm -f
        docker images --format '{{.Repository}}:{{.Tag}}' \"$1\" | xargs -r docker rmi -f";
    let mut cleaner = command("sh");
    cleaner.args(["-c", script, "sh", &PREFIX]).process_group(0);
    let cleaner = cleaner.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    std::mem::forget(cleaner.expect("sh starts").stdin);
}

/// A kind's base image: its root tree, and the service whose image it is.
fn base_image(kind: &Kind) {
    let scratch = Scratch::new();
    let source = Path::new(ROOT).join("tests/programs/service.c");
    let mut compiler = command(kind.compiler);
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror"]).arg(source);
    done(compiler.arg("-o").arg(scratch.join("service")));
    let script = "
        root=$1 service=$2 image=$3; shift 3
        tar -c -C \"$root\" \"$@\" . -C \"$service\" service | docker import - \"$image\"";
    let tag = image(&format!("{}-base", kind.name));
    let mut import = sh(script, &[&(kind.root)(), &scratch, Path::new(&tag)]);
    done(import.args(kind.without.iter().map(|path| format!("--exclude={path}"))));
}

/// The image that others copy from, as the release has it.
fn release_image() {
    let version = env!("CARGO_PKG_VERSION");
    let file = Path::new(ROOT).join(format!("dist/egress-shim-{version}-image.tar"));
    assert!(file.exists(), "{} is not made: run scripts/release", file.display());
    // It is loaded under the names that it brings.
    let script = "
        docker load --quiet --input \"$1\" | sed 's/^Loaded image: //' | while read -r name; do
            case $(uname -m),$name in
                x86_64,*-amd64 | aarch64,*-arm64) docker tag \"$name\" \"$2\" ;;
            esac
            docker rmi \"$name\" >/dev/null
        done";
    done(&mut sh(script, &[&file, Path::new(&image("library"))]));
}

/// The same image by its Dockerfile, from source. What that is to build is at hand already, so its
/// build script is replaced by one that does nothing.
fn source_image() {
    let context = Scratch::new();
    let script = "
        cp --parents -r scripts/install scripts/architecture scripts/architectures scripts/package \"$1\"
        cp --parents -r dist/*/libegress_shim.so dist/*/egress-shim dist/pages LICENSE-* README.md docs examples \"$1\"
        printf '#!/bin/sh\\n' >\"$1/scripts/build-portable\"
        chmod 755 \"$1/scripts/build-portable\"";
    done(sh(script, &[&*context]).current_dir(ROOT));
    let dockerfile = Path::new(ROOT).join("examples/docker/Dockerfile");
    let builder = format!("RUST={}", image("debian-base"));
    // The first stage by itself and with a name, so that it can be removed.
    for target in [&["--target=build", "--tag", &image("build")][..], &["--tag", &image("source")]]
    {
        let mut build = docker();
        build.args(["build", "--network=none", "--force-rm", "--build-arg", &builder]).args(target);
        done(build.arg("--file").arg(&dockerfile).arg(&*context));
    }
}

/// An image by a Dockerfile of the examples, on the base image of a kind.
fn build(dockerfile: &str, base: &str, tag: &str) {
    let context = Scratch::new();
    let mut build = docker();
    build.args(["build", "--network=none", "--force-rm", "--tag", &image(tag)]);
    build.args(["--build-arg", &format!("EGRESS_SHIM={}", image("library"))]);
    build.args(["--build-arg", &format!("BASE={}", image(&format!("{base}-base")))]);
    done(build.arg("--file").arg(Path::new(ROOT).join(dockerfile)).arg(&*context));
}

/// An empty directory that every user may write to.
fn open_to_all() -> Scratch {
    let scratch = Scratch::new();
    fs::set_permissions(&*scratch, fs::Permissions::from_mode(0o777)).expect("chmod works");
    scratch
}

/// What a container did.
#[derive(Debug, PartialEq)]
struct Ran {
    out: Vec<String>,
    err: String,
    status: Option<i32>,
}

/// Runs the service in a container until it is ready, and then ends it by `docker stop`.
fn run(options: &[&str], tag: &str) -> Ran {
    run_command(options, tag, &["/service", "api.openai.com", "other.example.com"])
}

/// The same with any command, which may end by itself.
fn run_command(options: &[&str], tag: &str, words: &[&str]) -> Ran {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}", *PREFIX, COUNT.fetch_add(1, Ordering::Relaxed));
    let mut docker_run = docker();
    docker_run.args(["run", "--name", &name]).args(ALWAYS).args(options).arg(image(tag));
    docker_run.args(words);
    let mut child =
        docker_run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker starts");
    let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
    let mut out = Vec::new();
    for line in lines {
        let line = line.expect("its output can be read");
        if line == "ready" {
            // Docker waits so long, then it kills.
            let (start, patience) = (Instant::now(), Duration::from_secs(20));
            done(docker().args(["stop", "--time=20", &name]));
            assert!(start.elapsed() < patience, "SIGTERM does not reach the program: {options:?}");
            break;
        }
        out.push(line);
    }
    let status = child.wait().expect("it can be waited for").code();
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("it can be read");
    Ran { out, err, status }
}

/// What a container is to do in which the library works, or one in which it does not.
fn wanted(user: u32, works: bool) -> Ran {
    let lines = if works {
        ["keepalive on 60/60/5", "api.openai.com 4", "other.example.com 46"]
    } else {
        ["keepalive off", "api.openai.com 46", "other.example.com 46"]
    };
    let process = format!("process 1 of user {user}");
    let out = std::iter::once(process).chain(lines.map(str::to_owned)).collect();
    Ran { out, err: String::new(), status: Some(7) }
}

#[test]
fn in_each_kind_of_image_the_program_is_process_1_and_gets_sigterm() {
    if !images() {
        return skip("containers", "no Docker engine answers");
    }
    for kind in &KINDS {
        assert_eq!(run(&["--env=EGRESS_SHIM=off"], kind.name), wanted(0, false), "{}", kind.name);
        assert_eq!(run(&[], kind.name), wanted(0, true), "{}", kind.name);
    }
}

#[test]
fn a_read_only_root_and_a_user_without_any_privilege_change_nothing() {
    if !images() {
        return skip("containers without privileges", "no Docker engine answers");
    }
    for kind in &KINDS {
        assert_eq!(run(&RESTRICTED, kind.name), wanted(65532, true), "{}", kind.name);
    }
}

/// Docker's own seccomp profile may refuse to read memory, even the process's own (`process_vm_readv`).
#[test]
fn under_dockers_seccomp_profile_the_line_of_a_connect_names_the_peer() {
    if !images() {
        return skip("the log in containers", "no Docker engine answers");
    }
    for kind in &KINDS {
        let ran = run(&["--env=EGRESS_SHIM_LOG=debug"], kind.name);
        let is_whole = |line: &str| {
            line.contains(" DEBUG: connect: descriptor ") && line.contains(" to 127.0.0.1:")
        };
        assert!(ran.err.lines().any(is_whole), "{}: {ran:?}", kind.name);
    }
}

#[test]
fn an_invalid_setting_ends_the_container_at_its_start_with_status_78() {
    if !images() {
        return skip("containers with an invalid setting", "no Docker engine answers");
    }
    for kind in &KINDS {
        let ran = run(&["--env=EGRESS_SHIM_KEEPALIVE=idle=0"], kind.name);
        assert_eq!((ran.status, ran.out.len()), (Some(78), 0), "{}: {ran:?}", kind.name);
        let start = "egress-shim: EGRESS_SHIM_KEEPALIVE: \"idle=0\": ";
        assert!(ran.err.starts_with(start), "{}: {ran:?}", kind.name);
    }
}

#[test]
fn the_image_to_copy_from_has_library_and_command_also_from_source() {
    if !images() {
        return skip("the image to copy from", "no Docker engine answers");
    }
    // Each layer is an archive of its own in the saved image.
    let script = "
        docker save \"$1\" | tar -x -C \"$2\"
        cd \"$2\"
        find . -name '*.tar' -o -path './blobs/*' -type f | while read -r layer; do
            tar -tv --numeric-owner -f \"$layer\" 2>/dev/null | grep -v '^[dl]' || :
        done | awk '{ print $1, $2, $6 }' | grep -v ' licenses/' | LC_ALL=C sort";
    for tag in ["library", "source"] {
        let saved = Scratch::new();
        let files = done(&mut sh(script, &[Path::new(&image(tag)), &saved])).0;
        // For 32-bit programs.
        let narrow = if cfg!(target_arch = "x86_64") {
            "-rw-r--r-- 0/0 usr/local/lib/egress-shim/lib32/libegress_shim.so\n"
        } else {
            ""
        };
        let wanted = "-rw-r--r-- 0/0 usr/local/lib/libegress_shim.so\n\
                      -rwxr-xr-x 0/0 usr/local/bin/egress-shim\n";
        assert_eq!(files, format!("{narrow}{wanted}"), "{tag}");
    }
}

/// What a kubelet would do with the first pod of a manifest, whose service is an image that knows
/// nothing of the library: the options of `docker run` for that container, of which the volume is
/// to be kept. `None` if kustomize is not installed.
fn pod(directory: &str) -> Option<(Vec<String>, Scratch)> {
    let manifest = Manifest::of(directory)?;
    let volume = open_to_all();
    let init_mount = manifest.get("init-mount").concat();
    let memory = manifest.get("init-memory").concat().replace("Mi", "m");
    let mut init = docker();
    init.args(["run", "--rm", "--pull=never", "--network=none", "--memory", &memory]);
    // The user is the image's own.
    init.args(RESTRICTED.iter().filter(|option| !option.starts_with("--user")));
    init.args(manifest.get("init-env").iter().map(|variable| format!("--env={variable}")));
    init.args(["--volume", &format!("{}:{init_mount}", volume.display()), &image("init")]);
    done(init.args(manifest.get("init-command")));
    let copied = File::open(volume.join("libegress_shim.so")).expect("the library is copied");
    let owner = std::os::unix::fs::MetadataExt::uid(&copied.metadata().expect("fstat works"));
    assert_eq!(owner, 65532, "the init container is not root");

    let mount = format!("--volume={}:{}:ro", volume.display(), manifest.get("mount").concat());
    let mut options = vec![mount];
    options.extend(RESTRICTED.map(str::to_owned));
    options.extend(manifest.get("env").into_iter().map(|variable| format!("--env={variable}")));
    for text in manifest.get("preload-file") {
        let file = volume.join("ld.so.preload");
        fs::write(&file, format!("{text}\n")).expect("it can be written");
        options.push(format!("--volume={}:/etc/ld.so.preload:ro", file.display()));
    }
    Some((options, volume))
}

#[test]
fn the_kubernetes_component_brings_it_to_images_of_each_kind() {
    if !images() {
        return skip("the Kubernetes component in containers", "no Docker engine answers");
    }
    let Some((options, _volume)) = pod("examples/kubernetes") else { return };
    let options = options.iter().map(String::as_str).collect::<Vec<_>>();
    for kind in &KINDS {
        let base = format!("{}-base", kind.name);
        let without = options.iter().filter(|option| !option.starts_with("--env="));
        let without = without.copied().collect::<Vec<_>>();
        assert_eq!(run(&without, &base), wanted(65532, false), "{base} without the variables");
        assert_eq!(run(&options, &base), wanted(65532, true), "{base}");
    }
}

/// The image's own preload is a second library, one that does nothing.
#[test]
fn by_file_an_image_keeps_its_own_preload_where_its_libc_is_glibc() {
    if !images() {
        return skip("the Kubernetes component by file in containers", "no Docker engine answers");
    }
    let Some((options, volume)) = pod("tests/shipping/overlay/by-file") else { return };
    let own = volume.join("own.so");
    let source = Path::new(ROOT).join("tests/programs/empty_library.c");
    done(command("cc").args(["-shared", "-fPIC", "-nostdlib"]).arg(source).arg("-o").arg(&own));
    let options = options.iter().map(String::as_str);
    let options = options.chain(["--env=LD_PRELOAD=/egress-shim/own.so"]).collect::<Vec<_>>();
    for kind in &KINDS {
        let base = format!("{}-base", kind.name);
        let works = kind.name != "alpine";
        assert_eq!(run(&options, &base), wanted(65532, works), "{base}");
    }
}

/// The table of docs/CONTAINERS.md: entrypoints that set `LD_PRELOAD`, that set it only if it is empty, and that
/// look at their first word, in each order.
#[test]
fn entrypoints_that_set_ld_preload_keep_the_orders_of_the_docs() {
    const NOTHING: &str = "--env=UNUSED=";
    if !images() {
        return skip("entrypoints that set LD_PRELOAD", "no Docker engine answers");
    }
    let scratch = open_to_all();
    let source = Path::new(ROOT).join("tests/programs/empty_library.c");
    let own = scratch.join("own.so");
    done(command("cc").args(["-shared", "-fPIC", "-nostdlib"]).arg(source).arg("-o").arg(&own));
    scratch.file("preload", "/usr/local/lib/libegress_shim.so\n");
    // The program shows what is loaded into it.
    let program = ["grep", "-o", "-e", "libegress_shim", "-e", "own.so", "/proc/self/maps"];
    let library = "--env=LD_PRELOAD=/usr/local/lib/libegress_shim.so";
    let file = format!("--volume={}:/etc/ld.so.preload:ro", scratch.join("preload").display());
    let around = ("--entrypoint=egress-shim", &["--", "/own/entrypoint"][..], NOTHING);
    let behind = ("--entrypoint=/own/entrypoint", &["egress-shim", "--"][..], NOTHING);
    let by_variable = ("--entrypoint=/own/entrypoint", &[][..], library);
    let by_file = ("--entrypoint=/own/entrypoint", &[][..], &*file);
    let (both, ours) = (&["libegress_shim", "own.so"][..], &["libegress_shim"][..]);
    let prepared = &["libegress_shim", "prepared"][..];
    for (entrypoint, wanted) in [
        ("export LD_PRELOAD=/own/own.so", [&["own.so"], both, &["own.so"], both]),
        ("[ -n \"$LD_PRELOAD\" ] || export LD_PRELOAD=/own/own.so", [ours, both, ours, both]),
        ("[ \"$1\" != grep ] || echo prepared", [prepared, ours, prepared, prepared]),
    ] {
        let script = format!("#!/bin/sh\n{entrypoint}\nexec \"$@\"\n");
        write_executable(&scratch.join("entrypoint"), script.as_bytes());
        let mount = format!("--volume={}:/own:ro", scratch.display());
        for ((entry, words, option), wanted) in
            [around, behind, by_variable, by_file].into_iter().zip(wanted)
        {
            let ran = run_command(&[entry, &mount, option], "debian", &[words, &program].concat());
            let seen = ran.out.iter().map(String::as_str).collect::<BTreeSet<_>>();
            let seen = seen.into_iter().collect::<Vec<_>>();
            assert_eq!(seen, wanted, "{entrypoint}: {entry} {words:?} {option}: {ran:?}");
        }
    }
}

#[test]
fn the_ecs_task_brings_it_to_images_of_each_kind() {
    if !images() {
        return skip("the ECS task in containers", "no Docker engine answers");
    }
    let task = super::places::aws();
    // As a volume of ECS is: root's.
    let volume = Scratch::new();
    let at = |mount: &str| format!("--volume={}:{}", volume.display(), task.get(mount).concat());
    let variables =
        |key: &str| task.get(key).into_iter().map(|variable| format!("--env={variable}")).collect();
    let mut init = docker();
    init.args(["run", "--rm", "--pull=never", "--network=none", "--read-only", "--user"]);
    init.arg(task.get("init-user").concat()).args::<Vec<_>, _>(variables("init-env"));
    done(init.arg(at("init-mount")).arg(image("init")).args(task.get("init-command")));
    let options: Vec<String> = variables("env");
    let mount = at("mount");
    let options = options.iter().map(String::as_str).chain([&*mount]).collect::<Vec<_>>();
    for kind in &KINDS {
        let base = format!("{}-base", kind.name);
        assert_eq!(run(&options, &base), wanted(0, true), "{base}");
    }
}

#[test]
fn compose_brings_it_to_images_of_each_kind() {
    if !images() || command("docker-compose").arg("version").output().is_err() {
        return skip("Docker Compose", "no Docker engine answers, or there is no docker-compose");
    }
    let project = Scratch::new();
    // docker-compose 1 does not know `create_host_path`, which newer ones need.
    let script = "
        case $(docker-compose version --short) in
            1.*) unknown='/^ *bind:$/d; /create_host_path/d' ;;
            *) unknown= ;;
        esac
        sed \"$unknown\" examples/docker/compose.yaml >\"$1/compose.yaml\"
        mkdir \"$1/egress-shim\"
        tar xf dist/egress-shim-\"$2\"-linux-\"$(uname -m)\".tar.gz --strip-components=1 -C \"$1/egress-shim\"";
    let version = Path::new(env!("CARGO_PKG_VERSION"));
    done(sh(script, &[&project, version]).current_dir(ROOT));
    // Its extra_hosts hold one address of a name only.
    let hosts =
        ALWAYS.iter().filter_map(|option| option.strip_prefix("--add-host=")?.split_once(':'));
    let hosts: Vec<_> = hosts.map(|(name, address)| format!("{address} {name}\n")).collect();
    project.file("hosts", hosts.concat());
    for kind in &KINDS {
        let own = format!(
            "services:
  my-service:
    image: {}
    command: [/service, api.openai.com, other.example.com]
    network_mode: none
    volumes: [./hosts:/etc/hosts:ro]
",
            image(&format!("{}-base", kind.name))
        );
        project.file("compose.override.yaml", own);
        let name = format!("{}-{}", *PREFIX, kind.name);
        let compose = |arguments: &[&str]| {
            let mut compose = command("docker-compose");
            compose.args(["--project-name", &name]).args(arguments).current_dir(&*project);
            compose
        };
        let (there, away) = (project.join("egress-shim"), project.join("away"));
        fs::rename(&there, &away).expect("it can be renamed");
        let up = compose(&["up", "--detach"]).output().expect("docker-compose starts");
        assert!(!up.status.success(), "{}: it starts without the library", kind.name);
        assert!(!there.exists(), "{}: it makes the directory", kind.name);
        fs::rename(&away, &there).expect("it can be renamed");

        done(&mut compose(&["up", "--detach"]));
        let start = Instant::now();
        let log = loop {
            let log = done(&mut compose(&["logs", "--no-color", "--no-log-prefix"])).0;
            if log.contains("\nready") || start.elapsed() > Duration::from_secs(30) {
                break log;
            }
        };
        done(&mut compose(&["down", "--timeout", "20"]));
        for line in wanted(0, true).out {
            assert!(log.contains(&format!("{line}\n")), "{}: {line}: {log}", kind.name);
        }
    }
}

/// A rescue in each of the places that docs/CONTAINERS.md names. There is no connection to rescue; that would be
/// found out only after the privilege was there.
#[test]
fn a_rescue_works_from_the_host_and_beside_a_container_and_not_in_it() {
    if !images() {
        return skip("rescues of containers", "no Docker engine answers");
    }
    let built = super::shipped("egress-shim");
    let mount = format!("--volume={}:/egress-shim:ro", built.display());
    let name = format!("{}-rescue", *PREFIX);
    let base = image("distroless-base");
    let mut start = docker();
    start.args(["run", "--detach", "--name", &name]).args(ALWAYS).args([&mount, &base]);
    done(start.args(["/service", "api.openai.com", "other.example.com"]));
    let status = |mut command: Command| {
        let output = command.output().expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let rescue = |arguments: &[&str]| {
        let mut docker = docker();
        docker.args(arguments).args(["--rescue", "1"]);
        status(docker)
    };

    let (code, said) = rescue(&["exec", &name, "/egress-shim"]);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("a seccomp filter of this process refuses pidfd_getfd"), "{said}");

    let right = "nothing is wrong: no connection needs a rescue";
    let beside = format!("--pid=container:{name}");
    let network = format!("--network=container:{name}");
    let run = ["run", "--rm", "--pull=never", &beside, &network, "--cap-add=SYS_PTRACE"];
    let (code, said) = rescue(&[&run[..], &[&mount, "--entrypoint=/egress-shim", &base]].concat());
    assert!(code == Some(0) && said.contains(right), "{code:?} {said}");

    let process = done(docker().args(["inspect", "--format", "{{.State.Pid}}", &name])).0;
    let mut on_the_host = command(&built);
    on_the_host.args(["--rescue", process.trim()]);
    let (code, said) = status(on_the_host);
    assert!(code == Some(0) && said.contains(right), "{code:?} {said}");
    done(docker().args(["rm", "--force", &name]));
}
