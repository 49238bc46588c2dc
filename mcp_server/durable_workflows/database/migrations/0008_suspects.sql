-- How and when the last process of a worker ended, where nobody had asked it to: its exit status, or minus the signal. The next process takes it back to null.
-- `unexplained` counts such ends in a row at which no run had code under way. A worker `apart` runs suspects only.
alter table durable_workflows.workers add column ended integer,
    add column ended_at timestamptz,
    add column unexplained integer not null default 0,
    add column apart boolean not null default false;

-- Runs that had code under way when their worker ended.
create table durable_workflows.suspects (
    workflow_id text primary key,
    after_step integer not null,      -- the last step that it had recorded then
    step text,                        -- the step that was under way, or null: it is not known, or was the workflow's own code
    ends integer not null,            -- how many workers ended so, in all
    ends_here integer not null,       -- of those, how many since it recorded its last step
    alone integer not null default 0, -- of those, how many while nothing else was under way in a worker apart
    status integer not null,          -- of the process that ended last
    executor_id text,                 -- the worker apart that alone may run it; null: the common one of its version
    seen_at timestamptz not null default clock_timestamp()
);

-- The workers apart that one state directory needs: those for unfinished suspects, and those that left other runs behind. In `dbos.workflow_status`
-- nothing else has such an executor id. `proven`: there is one run left, which has ended that worker before.
create function durable_workflows.workers_apart(identity text)
    returns table (executor_id text, version text, proven boolean) language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is null then
        return;
    end if;
    return query
        select found.executor_id, found.version, bool_or(found.proven) from (
            select suspect.executor_id, run.application_version as version, suspect.alone > 0 as proven
            from durable_workflows.suspects as suspect join dbos.workflow_status as run on run.workflow_uuid = suspect.workflow_id
            where run.status in ('PENDING', 'ENQUEUED', 'DELAYED')
            union all
            select run.executor_id, run.application_version, false from dbos.workflow_status as run where run.status = 'PENDING'
        ) as found
        where found.executor_id like identity || '-%-' || found.version
        group by found.executor_id, found.version order by bool_or(found.proven), found.executor_id;
end
$$;
