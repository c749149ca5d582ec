package db

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	known   map[string]found           // answers to what will be asked, see ahead
	missed  error                      // of a change that touched no row: nothing is committed
}

// put is a statement that waits.
type put struct {
	q     string
	args  []any
	miss  error // what it is if it touches no row; nil if it may
	ahead bool  // a question
}

// found is an answer that came before its question.
type found struct {
	fields []pgconn.FieldDescription
	rows   [][][]byte
}

// newPipe takes a connection, begins a transaction on it with begin, and hands
// it to f. It is committed if f returns nil, and rolled back otherwise. Without
// begin, f asks one question.
func newPipe(ctx context.Context, pool *pgxpool.Pool, told func(string, int64), begin []string, f func(*pipe) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// A connection that is left within a transaction is closed by the pool.
	defer conn.Release()
	p := &pipe{conn: conn, told: told}
	if len(begin) == 0 { // a question by itself is a transaction
		return f(p)
	}
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
	if slices.ContainsFunc(p.waiting, func(t put) bool { return t.miss != nil }) {
		// Whether it may be committed shows only in the answers.
		if _, err := p.flush(ctx); err != nil {
			return err
		}
	}
	if p.missed != nil { // its error came with the answer to something else, which was forgiven
		return p.missed
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

func (p *pipe) put(q string, args ...any) { p.waiting = append(p.waiting, put{q: q, args: args}) }

// write is put for what changes rows: what was answered before holds no longer.
func (p *pipe) write(miss error, q string, args []any) {
	p.forget()
	p.waiting = append(p.waiting, put{q: q, args: args, miss: miss})
}

// forget drops answers and questions that came ahead of something that may
// change what they say.
func (p *pipe) forget() {
	p.known = nil
	p.waiting = slices.DeleteFunc(p.waiting, func(t put) bool { return t.ahead })
}

// ahead is a question whose answer is wanted soon: it travels with the next
// one, if nothing is written before.
func (p *pipe) ahead(q string, args []any) {
	p.waiting = append(p.waiting, put{q: q, args: args, ahead: true})
}

func key(q string, args []any) string { return fmt.Sprint(q, args) }

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
		if t.ahead {
			if err := p.keep(res, t); err != nil {
				return "", err
			}
			continue
		}
		got, err := res.Exec()
		if err != nil {
			return "", err
		}
		if t.miss != nil && got.RowsAffected() == 0 {
			p.missed = t.miss
			return "", t.miss
		}
		p.told(t.q, got.RowsAffected())
		tag = got.String()
	}
	return tag, nil
}

func (p *pipe) keep(res pgx.BatchResults, t put) error {
	rows, err := res.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	f := found{fields: slices.Clone(rows.FieldDescriptions())}
	for rows.Next() {
		row := make([][]byte, len(f.fields))
		for i, v := range rows.RawValues() {
			row[i] = bytes.Clone(v)
		}
		f.rows = append(f.rows, row)
	}
	if p.known == nil {
		p.known = map[string]found{}
	}
	p.known[key(t.q, t.args)] = f
	return rows.Err()
}

// scanned is a row of an answer that came ahead.
type scanned struct {
	p      *pipe
	fields []pgconn.FieldDescription
	row    [][]byte
}

func (s scanned) Scan(dest ...any) error {
	return pgx.ScanRow(s.p.conn.Conn().TypeMap(), s.fields, s.row, dest...)
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
	p.forget()
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
	if len(p.known) > 0 {
		if k := key(q, args); p.known[k].fields != nil {
			a := p.known[k]
			delete(p.known, k)
			for _, row := range a.rows {
				p.told(q, 1)
				if err := f(scanned{p, a.fields, row}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if !strings.HasPrefix(strings.TrimSpace(q), "SELECT") {
		p.forget() // a change that answers
	}
	// What was announced and is asked next need not travel twice.
	p.waiting = slices.DeleteFunc(p.waiting, func(t put) bool { return t.ahead && t.q == q && key(t.q, t.args) == key(q, args) })
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
