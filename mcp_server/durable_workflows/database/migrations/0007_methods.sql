-- Why a workflow cannot be started though its file loads: it is a method, and which object it is meant for is unknown.
alter table durable_workflows.catalog add column not_startable text;
