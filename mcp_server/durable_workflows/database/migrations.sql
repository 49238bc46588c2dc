create schema if not exists durable_workflows;

create table durable_workflows.migrations (
    name text primary key,
    applied_at timestamptz not null default now()
);
