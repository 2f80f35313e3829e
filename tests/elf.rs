//! The shipped file loads everywhere: held against `tests/elf.golden`, which says why each of its
//! demands is there, and against musl's own list of symbols.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn library() -> PathBuf {
    let library =
        Path::new(ROOT).join("dist").join(std::env::consts::ARCH).join("libegress_shim.so");
    assert!(library.exists(), "{} is not built: run scripts/test", library.display());
    library
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

/// The golden lines of one kind, without their reasons: `NAME` or `NAME VERSION`.
fn golden(kind: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("tests/elf.golden")).expect("it is there");
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let of_kind = lines.filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    // aarch64 came to glibc with 2.17: no symbol there is of an older version.
    let version = |word: &str| match std::env::consts::ARCH {
        "aarch64" if word.starts_with("GLIBC_") => "GLIBC_2.17".to_owned(),
        _ => word.to_owned(),
    };
    of_kind.map(|line| line.split_whitespace().map(version).collect::<Vec<_>>().join(" ")).collect()
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
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| {
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

fn undefined(file: &Path) -> impl Iterator<Item = Symbol> + use<> {
    symbols(file).into_iter().filter(|symbol| !symbol.defined)
}

fn same(what: &str, wanted: &BTreeSet<String>, seen: &BTreeSet<String>) {
    let new: Vec<_> = seen.difference(wanted).collect();
    let gone: Vec<_> = wanted.difference(seen).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{what}: not in tests/elf.golden: {new:?}; only in tests/elf.golden: {gone:?}"
    );
}

#[test]
fn it_needs_no_library_but_the_golden_ones() {
    let table = tool("readelf", &["--dynamic", "--wide"], &library());
    let needed = table.lines().filter_map(|line| {
        line.split_once("(NEEDED)")?.1.split_once('[')?.1.strip_suffix(']').map(str::to_owned)
    });
    same("needed libraries", &golden("needed"), &needed.collect());
}

#[test]
fn it_exports_the_interposed_symbols_and_nothing_else() {
    let defined = symbols(&library()).into_iter().filter(|symbol| symbol.defined);
    same("exported symbols", &golden("export"), &defined.map(|symbol| symbol.name).collect());
}

#[test]
fn it_asks_for_no_symbol_but_the_golden_ones() {
    let (weak, strong): (Vec<_>, Vec<_>) = undefined(&library()).partition(|symbol| symbol.weak);
    let names = |symbols: Vec<Symbol>| {
        let name = |Symbol { name, version, .. }| format!("{name} {version}").trim().to_owned();
        symbols.into_iter().map(name).collect()
    };
    same("undefined symbols", &golden("undefined"), &names(strong));
    same("weak undefined symbols", &golden("weak"), &names(weak));
}

#[test]
fn it_asks_for_no_version_newer_than_glibc_2_17() {
    const OLDEST: (u32, u32) = (2, 17);
    let library = library();
    let newer = |version: &str| {
        let number = version.strip_prefix("GLIBC_").unwrap_or(version);
        let mut parts = number.split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) > OLDEST,
            _ => true,
        }
    };
    let strong = undefined(&library).filter(|symbol| !symbol.weak && newer(&symbol.version));
    let strong: Vec<_> = strong.map(|Symbol { name, version, .. }| (name, version)).collect();
    assert!(strong.is_empty(), "symbols of a newer glibc, or of none: {strong:?}");

    // The loader ends the program for a version that it lacks, whichever symbols are of it.
    let table = tool("readelf", &["--version-info", "--wide"], &library);
    let versions = table.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Name: ")?;
        Some(rest.split_whitespace().next().unwrap_or_default())
    });
    let versions: Vec<_> = versions.filter(|version| newer(version)).collect();
    assert!(versions.is_empty(), "versions of a newer glibc: {versions:?}");
}

#[test]
fn every_symbol_that_it_asks_for_is_in_musl() {
    let musl = format!("/usr/lib/{}-linux-musl/libc.so", std::env::consts::ARCH);
    let musl = Path::new(&musl);
    assert!(musl.exists(), "{} is missing: run scripts/test", musl.display());
    let in_musl: BTreeSet<_> = symbols(musl)
        .into_iter()
        .filter_map(|symbol| symbol.defined.then_some(symbol.name))
        .collect();
    let strong = undefined(&library()).filter(|symbol| !symbol.weak).map(|symbol| symbol.name);
    // The names for a 64-bit off_t, which are in Debian 12's musl, left it with 1.2.4.
    let missing: Vec<_> =
        strong.filter(|name| !in_musl.contains(name) || name.ends_with("64")).collect();
    assert!(missing.is_empty(), "not in musl, or not in every musl: {missing:?}");
}

#[test]
fn its_memory_is_written_or_executed_but_not_both() {
    let library = library();
    let dynamic = tool("readelf", &["--dynamic", "--wide"], &library);
    assert!(!dynamic.contains("TEXTREL"), "no text relocations:\n{dynamic}");
    assert!(dynamic.contains("BIND_NOW"), "bound when loaded:\n{dynamic}");

    let segments = tool("readelf", &["--program-headers", "--wide"], &library);
    let flags_of = |kind: &str| {
        let row = segments.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let of_kind = row.filter(|row| row.first() == Some(&kind));
        // Type Offset VirtAddr PhysAddr FileSiz MemSiz Flags (a word each) Align
        of_kind.map(|row| row[6..row.len() - 1].concat()).collect::<Vec<_>>()
    };
    assert_eq!(flags_of("GNU_STACK"), ["RW"], "no executable stack");
    assert_eq!(flags_of("GNU_RELRO"), ["R"], "relocated data is read-only afterwards");
    for flags in flags_of("LOAD") {
        assert!(!(flags.contains('W') && flags.contains('E')), "a segment is {flags}");
    }
}

/// Thread cancellation unwinds the frame of a hook by its table, and nothing in that frame stops
/// it: a common information entry that names a personality routine has `P` in its augmentation.
#[test]
fn a_forced_unwind_passes_through_the_hooks() {
    let library = library();
    let frames = tool("readelf", &["--debug-dump=frames", "--wide"], &library);
    let table = tool("readelf", &["--dyn-syms", "--wide"], &library);
    for export in golden("export") {
        let row = table.lines().find(|line| line.ends_with(&format!(" {export}")));
        let row = row.unwrap_or_else(|| panic!("{export} is exported"));
        let address = row.split_whitespace().nth(1).unwrap_or_default();
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
        assert!(!augmentation.contains('P'), "{export} has no personality routine:{augmentation}");
    }
}

#[test]
fn it_is_small() {
    let most: u64 = golden("size").iter().map(|size| size.parse::<u64>().expect("a number")).sum();
    let size = fs::metadata(library()).expect("it is there").len();
    assert!(size <= most, "{size} bytes, at most {most}");
}

#[test]
fn nothing_of_the_machine_that_built_it_is_in_it() {
    let bytes = fs::read(library()).expect("it can be read");
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    for path in [ROOT, &home] {
        let path = format!("{path}/");
        let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
        assert!(!found, "{path} is in it");
    }
}

#[test]
fn the_checksums_are_right() {
    let status = Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(Path::new(ROOT).join("dist"))
        .status()
        .expect("sha256sum starts");
    assert!(status.success(), "dist/SHA256SUMS is of these files");
}
