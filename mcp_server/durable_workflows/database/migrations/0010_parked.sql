-- Waiting runs that no process holds. Such a run is PENDING, its executor is `parked`, and nothing owns it. Its worker claims it again when it is due.
create table durable_workflows.parked (
    workflow_id text primary key,
    version text not null,
    owner text not null,              -- the token of the execution that was parked
    muted_below integer not null,     -- what the workflow's own code prints before it takes this number for a step was printed before
    parked_at timestamptz not null default clock_timestamp(),
    due_at timestamptz                -- the end of its wait, or its own deadline
);
create index parked_due on durable_workflows.parked (version, due_at);

create table durable_workflows.parked_on (
    workflow_id text not null references durable_workflows.parked on delete cascade,
    kind text not null check (kind in ('message', 'event', 'end')),
    target text not null,             -- the run that gets the message, sets the event, or ends
    key text not null,                -- the topic, or the name of the event
    primary key (target, kind, key, workflow_id)
);
create index parked_on_workflow on durable_workflows.parked_on (workflow_id);

-- Parked runs for which something has come. A row too many costs a replay and nothing else, so nobody waits for anybody to write one.
create table durable_workflows.woken (
    workflow_id text not null,
    version text not null,
    at timestamptz not null default clock_timestamp()
);
create index woken_version on durable_workflows.woken (version);
create index woken_workflow on durable_workflows.woken (workflow_id);

-- Versions for which a worker has something to do, now or in the next seconds; `oldest` in milliseconds since 1970. Parked and delayed runs need none.
create function durable_workflows.busy(application text)
    returns table (version text, oldest bigint) language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is null then
        return;
    end if;
    return query
        select found.version, min(found.at) from (
            select run.application_version as version, run.created_at as at from dbos.workflow_status as run
            where run.status in ('PENDING', 'ENQUEUED') and run.executor_id is distinct from 'parked'
                and (run.application_name = application or run.application_name is null)
            union all
            select run.application_version, run.created_at from dbos.workflow_status as run
            where run.status = 'DELAYED' and (run.application_name = application or run.application_name is null)
                and run.delay_until_epoch_ms < extract(epoch from clock_timestamp()) * 1000 + 2000
            union all
            select parked.version, 0 from durable_workflows.parked where parked.due_at < clock_timestamp() + interval '2 seconds'
            union all
            select parked.version, 0 from durable_workflows.woken join durable_workflows.parked using (workflow_id)
        ) as found
        where found.version is not null group by found.version;
end
$$;

-- When the next run is due that needs no worker until then; null: none is.
create function durable_workflows.next_due(application text) returns timestamptz language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is null then
        return null;
    end if;
    return least(
        (select min(due_at) from durable_workflows.parked),
        (
            select to_timestamp(min(delay_until_epoch_ms) / 1000.0) from dbos.workflow_status
            where status = 'DELAYED' and (application_name = application or application_name is null)
        )
    );
end
$$;

create function durable_workflows.is_resting(run_id text) returns boolean language sql stable as $$
    select exists (
        select from durable_workflows.parked where parked.workflow_id = run_id and (parked.due_at is null or parked.due_at > clock_timestamp())
    ) and not exists (select from durable_workflows.woken where woken.workflow_id = run_id)
$$;

-- As before, without those whose runs rest.
create or replace function durable_workflows.workers_apart(identity text)
    returns table (executor_id text, version text, proven boolean) language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is null then
        return;
    end if;
    return query
        select found.executor_id, found.version, bool_or(found.proven) from (
            select suspect.executor_id, run.application_version as version, suspect.alone > 0 as proven
            from durable_workflows.suspects as suspect join dbos.workflow_status as run on run.workflow_uuid = suspect.workflow_id
            where run.status in ('PENDING', 'ENQUEUED', 'DELAYED') and not durable_workflows.is_resting(suspect.workflow_id)
            union all
            select run.executor_id, run.application_version, false from dbos.workflow_status as run where run.status = 'PENDING'
        ) as found
        where found.executor_id like identity || '-%-' || found.version
        group by found.executor_id, found.version order by bool_or(found.proven), found.executor_id;
end
$$;
