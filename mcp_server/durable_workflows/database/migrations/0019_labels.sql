-- What an author calls the place of a step: the scope that it is in, a path such as `a/b`, and the name of a sleep. Only steps with one of them have a row.
create table durable_workflows.labels (
    workflow_id text not null,
    function_id integer not null,
    scope text,
    name text,
    primary key (workflow_id, function_id)
);

-- Whether the children of a workflow's runs end with them.
alter table durable_workflows.catalog add column ends_children boolean not null default false;
