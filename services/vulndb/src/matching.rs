//! Answers "which vulnerabilities has this package": chooses the feed, evaluates its records, folds them.
//! Never answers for an ecosystem, distribution or release that no feed covers.

use crate::error::{Damage, DatabaseError};
use crate::finding::Matches;
use crate::format::{AffectedRow, EcosystemRow, FEED_OSV, FeedRow, PackageRow, RecordRow};
use crate::guessed::NamesByArtifact;
use crate::image::{Image, Read};
use crate::platform::Platform;
use crate::query::{Assessment, NotApplicable, NotAssessedCode, PackageQuery};
use crate::ranges::{Installed, evaluate};
use crate::version::Scheme;
use std::cmp::Ordering;
use std::path::Path;
use std::sync::OnceLock;

/// An open database. Opening reads the header and the names of the feeds; everything else is read in place
/// when asked for.
/// Shared between threads freely.
pub struct Database {
    pub(crate) image: Image,
    version: String,
    /// OSV names of the ecosystems whose folder the export had. A stray entry in another folder is no
    /// coverage.
    ecosystems: Vec<String>,
    /// String ids of the ecosystem strings of the data, with the ecosystem each belongs to
    /// (`Packagist:https://…` → `Packagist`).
    ecosystem_strings: Vec<(String, u32)>,
    /// Names of the lists that are applied to every ecosystem.
    lists: Vec<String>,
    pub(crate) names_by_artifact: OnceLock<NamesByArtifact>,
}

const REBUILD: &str = "rebuild the database with `plimsoll db build OSV_DIR`";

/// Why there is no answer; becomes [`Assessment::NotAssessed`].
struct Unanswered {
    code: NotAssessedCode,
    reason: String,
    remedy: String,
}

impl From<Damage> for Unanswered {
    fn from(damage: Damage) -> Self {
        Unanswered {
            code: NotAssessedCode::DatabaseDamaged,
            reason: format!("the vulnerability database is damaged ({})", damage.0),
            remedy: REBUILD.into(),
        }
    }
}

/// How Plimsoll's ecosystem name is called in OSV.
pub(crate) fn osv_ecosystem(ecosystem: &str) -> &str {
    match ecosystem {
        "debian" => "Debian",
        "pypi" => "PyPI",
        "golang" => "Go",
        "cargo" => "crates.io",
        "gem" => "RubyGems",
        "composer" => "Packagist",
        "maven" => "Maven",
        "nuget" => "NuGet",
        other => other,
    }
}

impl Database {
    /// Opens a database.
    ///
    /// # Errors
    /// When the file is absent, of another kind or format, or damaged; the text names the remedy.
    pub fn open(path: &Path) -> Result<Database, DatabaseError> {
        let image = Image::open(path)?;
        let header = image.header();
        let version = crate::build::database_version(header.newest_modified_ms, &header.content_sha256);
        let mut database = Database {
            image,
            version,
            ecosystems: Vec::new(),
            ecosystem_strings: Vec::new(),
            lists: Vec::new(),
            names_by_artifact: OnceLock::new(),
        };
        database.read_feed_names().map_err(|damage| DatabaseError::damaged(path, damage))?;
        Ok(database)
    }

    fn read_feed_names(&mut self) -> Read<()> {
        let rows = self.feed_rows().collect::<Read<Vec<_>>>()?;
        for row in rows {
            let name = self.image.string(row.name)?;
            if row.kind == FEED_OSV {
                self.ecosystems.push(name.split(':').next().unwrap_or(name).to_owned());
            } else {
                self.lists.push(name.to_owned());
            }
        }
        for index in 0..self.image.count::<EcosystemRow>() {
            let row: EcosystemRow = self.image.row(index)?;
            self.ecosystem_strings.push((self.image.string(row.base)?.to_owned(), row.name));
        }
        Ok(())
    }

    /// Identifies the content; equal input gives equal versions.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Reads the whole file against its checksums. [`Database::open`] does not: each part is verified when
    /// it is first read.
    ///
    /// # Errors
    /// When any part is damaged.
    pub fn verify(&self) -> Result<(), DatabaseError> {
        self.image.verify_all().map_err(|damage| DatabaseError::damaged(self.image.path(), damage))
    }

    /// Assesses one package.
    pub fn match_package(&self, query: &PackageQuery<'_>) -> Assessment {
        match self.assess(query) {
            Ok(assessment) => assessment,
            Err(Unanswered { code, reason, remedy }) => Assessment::NotAssessed { code, reason, remedy },
        }
    }

    fn assess(&self, query: &PackageQuery<'_>) -> Result<Assessment, Unanswered> {
        let base = osv_ecosystem(query.ecosystem);
        let scheme = Scheme::of_osv_ecosystem(base);
        if base == "Debian" && query.distro_id != "debian" {
            return Err(other_distribution(query));
        }
        if !self.ecosystems.iter().any(|known| known == base) {
            return Err(Unanswered {
                code: NotAssessedCode::NoFeed,
                reason: format!("the vulnerability database has no feed for {base}"),
                remedy: format!(
                    "put {base}/all.zip of the OSV export into the export directory and {REBUILD}"
                ),
            });
        }
        match scheme {
            Some(Scheme::Dpkg) => self.assess_debian(query),
            Some(scheme) => self.assess_application_package(scheme, base, query),
            None => Err(Unanswered {
                code: NotAssessedCode::NoMatcher,
                reason: format!(
                    "records of {base} are in the database, but this version of plimsoll does not match them yet"
                ),
                remedy: "use a version of plimsoll that matches this ecosystem; the database can stay".into(),
            }),
        }
    }

    fn assess_debian(&self, query: &PackageQuery<'_>) -> Result<Assessment, Unanswered> {
        let release = self.debian_release(query.distro_version)?;
        let name = if query.source_name.is_empty() { query.name } else { query.source_name };
        let version = if query.source_version.is_empty() { query.version } else { query.source_version };
        let installed = Installed::parse(Scheme::Dpkg, version)
            .ok_or_else(|| unparseable(version, Scheme::Dpkg.title()))?;
        // A record without a release suffix holds for all of them.
        let mut ecosystems = Vec::with_capacity(2);
        for ecosystem in [&release, "Debian"] {
            ecosystems.extend(self.ecosystem_id(ecosystem)?);
        }
        let matches = self.collect(ecosystems.into_iter(), name, &installed, None)?;
        let subject = ["source package ", name, " ", version].concat();
        Ok(self.answer(&subject, &release, &installed, matches)?)
    }

    fn assess_application_package(
        &self,
        scheme: Scheme,
        ecosystem: &str,
        query: &PackageQuery<'_>,
    ) -> Result<Assessment, Unanswered> {
        let version = query.version;
        let installed =
            Installed::parse(scheme, version).ok_or_else(|| unparseable(version, scheme.title()))?;
        let name = scheme.normalise_name(query.name);
        let platform = Platform::parse(query.platform);
        let matches = self.collect(self.ecosystem_ids(ecosystem), &name, &installed, platform.as_ref())?;
        if scheme == Scheme::Maven
            && let Some(hints) = query.group_hints
        {
            return Ok(self.assess_guessed(query, hints, ecosystem, &installed, matches)?);
        }
        let subject = [query.name, " ", version].concat();
        Ok(self.answer(&subject, ecosystem, &installed, matches)?)
    }

    /// String ids of the ecosystem strings of the data that belong to an ecosystem.
    pub(crate) fn ecosystem_ids(&self, ecosystem: &str) -> impl Iterator<Item = u32> {
        self.ecosystem_strings.iter().filter(move |(base, _)| base == ecosystem).map(|&(_, id)| id)
    }

    /// Evaluates everything the database says about one package.
    pub(crate) fn collect(
        &self,
        ecosystems: impl Iterator<Item = u32>,
        name: &str,
        installed: &Installed<'_>,
        platform: Option<&Platform<'_>>,
    ) -> Read<Matches> {
        let mut matches = Matches::default();
        let Some(name) = self.image.find_string(name)? else { return Ok(matches) };
        for ecosystem in ecosystems {
            let wanted = (ecosystem, name);
            let at = self.image.partition_point(|row: &PackageRow| (row.ecosystem, row.name) < wanted)?;
            if at < self.image.count::<PackageRow>() {
                let package: PackageRow = self.image.row(at)?;
                if (package.ecosystem, package.name) == wanted {
                    self.collect_package(&package, installed, platform, &mut matches)?;
                }
            }
        }
        Ok(matches)
    }

    fn collect_package(
        &self,
        package: &PackageRow,
        installed: &Installed<'_>,
        platform: Option<&Platform<'_>>,
        matches: &mut Matches,
    ) -> Read<()> {
        let first = package.first_affected as usize;
        let rows = self.image.count::<AffectedRow>();
        // A damaged count must not make this loop long.
        for index in first..first.saturating_add(package.affected_count as usize).min(rows) {
            let row: AffectedRow = self.image.row(index)?;
            let Some(hit) = evaluate(&self.image, &row, installed)? else { continue };
            match self.limit(&row, platform)? {
                Some(not_applicable) => matches.not_applicable.push(not_applicable),
                None => matches.add(&self.image, row, hit)?,
            }
        }
        Ok(())
    }

    /// Why a record does not apply to a program of this platform, if it does not.
    fn limit(&self, row: &AffectedRow, platform: Option<&Platform<'_>>) -> Read<Option<NotApplicable>> {
        let Some(platform) = platform else { return Ok(None) };
        let mut texts = Vec::new();
        for import in self.image.list(row.imports)?.iter() {
            texts.push(self.image.string(import)?);
        }
        let Some(reason) = platform.excluded_by(&texts) else { return Ok(None) };
        let record: RecordRow = self.image.row(row.record as usize)?;
        Ok(Some(NotApplicable { id: self.image.string(record.id)?.to_owned(), reason }))
    }

    pub(crate) fn answer(
        &self,
        subject: &str,
        feed: &str,
        installed: &Installed<'_>,
        mut matches: Matches,
    ) -> Read<Assessment> {
        let mut not_applicable = std::mem::take(&mut matches.not_applicable);
        not_applicable.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        not_applicable.dedup();
        let feeds = std::iter::once(feed.to_owned()).chain(self.lists.iter().cloned()).collect();
        let findings = matches.fold(&self.image, subject, installed)?;
        Ok(Assessment::Assessed { database_version: self.version.clone(), feeds, findings, not_applicable })
    }

    pub(crate) fn feed_rows(&self) -> impl Iterator<Item = Read<FeedRow>> {
        (0..self.image.count::<FeedRow>()).map(|index| self.image.row(index))
    }

    /// String id of an ecosystem that occurs in the data.
    fn ecosystem_id(&self, name: &str) -> Read<Option<u32>> {
        let (mut low, mut high) = (0, self.image.count::<EcosystemRow>());
        while low < high {
            let middle = low + (high - low) / 2;
            let id = self.image.row::<EcosystemRow>(middle)?.name;
            match self.image.string(id)?.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Some(id)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// The ecosystem string of a Debian release that the data covers.
    fn debian_release(&self, version_id: &str) -> Result<String, Unanswered> {
        if version_id.is_empty() {
            return Err(Unanswered {
                code: NotAssessedCode::UnknownRelease,
                reason: "the Debian release is not known (os-release has no VERSION_ID, as in testing and unstable)".into(),
                remedy: "assess a stable release; advisories are published per release".into(),
            });
        }
        // Point releases ("12.5") belong to the release, but "3.1" was one of its own.
        for candidate in [version_id, version_id.split('.').next().unwrap_or(version_id)] {
            let release = format!("Debian:{candidate}");
            if self.ecosystem_id(&release)?.is_some() {
                return Ok(release);
            }
        }
        Err(Unanswered {
            code: NotAssessedCode::NoFeed,
            reason: format!("the vulnerability database has no entry for Debian {version_id}"),
            remedy: format!("get a newer Debian/all.zip of the OSV export and {REBUILD}"),
        })
    }
}

fn other_distribution(query: &PackageQuery<'_>) -> Unanswered {
    if query.distro_id.is_empty() {
        return Unanswered {
            code: NotAssessedCode::UnknownRelease,
            reason: "the distribution is not known (no readable os-release)".into(),
            remedy: "keep /etc/os-release or /usr/lib/os-release in the image".into(),
        };
    }
    let distribution = format!("{} {}", query.distro_id, query.distro_version);
    Unanswered {
        code: NotAssessedCode::NoFeed,
        reason: format!(
            "no feed is matched for {}; Debian's would not fit its versions",
            distribution.trim()
        ),
        remedy: "use a version of plimsoll that matches this distribution".into(),
    }
}

/// Longest version that a reason repeats, in bytes; what is longer is no version anyway.
const MAX_SHOWN_VERSION_BYTES: usize = 100;

fn unparseable(version: &str, order: &str) -> Unanswered {
    if version.is_empty() {
        return Unanswered {
            code: NotAssessedCode::UnparseableVersion,
            reason: "its version is \"\": the build or the installation did not record it".into(),
            remedy: "build or install a released version, which is recorded, and scan again".into(),
        };
    }
    let shown = &version[..version.floor_char_boundary(MAX_SHOWN_VERSION_BYTES)];
    Unanswered {
        code: NotAssessedCode::UnparseableVersion,
        reason: format!("version {shown:?} has no place in the {order} version order"),
        remedy:
            "compare the package with its advisories by hand, or install a release with a regular version"
                .into(),
    }
}
