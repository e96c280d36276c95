//! Bounds of the state and of the outputs, each with its unit.
//! Nothing here may depend on configuration: two correlators must come to the same end state.

/// Evidence entries (component, path, kind, name), classes among them, kept per artifact; more are counted as lost
/// and lower coverage.
pub const EVIDENCE_MAX_ENTRIES: usize = 200_000;
/// Evidence entries of paths without known ownership kept per artifact.
pub const EVIDENCE_WAITING_MAX_ENTRIES: usize = 20_000;
/// Names of the classes of one Java package at one path, in bytes: keeps their entity below the records' 1 MB.
pub const CLASSES_MAX_BYTES: usize = 400 * 1024;
/// Ids of the packages of which a class of one Java package may be, in bytes; with more it may be of any. Keeps the entity
/// below the records' 1 MB.
pub const JAVA_PACKAGE_OWNERS_MAX_BYTES: usize = 400 * 1024;
/// Producers that are remembered not to know all archives with one Java package; with more any archive may have it.
pub const INCOMPLETE_PRODUCERS_MAX: usize = 256;
/// Classes of one Java package at one path.
pub const CLASSES_MAX: usize = 12_000;
/// Name of a class or module, in bytes; the rest is cut off.
pub const NAME_MAX_BYTES: usize = 1_024;
/// Alerts kept per artifact.
pub const ALERTS_MAX: usize = 10_000;
/// An alert is dropped by a tick this long after it was raised, in milliseconds.
pub const ALERT_MAX_AGE_MS: i64 = 30 * 24 * HOUR_MS;
/// Scans kept per artifact whose manifest or packages are not complete.
pub const STAGED_SCANS_MAX: usize = 8;
/// A scan that did not become complete within this time is dropped by a tick, in milliseconds.
pub const STAGED_SCAN_MAX_AGE_MS: i64 = 24 * HOUR_MS;
/// Scans that were superseded are remembered this long, beyond the inputs' retention of 7 days, in milliseconds.
pub const SUPERSEDED_SCAN_MAX_AGE_MS: i64 = 8 * 24 * HOUR_MS;
/// A stopped workload folds into its component this long after its stop, beyond the inputs' retention, in milliseconds.
pub const WORKLOAD_FOLD_AFTER_MS: i64 = 8 * 24 * HOUR_MS;
/// A workload that was not heard of for this long counts as live no more, in milliseconds.
pub const WORKLOAD_SILENT_AFTER_MS: i64 = 5 * MINUTE_MS;
/// A used path whose ownership did not come within this time counts as unresolved, in milliseconds.
pub const OWNERSHIP_WAIT_MS: i64 = MINUTE_MS;
/// Watched intervals kept per workload and probe.
pub const INTERVALS_MAX: usize = 64;
/// Boots of an agent whose losses are kept per workload and probe.
pub const LOSSES_MAX: usize = 64;
/// Combinations of ecosystem, probe and how by which processes were observed, kept per workload and per component.
pub const OBSERVED_MAX: usize = 128;
/// Boots of an agent whose numbers of observed processes are told apart, per workload and combination.
pub const OBSERVED_BOOTS_MAX: usize = 16;
/// Further numbers per combination.
pub const OBSERVED_COUNTS_MAX: usize = 16;
/// Reasons shown per combination.
pub const OBSERVED_REASONS_MAX: usize = 10;
/// Names and aliases shown per artifact.
pub const NAMES_MAX: usize = 100;
/// Warnings shown per artifact.
pub const WARNINGS_MAX: usize = 100;
/// Components shown per artifact.
pub const COMPONENTS_MAX: usize = 100;
/// Vulnerabilities summed up per package.
pub const VULNERABILITIES_MAX: usize = 200;
/// Vulnerabilities summed up per alert.
pub const ALERT_VULNERABILITIES_MAX: usize = 50;
/// Owners that an alert names; all of them are asked for vulnerabilities.
pub const ALERT_OWNERS_MAX: usize = 500;
/// Locations shown per package.
pub const LOCATIONS_MAX: usize = 100;
/// Other packages named per package whose use is ambiguous.
pub const AMBIGUOUS_WITH_MAX: usize = 10;
/// Names of holders shown per package.
pub const HELD_BY_MAX: usize = 10;
/// Files and classes of one chunk of correlation.usage, in entries.
pub const CHUNK_MAX_ENTRIES: usize = 1_000;
/// Entries of the first chunk, which is read wherever packages are listed and sent again whenever anything changes.
pub const CHUNK_FIRST_ENTRIES: usize = 100;
/// Entries from which a chunk may end where its entries' names say so.
pub const CHUNK_MIN_ENTRIES: usize = 250;
/// Paths and names of one chunk of correlation.usage, in bytes.
pub const CHUNK_MAX_BYTES: usize = 400 * 1024;
/// Chunks of correlation.usage per package; what lies behind them is only counted.
pub const CHUNKS_MAX: usize = 400;

/// One minute in milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// One hour in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Different sets of packages that the folded workloads of one component are told apart by.
pub const ROOTS_MAX: usize = 64;
