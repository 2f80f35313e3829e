//! The rows of `scripts/architectures`.

const TABLE: &str = include_str!("../../scripts/architectures");

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Architecture(&'static str);

/// The rows, the first of which has the names of the columns.
fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#'))
}

/// Every architecture.
pub fn architectures() -> impl Iterator<Item = Architecture> {
    lines().skip(1).map(Architecture)
}

/// Those that are released.
pub fn released() -> impl Iterator<Item = Architecture> {
    architectures().filter(|architecture| architecture.has("release"))
}

/// Those whose library is beside that of an architecture.
pub fn beside(architecture: Architecture) -> impl Iterator<Item = Architecture> {
    released().filter(move |one| one.get("beside") == architecture.name())
}

impl Architecture {
    /// The row of this machine.
    pub fn here() -> Self {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        architectures().find(|one| one.get("rust") == target).expect("this machine has a row")
    }

    /// The row of this name.
    pub fn named(name: &str) -> Self {
        architectures().find(|one| one.name() == name).expect("it has a row")
    }

    /// What the row has in a column.
    pub fn get(self, column: &str) -> &'static str {
        let at =
            lines().next().and_then(|names| names.split_whitespace().position(|it| it == column));
        let word = at.and_then(|at| self.0.split_whitespace().nth(at));
        word.unwrap_or_else(|| panic!("scripts/architectures: {column:?} of {:?}", self.0))
    }

    /// Whether it has anything there.
    pub fn has(self, column: &str) -> bool {
        self.get(column) != "-"
    }

    pub fn name(self) -> &'static str {
        self.get("name")
    }
}
