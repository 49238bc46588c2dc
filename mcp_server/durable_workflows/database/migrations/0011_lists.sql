-- What is asked every two seconds reads no more than what is about to begin, however many runs wait. Times of the statement, not of the clock: an index can
-- be searched for those.
drop index durable_workflows.parked_due;
create index parked_due on durable_workflows.parked (due_at) where due_at is not null;

-- As before. The versions of runs that are not parked are found one after another in an index (`on_dbos.sql`); they are names of ours, which no other application has.
create or replace function durable_workflows.busy(application text)
    returns table (version text, oldest bigint) language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is null then
        return;
    end if;
    return query
        with recursive held as (
            (
                select run.application_version as of_version, run.created_at as at from dbos.workflow_status as run
                where run.status in ('PENDING', 'ENQUEUED') and run.executor_id is distinct from 'parked'
                order by run.application_version, run.created_at limit 1
            )
            union all
            select later.* from held cross join lateral (
                select run.application_version, run.created_at from dbos.workflow_status as run
                where run.status in ('PENDING', 'ENQUEUED') and run.executor_id is distinct from 'parked' and run.application_version > held.of_version
                order by run.application_version, run.created_at limit 1
            ) as later
        )
        select found.of_version, min(found.at) from (
            select held.of_version, held.at from held
            union all
            select run.application_version, run.created_at from dbos.workflow_status as run
            where run.status = 'DELAYED' and (run.application_name = application or run.application_name is null)
                and run.delay_until_epoch_ms < (extract(epoch from statement_timestamp()) * 1000)::bigint + 2000
            union all
            select parked.version, 0 from durable_workflows.parked where parked.due_at < statement_timestamp() + interval '2 seconds'
            union all
            select parked.version, 0 from durable_workflows.woken join durable_workflows.parked using (workflow_id)
        ) as found
        where found.of_version is not null group by found.of_version;
end
$$;

-- As before, without a look at runs that are parked.
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
            select run.executor_id, run.application_version, false from dbos.workflow_status as run
            where run.status = 'PENDING' and run.executor_id is distinct from 'parked'
        ) as found
        where found.executor_id like identity || '-%-' || found.version
        group by found.executor_id, found.version order by bool_or(found.proven), found.executor_id;
end
$$;
