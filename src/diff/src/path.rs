//! Names that lead to a value.

/// Names in order; compared name by name, each by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Path(pub Vec<String>);

impl Path {
    pub fn below(&self, names: &[&str]) -> Self {
        Self(self.0.iter().cloned().chain(names.iter().map(|name| (*name).to_owned())).collect())
    }

    /// As a JSON pointer (RFC 6901).
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for name in &self.0 {
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        }
        pointer
    }

    /// Reads a JSON pointer; nothing if it is none.
    pub fn parse(pointer: &str) -> Option<Self> {
        let names = pointer.strip_prefix('/')?.split('/');
        let name = |name: &str| {
            let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
            let escapes_are_whole = name.split('~').skip(1).all(is_escaped);
            escapes_are_whole.then(|| name.replace("~1", "/").replace("~0", "~"))
        };
        names.map(name).collect::<Option<_>>().map(Self)
    }
}
