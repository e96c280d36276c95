//! What stands in `bpf/` and in Rust is the same: numbers of the wire, and which library carries which interpreter.

use std::collections::{BTreeMap, BTreeSet};

use super::event_flag;
use crate::hooks::language::{LIBRARIES, Language};
use crate::sweep::{Carried, Reader};

/// What user space has no use for: bounds and buffers of the programs, and what only they tell apart.
const OF_THE_KERNEL: [&str; 6] =
    ["EVENT_SPACE", "PROGRAM_PLAIN", "TRACKED_STARTED_PYTHON", "COUNTER_COUNT", "MAX_", "SCRATCH_"];
/// Sizes that stand in the structs of `wire.rs`, which are compared with the object's BTF.
const SIZES: [&str; 5] =
    ["NAME_BYTES", "PATH_SPACE", "ARGUMENT_BYTES", "HASHED_ARGUMENT_BYTES", "CGROUP_NAME"];

fn number(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches('u').replace('_', "");
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
}

/// Constants of enums and macros that are numbers.
fn of_c(source: &str) -> BTreeMap<String, u64> {
    let mut code = String::new();
    for (index, part) in source.split("/*").enumerate() {
        code.push_str(if index == 0 { part } else { part.split_once("*/").unwrap().1 });
    }
    let mut found = BTreeMap::new();
    for macro_ in code.lines().filter_map(|line| line.strip_prefix("#define ")) {
        let (name, value) = macro_.split_once(' ').unwrap();
        found.extend(number(value).map(|value| (name.to_owned(), value)));
    }
    for body in code.split("enum {").skip(1).map(|rest| rest.split('}').next().unwrap()) {
        let mut next = 0;
        for one in body.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (name, value) = one.split_once('=').map_or((one, next), |(name, value)| {
                (name.trim(), number(value).unwrap_or_else(|| panic!("{one} is no number")))
            });
            found.insert(name.to_owned(), value);
            next = value + 1;
        }
    }
    found
}

/// Constants of `wire.rs` by the names that they have in C: a module's stand behind its word.
fn of_rust(source: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut prefix = "";
    for line in source.lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            prefix = match module.trim_end_matches(" {") {
                "event_kind" | "event_flag" => "EVENT_",
                "program" => "PROGRAM_",
                "reader" => "READER_",
                "workload_flag" => "WORKLOAD_",
                "counter" => "COUNTER_",
                other => panic!("what are the constants of {other} called in wire.h?"),
            };
        } else if line == "}" {
            prefix = "";
        }
        if let Some((name, value)) =
            line.trim().strip_prefix("pub const ").and_then(|rest| rest.split_once(':'))
        {
            let value = value.split_once('=').unwrap().1.trim_end_matches(';');
            found.insert(format!("{prefix}{name}"), number(value).unwrap());
        }
    }
    found
}

#[test]
fn both_sides_have_the_same_numbers() {
    let mut kernel = of_c(include_str!("../../bpf/wire.h"));
    kernel.retain(|name, _| {
        !OF_THE_KERNEL.iter().any(|own| name.starts_with(own)) && !SIZES.contains(&name.as_str())
    });
    assert_eq!(kernel, of_rust(include_str!("wire.rs")));
}

#[test]
fn each_class_of_reader_is_known() {
    let mut classes = of_rust(include_str!("wire.rs"));
    classes.retain(|name, _| name.starts_with("READER_") && name != "READER_PROVISIONAL");
    for (name, class) in classes {
        let class = u32::try_from(class).unwrap();
        assert_eq!(Reader::of_class(class).class(), class, "{name}");
    }
}

/// The text between two others.
fn between<'a>(source: &'a str, from: &str, to: &str) -> &'a str {
    let rest = source.split_once(from).unwrap_or_else(|| panic!("{from} is not there")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("nothing ends {from}")).0
}

/// Beginnings that a piece of C compares a name with.
fn compared(code: &str) -> Vec<&str> {
    let calls = code.split("starts_with(name.name, \"").skip(1);
    calls
        .map(|call| {
            let (beginning, rest) = call.split_once("\", ").unwrap();
            let length: usize = rest.split_once(')').unwrap().0.parse().unwrap();
            assert_eq!(length, beginning.len(), "{beginning}");
            beginning
        })
        .collect()
}

#[test]
fn the_kernel_knows_the_same_libraries() {
    let embed = between(include_str!("../../bpf/system_calls.h"), "bool embed(", "\n}");
    let (first_look, table) = embed.split_once("return false;").unwrap();
    let bits: BTreeMap<String, u64> = of_c(include_str!("../../bpf/wire.h"));
    let mut kernel = BTreeSet::new();
    // A condition, and what it sets.
    let rows: Vec<_> = table.split("carries = ").collect();
    for pair in rows.windows(2) {
        let name = pair[1].split_once(';').unwrap().0;
        let carried = Carried::of_bits(u32::try_from(bits[name]).unwrap());
        let languages: Vec<_> = Language::ALL.into_iter().filter(|one| carried.has(*one)).collect();
        let [language] = languages[..] else { panic!("{name} is of {languages:?}") };
        kernel.extend(compared(pair[0]).into_iter().map(|beginning| (beginning, language)));
    }
    assert_eq!(kernel, LIBRARIES.iter().copied().collect());
    let looked_at = compared(first_look);
    for (beginning, _) in LIBRARIES {
        assert!(looked_at.iter().any(|known| beginning.starts_with(known)), "{beginning} is passed over");
    }
}

#[test]
fn each_language_has_a_bit_of_its_own() {
    for language in Language::ALL {
        let carried: Carried = [language].into_iter().collect();
        assert!(carried.bits().is_power_of_two() && carried.bits() > event_flag::OF_PROCESS, "{language:?}");
        assert_eq!(Language::ALL.into_iter().filter(|one| carried.has(*one)).collect::<Vec<_>>(), [language]);
        assert!(LIBRARIES.iter().any(|(_, of)| *of == language), "no library carries {language:?}");
    }
}
