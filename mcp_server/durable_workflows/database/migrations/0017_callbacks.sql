-- Callbacks of runs: what programs that are no agents answer, with a token. Nothing here is secret but `secrets`: a token is made from the id of its callback
-- and the project's secret. A fork that takes over the step has a row of its own with the same id, and is answered with the same token.
create table durable_workflows.callbacks (
    workflow_id text not null,
    function_id integer not null,     -- the step that made it
    id text not null,
    topic text not null,              -- of the message that wakes the run; it carries nothing
    schema json,                      -- of a result
    made_at timestamptz not null default clock_timestamp(),
    ends_at timestamptz,              -- when its time is over
    silence double precision,         -- the seconds without a heartbeat after which it is given up
    beat_at timestamptz not null default clock_timestamp(),
    answer text,                      -- {"result": …} or {"error": …}, as JSON
    answer_key text,                  -- by which the sender recognizes its own answer
    answered_at timestamptz,
    closed text check (closed in ('timeout', 'heartbeat')),  -- why the run has given it up
    primary key (workflow_id, function_id)
);

create index callbacks_by_id on durable_workflows.callbacks (id);

create table durable_workflows.secrets (
    name text primary key,
    secret text not null
);
