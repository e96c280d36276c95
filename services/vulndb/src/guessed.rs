//! Maven packages whose group is a guess: also asks for the same artifact of other groups that are plausible.
//! Never lets a wrong guess become "nothing found" unsaid, nor accuses a package of what only its artifact id shares.

use crate::finding::Matches;
use crate::format::PackageRow;
use crate::image::Read;
use crate::matching::Database;
use crate::query::{Assessment, Finding, NotApplicable, NotAssessedCode, PackageQuery};
use crate::ranges::Installed;
use std::collections::HashMap;

/// Fewest letters of a word that may be the beginning of a longer one (`spring` of `springframework`).
const MIN_WORD_BYTES: usize = 4;
/// Names of packages that a reason shows.
const MAX_SHOWN_NAMES: usize = 3;

/// String ids of the names `group:artifact` that the database knows, by artifact. Read once, when first asked for: the
/// names are sorted by group, and there are some thousands.
pub(crate) type NamesByArtifact = HashMap<String, Vec<u32>>;

impl Database {
    /// Completes the answer for a package whose group is a guess; `own` is what is known under the guessed name.
    pub(crate) fn assess_guessed(
        &self,
        query: &PackageQuery<'_>,
        hints: &[String],
        feed: &str,
        installed: &Installed<'_>,
        own: Matches,
    ) -> Read<Assessment> {
        let subject = [query.name, " ", query.version].concat();
        let answer = self.answer(&subject, feed, installed, own)?;
        let Assessment::Assessed { database_version, feeds, mut findings, mut not_applicable } = answer
        else {
            return Ok(answer);
        };
        let (guess, artifact) = query.name.rsplit_once(':').unwrap_or(("", query.name));
        let names = self.names_by_artifact()?.get(artifact).map_or(&[][..], Vec::as_slice);
        let mut unrelated: Vec<(&str, Vec<Finding>)> = Vec::new();
        let mut is_known = false;
        for &id in names {
            let name = self.image.string(id)?;
            if name == query.name {
                is_known = true;
                continue;
            }
            let group = name.rsplit_once(':').map_or("", |(group, _)| group);
            let matches = self.collect(self.ecosystem_ids(feed), name, installed, None)?;
            let subject = [name, " ", query.version].concat();
            let found = matches.fold(&self.image, &subject, installed)?;
            if is_plausible(group, artifact, guess, hints) {
                for mut finding in found {
                    if findings.iter().all(|known| known.id != finding.id) {
                        finding.match_reason.push_str(&reason_of_guess(name, guess));
                        findings.push(finding);
                    }
                }
            } else if !found.is_empty() {
                unrelated.push((name, found));
            }
        }
        findings.sort_by(|a, b| a.id.cmp(&b.id));
        // A name that the database knows is no worse than any other: the namesakes are other packages.
        if is_known {
            unrelated.clear();
        }
        if guess.is_empty() && findings.is_empty() && !unrelated.is_empty() {
            return Ok(group_unknown(artifact, &unrelated));
        }
        for (name, found) in unrelated {
            not_applicable.extend(found.into_iter().map(|finding| NotApplicable {
                reason: format!(
                    "it is for {name}, and nothing in this archive points to that group; its own, {guess}, is a guess"
                ),
                id: finding.id,
            }));
        }
        not_applicable.sort_by(|a, b| a.id.cmp(&b.id));
        not_applicable.dedup_by(|a, b| a.id == b.id);
        not_applicable.retain(|one| findings.iter().all(|finding| finding.id != one.id));
        Ok(Assessment::Assessed { database_version, feeds, findings, not_applicable })
    }

    fn names_by_artifact(&self) -> Read<&NamesByArtifact> {
        if let Some(names) = self.names_by_artifact.get() {
            return Ok(names);
        }
        let maven: Vec<u32> = self.ecosystem_ids("Maven").collect();
        let mut names = NamesByArtifact::new();
        for index in 0..self.image.count::<PackageRow>() {
            let row: PackageRow = self.image.row(index)?;
            if maven.contains(&row.ecosystem)
                && let Some((_, artifact)) = self.image.string(row.name)?.rsplit_once(':')
            {
                names.entry(artifact.to_owned()).or_default().push(row.name);
            }
        }
        // Ids are in the order of the names; a name may stand in several ecosystem strings.
        for ids in names.values_mut() {
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(self.names_by_artifact.get_or_init(|| names))
    }
}

fn reason_of_guess(name: &str, guess: &str) -> String {
    if guess.is_empty() {
        return format!("; that it is {name} is a guess: the archive does not name its group");
    }
    format!("; that it is {name} is a guess: the archive does not name its group, which may also be {guess}")
}

fn group_unknown(artifact: &str, namesakes: &[(&str, Vec<Finding>)]) -> Assessment {
    let names: Vec<&str> = namesakes.iter().take(MAX_SHOWN_NAMES).map(|(name, _)| *name).collect();
    let more = namesakes.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Assessment::NotAssessed {
        code: NotAssessedCode::UnknownGroup,
        reason: format!(
            "nothing in the archive tells the Maven group of {artifact}; this version of {}{more} is vulnerable",
            names.join(", ")
        ),
        remedy: "look up which of them it is, and use a build of it that has META-INF/maven/…/pom.properties"
            .into(),
    }
}

/// Whether an artifact whose group is guessed may be that of another group: both begin with the same two parts, as
/// something else does that the archive says of itself, or the artifact is called after the group or the project.
fn is_plausible(group: &str, artifact: &str, guess: &str, hints: &[String]) -> bool {
    let group = group.to_ascii_lowercase();
    let artifact = artifact.to_ascii_lowercase();
    let parts: Vec<&str> = group.split('.').collect();
    let shares_domain = |hint: &str| {
        let hint = hint.to_ascii_lowercase();
        let mut of_hint = hint.split('.');
        match parts[..] {
            // From before groups were domains: `xerces`, `mysql`.
            [only] => of_hint.skip(1).any(|part| part == only),
            [first, second, ..] => of_hint.next() == Some(first) && of_hint.next() == Some(second),
            [] => false,
        }
    };
    if std::iter::once(guess).chain(hints.iter().map(String::as_str)).any(shares_domain) {
        return true;
    }
    if parts.len() > 1 && artifact.starts_with(&group) {
        return true;
    }
    let word = artifact.split(['-', '_', '.']).next().unwrap_or_default();
    let own = if parts.len() > 1 { &parts[1..] } else { &parts[..] };
    own.iter().any(|part| {
        let (short, long) = if part.len() < word.len() { (*part, word) } else { (word, *part) };
        short == long || (short.len() >= MIN_WORD_BYTES && long.starts_with(short))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, guess: &str, hints: &[&str], expect: bool) {
        let hints: Vec<String> = hints.iter().map(|hint| (*hint).to_owned()).collect();
        let (group, artifact) = name.split_once(':').unwrap_or_default();
        assert_eq!(is_plausible(group, artifact, guess, &hints), expect, "{name} for {guess}");
    }

    #[test]
    fn groups_that_may_be_meant() {
        check("org.bouncycastle:bcprov-jdk18on", "org.bouncycastle.jcajce", &[], true);
        check("org.springframework:spring-jcl", "org.apache.commons", &["spring.jcl"], true);
        check("org.apache.groovy:groovy", "org.codehaus.groovy", &["org.apache.groovy"], true);
        check("com.acme:tool", "net.other", &["com.acme.tool"], true);
        check("mysql:mysql-connector-java", "com.mysql.cj", &[], true);
        check("mysql:connector", "com.mysql", &[], true);
        check("xerces:xercesImpl", "org.w3c.dom", &[], true);
        check("jakarta.servlet:jakarta.servlet-api", "org.eclipse", &[], true);
        check("com.alibaba:common", "com.acme.shop", &["com.acme"], false);
        check("com.alibaba:api", "", &[], false);
        check("com:common", "com.acme", &[], false);
        check("org.abc:ab-c", "net.x", &[], false);
    }
}
