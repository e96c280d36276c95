//! Random events survive encoding and decoding; random bytes are refused without a panic and without much memory.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;

use common::{codec, framed, read};
use plimsoll_schemas::codec::SchemaStore;
use plimsoll_schemas::event::Event;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// Counts the bytes that the current thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no cells any more; nobody measures it.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: passes all calls on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held at once, over what was held before.
fn most_held(work: impl FnOnce()) -> isize {
    let before = HELD.get();
    MOST.set(before);
    work();
    MOST.get() - before
}

/// Any JSON that fits the schema, as serde reads events from JSON.
fn any_json(schema: &Value, records: &mut HashMap<String, BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    match schema {
        Value::String(name) => match name.as_str() {
            "string" => prop_oneof![Just(String::new()), "\\PC{0,12}"].prop_map(Value::from).boxed(),
            "long" => any::<i64>().prop_map(Value::from).boxed(),
            "int" => any::<i32>().prop_map(Value::from).boxed(),
            "boolean" => any::<bool>().prop_map(Value::from).boxed(),
            "double" => (-1e300..1e300f64).prop_map(Value::from).boxed(),
            "bytes" => proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::from).boxed(),
            record => records[record].clone(),
        },
        Value::Array(union) => prop_oneof![Just(Value::Null), any_json(&union[1], records)].boxed(),
        Value::Object(object) => match object["type"].as_str().unwrap() {
            "array" => proptest::collection::vec(any_json(&object["items"], records), 0..3)
                .prop_map(Value::from)
                .boxed(),
            "map" => proptest::collection::btree_map("\\PC{0,6}", any_json(&object["values"], records), 0..3)
                .prop_map(|map| json!(map))
                .boxed(),
            _ => {
                let fields: Vec<(String, BoxedStrategy<Value>)> = object["fields"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|field| {
                        (field["name"].as_str().unwrap().to_owned(), any_json(&field["type"], records))
                    })
                    .collect();
                let (names, values): (Vec<String>, Vec<_>) = fields.into_iter().unzip();
                let record = values
                    .prop_map(move |values| Value::Object(names.iter().cloned().zip(values).collect()))
                    .boxed();
                records.insert(object["name"].as_str().unwrap().to_owned(), record.clone());
                record
            }
        },
        other => panic!("{other}"),
    }
}

fn any_event<E: Event + Debug>() -> impl Strategy<Value = E> {
    let schema: Value = serde_json::from_str(E::SCHEMA).unwrap();
    any_json(&schema, &mut HashMap::new()).prop_map(|json| serde_json::from_value(json).unwrap())
}

const CASES: u32 = 64;

fn survives<E: Event + PartialEq + Debug>(schema: &str) {
    let (codec, _) = codec();
    let reference = apache_avro::Schema::parse_str(E::SCHEMA).unwrap();
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    runner
        .run(&any_event::<E>(), |event| {
            let value = codec.encode_value(&event).unwrap();
            prop_assert_eq!(&codec.decode_value::<E>(&value).unwrap(), &event);
            let tree = apache_avro::from_avro_datum(&reference, &mut &value[5..], None).unwrap();
            prop_assert_eq!(apache_avro::from_value::<E>(&tree).unwrap(), event);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{schema}: {error}"));
}

#[test]
fn random_events_survive_encoding() {
    every_event!(survives);
}

/// Bytes held for each byte of input: an item of a list may take one byte on the wire for each of its fields, and up to
/// 24 in memory; a growing list is held twice for a moment.
const HELD_PER_BYTE: isize = 100;
/// Bytes held whatever the input: the largest event itself, error texts.
const HELD_BASE: isize = 64 * 1024;

fn decode_bounded<E: Event>(
    codec: &plimsoll_schemas::codec::Codec,
    value: &[u8],
) -> Result<(), TestCaseError> {
    let held = most_held(|| drop(codec.decode_value::<E>(value)));
    let bound = HELD_BASE + HELD_PER_BYTE * value.len() as isize;
    prop_assert!(held <= bound, "{} bytes made it hold {held}", value.len());
    Ok(())
}

fn is_refused_calmly<E: Event + PartialEq + Debug>(schema: &str) {
    let (codec, registry) = codec();
    let id = registry.id_of("", E::SCHEMA).unwrap();
    let example: E = serde_json::from_str(&read(&format!("examples/{schema}/full.json"))).unwrap();
    let good = codec.encode_value(&example).unwrap();
    // The schema is parsed once, before anything is measured.
    assert_eq!(codec.decode_value::<E>(&good).unwrap(), example);
    let mut runner = TestRunner::new(Config::with_cases(CASES));

    let bytes = proptest::collection::vec(any::<u8>(), 0..2000);
    runner.run(&bytes, |bytes| decode_bounded::<E>(&codec, &framed(id, &bytes))).unwrap();

    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4u8), 1..6);
    runner
        .run(&changes, |changes| {
            let mut value = good.clone();
            for (at, byte, kind) in changes {
                let at = 5 + at.index(value.len() - 5);
                match kind {
                    0 => value[at] = byte,
                    1 => value.insert(at, byte),
                    2 => value.truncate(at + 1),
                    _ => drop(value.remove(at)),
                }
                if value.len() < 6 {
                    value.push(byte);
                }
            }
            decode_bounded::<E>(&codec, &value)
        })
        .unwrap();

    // A length of 2^62 at every place.
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    for at in 5..good.len() {
        let value = [&good[..at], &huge, &good[at..]].concat();
        decode_bounded::<E>(&codec, &value).unwrap();
    }
}

#[test]
fn random_bytes_are_refused_calmly() {
    every_event!(is_refused_calmly);
}

#[test]
fn the_counter_counts() {
    assert!(most_held(|| drop(vec![0u8; 1 << 20])) >= 1 << 20);
    assert!(most_held(|| ()) < 1 << 10);
    // Strategies make more than one value.
    let mut runner = TestRunner::deterministic();
    let schema = json!({"type": "record", "name": "R", "fields": [{"name": "x", "type": "long"}]});
    let strategy = any_json(&schema, &mut HashMap::new());
    let mut value = || strategy.new_tree(&mut runner).unwrap().current();
    assert_ne!(value(), value());
}
