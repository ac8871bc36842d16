//! Which requirements are true, which are open, and that nothing falls between.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{read, root};

/// Issues that an open requirement may name.
const ISSUES: std::ops::RangeInclusive<i64> = 3..=6;

/// Where `.ci` looks for tests that cargo does not run.
const COLLECTED: &[(&str, &str)] = &[
    (".ci/tests/test_", ".py"),
    ("spec/verifiers/python/test_", ".py"),
    ("spec/verifiers/javascript/", ".test.mjs"),
    ("docs/verify/", ".test.mjs"),
    ("test/verifiers/test_", ".py"),
    ("test/clients/test_", ".py"),
    ("test/feeds/test_", ".py"),
    ("test/vectors/test_", ".py"),
];

#[test]
fn every_p0_and_p1_requirement_is_tested_or_open_with_an_issue() {
    let faults = faults(&table("spec/requirements.toml"), &table("spec/traceability.toml"), &exists);
    assert!(faults.is_empty(), "spec/traceability.toml:\n{}", faults.join("\n"));
}

fn table(path: &str) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rows<'a>(table: &'a Table, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    table.get(name).and_then(Value::as_table).into_iter().flatten().map(|(id, row)| (id.as_str(), row))
}

fn faults(requirements: &Table, trace: &Table, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let known: BTreeSet<&str> = rows(requirements, "requirement").map(|(id, _)| id).collect();
    let shown: BTreeSet<&str> = rows(trace, "requirement").map(|(id, _)| id).collect();
    let open: BTreeSet<&str> = rows(trace, "open").map(|(id, _)| id).collect();
    let mut faults = Vec::new();
    for (id, row) in rows(requirements, "requirement") {
        let priority = row.get("priority").and_then(Value::as_str).unwrap_or_default();
        match priority {
            "P0" | "P1" if !shown.contains(id) && !open.contains(id) => {
                faults.push(format!("{id}: {priority}, neither tested nor open"));
            }
            "P0" | "P1" | "P2" | "DOC" | "DEF" => {}
            other => faults.push(format!("{id}: priority `{other}`")),
        }
    }
    faults.extend(shown.intersection(&open).map(|id| format!("{id}: both tested and open")));
    faults.extend(shown.union(&open).filter(|id| !known.contains(*id)).map(|id| format!("{id}: unknown")));
    for (id, row) in rows(trace, "requirement") {
        check_tests(id, Some(row), exists, &mut faults);
    }
    for (id, row) in rows(trace, "open") {
        if !row.get("issue").and_then(Value::as_integer).is_some_and(|issue| ISSUES.contains(&issue)) {
            faults.push(format!("{id}: open without the issue that will close it"));
        }
        if let Some(tests) = row.get("so_far") {
            check_tests(id, Some(tests), exists, &mut faults);
        }
    }
    faults
}

fn check_tests(id: &str, tests: Option<&Value>, exists: &dyn Fn(&str) -> bool, faults: &mut Vec<String>) {
    let tests = tests.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if tests.is_empty() {
        faults.push(format!("{id}: no test"));
    }
    for test in tests {
        if !test.as_str().is_some_and(exists) {
            faults.push(format!("{id}: no such test: {test}"));
        }
    }
}

/// `file::name`: the file is one whose tests CI runs, and defines that test.
fn exists(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else { return false };
    let collected = COLLECTED.iter().any(|(start, end)| file.starts_with(start) && file.ends_with(end));
    let by_cargo = file.ends_with(".rs") && (file.starts_with("src/") || file.starts_with("test/"));
    (collected || by_cargo) && root().join(file).is_file() && defines(file, &read(file), name)
}

fn defines(file: &str, text: &str, name: &str) -> bool {
    if file.ends_with(".py") {
        return name.starts_with("test") && text.contains(&format!("def {name}("));
    }
    if file.ends_with(".mjs") {
        return text.contains(&format!("test('{name}'"));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let attributes =
            lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        line.contains(&format!("fn {name}("))
            && attributes.into_iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

fn check(trace: &str, expected: &[&str]) {
    let requirements =
        "[requirement]\nA = { priority = \"P0\" }\nB = { priority = \"P1\" }\nC = { priority = \"P2\" }";
    let found = faults(&requirements.parse().unwrap(), &trace.parse().unwrap(), &|test| test == "f::t");
    assert_eq!(found, expected, "{trace}");
}

#[test]
fn a_gap_in_traceability_is_a_fault() {
    let good = "[requirement]\nA = [\"f::t\"]\n[open]\nB = { issue = 5 }";
    check(good, &[]);
    check("[requirement]\nA = [\"f::t\"]", &["B: P1, neither tested nor open"]);
    check("[open]\nB = { issue = 3 }", &["A: P0, neither tested nor open"]);
    check(&format!("{good}\nA = {{ issue = 3 }}"), &["A: both tested and open"]);
    check(&format!("{good}\nD = {{ issue = 3 }}"), &["D: unknown"]);
    check(&good.replace("f::t", "f::gone"), &["A: no such test: \"f::gone\""]);
    check(&good.replace("\"f::t\"", ""), &["A: no test"]);
    check(&good.replace("issue = 5", "issue = 5, so_far = [\"f::gone\"]"), &["B: no such test: \"f::gone\""]);
    for without in ["{}", "{ issue = 2 }", "{ issue = \"later\" }"] {
        check(&good.replace("{ issue = 5 }", without), &["B: open without the issue that will close it"]);
    }
}

#[test]
fn a_file_a_helper_and_a_test_that_nobody_runs_show_nothing() {
    assert!(exists("test/rules/traceability.rs::a_file_a_helper_and_a_test_that_nobody_runs_show_nothing"));
    for not in [
        ".ci/hygiene.py",
        "test/rules/traceability.rs",
        "test/rules/traceability.rs::defines",
        "test/rules/traceability.rs::a_file",
        "test/vectors/make_vectors.py::main",
        "spec/verifiers/python/test_pef_verify.py::setUp",
        "test/absent.rs::a_gap_in_traceability_is_a_fault",
    ] {
        assert!(!exists(not), "{not}");
    }
}
