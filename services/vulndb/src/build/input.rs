//! Reads the export directory: zips of JSON records, KEV and EPSS, all within bounds.
//! Never stops at one bad entry or zip: it is named in a warning with its remedy, and the rest is kept.

use super::osv::OsvRecord;
use super::{BuildWarning, Warnings};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Largest JSON record, inflated, in bytes. The largest in OSV's exports is below 5 MiB.
pub const MAX_RECORD_BYTES: u64 = 16 * 1024 * 1024;
/// Most entries that are read from one zip.
pub const MAX_ZIP_ENTRIES: usize = 2_000_000;
/// How many times its size a zip may inflate to; real exports reach 10.
pub const MAX_INFLATE_RATIO: u64 = 100;
/// Inflated bytes that every zip may have, however small it is.
pub const MIN_INFLATE_BUDGET_BYTES: u64 = 64 * 1024 * 1024;
/// Largest `kev.json`, and largest inflated EPSS file, in bytes.
pub const MAX_LIST_BYTES: u64 = 512 * 1024 * 1024;
/// Longest line of the EPSS file, in bytes.
const MAX_EPSS_LINE_BYTES: u64 = 4096;

const DOWNLOAD_AGAIN: &str = "download this ecosystem's all.zip again and run `plimsoll db build`";

/// The `all.zip` files below the directory, by ecosystem folder, in order of their names.
pub(super) fn ecosystem_zips(dir: &Path, warnings: &mut Warnings) -> io::Result<Vec<(String, PathBuf)>> {
    let mut zips = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !std::fs::metadata(entry.path()).is_ok_and(|m| m.is_dir()) {
            continue;
        }
        let zip = entry.path().join("all.zip");
        match entry.file_name().into_string() {
            Ok(name) if zip.is_file() => zips.push((name, zip)),
            _ => warnings.add(BuildWarning {
                path: entry.path(),
                entry: None,
                problem: "no all.zip in this folder".into(),
                remedy: "an OSV export has one folder per ecosystem, each with an all.zip".into(),
            }),
        }
    }
    zips.sort();
    Ok(zips)
}

/// How reading one zip went.
#[derive(Debug, Default)]
pub(super) struct ZipOutcome {
    pub records: u32,
    pub skipped: u32,
}

/// Hands every record of a zip to `take`. `Err` when nothing can be read from it at all.
pub(super) fn read_zip(
    path: &Path,
    warnings: &mut Warnings,
    tick: &mut dyn FnMut(u64, u64),
    take: &mut dyn FnMut(OsvRecord, &str, &mut Warnings),
) -> Result<ZipOutcome, BuildWarning> {
    let broken = |problem: String| BuildWarning {
        path: path.to_owned(),
        entry: None,
        problem,
        remedy: DOWNLOAD_AGAIN.into(),
    };
    let file = File::open(path).map_err(|e| broken(format!("cannot be opened: {e}")))?;
    let zip_bytes = file.metadata().map_err(|e| broken(format!("cannot be read: {e}")))?.len();
    let mut archive = zip::ZipArchive::new(BufReader::new(file))
        .map_err(|e| broken(format!("is not a readable zip: {e}")))?;
    if archive.len() > MAX_ZIP_ENTRIES {
        return Err(broken(format!(
            "has {} entries, more than the {MAX_ZIP_ENTRIES} allowed",
            archive.len()
        )));
    }
    let mut budget = MIN_INFLATE_BUDGET_BYTES.max(zip_bytes.saturating_mul(MAX_INFLATE_RATIO));
    let mut outcome = ZipOutcome::default();
    let total = archive.len() as u64;
    let mut content = Vec::new();
    for index in 0..archive.len() {
        if index % 256 == 0 {
            tick(index as u64, total);
        }
        let named = match archive.name_for_index(index) {
            Some(Ok(name)) => name.into_owned(),
            _ => format!("entry {index}"),
        };
        if named.ends_with('/') {
            continue;
        }
        content.clear();
        let limit = MAX_RECORD_BYTES.min(budget);
        let read = archive
            .by_index(index)
            .map_err(io::Error::other)
            .and_then(|mut entry| entry.by_ref().take(limit + 1).read_to_end(&mut content));
        budget = budget.saturating_sub(content.len() as u64);
        let problem = match read {
            Err(error) => Some((format!("cannot be unpacked: {error}"), DOWNLOAD_AGAIN.to_owned())),
            Ok(_) if budget == 0 => {
                warnings.add(broken(format!(
                    "inflates to more than {MAX_INFLATE_RATIO} times its size, like a zip bomb: entries from {named} on are left out"
                )));
                outcome.skipped += (archive.len() - index) as u32;
                break;
            }
            Ok(_) if content.len() as u64 > MAX_RECORD_BYTES => Some((
                format!("is larger than the {} MiB that a record may have", MAX_RECORD_BYTES / 1024 / 1024),
                DOWNLOAD_AGAIN.to_owned(),
            )),
            Ok(_) => match serde_json::from_slice::<OsvRecord>(&content) {
                Ok(record) if !record.id.is_empty() => {
                    outcome.records += 1;
                    take(record, &named, warnings);
                    None
                }
                Ok(_) => Some(("has no id, so it is not an OSV record".into(), DOWNLOAD_AGAIN.into())),
                Err(error) => Some((format!("is not an OSV record in JSON: {error}"), DOWNLOAD_AGAIN.into())),
            },
        };
        if let Some((problem, remedy)) = problem {
            outcome.skipped += 1;
            warnings.add(BuildWarning { path: path.to_owned(), entry: Some(named), problem, remedy });
        }
    }
    tick(total, total);
    Ok(outcome)
}

#[derive(Deserialize)]
struct KevFile {
    #[serde(rename = "dateReleased", default)]
    date_released: String,
    vulnerabilities: Vec<KevEntry>,
}

#[derive(Deserialize)]
struct KevEntry {
    #[serde(rename = "cveID")]
    cve_id: String,
    #[serde(rename = "dueDate", default)]
    due_date: String,
}

/// CISA's catalogue: CVE id → due date, and when the catalogue was released.
pub(super) struct KnownExploited {
    pub due_dates: BTreeMap<String, String>,
    pub released: String,
}

/// Reads `kev.json`; `None` with a warning where it is absent or broken.
pub(super) fn read_kev(dir: &Path, warnings: &mut Warnings) -> Option<KnownExploited> {
    let path = dir.join("kev.json");
    let parsed = File::open(&path).and_then(|file| {
        serde_json::from_reader::<_, KevFile>(BufReader::new(file).take(MAX_LIST_BYTES))
            .map_err(io::Error::other)
    });
    match parsed {
        Ok(file) => Some(KnownExploited {
            due_dates: file.vulnerabilities.into_iter().map(|v| (v.cve_id, v.due_date)).collect(),
            released: file.date_released,
        }),
        Err(error) => {
            warnings.add(BuildWarning {
                path,
                entry: None,
                problem: format!("CISA's list of known exploited vulnerabilities cannot be read: {error}"),
                remedy: "put CISA's known_exploited_vulnerabilities.json there as kev.json; until then nothing is flagged as exploited".into(),
            });
            None
        }
    }
}

/// FIRST's scores: CVE id → probability, and the date of the scores.
pub(super) struct ExploitPrediction {
    pub scores: BTreeMap<String, f64>,
    pub score_date: String,
}

/// Reads `epss_scores-current.csv` or `.csv.gz`; `None` where there is neither (they are optional).
pub(super) fn read_epss(dir: &Path, warnings: &mut Warnings) -> Option<ExploitPrediction> {
    let (path, compressed) = [("epss_scores-current.csv", false), ("epss_scores-current.csv.gz", true)]
        .into_iter()
        .map(|(name, compressed)| (dir.join(name), compressed))
        .find(|(path, _)| path.exists())?;
    let opened = File::open(&path).map(|file| -> Box<dyn Read> {
        if compressed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) }
    });
    let mut skipped = 0u32;
    let parsed = opened.and_then(|input| parse_epss(input, &mut skipped));
    let warn = |problem: String| BuildWarning {
        path: path.clone(),
        entry: None,
        problem,
        remedy: "download the EPSS scores again and run `plimsoll db build`".into(),
    };
    match parsed {
        Ok(prediction) => {
            if skipped > 0 {
                warnings
                    .add(warn(format!("{skipped} lines are not `CVE,score,percentile` and were left out")));
            }
            Some(prediction)
        }
        Err(error) => {
            warnings.add(warn(format!("the EPSS scores cannot be read: {error}")));
            None
        }
    }
}

fn parse_epss(input: impl Read, skipped: &mut u32) -> io::Result<ExploitPrediction> {
    let mut reader = BufReader::new(input.take(MAX_LIST_BYTES));
    let mut prediction = ExploitPrediction { scores: BTreeMap::new(), score_date: String::new() };
    let mut line = String::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_EPSS_LINE_BYTES).read_line(&mut line)? == 0 {
            return Ok(prediction);
        }
        let text = line.trim();
        if let Some(comment) = text.strip_prefix('#') {
            let date = comment.split(',').find_map(|field| field.strip_prefix("score_date:"));
            prediction.score_date = date.unwrap_or("").to_owned();
        } else if let Some((cve, rest)) = text.split_once(',').filter(|(cve, _)| cve.starts_with("CVE-")) {
            match rest.split(',').next().and_then(|score| score.trim().parse::<f64>().ok()) {
                Some(score) if (0.0..=1.0).contains(&score) => {
                    prediction.scores.insert(cve.to_owned(), score);
                }
                _ => *skipped += 1,
            }
        } else if !text.is_empty() && !text.starts_with("cve,") {
            *skipped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_epss_lines() {
        let mut skipped = 0;
        let csv = "#model_version:v2025.03.14,score_date:2025-08-25T12:55:00Z\ncve,epss,percentile\nCVE-1,0.5,0.9\nCVE-2,x\nrubbish\nCVE-3,7,1\n";
        let prediction = parse_epss(csv.as_bytes(), &mut skipped).unwrap();
        assert_eq!(prediction.scores.into_iter().collect::<Vec<_>>(), [("CVE-1".to_owned(), 0.5)]);
        assert_eq!((prediction.score_date.as_str(), skipped), ("2025-08-25T12:55:00Z", 3));
    }
}
