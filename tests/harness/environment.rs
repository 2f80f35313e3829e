//! The environments that a promise of the library holds in, each a libc and the file of the library
//! that is preloaded there; and the C programs of the tests, compiled for each.

use std::env::consts::ARCH;
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::architecture::{Architecture, architectures};
use super::run::without_settings;
use super::{ROOT, skip};

/// A name, and what makes the environment, which may ask for what has been built.
type Row = (&'static str, fn() -> Environment);

/// The table.
const ENVIRONMENTS: &[Row] = &[
    ("glibc", Environment::here),
    ("glibc-shipped", Environment::shipped),
    ("musl", Environment::musl),
    ("debian11", Environment::debian11),
    // The kernel runs programs with 32-bit addresses too.
    #[cfg(target_arch = "x86_64")]
    ("i386", Environment::i386),
    #[cfg(target_arch = "x86_64")]
    ("i386-musl", Environment::i386_musl),
];

/// More of them, by qemu's emulation of one program, for what an architecture can break: the ABI, structs,
/// symbols, atomics. Nothing is said there of what qemu itself breaks: seccomp filters, system calls seen
/// by strace, stacks of `MINSIGSTKSZ`, memory.
const EMULATED: [Row; 8] = [
    ("aarch64", || Environment::foreign("aarch64", Some((2, 36)))),
    ("aarch64-debian11", || Environment::foreign("aarch64-debian11", Some((2, 31)))),
    ("aarch64-musl", || Environment::foreign("aarch64-musl", None)),
    // Debian 13's programs have a 64-bit time_t there.
    ("armhf", || Environment::foreign("armhf", Some((2, 41)))),
    ("armhf-musl", || Environment::foreign("armhf-musl", None)),
    ("riscv64", || Environment::foreign("riscv64", Some((2, 41)))),
    ("ppc64le", || Environment::foreign("ppc64le", Some((2, 36)))),
    // Its bytes are in the other order.
    ("s390x", || Environment::foreign("s390x", Some((2, 36)))),
];

/// The control: a library that does nothing. A promise that holds with it holds by itself; `tests/control.rs` has
/// those that may.
const CONTROL: Row = ("nothing", Environment::nothing);

/// The variable that chooses some of them, by their names with commas between.
pub const CHOICE: &str = "EGRESS_SHIM_TEST_ENVIRONMENT";

/// Why a test does not run whose environment the variable leaves out.
pub const NOT_CHOSEN: &str = "not chosen";

/// What the library exports, among other things.
const GOLDEN: &str = "tests/elf.golden";

/// A row of the table.
#[derive(Debug)]
pub struct Environment {
    /// Its name in messages, and that of the directory for its programs.
    name: &'static str,
    /// The C compiler whose programs run there, with its first arguments.
    compiler: Vec<String>,
    /// The library.
    pub library: PathBuf,
    /// The root directory that its programs run in; `None` is this machine's own.
    root: Option<PathBuf>,
    /// The program that runs its programs, which are of another architecture, and its first arguments.
    emulator: Vec<OsString>,
    /// The bits of an address.
    pub bits: u32,
    /// The version of its glibc; `None` if the libc is musl.
    pub glibc: Option<(u32, u32)>,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The chosen rows; `None` if no choice was made.
fn choice() -> Option<Vec<Row>> {
    let choice = std::env::var(CHOICE).ok()?;
    let known = [ENVIRONMENTS, &EMULATED, &[CONTROL]].concat();
    let of_name = |name: &str| {
        known.iter().copied().find(|(known, _)| *known == name).unwrap_or_else(|| {
            // Once for the whole run: each test would say it again.
            let known = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
            let line = format!("{CHOICE}: \"{name}\": must be one or more of {known}\n");
            let _ = io::stderr().write_all(line.as_bytes());
            std::process::exit(2);
        })
    };
    Some(choice.split(',').map(of_name).collect())
}

/// Whether no choice leaves this environment out; if one does, a line says it.
fn is_chosen(name: &str) -> bool {
    let chosen = choice().is_none_or(|chosen| chosen.iter().any(|(chosen, _)| *chosen == name));
    if !chosen {
        skip(name, NOT_CHOSEN);
    }
    chosen
}

/// Runs a test in each environment, or in those that are chosen. A failure does not keep it from the next one: at
/// the end the test fails with the names of those that it failed in.
#[track_caller]
pub fn in_each_environment(test: impl FnMut(&Environment)) {
    in_each(&choice().unwrap_or_else(|| ENVIRONMENTS.to_vec()), test);
}

/// As [`in_each_environment`], and on the other architecture.
#[track_caller]
pub fn in_each_architecture(test: impl FnMut(&Environment)) {
    in_each(&choice().unwrap_or_else(|| [ENVIRONMENTS, &EMULATED].concat()), test);
}

/// Runs a test on this machine's glibc only; in its place, with the control where that is chosen.
#[track_caller]
pub fn on_this_machine(test: impl FnMut(&Environment)) {
    let here = [ENVIRONMENTS[0], CONTROL];
    let chosen = choice().unwrap_or_else(|| vec![here[0]]);
    let is_here = |row: &Row| chosen.iter().any(|(name, _)| *name == row.0);
    let rows: Vec<_> = here.into_iter().filter(is_here).collect();
    if rows.is_empty() {
        skip(here[0].0, NOT_CHOSEN);
    }
    in_each(&rows, test);
}

/// As [`in_each_environment`], in all at the same time: for a test that mostly waits.
#[track_caller]
pub fn in_each_environment_at_once(test: impl Fn(&Environment) + Sync) {
    at_once(&choice().unwrap_or_else(|| ENVIRONMENTS.to_vec()), test);
}

/// As [`in_each_architecture`], in all at the same time.
#[track_caller]
pub fn in_each_architecture_at_once(test: impl Fn(&Environment) + Sync) {
    at_once(&choice().unwrap_or_else(|| [ENVIRONMENTS, &EMULATED].concat()), test);
}

#[track_caller]
fn at_once(rows: &[Row], test: impl Fn(&Environment) + Sync) {
    // Lines about what is not run have the thread's name.
    let name = thread::current().name().unwrap_or_default().to_owned();
    let failed = thread::scope(|scope| {
        let start = |row: &Row| {
            let (row, test) = (*row, &test);
            let run = move || fails_in(row, test);
            thread::Builder::new().name(name.clone()).spawn_scoped(scope, run).expect("a thread")
        };
        let running: Vec<_> = rows.iter().map(start).collect();
        let ended = running.into_iter().map(|thread| thread.join().expect("no panic comes out"));
        rows.iter().zip(ended).filter(|(_, fails)| *fails).map(|(row, _)| row.0).collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "failed in {}", failed.join(","));
}

#[track_caller]
fn in_each(rows: &[Row], mut test: impl FnMut(&Environment)) {
    let failed = rows.iter().filter(|row| fails_in(**row, &mut test)).map(|row| row.0);
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "failed in {}", failed.join(","));
}

fn fails_in((name, make): Row, mut test: impl FnMut(&Environment)) -> bool {
    let fails = catch_unwind(AssertUnwindSafe(|| test(&make()))).is_err();
    if fails {
        eprintln!("^ in the environment {name}\n");
    }
    fails
}

/// As [`in_each_environment`], for a test that needs libraries of this machine's own.
#[track_caller]
pub fn in_each_environment_of_this_machine(mut test: impl FnMut(&Environment)) {
    in_each_environment(|environment| {
        if environment.root.is_none() && !environment.is_musl() {
            test(environment);
        } else {
            skip(environment, "this machine's libraries are not its own");
        }
    });
}

impl Environment {
    /// This machine's glibc with the library of `cargo build --release`.
    pub fn here() -> Self {
        Self {
            name: "glibc",
            compiler: vec!["cc".to_owned()],
            library: built("target/release/libegress_shim.so"),
            root: None,
            emulator: Vec::new(),
            bits: 64,
            glibc: Some(glibc_here()),
        }
    }

    /// This machine's glibc with the library of `scripts/build-portable`, which the next two have too.
    pub fn shipped() -> Self {
        let library = shipped("libegress_shim.so");
        Self { name: "glibc-shipped", library, ..Self::here() }
    }

    /// musl with the shipped library.
    pub fn musl() -> Self {
        let compiler = vec!["musl-gcc".to_owned()];
        Self { name: "musl", compiler, glibc: None, ..Self::shipped() }
    }

    fn debian11() -> Self {
        Self {
            name: "debian11",
            compiler: zig(Architecture::here(), OLDEST),
            root: Some(built("target/roots/debian11")),
            glibc: Some((2, 31)),
            ..Self::shipped()
        }
    }

    /// Debian 12's glibc for i386.
    #[cfg(target_arch = "x86_64")]
    fn i386() -> Self {
        Self {
            name: "i386",
            compiler: zig(Architecture::named("i386"), OLDEST),
            library: built("dist/i386/libegress_shim.so"),
            root: Some(built("target/roots/i386")),
            emulator: Vec::new(),
            bits: 32,
            glibc: Some((2, 36)),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn i386_musl() -> Self {
        let compiler = zig(Architecture::named("i386"), None);
        Self { name: "i386-musl", compiler, glibc: None, ..Self::i386() }
    }

    /// The same for programs whose `time_t` has 64 bits, for which glibc has other names on 32-bit machines since 2.34
    /// (`_TIME_BITS` in `feature_test_macros`(7)); `None` where all programs are such.
    pub fn with_64_bit_times(&self) -> Option<Self> {
        let (architecture, name) = match self.name {
            "i386" => ("i386", "i386-time64"),
            "armhf" => ("armhf", "armhf-time64"),
            _ => return None,
        };
        let mut compiler = zig(Architecture::named(architecture), Some("2.36"));
        compiler.extend(["-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"].map(str::to_owned));
        let (library, root) = (self.library.clone(), self.root.clone());
        let emulator = self.emulator.clone();
        Some(Self { name, compiler, library, root, emulator, ..*self })
    }

    /// The same for programs whose stack is aligned to 4 bytes, as by old compilers for i386; `None` for other machines.
    pub fn with_old_stack(&self) -> Option<Self> {
        let name = match self.name {
            "i386" => "i386-old",
            "i386-musl" => "i386-musl-old",
            _ => return None,
        };
        let compiler = [&self.compiler[..], &["-mstack-alignment=4".to_owned()]].concat();
        let (library, root) = (self.library.clone(), self.root.clone());
        let emulator = self.emulator.clone();
        Some(Self { name, compiler, library, root, emulator, ..*self })
    }

    /// The libc of a root of `tests/lab/foreign`; the name begins with that of the architecture. qemu takes each file from
    /// the root that is there, and this machine's otherwise: the lab's /etc/hosts and /etc/resolv.conf.
    fn foreign(name: &'static str, glibc: Option<(u32, u32)>) -> Self {
        let architecture = Architecture::named(name.split('-').next().unwrap_or_default());
        let arch = architecture.name();
        let root = if glibc.is_some() { name } else { arch };
        let root = built(&format!("target/roots/{root}"));
        Self {
            name,
            compiler: zig(architecture, glibc.and(OLDEST)),
            library: built(&format!("dist/{arch}/libegress_shim.so")),
            root: None,
            emulator: vec![qemu(architecture).into(), "-L".into(), root.into()],
            bits: architecture.get("bits").parse().expect("a number"),
            glibc,
        }
    }

    /// This machine's glibc with a library that has the exports of ours and does nothing.
    fn nothing() -> Self {
        let golden =
            fs::read_to_string(Path::new(ROOT).join(GOLDEN)).expect("tests/elf.golden can be read");
        // What is for some architectures only is not for all.
        let for_all = golden.lines().filter(|line| !line.contains('['));
        let exports = for_all.filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next() == Some("export") { words.next() } else { None }
        });
        let forwards: Vec<_> = exports
            .map(|name| {
                format!("FORWARD{}({name})", if name.contains("res_") { "_LATE" } else { "" })
            })
            .collect();
        let here = Self::here();
        let flags = ["-shared", "-fPIC", &format!("-DFORWARDS={}", forwards.join(" "))];
        let library = here.compile("nothing.c", "nothing.so", &flags);
        Self { name: CONTROL.0, library, ..here }
    }

    /// Those of the other architectures that have a command of their own, whose roots have programs of the distribution.
    pub fn emulated() -> impl Iterator<Item = Self> {
        architectures().filter(|one| one.has("command")).filter_map(Self::emulated_as)
    }

    /// The first row of an architecture: this machine's own, one that its kernel runs, or one under qemu; `None` if that is
    /// not chosen, or qemu is not installed.
    pub fn of(architecture: Architecture) -> Option<Self> {
        let name = architecture.name();
        if name == Architecture::here().name() {
            return Some(Self::here());
        }
        match ENVIRONMENTS.iter().find(|(known, _)| *known == name) {
            Some((_, make)) => is_chosen(name).then(make),
            None => Self::emulated_as(architecture),
        }
    }

    /// The libc of another architecture that is in the table of these under its name, for programs of the distribution and
    /// for the command; `None` if it is not chosen, or qemu is not installed.
    pub fn emulated_as(architecture: Architecture) -> Option<Self> {
        let (name, make) = EMULATED.into_iter().find(|(name, _)| *name == architecture.name())?;
        if !is_chosen(name) {
            return None;
        }
        let qemu = qemu(architecture);
        if let Err(error) = Command::new(&qemu).arg("--version").output() {
            skip(format!("programs for {name}"), format!("{qemu}: {error}"));
            return None;
        }
        Some(make())
    }

    /// Those with 32-bit addresses that are chosen and that this machine has.
    pub fn with_32_bits() -> impl Iterator<Item = Self> {
        let rows = ENVIRONMENTS.iter().filter(|(name, _)| name.starts_with("i386"));
        rows.filter(|(name, _)| is_chosen(name)).map(|(_, make)| make())
    }

    /// The one of these for programs of the distribution.
    pub fn i386_programs() -> Option<Self> {
        Self::with_32_bits().find(|environment| !environment.is_musl())
    }

    /// Whether it may run: a test that has it by its name asks this.
    pub fn is_chosen(&self) -> bool {
        is_chosen(self.name)
    }

    pub fn is_emulated(&self) -> bool {
        !self.emulator.is_empty()
    }

    /// Whether each frame on the stack has 100 bytes and more for the registers of what it calls, by the ABI.
    pub fn has_large_frames(&self) -> bool {
        ["ppc64le", "s390x"].contains(&self.name)
    }

    /// Where a program of the distribution is: in qemu's root, since qemu looks there for what a program
    /// opens, and not for the program.
    pub fn installed(&self, path: &str) -> PathBuf {
        let root = self.emulator.last().map_or(Path::new("/"), Path::new);
        root.join(path.trim_start_matches('/'))
    }

    pub fn is_musl(&self) -> bool {
        self.glibc.is_none()
    }

    /// The program made of `tests/programs/NAME.c` for this environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.compile(&format!("{name}.c"), name, &[])
    }

    /// The program made of `tests/programs/NAME.c`, which needs a shared library (`DT_NEEDED`).
    pub fn program_with(&self, name: &str, library: &Path) -> PathBuf {
        let file = format!("{name}-with-{}", library.file_stem().unwrap().display());
        let library = library.to_str().expect("its path is UTF-8");
        self.compile(&format!("{name}.c"), &file, &["-Wl,--no-as-needed", library])
    }

    /// A shared library made of `tests/programs/NAME.c`.
    pub fn shared_library(&self, name: &str) -> PathBuf {
        self.compile(&format!("{name}.c"), &format!("{name}.so"), &["-shared", "-fPIC"])
    }

    /// The same, linked in another way, which names the file.
    pub fn library_linked(&self, name: &str, way: &str, flags: &[&str]) -> PathBuf {
        let flags = [&["-shared", "-fPIC"], flags].concat();
        self.compile(&format!("{name}.c"), &format!("{name}-{way}.so"), &flags)
    }

    /// The compiler's flag that links a library for an address: GNU's linker and Zig's have other names for it.
    pub fn linked_at(&self, address: &str) -> String {
        let is_zig = self.compiler.first().is_some_and(|compiler| compiler.ends_with("zig"));
        format!("-Wl,{}={address}", if is_zig { "--image-base" } else { "-Ttext-segment" })
    }

    /// A shared library made of `tests/programs/NAME.cc`; `None` if there is no C++ compiler.
    pub fn cxx_library(&self, name: &str) -> Option<PathBuf> {
        let flags = ["-shared", "-fPIC"];
        (self.compiler == ["cc"])
            .then(|| self.compile(&format!("{name}.cc"), &format!("{name}.so"), &flags))
    }

    fn compile(&self, source: &str, file: &str, flags: &[&str]) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (compiler, standard) = match source.rsplit_once('.') {
            Some((_, "cc")) => (&["c++".to_owned()][..], "-std=gnu++17"),
            _ => (&self.compiler[..], "-std=gnu11"),
        };
        let (compiler, first) = compiler.split_first().expect("it has a name");
        let sources = Path::new(ROOT).join("tests/programs");
        let source = sources.join(source);
        let directory = Path::new(ROOT).join("target/test-programs").join(self.name);
        let made = directory.join(file);
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let headers = fs::read_dir(&sources).expect("tests/programs can be read").flatten();
        let newest = headers
            .map(|entry| entry.path())
            .filter(|path| path.extension() == Some(OsStr::new("h")))
            .chain([source.clone(), Path::new(ROOT).join(GOLDEN)])
            .filter_map(|path| changed(&path).ok())
            .max();
        if let (Some(newest), Ok(of_made)) = (newest, changed(&made))
            && newest < of_made
        {
            return made;
        }
        fs::create_dir_all(&directory).expect("target can be written to");
        // Tests run in threads: each compiles for itself and then puts the whole file in place.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = directory.join(format!("{file}.{}.{number}", std::process::id()));
        let cache = Path::new(ROOT).join("target/portable/zig-cache");
        let output = Command::new(compiler)
            .envs(["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"].map(|name| (name, &cache)))
            .args(first)
            .args([standard, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
            .args(flags)
            .arg(&source)
            .arg("-o")
            .arg(&own)
            .arg("-ldl")
            .output()
            .unwrap_or_else(|error| panic!("{compiler} starts: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&own, &made).expect("the program can be put in place");
        made
    }

    /// What a program is started by here: a command and its first arguments, or nothing.
    fn runner(&self) -> Vec<OsString> {
        let Some(root) = &self.root else { return self.emulator.clone() };
        let enter = Self::here().compile("enter.c", "enter", &["-static"]);
        vec![enter.into(), root.into(), ROOT.into()]
    }

    /// A command without the library: nothing of the surroundings' settings or preloads is left in
    /// its environment.
    pub fn bare(&self, program: impl AsRef<Path>) -> Command {
        let words = [self.runner(), vec![program.as_ref().into()]].concat();
        let (first, others) = words.split_first().expect("there is the program at least");
        let mut command = Command::new(first);
        command.args(others);
        without_settings(&mut command).stdin(Stdio::null());
        command
    }

    /// A command with the library and these settings: (`KEEPALIVE`, value) sets
    /// `EGRESS_SHIM_KEEPALIVE`; an empty name sets `EGRESS_SHIM`.
    pub fn shimmed(&self, program: impl AsRef<Path>, settings: &[(&str, &str)]) -> Command {
        let mut command = self.bare(program);
        preload(&mut command, &[&self.library]);
        for (name, value) in settings {
            let separator = if name.is_empty() { "" } else { "_" };
            command.env(format!("EGRESS_SHIM{separator}{name}"), value);
        }
        command
    }
}

/// Preloads these libraries, in their order, and no other.
pub fn preload<'a>(command: &'a mut Command, libraries: &[&Path]) -> &'a mut Command {
    let libraries: Vec<_> = libraries.iter().map(|path| path.as_os_str()).collect();
    command.env("LD_PRELOAD", libraries.join(OsStr::new(":")))
}

/// For [`zig`]: the oldest glibc from 2.17 on.
const OLDEST: Option<&str> = Some("");

/// Zig's C compiler, for a version of glibc or else for musl. It has the interfaces of every glibc. It would trap undefined behaviour, at the price of a runtime
/// library.
fn zig(architecture: Architecture, glibc: Option<&str>) -> Vec<String> {
    let zig = built("target/zig/zig").display().to_string();
    let (target, oldest) = architecture.get("zig").split_once('.').expect("it has glibc's version");
    let target = match glibc {
        None => target.replace("gnu", "musl"),
        Some("") => format!("{target}.{oldest}"),
        Some(version) => format!("{target}.{version}"),
    };
    [&zig, "cc", "-fno-sanitize=undefined", "-target", &target, "-dynamic"]
        .map(str::to_owned)
        .to_vec()
}

/// What runs a program of another architecture.
fn qemu(architecture: Architecture) -> String {
    format!("qemu-{}-static", architecture.get("qemu"))
}

/// A path in the checkout where something must have been built.
fn built(path: &str) -> PathBuf {
    let path = Path::new(ROOT).join(path);
    assert!(path.exists(), "{} is missing: run scripts/test", path.display());
    path
}

/// A file of `scripts/build-portable` for this machine.
pub fn shipped(name: &str) -> PathBuf {
    built(&format!("dist/{ARCH}/{name}"))
}

/// The version of the glibc that this program runs on.
fn glibc_here() -> (u32, u32) {
    // SAFETY: gnu_get_libc_version(3) gives a C string that lasts.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    let mut parts = version.to_str().unwrap_or_default().split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("{version:?} is a version of glibc"),
    }
}
