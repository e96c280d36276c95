-- Which packages of a Go module a finding is about.

ALTER TABLE findings
    ADD COLUMN IF NOT EXISTS imports Array(String) COMMENT 'Import paths; empty: all, or not known' AFTER match_reason;

ALTER TABLE findings_by_vulnerability
    ADD COLUMN IF NOT EXISTS imports Array(String) COMMENT 'Import paths; empty: all, or not known' AFTER match_reason;
