//! Records as the builder keeps them in memory: strings interned, severity computed, only what the file needs.
//! Never decides what matches what; that is the folding and the matching.

use super::osv::{OsvAffected, OsvEvent, OsvRange, OsvRecord, OsvSeverity, is_cve};
use crate::format::{
    EVENT_FIXED, EVENT_INTRODUCED, EVENT_LAST_AFFECTED, EVENT_LIMIT, RANGE_ECOSYSTEM, RANGE_SEMVER,
    RANGE_UNORDERED,
};
use crate::severity::Rating;
use crate::time::parse_ms;
use crate::version::{Scheme, sort_by_version};
use std::collections::HashMap;
use std::rc::Rc;

/// Number of a string while building; 0 is the empty string.
pub(super) type Text = u32;

/// Gives every distinct string one number, in order of first sight.
#[derive(Default)]
pub(super) struct Interner {
    numbers: HashMap<Rc<str>, Text>,
    texts: Vec<Rc<str>>,
}

impl Interner {
    pub fn new() -> Self {
        let mut interner = Interner::default();
        interner.number("");
        interner
    }

    pub fn number(&mut self, text: &str) -> Text {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as Text;
        let text: Rc<str> = text.into();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    pub fn text(&self, number: Text) -> &str {
        &self.texts[number as usize]
    }

    pub fn texts(&self) -> &[Rc<str>] {
        &self.texts
    }
}

/// A CVSS vector (or none) with its rating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rated {
    pub vector: Text,
    pub rating: Rating,
}

pub(super) struct Record {
    pub id: Text,
    pub aliases: Vec<Text>,
    /// CVE ids among the record's own id and aliases: other names of the same vulnerability.
    pub own_cves: Vec<Text>,
    /// CVE ids that the record fixes: `upstream`, or for older Debian advisories `related`.
    pub upstream_cves: Vec<Text>,
    pub summary: Text,
    pub source: Text,
    pub rated: Rated,
    pub withdrawn: bool,
    pub published_ms: i64,
    pub modified_ms: i64,
    pub affected: Vec<Affected>,
}

pub(super) struct Affected {
    pub ecosystem: Text,
    pub name: Text,
    pub ranges: Vec<Range>,
    /// Canonical where the ecosystem has a version order.
    pub versions: Vec<Text>,
    /// Import paths of the Go packages that hold the vulnerability, with their platforms; empty: the whole module.
    pub imports: Vec<Text>,
    pub urgency: Text,
    pub rated: Rated,
}

pub(super) struct Range {
    pub kind: u32,
    pub events: Vec<(u32, Text)>,
}

/// The ecosystem without its release (`Debian:12` → `Debian`).
pub(super) fn base_of(ecosystem: &str) -> &str {
    ecosystem.split_once(':').map_or(ecosystem, |(base, _)| base)
}

/// Takes over what the database keeps. `unusable` is told about package entries that cannot be evaluated.
pub(super) fn reduce(osv: &OsvRecord, strings: &mut Interner, unusable: &mut dyn FnMut(String)) -> Record {
    let summary = osv.summary_line();
    let cves = |ids: &[String], strings: &mut Interner| -> Vec<Text> {
        ids.iter().filter(|id| is_cve(id)).map(|id| strings.number(id)).collect()
    };
    let mut own_cves = cves(std::slice::from_ref(&osv.id), strings);
    own_cves.extend(cves(&osv.aliases, strings));
    own_cves.dedup();
    let mut upstream_cves = cves(&osv.upstream, strings);
    let debian = |a: &OsvAffected| a.package.as_ref().is_some_and(|p| base_of(&p.ecosystem) == "Debian");
    if osv.affected.iter().any(debian) {
        if upstream_cves.is_empty() {
            upstream_cves = cves(&osv.related, strings);
        }
    } else if !own_cves.is_empty() {
        // Elsewhere `upstream` names what a bundled library suffers from; the record's own CVE says it all.
        upstream_cves.clear();
    }
    let mut rated = best_vector(&osv.severity, strings);
    if !rated.rating.is_known()
        && let Some(word) = osv.severity_word()
    {
        rated.rating = Rating::of_word(word);
    }
    Record {
        id: strings.number(&osv.id),
        aliases: osv.aliases.iter().filter(|a| **a != osv.id).map(|a| strings.number(a)).collect(),
        own_cves,
        upstream_cves,
        summary: strings.number(&summary),
        source: strings.number(osv.source().unwrap_or("")),
        rated,
        withdrawn: osv.withdrawn.is_some(),
        published_ms: parse_ms(&osv.published),
        modified_ms: parse_ms(&osv.modified),
        affected: osv.affected.iter().filter_map(|a| reduce_affected(a, strings, unusable)).collect(),
    }
}

fn reduce_affected(
    osv: &OsvAffected,
    strings: &mut Interner,
    unusable: &mut dyn FnMut(String),
) -> Option<Affected> {
    let package = osv.package.as_ref().filter(|p| !p.name.is_empty() && !p.ecosystem.is_empty())?;
    let scheme = Scheme::of_osv_ecosystem(base_of(&package.ecosystem));
    let ranges: Vec<Range> = osv.ranges.iter().filter_map(|r| reduce_range(r, scheme, strings)).collect();
    let mut versions: Vec<Text> = osv
        .versions
        .iter()
        .map(|v| strings.number(&scheme.map_or_else(|| v.clone(), |scheme| scheme.canonical(v))))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.is_empty() && !ranges.is_empty() && ranges.iter().all(|r| r.kind == RANGE_UNORDERED) {
        unusable(package.name.clone());
    }
    let name = scheme.map_or(package.name.as_str().into(), |scheme| scheme.normalise_name(&package.name));
    Some(Affected {
        ecosystem: strings.number(&package.ecosystem),
        name: strings.number(&name),
        ranges,
        versions,
        imports: osv.imports().map(|import| strings.number(&import)).collect(),
        urgency: strings.number(osv.urgency().unwrap_or("")),
        rated: affected_rating(osv, strings),
    })
}

/// `None` for GIT ranges and kinds of a later schema. Events of ordered ecosystems get sorted; the sort
/// is stable, so "fixed 1.0, introduced 1.0" of adjoining intervals keeps the order of the export.
fn reduce_range(osv: &OsvRange, scheme: Option<Scheme>, strings: &mut Interner) -> Option<Range> {
    let mut kind = match osv.kind.as_str() {
        "ECOSYSTEM" => RANGE_ECOSYSTEM,
        "SEMVER" => RANGE_SEMVER,
        _ => return None,
    };
    let mut events: Vec<(u32, &str)> = osv.events.iter().flat_map(event_parts).collect();
    if let Some(scheme) = scheme {
        let ordered = |event: &(u32, &str)| is_open_end(event) || scheme.parse(event.1).is_some();
        if events.iter().all(ordered) {
            sort_by_version(&mut events, |a, b| compare_events(scheme, a, b));
        } else {
            kind = RANGE_UNORDERED;
        }
    }
    Some(Range {
        kind,
        events: events.into_iter().map(|(kind, text)| (kind, strings.number(text))).collect(),
    })
}

/// `introduced: "0"` is before every version, `limit: "*"` behind every one.
fn is_open_end(&(kind, text): &(u32, &str)) -> bool {
    (kind == EVENT_INTRODUCED && text == "0") || (kind == EVENT_LIMIT && text == "*")
}

fn compare_events(scheme: Scheme, a: &(u32, &str), b: &(u32, &str)) -> std::cmp::Ordering {
    let rank = |event: &(u32, &str)| match is_open_end(event) {
        true if event.0 == EVENT_INTRODUCED => 0,
        true => 2,
        false => 1,
    };
    rank(a).cmp(&rank(b)).then_with(|| match (scheme.parse(a.1), scheme.parse(b.1)) {
        (Some(x), Some(y)) if rank(a) == 1 => x.compare(&y).unwrap_or(std::cmp::Ordering::Equal),
        _ => std::cmp::Ordering::Equal,
    })
}

fn event_parts(event: &OsvEvent) -> impl Iterator<Item = (u32, &str)> {
    [
        (EVENT_INTRODUCED, &event.introduced),
        (EVENT_FIXED, &event.fixed),
        (EVENT_LAST_AFFECTED, &event.last_affected),
        (EVENT_LIMIT, &event.limit),
    ]
    .into_iter()
    .filter_map(|(kind, text)| Some((kind, text.as_deref()?)))
}

/// RustSec's notices that a crate is unmaintained are no vulnerability: `none`, unless somebody scored it.
fn affected_rating(osv: &OsvAffected, strings: &mut Interner) -> Rated {
    let mut rated = best_vector(&osv.severity, strings);
    if !rated.rating.is_known() && matches!(osv.informational(), Some("unmaintained" | "notice")) {
        rated.rating = Rating::of_word("none");
    }
    rated
}

fn best_vector(severities: &[OsvSeverity], strings: &mut Interner) -> Rated {
    let rated = severities.iter().map(|s| match Rating::of_vector(&s.score) {
        Some(rating) => (rating, s.score.as_str()),
        None if s.kind.starts_with("CVSS") => (Rating::default(), ""),
        None => (Rating::of_word(&s.score), ""),
    });
    let best = rated.max_by_key(|(rating, _)| rating.preference()).filter(|(rating, _)| rating.is_known());
    best.map_or_else(Rated::default, |(rating, vector)| Rated { vector: strings.number(vector), rating })
}
