//! Is a version inside what a record says is affected: the OSV schema's evaluation algorithm
//! (<https://ossf.github.io/osv-schema/#evaluation>). Never calls a version affected by a boundary it cannot order.

use crate::format::*;
use crate::image::{Image, List, Read};
use crate::version::{Scheme, Version};
use std::cell::OnceCell;
use std::cmp::Ordering;

/// An installed version, parsed once for all records.
pub(crate) struct Installed<'a> {
    pub scheme: Scheme,
    pub version: Version<'a>,
    /// String ids of its canonical spellings, looked up when the first list of versions needs them.
    spellings: OnceCell<[Option<u32>; 2]>,
}

impl<'a> Installed<'a> {
    /// `None` where the scheme refuses the version.
    pub fn parse(scheme: Scheme, text: &'a str) -> Option<Self> {
        Some(Installed { scheme, version: scheme.parse(text)?, spellings: OnceCell::new() })
    }

    fn is_listed(&self, image: &Image, versions: List<'_>) -> Read<bool> {
        let spellings = match self.spellings.get() {
            Some(spellings) => *spellings,
            None => {
                let (full, public) = self.version.spellings();
                let public = public.map(|text| image.find_string(&text)).transpose()?.flatten();
                let found = [image.find_string(&full)?, public];
                *self.spellings.get_or_init(|| found)
            }
        };
        Ok(spellings.iter().flatten().any(|&id| versions.contains_sorted(id)))
    }
}

/// Why a version is affected. Numbers are string ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Below a fix.
    Fixed { introduced: Option<u32>, fixed: u32 },
    /// Up to a last affected version.
    LastAffected { introduced: Option<u32>, last_affected: u32 },
    /// Nothing ends the range.
    NoFix { introduced: Option<u32> },
    /// In the list of versions.
    Listed,
}

/// A match with the fixes that the record offers, as string ids.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub cause: Cause,
    /// Only for [`Cause::Listed`]: a range's fix stands in its cause.
    listed_fixes: Vec<u32>,
}

impl Hit {
    pub fn fixed(&self) -> &[u32] {
        match &self.cause {
            Cause::Fixed { fixed, .. } => std::slice::from_ref(fixed),
            _ => &self.listed_fixes,
        }
    }
}

/// Evaluates one record's entry for the package.
pub(crate) fn evaluate(image: &Image, row: &AffectedRow, installed: &Installed<'_>) -> Read<Option<Hit>> {
    let ranges = Ranges(image.list(row.ranges)?);
    for (kind, events) in ranges.iter() {
        if is_ordered(kind)
            && let Some(hit) = in_range(image, events, installed)?
        {
            return Ok(Some(hit));
        }
    }
    let versions = image.list(row.versions)?;
    if versions.len() == 0 || !installed.is_listed(image, versions)? {
        return Ok(None);
    }
    let mut listed_fixes = Vec::new();
    for (kind, events) in ranges.iter() {
        listed_fixes.extend(first_fix_above(image, kind, events, installed)?);
    }
    Ok(Some(Hit { cause: Cause::Listed, listed_fixes }))
}

/// The boundaries have a place in the ecosystem's order: that of npm, Go and crates.io is the one that SEMVER
/// ranges mean; elsewhere a publisher wrote SEMVER for versions that both orders read alike.
fn is_ordered(kind: u32) -> bool {
    kind == RANGE_ECOSYSTEM || kind == RANGE_SEMVER
}

struct Ranges<'a>(List<'a>);

impl<'a> Ranges<'a> {
    /// (kind, events); stops at a length that does not fit, which a sealed file never has.
    fn iter(&self) -> impl Iterator<Item = (u32, Events<'a>)> {
        let list = self.0;
        let mut at = 0;
        std::iter::from_fn(move || {
            let (kind, count) = (list.get(at)?, list.get(at + 1)? as usize);
            let first = at + 2;
            at = count
                .checked_mul(2)
                .and_then(|words| first.checked_add(words))
                .filter(|&end| end <= list.len())?;
            Some((kind, Events { list, first, count }))
        })
    }
}

#[derive(Clone, Copy)]
struct Events<'a> {
    list: List<'a>,
    first: usize,
    count: usize,
}

impl Events<'_> {
    fn last(self) -> Option<(u32, u32)> {
        let at = self.first + 2 * self.count.checked_sub(1)?;
        Some((self.list.get(at)?, self.list.get(at + 1)?))
    }

    /// (event kind, string id of the version)
    fn iter(self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.count).filter_map(move |i| {
            Some((self.list.get(self.first + 2 * i)?, self.list.get(self.first + 2 * i + 1)?))
        })
    }
}

/// Where the installed version stands relative to an event's.
fn compare(image: &Image, kind: u32, text_id: u32, installed: &Installed<'_>) -> Read<Option<Ordering>> {
    let text = image.string(text_id)?;
    Ok(match (kind, text) {
        (EVENT_INTRODUCED, "0") => Some(Ordering::Greater),
        (EVENT_LIMIT, "*") => Some(Ordering::Less),
        _ => {
            installed.scheme.parse(text).and_then(|boundary| installed.version.compare_to_boundary(&boundary))
        }
    })
}

/// Most installed versions are above the last fix, which is the last event: one comparison instead of all.
fn is_above_last_fix(image: &Image, events: Events<'_>, installed: &Installed<'_>) -> Read<bool> {
    let Some((kind, text_id)) = events.last().filter(|&(kind, _)| kind == EVENT_FIXED) else {
        return Ok(false);
    };
    Ok(compare(image, kind, text_id, installed)?.is_some_and(Ordering::is_ge))
}

fn in_range(image: &Image, events: Events<'_>, installed: &Installed<'_>) -> Read<Option<Hit>> {
    if events.count > 2 && is_above_last_fix(image, events, installed)? {
        return Ok(None);
    }
    let (mut limits, mut below_limit) = (false, false);
    let mut introduced = None;
    let mut affected = false;
    // The first fix above the installed version; events are sorted.
    let mut end = None;
    for (kind, text_id) in events.iter() {
        let Some(order) = compare(image, kind, text_id, installed)? else { return Ok(None) };
        match (kind, order) {
            (EVENT_LIMIT, order) => {
                limits = true;
                below_limit |= order.is_lt();
            }
            (EVENT_INTRODUCED, order) if order.is_ge() => {
                affected = true;
                introduced = Some(text_id);
            }
            (EVENT_FIXED, order) if order.is_ge() => affected = false,
            (EVENT_LAST_AFFECTED, Ordering::Greater) => affected = false,
            // Events are sorted: nothing behind one above the installed version can make it affected.
            (_, Ordering::Less) if !affected => return Ok(None),
            (EVENT_FIXED | EVENT_LAST_AFFECTED, _) if end.is_none() => end = Some((kind, text_id)),
            _ => {}
        }
        // A limit counts wherever it stands; without one that is still open, the rest changes nothing.
        if end.is_some() && (below_limit || !limits) {
            break;
        }
    }
    if !affected || (limits && !below_limit) {
        return Ok(None);
    }
    let introduced = match introduced {
        Some(id) if image.string(id)? != "0" => Some(id),
        _ => None,
    };
    let cause = match end {
        Some((EVENT_FIXED, fixed)) => Cause::Fixed { introduced, fixed },
        Some((_, last_affected)) => Cause::LastAffected { introduced, last_affected },
        None => Cause::NoFix { introduced },
    };
    Ok(Some(Hit { cause, listed_fixes: Vec::new() }))
}

/// For a version that is only listed: the next fix of the range, or all fixes where they have no order.
fn first_fix_above(
    image: &Image,
    kind: u32,
    events: Events<'_>,
    installed: &Installed<'_>,
) -> Read<Vec<u32>> {
    let mut fixes = Vec::new();
    for (event, text_id) in events.iter().filter(|&(event, _)| event == EVENT_FIXED) {
        match compare(image, event, text_id, installed)? {
            Some(order) if order.is_lt() && is_ordered(kind) => return Ok(vec![text_id]),
            Some(order) if order.is_ge() => {}
            _ => fixes.push(text_id),
        }
    }
    Ok(fixes)
}
