-- Since when the signs of life of a worker (`seen_at`) have come without a gap. Only a worker that was there all the time may say that another one was not.
alter table durable_workflows.workers add column unbroken_since timestamptz not null default clock_timestamp();
