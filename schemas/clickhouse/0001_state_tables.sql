-- Latest state. The version of a row is (topic generation << 48) + offset, so a replay is harmless; tombstones set
-- is_deleted. Each table is sorted for the page that reads it and hash-partitioned so that FINAL works in parallel.
-- Lists of records are JSON text, named as in the events' schemas; paths in them are UTF-8, lossy.

CREATE TABLE IF NOT EXISTS artifacts
(
    artifact                 String COMMENT 'Artifact key',
    scanned                  Bool COMMENT 'Whether a scan is current',
    scan_id                  String,
    source                   LowCardinality(String) COMMENT 'fs, image or host; empty if not scanned',
    names                    Array(String),
    aliases                  Array(String),
    os_id                    LowCardinality(String),
    os_version_id            LowCardinality(String),
    os_codename              LowCardinality(String),
    os_pretty_name           String,
    platform_os              LowCardinality(String),
    platform_architecture    LowCardinality(String),
    platform_variant         LowCardinality(String),
    scanner_version          LowCardinality(String),
    database_version         LowCardinality(String),
    scanned_at_ms            Int64 COMMENT 'Milliseconds since the Unix epoch',
    package_count            Int64,
    vulnerable_package_count Int64,
    finding_count            Int64,
    `cells.kind`             Array(LowCardinality(String)),
    `cells.vulnerable`       Array(LowCardinality(String)),
    `cells.use`              Array(LowCardinality(String)),
    `cells.package_count`    Array(Int64),
    component_count          Int64,
    components               String COMMENT 'JSON array of the component summaries',
    workload_count           Int64,
    live_workload_count      Int64,
    unowned_path_count       Int64,
    unresolved_path_count    Int64,
    alert_count              Int64,
    warnings                 String COMMENT 'JSON array of the scan warnings',
    unidentified_reason      String,
    moved_to                 String,
    emitted_at_ms            Int64,
    version                  UInt64,
    is_deleted               UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY artifact;

CREATE TABLE IF NOT EXISTS artifact_packages
(
    artifact            String,
    package_id          String,
    purl                String,
    name                String,
    package_version     String,
    kind                LowCardinality(String),
    ecosystem           LowCardinality(String),
    scanned             Bool,
    scan_id             String,
    source_name         String,
    source_version      String,
    architecture        LowCardinality(String),
    licenses            Array(String),
    locations           String COMMENT 'JSON array of path, layer, nested_path',
    vulnerable          LowCardinality(String),
    not_assessed_reason String,
    severity            LowCardinality(String),
    known_exploited     Bool,
    vulnerability_count Int64,
    vulnerabilities     String COMMENT 'JSON array of id, severity, fixed_in, known_exploited',
    use                 LowCardinality(String),
    use_reason          String,
    use_remedy          String,
    rung                LowCardinality(String),
    first_used_ms       Int64,
    last_used_ms        Int64,
    coverage            String COMMENT 'JSON object',
    component_count     Int64,
    recommendation_code LowCardinality(String),
    recommendation_text String,
    held_by             Array(String),
    emitted_at_ms       Int64,
    version             UInt64,
    is_deleted          UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY cityHash64(artifact) % 16
ORDER BY (artifact, package_id)
SETTINGS index_granularity = 1024;

-- The same rows by purl, for the page that starts with a package. A tombstone does not name the purl: the sink
-- looks it up in artifact_packages, which it therefore always writes first.
CREATE TABLE IF NOT EXISTS artifact_packages_by_purl AS artifact_packages
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY cityHash64(purl) % 16
ORDER BY (purl, artifact, package_id)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS findings
(
    artifact         String,
    package_id       String,
    vulnerability_id String,
    purl             String,
    name             String,
    package_version  String,
    kind             LowCardinality(String),
    ecosystem        LowCardinality(String),
    aliases          Array(String),
    advisories       Array(String),
    severity         LowCardinality(String),
    cvss_vector      String,
    cvss_score       Nullable(Float64),
    known_exploited  Bool,
    epss             Nullable(Float64),
    fixed_versions   Array(String),
    source           String,
    match_reason     String,
    summary          String,
    published_ms     Int64,
    modified_ms      Int64,
    use              LowCardinality(String),
    use_reason       String,
    use_remedy       String,
    rung             LowCardinality(String),
    first_used_ms    Int64,
    last_used_ms     Int64,
    coverage         String COMMENT 'JSON object',
    priority         Int32,
    priority_reason  String,
    emitted_at_ms    Int64,
    version          UInt64,
    is_deleted       UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY cityHash64(artifact) % 16
ORDER BY (artifact, package_id, vulnerability_id)
SETTINGS index_granularity = 1024;

-- The same rows by vulnerability, for the page that starts with one.
CREATE TABLE IF NOT EXISTS findings_by_vulnerability AS findings
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY cityHash64(vulnerability_id) % 16
ORDER BY (vulnerability_id, artifact, package_id)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS package_usage
(
    application         String,
    component           String,
    component_version   String,
    artifact            String,
    package_id          String,
    chunk               Int32,
    chunk_count         Int32,
    purl                String,
    name                String,
    package_version     String,
    kind                LowCardinality(String),
    ecosystem           LowCardinality(String),
    scanned             Bool,
    vulnerable          LowCardinality(String),
    not_assessed_reason String,
    severity            LowCardinality(String),
    known_exploited     Bool,
    vulnerability_count Int64,
    vulnerabilities     String,
    locations           String,
    use                 LowCardinality(String),
    use_reason          String,
    use_remedy          String,
    rung                LowCardinality(String),
    first_used_ms       Int64,
    last_used_ms        Int64,
    coverage            String,
    recommendation_code LowCardinality(String),
    recommendation_text String,
    held_by             Array(String),
    file_count          Int64,
    class_count         Int64,
    files               String COMMENT 'JSON array of path, kind, name, rung, first_seen_ms, last_seen_ms, ambiguous',
    classes             String,
    emitted_at_ms       Int64,
    version             UInt64,
    is_deleted          UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY cityHash64(application, component, component_version) % 16
ORDER BY (application, component, component_version, artifact, package_id, chunk)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS workloads
(
    artifact            String,
    workload_id         String,
    application         String,
    component           String,
    component_version   String,
    node_id             String,
    node_name           String,
    kind                LowCardinality(String),
    container_id        String,
    container_name      String,
    image_name          String,
    image_aliases       Array(String),
    pod_namespace       String,
    pod_name            String,
    labels              Map(String, String),
    command             Array(String),
    started_at_ms       Int64,
    stopped_at_ms       Int64,
    watched             String COMMENT 'JSON array of probe, boot_id, from_ms, until_ms, from_first_exec',
    events_lost         Int64 COMMENT 'Sum of losses, repaired ones included',
    losses              String COMMENT 'JSON array of probe, boot_id, events_lost, repaired',
    unavailable_probes  Map(String, String),
    unidentified_reason String,
    formerly_artifact   String COMMENT 'Key that this workload was published under before; empty if none',
    sandboxed           Bool,
    emitted_at_ms       Int64,
    version             UInt64,
    is_deleted          UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY cityHash64(artifact) % 16
ORDER BY (artifact, workload_id);

CREATE TABLE IF NOT EXISTS alerts
(
    artifact          String,
    alert_id          String,
    workload_id       String,
    application       String,
    component         String,
    component_version String,
    rule              LowCardinality(String),
    severity          LowCardinality(String),
    title             String,
    process           String COMMENT 'JSON object',
    path              String,
    evidence          Map(String, String),
    raised_at_ms      Int64,
    owners            String COMMENT 'JSON array',
    ownership_state   LowCardinality(String),
    vulnerable        LowCardinality(String),
    vulnerabilities   String,
    emitted_at_ms     Int64,
    version           UInt64,
    is_deleted        UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (artifact, alert_id);

-- Manifests of the scans, kept also after a newer scan became current.
CREATE TABLE IF NOT EXISTS scans
(
    artifact              String,
    scan_id               String,
    application           String,
    component             String,
    component_version     String,
    source                LowCardinality(String) COMMENT 'fs, image or host',
    names                 Array(String),
    aliases               Array(String),
    os_id                 LowCardinality(String),
    os_version_id         LowCardinality(String),
    os_codename           LowCardinality(String),
    os_pretty_name        String,
    platform_os           LowCardinality(String),
    platform_architecture LowCardinality(String),
    platform_variant      LowCardinality(String),
    layers                String COMMENT 'JSON array of diff_id, digest, size_bytes, created_by',
    package_count         Int64,
    package_hash          String,
    scanner_version       LowCardinality(String),
    database_version      LowCardinality(String),
    started_at_ms         Int64,
    completed_at_ms       Int64,
    warnings              String COMMENT 'JSON array of code, subject, message, remedy',
    emitted_at_ms         Int64,
    version               UInt64,
    is_deleted            UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (artifact, scan_id);
