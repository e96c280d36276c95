//! The end state and the outputs are the same however the topics interleave, however the inputs are batched, however
//! often they come, and wherever the correlator is stopped and loaded again.

#![allow(clippy::unwrap_used)]

mod support;

use plimsoll_correlator_core::{Artifact, Event, Order};
use proptest::prelude::*;
use support::{Compacted, IMAGE, run, world};

/// What happens between two events.
#[derive(Clone, Copy, Debug)]
enum Step {
    Nothing,
    /// The batch ends.
    Finish,
    /// The batch ends, and the state is loaded anew.
    Reload,
}

fn reference() -> Compacted {
    let mut artifact = Artifact::new(IMAGE);
    for (event, order) in world().into_iter().flatten() {
        artifact.apply(event, order).unwrap();
    }
    let mut compacted = Compacted::default();
    compacted.take(artifact.finish());
    compacted
}

fn replay(events: Vec<(Event, Order)>, steps: &[Step]) -> Compacted {
    let mut artifact = Artifact::new(IMAGE);
    let mut compacted = Compacted::default();
    for (number, (event, order)) in events.into_iter().enumerate() {
        artifact.apply(event, order).unwrap();
        match steps[number % steps.len()] {
            Step::Nothing => {}
            Step::Finish => compacted.take(artifact.finish()),
            Step::Reload => {
                compacted.take(artifact.finish());
                artifact = compacted.load();
            }
        }
    }
    compacted.take(artifact.finish());
    compacted
}

fn assert_same(got: &Compacted, expect: &Compacted) {
    for (key, value) in &expect.outputs {
        assert_eq!(got.outputs.get(key), Some(value), "{} {}", key.0, String::from_utf8_lossy(&key.1));
    }
    assert_eq!(got.outputs.len(), expect.outputs.len());
    let kinds = |c: &Compacted| -> Vec<String> {
        c.state.keys().map(|(kind, id)| format!("{kind} {}", String::from_utf8_lossy(id))).collect()
    };
    assert_eq!(kinds(got), kinds(expect));
    for (key, body) in &expect.state {
        assert_eq!(got.state.get(key), Some(body), "state {} {}", key.0, String::from_utf8_lossy(&key.1));
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Nothing), Just(Step::Finish), Just(Step::Reload)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn interleavings_of_topics_give_the_same(
        choices in prop::collection::vec(any::<prop::sample::Index>(), 120),
        duplicates in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        steps in prop::collection::vec(step(), 1..12),
    ) {
        // Each topic in its own order, the topics mixed; some records come again later, as after an abort.
        let mut topics: Vec<std::collections::VecDeque<_>> = world().into_iter().map(Into::into).collect();
        let mut events = Vec::new();
        let mut choices = choices.iter().cycle();
        while !topics.is_empty() {
            let at = choices.next().unwrap().index(topics.len());
            events.extend(topics[at].pop_front());
            topics.retain(|topic| !topic.is_empty());
        }
        for duplicate in duplicates {
            let from = duplicate.index(events.len());
            let again = events[from].clone();
            let to = from + 1 + duplicate.index(events.len() - from);
            events.insert(to, again);
        }
        assert_same(&replay(events, &steps), &reference());
    }

    #[test]
    fn even_within_a_topic_the_order_of_arrival_does_not_matter(
        events in Just(world().into_iter().flatten().collect::<Vec<_>>()).prop_shuffle(),
        steps in prop::collection::vec(step(), 1..12),
    ) {
        assert_same(&replay(events, &steps), &reference());
    }
}

#[test]
fn scanning_first_and_running_first_end_the_same() {
    let topics = world();
    let (scans, runs) = topics.split_at(3);
    let scan_first = run(scans.iter().chain(runs).flatten().cloned());
    let run_first = run(runs.iter().chain(scans).flatten().cloned());
    assert_same(&run_first, &scan_first);
    assert_same(&scan_first, &reference());
}

#[test]
fn a_replay_emits_nothing() {
    let mut artifact = Artifact::new(IMAGE);
    let mut compacted = Compacted::default();
    for (event, order) in world().into_iter().flatten() {
        artifact.apply(event, order).unwrap();
    }
    compacted.take(artifact.finish());
    let mut again = compacted.load();
    for (event, order) in world().into_iter().flatten() {
        again.apply(event, order).unwrap();
    }
    let finished = again.finish();
    assert_eq!(finished.outputs, Vec::new());
    for change in finished.changes {
        assert_eq!(compacted.state.get(&(change.kind, change.entity)), change.body.as_ref());
    }
}
