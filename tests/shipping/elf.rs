//! The shipped files load everywhere, one for each architecture: held against `tests/elf.golden`, which
//! says why each of its demands is there, and against musl's own list of symbols.

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::architecture::{Architecture, released};
use crate::harness::{Environment, ROOT, expect};

/// An architecture, and its library.
struct Shipped {
    architecture: Architecture,
    library: PathBuf,
}

/// What is shipped: nothing here is run, so it does not matter what this machine is.
fn shipped() -> impl Iterator<Item = Shipped> {
    released().map(|architecture| {
        let library = Path::new(ROOT).join("dist").join(architecture.name());
        let library = library.join("libegress_shim.so");
        assert!(library.exists(), "{} is not built: run scripts/test", library.display());
        Shipped { architecture, library }
    })
}

/// The numbers of a version: `GLIBC_2.17` is later than `GLIBC_2.2.5`.
fn numbers(version: &str) -> Option<Vec<u32>> {
    let numbers = version.strip_prefix("GLIBC_").unwrap_or(version);
    numbers.split('.').map(|number| number.parse().ok()).collect()
}

/// What a tool of Debian's package binutils says.
fn tool(name: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(name)
        .env("LC_ALL", "C")
        .args(arguments)
        .arg(file)
        .output()
        .unwrap_or_else(|error| panic!("{name} starts: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {}: {errors}", file.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Shipped {
    fn arch(&self) -> &'static str {
        self.architecture.name()
    }

    /// The golden lines of one kind, without their reasons: `NAME` or `NAME VERSION`.
    fn golden(&self, kind: &str) -> BTreeSet<String> {
        let text = Path::new(ROOT).join("tests/elf.golden");
        let text = fs::read_to_string(text).expect("it is there");
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
        let of_kind = lines.filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        // A line may end in the architectures that it is for, or is not for.
        let here = of_kind.filter_map(|line| {
            let Some((line, only)) = line.strip_suffix(']').and_then(|line| line.split_once(" ["))
            else {
                return Some(line);
            };
            let (others, names) =
                only.strip_prefix('!').map_or((false, only), |names| (true, names));
            (names.split(',').any(|name| name == self.arch()) != others).then_some(line)
        });
        let line = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let name = words.next().filter(|name| name != "TLS");
            let name = name.unwrap_or_else(|| self.architecture.get("tls").to_owned());
            let version = words.map(|version| self.version(version));
            (name != "-")
                .then(|| iter::once(name.clone()).chain(version).collect::<Vec<_>>().join(" "))
        };
        here.filter_map(line).collect()
    }

    /// The version that a name has here: no symbol is older than the architecture's first glibc.
    fn version(&self, version: String) -> String {
        let first = self.first();
        if numbers(&version) < numbers(&first) { first } else { version }
    }

    fn first(&self) -> String {
        format!("GLIBC_{}", self.architecture.get("glibc"))
    }

    fn symbols(&self) -> Vec<Symbol> {
        symbols(&self.library)
    }

    fn undefined(&self) -> impl Iterator<Item = Symbol> + use<> {
        self.symbols().into_iter().filter(|symbol| !symbol.defined)
    }

    fn readelf(&self, what: &str) -> String {
        tool("readelf", &[what, "--wide"], &self.library)
    }

    /// Asserts that the file has just what the golden lines of a kind say.
    fn has(&self, kind: &str, seen: &BTreeSet<String>) {
        let wanted = self.golden(kind);
        let new: Vec<_> = seen.difference(&wanted).collect();
        let gone: Vec<_> = wanted.difference(seen).collect();
        assert!(
            new.is_empty() && gone.is_empty(),
            "{}, {kind}: not in tests/elf.golden: {new:?}; only in tests/elf.golden: {gone:?}",
            self.arch()
        );
    }
}

/// A symbol of the dynamic symbol table.
struct Symbol {
    name: String,
    /// `GLIBC_...`, or empty.
    version: String,
    weak: bool,
    defined: bool,
}

fn symbols(file: &Path) -> Vec<Symbol> {
    let table = tool("readelf", &["--dyn-syms", "--wide"], file);
    // ppc64le has a word in brackets more.
    let plain = |line: &str| match line.split_once("[<") {
        Some((before, rest)) => {
            format!("{before}{}", rest.split_once(']').expect("it ends").1)
        }
        None => line.to_owned(),
    };
    let rows = table.lines().map(plain);
    rows.filter_map(|row| {
        let row: Vec<_> = row.split_whitespace().collect();
        // Num: Value Size Type Bind Vis Ndx Name
        let [number, _, _, _, bind, _, section, name, ..] = row[..] else { return None };
        number.strip_suffix(':')?.parse::<u32>().ok()?;
        let (name, version) = name.split_once('@').unwrap_or((name, ""));
        Some(Symbol {
            name: name.to_owned(),
            version: version.trim_start_matches('@').to_owned(),
            weak: bind == "WEAK",
            defined: section != "UND",
        })
    })
    .collect()
}

#[test]
fn it_needs_no_library_but_the_golden_ones() {
    for library in shipped() {
        let table = library.readelf("--dynamic");
        let needed = table.lines().filter_map(|line| {
            line.split_once("(NEEDED)")?.1.split_once('[')?.1.strip_suffix(']').map(str::to_owned)
        });
        library.has("needed", &needed.collect());
    }
}

#[test]
fn it_exports_the_interposed_symbols_and_nothing_else() {
    for library in shipped() {
        let exported = |file| symbols(file).into_iter().filter(|symbol| symbol.defined);
        let with_version =
            |Symbol { name, version, .. }| format!("{name} {version}").trim().to_owned();
        library.has("export", &exported(&library.library).map(with_version).collect());
        // The one of cargo build, for this machine alone, has no versions.
        if library.arch() == Architecture::here().name() {
            let names = library.golden("export");
            let names = names.iter().filter_map(|line| line.split(' ').next());
            let names: BTreeSet<_> = names.map(str::to_owned).collect();
            let here = exported(&Environment::here().library).map(|symbol| symbol.name);
            expect("exports of the library of cargo build", here.collect::<BTreeSet<_>>(), names);
        }
    }
}

#[test]
fn it_asks_for_no_symbol_but_the_golden_ones() {
    for library in shipped() {
        let (weak, strong): (Vec<_>, Vec<_>) = library.undefined().partition(|symbol| symbol.weak);
        let names = |symbols: Vec<Symbol>| {
            let name = |Symbol { name, version, .. }| format!("{name} {version}").trim().to_owned();
            symbols.into_iter().map(name).collect()
        };
        library.has("undefined", &names(strong));
        library.has("weak", &names(weak));
    }
}

#[test]
fn it_asks_for_no_version_newer_than_glibc_2_17() {
    for library in shipped() {
        let arch = library.arch();
        // An architecture that came to glibc later has no older one.
        let latest = numbers(&library.version("GLIBC_2.17".to_owned()));
        let newer = |version: &str| numbers(version).is_none_or(|version| Some(version) > latest);
        let strong = library.undefined().filter(|symbol| !symbol.weak && newer(&symbol.version));
        let strong: Vec<_> = strong.map(|Symbol { name, version, .. }| (name, version)).collect();
        assert!(strong.is_empty(), "{arch}: symbols of a newer glibc, or of none: {strong:?}");

        // The loader ends the program for a version that it lacks, whichever symbols are of it.
        let table = library.readelf("--version-info");
        let needs = table.split_once("Version needs").expect("it needs versions").1;
        let versions = needs.lines().filter_map(|line| {
            let (_, rest) = line.split_once("Name: ")?;
            Some(rest.split_whitespace().next().unwrap_or_default())
        });
        let versions: Vec<_> = versions.filter(|version| newer(version)).collect();
        assert!(versions.is_empty(), "{arch}: versions of a newer glibc: {versions:?}");
    }
}

/// musl has the same functions on every architecture, so this machine's tells of the other's too.
#[test]
fn every_symbol_that_it_asks_for_is_in_musl() {
    let musl = format!("/usr/lib/{}-linux-musl/libc.so", std::env::consts::ARCH);
    let musl = Path::new(&musl);
    assert!(musl.exists(), "{} is missing: run scripts/test", musl.display());
    let in_musl: BTreeSet<_> = symbols(musl)
        .into_iter()
        .filter_map(|symbol| symbol.defined.then_some(symbol.name))
        .collect();
    for library in shipped() {
        let strong = library.undefined().filter(|symbol| !symbol.weak).map(|symbol| symbol.name);
        // The name for TLS is the ABI's.
        let strong = strong.filter(|name| name != library.architecture.get("tls"));
        // The names for a 64-bit off_t, which are in Debian 12's musl, left it with 1.2.4.
        let missing: Vec<_> =
            strong.filter(|name| !in_musl.contains(name) || name.ends_with("64")).collect();
        let arch = library.arch();
        assert!(missing.is_empty(), "{arch}: not in musl, or not in every musl: {missing:?}");
    }
}

#[test]
fn its_memory_is_written_or_executed_but_not_both() {
    for library in shipped() {
        let dynamic = library.readelf("--dynamic");
        assert!(!dynamic.contains("TEXTREL"), "no text relocations:\n{dynamic}");
        assert!(dynamic.contains("BIND_NOW"), "bound when loaded:\n{dynamic}");

        let segments = library.readelf("--program-headers");
        let flags_of = |kind: &str| {
            let row = segments.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let of_kind = row.filter(|row| row.first() == Some(&kind));
            // Type Offset VirtAddr PhysAddr FileSiz MemSiz Flags (a word each) Align
            of_kind.map(|row| row[6..row.len() - 1].concat()).collect::<Vec<_>>()
        };
        assert_eq!(flags_of("GNU_STACK"), ["RW"], "no executable stack");
        assert_eq!(flags_of("GNU_RELRO"), ["R"], "relocated data is read-only afterwards");
        // Each is a mapping that a start pays for.
        assert_eq!(flags_of("LOAD"), ["RE", "RW"], "the segments");
        let page: u32 = library.architecture.get("page").parse().expect("a number");
        let begins = |line: &&str| line.trim_start().starts_with("LOAD");
        for line in segments.lines().filter(begins) {
            assert!(line.ends_with(&format!(" {page:#x}")), "each begins with a page: {line}");
        }
        // The loader protects whole pages.
        let relro = segments.lines().find(|line| line.trim_start().starts_with("GNU_RELRO"));
        let words = relro.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let words = words.expect("there is one");
        for number in [words[2], words[5]] {
            let pages = number.strip_suffix("000").is_some_and(|pages| !pages.ends_with('x'));
            assert!(pages, "the read-only part begins and ends with a page: {words:?}");
        }
    }
}

/// Thread cancellation unwinds the frame of a hook by its table, and nothing in that frame stops
/// it: a common information entry that names a personality routine has `P` in its augmentation.
#[test]
fn a_forced_unwind_passes_through_the_hooks() {
    for library in shipped() {
        let frames = library.readelf("--debug-dump=frames");
        let table = library.readelf("--dyn-syms");
        let unwind = library.readelf("--unwind");
        for export in library.golden("export") {
            let export = export.replace(' ', "@");
            let row = table.lines().find(|line| line.ends_with(&format!(" {export}")));
            let row = row.unwrap_or_else(|| panic!("{export} is exported"));
            let address = row.split_whitespace().nth(1).unwrap_or_default();
            if !frames.contains(" FDE ") {
                // 32-bit ARM has tables of its own (EHABI32), in which an entry reaches to the next one. Compact ones have
                // no routine but the unwinder's.
                let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
                let start = |line: &str| {
                    number(line.strip_prefix("0x")?.split([':', ' ']).next().unwrap_or_default())
                };
                let address = number(address);
                let lines: Vec<_> = unwind.lines().collect();
                let is_its = |line: &&str| start(line).is_some() && start(line) <= address;
                let entry = lines.iter().rposition(is_its).map(|at| &lines[at..at + 2]);
                let is_compact =
                    entry.is_some_and(|entry| entry[1].contains("Compact model index"));
                assert!(is_compact, "{export}: {entry:?}");
                continue;
            }
            let entry = frames
                .lines()
                .find(|line| line.contains(" FDE ") && line.contains(&format!("pc={address}..")))
                .unwrap_or_else(|| panic!("{export} has an entry in .eh_frame"));
            let common = entry.split_once("cie=").expect("it names its CIE").1;
            let common = common.split_whitespace().next().unwrap_or_default();
            let augmentation = frames
                .lines()
                .skip_while(|line| !(line.starts_with(common) && line.ends_with(" CIE")))
                .find_map(|line| line.trim().strip_prefix("Augmentation:"))
                .unwrap_or_else(|| panic!("the CIE of {export} has an augmentation"));
            let none = !augmentation.contains('P');
            assert!(none, "{export} has no personality routine:{augmentation}");
        }
    }
}

#[test]
fn it_is_small() {
    for library in shipped() {
        let most =
            library.golden("size").iter().map(|size| size.parse::<u64>().expect("a number")).sum();
        let size = fs::metadata(&library.library).expect("it is there").len();
        assert!(size <= most, "{}: {size} bytes, at most {most}", library.arch());
    }
}

#[test]
fn nothing_of_the_machine_that_built_it_is_in_it() {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    for library in shipped() {
        let bytes = fs::read(&library.library).expect("it can be read");
        for path in [ROOT, &home] {
            let path = format!("{path}/");
            let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
            assert!(!found, "{path} is in it");
        }
    }
}
