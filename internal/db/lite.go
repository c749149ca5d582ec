package db

import (
	"context"
	"database/sql"
	"errors"
)

// litePool hands out SQLite connections, each with the statements it has
// prepared: parsing SQL costs more than running most of it.
type litePool struct {
	db   *sql.DB
	free chan *liteConn // nil for one that is not open yet
}

// maxStmts bounds the statements that a connection keeps. The texts are fixed
// but for lists and visibility, so it is not reached.
const maxStmts = 1000

type liteConn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
	soft  bool // commits do not wait for the disk
}

func newLitePool(h *sql.DB, conns int) *litePool {
	p := &litePool{db: h, free: make(chan *liteConn, conns)}
	for range conns {
		p.free <- nil
	}
	return p
}

// take waits for a connection.
func (p *litePool) take(ctx context.Context) (*liteConn, error) {
	var l *liteConn
	select {
	case l = <-p.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l != nil {
		return l, nil
	}
	c, err := p.db.Conn(ctx)
	if err != nil {
		p.free <- nil
		return nil, err
	}
	return &liteConn{c: c, stmts: map[string]*sql.Stmt{}}, nil
}

// begin starts a transaction. It does not end with ctx by itself: statements
// run on the connection, and after a rollback behind their back they would
// stand alone. So Exec and each look at ctx, and the caller rolls back.
func (p *litePool) begin(ctx context.Context, synced bool) (*liteConn, *sql.Tx, error) {
	l, err := p.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := l.sync(ctx, synced); err != nil {
		p.free <- l
		return nil, nil, err
	}
	tx, err := l.c.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		p.free <- l
		return nil, nil, err
	}
	return l, tx, nil
}

// sync says whether commits on this connection wait for the disk. In WAL mode a
// commit that does not is still seen by every later one, and reaches the disk
// with the next that waits.
func (l *liteConn) sync(ctx context.Context, synced bool) error {
	if l.soft == !synced {
		return nil
	}
	level := "FULL"
	if !synced {
		level = "NORMAL"
	}
	if _, err := l.c.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = "+level); err != nil {
		return err
	}
	l.soft = !synced
	return nil
}

// stmt returns the prepared form of q.
func (l *liteConn) stmt(ctx context.Context, q string) (*sql.Stmt, error) {
	if s, ok := l.stmts[q]; ok {
		return s, nil
	}
	if len(l.stmts) >= maxStmts {
		for _, s := range l.stmts {
			_ = s.Close()
		}
		clear(l.stmts)
	}
	s, err := l.c.PrepareContext(ctx, q)
	if err == nil {
		l.stmts[q] = s
	}
	return s, err
}

// close takes every connection back. Its statements go first: with one left
// open SQLite keeps the connection, and the log is never folded into the file.
func (p *litePool) close() error {
	var errs []error
	for range cap(p.free) {
		if l := <-p.free; l != nil {
			for _, st := range l.stmts {
				errs = append(errs, st.Close())
			}
			errs = append(errs, l.c.Close())
		}
	}
	return errors.Join(append(errs, p.db.Close())...)
}
