-- Which workspaces and projects have chosen a pool.
CREATE INDEX workspace_agent_pool ON workspace (agent_pool_id);
CREATE INDEX project_agent_pool ON project (org_id, agent_pool_id);
