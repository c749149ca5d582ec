package app

import (
	"interlock/internal/account"
	"interlock/internal/db"
	"interlock/internal/drift"
	"interlock/internal/retention"
	"interlock/internal/run"
	"interlock/internal/web"
)

// The accessors below are for tests that run a whole server (package
// servertest) and need a row that no API makes, or a capability that is
// already over. Production code is wired in this package and needs none.

// DB is the server's open database.
func (s *Server) DB() *db.DB { return s.db }

// Accounts is the service of users, organizations and tokens.
func (s *Server) Accounts() *account.Service { return s.accounts }

// Signer makes and checks the capabilities in the paths of uploads, downloads
// and logs.
func (s *Server) Signer() *web.Signer { return s.signer }

// Retention is the service that deletes what has become too old.
func (s *Server) Retention() *retention.Service {
	return &retention.Service{DB: s.db, Blobs: s.blobs, States: s.states, Configs: s.configs}
}

// Runs is the service of runs, for tests that stand in for a worker.
func (s *Server) Runs() *run.Service { return s.runs }

// Drifts is the service of assessments, for tests that let time pass.
func (s *Server) Drifts() *drift.Service { return s.drifts }

// DataDir is the directory that the server holds.
func (s *Server) DataDir() string { return s.cfg.DataDir }

// Routes is the route table, in the order of mounting.
func (s *Server) Routes() []web.Route { return s.router.Routes() }
