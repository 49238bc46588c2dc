-- Steps whose effect happens at most once. A row is an intent: it is written before the step's first line runs. With a row and without a recorded result,
-- a later execution of the run is in doubt whether the effect has happened.
create table durable_workflows.effects (
    workflow_id text not null,
    function_id integer not null,
    name text not null,
    attempt text not null,            -- the token of the execution that began it
    began_at timestamptz not null default clock_timestamp(),
    person_only boolean not null,     -- only a person may resolve a doubt about it
    doubt_since timestamptz,
    looks integer not null default 0, -- how often the step's look-up has failed
    problem text,                     -- of its last look-up
    happened boolean,                 -- what was said of the doubt, until the step acts on it
    result text,                      -- the step's result that was said with it, as JSON
    decisions jsonb not null default '[]',  -- all that was said: who, how, at, happened
    primary key (workflow_id, function_id)
);

alter table durable_workflows.parked_on drop constraint parked_on_kind_check;
alter table durable_workflows.parked_on add constraint parked_on_kind_check check (kind in ('message', 'event', 'end', 'doubt'));

-- The names of the steps in a workflow's file that happen at most once.
alter table durable_workflows.catalog add column once text[] not null default '{}';
