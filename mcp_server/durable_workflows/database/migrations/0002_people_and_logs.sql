-- What a run printed and logged. Bounded per run: `trim_log` removes the oldest lines.
create table durable_workflows.logs (
    id bigint generated always as identity primary key,
    workflow_id text not null,
    function_id integer,              -- the step, or null for the workflow's own code
    at timestamptz not null,
    stream text not null,             -- out, err, or the level of a log record
    text text not null
);
create index logs_workflow on durable_workflows.logs (workflow_id, id);

-- Answers that people gave: who, how, when, and what they were shown.
create table durable_workflows.answers (
    workflow_id text not null,
    function_id integer not null,
    topic text not null,
    who text not null,
    how text not null,                -- terminal, or the client that asked
    shown jsonb not null,
    answer jsonb not null,
    answered_at timestamptz not null default clock_timestamp(),
    primary key (workflow_id, function_id)
);

-- The order of an object's fields is the order in which a person is asked for them.
alter table durable_workflows.waits alter column schema type json;

-- How far a worker is with what a version needs before its code can be loaded.
alter table durable_workflows.versions add column progress text;
