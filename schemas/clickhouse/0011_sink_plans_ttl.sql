-- Plans are kept a day longer than any topic of history keeps its records: runtime.alerts does for 30 days.

ALTER TABLE sink_plans
    MODIFY TTL toDateTime(planned_at) + INTERVAL 31 DAY;
