-- When a supervisor last had this version as its newest: others are removed once no run has them.
alter table durable_workflows.versions add column used_at timestamptz not null default clock_timestamp();
