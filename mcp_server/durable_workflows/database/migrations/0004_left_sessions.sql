-- When a client has gone, where its server could still say so; else `seen_at` grows old.
alter table durable_workflows.sessions add column left_at timestamptz;
