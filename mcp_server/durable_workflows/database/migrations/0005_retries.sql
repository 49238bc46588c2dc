-- A step between two attempts: when the next one begins, and why the last one failed.
alter table durable_workflows.running_steps add column retry_at timestamptz, add column error text;
