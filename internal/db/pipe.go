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
	conn    *pgxpool.Conn
	waiting []put
	sent    bool                       // the server has heard of the transaction
	told    func(q string, rows int64) // of what was written
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
	if done = !p.sent && len(p.waiting) == len(begin); done {
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

func (p *pipe) put(q string, args ...any) { p.waiting = append(p.waiting, put{q, args}) }

// batch is what waits, followed by q.
func (p *pipe) batch(q string, args []any) *pgx.Batch {
	b := &pgx.Batch{}
	for _, t := range p.waiting {
		b.Queue(t.q, t.args...)
	}
	if q != "" {
		b.Queue(q, args...)
	}
	return b
}

// answers reads what was answered to those that waited.
func (p *pipe) answers(res pgx.BatchResults) (tag string, err error) {
	asked := p.waiting
	p.waiting = nil
	for _, t := range asked {
		got, err := res.Exec()
		if err != nil {
			return "", err
		}
		p.told(t.q, got.RowsAffected())
		tag = got.String()
	}
	return tag, nil
}

// send sends what waits and then q, if there is one, whose answer last reads. It
// returns the tag of the last that waited.
func (p *pipe) send(ctx context.Context, q string, args []any, last func(pgx.BatchResults) error) (tag string, err error) {
	p.sent = true
	res := p.conn.SendBatch(ctx, p.batch(q, args))
	if tag, err = p.answers(res); err == nil && q != "" {
		err = last(res)
	}
	if end := res.Close(); err == nil {
		err = end
	}
	return tag, err
}

// flush sends what waits, and returns the tag of the last of it.
func (p *pipe) flush(ctx context.Context) (tag string, err error) {
	if len(p.waiting) == 0 {
		return "", nil
	}
	return p.send(ctx, "", nil, nil)
}

// exec runs q and returns the number of rows it touched.
func (p *pipe) exec(ctx context.Context, q string, args []any) (n int64, err error) {
	if len(args) == 0 {
		// It may be several statements, which only the simple protocol takes.
		if _, err := p.flush(ctx); err != nil {
			return 0, err
		}
		tag, err := p.conn.Exec(ctx, q)
		p.told(q, tag.RowsAffected())
		return tag.RowsAffected(), err
	}
	_, err = p.send(ctx, q, args, func(res pgx.BatchResults) error {
		tag, err := res.Exec()
		n = tag.RowsAffected()
		p.told(q, n)
		return err
	})
	return n, err
}

// query runs q and hands each row to f.
func (p *pipe) query(ctx context.Context, q string, args []any, f func(Row) error) error {
	if len(p.waiting) == 0 { // one statement needs no batch
		rows, err := p.conn.Query(ctx, q, args...)
		if err != nil {
			return err
		}
		return p.each(rows, q, f)
	}
	_, err := p.send(ctx, q, args, func(res pgx.BatchResults) error {
		rows, err := res.Query()
		if err != nil {
			return err
		}
		return p.each(rows, q, f)
	})
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
