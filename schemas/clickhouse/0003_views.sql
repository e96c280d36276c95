-- What analysts ask.

CREATE VIEW IF NOT EXISTS application_recommendations AS
SELECT application, component, component_version, artifact, kind, ecosystem, name, package_version, purl, vulnerable,
       severity, vulnerability_count, use, rung, first_used_ms, last_used_ms, recommendation_code, recommendation_text
FROM package_usage FINAL
WHERE chunk = 0;

CREATE VIEW IF NOT EXISTS purl_usage AS
SELECT purl, artifact, use, rung, first_used_ms, last_used_ms, vulnerable, component_count
FROM artifact_packages_by_purl FINAL;

CREATE VIEW IF NOT EXISTS changed_since_yesterday AS
SELECT application, component, component_version, artifact, purl, vulnerable, use, recommendation_code, emitted_at_ms
FROM package_usage FINAL
WHERE chunk = 0 AND emitted_at_ms >= toUnixTimestamp64Milli(now64(3) - INTERVAL 1 DAY);
