package db

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"interlock/internal/core"
)

// outage is translate for a transaction on PostgreSQL under the context of
// pulse.bound: if that ended because the database went away, this is the error,
// whatever broke first.
func outage(ctx context.Context, err error) error {
	if away, ok := errors.AsType[*core.Error](context.Cause(ctx)); ok && err != nil {
		if _, ours := errors.AsType[*core.Error](err); !ours {
			return core.Wrap(err, away.Kind, away.Msg)
		}
	}
	return translate(err)
}

// translate turns constraint failures and outages into core errors. It leaves
// core errors as they are, so it may be applied at every layer.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case e.Code == "23505":
			return core.Wrap(err, core.Conflict, "already exists")
		case e.Code == "23503":
			return core.Wrap(err, core.NotFound, "refers to something that does not exist")
		case e.Code == "22021" || e.Code == "22P05":
			return core.Wrap(err, core.Invalid, "text holds a character that cannot be stored")
		case e.Code == "53100":
			return core.Wrap(err, core.NoSpace, "the database is out of disk space")
		case strings.HasPrefix(e.Code, "53"), strings.HasPrefix(e.Code, "57P"), e.Code == "40001", e.Code == "40P01":
			return core.Wrap(err, core.Unavailable, "the database is busy or restarting; try again")
		}
		return err
	}
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return core.Wrap(e, core.Unavailable, "the database cannot be reached; try again")
	}
	if broken(err) {
		return core.Wrap(err, core.Unavailable, "the connection to the database broke; try again")
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT:
			switch e.Code() {
			case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
				return core.Wrap(err, core.Conflict, "already exists")
			case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
				return core.Wrap(err, core.NotFound, "refers to something that does not exist")
			}
		case sqlite3.SQLITE_FULL:
			return core.Wrap(err, core.NoSpace, "the database is out of disk space")
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return core.Wrap(err, core.Unavailable, "the database's file cannot be read or written; try again")
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return core.Wrap(err, core.Unavailable, "the database is busy; try again")
		}
	}
	return err
}
