-- Where a workload that was unidentified is published since it was identified.

ALTER TABLE workloads
    ADD COLUMN IF NOT EXISTS moved_to String COMMENT 'Key that this workload is published under since; empty if none' AFTER formerly_artifact;
