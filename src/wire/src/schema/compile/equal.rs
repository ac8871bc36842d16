//! `const` and `enum`. A value that holds others is taken apart into nodes that only it satisfies, so that
//! equality is exact and streams like everything else.

use super::{
    super::{
        document::{Value, ValueId},
        error::Fault,
        keyword::Keyword,
        names::{Fixed, Name, Names},
        node::{Allowed, ArrayRules, Branch, NodeId, ObjectRules, Types},
        number::Owned,
    },
    Compiler, push,
};

impl Compiler<'_> {
    pub(super) fn constant(&mut self, id: NodeId, schema: ValueId, at: ValueId, branches: &mut Vec<Branch>) {
        match self.document.value(at) {
            Value::Array(_) | Value::Object(_) => {
                branches.push(Branch::All(self.equal(at, schema, Keyword::Const)));
            }
            _ => {
                let allowed = self.allowed(&[at], Keyword::Const);
                self.allow(id, schema, allowed, branches);
            }
        }
    }

    pub(super) fn enumeration(
        &mut self,
        id: NodeId,
        schema: ValueId,
        at: ValueId,
        branches: &mut Vec<Branch>,
    ) {
        let Value::Array(items) = self.document.value(at) else {
            return self.wrong_type(at, "a list of values");
        };
        if items.len() > self.limits.enum_max {
            return self.error(at, Fault::EnumMax { limit: self.limits.enum_max });
        }
        let holds_others =
            |item: &&ValueId| matches!(self.document.value(**item), Value::Array(_) | Value::Object(_));
        let (others, scalars): (Vec<ValueId>, Vec<ValueId>) = items.iter().partition(holds_others);
        let allowed = self.allowed(&scalars, Keyword::Enum);
        if others.is_empty() {
            return self.allow(id, schema, allowed, branches);
        }
        let plain = self.part(schema, Types::ALL, Keyword::Enum);
        self.node_mut(plain).allowed = Some(Box::new(allowed));
        let others = others.into_iter().map(|at| self.equal(at, schema, Keyword::Enum));
        let alternatives = [plain].into_iter().chain(others).collect();
        let any = self.part(schema, Types::ALL, Keyword::Enum);
        self.node_mut(any).branches = [Branch::Any(alternatives)].into();
        branches.push(Branch::All(any));
    }

    /// `const` beside `enum` is two duties.
    fn allow(&mut self, id: NodeId, at: ValueId, allowed: Allowed, branches: &mut Vec<Branch>) {
        let mut target = id;
        if self.node_mut(id).allowed.is_some() {
            target = self.add(at, Types::ALL);
            branches.push(Branch::All(target));
        }
        self.node_mut(target).allowed = Some(Box::new(allowed));
    }

    /// A node whose failures are those of `keyword`.
    fn part(&mut self, schema: ValueId, types: Types, keyword: Keyword) -> NodeId {
        let id = self.add(schema, types);
        self.node_mut(id).stands_for = Some(keyword);
        id
    }

    fn allowed(&mut self, values: &[ValueId], keyword: Keyword) -> Allowed {
        let mut allowed = Allowed {
            keyword,
            literals: Types::NONE,
            yes: false,
            no: false,
            numbers: Vec::new(),
            texts: Vec::new(),
        };
        for at in values {
            match self.document.value(*at) {
                Value::Null => allowed.literals = Types::NULL,
                Value::Bool(true) => allowed.yes = true,
                Value::Bool(false) => allowed.no = true,
                Value::Text(text) => allowed.texts.push(Fixed::new(text)),
                Value::Number(text) => match Owned::parse(text) {
                    Some(number) => allowed.numbers.push(number),
                    None => self.wrong_value(*at, "a number of moderate size", text),
                },
                Value::Array(_) | Value::Object(_) => {}
            }
        }
        allowed.texts.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
        allowed
    }

    /// A node that only the value at `at` satisfies.
    fn equal(&mut self, at: ValueId, schema: ValueId, keyword: Keyword) -> NodeId {
        let document = self.document;
        match document.value(at) {
            Value::Array(items) => {
                let prefix = items.iter().map(|item| self.equal(*item, schema, keyword)).collect();
                let rest = self.part(schema, Types::NONE, keyword);
                let min = items.len() as u64;
                let rules = ArrayRules { prefix, rest, min, ..ArrayRules::default() };
                let node = self.part(schema, Types::ARRAY, keyword);
                self.node_mut(node).array = push(&mut self.arrays, Some(rules));
                node
            }
            Value::Object(members) => {
                let names = members
                    .iter()
                    .map(|(text, value)| {
                        let child = self.equal(*value, schema, keyword);
                        Name::new(text, child, true)
                    })
                    .collect();
                let rest = self.part(schema, Types::NONE, keyword);
                let rules = ObjectRules {
                    names: Names::new(names),
                    rest,
                    min: members.len() as u64,
                    ..ObjectRules::default()
                };
                let node = self.part(schema, Types::OBJECT, keyword);
                self.node_mut(node).object = push(&mut self.objects, Some(rules));
                node
            }
            _ => {
                let allowed = self.allowed(&[at], keyword);
                let node = self.part(schema, Types::ALL, keyword);
                self.node_mut(node).allowed = Some(Box::new(allowed));
                node
            }
        }
    }
}
