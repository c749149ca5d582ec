package db

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A pipe is a transaction on PostgreSQL that waits for the server only where an
// answer is needed. What begins it and what is only written wait here, and
// travel with the next question or with the commit: a way to the server and
// back costs more than most statements. See "Pipelining" in PostgreSQL's
// description of its protocol.
type pipe struct {
	conn *pgxpool.Conn
	todo []put
	sent bool                       // the server has heard of the transaction
	told func(q string, rows int64) // of what was written
}

// put is a statement that waits.
type put struct {
	q    string
	args []any
}

// newPipe takes a connection, begins a transaction on it with begin, and hands
// it to f. It is committed if f returns nil, and rolled back otherwise.
func newPipe(ctx context.Context, pool *pgxpool.Pool, told func(string, int64), begin []string, f func(*pipe) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// A connection that is left within a transaction is closed by the pool.
	defer conn.Release()
	p := &pipe{conn: conn, told: told}
	for _, q := range begin {
		p.put(q)
	}
	done := false
	defer func() {
		if !done && p.sent {
			_, _ = conn.Exec(ctx, "rollback")
		}
	}()
	if err := f(p); err != nil {
		return err
	}
	if done = !p.sent && len(p.todo) == len(begin); done {
		return nil // it asked nothing
	}
	p.put("commit")
	tag, err := p.flush(ctx)
	if err != nil {
		return err
	}
	done = true
	if tag == "ROLLBACK" {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

func (p *pipe) put(q string, args ...any) { p.todo = append(p.todo, put{q, args}) }

// batch is what waits, followed by q.
func (p *pipe) batch(q string, args []any) *pgx.Batch {
	b := &pgx.Batch{}
	for _, t := range p.todo {
		b.Queue(t.q, t.args...)
	}
	if q != "" {
		b.Queue(q, args...)
	}
	return b
}

// answers reads what was answered to those that waited.
func (p *pipe) answers(res pgx.BatchResults) (tag string, err error) {
	todo := p.todo
	p.todo = nil
	for _, t := range todo {
		got, err := res.Exec()
		if err != nil {
			return "", err
		}
		p.told(t.q, got.RowsAffected())
		tag = got.String()
	}
	return tag, nil
}

// flush sends what waits, and returns the tag of the last of it.
func (p *pipe) flush(ctx context.Context) (tag string, err error) {
	if len(p.todo) == 0 {
		return "", nil
	}
	p.sent = true
	res := p.conn.SendBatch(ctx, p.batch("", nil))
	tag, err = p.answers(res)
	if end := res.Close(); err == nil {
		err = end
	}
	return tag, err
}

// exec runs q and returns the number of rows it touched.
func (p *pipe) exec(ctx context.Context, q string, args []any) (n int64, err error) {
	if len(args) == 0 || len(p.todo) == 0 {
		// Without arguments it may be several statements, which only the simple
		// protocol takes.
		if _, err := p.flush(ctx); err != nil {
			return 0, err
		}
		tag, err := p.conn.Exec(ctx, q, args...)
		p.told(q, tag.RowsAffected())
		return tag.RowsAffected(), err
	}
	p.sent = true
	res := p.conn.SendBatch(ctx, p.batch(q, args))
	if _, err = p.answers(res); err == nil {
		tag, failed := res.Exec()
		p.told(q, tag.RowsAffected())
		n, err = tag.RowsAffected(), failed
	}
	if end := res.Close(); err == nil {
		err = end
	}
	return n, err
}

// query runs q and hands each row to f.
func (p *pipe) query(ctx context.Context, q string, args []any, f func(Row) error) error {
	if len(p.todo) == 0 {
		rows, err := p.conn.Query(ctx, q, args...)
		if err != nil {
			return err
		}
		return p.each(rows, q, f)
	}
	p.sent = true
	res := p.conn.SendBatch(ctx, p.batch(q, args))
	_, err := p.answers(res)
	if err == nil {
		rows, asked := res.Query()
		if err = asked; err == nil {
			err = p.each(rows, q, f)
		}
	}
	if end := res.Close(); err == nil {
		err = end
	}
	return err
}

func (p *pipe) each(rows pgx.Rows, q string, f func(Row) error) error {
	defer rows.Close()
	for rows.Next() {
		p.told(q, 1)
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
