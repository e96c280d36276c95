-- How the processes of each language were observed in a workload.

ALTER TABLE workloads
    ADD COLUMN IF NOT EXISTS observed String COMMENT 'JSON array of ecosystem, probe, how, processes, counts' AFTER unavailable_probes;
