-- Which packages a process ran on, to tell whether these are the ones that were scanned.

ALTER TABLE workloads
    ADD COLUMN IF NOT EXISTS root_package_hash String COMMENT 'As in scans.package_hash; empty outside of processes' AFTER sandboxed;
