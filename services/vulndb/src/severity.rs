//! Severity of a vulnerability: scores of CVSS vectors (2.0, 3.0, 3.1, 4.0; FIRST), words where there is no vector.
//! Never invents one: no vector and no word is `unknown`.

use serde::Serialize;

/// Qualitative severity; the CVSS rating scale (for CVSS 2.0, NVD's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nobody said.
    #[default]
    Unknown,
    /// Score 0.
    None,
    /// Below 4.0.
    Low,
    /// Below 7.0.
    Medium,
    /// Below 9.0 (CVSS 2.0: 7.0 and more).
    High,
    /// 9.0 and more.
    Critical,
}

impl Severity {
    const ALL: [Severity; 6] = [
        Severity::Unknown,
        Severity::None,
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ];

    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Unknown => "unknown",
            Severity::None => "none",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// Reads a database's word for it (`MODERATE`, `important`, `not yet assigned`, …).
    pub fn from_word(word: &str) -> Severity {
        match word.trim().to_ascii_lowercase().as_str() {
            "critical" => Severity::Critical,
            "high" | "important" => Severity::High,
            "moderate" | "medium" => Severity::Medium,
            "low" | "unimportant" | "negligible" => Severity::Low,
            "none" => Severity::None,
            _ => Severity::Unknown,
        }
    }
}

/// A severity with the score and the CVSS version it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rating {
    /// 20, 30, 31 or 40; 0 where only a word was given.
    pub cvss_version: u8,
    /// Score × 10.
    pub score_tenths: u8,
    pub severity: Severity,
}

impl Rating {
    /// Scores a vector: the base score of versions 2 and 3 (as NVD shows), of version 4 with its threat
    /// metrics. `None` where it is not a valid, complete CVSS vector.
    pub fn of_vector(vector: &str) -> Option<Rating> {
        let vector = vector.trim().trim_start_matches('(').trim_end_matches(')').trim_end_matches('/');
        let (cvss_version, score) = match vector.parse().ok()? {
            cvss::Cvss::CvssV20(v) => (20, v.score().value()),
            cvss::Cvss::CvssV30(v) => (30, v.score().value()),
            cvss::Cvss::CvssV31(v) => (31, v.score().value()),
            cvss::Cvss::CvssV40(v) => (40, v.score().value()),
            _ => return None,
        };
        if !(0.0..=10.0).contains(&score) || !is_complete(vector, cvss_version) {
            return None;
        }
        let score_tenths = (score * 10.0).round() as u8;
        let severity = match score_tenths {
            0 if cvss_version != 20 => Severity::None,
            0..40 => Severity::Low,
            40..70 => Severity::Medium,
            70..90 => Severity::High,
            // CVSS 2.0 knows no critical.
            _ if cvss_version == 20 => Severity::High,
            _ => Severity::Critical,
        };
        Some(Rating { cvss_version, score_tenths, severity })
    }

    pub fn of_word(word: &str) -> Rating {
        Rating { severity: Severity::from_word(word), ..Rating::default() }
    }

    pub fn is_known(self) -> bool {
        self.severity != Severity::Unknown
    }

    /// CVSS score; `None` where only a word was given.
    pub fn score(self) -> Option<f64> {
        (self.cvss_version != 0).then(|| f64::from(self.score_tenths) / 10.0)
    }

    /// Which of two ratings to show: the newest CVSS version, then the higher score or word.
    pub fn preference(self) -> (bool, u8, u8, Severity) {
        (self.is_known(), self.cvss_version, self.score_tenths, self.severity)
    }

    pub fn pack(self) -> u32 {
        u32::from_le_bytes([self.severity as u8, self.cvss_version, self.score_tenths, 0])
    }

    pub fn unpack(word: u32) -> Rating {
        let [severity, cvss_version, score_tenths, _] = word.to_le_bytes();
        let severity = Severity::ALL.get(usize::from(severity)).copied().unwrap_or_default();
        Rating { cvss_version, score_tenths, severity }
    }
}

/// Whether all base metrics are there: the library scores a vector that lacks some as 0.
fn is_complete(vector: &str, cvss_version: u8) -> bool {
    let mandatory: &[&str] = match cvss_version {
        20 => &["AV", "AC", "Au", "C", "I", "A"],
        40 => &["AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA"],
        _ => &["AV", "AC", "PR", "UI", "S", "C", "I", "A"],
    };
    let given = |metric: &str| vector.split('/').any(|part| part.split(':').next() == Some(metric));
    mandatory.iter().all(|metric| given(metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::*;

    /// Scores as the calculators of FIRST and NVD give them.
    #[test]
    fn scores_vectors() {
        for (vector, version, tenths, severity) in [
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 20, 100, High),
            ("AV:N/AC:M/Au:N/C:N/I:P/A:N", 20, 43, Medium),
            ("AV:L/AC:H/Au:M/C:N/I:N/A:N", 20, 0, Low),
            ("(AV:N/AC:L/Au:N/C:P/I:P/A:P)", 20, 75, High),
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 30, 75, High),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 31, 98, Critical),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 31, 100, Critical),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 31, 61, Medium),
            ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:N", 31, 0, None),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:P/RL:O/RC:C", 31, 98, Critical),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 40, 93, Critical),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", 40, 100, Critical),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", 40, 0, None),
            ("CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 40, 85, High),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N/E:U", 40, 66, Medium),
        ] {
            let expect = Rating { cvss_version: version, score_tenths: tenths, severity };
            assert_eq!(Rating::of_vector(vector), Some(expect), "{vector}");
            assert_eq!(Rating::unpack(expect.pack()), expect);
        }
    }

    #[test]
    fn refuses_broken_vectors() {
        for vector in
            ["", "7.5", "CVSS:3.1/AV:N", "CVSS:9.9/AV:N/AC:L", "AV:N/AC:L", "CVSS:4.0/AV:Q", "CVSS:3.1/AV:ü/"]
        {
            assert_eq!(Rating::of_vector(vector), Option::None, "{vector}");
        }
    }

    #[test]
    fn reads_words() {
        for (word, expect) in [
            ("MODERATE", Medium),
            ("Critical", Critical),
            ("unimportant", Low),
            ("not yet assigned", Unknown),
        ] {
            assert_eq!(Severity::from_word(word), expect, "{word}");
        }
    }
}
