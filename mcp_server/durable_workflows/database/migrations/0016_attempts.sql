-- Attempts of steps with `Retry`. A step that succeeds at once has no row: the first one is written when the first attempt has failed and another one follows;
-- each later attempt is written before it begins.
create table durable_workflows.attempts (
    workflow_id text not null,
    function_id integer not null,
    attempt integer not null,   -- from 1
    attempts integer not null,  -- how many the step has at most
    name text not null,
    began_at timestamptz not null,
    failed_at timestamptz,      -- null: it has succeeded, or is under way, or its process ended
    next_at timestamptz,        -- when the next attempt begins; null: none follows
    said text,                  -- the error in a line
    error text,                 -- the error, as dbos records one of a step
    primary key (workflow_id, function_id, attempt)
);
